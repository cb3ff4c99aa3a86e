//! What GitLab holds, in our words.

use super::ids::{GroupId, ProjectId, RunnerId, TargetId};
use jiff::{Timestamp, civil::Date};

/// A group, as `GET /groups/:id` shows it (gitlab.md §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub id: GroupId,
    pub full_path: String,
    pub parent: Option<GroupId>,
    /// True also when an ancestor is archived.
    pub archived: bool,
    /// Set on the group itself only: a doomed ancestor does not show here.
    pub marked_for_deletion_on: Option<Date>,
}

/// A group with the full path that it had when it was just read: some lists are asked for by path, and only the id is the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupAt {
    pub id: GroupId,
    pub path: String,
}

/// A project, as `GET /projects/:id` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    pub id: ProjectId,
    pub path_with_namespace: String,
    /// The group it lies in; `None` for a personal namespace.
    pub group: Option<GroupId>,
    pub archived: bool,
    pub marked_for_deletion_on: Option<Date>,
}

/// One runner entity with all its settings, as `GET /runners/:id` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    pub id: RunnerId,
    pub description: String,
    pub kind: EntityKind,
    /// The groups or projects it belongs to, as far as our token may see them.
    pub owners: Vec<TargetId>,
    pub paused: bool,
    pub tags: Vec<String>,
    pub run_untagged: bool,
    pub locked: bool,
    pub protected: bool,
    /// Seconds.
    pub maximum_timeout: Option<u32>,
    pub maintenance_note: Option<String>,
    pub contacted_at: Option<Timestamp>,
    pub created_at: Option<Timestamp>,
    /// `None` where this GitLab does not say (17.x).
    pub busy: Option<bool>,
}

/// GitLab's `runner_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntityKind {
    Instance,
    Group,
    Project,
}

impl EntityKind {
    pub fn of(target: TargetId) -> Self {
        match target {
            TargetId::Instance => Self::Instance,
            TargetId::Group(_) => Self::Group,
            TargetId::Project(_) => Self::Project,
        }
    }
}

/// One row of a runner list: enough to see a marker, not enough to trust it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub id: RunnerId,
    pub description: String,
    pub kind: EntityKind,
}

/// A runner that takes jobs, whoever's it is: as much of it as an overlap needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRunner {
    pub id: RunnerId,
    pub description: String,
    pub kind: EntityKind,
    /// The groups or projects it belongs to, with their full paths.
    pub owners: Vec<(TargetId, String)>,
    pub tags: Vec<String>,
    pub run_untagged: bool,
}

/// A process that polled with a runner's token (`GET /runners/:id/managers`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    pub system_id: String,
    pub contacted_at: Option<Timestamp>,
    pub version: Option<String>,
}

/// The settings a new or changed entity is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntitySettings {
    pub description: String,
    pub tags: Vec<String>,
    pub run_untagged: bool,
    pub locked: bool,
    pub protected: bool,
    /// Seconds; GitLab wants at least 600.
    pub maximum_timeout: Option<u32>,
    pub maintenance_note: Option<String>,
    pub paused: bool,
}

/// What to change of an entity; `None` leaves a setting as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EntityChange {
    pub description: Option<String>,
    pub tags: Option<Vec<String>>,
    pub run_untagged: Option<bool>,
    pub locked: Option<bool>,
    pub protected: Option<bool>,
    /// Seconds; GitLab wants at least 600.
    pub maximum_timeout: Option<u32>,
    /// An empty text takes the note away.
    pub maintenance_note: Option<String>,
    pub paused: Option<bool>,
}

impl From<&EntitySettings> for EntityChange {
    /// Every setting, as it should be.
    fn from(settings: &EntitySettings) -> Self {
        Self {
            description: Some(settings.description.clone()),
            tags: Some(settings.tags.clone()),
            run_untagged: Some(settings.run_untagged),
            locked: Some(settings.locked),
            protected: Some(settings.protected),
            maximum_timeout: settings.maximum_timeout,
            maintenance_note: Some(settings.maintenance_note.clone().unwrap_or_default()),
            paused: Some(settings.paused),
        }
    }
}
