//! GitLab's REST and GraphQL interfaces (gitlab.md §3 to §5).

mod bulk;
mod error;
mod jobs;
mod pages;
mod quota;
mod runners;
mod token;
mod tokens;
mod tree;
mod wire;

pub use bulk::{Open, Where};
pub use error::Error;
pub use pages::Pages;
pub use runners::{NewRunner, NewToken, Verified};
pub use token::TokenSource;
pub use tokens::OwnToken;

use super::http::{Http, Repeat, Request, Response};
use crate::telemetry::words::Called;
use http::{HeaderName, Method, StatusCode};
use quota::Quota;
use secrecy::SecretString;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{fmt, sync::Arc};
use token::Token;
use url::Url;

/// One GitLab with forerunner's own token. Cheap to clone. Its methods are in one file a subject.
#[derive(Clone)]
pub struct Gitlab(Arc<Inner>);

struct Inner {
    http: Http,
    /// With a relative URL root if there is one, without a trailing slash.
    url: Url,
    token: Token,
    quota: Quota,
}

/// One call: everything but who we are.
struct Call {
    method: Method,
    /// Below `/api/v4`, or `/api/graphql` itself.
    path: String,
    /// Encoded, without the question mark.
    query: String,
    body: Option<Value>,
    repeat: Repeat,
    /// For errors, such as "runner 8".
    what: String,
}

impl Call {
    /// A call that reads.
    fn get(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            method: Method::GET,
            path: format!("/api/v4{}", path.into()),
            query: String::new(),
            body: None,
            repeat: Repeat::Safe,
            what: what.into(),
        }
    }

    fn write(
        method: Method,
        path: impl Into<String>,
        repeat: Repeat,
        what: impl Into<String>,
    ) -> Self {
        Self { method, repeat, ..Self::get(path, what) }
    }

    fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    fn query(mut self, query: &str) -> Self {
        self.query = query.to_owned();
        self
    }
}

impl Gitlab {
    /// `url` is GitLab's address; nothing is asked of GitLab or of the token's source before the first call.
    pub fn new(http: Http, url: Url, token: TokenSource) -> Self {
        let (http, quota) = (http.to(Called::Gitlab), Quota::default());
        Self(Arc::new(Inner { http, url, token: Token::new(token), quota }))
    }

    /// Sends with our token. A 401 makes us read the token's source once more, and ask again if it has another.
    async fn send(&self, call: &Call) -> Result<Response, Error> {
        let token = self.0.token.current(&call.what).await?;
        let response = self.send_as(call, Some(&token)).await?;
        if response.status != StatusCode::UNAUTHORIZED {
            return self.check(call, response);
        }
        match self.0.token.newer_than(&token, &call.what).await? {
            Some(newer) => self.check(call, self.send_as(call, Some(&newer)).await?),
            None => self.check(call, response),
        }
    }

    /// An answer of success, or the error it is.
    fn check(&self, call: &Call, response: Response) -> Result<Response, Error> {
        error::check(&self.0.url, call, response)
    }

    /// Sends as whoever the body says, such as a runner with its own token.
    async fn send_as(&self, call: &Call, token: Option<&SecretString>) -> Result<Response, Error> {
        let mut url = self.0.url.clone();
        url.set_path(&format!("{}{}", url.path().trim_end_matches('/'), call.path));
        url.set_query(Some(call.query.as_str()).filter(|query| !query.is_empty()));
        let mut request =
            Request::new(call.method.clone(), url).repeat(call.repeat).pause(self.0.quota.pause());
        if call.path == "/api/graphql" {
            // Ours are queries.
            request = request.reads();
        }
        if let Some(token) = token {
            request = request.secret_header(HeaderName::from_static("private-token"), token);
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let answer = self.0.http.send(request).await;
        let answer = answer.map_err(|source| Error::transport(&call.what, &source))?;
        self.0.quota.learn(&answer);
        Ok(answer)
    }

    async fn ask<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Error> {
        error::read(&call.what, &self.send(call).await?)
    }

    /// Like [`Self::ask`]; a 404 is `None`.
    async fn find<T: DeserializeOwned>(&self, call: &Call) -> Result<Option<T>, Error> {
        match self.ask(call).await {
            Ok(found) => Ok(Some(found)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for Gitlab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gitlab({})", self.0.url)
    }
}
