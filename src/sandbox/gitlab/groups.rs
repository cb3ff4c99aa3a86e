//! Groups over HTTP (gitlab.md §4).

use super::{
    call::{Access, Call},
    errors::Refusal,
    group_list::{answer_list, changed, details, shown},
    limits::Counted,
    projects,
    state::{Chore, Task},
    users::{MAINTAINER, Membership, OWNER},
};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

pub(super) const VISIBILITIES: [&str; 3] = ["private", "internal", "public"];
const SHARED_RUNNERS_SETTINGS: [&str; 4] =
    ["enabled", "disabled_and_overridable", "disabled_with_override", "disabled_and_unoverridable"];

/// `GET /groups`
pub(super) async fn list(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.visit()?;
    state.count(&caller, Counted::Groups)?;
    let ids = state.groups.keys().copied().collect();
    answer_list(&call, &state, &caller, ids)
}

/// `GET /groups/:id/subgroups`
pub(super) async fn list_children(call: Call) -> Result<Response, Refusal> {
    let (state, caller) = call.visit()?;
    let group = state.group_for(&call, &caller)?;
    answer_list(&call, &state, &caller, state.children(Some(group.id)))
}

/// `GET /groups/:id/descendant_groups`
pub(super) async fn list_descendants(call: Call) -> Result<Response, Refusal> {
    let (state, caller) = call.visit()?;
    let group = state.group_for(&call, &caller)?;
    answer_list(&call, &state, &caller, state.descendants(group.id))
}

/// `GET /groups/:id`
pub(super) async fn show_one(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.visit()?;
    state.count(&caller, Counted::Group)?;
    let group = state.group_for(&call, &caller)?;
    let with_projects = call.parameters.flag("with_projects")?.unwrap_or(true);
    Ok(Json(details(&state, &caller, &group, with_projects)).into_response())
}

/// `GET /groups/:id/projects`
pub(super) async fn list_projects(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.visit()?;
    state.count(&caller, Counted::GroupProjects)?;
    let group = state.group_for(&call, &caller)?;
    let mut namespaces = vec![group.id];
    if call.parameters.flag("include_subgroups")?.unwrap_or(false) {
        namespaces.extend(state.descendants(group.id));
    }
    let inside = state.projects.values().filter(|project| namespaces.contains(&project.namespace));
    let ids = inside.map(|project| project.id).collect();
    projects::answer_list(&call, &state, &caller, ids)
}

/// `POST /groups`
pub(super) async fn create(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::Write)?;
    let parameters = &call.parameters;
    let missing: Vec<String> = ["name", "path"]
        .iter()
        .filter(|name| parameters.text(name).is_none())
        .map(|name| format!("{name} is missing"))
        .collect();
    if !missing.is_empty() {
        return Err(Refusal::parameter(missing.join(", ")));
    }
    let (name, path) = (parameters.required("name")?, parameters.required("path")?);
    let visibility = parameters.word("visibility", &VISIBILITIES)?;
    let parent = parameters.id("parent_id")?;
    if let Some(id) = parent {
        let parent = state.groups.get(&id).filter(|parent| state.sees_group(&caller, parent));
        parent.ok_or_else(|| Refusal::not_found("Group"))?;
        let may_add = caller.admin || state.group_level(&caller, id) >= MAINTAINER;
        if !may_add || state.is_archived(id) {
            return Err(Refusal::forbidden());
        }
    }
    let visibility = visibility.unwrap_or_else(|| "private".to_owned());
    let id = state.add_group(parent, &path, &name, &visibility)?;
    if let (Some(user), None) = (caller.user, parent) {
        state.set_member(user, Membership::Group(id), OWNER);
    }
    if let (Some(text), Some(group)) = (parameters.text("description"), state.groups.get_mut(&id)) {
        group.description = text;
    }
    let body = shown(&state, id);
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// `PUT /groups/:id`; only another path sends a hook.
pub(super) async fn update(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::Write)?;
    let group = state.own_group_for(&call, &caller)?;
    let parameters = &call.parameters;
    let visibility = parameters.word("visibility", &VISIBILITIES)?;
    let setting = parameters.word("shared_runners_setting", &SHARED_RUNNERS_SETTINGS)?;
    if let Some(path) = parameters.text("path") {
        state.set_group_path(group.id, &path)?;
    }
    let now = state.now;
    if let Some(group) = state.groups.get_mut(&group.id) {
        group.name = parameters.text("name").unwrap_or_else(|| group.name.clone());
        group.description =
            parameters.text("description").unwrap_or_else(|| group.description.clone());
        group.visibility = visibility.unwrap_or_else(|| group.visibility.clone());
        group.shared_runners_setting =
            setting.unwrap_or_else(|| group.shared_runners_setting.clone());
        group.updated_at = now;
    }
    Ok(Json(changed(&state, &caller, group.id)).into_response())
}

/// `DELETE /groups/:id`: schedules, or ends what is scheduled already.
pub(super) async fn delete(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::Write)?;
    let group = state.own_group_for(&call, &caller)?;
    if call.parameters.flag("permanently_remove")?.unwrap_or(false) {
        if group.parent.is_none() {
            return Err(Refusal::bad_request(
                "`permanently_remove` option is only available for subgroups.",
            ));
        }
        if group.doom.is_none() {
            return Err(Refusal::bad_request("Group must be marked for deletion first."));
        }
        let full_path = state.namespace_path(group.id);
        if call.parameters.text("full_path") != Some(full_path) {
            let text =
                "`full_path` is incorrect. You must enter the complete path for the subgroup.";
            return Err(Refusal::bad_request(text));
        }
        state.destroy_group(group.id);
    } else {
        state.schedule_group_deletion(group.id);
    }
    Ok(accepted())
}

/// `POST /groups/:id/restore`
pub(super) async fn restore(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::Write)?;
    let group = state.own_group_for(&call, &caller)?;
    state.restore_group(group.id)?;
    Ok((StatusCode::CREATED, Json(shown(&state, group.id))).into_response())
}

/// `POST /groups/:id/archive`
pub(super) async fn archive(call: Call) -> Result<Response, Refusal> {
    set_archived(&call, true)
}

/// `POST /groups/:id/unarchive`
pub(super) async fn unarchive(call: Call) -> Result<Response, Refusal> {
    set_archived(&call, false)
}

/// Since 18.0.
fn set_archived(call: &Call, archived: bool) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::Write)?;
    if !state.settings.version.is_from(18, 0) {
        return Err(Refusal::error(StatusCode::NOT_FOUND, "404 Not Found"));
    }
    let group = state.own_group_for(call, &caller)?;
    state.set_group_archived(group.id, archived)?;
    Ok(Json(changed(&state, &caller, group.id)).into_response())
}

/// `POST /groups/:id/transfer`; from version 19 on the answer comes before the move.
pub(super) async fn transfer(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::Write)?;
    let group = state.own_group_for(&call, &caller)?;
    let parent = call.parameters.id("group_id")?;
    if parent.is_some_and(|parent| !state.owns_group(&caller, parent)) {
        return Err(Refusal::not_found("Group"));
    }
    state.check_move(group.id, parent)?;
    if state.settings.version.is_from(19, 0) {
        let at = state.now;
        state.tasks.push(Task { at, what: Chore::MoveGroup { group: group.id, parent } });
    } else {
        state.move_group(group.id, parent);
    }
    Ok((StatusCode::CREATED, Json(shown(&state, group.id))).into_response())
}

pub(super) fn accepted() -> Response {
    (StatusCode::ACCEPTED, Json(json!({ "message": "202 Accepted" }))).into_response()
}
