//! HTTP functions that get the caller's own request: forwarded or proxied (functions-host.md §4.3, §4.4).

use super::{
    Inner, InvocationRecord, Verdict,
    call::{self, CallError, Connection},
    http_front::{Arrived, failed, query},
    worker::Status,
};
use axum::{body::Body, response::Response};
use http::{
    HeaderMap, HeaderName, HeaderValue, Request,
    header::{self, AsHeaderName},
    request,
};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// The host refuses longer bodies.
const BODY_MAX: usize = 104_857_600;
/// How often a proxied request looks for the handler, 50 ms apart at first and 250 ms at last.
const ATTEMPTS: u32 = 10;

/// Describes one connection and not the request; never copied from one to the other.
const CONNECTION_HEADERS: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
/// Of the headers that describe the body, forwarding keeps only its type and length.
const LOST_CONTENT_HEADERS: [HeaderName; 8] = [
    header::ALLOW,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::EXPIRES,
    header::LAST_MODIFIED,
];

/// Mode B: the body only where `Content-Length` says so, the query put together anew, the answer buffered.
pub(super) async fn buffered(inner: &Arc<Inner>, arrived: Arrived<'_>) -> Response {
    let id = inner.guid();
    let (parts, body) = arrived.request.into_parts();
    let has_body = number(&parts.headers, header::CONTENT_LENGTH).is_some_and(|length| length > 0);
    let body = if has_body {
        match axum::body::to_bytes(body, BODY_MAX).await {
            Ok(body) => Body::from(body),
            Err(_) => return failed(),
        }
    } else {
        Body::empty()
    };
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    if let Ok(uri) = joined(&parts).parse() {
        *request.uri_mut() = uri;
    }
    let mut headers = parts.headers;
    strip(&mut headers, &CONNECTION_HEADERS);
    strip(&mut headers, &LOST_CONTENT_HEADERS);
    let host = format!("Azure-Functions-Host/{}", inner.version);
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let agent = agent.map_or_else(|| host.clone(), |agent| format!("{agent} {host}"));
    if let Ok(agent) = HeaderValue::try_from(agent) {
        headers.insert(header::USER_AGENT, agent);
    }
    inner.stamp(&mut headers, id);
    *request.headers_mut() = headers;
    let send = async |connection: Connection| {
        let (parts, body) = call::read(connection.send(request).await?).await?;
        Ok(Response::from_parts(parts, Body::from(body)))
    };
    run(inner, arrived.function, id, 1, send).await
}

/// Mode C: everything as it is, both ways, piece by piece.
pub(super) async fn streamed(inner: &Arc<Inner>, arrived: Arrived<'_>) -> Response {
    let id = inner.guid();
    let (mut parts, body) = arrived.request.into_parts();
    strip(&mut parts.headers, &CONNECTION_HEADERS);
    inner.stamp(&mut parts.headers, id);
    if let Ok(value) = HeaderValue::try_from(id.to_string()) {
        parts.headers.insert(HeaderName::from_static("x-ms-invocation-id"), value);
    }
    let path = parts.uri.path_and_query().cloned();
    let mut request = Request::new(body);
    *request.method_mut() = parts.method;
    *request.headers_mut() = parts.headers;
    if let Some(uri) = path.and_then(|path| path.as_str().parse().ok()) {
        *request.uri_mut() = uri;
    }
    let send = async |connection: Connection| Ok(connection.send(request).await?.map(Body::new));
    run(inner, arrived.function, id, ATTEMPTS, send).await
}

/// Sends to the handler and keeps the record. Any answer is a success of the invocation.
async fn run(
    inner: &Arc<Inner>,
    function: &super::Function,
    id: Uuid,
    attempts: u32,
    send: impl AsyncFnOnce(Connection) -> Result<Response, CallError>,
) -> Response {
    let (started, begun) = (inner.clock.now(), Instant::now());
    let answered = match reach(inner, function, attempts).await {
        Ok(connection) => send(connection).await,
        Err(error) => Err(error),
    };
    let (verdict, response) = match answered {
        Ok(mut response) => {
            strip(response.headers_mut(), &CONNECTION_HEADERS);
            (Verdict::Success, response)
        }
        Err(error) => (Verdict::Failure(error.to_string()), failed()),
    };
    inner.record(InvocationRecord {
        function: function.name.clone(),
        invocation_id: id,
        started,
        duration: begun.elapsed(),
        verdict,
        message_ids: Vec::new(),
        delivery_count: None,
    });
    response
}

async fn reach(
    inner: &Inner,
    function: &super::Function,
    attempts: u32,
) -> Result<Connection, CallError> {
    let mut tried = 0;
    loop {
        tried += 1;
        let reached = match inner.group(function).status() {
            Status::Ready { port, .. } => call::connect(port).await,
            Status::Down | Status::Starting | Status::Stopped => {
                Err(CallError::Refused(std::io::ErrorKind::ConnectionRefused.into()))
            }
        };
        if reached.is_ok() || tried >= attempts {
            return reached;
        }
        #[expect(clippy::disallowed_methods, reason = "the real host's proxy waits so")]
        tokio::time::sleep(Duration::from_millis(u64::from((50 * tried).min(250)))).await;
    }
}

/// Path and query; a repeated parameter becomes one, its values joined by commas.
fn joined(parts: &request::Parts) -> String {
    let mut names = Vec::new();
    let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in query(&parts.uri) {
        if !values.contains_key(&name) {
            names.push(name.clone());
        }
        values.entry(name).or_default().push(value);
    }
    if names.is_empty() {
        return parts.uri.path().to_owned();
    }
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for name in names {
        let value = values.get(&name).map(|values| values.join(",")).unwrap_or_default();
        query.append_pair(&name, &value);
    }
    format!("{}?{}", parts.uri.path(), query.finish())
}

fn strip(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        headers.remove(name);
    }
}

fn number(headers: &HeaderMap, name: impl AsHeaderName) -> Option<u64> {
    headers.get(name).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok())
}
