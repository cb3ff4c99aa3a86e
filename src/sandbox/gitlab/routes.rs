//! Which path is answered by what.

use super::{
    Gitlab, Version,
    call::{Access, Call},
    errors::Refusal,
    graphql, groups, hooks, job_lookup, job_protocol, maintenance, projects, runner_api,
    runner_creation, runner_lists, runner_protocol, tokens,
};
use axum::{
    Json, Router,
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::{delete, get, patch, post, put},
};
use serde_json::json;

pub(super) fn router(gitlab: Gitlab) -> Router {
    let api = Router::new()
        .merge(namespaces())
        .merge(runners())
        .merge(administration())
        .fallback(no_route)
        .method_not_allowed_fallback(no_method);
    Router::new()
        .nest("/api/v4", api)
        .route("/api/graphql", post(graphql::answer))
        .fallback(no_route)
        .layer(middleware::from_fn_with_state(gitlab.clone(), maintenance::guard))
        .with_state(gitlab)
}

fn namespaces() -> Router<Gitlab> {
    Router::new()
        .route("/groups", get(groups::list).post(groups::create))
        .route("/groups/{id}", get(groups::show_one).put(groups::update).delete(groups::delete))
        .route("/groups/{id}/subgroups", get(groups::list_children))
        .route("/groups/{id}/descendant_groups", get(groups::list_descendants))
        .route("/groups/{id}/projects", get(groups::list_projects))
        .route("/groups/{id}/runners", get(runner_lists::of_group))
        .route("/groups/{id}/archive", post(groups::archive))
        .route("/groups/{id}/unarchive", post(groups::unarchive))
        .route("/groups/{id}/transfer", post(groups::transfer))
        .route("/groups/{id}/restore", post(groups::restore))
        .route("/projects", get(projects::list).post(projects::create))
        .route(
            "/projects/{id}",
            get(projects::show_one).put(projects::update).delete(projects::delete),
        )
        .route("/projects/{id}/runners", get(runner_lists::of_project).post(runner_api::enable))
        .route("/projects/{id}/runners/{runner_id}", delete(runner_api::disable))
        .route("/projects/{id}/jobs/{job_id}", get(job_lookup::show_one))
        .route("/projects/{id}/repository/branches/{branch}", get(job_lookup::branch))
        .route("/projects/{id}/archive", post(projects::archive))
        .route("/projects/{id}/unarchive", post(projects::unarchive))
        .route("/projects/{id}/transfer", put(projects::transfer))
        .route("/projects/{id}/restore", post(projects::restore))
}

fn runners() -> Router<Gitlab> {
    Router::new()
        .route("/user/runners", post(runner_creation::create))
        .route(
            "/runners",
            get(runner_lists::mine)
                .post(runner_protocol::register)
                .delete(runner_protocol::unregister),
        )
        .route("/runners/all", get(runner_lists::all))
        .route("/runners/verify", post(runner_protocol::verify))
        .route("/runners/managers", delete(runner_protocol::remove_manager))
        .route("/runners/reset_authentication_token", post(runner_protocol::reset_own))
        .route(
            "/runners/{id}",
            get(runner_api::show_one).put(runner_api::update).delete(runner_api::delete),
        )
        .route("/runners/{id}/managers", get(runner_api::managers))
        .route("/runners/{id}/jobs", get(runner_api::jobs))
        .route("/runners/{id}/reset_authentication_token", post(runner_api::reset))
        .route("/jobs/request", post(runner_protocol::request_job))
        .route("/jobs/{id}", put(job_protocol::update))
        .route("/jobs/{id}/trace", patch(job_protocol::append_trace))
}

fn administration() -> Router<Gitlab> {
    Router::new()
        .route("/version", get(version))
        .route("/metadata", get(metadata))
        .route("/hooks", get(hooks::list).post(hooks::create))
        .route(
            "/hooks/{hook_id}",
            get(hooks::show_one).put(hooks::update).post(hooks::test).delete(hooks::delete),
        )
        .route(
            "/hooks/{hook_id}/custom_headers/{key}",
            put(hooks::put_header).delete(hooks::delete_header),
        )
        .route("/personal_access_tokens/self", get(tokens::show_self).delete(tokens::revoke_self))
        .route("/personal_access_tokens/self/rotate", post(tokens::rotate_self))
        .route("/personal_access_tokens/{id}/rotate", post(tokens::rotate))
}

const REVISION: &str = "5a4db0b00b5";

async fn version(call: Call) -> Result<Response, Refusal> {
    let (state, _) = call.enter(Access::Read)?;
    let number: Version = state.settings.version;
    let body = json!({ "version": number.number(), "revision": REVISION });
    Ok(Json(body).into_response())
}

async fn metadata(call: Call) -> Result<Response, Refusal> {
    let (state, _) = call.enter(Access::Read)?;
    let body = json!({
        "version": state.settings.version.number(),
        "revision": REVISION,
        "kas": { "enabled": false, "externalUrl": null, "version": null },
        "enterprise": true,
    });
    Ok(Json(body).into_response())
}

async fn no_route() -> Refusal {
    Refusal::error(StatusCode::NOT_FOUND, "404 Not Found")
}

async fn no_method() -> Refusal {
    Refusal::error(StatusCode::METHOD_NOT_ALLOWED, "405 Not Allowed")
}
