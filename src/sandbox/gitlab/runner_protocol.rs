//! What a runner says with its own token (runner-observed.md §8, gitlab.md §3.5 to §3.9).

use super::{
    call::Call,
    errors::Refusal,
    job_protocol::hand_over,
    parameters::Parameters,
    runner_api::answer_reset,
    runners::{Info, Owner},
    state::{State, digest, milliseconds},
};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;
use std::sync::MutexGuard;

/// Where callers are filed that do not say who they are.
const LEGACY: &str = "<legacy>";
const SYSTEM_ID_CHARS_MAX: usize = 64;

/// `POST /runners/verify`; counts as a contact.
pub(super) async fn verify(call: Call) -> Result<Response, Refusal> {
    let (mut state, id, token) = enter(&call)?;
    if state.runners.get(&id).is_some_and(|runner| runner.owner == Owner::Nobody) {
        return Err(Refusal::unprocessable("Runner is orphaned"));
    }
    contact(&mut state, id, &call.parameters)?;
    let expires_at = state.runners.get(&id).and_then(|runner| runner.token_expires_at);
    let body =
        json!({ "id": id, "token": token, "token_expires_at": expires_at.map(milliseconds) });
    Ok(Json(body).into_response())
}

/// `POST /runners/reset_authentication_token`, by the runner itself.
pub(super) async fn reset_own(call: Call) -> Result<Response, Refusal> {
    let (mut state, id, _) = enter(&call)?;
    contact(&mut state, id, &call.parameters)?;
    answer_reset(&mut state, id)
}

/// `DELETE /runners`, by the runner itself.
pub(super) async fn unregister(call: Call) -> Result<StatusCode, Refusal> {
    let (mut state, id, _) = enter(&call)?;
    state.delete_runner(id);
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /runners/managers`: takes one manager off the runner.
pub(super) async fn remove_manager(call: Call) -> Result<StatusCode, Refusal> {
    let (mut state, id, _) = enter(&call)?;
    let system_id = call.parameters.required("system_id")?;
    let runner = state.runners.get_mut(&id).ok_or_else(Refusal::forbidden)?;
    let known = runner.managers.iter().position(|manager| manager.system_id == system_id);
    let at = known.ok_or_else(|| Refusal::not_found("Runner manager"))?;
    runner.managers.remove(at);
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /runners`: registration tokens are switched off.
pub(super) async fn register() -> Refusal {
    let text =
        "410 Gone - Runner registration disallowed. Please use runner authentication tokens.";
    Refusal::message(StatusCode::GONE, text)
}

/// `POST /jobs/request`: a job (201), none (204) or no (403).
///
/// `X-GitLab-Last-Update` is the state of the queue in which nothing was found; a runner that sends it back as
/// `last_update` gets its 204 without another look until something changes.
pub(super) async fn request_job(call: Call) -> Result<Response, Refusal> {
    let (mut state, id, _) = enter(&call)?;
    let system_id = contact(&mut state, id, &call.parameters)?;
    let queue = digest(&format!("queue {} {id}", state.queue_version));
    let none = || (StatusCode::NO_CONTENT, [("x-gitlab-last-update", queue.clone())]);
    let runner = state.runners.get_mut(&id).ok_or_else(Refusal::forbidden)?;
    runner.finished = true;
    if runner.paused || call.parameters.text("last_update").as_ref() == Some(&queue) {
        return Ok(none().into_response());
    }
    let runner = runner.clone();
    let Some(job) = state.next_job_for(&runner) else { return Ok(none().into_response()) };
    let body = hand_over(&mut state, job, &runner, &system_id);
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// The runner whose token is in the body, else in the header.
fn enter(call: &Call) -> Result<(MutexGuard<'_, State>, u64, String), Refusal> {
    let header = || call.header("runner-token").map(ToOwned::to_owned);
    let token = call.parameters.text("token").or_else(header);
    let token = token.ok_or_else(|| Refusal::parameter("token is missing"))?;
    let state = call.state();
    let id = state.runner_of(&token).ok_or_else(Refusal::forbidden)?;
    Ok((state, id, token))
}

fn contact(state: &mut State, id: u64, parameters: &Parameters) -> Result<String, Refusal> {
    let system_id = parameters.text("system_id").unwrap_or_else(|| LEGACY.to_owned());
    if system_id.chars().count() > SYSTEM_ID_CHARS_MAX {
        return Err(Refusal::parameter("system_id is too long"));
    }
    let info = parameters.value("info");
    let text = |name: &str| info.and_then(|info| info[name].as_str()).map(ToOwned::to_owned);
    let info = Info {
        version: text("version"),
        revision: text("revision"),
        platform: text("platform"),
        architecture: text("architecture"),
    };
    state.contact(id, &system_id, info);
    Ok(system_id)
}
