//! One runner over HTTP: read, change, delete, reset (gitlab.md §3.3 to §3.7).

use super::{
    call::{Access, Call, Caller},
    errors::Refusal,
    job_protocol::show_job,
    jobs::Job,
    pagination,
    parameters::Parameters,
    projects,
    runner_lists::show,
    runner_status::Status,
    runners::{Owner, Runner, RunnerEdit},
    state::{State, milliseconds},
};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

const CHANGEABLE: [&str; 9] = [
    "description",
    "active",
    "paused",
    "tag_list",
    "run_untagged",
    "locked",
    "access_level",
    "maximum_timeout",
    "maintenance_note",
];

/// `GET /runners/:id`
pub(super) async fn show_one(call: Call) -> Result<Response, Refusal> {
    let (state, caller) = call.enter(Access::ReadRunner)?;
    let runner = readable(&state, &caller, &call)?;
    let include_projects = call.parameters.flag("include_projects")?.unwrap_or(true);
    Ok(Json(details(&state, &caller, runner, include_projects)).into_response())
}

/// `PUT /runners/:id`; the answer has no `projects`.
pub(super) async fn update(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::WriteRunner)?;
    let id = changeable(&state, &caller, &call)?.id;
    let edit = read_edit(&call.parameters)?;
    state.edit_runner(id, edit)?;
    let runner = state.runners.get(&id).ok_or_else(|| state.no_runner())?;
    Ok(Json(details(&state, &caller, runner, false)).into_response())
}

