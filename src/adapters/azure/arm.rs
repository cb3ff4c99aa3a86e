//! The Azure Resource Manager: one way to ask it anything.

use super::{
    error::{Answer, Error, Verdict, classify},
    pace::Pace,
};
use crate::{
    adapters::{
        cloud::Cloud,
        http::{Http, Repeat, Request, Response},
        tokens::Tokens,
    },
    telemetry::words::Called,
};
use http::{HeaderName, Method, StatusCode};
use jiff::SignedDuration;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use url::Url;
use uuid::Uuid;

/// The versions we speak (azure.md §0), one place for all.
pub(super) mod api_version {
    pub(in super::super) const MANAGED_IDENTITY: &str = "2024-11-30";
    pub(in super::super) const AUTHORIZATION: &str = "2022-04-01";
    pub(in super::super) const CONTAINER_SERVICE: &str = "2026-04-01";
    pub(in super::super) const RESOURCE_GRAPH: &str = "2024-04-01";
}

/// Pages that a list may have before we call it endless.
const PAGES_MAX: usize = 1000;

/// Azure Resource Manager with our token. Its methods are in one file a resource.
#[derive(Clone, Debug)]
pub struct Arm {
    http: Http,
    tokens: Tokens,
    pace: Pace,
}

/// One call: everything but the token.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    /// Starts with `/`.
    pub(super) path: &'a str,
    pub(super) api_version: &'static str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) body: Option<Value>,
    /// For errors, such as "identity `id-x`".
    pub(super) what: String,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        method: Method,
        path: &'a str,
        api_version: &'static str,
        what: impl Into<String>,
    ) -> Self {
        Self { method, path, api_version, query: &[], body: None, what: what.into() }
    }

    pub(super) fn body(mut self, body: Value) -> Self {
        self.body = Some(body);
        self
    }

    pub(super) fn query(mut self, query: &'a [(&'a str, &'a str)]) -> Self {
        self.query = query;
        self
    }
}

/// One page of any ARM list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<T> {
    value: Vec<T>,
    next_link: Option<String>,
}

impl Arm {
    pub fn new(http: Http, tokens: Tokens) -> Self {
        let (http, pace) = (http.to(Called::Arm), Pace::new(tokens.clock().clone()));
        Self { http, tokens, pace }
    }

    pub(super) fn cloud(&self) -> &Cloud {
        self.tokens.cloud()
    }

