//! Projects over HTTP (gitlab.md §4).

use super::{
    call::{Access, Call, Caller},
    errors::Refusal,
    groups::{VISIBILITIES, accepted},
    limits::Counted,
    pagination,
    state::{State, milliseconds},
    tree::Project,
    users::{MAINTAINER, OWNER},
};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// `GET /projects`
pub(super) async fn list(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.visit()?;
    state.count(&caller, Counted::Projects)?;
    let ids = state.projects.keys().copied().collect();
    answer_list(&call, &state, &caller, ids)
}

/// `GET /projects/:id`; an old path leads on to where the project is now.
pub(super) async fn show_one(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.visit()?;
    state.count(&caller, Counted::Project)?;
    let project = match state.project_for(&call, &caller) {
        Ok(project) => project,
        Err(refusal) => {
            let old = state.old_project_paths.get(&call.segment("id").to_lowercase());
            let moved = old.and_then(|id| state.projects.get(id));
            let Some(moved) = moved.filter(|project| state.sees_project(&caller, project)) else {
                return Err(refusal);
            };
            let location = format!("{}/api/v4/projects/{}", state.settings.external_url, moved.id);
            let text = "This resource has been moved permanently";
            return Err(Refusal::message(StatusCode::MOVED_PERMANENTLY, text)
                .with_header("location", location));
        }
    };
    Ok(Json(show(&state, &caller, &project)).into_response())
}

/// `POST /projects`
pub(super) async fn create(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::Write)?;
    let parameters = &call.parameters;
    let name = parameters.text("name").or_else(|| parameters.text("path"));
    let name = name.ok_or_else(|| {
        Refusal::parameter("name, path are missing, at least one parameter must be provided")
    })?;
    let path = parameters.text("path").unwrap_or_else(|| name.to_lowercase().replace(' ', "-"));
    let visibility = parameters.word("visibility", &VISIBILITIES)?;
    let own = caller.user.and_then(|user| state.users.get(&user)).map(|user| user.namespace);
    let namespace = parameters.id("namespace_id")?.or(own);
    let namespace = namespace.ok_or_else(|| Refusal::not_found("Namespace"))?;
    if let Some(group) = state.groups.get(&namespace) {
        if !state.sees_group(&caller, group) {
            return Err(Refusal::not_found("Namespace"));
        }
        let may_add = caller.admin || state.group_level(&caller, namespace) >= MAINTAINER;
        if !may_add || state.is_archived(namespace) {
            let text = "You are not allowed to create projects in this namespace".to_owned();
            return Err(Refusal::invalid(&[("namespace", text)]));
        }
    } else if Some(namespace) != own && !caller.admin {
        return Err(Refusal::invalid(&[("namespace", "is not valid".to_owned())]));
    }
    let visibility = visibility.unwrap_or_else(|| "private".to_owned());
    let id = state.add_project(namespace, &path, &name, &visibility)?;
    Ok((StatusCode::CREATED, Json(shown(&state, &caller, id))).into_response())
}

/// `PUT /projects/:id`: `project_rename` for another path, else `project_update` whatever has changed.
pub(super) async fn update(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::Write)?;
    let project = state.project_for(&call, &caller)?;
    if !state.maintains_project(&caller, &project) {
        return Err(Refusal::forbidden());
    }
    let parameters = &call.parameters;
    let visibility = parameters.word("visibility", &VISIBILITIES)?;
    let shared = parameters.flag("shared_runners_enabled")?;
    let group = parameters.flag("group_runners_enabled")?;
    let renamed = match parameters.text("path") {
        Some(path) => state.set_project_path(project.id, &path)?,
        None => false,
    };
    let now = state.now;
    if let Some(project) = state.projects.get_mut(&project.id) {
        project.name = parameters.text("name").unwrap_or_else(|| project.name.clone());
        project.description =
            parameters.text("description").unwrap_or_else(|| project.description.clone());
        project.visibility = visibility.unwrap_or_else(|| project.visibility.clone());
        project.shared_runners_enabled = shared.unwrap_or(project.shared_runners_enabled);
        project.group_runners_enabled = group.unwrap_or(project.group_runners_enabled);
        project.updated_at = now;
    }
    state.wake_runners();
    if !renamed {
        state.emit_project("project_update", project.id, None);
    }
    Ok(Json(shown(&state, &caller, project.id)).into_response())
}

