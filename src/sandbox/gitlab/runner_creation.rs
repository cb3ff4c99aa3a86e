//! `POST /user/runners` (gitlab.md §3.1): not idempotent, and the only answer that has the token.

use super::{
    call::{Access, Call, Caller},
    errors::Refusal,
    parameters::Parameters,
    runners::{Owner, Runner, RunnerKind},
    state::{Kind, State, digest, milliseconds},
};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

pub(super) async fn create(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::CreateRunner)?;
    let (kind, id) = scope(&call.parameters)?;
    let mut runner = read(&state, &caller, &call.parameters, kind)?;
    runner.owner = find_owner(&state, kind, id)?;
    if !may_create(&state, &caller, runner.owner) {
        return Err(Refusal::forbidden_because("Insufficient permissions"));
    }
    if let Owner::Project(project) = runner.owner {
        runner.projects = vec![project];
    }
    let problems = runner.problems();
    if !problems.is_empty() {
        return Err(Refusal::bad_request(&sentence(&problems)));
    }
    if let (Owner::Group(_), Some(most)) = (runner.owner, state.group_runners_max)
        && state.runners.values().filter(|one| one.owner == runner.owner).count() >= most
    {
        let why = format!("Maximum number of ci registered group runners ({most}) exceeded");
        return Err(Refusal::bad_request(&why));
    }
    let token = state.runner_token(kind);
    runner.id = state.next_id(Kind::Runner);
    runner.digest = digest(&token);
    let body = json!({
        "id": runner.id,
        "token": token,
        "token_expires_at": runner.token_expires_at.map(milliseconds),
    });
    state.runners.insert(runner.id, runner);
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// The type, and the id that goes with it; all complaints come at once.
fn scope(parameters: &Parameters) -> Result<(RunnerKind, Option<u64>), Refusal> {
    let mut problems = Vec::new();
    let kind = match parameters.text("runner_type").as_deref() {
        Some("instance_type") => Some(RunnerKind::Instance),
        Some("group_type") => Some(RunnerKind::Group),
        Some("project_type") => Some(RunnerKind::Project),
        Some(_) => {
            problems.push("runner_type does not have a valid value".to_owned());
            None
        }
        None => {
            problems.push("runner_type is missing".to_owned());
            None
        }
    };
    let mut id = |name: &str, needed: bool| match parameters.id(name) {
        Ok(None) if needed => {
            problems.push(format!("{name} is missing"));
            None
        }
        Ok(id) => id,
        Err(_) => {
            problems.push(format!("{name} is invalid"));
            None
        }
    };
    let group = id("group_id", kind == Some(RunnerKind::Group));
    let project = id("project_id", kind == Some(RunnerKind::Project));
    match kind {
        Some(RunnerKind::Instance) if problems.is_empty() => Ok((RunnerKind::Instance, None)),
        Some(RunnerKind::Group) if problems.is_empty() => Ok((RunnerKind::Group, group)),
        Some(RunnerKind::Project) if problems.is_empty() => Ok((RunnerKind::Project, project)),
        Some(_) | None => Err(Refusal::parameter(problems.join(", "))),
    }
}

/// A runner without id, owner and token.
fn read(
    state: &State,
    caller: &Caller,
    parameters: &Parameters,
    kind: RunnerKind,
) -> Result<Runner, Refusal> {
    let access = parameters.word("access_level", &["not_protected", "ref_protected"])?;
    Ok(Runner {
        id: 0,
        kind,
        owner: Owner::Instance,
        projects: Vec::new(),
        description: parameters.text("description").unwrap_or_default(),
        maintenance_note: parameters.text("maintenance_note").unwrap_or_default(),
        paused: parameters.flag("paused")?.unwrap_or(false),
        locked: parameters.flag("locked")?.unwrap_or(false),
        ref_protected: access.as_deref() == Some("ref_protected"),
        run_untagged: parameters.flag("run_untagged")?.unwrap_or(true),
        tags: parameters.list("tag_list").unwrap_or_default(),
        maximum_timeout: parameters.integer("maximum_timeout")?,
        digest: String::new(),
        token_expires_at: state.runner_token_expiry(),
        creator: caller.user,
        created_at: state.now,
        updated_at: state.now,
        contacted_at: None,
        contacted_at_stored: None,
        finished: false,
        managers: Vec::new(),
    })
}

fn find_owner(state: &State, kind: RunnerKind, id: Option<u64>) -> Result<Owner, Refusal> {
    match kind {
        RunnerKind::Instance => Ok(Owner::Instance),
        RunnerKind::Group => id
            .filter(|id| state.groups.contains_key(id))
            .map(Owner::Group)
            .ok_or_else(|| Refusal::bad_request("Missing/invalid group")),
        RunnerKind::Project => id
            .filter(|id| state.projects.contains_key(id))
            .map(Owner::Project)
            .ok_or_else(|| Refusal::bad_request("Missing/invalid project")),
    }
}

/// Nobody in what is archived, administrators included; scheduled for deletion is no obstacle.
fn may_create(state: &State, caller: &Caller, owner: Owner) -> bool {
    let allowed = state.settings.registration_allowed;
    match owner {
        Owner::Instance => caller.admin,
        Owner::Group(group) => {
            !state.is_archived(group)
                && (caller.admin || (allowed && state.owns_group(caller, group)))
        }
        Owner::Project(project) => state.projects.get(&project).is_some_and(|project| {
            !state.is_project_archived(project)
                && (caller.admin || (allowed && state.maintains_project(caller, project)))
        }),
        Owner::Nobody => false,
    }
}

/// `Tags list can not be empty …`, several joined as one would say them.
fn sentence(problems: &[(&'static str, String)]) -> String {
    let full: Vec<String> = problems
        .iter()
        .map(|(field, text)| {
            let words = field.replace('_', " ");
            let (first, rest) = words.split_at(1);
            format!("{}{rest} {text}", first.to_uppercase())
        })
        .collect();
    match full.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [one, other] => format!("{one} and {other}"),
        [others @ .., last] => format!("{}, and {last}", others.join(", ")),
    }
}
