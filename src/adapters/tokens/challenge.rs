//! What a service still wants to know of us before it takes a token (Entra's continuous access evaluation).

use crate::adapters::http::Response;
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use http::header;

/// With or without padding: services differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The claims of `WWW-Authenticate: Bearer …, error="insufficient_claims", claims="BASE64"`, as JSON text.
pub(super) fn claims(response: &Response) -> Option<String> {
    let text = response.header(header::WWW_AUTHENTICATE.as_str())?;
    let (_, rest) = text.split_once("claims=\"")?;
    let (encoded, _) = rest.split_once('"')?;
    let claims = String::from_utf8(BASE64.decode(encoded).ok()?).ok()?;
    serde_json::from_str::<serde_json::Value>(&claims).ok()?.is_object().then_some(claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, StatusCode};

    #[test]
    fn claims_are_read_from_a_challenge_and_nothing_else() {
        let check = |text: &str, expected: Option<&str>| {
            let headers = HeaderMap::from_iter([(header::WWW_AUTHENTICATE, text.parse().unwrap())]);
            let status = StatusCode::UNAUTHORIZED;
            let body = Default::default();
            let response = Response { status, headers, body, retry_after: None };
            assert_eq!(claims(&response).as_deref(), expected, "{text}");
        };
        let given = r#"Bearer realm="", error="insufficient_claims", claims="eyJhIjoxfQ==""#;
        check(given, Some(r#"{"a":1}"#));
        check(r#"Bearer claims="eyJhIjoxfQ""#, Some(r#"{"a":1}"#));
        check(r#"Bearer claims="MQ==""#, None);
        check(r#"Bearer claims="%%%""#, None);
        check(r#"Bearer error="invalid_token""#, None);
    }
}
