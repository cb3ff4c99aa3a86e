//! Which groups a list has, and how a group is shown.

use super::{
    call::{Call, Caller},
    errors::Refusal,
    groups::VISIBILITIES,
    pagination, projects,
    state::{State, milliseconds},
    tree::Group,
    users::OWNER,
};
use axum::response::Response;
use serde_json::{Value, json};

pub(super) fn answer_list(
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
    let version = state.settings.version;
    let active = parameters.flag("active")?.filter(|_| version.is_from(18, 0));
    let archived = parameters.flag("archived")?.filter(|_| version.is_from(18, 2));
    let marked_on = parameters.text("marked_for_deletion_on");
    let marked_on = marked_on.filter(|_| version.is_from(17, 1));
    let search = parameters.text("search").map(|text| text.to_lowercase());
    let skipped = parameters.list("skip_groups").unwrap_or_default();
    let mut groups: Vec<&Group> = ids
        .iter()
        .filter_map(|id| state.groups.get(id))
        .filter(|group| state.sees_group(caller, group))
        .filter(|group| !top_level || group.parent.is_none())
        .filter(|group| !owned || state.group_level(caller, group.id) >= OWNER)
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

/// A group after a change of its settings: with its projects and, for owners, its registration token.
pub(super) fn changed(state: &State, caller: &Caller, id: u64) -> Value {
    let group = state.groups.get(&id);
    group.map(|group| details(state, caller, group, true)).unwrap_or_default()
}

/// A group that was just made, moved or restored: as lists have it, for owners too.
pub(super) fn shown(state: &State, id: u64) -> Value {
    state.groups.get(&id).map(|group| show(state, group)).unwrap_or_default()
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
    if state.settings.version.is_from(18, 0) {
        body["archived"] = json!(state.is_archived(group.id));
    }
    body
}

/// One group by itself; owners also get its registration token of old times, which is a secret.
pub(super) fn details(state: &State, caller: &Caller, group: &Group, with_projects: bool) -> Value {
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
