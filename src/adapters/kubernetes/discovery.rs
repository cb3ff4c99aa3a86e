//! What the API server tells of itself.

use super::{Error, Kubernetes, read};
use crate::domain::kubernetes::Kind;
use serde::Deserialize;

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
        let response = self.connection().await?.send(what, request).await?;
        let body = super::error::check(what, Kind::ConfigMap, response)?;
        Ok(read::<Discovery>(what, &body)?.issuer)
    }
}
