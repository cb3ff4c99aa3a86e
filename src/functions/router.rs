//! What the host can reach, and how: each function under its one name.

use super::{
    answer::Answer,
    app::App,
    command, dead_letter,
    http::{self, Function},
    invocation::run_wrapped,
    round, sweep,
};
use crate::domain::command::Door;
use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
    routing::{MethodFilter, MethodRouter, get, on, post},
};
use std::sync::Arc;

/// Serves `GET /` (the host's probe, repeated all life long) and every function.
pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(async || "forerunner"))
        .route("/api/gitlab_hook", direct(MethodFilter::POST, Function::GitlabHook))
        .route("/api/fleet", direct(MethodFilter::GET, Function::Fleet))
        .route("/api/health", direct(MethodFilter::GET, Function::Health))
        .route("/gitlab_hook", wrapped(Function::GitlabHook))
        .route("/fleet", wrapped(Function::Fleet))
        .route("/health", wrapped(Function::Health))
        .route("/round", post(queued_round))
        .route("/command", post(queued_command))
        .route("/approval", post(queued_approval))
        .route("/sweep", post(timed_sweep))
        .route("/dead_letter", post(queued_dead_letter))
        .fallback(async || Answer::refused(StatusCode::NOT_FOUND, "there is no such function"))
        .method_not_allowed_fallback(async || {
            Answer::refused(StatusCode::METHOD_NOT_ALLOWED, "the function has another method")
        })
        .with_state(app)
}

type AppState = State<Arc<App>>;

fn direct(method: MethodFilter, function: Function) -> MethodRouter<Arc<App>> {
    on(method, move |State(app): AppState, request: Request| async move {
        http::direct(&app, function, request).await
    })
}

fn wrapped(function: Function) -> MethodRouter<Arc<App>> {
    post(move |State(app): AppState, request: Request| async move {
        http::wrapped(&app, function, request).await
    })
}

async fn queued_round(State(app): AppState, request: Request) -> Response {
    run_wrapped(&app, round::NAME, request, |envelope| round::answer(&app, envelope)).await
}

async fn queued_command(State(app): AppState, request: Request) -> Response {
    let answer = |envelope| command::answer(&app, Door::Commands, envelope);
    run_wrapped(&app, command::COMMAND, request, answer).await
}

async fn queued_approval(State(app): AppState, request: Request) -> Response {
    let answer = |envelope| command::answer(&app, Door::Approvals, envelope);
    run_wrapped(&app, command::APPROVAL, request, answer).await
}

async fn timed_sweep(State(app): AppState, request: Request) -> Response {
    run_wrapped(&app, sweep::NAME, request, |envelope| sweep::answer(&app, envelope)).await
}

async fn queued_dead_letter(State(app): AppState, request: Request) -> Response {
    let answer = |envelope| dead_letter::answer(&app, envelope);
    dead_letter::end(run_wrapped(&app, dead_letter::NAME, request, answer).await)
}
