//! How GitLab signs a delivery (gitlab.md §1.3).

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// The key in `whsec_…`, which must be exactly 32 bytes.
pub(super) fn key(signing_token: &str) -> Option<[u8; 32]> {
    let encoded = signing_token.strip_prefix("whsec_")?;
    STANDARD.decode(encoded).ok()?.try_into().ok()
}

/// `v1,` and the padded base64 of the HMAC over id, timestamp and body.
pub(super) fn sign(key: &[u8; 32], id: &str, timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::{key, sign};
    use serde_json::Value;

    /// The published vectors whose signature is over the body that is there.
    #[test]
    fn the_published_signatures_come_out() {
        let text = include_str!("../../../tests/vectors/gitlab-signature/cases.json");
        let cases: Vec<Value> = serde_json::from_str(text).unwrap();
        let mut checked = 0;
        for case in &cases {
            let header = |name: &str| {
                let headers = case["headers"].as_object().unwrap();
                let found = headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name));
                found.and_then(|(_, value)| value.as_str()).unwrap_or_default()
            };
            let fresh = header("webhook-timestamp")
                .parse::<i64>()
                .is_ok_and(|at| (at - case["now"].as_i64().unwrap()).abs() <= 300);
            let Some(key) = case["signing_token"].as_str().and_then(key) else { continue };
            if !fresh {
                continue;
            }
            let body = case["raw_body"].as_str().unwrap().as_bytes();
            let ours = sign(&key, header("webhook-id"), header("webhook-timestamp"), body);
            let matches = header("webhook-signature").split_whitespace().any(|one| one == ours);
            assert_eq!(matches, case["expect"]["valid"] == true, "{}", case["name"]);
            checked += 1;
        }
        assert!(checked >= 3, "only {checked} cases were about the signature itself");
    }

    #[test]
    fn a_key_is_thirty_two_bytes() {
        assert!(key("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").is_some());
        assert!(key("whsec_AAEC").is_none());
        assert!(key("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").is_none());
    }
}
