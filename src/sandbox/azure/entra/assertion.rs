//! A JWT that somebody presents as proof of who they are.

use super::refusal::refuse;
use crate::sandbox::azure::{Azure, answer::Answer};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rsa::{Pkcs1v15Sign, RsaPublicKey};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub(super) struct Assertion {
    pub(super) key_id: String,
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) audience: String,
    issued_at: i64,
    not_before: i64,
    expires_at: i64,
    signed: String,
    signature: Vec<u8>,
}

/// What stands before a SHA-256 digest in a PKCS#1 v1.5 signature (RFC 8017 §9.2, note 1).
const SHA256_PREFIX: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05,
    0x00, 0x04, 0x20,
];
/// How far the clocks of issuer and Entra may be apart, in seconds.
const SKEW: i64 = 300;
/// The longest life of a token from outside, in seconds: 25 hours.
const LIFE_MAX: i64 = 25 * 3600;

impl Assertion {
    /// `None` where it is no JWT signed by RS256 with exactly one audience.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let (header, claims) = (part(header)?, part(claims)?);
        if header["alg"] != "RS256" {
            return None;
        }
        let audience = match &claims["aud"] {
            Value::String(one) => one,
            Value::Array(several) if several.len() == 1 => several[0].as_str()?,
            Value::Array(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Object(_) => {
                return None;
            }
        };
        Some(Self {
            key_id: header["kid"].as_str().unwrap_or_default().to_owned(),
            issuer: claims["iss"].as_str()?.to_owned(),
            subject: claims["sub"].as_str()?.to_owned(),
            audience: audience.to_owned(),
            issued_at: claims["iat"].as_i64().unwrap_or(0),
            not_before: claims["nbf"].as_i64().unwrap_or(0),
            expires_at: claims["exp"].as_i64()?,
            signed: signed.to_owned(),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// Refuses what has expired, is not valid yet or lives too long.
    pub(super) fn check_times(&self, azure: &Azure) -> Result<(), Answer> {
        let now = azure.0.clock.now();
        let Self { issued_at, not_before, expires_at, .. } = self;
        if expires_at - issued_at > LIFE_MAX {
            let message = format!(
                "External OIDC Provider token must have a lifetime of less than or equal to 1.01:00:00. Token issued at {issued_at}. Token expires on {expires_at}."
            );
            return Err(refuse(azure, 70023, message));
        }
        if expires_at + SKEW <= now.as_second() || not_before - SKEW > now.as_second() {
            let message = format!(
                "Client assertion is not within its valid time range. Current time: {now}, assertion valid from {not_before}, expiry time of assertion {expires_at}."
            );
            return Err(refuse(azure, 700_024, message));
        }
        Ok(())
    }

    pub(super) fn is_signed_by(&self, key: &RsaPublicKey) -> bool {
        let scheme = Pkcs1v15Sign { hash_len: Some(32), prefix: Box::new(SHA256_PREFIX) };
        key.verify(scheme, &Sha256::digest(&self.signed), &self.signature).is_ok()
    }
}

fn part(text: &str) -> Option<Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}
