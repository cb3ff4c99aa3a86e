//! Whether a delivery is GitLab's: its secret token, its signature, or both (gitlab.md §1.3, §1.4).

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// How far `webhook-timestamp` may lie from now, in seconds, either way.
pub const TOLERANCE_SECONDS: u64 = 300;
const SECRET_LENGTH_MIN: usize = 16;
const SECRETS_MAX: usize = 2;
const UNRESOLVED: &str = "@Microsoft.KeyVault(";

/// What proves that a delivery is GitLab's: of each kind none, one, or two while one is being replaced.
#[derive(Debug, Default)]
pub struct Secrets {
    tokens: Vec<SecretString>,
    signing: Vec<SecretBox<[u8; 32]>>,
}

/// Why a list of secrets is not taken. Never holds any of their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    #[error("is a Key Vault reference that nobody resolved")]
    Unresolved,
    #[error("has an empty element")]
    Empty,
    #[error("has a value shorter than {SECRET_LENGTH_MIN} characters")]
    Short,
    #[error("has more than {SECRETS_MAX} values")]
    TooMany,
    #[error("has a value that is not `whsec_` and the base64 of 32 bytes")]
    NotASigningToken,
}

impl Secrets {
    /// Takes comma-separated lists; an absent list leaves its kind unset.
    pub fn parse_tokens(list: Option<&str>) -> Result<Vec<SecretString>, BadSecret> {
        Ok(elements(list)?.into_iter().map(SecretString::from).collect())
    }

    pub fn parse_signing(list: Option<&str>) -> Result<Vec<SecretBox<[u8; 32]>>, BadSecret> {
        elements(list)?.into_iter().map(signing_key).collect()
    }

    pub fn new(tokens: Vec<SecretString>, signing: Vec<SecretBox<[u8; 32]>>) -> Self {
        Self { tokens, signing }
    }
}

fn elements(list: Option<&str>) -> Result<Vec<&str>, BadSecret> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let elements: Vec<_> = list.split(',').map(str::trim).collect();
    if elements.iter().any(|element| element.starts_with(UNRESOLVED)) {
        return Err(BadSecret::Unresolved);
    }
    if elements.iter().any(|element| element.is_empty()) {
        return Err(BadSecret::Empty);
    }
    if elements.iter().any(|element| element.chars().count() < SECRET_LENGTH_MIN) {
        return Err(BadSecret::Short);
    }
    if elements.len() > SECRETS_MAX { Err(BadSecret::TooMany) } else { Ok(elements) }
}

fn signing_key(text: &str) -> Result<SecretBox<[u8; 32]>, BadSecret> {
    let encoded = text.strip_prefix("whsec_").ok_or(BadSecret::NotASigningToken)?;
    let key = STANDARD.decode(encoded).map_err(|_| BadSecret::NotASigningToken)?;
    let key = <[u8; 32]>::try_from(key).map_err(|_| BadSecret::NotASigningToken)?;
    Ok(SecretBox::new(Box::new(key)))
}

/// The headers of a delivery that prove it, as they came.
#[derive(Clone, Copy, Default)]
pub struct Proof<'a> {
    /// `X-Gitlab-Token`.
    pub token: Option<&'a [u8]>,
    /// `webhook-id`.
    pub id: Option<&'a [u8]>,
    /// `webhook-timestamp`: Unix seconds, decimal.
    pub timestamp: Option<&'a [u8]>,
    /// `webhook-signature`: `v1,` and base64, several separated by blanks.
    pub signature: Option<&'a [u8]>,
}

/// Which check a delivery failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    NothingConfigured,
    Token,
    Time,
    Signature,
}

/// Checks every configured kind; an unset kind is skipped, and with none set nothing passes. Takes the same time
/// wherever a wrong secret differs from ours, and whichever of two secrets is right.
pub fn verify(
    secrets: &Secrets,
    proof: Proof<'_>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), Refused> {
    if secrets.tokens.is_empty() && secrets.signing.is_empty() {
        return Err(Refused::NothingConfigured);
    }
    if !secrets.tokens.is_empty() && !token_matches(&secrets.tokens, proof.token) {
        return Err(Refused::Token);
    }
    if secrets.signing.is_empty() { Ok(()) } else { verify_signature(secrets, proof, body, now) }
}

