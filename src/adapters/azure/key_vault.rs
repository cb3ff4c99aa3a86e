//! Key Vault secrets (azure.md §8): a thin client of our own, because the official one asks twice and cannot share ours.

use super::{
    arm::read,
    error::{Answer, Error, Verdict, classify},
};
use crate::{
    adapters::{
        http::{Http, Repeat, Request, Response},
        tokens::Tokens,
    },
    telemetry::words::Called,
};
use http::{Method, StatusCode, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

const API_VERSION: &str = "2025-07-01";

/// One vault with our token.
#[derive(Clone, Debug)]
pub struct KeyVault {
    http: Http,
    tokens: Tokens,
    /// Its short name, such as `kv-fleet`.
    name: String,
}

impl KeyVault {
    pub fn new(http: Http, tokens: Tokens, name: &str) -> Self {
        Self { http: http.to(Called::KeyVault), tokens, name: name.to_owned() }
    }

    /// The newest value of a secret; `None` when there is no such secret (404 `SecretNotFound`).
    pub async fn secret(&self, name: &str) -> Result<Option<SecretString>, Error> {
        let what = self.describe(name);
        let Some(response) = self.send(Method::GET, name, None, &what).await? else {
            return Ok(None);
        };
        // Not `read`: a parse error may quote what it read.
        let bundle: Bundle = response.json().map_err(|_| Error::Unreadable {
            what: what.clone(),
            reason: "it is no secret bundle".to_owned(),
        })?;
        Ok(Some(SecretString::from(bundle.value)))
    }

    /// Adds a version; `PUT /secrets/{name}` → 200. A repeat adds a second version with the same value.
    ///
    /// Errors: a name that was deleted and not purged is a conflict, while it is being deleted it is passing.
    pub async fn set_secret(&self, name: &str, value: &SecretString) -> Result<(), Error> {
        let what = self.describe(name);
        let body = json!({"value": value.expose_secret()});
        let response = self.send(Method::PUT, name, Some(body), &what).await?;
        let stored = response.ok_or_else(|| Error::Unreadable {
            what: what.clone(),
            reason: "the write was answered as absent".to_owned(),
        })?;
        read::<Stored>(&what, &stored).map(drop)
    }

    fn describe(&self, name: &str) -> String {
        format!("secret `{name}` of vault `{}`", self.name)
    }

    async fn send(
        &self,
        method: Method,
        secret: &str,
        body: Option<Value>,
        what: &str,
    ) -> Result<Option<Response>, Error> {
        let cloud = self.tokens.cloud();
        let usual = cloud.key_vault_audience();
        let mut response = self.try_once(&method, secret, body.as_ref(), what, &usual).await?;
        if response.status == StatusCode::UNAUTHORIZED {
            // Our token is stale, or the vault wants another audience and says so.
            let audience = challenge(&cloud.key_vault_domain, &response).unwrap_or(usual);
            self.tokens.refused(&audience, &response);
            response = self.try_once(&method, secret, body.as_ref(), what, &audience).await?;
        }
        let mut answer = Answer::of(&response);
        if method == Method::PUT && response.status == StatusCode::BAD_REQUEST {
            // Words about a bad value may quote it.
            answer.message =
                Some("its reason is withheld, because it may echo the secret".to_owned());
        }
        match classify(&method, &answer) {
            Verdict::Use => Ok(Some(response)),
            Verdict::Absent => Ok(None),
            Verdict::Failed(class) => Err(Error::refused(what.to_owned(), "", answer, class)),
        }
    }

    async fn try_once(
        &self,
        method: &Method,
        secret: &str,
        body: Option<&Value>,
        what: &str,
        audience: &str,
    ) -> Result<Response, Error> {
        let token = self.tokens.bearer(audience).await;
        let token = token.map_err(|source| Error::Token { what: what.to_owned(), source })?;
        let url = self.url(method, secret, what)?;
        let mut request = Request::new(method.clone(), url).bearer(&token).repeat(Repeat::Safe);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.http.send(request).await.map_err(|error| Error::transport(what.to_owned(), &error))
    }

    /// A read names an empty version, which means the newest.
    fn url(&self, method: &Method, secret: &str, what: &str) -> Result<Url, Error> {
        let version = if method == Method::GET { "/" } else { "" };
        let text = format!(
            "https://{}.{}/secrets/{secret}{version}?api-version={API_VERSION}",
            self.name,
            self.tokens.cloud().key_vault_domain
        );
        let named = |name: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        };
        let url = Url::parse(&text).ok().filter(|_| named(&self.name) && named(secret));
        url.ok_or_else(|| Error::Unreadable {
            what: what.to_owned(),
            reason: "these are no names of a vault and a secret".to_owned(),
        })
    }
}

/// The audience that `WWW-Authenticate: Bearer …, resource="https://vault.azure.net"` asks for, if it is one for the
/// vault's own domain: another would hand our token for it to whoever answered.
fn challenge(domain: &str, response: &Response) -> Option<String> {
    let text = response.header(header::WWW_AUTHENTICATE.as_str())?;
    let value = |key: &str| {
        let (_, rest) = text.split_once(&format!("{key}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    let scope = value("scope").map(|scope| scope.trim_end_matches("/.default"));
    let audience = value("resource").or(scope)?.trim_end_matches('/');
    let host = Url::parse(audience).ok()?.host_str()?.to_owned();
    (host == domain).then(|| audience.to_owned())
}

#[derive(Deserialize)]
struct Bundle {
    value: String,
}

#[derive(Deserialize)]
struct Stored {
    #[expect(dead_code, reason = "read to know that the answer is a secret bundle")]
    id: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::{HeaderMap, HeaderValue};

    #[test]
    fn a_challenge_is_followed_to_the_vaults_own_domain_only() {
        let check = |text: &'static str, expected: Option<&str>| {
            let value = HeaderValue::from_static(text);
            let headers = HeaderMap::from_iter([(header::WWW_AUTHENTICATE, value)]);
            let status = StatusCode::UNAUTHORIZED;
            let response =
                Response { status, headers, body: Default::default(), retry_after: None };
            assert_eq!(challenge("vault.azure.net", &response).as_deref(), expected, "{text}");
        };
        let vault = Some("https://vault.azure.net");
        check(
            r#"Bearer authorization="https://login.example/t", resource="https://vault.azure.net""#,
            vault,
        );
        check(r#"Bearer authorization="x", scope="https://vault.azure.net/.default""#, vault);
        check(r#"Bearer resource="https://management.azure.com""#, None);
        check(r#"Bearer resource="https://vault.azure.net.evil.example""#, None);
        check("Basic", None);
    }
}
