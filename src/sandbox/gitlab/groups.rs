//! Groups over HTTP (gitlab.md §4).

use super::{
    Version,
    call::{Access, Call, Caller},
    errors::Refusal,
    limits::Counted,
    pagination, projects,
    state::{Chore, State, Task, milliseconds},
    tree::Group,
    users::MAINTAINER,
};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

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
        state.set_member(user, super::users::Membership::Group(id), super::users::OWNER);
    }
    if let (Some(text), Some(group)) = (parameters.text("description"), state.groups.get_mut(&id)) {
        group.description = text;
    }
    let body = shown(&state, &caller, id);
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
    Ok(Json(shown(&state, &caller, group.id)).into_response())
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
    Ok((StatusCode::CREATED, Json(shown(&state, &caller, group.id))).into_response())
}

/// `POST /groups/:id/archive`
pub(super) async fn archive(call: Call) -> Result<Response, Refusal> {
    set_archived(&call, true)
}

/// `POST /groups/:id/unarchive`
pub(super) async fn unarchive(call: Call) -> Result<Response, Refusal> {
    set_archived(&call, false)
}

fn set_archived(call: &Call, archived: bool) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::Write)?;
    let group = state.own_group_for(call, &caller)?;
    state.set_group_archived(group.id, archived)?;
    Ok(Json(shown(&state, &caller, group.id)).into_response())
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
    if state.settings.version >= Version::V19 {
        let at = state.now;
        state.tasks.push(Task { at, what: Chore::MoveGroup { group: group.id, parent } });
    } else {
        state.move_group(group.id, parent);
    }
    Ok((StatusCode::CREATED, Json(shown(&state, &caller, group.id))).into_response())
}

pub(super) fn accepted() -> Response {
    (StatusCode::ACCEPTED, Json(json!({ "message": "202 Accepted" }))).into_response()
}

fn answer_list(
    call: &Call,
    state: &State,
    caller: &Caller,
    ids: Vec<u64>,
) -> Result<Response, Refusal> {
    let parameters = &call.parameters;
    let order = parameters.word("order_by", &["name", "path", "id", "similarity"])?;
    let sort = parameters.word("sort", &["asc", "desc"])?;
    let visibility = parameters.word("visibility", &VISIBILITIES)?;
    let top_level = parameters.flag("top_level_only")?.unwrap_or(false);
    let owned = parameters.flag("owned")?.unwrap_or(false);
    let all_available = parameters.flag("all_available")?.unwrap_or(caller.admin);
    let level_min = parameters.integer("min_access_level")?;
    let modern = state.settings.version >= Version::V18;
    let active = parameters.flag("active")?.filter(|_| modern);
    let archived = parameters.flag("archived")?.filter(|_| modern);
    let marked_on = parameters.text("marked_for_deletion_on");
    let search = parameters.text("search").map(|text| text.to_lowercase());
    let skipped = parameters.list("skip_groups").unwrap_or_default();
    let mut groups: Vec<&Group> = ids
        .iter()
        .filter_map(|id| state.groups.get(id))
        .filter(|group| state.sees_group(caller, group))
        .filter(|group| !top_level || group.parent.is_none())
        .filter(|group| !owned || state.group_level(caller, group.id) >= super::users::OWNER)
        .filter(|group| {
            let member = state.group_level(caller, group.id) > 0;
            all_available || caller.user.is_none() || member
        })
        .filter(|group| {
            level_min.is_none_or(|least| i64::from(state.group_level(caller, group.id)) >= least)
        })
        .filter(|group| visibility.as_ref().is_none_or(|wanted| group.visibility == *wanted))
        .filter(|group| {
            active.is_none_or(|wanted| {
                wanted != (state.is_archived(group.id) || state.is_doomed(group.id))
            })
        })
        .filter(|group| archived.is_none_or(|wanted| state.is_archived(group.id) == wanted))
        .filter(|group| {
            marked_on.is_none()
                || group.doom.as_ref().map(|doom| doom.marked_on.to_string()) == marked_on
        })
        .filter(|group| {
            search.as_ref().is_none_or(|text| {
                group.name.to_lowercase().contains(text) || group.path.to_lowercase().contains(text)
            })
        })
        .filter(|group| !skipped.contains(&group.id.to_string()))
        .collect();
    match order.as_deref() {
        Some("id") => groups.sort_by_key(|group| group.id),
        Some("path") => {
            groups.sort_by(|one, other| (&one.path, one.id).cmp(&(&other.path, other.id)))
        }
        Some(_) | None => {
            groups.sort_by(|one, other| (&one.name, one.id).cmp(&(&other.name, other.id)))
        }
    }
    if sort.as_deref() == Some("desc") {
        groups.reverse();
    }
    pagination::page(call, &state.settings.external_url, &groups, |group| show(state, group))
}

fn shown(state: &State, caller: &Caller, id: u64) -> Value {
    let group = state.groups.get(&id);
    group.map(|group| details(state, caller, group, true)).unwrap_or_default()
}

/// One group as lists have it.
fn show(state: &State, group: &Group) -> Value {
    let full_path = state.namespace_path(group.id);
    let mut body = json!({
        "id": group.id,
        "web_url": format!("{}/groups/{full_path}", state.settings.external_url),
        "name": group.name,
        "path": group.path,
        "description": group.description,
        "visibility": group.visibility,
        "share_with_group_lock": false,
        "require_two_factor_authentication": false,
        "two_factor_grace_period": 48,
        "project_creation_level": "developer",
        "auto_devops_enabled": null,
        "subgroup_creation_level": "maintainer",
        "emails_disabled": false,
        "emails_enabled": true,
        "mentions_disabled": null,
        "lfs_enabled": true,
        "default_branch": null,
        "request_access_enabled": true,
        "full_name": state.namespace_name(group.id),
        "full_path": full_path,
        "created_at": milliseconds(group.created_at),
        "parent_id": group.parent,
        "organization_id": 1,
        "shared_runners_setting": group.shared_runners_setting,
        "avatar_url": null,
        "marked_for_deletion_on": group.doom.as_ref().map(|doom| doom.marked_on.to_string()),
    });
    if state.settings.version >= Version::V18 {
        body["archived"] = json!(state.is_archived(group.id));
    }
    body
}

/// One group by itself; owners also get its registration token of old times, which is a secret.
fn details(state: &State, caller: &Caller, group: &Group, with_projects: bool) -> Value {
    let mut body = show(state, group);
    if state.owns_group(caller, group.id) {
        body["runners_token"] = json!(format!("GR1348941-sandbox-group-{}", group.id));
    }
    if with_projects {
        let ids = state.projects_of(group.id);
        let shown = ids.iter().filter_map(|id| state.projects.get(id));
        let seen = shown.filter(|project| state.sees_project(caller, project));
        let embedded: Vec<Value> =
            seen.take(100).map(|project| projects::show(state, caller, project)).collect();
        body["projects"] = json!(embedded);
        body["shared_projects"] = json!([]);
    }
    body
}