/// Digests are compared, so that not even a length shows.
fn token_matches(tokens: &[SecretString], given: Option<&[u8]>) -> bool {
    let Some(given) = given else { return false };
    let given = Sha256::digest(given);
    let matches = |token: &SecretString| {
        Sha256::digest(token.expose_secret()).as_slice().ct_eq(given.as_slice())
    };
    tokens.iter().map(matches).fold(Choice::from(0), |any, this| any | this).into()
}

fn verify_signature(
    secrets: &Secrets,
    proof: Proof<'_>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), Refused> {
    let (Some(id), Some(timestamp), Some(list)) = (proof.id, proof.timestamp, proof.signature)
    else {
        return Err(Refused::Signature);
    };
    let sent = std::str::from_utf8(timestamp).ok().and_then(unix_seconds).ok_or(Refused::Time)?;
    if now.as_second().abs_diff(sent) > TOLERANCE_SECONDS {
        return Err(Refused::Time);
    }
    let list = std::str::from_utf8(list).map_err(|_| Refused::Signature)?;
    let given: Vec<_> = list
        .split_ascii_whitespace()
        .filter_map(|entry| STANDARD.decode(entry.strip_prefix("v1,")?).ok())
        .collect();
    let mut genuine = Choice::from(0);
    for key in &secrets.signing {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret())
            .expect("HMAC takes a key of any length");
        for part in [id, b".", timestamp, b".", body] {
            mac.update(part);
        }
        let expected = mac.finalize().into_bytes();
        for signature in &given {
            genuine |= expected.as_slice().ct_eq(signature);
        }
    }
    if bool::from(genuine) { Ok(()) } else { Err(Refused::Signature) }
}

