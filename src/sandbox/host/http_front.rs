//! The side of the host that the world sees: routes and keys, checked before the handler hears of anything.

use super::{
    Function, Host, HttpMode, Inner, forward, function_json::Level, routes, worker::Status,
    wrapped_http,
};
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri},
    response::{IntoResponse, Response},
};
use secrecy::{ExposeSecret, SecretString};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long a request waits for a handler that starts.
const HANDLER_WAIT_MAX: Duration = Duration::from_secs(120);

/// The app's access keys.
#[derive(Clone, Default)]
pub struct Keys {
    /// Opens everything.
    pub master: Option<SecretString>,
    /// Open every function of level `function`.
    pub host: Vec<SecretString>,
    /// Open one function, by its name.
    pub functions: BTreeMap<String, Vec<SecretString>>,
}

impl Host {
    /// What GitLab, people and probes reach: `/api/…` with the functions' keys. It answers at once and does not
    /// wait for [`act`](crate::sandbox::actor::Actor::act).
    pub fn front_router(&self) -> Router {
        Router::new().fallback(answer).with_state(self.clone())
    }
}

/// One request on its way to a function.
pub(super) struct Arrived<'a> {
    pub(super) function: &'a Function,
    pub(super) parameters: Vec<(String, String)>,
    pub(super) request: Request,
}

async fn answer(State(host): State<Host>, request: Request) -> Response {
    let inner = &host.0;
    let (method, path) = (request.method().as_str(), request.uri().path());
    let Some(found) = routes::find(&inner.routes, method, path) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let function = inner.function(&found.route.function);
    if !is_open(&inner.keys, &function.name, found.route.level, request.uri(), request.headers()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let arrived = Arrived { function, parameters: found.parameters, request };
    if !await_handler(inner, function).await {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let mode = if function.is_http_in_and_out { inner.http_mode } else { HttpMode::Wrapped };
    match mode {
        HttpMode::Wrapped => wrapped_http::answer(inner, arrived).await,
        HttpMode::Forwarded => forward::buffered(inner, arrived).await,
        HttpMode::Proxied => forward::streamed(inner, arrived).await,
    }
}

async fn await_handler(inner: &Arc<Inner>, function: &Function) -> bool {
    let mut status = inner.group(function).watch();
    let decided = |status: &Status| matches!(status, Status::Ready { .. } | Status::Stopped);
    let waited = tokio::time::timeout(HANDLER_WAIT_MAX, status.wait_for(decided)).await;
    matches!(waited, Ok(Ok(status)) if *status != Status::Stopped)
}

/// Whether the key in the query's `code` or in `x-functions-key` opens the function.
fn is_open(keys: &Keys, function: &str, level: Level, uri: &Uri, headers: &HeaderMap) -> bool {
    let header = headers.get("x-functions-key").and_then(|value| value.to_str().ok());
    let code = query(uri).into_iter().find(|(name, _)| name.eq_ignore_ascii_case("code"));
    let given: Vec<String> =
        header.map(ToOwned::to_owned).into_iter().chain(code.map(|(_, value)| value)).collect();
    let own = keys.functions.iter().filter(|(name, _)| name.eq_ignore_ascii_case(function));
    let own = own.flat_map(|(_, keys)| keys).chain(&keys.host);
    let mut opening: Vec<&SecretString> = keys.master.iter().collect();
    match level {
        Level::Anonymous => return true,
        Level::Function => opening.extend(own),
        Level::Admin => {}
    }
    opening.iter().any(|key| given.iter().any(|given| key.expose_secret() == given))
}

/// The query's parameters, decoded, in their order.
pub(super) fn query(uri: &Uri) -> Vec<(String, String)> {
    url::form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect()
}

/// The handler could not be asked, or gave nothing that a caller may see.
pub(super) fn failed() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}