/// `DELETE /projects/:id`: schedules, or ends what is scheduled already.
pub(super) async fn delete(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::Write)?;
    let project = state.own_project_for(&call, &caller)?;
    if call.parameters.flag("permanently_remove")?.unwrap_or(false) {
        if project.doom.is_none() {
            return Err(Refusal::bad_request("Project must be marked for deletion first."));
        }
        if call.parameters.text("full_path") != Some(state.project_path(&project)) {
            let text =
                "`full_path` is incorrect. You must enter the complete path for the project.";
            return Err(Refusal::bad_request(text));
        }
        state.destroy_project(project.id);
    } else if project.doom.is_none() {
        state.schedule_project_deletion(project.id);
    }
    Ok(accepted())
}

/// `POST /projects/:id/restore`
pub(super) async fn restore(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::Write)?;
    let project = state.own_project_for(&call, &caller)?;
    state.restore_project(project.id)?;
    Ok((StatusCode::CREATED, Json(shown(&state, &caller, project.id))).into_response())
}

/// `POST /projects/:id/archive`
pub(super) async fn archive(call: Call) -> Result<Response, Refusal> {
    set_archived(&call, true)
}

/// `POST /projects/:id/unarchive`
pub(super) async fn unarchive(call: Call) -> Result<Response, Refusal> {
    set_archived(&call, false)
}

fn set_archived(call: &Call, archived: bool) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::Write)?;
    let project = state.own_project_for(call, &caller)?;
    state.set_project_archived(project.id, archived);
    Ok((StatusCode::CREATED, Json(shown(&state, &caller, project.id))).into_response())
}

/// `PUT /projects/:id/transfer`
pub(super) async fn transfer(call: Call) -> Result<Response, Refusal> {
    let (mut state, caller) = call.enter(Access::Write)?;
    let project = state.own_project_for(&call, &caller)?;
    let namespace = state.find_namespace(&call.parameters.required("namespace")?);
    let allowed = namespace
        .filter(|namespace| caller.admin || state.group_level(&caller, *namespace) >= MAINTAINER);
    let namespace = allowed.ok_or_else(|| Refusal::not_found("Namespace"))?;
    state.move_project(project.id, namespace)?;
    Ok(Json(shown(&state, &caller, project.id)).into_response())
}

