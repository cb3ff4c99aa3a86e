//! A request and its answer.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::error::Category;
use std::time::Duration;
use url::Url;

/// Whether sending a request twice does the same as sending it once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    Safe,
    Never,
}

/// What to send. `Debug` shows method and host alone.
#[derive(Clone)]
pub struct Request {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) repeat: Repeat,
    pub(super) pause: Duration,
    /// Whether it changes nothing, whatever its method.
    pub(super) reads: bool,
}

impl Request {
    /// A request that is safe to repeat if `method` is one that only reads.
    pub fn new(method: Method, url: Url) -> Self {
        let reads = method.is_safe();
        let repeat = if reads { Repeat::Safe } else { Repeat::Never };
        Self {
            reads,
            method,
            url,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            repeat,
            pause: Duration::ZERO,
        }
    }

    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    pub fn repeat(mut self, repeat: Repeat) -> Self {
        self.repeat = repeat;
        self
    }

    /// Says that it only asks, such as a query by POST: it is no write that an audit has to know.
    pub fn reads(mut self) -> Self {
        self.reads = true;
        self
    }

    /// Holds the request back for so long, at most a second, to go easy on a service that asks for it.
    pub fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Sets a header; a value that no header may hold is left out.
    pub fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name, value);
        }
        self
    }

    /// Sets a header that no log may show.
    pub fn secret_header(mut self, name: HeaderName, value: &SecretString) -> Self {
        if let Ok(mut value) = HeaderValue::from_str(value.expose_secret()) {
            value.set_sensitive(true);
            self.headers.insert(name, value);
        }
        self
    }

    pub fn bearer(self, token: &SecretString) -> Self {
        let value = SecretString::from(format!("Bearer {}", token.expose_secret()));
        self.secret_header(header::AUTHORIZATION, &value)
    }

    pub fn json(self, body: &impl Serialize) -> Self {
        let bytes = serde_json::to_vec(body).expect("our own wire types have string keys only");
        self.header(header::CONTENT_TYPE, "application/json").body(bytes)
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.url.host_str().unwrap_or_default())
    }
}

/// A whole answer. `Debug` shows no header and no body.
#[derive(Clone)]
pub struct Response {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// How long to wait, from `Retry-After` as seconds or as a date.
    pub retry_after: Option<SignedDuration>,
}

impl Response {
    /// The body as JSON; unknown fields are ignored by the types we read into.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// Why the body could not be read as JSON: the place, never the words, for a parser quotes what it met and some
    /// answers hold tokens.
    pub fn unreadable(&self, error: &serde_json::Error) -> String {
        let kind = self.header(header::CONTENT_TYPE.as_str()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let json = kind.is_empty() || kind.ends_with("/json") || kind.ends_with("+json");
        let (line, column) = (error.line(), error.column());
        match error.classify() {
            Category::Eof if self.body.is_empty() => "it is empty".to_owned(),
            Category::Syntax | Category::Eof if !json => format!(
                "it is `{kind}` and no JSON; does a proxy or a sign-in page answer at this address?"
            ),
            Category::Eof => format!("it ends in the middle, after {} bytes", self.body.len()),
            Category::Syntax | Category::Io => {
                format!("it is no JSON from line {line} column {column} on")
            }
            Category::Data => format!("not the JSON we know, at line {line} column {column}"),
        }
    }

    /// The body as text, whatever bytes it holds.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} with {} bytes", self.status, self.body.len())
    }
}
