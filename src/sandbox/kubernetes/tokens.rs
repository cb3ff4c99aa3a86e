//! Service-account tokens: signed as an API server signs them, and recognised again.
//! Source: runner-on-kubernetes.md §12,
//! <https://kubernetes.io/docs/reference/access-authn-authz/service-accounts-admin/>

use super::{User, store::State};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey, traits::PublicKeyParts};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::OnceLock;

/// What comes before a SHA-256 digest in an RS256 signature (RFC 8017 §9.2, note 1).
const SHA256_PREFIX: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];

/// One key for the process: making one takes most of a second.
fn key() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| {
        RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048)
            .expect("2048 bits are a size that RSA keys can have")
    })
}

fn key_id() -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(key().n().to_bytes_be()))
}

fn scheme() -> Pkcs1v15Sign {
    Pkcs1v15Sign { hash_len: Some(32), prefix: Box::new(SHA256_PREFIX) }
}

/// The public keys, as `/openid/v1/jwks` publishes them.
pub(super) fn key_set() -> Value {
    let encode = |number: &rsa::BigUint| URL_SAFE_NO_PAD.encode(number.to_bytes_be());
    json!({"keys": [{
        "use": "sig", "kty": "RSA", "kid": key_id(), "alg": "RS256",
        "n": encode(key().n()), "e": encode(key().e()),
    }]})
}

/// What `/.well-known/openid-configuration` says.
pub(super) fn configuration(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{}/openid/v1/jwks", issuer.trim_end_matches('/')),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    })
}

fn sign(claims: &Value) -> String {
    let header = json!({"alg": "RS256", "kid": key_id()});
    let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
    let signed = format!("{}.{}", encode(&header), encode(claims));
    let signature = key()
        .sign(scheme(), &Sha256::digest(&signed))
        .expect("a 2048-bit key has room for a SHA-256 signature");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// The claims of a token that this server signed and that has not expired.
pub(super) fn verify(token: &str, now: Timestamp) -> Option<Value> {
    let (signed, signature) = token.rsplit_once('.')?;
    let (_, claims) = signed.split_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let public = RsaPublicKey::from(key());
    public.verify(scheme(), &Sha256::digest(signed), &signature).ok()?;
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
    (claims["exp"].as_i64()? > now.as_second()).then_some(claims)
}

/// What a token is to say.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    pub(super) namespace: &'a str,
    pub(super) account: &'a str,
    pub(super) audiences: Vec<String>,
    pub(super) seconds: i64,
    /// Name and uid of the pod it is bound to.
    pub(super) pod: Option<(String, String)>,
}

/// A token for a service account and when it expires; nothing if there is no such account.
pub(super) fn issue(
    state: &State,
    wanted: &Wanted<'_>,
    now: Timestamp,
) -> Option<(String, Timestamp)> {
    let Wanted { namespace, account, .. } = *wanted;
    let uid = &state.find("serviceaccounts", namespace, account)?["metadata"]["uid"];
    let expires = now.saturating_add(SignedDuration::from_secs(wanted.seconds)).ok()?;
    let mut about = json!({
        "namespace": namespace,
        "serviceaccount": {"name": account, "uid": uid},
    });
    if let Some((name, uid)) = &wanted.pod {
        about["pod"] = json!({"name": name, "uid": uid});
    }
    let audiences = match wanted.audiences.as_slice() {
        [] => vec![state.settings.issuer.clone()],
        audiences => audiences.to_vec(),
    };
    let identity = [namespace, account, &now.as_nanosecond().to_string()].join("/");
    let claims = json!({
        "iss": state.settings.issuer,
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "aud": audiences,
        "iat": now.as_second(), "nbf": now.as_second(), "exp": expires.as_second(),
        "jti": uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, identity.as_bytes()),
        "kubernetes.io": about,
    });
    Some((sign(&claims), expires))
}

/// Whom a bearer token belongs to.
pub(super) fn authenticate(state: &State, token: &str, now: Timestamp) -> Option<User> {
    if let Some((_, user)) = state.tokens.iter().find(|(known, _)| known == token) {
        return Some(user.clone().authenticated());
    }
    if let Some(claims) = verify(token, now) {
        return service_account(state, &claims);
    }
    let accept = state.accept.clone()?;
    accept(token).map(User::authenticated)
}

fn service_account(state: &State, claims: &Value) -> Option<User> {
    let audiences = claims["aud"].as_array()?;
    if claims["iss"] != state.settings.issuer.as_str()
        || !audiences.contains(&Value::from(state.settings.issuer.as_str()))
    {
        return None;
    }
    let about = &claims["kubernetes.io"];
    let namespace = about["namespace"].as_str()?;
    let name = about["serviceaccount"]["name"].as_str()?;
    let account = state.find("serviceaccounts", namespace, name)?;
    if account["metadata"]["uid"] != about["serviceaccount"]["uid"] {
        return None;
    }
    if let Some(pod) = about["pod"]["name"].as_str() {
        let pod = state.find("pods", namespace, pod)?;
        if pod["metadata"]["uid"] != about["pod"]["uid"] {
            return None;
        }
    }
    Some(User::service_account(namespace, name))
}