/// The projects among `ids` that the caller may see and asks for; keyset pages in the order of ids if wanted.
pub(super) fn answer_list(
    call: &Call,
    state: &State,
    caller: &Caller,
    ids: Vec<u64>,
) -> Result<Response, Refusal> {
    let parameters = &call.parameters;
    let keyset = parameters.text("pagination").as_deref() == Some("keyset");
    let orders = ["id", "name", "path", "created_at", "updated_at", "last_activity_at"];
    let order = parameters.word("order_by", &orders)?;
    let ascending = parameters.word("sort", &["asc", "desc"])?.as_deref() == Some("asc");
    if keyset && order.as_deref() != Some("id") {
        let text = "Keyset pagination is not yet available for this type of request";
        return Err(Refusal::error(StatusCode::METHOD_NOT_ALLOWED, text));
    }
    let archived = parameters.flag("archived")?;
    let visibility = parameters.word("visibility", &VISIBILITIES)?;
    let membership = parameters.flag("membership")?.unwrap_or(false);
    let owned = parameters.flag("owned")?.unwrap_or(false);
    let marked_on = parameters.text("marked_for_deletion_on");
    let search = parameters.text("search").map(|text| text.to_lowercase());
    let (after, before) = (parameters.id("id_after")?, parameters.id("id_before")?);
    let mut projects: Vec<&Project> = ids
        .iter()
        .filter_map(|id| state.projects.get(id))
        .filter(|project| state.sees_project(caller, project))
        .filter(|project| after.is_none_or(|after| project.id > after))
        .filter(|project| before.is_none_or(|before| project.id < before))
        .filter(|project| archived.is_none_or(|wanted| project.archived == wanted))
        .filter(|project| visibility.as_ref().is_none_or(|wanted| project.visibility == *wanted))
        .filter(|project| !membership || state.project_level(caller, project) > 0)
        .filter(|project| !owned || state.project_level(caller, project) >= OWNER)
        .filter(|project| {
            marked_on.is_none()
                || project.doom.as_ref().map(|doom| doom.marked_on.to_string()) == marked_on
        })
        .filter(|project| {
            search.as_ref().is_none_or(|text| project.name.to_lowercase().contains(text))
        })
        .collect();
    match order.as_deref() {
        Some("name") => projects.sort_by(|one, other| one.name.cmp(&other.name)),
        Some("path") => projects.sort_by(|one, other| one.path.cmp(&other.path)),
        Some("updated_at") => projects.sort_by_key(|project| (project.updated_at, project.id)),
        Some(_) | None => projects.sort_by_key(|project| project.id),
    }
    if !ascending {
        projects.reverse();
    }
    let url = &state.settings.external_url;
    let simple = parameters.flag("simple")?.unwrap_or(false);
    let shown = |project: &&Project| {
        if simple { show_simple(state, project) } else { show(state, caller, project) }
    };
    if keyset {
        return pagination::keyset(call, url, &projects, ascending, |project| project.id, shown);
    }
    pagination::page(call, url, &projects, shown)
}

fn shown(state: &State, caller: &Caller, id: u64) -> Value {
    state.projects.get(&id).map(|project| show(state, caller, project)).unwrap_or_default()
}

/// Without runners and deletion.
pub(super) fn show_simple(state: &State, project: &Project) -> Value {
    let path = state.project_path(project);
    let url = &state.settings.external_url;
    let is_group = state.groups.contains_key(&project.namespace);
    let parent = state.groups.get(&project.namespace).and_then(|group| group.parent);
    let namespace_path = state.namespace_path(project.namespace);
    let namespace_name = state.namespace_name(project.namespace);
    let short = |text: &str, separator| text.rsplit(separator).next().unwrap_or(text).to_owned();
    json!({
        "id": project.id,
        "description": project.description,
        "name": project.name,
        "name_with_namespace": format!("{namespace_name} / {}", project.name),
        "path": project.path,
        "path_with_namespace": path,
        "created_at": milliseconds(project.created_at),
        "default_branch": "main",
        "ssh_url_to_repo": format!("git@gitlab:{path}.git"),
        "http_url_to_repo": format!("{url}/{path}.git"),
        "web_url": format!("{url}/{path}"),
        "last_activity_at": milliseconds(project.updated_at),
        "namespace": {
            "id": project.namespace,
            "name": short(&namespace_name, " / "),
            "path": short(&namespace_path, "/"),
            "kind": if is_group { "group" } else { "user" },
            "full_path": namespace_path,
            "parent_id": parent,
        },
    })
}

pub(super) fn show(state: &State, caller: &Caller, project: &Project) -> Value {
    let mut body = show_simple(state, project);
    let marked_on = project.doom.as_ref().map(|doom| doom.marked_on.to_string());
    body["archived"] = json!(state.is_project_archived(project));
    body["visibility"] = json!(project.visibility);
    body["empty_repo"] = json!(false);
    body["updated_at"] = json!(milliseconds(project.updated_at));
    body["shared_runners_enabled"] = json!(project.shared_runners_enabled);
    body["group_runners_enabled"] = json!(project.group_runners_enabled);
    body["runner_token_expiration_interval"] = Value::Null;
    body["marked_for_deletion_at"] = json!(marked_on);
    body["marked_for_deletion_on"] = json!(marked_on);
    if state.maintains_project(caller, project) {
        body["runners_token"] = json!(format!("GR1348941-sandbox-project-{}", project.id));
    }
    body
}
