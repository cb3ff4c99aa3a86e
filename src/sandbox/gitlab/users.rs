//! Users and what they are members of.

use super::{
    Gitlab,
    state::{Kind, State, milliseconds},
};
use jiff::Timestamp;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) id: u64,
    pub(super) username: String,
    pub(super) name: String,
    pub(super) admin: bool,
    pub(super) blocked: bool,
    /// The personal namespace; its id is one of the groups' ids.
    pub(super) namespace: u64,
    pub(super) created_at: Timestamp,
}

/// GitLab's numbers: 30 developer, 40 maintainer, 50 owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) user: u64,
    pub(super) of: Membership,
    pub(super) level: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Membership {
    Group(u64),
    Project(u64),
}

pub(super) const MAINTAINER: u8 = 40;
pub(super) const OWNER: u8 = 50;

impl Gitlab {
    /// A new user with a personal namespace. Sends `user_create`.
    pub fn add_user(&self, username: &str, admin: bool) -> u64 {
        self.lock().add_user(username, admin)
    }

    /// The administrator whose token [`Gitlab::admin_token`] is.
    pub fn admin_user(&self) -> u64 {
        self.lock().admin_user
    }

    /// Blocks a user: the API answers 403 to their tokens.
    pub fn block_user(&self, user: u64) {
        if let Some(user) = self.lock().users.get_mut(&user) {
            user.blocked = true;
        }
    }

    /// Takes or gives the administrator's rights.
    pub fn set_admin(&self, user: u64, admin: bool) {
        if let Some(user) = self.lock().users.get_mut(&user) {
            user.admin = admin;
        }
    }

    /// Makes `user` a member of a group with `level` (40 maintainer, 50 owner). Sends
    /// `user_add_to_group`, or `user_update_for_group` where the user is a member already.
    pub fn add_group_member(&self, group: u64, user: u64, level: u8) {
        let mut state = self.lock();
        let known = state.set_member(user, Membership::Group(group), level);
        state.emit_membership(
            if known { "user_update_for_group" } else { "user_add_to_group" },
            group,
            user,
            level,
        );
    }

    /// Sends `user_remove_from_group`.
    pub fn remove_group_member(&self, group: u64, user: u64) {
        let mut state = self.lock();
        let of = Membership::Group(group);
        let gone = state.members.iter().position(|member| member.user == user && member.of == of);
        if let Some(at) = gone {
            let member = state.members.remove(at);
            state.emit_membership("user_remove_from_group", group, user, member.level);
        }
    }

    /// Makes `user` a member of a project, silently.
    pub fn add_project_member(&self, project: u64, user: u64, level: u8) {
        self.lock().set_member(user, Membership::Project(project), level);
    }

    /// Adds an SSH key. Sends `key_create`, whose `id` is the key's.
    pub fn add_key(&self, user: u64) -> u64 {
        let mut state = self.lock();
        let id = state.next_id(Kind::Key);
        state.emit_key(id, user);
        id
    }
}

impl State {
    pub(super) fn add_user(&mut self, username: &str, admin: bool) -> u64 {
        let id = self.next_id(Kind::User);
        let namespace = self.next_id(Kind::Namespace);
        let user = User {
            id,
            username: username.to_owned(),
            name: username.to_owned(),
            admin,
            blocked: false,
            namespace,
            created_at: self.now,
        };
        self.users.insert(id, user);
        self.emit_user("user_create", id);
        id
    }

    /// Whether the user was a member before.
    pub(super) fn set_member(&mut self, user: u64, of: Membership, level: u8) -> bool {
        let mut known =
            self.members.iter_mut().filter(|member| member.user == user && member.of == of);
        if let Some(member) = known.next() {
            member.level = level;
            return true;
        }
        self.members.push(Member { user, of, level });
        false
    }
}

/// The short form of a user in other answers.
pub(super) fn basic(state: &State, user: &User) -> Value {
    let url = &state.settings.external_url;
    json!({
        "id": user.id,
        "username": user.username,
        "name": user.name,
        "state": if user.blocked { "blocked" } else { "active" },
        "locked": false,
        "avatar_url": null,
        "web_url": format!("{url}/{}", user.username),
        "created_at": milliseconds(user.created_at),
    })
}
