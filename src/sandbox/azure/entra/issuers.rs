//! The keys of outside issuers, fetched from their discovery documents and kept for some minutes.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use rsa::{BigUint, RsaPublicKey};
use serde_json::Value;
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use url::Url;

#[derive(Default)]
pub(in crate::sandbox::azure) struct Issuers(Mutex<HashMap<String, Known>>);

struct Known {
    address: SocketAddr,
    fetched: Option<(Timestamp, Vec<Key>)>,
}

#[derive(Clone)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) public: RsaPublicKey,
}

/// How long fetched keys are good.
const KEPT: SignedDuration = SignedDuration::from_mins(5);
/// A key that is not known makes us look again, but not more often than this.
const LOOKED_AGAIN: SignedDuration = SignedDuration::from_secs(10);

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error("nobody knows such an issuer")]
    Unknown,
    #[error("its {what} could not be fetched")]
    Unreachable { what: &'static str, source: reqwest::Error },
    #[error("its {what} is not what it should be")]
    Malformed { what: &'static str },
}

impl Issuers {
    pub(in crate::sandbox::azure) fn trust(&self, issuer: &str, address: SocketAddr) {
        self.known().insert(issuer.to_owned(), Known { address, fetched: None });
    }

    /// The keys of `issuer`; looks again where `key_id` is not among those in store.
    pub(super) async fn keys(
        &self,
        issuer: &str,
        key_id: &str,
        now: Timestamp,
    ) -> Result<Vec<Key>, Error> {
        let address = {
            let known = self.known();
            let known = known.get(issuer).ok_or(Error::Unknown)?;
            if let Some((at, keys)) = &known.fetched {
                let age = now.duration_since(*at);
                let has = keys.iter().any(|key| key.id == key_id);
                if age < KEPT && (has || age < LOOKED_AGAIN) {
                    return Ok(keys.clone());
                }
            }
            known.address
        };
        let keys = fetch(issuer, address).await?;
        if let Some(known) = self.known().get_mut(issuer) {
            known.fetched = Some((now, keys.clone()));
        }
        Ok(keys)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The discovery document must name the very issuer, and says at which path of `address` its keys are.
async fn fetch(issuer: &str, address: SocketAddr) -> Result<Vec<Key>, Error> {
    let host = Url::parse(issuer).ok().and_then(|url| url.host_str().map(str::to_owned));
    let host = host.unwrap_or_else(|| address.to_string());
    let document = "discovery document";
    let discovery = get(address, "/.well-known/openid-configuration", &host, document).await?;
    if discovery["issuer"] != issuer {
        return Err(Error::Malformed { what: document });
    }
    let keys_at = discovery["jwks_uri"].as_str().and_then(|uri| Url::parse(uri).ok());
    let keys_at = keys_at.ok_or(Error::Malformed { what: document })?;
    let set = get(address, keys_at.path(), &host, "key set").await?;
    let keys = set["keys"].as_array().ok_or(Error::Malformed { what: "key set" })?;
    Ok(keys.iter().filter_map(key).collect())
}

async fn get(
    address: SocketAddr,
    path: &str,
    host: &str,
    what: &'static str,
) -> Result<Value, Error> {
    let unreachable = |source| Error::Unreachable { what, source };
    let request = client()
        .map_err(unreachable)?
        .get(format!("http://{address}{path}"))
        .header("Host", host)
        .timeout(Duration::from_secs(10));
    let response = request.send().await.and_then(reqwest::Response::error_for_status);
    response.map_err(unreachable)?.json().await.map_err(unreachable)
}

/// Plain HTTP only: it trusts no certificate and goes through no proxy.
fn client() -> Result<reqwest::Client, reqwest::Error> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the protocol versions it was built with")
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .user_agent("entra/1.0")
        .build()
}

fn key(value: &Value) -> Option<Key> {
    if value["kty"] != "RSA" {
        return None;
    }
    let number = |name: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(value[name].as_str()?).ok()?;
        Some(BigUint::from_bytes_be(&bytes))
    };
    let public = RsaPublicKey::new(number("n")?, number("e")?).ok()?;
    Some(Key { id: value["kid"].as_str().unwrap_or_default().to_owned(), public })
}