/// `DELETE /runners/:id`
pub(super) async fn delete(call: Call) -> Result<StatusCode, Refusal> {
    let (mut state, caller) = call.enter(Access::WriteRunner)?;
    let runner = changeable(&state, &caller, &call)?;
    if !caller.admin && runner.projects.len() > 1 {
        let text = "Runner associated with more than one project";
        return Err(Refusal::forbidden_because(text));
    }
    let unmodified_since = call.header("if-unmodified-since");
    let since = unmodified_since.and_then(|text| jiff::fmt::rfc2822::parse(text).ok());
    if since.is_some_and(|since| runner.updated_at.as_second() > since.timestamp().as_second()) {
        let text = "412 Precondition Failed";
        return Err(Refusal::message(StatusCode::PRECONDITION_FAILED, text));
    }
    let id = runner.id;
    state.delete_runner(id);
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /runners/:id/reset_authentication_token`: the old token is dead when the new one is known.
pub(super) async fn reset(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::WriteRunner)?;
    let id = changeable(&state, &caller, &call)?.id;
    answer_reset(&mut state, id)
}

pub(super) fn answer_reset(state: &mut State, id: u64) -> Result<Response, Refusal> {
    let token = state.reset_runner_token(id).ok_or_else(Refusal::forbidden)?;
    let expires_at = state.runners.get(&id).and_then(|runner| runner.token_expires_at);
    let body = json!({ "token": token, "token_expires_at": expires_at.map(milliseconds) });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// `GET /runners/:id/managers`, all at once.
pub(super) async fn managers(call: Call) -> Result<Response, Refusal> {
    let (state, caller) = call.enter(Access::ReadRunner)?;
    if !state.settings.version.is_from(17, 0) {
        return Err(Refusal::error(StatusCode::NOT_FOUND, "404 Not Found"));
    }
    let runner = readable(&state, &caller, &call)?;
    let shown: Vec<Value> = runner
        .managers
        .iter()
        .map(|manager| {
            let seen = Some(manager.contacted_at);
            let busy = state.jobs.values().any(|job| {
                job.runner == Some(runner.id)
                    && job.system_id.as_deref() == Some(&manager.system_id)
                    && job.status.is_on_runner()
            });
            let mut shown = json!({
                "id": manager.id,
                "system_id": manager.system_id,
                "version": manager.info.version,
                "revision": manager.info.revision,
                "platform": manager.info.platform,
                "architecture": manager.info.architecture,
                "created_at": milliseconds(manager.created_at),
                "contacted_at": milliseconds(manager.contacted_at),
                "ip_address": "127.0.0.1",
                "status": Status::of(manager.created_at, seen, state.now).word(),
            });
            if state.settings.version.tells_work() {
                shown["job_execution_status"] = json!(if busy { "active" } else { "idle" });
            }
            shown
        })
        .collect();
    Ok(Json(shown).into_response())
}

/// `GET /runners/:id/jobs`, newest first unless asked otherwise.
pub(super) async fn jobs(call: Call) -> Result<Response, Refusal> {
    let (state, caller) = call.enter(Access::ReadRunner)?;
    let runner = readable(&state, &caller, &call)?;
    let status = call.parameters.text("status");
    let system_id = call.parameters.text("system_id");
    let ascending = call.parameters.word("sort", &["asc", "desc"])?.as_deref() == Some("asc");
    let sees = |job: &Job| {
        let project = state.projects.get(&job.project);
        project.is_some_and(|project| state.sees_project(&caller, project))
    };
    let mut jobs: Vec<&Job> = state
        .jobs
        .values()
        .filter(|job| job.runner == Some(runner.id) && sees(job))
        .filter(|job| status.as_ref().is_none_or(|word| job.status.word() == word))
        .filter(|job| system_id.is_none() || job.system_id == system_id)
        .collect();
    if !ascending {
        jobs.reverse();
    }
    pagination::page(&call, &state.settings.external_url, &jobs, |job| show_job(&state, job))
}

/// `POST /projects/:id/runners`: lets another project have a project runner.
pub(super) async fn enable(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::Write)?;
    let project = state.project_for(&call, &caller)?;
    let id = call.parameters.id("runner_id")?;
    let id = id.ok_or_else(|| Refusal::parameter("runner_id is missing"))?;
    let runner = state.runners.get(&id).ok_or_else(|| state.no_runner())?;
    if !matches!(runner.owner, Owner::Project(_)) {
        return Err(Refusal::forbidden_because("Runner is not a project runner"));
    }
    if runner.locked {
        return Err(Refusal::forbidden_because("Runner is locked"));
    }
    if !state.maintains_project(&caller, &project) || !state.may_change_runner(&caller, runner) {
        return Err(Refusal::forbidden_because("No access granted"));
    }
    if runner.projects.contains(&project.id) {
        let text = "has already been taken".to_owned();
        return Err(Refusal::invalid(&[("runner_id", text)]));
    }
    if let Some(runner) = state.runners.get_mut(&id) {
        runner.projects.push(project.id);
    }
    state.wake_runners();
    let runner = state.runners.get(&id).ok_or_else(|| state.no_runner())?;
    Ok((StatusCode::CREATED, Json(show(&state, &caller, runner))).into_response())
}

/// `DELETE /projects/:id/runners/:runner_id`; the first project cannot let go of it.
pub(super) async fn disable(call: Call) -> Result<StatusCode, Refusal> {
    let (mut state, caller) = call.enter(Access::Write)?;
    let project = state.project_for(&call, &caller)?;
    let id = call.id("runner_id")?;
    let runner = state.runners.get(&id).ok_or_else(|| state.no_runner())?;
    if !runner.projects.contains(&project.id) {
        return Err(state.no_runner());
    }
    if !state.maintains_project(&caller, &project) {
        return Err(Refusal::forbidden());
    }
    if runner.owner == Owner::Project(project.id) {
        let text = "Only one project associated with the runner. Please remove the runner instead";
        return Err(Refusal::forbidden_because(text));
    }
    if let Some(runner) = state.runners.get_mut(&id) {
        runner.projects.retain(|other| *other != project.id);
    }
    Ok(StatusCode::NO_CONTENT)
}

fn readable<'a>(state: &'a State, caller: &Caller, call: &Call) -> Result<&'a Runner, Refusal> {
    let runner = state.runners.get(&call.id("id")?).ok_or_else(|| state.no_runner())?;
    let may = state.may_read_runner(caller, runner);
    if may { Ok(runner) } else { Err(Refusal::forbidden_because("No access granted")) }
}

fn changeable<'a>(state: &'a State, caller: &Caller, call: &Call) -> Result<&'a Runner, Refusal> {
    let runner = state.runners.get(&call.id("id")?).ok_or_else(|| state.no_runner())?;
    let may = state.may_change_runner(caller, runner);
    if may { Ok(runner) } else { Err(Refusal::forbidden_because("No access granted")) }
}

fn read_edit(parameters: &Parameters) -> Result<RunnerEdit, Refusal> {
    if !CHANGEABLE.iter().any(|name| parameters.has(name)) {
        let names = CHANGEABLE.join(", ");
        let text = format!("{names} are missing, at least one parameter must be provided");
        return Err(Refusal::parameter(text));
    }
    if parameters.has("active") && parameters.has("paused") {
        return Err(Refusal::parameter("active, paused are mutually exclusive"));
    }
    let access = parameters.word("access_level", &["not_protected", "ref_protected"])?;
    let timeout = parameters.integer("maximum_timeout")?;
    Ok(RunnerEdit {
        description: parameters.text("description"),
        maintenance_note: parameters.text("maintenance_note"),
        paused: parameters.flag("paused")?.or(parameters.flag("active")?.map(|active| !active)),
        locked: parameters.flag("locked")?,
        ref_protected: access.map(|word| word == "ref_protected"),
        run_untagged: parameters.flag("run_untagged")?,
        tags: parameters.list("tag_list"),
        maximum_timeout_seconds: parameters.has("maximum_timeout").then_some(timeout),
    })
}

/// A list element and all the rest; never the token, nor when it expires.
fn details(state: &State, caller: &Caller, runner: &Runner, include_projects: bool) -> Value {
    let mut body = show(state, caller, runner);
    let latest = runner.managers.iter().max_by_key(|manager| (manager.contacted_at, manager.id));
    let info = latest.map(|manager| manager.info.clone()).unwrap_or_default();
    let may_change = state.may_change_runner(caller, runner);
    body["tag_list"] = json!(runner.tags);
    body["run_untagged"] = json!(runner.run_untagged);
    body["locked"] = json!(runner.locked);
    body["maximum_timeout"] = json!(runner.maximum_timeout);
    body["access_level"] = json!(access_level(runner));
    body["version"] = json!(info.version);
    body["revision"] = json!(info.revision);
    body["platform"] = json!(info.platform);
    body["architecture"] = json!(info.architecture);
    body["contacted_at"] = json!(runner.contacted_at.map(milliseconds));
    let note = Some(&runner.maintenance_note).filter(|note| may_change && !note.is_empty());
    body["maintenance_note"] = json!(note);
    if include_projects {
        let owned = runner.projects.iter().filter_map(|id| state.projects.get(id));
        let seen = owned.filter(|project| state.sees_project(caller, project));
        let shown: Vec<Value> = seen.map(|project| projects::show_simple(state, project)).collect();
        body["projects"] = json!(shown);
    }
    let group = match runner.owner {
        Owner::Group(group) => state.groups.get(&group),
        Owner::Instance | Owner::Project(_) | Owner::Nobody => None,
    };
    let seen = group.filter(|group| state.sees_group(caller, group));
    let shown: Vec<Value> = seen
        .map(|group| {
            let path = state.namespace_path(group.id);
            let web_url = format!("{}/groups/{path}", state.settings.external_url);
            json!({ "id": group.id, "web_url": web_url, "name": group.name })
        })
        .into_iter()
        .collect();
    body["groups"] = json!(shown);
    body
}

pub(super) fn access_level(runner: &Runner) -> &'static str {
    if runner.ref_protected { "ref_protected" } else { "not_protected" }
}
