//! The gateway's address space and its check of tokens.

use super::{ServiceBus, receive, send, wire_error::refuse};
use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{HeaderMap, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use percent_encoding::percent_decode_str;

impl ServiceBus {
    /// The REST side of the namespace: send, peek-lock and what follows it.
    pub fn router(&self) -> Router {
        // Larger than any queue takes, so that the queue and not the server refuses.
        let limit = DefaultBodyLimit::max(128 * 1024 * 1024);
        Router::new().fallback(route).layer(limit).with_state(self.clone())
    }

    /// Whether the caller may do anything here; the answer otherwise.
    fn authorise(&self, headers: &HeaderMap) -> Result<(), Box<Response>> {
        let refused = |detail: &str| Box::new(refuse(StatusCode::UNAUTHORIZED, detail));
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(value) = value else {
            return Err(refused("MissingToken: Authorization header is not set"));
        };
        let Some((_, token)) =
            value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        else {
            return Err(refused("InvalidToken: local authentication is disabled"));
        };
        let accepts = self.world().accepts.clone();
        if accepts(token.trim()) { Ok(()) } else { Err(refused("InvalidToken: not accepted here")) }
    }
}

async fn route(
    State(bus): State<ServiceBus>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(refusal) = bus.authorise(&headers) {
        return *refusal;
    }
    let path = percent_decode_str(uri.path().trim_matches('/')).decode_utf8_lossy().into_owned();
    let Some((entity, rest)) = split(&path) else {
        return refuse(StatusCode::NOT_FOUND, "there is nothing at this address");
    };
    let answer = match (method.as_str(), rest.as_slice()) {
        ("POST", []) => send::send(&bus, entity, &headers, &body),
        ("POST", ["head"]) => receive::peek_lock(&bus, entity, &headers),
        ("DELETE", ["head"]) => receive::receive_and_delete(&bus, entity),
        (_, [number, token]) => receive::settle(&bus, &method, entity, number, token),
        (_, _) => return refuse(StatusCode::METHOD_NOT_ALLOWED, "not offered here"),
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

/// `QUEUE/messages/REST…`; a queue may have slashes in its name.
fn split(path: &str) -> Option<(&str, Vec<&str>)> {
    if let Some(queue) = path.strip_suffix("/messages") {
        return Some((queue, Vec::new()));
    }
    let (queue, rest) = path.rsplit_once("/messages/")?;
    Some((queue, rest.split('/').collect()))
}
