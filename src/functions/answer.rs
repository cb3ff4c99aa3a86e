//! The one way to answer the host. There is no answer without a body: a 2xx that has none never completes the
//! invocation (functions-host.md §3.3).

use super::work::Outcome;
use axum::{
    http::{StatusCode, header},
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
        let res = json!({
            "statusCode": reply.status.as_u16(),
            "headers": { "Content-Type": "application/json" },
            "body": reply.body.to_string(),
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

/// What an HTTP function says to its caller, however the host passes it on.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    body: Value,
}

impl Reply {
    pub(super) fn ok(body: Value) -> Self {
        Self { status: StatusCode::OK, body }
    }

    pub(super) fn error(status: StatusCode, error: &str) -> Self {
        Self { status, body: json!({ "error": error }) }
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        Answer { status: self.status, body: self.body }.into_response()
    }
}
