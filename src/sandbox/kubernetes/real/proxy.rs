//! The way from the sandbox's callers to the real API server: plain HTTP on our side, so that the wire sees every call.

use super::{super::Kubernetes, Real};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    response::Response,
};
use serde_json::Value;
use std::sync::Arc;

/// More than an API server takes itself.
const LARGEST: usize = 8 << 20;

pub(super) fn router(real: Arc<Real>, kubernetes: Kubernetes) -> Router {
    Router::new().fallback(move |request: Request| {
        let (real, kubernetes) = (real.clone(), kubernetes.clone());
        async move { pass(&real, &kubernetes, request).await }
    })
}

async fn pass(real: &Real, kubernetes: &Kubernetes, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    // Entra reads keys without a token, as an issuer that is public lets everybody.
    if !parts.headers.contains_key(header::AUTHORIZATION) && is_discovery(parts.uri.path()) {
        return match real.server.get(path).await {
            Ok(document) => {
                answer(StatusCode::OK, &HeaderMap::new(), Body::from(document.to_string()))
            }
            Err(refusal) => broken(&refusal.message),
        };
    }
    let Ok(mut body) = to_bytes(body, LARGEST).await else {
        return answer(StatusCode::PAYLOAD_TOO_LARGE, &HeaderMap::new(), Body::empty());
    };
    if real.plays_webhook && parts.method == Method::POST && parts.uri.path().ends_with("/pods") {
        body = admit(kubernetes, parts.uri.path(), body);
    }
    let mut request = real.server.anyone.request(parts.method, real.server.url(path)).body(body);
    for (name, value) in &parts.headers {
        if !is_hop(name) {
            request = request.header(name, value);
        }
    }
    let response = match request.send().await {
        Ok(response) => response,
        Err(error) => return broken(&error.to_string()),
    };
    let (status, headers) = (response.status(), response.headers().clone());
    // As it comes: a watch has no end.
    let body = axum::http::Response::<reqwest::Body>::from(response).into_body();
    answer(status, &headers, Body::new(body))
}

fn is_discovery(path: &str) -> bool {
    path == "/.well-known/openid-configuration" || path == "/openid/v1/jwks"
}

/// What the webhook adds to a pod. It sees what the mirror shows of the pod's account.
fn admit(kubernetes: &Kubernetes, path: &str, body: Bytes) -> Bytes {
    let Ok(mut pod) = serde_json::from_slice::<Value>(&body) else { return body };
    let namespace = path.split('/').nth(4).unwrap_or_default();
    let account = pod["spec"]["serviceAccountName"].as_str().unwrap_or("default");
    let account = kubernetes.get("serviceaccounts", namespace, account).unwrap_or_default();
    super::super::workload_identity::inject(&kubernetes.state(), &account, &mut pod);
    pod.to_string().into()
}

/// Headers of one connection, and those that the body gets anew.
fn is_hop(name: &HeaderName) -> bool {
    [
        header::HOST,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::ACCEPT_ENCODING,
        header::UPGRADE,
    ]
    .contains(name)
}

fn answer(status: StatusCode, headers: &HeaderMap, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in headers {
        if !is_hop(name) {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}

fn broken(why: &str) -> Response {
    answer(StatusCode::BAD_GATEWAY, &HeaderMap::new(), Body::from(why.to_owned()))
}
