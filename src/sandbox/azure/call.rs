//! One request as the services read it.

use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Method, Request},
};
use percent_encoding::percent_decode_str;
use serde_json::Value;

const BODY_BYTES_MAX: usize = 4 << 20;

#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// Decoded, with a leading and without a trailing slash.
    pub(super) path: String,
    query: Vec<(String, String)>,
    headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

impl Call {
    /// Reads all of `request`; a body that cannot be read is an empty one.
    pub(super) async fn read(request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        let path = percent_decode_str(parts.uri.path().trim_end_matches('/'))
            .decode_utf8_lossy()
            .into_owned();
        let query = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
        let body = to_bytes(body, BODY_BYTES_MAX).await.unwrap_or_default().to_vec();
        Self { method: parts.method, path, query, headers: parts.headers, body }
    }

    pub(super) fn query(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Whether it could have a body and does not say how long that is: what stands before Azure's services refuses it
    /// with 411, an empty one too (github.com/Azure/azure-sdk-for-rust/issues/166).
    pub(super) fn lacks_length(&self) -> bool {
        let takes_body = [Method::POST, Method::PUT, Method::PATCH].contains(&self.method);
        takes_body
            && ["content-length", "transfer-encoding"]
                .iter()
                .all(|name| self.header(name).is_none())
    }

    pub(super) fn bearer(&self) -> Option<&str> {
        let value = self.header("authorization")?;
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    }

    pub(super) fn segments(&self) -> Vec<&str> {
        self.path.split('/').skip(1).collect()
    }

    /// The body as JSON; `null` where it is empty or none.
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    pub(super) fn form(&self) -> Vec<(String, String)> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }

    /// The URL of the next page: the same call with another token.
    pub(super) fn next_link(&self, host: &str, token_name: &str, token: usize) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in &self.query {
            if !name.eq_ignore_ascii_case(token_name) {
                query.append_pair(name, value);
            }
        }
        query.append_pair(token_name, &token.to_string());
        let path = percent_encoding::utf8_percent_encode(&self.path, PATH);
        format!("https://{host}{path}?{}", query.finish())
    }
}

const PATH: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'?')
    .add(b'#')
    .add(b'%')
    .add(b'"')
    .add(b'<')
    .add(b'>');
