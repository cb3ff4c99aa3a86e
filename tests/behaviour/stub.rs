//! A server on loopback that answers as it is told and remembers what it was asked.

use super::descriptions::{
    Findings, Watched,
    check::{Asked, Content},
};
use axum::{Router, body::Body, http::Request, response::Response};
use forerunner::{
    adapters::http::{Http, HttpSettings, Loopback},
    clock::Clock,
};
use serde_json::Value;
use std::sync::{Arc, Mutex};
use tokio::{net::TcpListener, task::JoinHandle};

/// What the server was asked.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) uri: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// `GET /path?query`
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.uri)
    }
}

/// What the server answers.
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

pub(crate) fn reply(status: u16, body: impl ToString) -> Reply {
    Reply { status, headers: Vec::new(), body: body.to_string() }
}

impl Reply {
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The server; it ends when this is dropped.
pub(crate) struct Stub {
    pub(crate) port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
    _watched: Watched,
}

impl Stub {
    /// `answer` is given how many calls came before, and the call.
    pub(crate) async fn answering(
        answer: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let remembered = seen.clone();
        let answer = Arc::new(answer);
        let watched = Watched::default();
        let findings = watched.findings();
        let service = move |request: Request<Body>| {
            let (remembered, answer) = (remembered.clone(), answer.clone());
            let findings = findings.clone();
            async move {
                let call = read(request).await;
                check(&findings, &call);
                let mut remembered = remembered.lock().unwrap();
                let reply = answer(remembered.len(), &call);
                remembered.push(call);
                write(reply)
            }
        };
        let router = Router::new().fallback(service);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, seen, task, _watched: watched }
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(Seen::line).collect()
    }

    /// Our client, with these hosts played by the server.
    pub(crate) fn http(&self, hosts: &[&str]) -> Http {
        let loopback = hosts.iter().map(|host| Loopback::new(host, self.port)).collect();
        let settings = HttpSettings { loopback, ..HttpSettings::default() };
        Http::new(settings, clock())
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn clock() -> Clock {
    Clock::frozen("2026-11-23T10:00:00Z".parse().unwrap())
}

/// Holds what was asked against the description of whoever the stand-in plays.
fn check(findings: &Findings, call: &Seen) {
    let header = |name| call.header(name).unwrap_or_default();
    let body = Content { kind: header("content-type"), bytes: call.body.as_bytes() };
    let asked = Asked { method: &call.method, path: &call.uri, body };
    findings.asked(header("host"), header("user-agent"), &asked);
}

async fn read(request: Request<Body>) -> Seen {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let text = |value: &axum::http::HeaderValue| value.to_str().unwrap().to_owned();
    Seen {
        method: parts.method.to_string(),
        uri: parts.uri.to_string(),
        headers: parts.headers.iter().map(|(n, v)| (n.to_string(), text(v))).collect(),
        body: String::from_utf8(body.to_vec()).unwrap(),
    }
}

fn write(reply: Reply) -> Response {
    let mut response = Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(reply.body)).unwrap()
}
