//! The one way to answer the host. There is no answer without a body: a 2xx that has none never completes the
//! invocation (functions-host.md §3.3).

use super::work::Outcome;
use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// A status and a JSON object.
#[derive(Debug)]
pub(super) struct Answer {
    status: StatusCode,
    body: Value,
}

impl Answer {
    /// Ends a wrapped invocation well; the lines appear in the function's own log.
    pub(super) fn done(logs: &[String]) -> Self {
        let body = json!({ "Outputs": {}, "Logs": logs, "ReturnValue": null });
        Self { status: StatusCode::OK, body }
    }

    /// Ends a wrapped HTTP invocation well: `res` is what the host gives the caller.
    pub(super) fn wrapped(reply: &Reply) -> Self {
        let headers = reply.headers().map(|(name, value)| (spelled(&name), json!(value)));
        let res = json!({
            "statusCode": reply.status.as_u16(),
            "headers": Value::Object(headers.collect()),
            "body": reply.text(),
        });
        let body = json!({ "Outputs": { "res": res }, "Logs": [], "ReturnValue": null });
        Self { status: StatusCode::OK, body }
    }

    /// Fails the invocation. The host throws the body away; whoever calls by hand reads it.
    pub(super) fn refused(status: StatusCode, error: &str) -> Self {
        Self { status, body: json!({ "error": error }) }
    }

    /// 500 for an outcome that failed, after saying so: nobody else will.
    pub(super) fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Done { logs } => Self::done(logs),
            Outcome::Failed { text } => {
                tracing::error!("the invocation failed: {text}");
                Self::refused(StatusCode::INTERNAL_SERVER_ERROR, "the invocation failed")
            }
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let kind = [(header::CONTENT_TYPE, "application/json")];
        (self.status, kind, self.body.to_string()).into_response()
    }
}

/// `Content-Type`, as the host and its samples spell headers.
fn spelled(name: &HeaderName) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at(1);
        format!("{}{rest}", first.to_ascii_uppercase())
    };
    // A name has no empty part: it is one of the few that we write.
    let parts: Vec<String> =
        name.as_str().split('-').filter(|part| !part.is_empty()).map(capital).collect();
    parts.join("-")
}

/// What an HTTP function says to its caller, however the host passes it on: JSON, or a page.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    body: Content,
    /// Beside the one that says what the body is.
    headers: Vec<(HeaderName, String)>,
}

#[derive(Debug)]
enum Content {
    Json(Value),
    Page(String),
}

impl Reply {
    pub(super) fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, body: Content::Json(body), headers: vec![] }
    }

    pub(super) fn error(status: StatusCode, error: &str) -> Self {
        Self { status, ..Self::ok(json!({ "error": error })) }
    }

    /// A page for people.
    pub(super) fn page(status: StatusCode, page: String) -> Self {
        Self { status, body: Content::Page(page), headers: vec![] }
    }

    pub(super) fn with(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn headers(&self) -> impl Iterator<Item = (HeaderName, &str)> {
        let kind = match self.body {
            Content::Json(_) => "application/json",
            Content::Page(_) => "text/html; charset=utf-8",
        };
        let further = self.headers.iter().map(|(name, value)| (name.clone(), value.as_str()));
        [(header::CONTENT_TYPE, kind)].into_iter().chain(further)
    }

    fn text(&self) -> String {
        match &self.body {
            Content::Json(body) => body.to_string(),
            Content::Page(page) => page.clone(),
        }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.text()).into_response();
        for (name, value) in self.headers() {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        }
        response
    }
}
