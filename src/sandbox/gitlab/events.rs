//! What system hooks say, and for which changes (gitlab.md §1.5, §4.3).

use super::{
    Gitlab,
    deliveries::Outgoing,
    state::{State, seconds},
    tree::{Group, Project},
    users::{Membership, OWNER},
};
use serde_json::{Value, json};
use uuid::Uuid;

/// Which hooks hear of an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Audience {
    /// Lifecycle, user and key events cannot be switched off.
    All,
    Push,
}

impl Gitlab {
    /// A push to the project's default branch; only hooks with `push_events` hear of it.
    pub fn push(&self, project: u64) {
        let mut state = self.lock();
        let Some(project) = state.projects.get(&project).cloned() else { return };
        let payload = push_payload(&state, &project);
        state.emit(Audience::Push, payload);
    }
}

impl State {
    /// `group_create`, `group_destroy` or `group_update`, as the group is now.
    pub(super) fn emit_group(&mut self, event: &str, group: u64) {
        if let Some(group) = self.groups.get(&group) {
            let payload = group_payload(self, event, group);
            self.emit(Audience::All, payload);
        }
    }

    pub(super) fn emit_group_rename(&mut self, group: u64, old_path: &str, old_full_path: &str) {
        if let Some(group) = self.groups.get(&group) {
            let mut payload = group_payload(self, "group_rename", group);
            payload["old_path"] = json!(old_path);
            payload["old_full_path"] = json!(old_full_path);
            self.emit(Audience::All, payload);
        }
    }

    /// A project event; `old_path` is the old full path of a rename or a transfer.
    pub(super) fn emit_project(&mut self, event: &str, project: u64, old_path: Option<&str>) {
        if let Some(project) = self.projects.get(&project) {
            let mut payload = project_payload(self, event, project);
            if let Some(old_path) = old_path {
                payload["old_path_with_namespace"] = json!(old_path);
            }
            self.emit(Audience::All, payload);
        }
    }

    pub(super) fn emit_user(&mut self, event: &str, user: u64) {
        if let Some(user) = self.users.get(&user) {
            let payload = json!({
                "created_at": seconds(user.created_at),
                "updated_at": seconds(self.now),
                "event_name": event,
                "name": user.name,
                "email": email(&user.username),
                "username": user.username,
                "user_id": user.id,
            });
            self.emit(Audience::All, payload);
        }
    }

    pub(super) fn emit_membership(&mut self, event: &str, group: u64, user: u64, level: u8) {
        let (Some(group), Some(user)) = (self.groups.get(&group), self.users.get(&user)) else {
            return;
        };
        let payload = json!({
            "created_at": seconds(self.now),
            "updated_at": seconds(self.now),
            "event_name": event,
            "group_id": group.id,
            "group_name": group.name,
            "group_path": group.path,
            "group_access": level_name(level),
            "user_id": user.id,
            "user_name": user.name,
            "user_username": user.username,
            "user_email": email(&user.username),
            "expires_at": null,
        });
        self.emit(Audience::All, payload);
    }

    pub(super) fn emit_key(&mut self, key: u64, user: u64) {
        if let Some(user) = self.users.get(&user) {
            let payload = json!({
                "event_name": "key_create",
                "created_at": seconds(self.now),
                "updated_at": seconds(self.now),
                "username": user.username,
                "key": "ssh-ed25519 made-up",
                "id": key,
            });
            self.emit(Audience::All, payload);
        }
    }

    /// Queues one delivery a hook. A chain of events never calls the same hook twice.
    fn emit(&mut self, audience: Audience, payload: Value) {
        let body = payload.to_string();
        let event = payload["event_name"].as_str().unwrap_or_default().to_owned();
        let chain = self.cause.unwrap_or_else(|| self.uuid());
        let called = self.chains.get(&chain).cloned().unwrap_or_default();
        let hooks: Vec<u64> = self
            .hooks
            .values()
            .filter(|hook| audience == Audience::All || hook.push_events)
            .map(|hook| hook.id)
            .filter(|hook| !called.contains(hook))
            .collect();
        for hook in hooks {
            self.enqueue(hook, &event, &body, chain);
        }
    }

