//! Access tokens: shaped as JWTs, sealed with a key of this Azure that nobody else has.

use super::Azure;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::Sha256;
use std::time::Duration;
use uuid::Uuid;

/// Who a token speaks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Object id of the service principal: what role assignments name.
    pub principal_id: Uuid,
    /// Application id.
    pub client_id: Uuid,
    pub audience: String,
    pub expires_at: Timestamp,
    /// How often tokens had been revoked when it was issued.
    pub(super) epoch: u64,
}

/// A token that was just issued.
pub(super) struct Issued {
    pub(super) text: String,
    pub(super) expires_at: Timestamp,
}

const SCHEME: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9"; // {"typ":"JWT","alg":"HS256"}

/// Issues a token for `lifetime` from now.
pub(super) fn issue(
    azure: &Azure,
    principal_id: Uuid,
    client_id: Uuid,
    audience: &str,
    lifetime: Duration,
) -> Issued {
    let now = azure.0.clock.now();
    let lifetime = SignedDuration::try_from(lifetime).unwrap_or(SignedDuration::MAX);
    let expires_at = now.saturating_add(lifetime).unwrap_or(Timestamp::MAX);
    let mut state = azure.state();
    let claims = json!({
        "aud": audience,
        "iss": format!("https://sts.windows.net/{}/", state.tenant),
        "iat": now.as_second(),
        "nbf": now.as_second(),
        "exp": expires_at.as_second(),
        "appid": client_id,
        "idtyp": "app",
        "oid": principal_id,
        "sub": principal_id,
        "tid": state.tenant,
        "uti": state.random_hex(),
        "ver": "1.0",
        "epoch": state.obstacles.epoch(),
    });
    let signed = format!("{SCHEME}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature =
        URL_SAFE_NO_PAD.encode(seal(&state.signing_key, &signed).finalize().into_bytes());
    Issued { text: format!("{signed}.{signature}"), expires_at }
}

/// Reads a token of ours; `None` where we did not issue it.
pub(super) fn read(key: &[u8], token: &str) -> Option<Caller> {
    let (signed, signature) = token.rsplit_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    seal(key, signed).verify_slice(&signature).ok()?;
    let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.')?.1).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    let guid = |name: &str| claims[name].as_str().and_then(|text| Uuid::parse_str(text).ok());
    Some(Caller {
        principal_id: guid("oid")?,
        client_id: guid("appid")?,
        audience: claims["aud"].as_str()?.to_owned(),
        expires_at: Timestamp::from_second(claims["exp"].as_i64()?).ok()?,
        epoch: claims["epoch"].as_u64().unwrap_or_default(),
    })
}

fn seal(key: &[u8], text: &str) -> Hmac<Sha256> {
    let mut seal = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    seal.update(text.as_bytes());
    seal
}

/// The resources of azure.md §2.2 that tokens are issued for; a closing slash makes no difference.
const AUDIENCES: [(&str, &str); 7] = [
    ("https://management.azure.com", "arm"),
    ("https://management.core.windows.net", "arm"),
    ("https://vault.azure.net", "vault"),
    ("https://servicebus.azure.net", "servicebus"),
    ("6dae42f8-4368-4678-94ff-3960e28e3630", "aks"),
    ("https://storage.azure.com", "storage"),
    ("https://graph.microsoft.com", "graph"),
];

/// Whether tokens are issued for `audience` at all.
pub(super) fn is_known(audience: &str) -> bool {
    service(audience).is_some()
}

/// Whether a token for `audience` is one for `expected`: ARM has two names.
pub(super) fn is_for(audience: &str, expected: &str) -> bool {
    service(audience).is_some_and(|service_of| service(expected) == Some(service_of))
}

fn service(audience: &str) -> Option<&'static str> {
    let audience = audience.trim_end_matches('/');
    let found = AUDIENCES.iter().find(|(name, _)| name.eq_ignore_ascii_case(audience));
    found.map(|(_, service)| *service)
}
