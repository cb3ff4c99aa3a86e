//! What the API server tells of itself.

use super::{Error, Kubernetes, connection::Connection, read};
use crate::domain::kubernetes::Kind;
use serde::Deserialize;
use url::Url;

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

impl Kubernetes {
    /// The issuer of its service-account tokens, byte for byte; `GET /.well-known/openid-configuration`.
    ///
    /// Errors: [`Error::Forbidden`] where discovery is not bound to us (`system:service-account-issuer-discovery`).
    pub async fn issuer(&self) -> Result<String, Error> {
        let what = "the issuer of service-account tokens";
        let request = http::Request::get("/.well-known/openid-configuration").body(vec![]);
        let request = request
            .map_err(|error| Error::NotSent { what: what.to_owned(), reason: error.to_string() })?;
        let response = self.connection(what).await?.send(what, request).await?;
        let body = super::error::check(what, Kind::ConfigMap, response)?;
        Ok(read::<Discovery>(what, &body)?.issuer)
    }

    /// The API server's address, as ARM or the kubeconfig names it.
    pub async fn server(&self) -> Result<Url, Error> {
        Ok(self.connection("the API server's address").await?.server().clone())
    }

    pub(super) async fn connection(&self, what: &str) -> Result<&Connection, Error> {
        let connect = || Connection::open(&self.0.http, &self.0.access, what);
        self.0.connection.get_or_try_init(connect).await
    }
}
