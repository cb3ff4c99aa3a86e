//! A job as a person looks it up, and the branch it ran on.
//!
//! Source: <https://docs.gitlab.com/api/jobs/#get-a-single-job>, <https://docs.gitlab.com/api/branches/#retrieve-a-repository-branch>

use super::{
    call::{Access, Call},
    errors::Refusal,
    job_protocol::show_job,
};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// `GET /projects/:id/jobs/:job_id`: more than the list of a runner's jobs has, and no word on whether its ref is
/// protected.
pub(super) async fn show_one(call: Call) -> Result<Response, Refusal> {
    let (state, caller) = call.enter(Access::Read)?;
    let project = state.project_for(&call, &caller)?;
    let id = call.id("job_id")?;
    let job = state.jobs.get(&id).filter(|job| job.project == project.id);
    let job =
        job.ok_or_else(|| Refusal::message(StatusCode::NOT_FOUND, "404 Not found".to_owned()))?;
    let mut body = show_job(&state, job);
    body["tag_list"] = json!(job.new.tags);
    let runner = job.runner.and_then(|id| state.runners.get(&id));
    body["runner"] = runner.map_or(Value::Null, |runner| {
        json!({ "id": runner.id, "description": runner.description, "paused": runner.paused })
    });
    body["runner_manager"] =
        job.system_id.as_ref().map_or(Value::Null, |id| json!({ "id": 1, "system_id": id }));
    Ok(Json(body).into_response())
}

/// `GET /projects/:id/repository/branches/:branch`: every project has `main`, which is protected, and `topic`.
pub(super) async fn branch(call: Call) -> Result<Response, Refusal> {
    let (state, caller) = call.enter(Access::Read)?;
    state.project_for(&call, &caller)?;
    let name = call.segment("branch");
    let protected = match name {
        "main" => true,
        "topic" => false,
        _ => return Err(Refusal::not_found("Branch")),
    };
    Ok(Json(json!({ "name": name, "protected": protected, "default": protected })).into_response())
}
