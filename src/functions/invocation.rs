//! What surrounds every invocation: its span, its deadline, its metrics, and the flush before its answer.

use super::{
    answer::Answer,
    app::App,
    envelope::{Envelope, Undecodable},
    work::Outcome,
};
use crate::telemetry;
use axum::{
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use std::{panic::AssertUnwindSafe, time::Instant};
use tracing::{Instrument, Span, error, field::Empty, info_span, warn};

/// The host's name of this attempt; a redelivery has another one.
pub(super) const INVOCATION_ID: &str = "x-azure-functions-invocationid";
/// Wrapped bodies grow: base64, or JSON within JSON. Three times the largest message that our queues take (1 MiB), and
/// room for the metadata. A 413 would send a message to the dead letters unseen.
pub(super) const WRAPPED_MAX: usize = 3 * (1 << 20) + (1 << 16);

/// Runs one invocation. Whatever happens, the host gets an answer: a panic or a passed deadline is a failure.
pub(super) async fn run<R: IntoResponse>(
    app: &App,
    function: &'static str,
    headers: &HeaderMap,
    work: impl Future<Output = R>,
) -> Response {
    let started = Instant::now();
    let span = span(function, headers);
    let guarded = tokio::time::timeout(app.deadline, AssertUnwindSafe(work).catch_unwind());
    let finished = async {
        match guarded.await {
            Ok(Ok(answer)) => answer.into_response(),
            Ok(Err(_)) => fail("the invocation ended in a panic, which is a bug of ours"),
            Err(_) => fail("the invocation took longer than its deadline and was ended"),
        }
    };
    let response = finished.instrument(span.clone()).await;
    let status = response.status();
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
    drop(span);
    app.telemetry.record(function, status.as_u16(), started.elapsed());
    app.telemetry.flush().await;
    response
}

/// Runs an invocation that the host wraps into `POST /<function>`.
pub(super) async fn run_wrapped<R: IntoResponse, F>(
    app: &App,
    function: &'static str,
    request: Request,
    work: impl FnOnce(Envelope) -> F,
) -> Response
where
    F: Future<Output = Result<R, Undecodable>>,
{
    let (parts, body) = request.into_parts();
    run(app, function, &parts.headers, async {
        let body = match read(body, WRAPPED_MAX).await {
            Ok(body) => body,
            Err(answer) => return answer.into_response(),
        };
        let answered = match Envelope::decode(&body) {
            Ok(envelope) => work(envelope).await,
            Err(undecodable) => Err(undecodable),
        };
        answered.map(IntoResponse::into_response).unwrap_or_else(|undecodable| {
            error!("the host's envelope cannot be decoded: {undecodable}");
            Answer::refused(StatusCode::BAD_REQUEST, "the envelope cannot be decoded")
                .into_response()
        })
    })
    .await
}

/// All outcomes of one envelope: the first failure fails it as a whole, as the host settles it as a whole.
pub(super) fn settle(outcomes: Vec<Outcome>) -> Answer {
    let mut lines = Vec::new();
    for outcome in outcomes {
        match outcome {
            Outcome::Done { logs } => lines.extend(logs),
            Outcome::Failed { .. } => return Answer::of(&outcome),
        }
    }
    Answer::done(&lines)
}

/// Reads a body of at most `max` bytes, chunked or not.
pub(super) async fn read(body: Body, max: usize) -> Result<Bytes, Answer> {
    to_bytes(body, max).await.map_err(|_| {
        warn!("refused a body that is longer than {max} bytes, or broke off");
        Answer::refused(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large")
    })
}

fn fail(what: &str) -> Response {
    error!("{what}");
    Answer::refused(StatusCode::INTERNAL_SERVER_ERROR, what).into_response()
}

fn span(function: &'static str, headers: &HeaderMap) -> Span {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let span = info_span!(
        "invocation",
        otel.name = function,
        otel.kind = "server",
        otel.status_code = Empty,
        function,
        invocation.id = header(INVOCATION_ID).filter(|id| id.len() <= 64).unwrap_or_default(),
        trace.id = Empty,
        http.response.status_code = Empty,
    );
    telemetry::continue_trace(&span, header("traceparent"));
    if let Some(id) = telemetry::trace_id(&span) {
        span.record("trace.id", id);
    }
    span
}