    /// Sends a call whose repeat does no harm, which all of ours are: PUT and DELETE by name, PATCH of tags, reads.
    /// `None` means absent.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Option<Response>, Error> {
        self.send_to(call, self.url(call)).await
    }

    /// The same, with the body read as JSON.
    pub(super) async fn ask<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
    ) -> Result<Option<T>, Error> {
        self.send(call).await?.map(|response| read(&call.what, &response)).transpose()
    }

    /// The same for a write, which always has something to answer.
    pub(super) async fn write<T: DeserializeOwned>(&self, call: &Call<'_>) -> Result<T, Error> {
        self.ask(call).await?.ok_or_else(|| Error::Unreadable {
            what: call.what.clone(),
            reason: "a write was answered as absent".to_owned(),
        })
    }

    /// All pages of a list; `None` when what it is a list of is absent. A page that fails fails the whole.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        call: &Call<'_>,
    ) -> Result<Option<Vec<T>>, Error> {
        let mut all = Vec::new();
        let mut next = self.url(call);
        for page in 0..PAGES_MAX {
            let Some(response) = self.send_to(call, next.clone()).await? else {
                // Only the first page says that there is no such list: an empty one before it said that there is.
                return if page == 0 { Ok(None) } else { Err(vanished(call)) };
            };
            let page: Page<T> = read(&call.what, &response)?;
            all.extend(page.value);
            match page.next_link.as_deref().filter(|link| !link.is_empty()) {
                Some(link) => next = follow(call, &next, link)?,
                None => return Ok(Some(all)),
            }
        }
        Err(Error::Unreadable {
            what: call.what.clone(),
            reason: format!("the list has more than {PAGES_MAX} pages"),
        })
    }

    async fn send_to(&self, call: &Call<'_>, url: Url) -> Result<Option<Response>, Error> {
        let mut response = self.try_once(call, &url).await?;
        if response.status == StatusCode::UNAUTHORIZED {
            self.tokens.refused(self.tokens.cloud().resource_manager_audience(), &response);
            response = self.try_once(call, &url).await?;
        }
        if let Some(after) = still_running(&call.method, &response) {
            return Err(Error::StillRunning { what: call.what.clone(), after });
        }
        let answer = Answer::of(&response);
        match classify(&call.method, &answer) {
            Verdict::Use => Ok(Some(response)),
            Verdict::Absent => Ok(None),
            Verdict::Failed(class) => {
                Err(Error::refused(call.what.clone(), call.path, answer, class))
            }
        }
    }

    async fn try_once(&self, call: &Call<'_>, url: &Url) -> Result<Response, Error> {
        let pause = self.pace.admit(&call.method, url.path());
        let pause = pause.map_err(|after| Error::Paced { what: call.what.clone(), after })?;
        let token = self.tokens.bearer(self.tokens.cloud().resource_manager_audience()).await;
        let token = token.map_err(|source| Error::Token { what: call.what.clone(), source })?;
        let mut request = Request::new(call.method.clone(), url.clone())
            .bearer(&token)
            .pause(pause)
            .header(HeaderName::from_static("x-ms-client-request-id"), &Uuid::new_v4().to_string())
            .repeat(Repeat::Safe);
        if call.method == Method::POST {
            // Ours ask: where a cluster is, and Resource Graph.
            request = request.reads();
        }
        if let Some(body) = &call.body {
            request = request.json(body);
        }
        let answer = self.http.send(request).await;
        let answer = answer.map_err(|error| Error::transport(call.what.clone(), &error))?;
        self.pace.learn(&call.method, url.path(), &answer);
        Ok(answer)
    }

    fn url(&self, call: &Call<'_>) -> Url {
        let mut url = self.tokens.cloud().resource_manager.clone();
        url.set_path(call.path);
        url.query_pairs_mut().append_pair("api-version", call.api_version).extend_pairs(call.query);
        url
    }
}

/// After how long to look again at a write that Azure took and has not finished (azure.md §10.3). Nobody waits here: the
/// round ends, and the one that the queue wakes next reads what came of it.
fn still_running(method: &Method, response: &Response) -> Option<SignedDuration> {
    let status = response.status;
    let promised = response.header("azure-asyncoperation").is_some()
        || status == StatusCode::ACCEPTED && response.header("location").is_some();
    let taken = matches!(status, StatusCode::OK | StatusCode::CREATED | StatusCode::ACCEPTED);
    (!method.is_safe() && taken && promised).then(|| response.retry_after.unwrap_or(LOOK_AGAIN))
}

/// Where Azure does not say when to look again.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_secs(15);

/// `nextLink` is absolute; our token goes to no other host (azure.md §10.2).
fn follow(call: &Call<'_>, from: &Url, link: &str) -> Result<Url, Error> {
    let unreadable =
        |reason: &str| Error::Unreadable { what: call.what.clone(), reason: reason.to_owned() };
    let next = Url::parse(link).map_err(|_| unreadable("its next page has no address"))?;
    if next.origin() != from.origin() {
        return Err(unreadable("its next page lies on another host"));
    }
    if next == *from {
        return Err(unreadable("its next page is the same page"));
    }
    Ok(next)
}

fn vanished(call: &Call<'_>) -> Error {
    Error::Unreadable {
        what: call.what.clone(),
        reason: "a page in the middle is missing".to_owned(),
    }
}

pub(super) fn read<T: DeserializeOwned>(what: &str, response: &Response) -> Result<T, Error> {
    response.json().map_err(|error| Error::Unreadable {
        what: what.to_owned(),
        reason: response.unreadable(&error),
    })
}
