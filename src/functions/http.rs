//! The functions that people and GitLab call. The host passes their requests on as they are (forwarded or proxied, at
//! `/api/<name>`) or wrapped like any other invocation (at `/<name>`); both are answered alike.

use super::{
    answer::{Answer, Reply},
    app::App,
    fleet, gitlab_hook, health,
    invocation::{self, INVOCATION_ID},
};
use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};

/// Longer hooks are refused before anything looks at them. GitLab's largest lifecycle event, a project with all its
/// owners, stays far below.
const BODY_MAX: usize = 1 << 20;

#[derive(Clone, Copy, Debug)]
pub(super) enum Function {
    GitlabHook,
    Fleet,
    Health,
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Self::GitlabHook => "gitlab_hook",
            Self::Fleet => "fleet",
            Self::Health => "health",
        }
    }

    async fn reply(self, app: &App, call: Call<'_>) -> Reply {
        match self {
            Self::GitlabHook => gitlab_hook::reply(app, call).await,
            Self::Fleet => fleet::reply(app, call.headers).await,
            Self::Health => health::reply(app),
        }
    }
}

/// A caller's request, however it came.
pub(super) struct Call<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
    /// The host's id of the invocation.
    pub(super) invocation: &'a str,
}

/// Answers a forwarded or proxied request.
pub(super) async fn direct(app: &App, function: Function, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let headers = &parts.headers;
    invocation::run(app, function.name(), headers, async {
        let body = match invocation::read(body, BODY_MAX).await {
            Ok(body) => body,
            Err(answer) => return answer.into_response(),
        };
        let call = Call { headers, body: &body, invocation: invocation_id(headers) };
        function.reply(app, call).await.into_response()
    })
    .await
}

/// Answers a wrapped request: the invocation succeeds whatever the caller is told.
pub(super) async fn wrapped(app: &App, function: Function, request: Request) -> Response {
    let outer = request.headers().clone();
    invocation::run_wrapped(app, function.name(), request, async |envelope| {
        let request = envelope.request()?;
        if request.body.len() > BODY_MAX {
            let reply = Reply::error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large");
            return Ok(Answer::wrapped(&reply));
        }
        let (headers, body) = (&request.headers, &request.body);
        let call = Call { headers, body, invocation: invocation_id(&outer) };
        Ok(Answer::wrapped(&function.reply(app, call).await))
    })
    .await
}

fn invocation_id(headers: &HeaderMap) -> &str {
    headers.get(INVOCATION_ID).and_then(|id| id.to_str().ok()).unwrap_or_default()
}
