//! What carries a credential's requests: our own client.

use super::error::Refusal;
use crate::adapters::http::{Http, Repeat, Request};
use async_trait::async_trait;
use azure_core::{
    Bytes, Error,
    error::ErrorKind,
    http::{AsyncRawResponse, HttpClient, StatusCode, headers::Headers},
};
use http::{HeaderName, Method};
use secrecy::SecretString;
use url::Url;

/// Sends through [`Http`] and turns every refusal into a final error: of all of us only http.rs waits and repeats,
/// and the crate's own policies would wait for up to 72 s.
#[derive(Debug)]
pub(super) struct TokenTransport {
    pub(super) http: Http,
    /// The token endpoint of config.rs. The crate looks at the process environment by itself and falls back to a
    /// virtual machine's endpoint; either way the request ends up where the settings say.
    pub(super) endpoint: Option<(Url, SecretString)>,
    /// JSON that a service asked for; goes into the form that Entra is sent.
    pub(super) claims: Option<String>,
}

const API_VERSION: &str = "2019-08-01";

#[async_trait]
impl HttpClient for TokenTransport {
    async fn execute_request(
        &self,
        request: &azure_core::http::Request,
    ) -> azure_core::Result<AsyncRawResponse> {
        let method = Method::from_bytes(request.method().as_str().as_bytes())
            .map_err(|error| Error::new(ErrorKind::DataConversion, error))?;
        let mut outgoing = match &self.endpoint {
            Some((endpoint, secret)) => {
                Request::new(method, managed_identity_url(endpoint, request.url()))
                    .secret_header(HeaderName::from_static("x-identity-header"), secret)
            }
            None => Request::new(method, request.url().clone())
                .body(with_claims(Bytes::from(request.body()), self.claims.as_deref())),
        };
        for (name, value) in request.headers().iter() {
            let ours = matches!(name.as_str(), "x-identity-header" | "user-agent");
            if let Ok(name) = HeaderName::from_bytes(name.as_str().as_bytes())
                && !ours
            {
                outgoing = outgoing.header(name, value.as_str());
            }
        }
        // Asking for a token twice gives two tokens and harms nobody.
        let answer = self
            .http
            .send(outgoing.repeat(Repeat::Safe))
            .await
            .map_err(|error| Error::new(ErrorKind::Credential, Refusal::Unreachable(error)))?;
        if !answer.status.is_success() {
            return Err(Error::new(ErrorKind::Credential, Refusal::Answered(answer)));
        }
        let status = StatusCode::from(answer.status.as_u16());
        Ok(AsyncRawResponse::from_bytes(status, Headers::new(), answer.body))
    }
}

fn with_claims(form: Bytes, claims: Option<&str>) -> Bytes {
    let Some(claims) = claims else { return form };
    let mut all =
        url::form_urlencoded::Serializer::new(String::from_utf8_lossy(&form).into_owned());
    Bytes::from(all.append_pair("claims", claims).finish())
}

/// The endpoint with its own path and query, and of the crate's query what names resource and identity.
fn managed_identity_url(endpoint: &Url, asked: &Url) -> Url {
    let mut url = endpoint.clone();
    let kept = asked.query_pairs().filter(|(key, _)| {
        matches!(key.as_ref(), "resource" | "client_id" | "object_id" | "mi_res_id")
    });
    url.query_pairs_mut().append_pair("api-version", API_VERSION).extend_pairs(kept);
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_endpoint_keeps_its_path_and_query() {
        let check = |endpoint: &str, asked: &str, expected: &str| {
            let url = managed_identity_url(&endpoint.parse().unwrap(), &asked.parse().unwrap());
            assert_eq!(url.as_str(), expected);
        };
        check(
            "http://127.0.0.1:41741/msi/token/?slot=1",
            "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net&client_id=4024",
            "http://127.0.0.1:41741/msi/token/?slot=1&api-version=2019-08-01&resource=https%3A%2F%2Fvault.azure.net&client_id=4024",
        );
        check(
            "http://localhost:8081/msi/token",
            "http://localhost:8081/msi/token?api-version=2019-08-01&resource=6dae42f8",
            "http://localhost:8081/msi/token?api-version=2019-08-01&resource=6dae42f8",
        );
    }
}
