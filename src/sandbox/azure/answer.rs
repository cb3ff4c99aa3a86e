//! An answer of any of Azure's services, before it is bytes.

use axum::{
    body::Body,
    http::{HeaderValue, Response, StatusCode, header::HeaderName},
};
use serde_json::{Value, json};

/// Status, headers and body. Refusals and successes are the same to the wire.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    headers: Vec<(&'static str, String)>,
    pub(super) body: Option<Value>,
    /// The identity that a credential's write holds until the answer has left.
    pub(super) holds: Option<String>,
}

/// What a handler gives: both sides are answers, `Err` ends the work early.
pub(super) type Answered = Result<Answer, Answer>;

impl Answer {
    pub(super) fn json(status: u16, body: Value) -> Self {
        Self { status, headers: Vec::new(), body: Some(body), holds: None }
    }

    pub(super) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: None, holds: None }
    }

    /// ARM's envelope, which Key Vault shares (azure.md §1).
    pub(super) fn refusal(status: u16, code: &str, message: impl Into<String>) -> Self {
        let message: String = message.into();
        Self::json(status, json!({"error": {"code": code, "message": message}}))
    }

    /// Key Vault's envelope with its inner code.
    pub(super) fn vault_refusal(
        status: u16,
        code: &str,
        inner: &str,
        message: impl Into<String>,
    ) -> Self {
        let message: String = message.into();
        let error = json!({"code": code, "message": message, "innererror": {"code": inner}});
        Self::json(status, json!({"error": error}))
    }

    pub(super) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let body = self.body.as_ref().map(Value::to_string).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        if self.body.is_some() {
            let json = HeaderValue::from_static("application/json; charset=utf-8");
            headers.insert(axum::http::header::CONTENT_TYPE, json);
        }
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}