    fn enqueue(&mut self, hook: u64, event: &str, body: &str, chain: Uuid) {
        self.chains.entry(chain).or_default().insert(hook);
        let outgoing = Outgoing {
            at: self.delivery_time(),
            hook,
            event: event.to_owned(),
            body: body.to_owned(),
            idempotency_key: self.uuid(),
            chain,
        };
        let twice = self.happens(self.settings.mischief.duplicate_percent);
        if twice {
            let at = self.delivery_time();
            self.outbox.push(Outgoing { at, ..outgoing.clone() });
        }
        self.outbox.push(outgoing);
    }
}

fn group_payload(state: &State, event: &str, group: &Group) -> Value {
    json!({
        "created_at": seconds(group.created_at),
        "updated_at": seconds(group.updated_at),
        "event_name": event,
        "name": group.name,
        "path": group.path,
        "full_path": state.namespace_path(group.id),
        "group_id": group.id,
    })
}

fn project_payload(state: &State, event: &str, project: &Project) -> Value {
    let (owner_name, owner_email) = match state.groups.get(&project.namespace) {
        Some(group) => (Some(group.name.clone()), ""),
        None => (Some(state.namespace_name(project.namespace)), "[REDACTED]"),
    };
    let mut payload = json!({
        "event_name": event,
        "created_at": seconds(project.created_at),
        "updated_at": seconds(project.updated_at),
        "name": project.name,
        "path": project.path,
        "path_with_namespace": state.project_path(project),
        "project_id": project.id,
        "owners": owners(state, project),
        "project_visibility": project.visibility,
        "owner_name": owner_name,
        "owner_email": owner_email,
    });
    if state.settings.version.is_from(17, 0) {
        payload["project_namespace_id"] = json!(project.namespace);
    }
    payload
}

fn owners(state: &State, project: &Project) -> Vec<Value> {
    let chain: Vec<u64> = state.chain(project.namespace).iter().map(|group| group.id).collect();
    let members = state.members.iter().filter(|member| {
        member.level >= OWNER
            && match member.of {
                Membership::Group(group) => chain.contains(&group),
                Membership::Project(of) => of == project.id,
            }
    });
    let users = members.filter_map(|member| state.users.get(&member.user));
    users.map(|user| json!({ "name": user.name, "email": "[REDACTED]" })).collect()
}

fn push_payload(state: &State, project: &Project) -> Value {
    let (url, path) = (&state.settings.external_url, state.project_path(project));
    let web_url = format!("{url}/{path}");
    let (http_url, ssh_url) = (format!("{web_url}.git"), format!("git@gitlab:{path}.git"));
    json!({
        "event_name": "push",
        "before": "0".repeat(40),
        "after": "a".repeat(40),
        "ref": "refs/heads/main",
        "checkout_sha": "a".repeat(40),
        "user_id": 1,
        "user_name": "root",
        "user_email": "[REDACTED]",
        "project_id": project.id,
        "project": {
            "name": project.name,
            "description": project.description,
            "web_url": web_url,
            "avatar_url": null,
            "git_ssh_url": ssh_url,
            "git_http_url": http_url,
            "namespace": state.namespace_name(project.namespace),
            "visibility_level": 0,
            "path_with_namespace": path,
            "default_branch": "main",
            "homepage": web_url,
            "url": ssh_url,
            "ssh_url": ssh_url,
            "http_url": http_url,
        },
        "commits": [],
        "total_commits_count": 1,
    })
}

fn level_name(level: u8) -> &'static str {
    match level {
        50.. => "Owner",
        40..50 => "Maintainer",
        30..40 => "Developer",
        20..30 => "Reporter",
        0..20 => "Guest",
    }
}

fn email(username: &str) -> String {
    format!("{username}@example.com")
}
