//! Groups and projects, and where they stand. Paths are never stored: they follow from the chain.

use super::state::State;
use jiff::{Timestamp, civil::Date};

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) id: u64,
    pub(super) parent: Option<u64>,
    pub(super) path: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) visibility: String,
    pub(super) shared_runners_setting: String,
    pub(super) archived: bool,
    pub(super) doom: Option<Doom>,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) struct Project {
    pub(super) id: u64,
    /// A group's or a user's namespace.
    pub(super) namespace: u64,
    pub(super) path: String,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) visibility: String,
    pub(super) shared_runners_enabled: bool,
    pub(super) group_runners_enabled: bool,
    /// Whether its container registry holds images.
    pub(super) has_images: bool,
    pub(super) archived: bool,
    pub(super) doom: Option<Doom>,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
}

/// That something is scheduled for deletion.
#[derive(Clone, Debug)]
pub(super) struct Doom {
    pub(super) marked_on: Date,
    /// Name and path before the suffix; missing where it was not renamed.
    pub(super) before: Option<(String, String)>,
}

impl State {
    /// The group and its ancestors, upwards.
    pub(super) fn chain(&self, group: u64) -> Vec<&Group> {
        let mut chain = Vec::new();
        let mut next = Some(group);
        while let Some(group) = next.and_then(|id| self.groups.get(&id)) {
            chain.push(group);
            next = group.parent;
        }
        chain
    }

    pub(super) fn is_below(&self, group: u64, ancestor: u64) -> bool {
        self.chain(group).iter().skip(1).any(|above| above.id == ancestor)
    }

    /// All groups below, in the order of their ids.
    pub(super) fn descendants(&self, group: u64) -> Vec<u64> {
        self.groups.keys().copied().filter(|id| self.is_below(*id, group)).collect()
    }

    pub(super) fn children(&self, group: Option<u64>) -> Vec<u64> {
        self.groups.values().filter(|child| child.parent == group).map(|child| child.id).collect()
    }

    pub(super) fn projects_of(&self, namespace: u64) -> Vec<u64> {
        let own = self.projects.values().filter(|project| project.namespace == namespace);
        own.map(|project| project.id).collect()
    }

    /// `acme/engineering`, or a user's name for a personal namespace.
    pub(super) fn namespace_path(&self, namespace: u64) -> String {
        if let Some(user) = self.users.values().find(|user| user.namespace == namespace) {
            return user.username.clone();
        }
        let mut segments: Vec<&str> =
            self.chain(namespace).iter().map(|group| group.path.as_str()).collect();
        segments.reverse();
        segments.join("/")
    }

    /// `Acme / Engineering`.
    pub(super) fn namespace_name(&self, namespace: u64) -> String {
        if let Some(user) = self.users.values().find(|user| user.namespace == namespace) {
            return user.name.clone();
        }
        let mut names: Vec<&str> =
            self.chain(namespace).iter().map(|group| group.name.as_str()).collect();
        names.reverse();
        names.join(" / ")
    }

    pub(super) fn project_path(&self, project: &Project) -> String {
        format!("{}/{}", self.namespace_path(project.namespace), project.path)
    }

    /// By id, or by full path; a number is always an id.
    pub(super) fn find_group(&self, key: &str) -> Option<&Group> {
        if key.bytes().all(|byte| byte.is_ascii_digit()) {
            return self.groups.get(&key.parse().ok()?);
        }
        let mut at = None;
        for segment in key.split('/') {
            let mut here = self.groups.values().filter(|group| group.parent == at);
            at = Some(here.find(|group| group.path.eq_ignore_ascii_case(segment))?.id);
        }
        self.groups.get(&at?)
    }

    /// By id, or by full path, which has a slash.
    pub(super) fn find_project(&self, key: &str) -> Option<&Project> {
        if key.bytes().all(|byte| byte.is_ascii_digit()) {
            return self.projects.get(&key.parse().ok()?);
        }
        let (namespace, path) = key.rsplit_once('/')?;
        let namespace = self.find_namespace(namespace)?;
        self.projects.values().find(|project| {
            project.namespace == namespace && project.path.eq_ignore_ascii_case(path)
        })
    }

    /// The id of a group's or a user's namespace.
    pub(super) fn find_namespace(&self, key: &str) -> Option<u64> {
        let mut users = self.users.values();
        let user = users.find(|user| {
            user.namespace.to_string() == key || user.username.eq_ignore_ascii_case(key)
        });
        user.map(|user| user.namespace).or_else(|| self.find_group(key).map(|group| group.id))
    }

    /// Whether another group, project or user already has this place.
    pub(super) fn is_taken(&self, namespace: Option<u64>, path: &str, but: Option<u64>) -> bool {
        let same = |other: &str| other.eq_ignore_ascii_case(path);
        let by_group = self
            .groups
            .values()
            .any(|group| group.parent == namespace && Some(group.id) != but && same(&group.path));
        let by_project = namespace.is_some_and(|namespace| {
            self.projects
                .values()
                .any(|project| project.namespace == namespace && same(&project.path))
        });
        let by_user = namespace.is_none() && self.users.values().any(|user| same(&user.username));
        by_group || by_project || by_user
    }

    /// Archived itself or by an ancestor.
    pub(super) fn is_archived(&self, group: u64) -> bool {
        self.chain(group).iter().any(|group| group.archived)
    }

    pub(super) fn is_project_archived(&self, project: &Project) -> bool {
        project.archived || self.is_archived(project.namespace)
    }

    /// Whether the group or an ancestor is scheduled for deletion.
    pub(super) fn is_doomed(&self, group: u64) -> bool {
        self.chain(group).iter().any(|group| group.doom.is_some())
    }
}

/// Letters, digits, `_`, `-` and `.`, beginning with neither `-` nor `.`… and no file name at the end.
pub(super) fn is_path(path: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    !path.is_empty()
        && path.len() <= 255
        && path.bytes().all(allowed)
        && !path.starts_with(['-', '.'])
        && !path.ends_with(".git")
        && !path.ends_with(".atom")
        && !path.ends_with('.')
}