/// Digits only: no sign, no blanks.
fn unix_seconds(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{header, vectors},
        *,
    };
    use serde_json::Value;

    const TOKEN: &str = "a made-up hook token";
    const OTHER: &str = "another made-up token";

    fn secrets(tokens: Option<&str>, signing: Option<&str>) -> Secrets {
        Secrets::new(
            Secrets::parse_tokens(tokens).unwrap(),
            Secrets::parse_signing(signing).unwrap(),
        )
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn proof(headers: &Value) -> Proof<'_> {
        Proof {
            token: header(headers, "x-gitlab-token"),
            id: header(headers, "webhook-id"),
            timestamp: header(headers, "webhook-timestamp"),
            signature: header(headers, "webhook-signature"),
        }
    }

    #[test]
    fn signature_vectors_are_judged_as_written() {
        let cases = vectors("gitlab-signature").remove(0);
        let cases = cases.as_array().unwrap();
        assert!(cases.len() >= 3);
        for case in cases {
            let secrets = secrets(None, case["signing_token"].as_str());
            let body = case["raw_body"].as_str().unwrap().as_bytes();
            let now = at(case["now"].as_i64().unwrap());
            let valid = verify(&secrets, proof(&case["headers"]), body, now).is_ok();
            assert_eq!(Value::Bool(valid), case["expect"]["valid"], "{}", case["name"]);
        }
    }

    #[test]
    fn a_signature_counts_only_near_its_time_and_over_its_own_id_time_and_body() {
        let case = vectors("gitlab-signature").remove(0)[0].clone();
        let secrets = secrets(None, case["signing_token"].as_str());
        let body = case["raw_body"].as_str().unwrap().as_bytes();
        let headers = &case["headers"];
        let good = proof(headers);
        let sent = 1_789_000_000;
        let check = |proof: Proof<'_>, now: i64| verify(&secrets, proof, body, at(now));
        assert_eq!(check(good, sent + 300), Ok(()));
        assert_eq!(check(good, sent - 300), Ok(()));
        assert_eq!(check(good, sent + 301), Err(Refused::Time));
        assert_eq!(check(good, sent - 301), Err(Refused::Time));
        assert_eq!(check(Proof { id: Some(b"other"), ..good }, sent), Err(Refused::Signature));
        let time = Proof { timestamp: Some(b"1789000001"), ..good };
        assert_eq!(check(time, sent), Err(Refused::Signature));
        for timestamp in
            [&b""[..], b"+1789000000", b" 1789000000", b"soon", b"99999999999999999999"]
        {
            assert_eq!(
                check(Proof { timestamp: Some(timestamp), ..good }, sent),
                Err(Refused::Time)
            );
        }
        for missing in [
            Proof { id: None, ..good },
            Proof { timestamp: None, ..good },
            Proof { signature: None, ..good },
            Proof { signature: Some(b""), ..good },
            Proof { signature: Some(b"v1, v1,@@"), ..good },
        ] {
            assert_eq!(check(missing, sent), Err(Refused::Signature));
        }
        let unversioned = &good.signature.unwrap()["v1,".len()..];
        let other = [b"v2,", unversioned].concat();
        assert_eq!(check(Proof { signature: Some(&other), ..good }, sent), Err(Refused::Signature));
    }

    #[test]
    fn every_configured_kind_must_pass_and_an_unset_kind_is_skipped() {
        let case = vectors("gitlab-signature").remove(0)[0].clone();
        let signing = case["signing_token"].as_str();
        let other = "whsec_//////////////////////////////////////////8=";
        let both = format!("{},{other}", signing.unwrap());
        let body = case["raw_body"].as_str().unwrap().as_bytes();
        let signed = proof(&case["headers"]);
        let tokened = Proof { token: Some(TOKEN.as_bytes()), ..Proof::default() };
        let complete = Proof { token: Some(TOKEN.as_bytes()), ..signed };
        let two = format!("{OTHER},{TOKEN}");
        let cases = [
            (None, None, complete, Err(Refused::NothingConfigured)),
            (Some(TOKEN), None, tokened, Ok(())),
            (Some(two.as_str()), None, tokened, Ok(())),
            (Some(OTHER), None, tokened, Err(Refused::Token)),
            (Some(TOKEN), None, signed, Err(Refused::Token)),
            (None, signing, signed, Ok(())),
            (None, Some(both.as_str()), signed, Ok(())),
            (None, Some(other), signed, Err(Refused::Signature)),
            (Some(TOKEN), signing, complete, Ok(())),
            (Some(TOKEN), signing, signed, Err(Refused::Token)),
            (Some(TOKEN), signing, tokened, Err(Refused::Signature)),
        ];
        for (index, (tokens, signing, proof, expected)) in cases.into_iter().enumerate() {
            let verdict = verify(&secrets(tokens, signing), proof, body, at(1_789_000_000));
            assert_eq!(verdict, expected, "case {index}");
        }
    }

    #[test]
    fn secrets_that_cannot_be_meant_are_refused() {
        let tokens = |list| Secrets::parse_tokens(Some(list)).err();
        assert_eq!(tokens(""), Some(BadSecret::Empty));
        assert_eq!(tokens("a made-up hook token,"), Some(BadSecret::Empty));
        assert_eq!(tokens("fifteen letters"), Some(BadSecret::Short));
        assert_eq!(
            tokens("@Microsoft.KeyVault(VaultName=kv,SecretName=hook)"),
            Some(BadSecret::Unresolved)
        );
        assert_eq!(
            tokens("made-up token one,made-up token two,made-up token six"),
            Some(BadSecret::TooMany)
        );
        assert_eq!(tokens("made-up token one, made-up token two"), None);
        let signing = |list| Secrets::parse_signing(Some(list)).err();
        for bad in
            ["a made-up hook token", "whsec_AAECAwQFBgcICQoLDA0ODw==", "whsec_not base64 at all"]
        {
            assert_eq!(signing(bad), Some(BadSecret::NotASigningToken), "{bad}");
        }
    }
}
