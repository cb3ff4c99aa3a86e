//! The whole state as JSON. Tokens are digests already; secrets of hooks are only said to be there.

use super::{Gitlab, Version, hooks, runner_view, state::State};
use jiff::Timestamp;
use serde_json::{Value, json};

impl Gitlab {
    /// All that the instance knows, sorted by id; it holds no secret.
    pub fn dump(&self) -> Value {
        let state = self.lock();
        json!({
            "version": state.settings.version.number(),
            "now": state.now,
            "users": users(&state),
            "groups": groups(&state),
            "projects": projects(&state),
            "runners": state.runners.values().map(runner_view::view).collect::<Vec<_>>(),
            "jobs": jobs(&state),
            "access_tokens": access_tokens(&state),
            "hooks": state.hooks.values().map(|hook| hooks::show(hook, Version::V19)).collect::<Vec<_>>(),
            "waiting_deliveries": waiting(&state),
            "deliveries": state.deliveries,
        })
    }
}

fn users(state: &State) -> Vec<Value> {
    let show = |user: &super::users::User| {
        let groups: Vec<Value> = state
            .members
            .iter()
            .filter(|member| member.user == user.id)
            .map(|member| json!({ "of": format!("{:?}", member.of), "level": member.level }))
            .collect();
        json!({
            "id": user.id,
            "username": user.username,
            "admin": user.admin,
            "blocked": user.blocked,
            "namespace_id": user.namespace,
            "memberships": groups,
        })
    };
    state.users.values().map(show).collect()
}

fn groups(state: &State) -> Vec<Value> {
    let show = |group: &super::tree::Group| {
        json!({
            "id": group.id,
            "parent_id": group.parent,
            "full_path": state.namespace_path(group.id),
            "name": group.name,
            "visibility": group.visibility,
            "archived": group.archived,
            "marked_for_deletion_on": group.doom.as_ref().map(|doom| doom.marked_on),
        })
    };
    state.groups.values().map(show).collect()
}

fn projects(state: &State) -> Vec<Value> {
    let show = |project: &super::tree::Project| {
        json!({
            "id": project.id,
            "namespace_id": project.namespace,
            "path_with_namespace": state.project_path(project),
            "visibility": project.visibility,
            "archived": project.archived,
            "marked_for_deletion_on": project.doom.as_ref().map(|doom| doom.marked_on),
        })
    };
    state.projects.values().map(show).collect()
}

/// Traces stay out: a job may print anything.
fn jobs(state: &State) -> Vec<Value> {
    let show = |job: &super::jobs::Job| {
        json!({
            "id": job.id,
            "project_id": job.project,
            "name": job.new.name,
            "tags": job.new.tags,
            "status": job.status,
            "runner_id": job.runner,
            "failure_reason": job.failure_reason,
            "trace_bytes": job.trace.len(),
        })
    };
    state.jobs.values().map(show).collect()
}

fn access_tokens(state: &State) -> Vec<Value> {
    let show = |token: &super::tokens::AccessToken| {
        json!({
            "id": token.id,
            "user_id": token.user,
            "scopes": token.scopes,
            "sha256": token.digest,
            "revoked": token.revoked,
            "expires_at": token.expires_at,
            "previous_id": token.previous,
        })
    };
    state.tokens.values().map(show).collect()
}

fn waiting(state: &State) -> Vec<Value> {
    let show =
        |at: Timestamp, event: &str, hook: u64| json!({ "at": at, "event": event, "hook": hook });
    let outbox = state.outbox.iter();
    outbox.map(|outgoing| show(outgoing.at, &outgoing.event, outgoing.hook)).collect()
}
