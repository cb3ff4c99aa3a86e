//! kube's client over our own: it builds requests and calls a service, which is this one.

use super::{
    Access, Error,
    cluster::{Cluster, Identity},
};
use crate::{
    adapters::http::{Http, Repeat, Request, Response, TransportError},
    telemetry::words::Called,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, StatusCode, header};
use http_body_util::Full;
use jiff::SignedDuration;
use kube::client::Body;
use std::{
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::RwLock;
use url::Url;

/// A cluster that is known, and a client for it.
pub(super) struct Connection {
    client: kube::Client,
    wire: Wire,
}

/// What stands below kube's client. The token is looked up for each call.
#[derive(Clone)]
struct Wire(Arc<Inner>);

struct Inner {
    http: Http,
    server: Url,
    identity: RwLock<Identity>,
}

/// How the wire's failures come through kube's own error.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Transport(TransportError),
    #[error(transparent)]
    Identity(Error),
}

/// `Retry-After`, already read, on its way through kube's client.
#[derive(Clone, Copy)]
struct RetryAfter(Option<SignedDuration>);

impl Connection {
    pub(super) async fn open(http: &Http, access: &Access) -> Result<Self, Error> {
        let Cluster { server, authority, identity } = access.find().await?;
        let http = http.to(Called::Kubernetes);
        let http = authority.map_or_else(|| http.clone(), |pem| http.trusting_only(pem));
        let wire = Wire(Arc::new(Inner { http, server, identity: RwLock::new(identity) }));
        Ok(Self { client: kube::Client::new(wire.clone(), "default"), wire })
    }

    pub(super) fn server(&self) -> &Url {
        &self.wire.0.server
    }

    /// Sends a request that kube built, and gives the whole answer whatever its status.
    pub(super) async fn send(
        &self,
        what: &str,
        request: http::Request<Vec<u8>>,
    ) -> Result<Response, Error> {
        let answer = self.client.send(request.map(Body::from)).await;
        let (parts, body) = answer.map_err(|error| failed(what, error))?.into_parts();
        let body = body.collect_bytes().await.map_err(|error| failed(what, error))?;
        let retry_after = parts.extensions.get::<RetryAfter>().and_then(|RetryAfter(wait)| *wait);
        Ok(Response { status: parts.status, headers: parts.headers, body, retry_after })
    }
}

fn failed(what: &str, error: kube::Error) -> Error {
    let reason = crate::adapters::http::chain(&error);
    let kube::Error::Service(cause) = error else {
        return Error::Unreadable { what: what.to_owned(), reason };
    };
    match cause.downcast::<Failure>().map(|failure| *failure) {
        Ok(Failure::Transport(error)) => Error::transport(what, &error),
        Ok(Failure::Identity(error)) => error,
        Err(_) => Error::Unreadable { what: what.to_owned(), reason },
    }
}

impl tower::Service<http::Request<Body>> for Wire {
    type Response = http::Response<Full<Bytes>>;
    type Error = tower::BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let wire = self.clone();
        Box::pin(async move { wire.forward(request).await })
    }
}

impl Wire {
    async fn forward(
        &self,
        request: http::Request<Body>,
    ) -> Result<http::Response<Full<Bytes>>, tower::BoxError> {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await?;
        let identity = self.0.identity.read().await.clone();
        let mut answer = self.send_as(&identity, &parts, &body).await?;
        if answer.status == StatusCode::UNAUTHORIZED {
            let renewed = identity.renewed().await.map_err(Failure::Identity)?;
            answer = self.send_as(&renewed, &parts, &body).await?;
            *self.0.identity.write().await = renewed;
        }
        let mut response = http::Response::new(Full::new(answer.body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        response.extensions_mut().insert(RetryAfter(answer.retry_after));
        Ok(response)
    }

    async fn send_as(
        &self,
        identity: &Identity,
        parts: &http::request::Parts,
        body: &Bytes,
    ) -> Result<Response, Failure> {
        let token = identity.token().await.map_err(Failure::Identity)?;
        let mut url = self.0.server.clone();
        url.set_path(&format!("{}{}", url.path().trim_end_matches('/'), parts.uri.path()));
        url.set_query(parts.uri.query().filter(|query| !query.is_empty()));
        let mut request = Request::new(parts.method.clone(), url)
            .repeat(repeat(&parts.method))
            .body(body.clone())
            .bearer(&token);
        if parts.uri.query().is_some_and(|query| query.contains("dryRun=All")) {
            request = request.reads();
        }
        for name in [header::ACCEPT, header::CONTENT_TYPE] {
            if let Some(value) = parts.headers.get(&name).and_then(|value| value.to_str().ok()) {
                request = request.header(name, value);
            }
        }
        self.0.http.send(request).await.map_err(Failure::Transport)
    }
}

/// An apply, a merge and a deletion do the same twice; a POST or a PUT at a version finds its own first try in the way.
fn repeat(method: &Method) -> Repeat {
    if method.is_safe() || method == Method::PATCH || method == Method::DELETE {
        Repeat::Safe
    } else {
        Repeat::Never
    }
}
