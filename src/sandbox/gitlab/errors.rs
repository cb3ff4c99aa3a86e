//! How GitLab says no: the body shapes of gitlab.md §5.5 and §7.3.

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use std::fmt;

/// An answer that refuses.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    body: Value,
    headers: Vec<(&'static str, String)>,
}

impl Refusal {
    /// `{"message": text}`, GitLab's usual shape.
    pub(super) fn message(status: StatusCode, text: impl Into<String>) -> Self {
        Self::new(status, json!({ "message": text.into() }))
    }

    /// `{"error": text}`: parameters that do not validate, and routes that do not exist.
    pub(super) fn error(status: StatusCode, text: impl Into<String>) -> Self {
        Self::new(status, json!({ "error": text.into() }))
    }

    pub(super) fn parameter(text: impl Into<String>) -> Self {
        Self::error(StatusCode::BAD_REQUEST, text)
    }

    /// `404 Group Not Found`, both for what is not there and for what the caller may not see.
    pub(super) fn not_found(what: &str) -> Self {
        Self::message(StatusCode::NOT_FOUND, format!("404 {what} Not Found"))
    }

    pub(super) fn forbidden() -> Self {
        Self::message(StatusCode::FORBIDDEN, "403 Forbidden")
    }

    pub(super) fn forbidden_because(reason: &str) -> Self {
        Self::message(StatusCode::FORBIDDEN, format!("403 Forbidden - {reason}"))
    }

    pub(super) fn bad_request(reason: &str) -> Self {
        Self::message(StatusCode::BAD_REQUEST, format!("400 Bad request - {reason}"))
    }

    pub(super) fn unprocessable(reason: &str) -> Self {
        Self::message(StatusCode::UNPROCESSABLE_ENTITY, reason)
    }

    /// A model that does not validate: an object of arrays.
    pub(super) fn invalid(problems: &[(&'static str, String)]) -> Self {
        let mut fields = serde_json::Map::new();
        for (field, text) in problems {
            let texts = fields.entry(*field).or_insert_with(|| json!([]));
            if let Value::Array(texts) = texts {
                texts.push(json!(text));
            }
        }
        Self::new(StatusCode::BAD_REQUEST, json!({ "message": fields }))
    }

    pub(super) fn unauthorized() -> Self {
        Self::message(StatusCode::UNAUTHORIZED, "401 Unauthorized")
    }

    /// A token that was good once.
    pub(super) fn invalid_token(description: &str) -> Self {
        let body = json!({ "error": "invalid_token", "error_description": description });
        Self::new(StatusCode::UNAUTHORIZED, body).with_header("www-authenticate", "Bearer")
    }

    pub(super) fn insufficient_scope(accepted: &[&str]) -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            json!({
                "error": "insufficient_scope",
                "error_description": "The request requires higher privileges than provided by the access token.",
                "scope": accepted.join(" "),
            }),
        )
    }

    /// The limit of one endpoint, which has an object where others have text (§7.1 b).
    pub(super) fn too_many_requests() -> Self {
        let text = "This endpoint has been requested too many times. Try again later.";
        Self::new(StatusCode::TOO_MANY_REQUESTS, json!({ "message": { "error": text } }))
    }

    pub(super) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn new(status: StatusCode, body: Value) -> Self {
        Self { status, body, headers: Vec::new() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.status.as_u16(), self.body)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        response
    }
}
