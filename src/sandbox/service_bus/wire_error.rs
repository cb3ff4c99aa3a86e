//! What the gateway answers when it refuses: a status and a small XML body.

use super::Error;
use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

/// `<Error><Code>…</Code><Detail>…</Detail></Error>`; the detail is made safe for XML.
pub(super) fn refuse(status: StatusCode, detail: &str) -> Response {
    let detail = detail.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let body = format!("<Error><Code>{}</Code><Detail>{detail}</Detail></Error>", status.as_u16());
    (status, [(header::CONTENT_TYPE, "application/xml; charset=utf-8")], body).into_response()
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::QueueMissing { .. } => StatusCode::GONE,
            Self::SessionIdMissing { .. }
            | Self::NeedsSession { .. }
            | Self::HasNoSessions { .. }
            | Self::BadMessage(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge { .. } => StatusCode::FORBIDDEN,
            Self::LockLost => StatusCode::NOT_FOUND,
        };
        refuse(status, &self.to_string())
    }
}
