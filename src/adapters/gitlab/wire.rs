//! How GitLab spells things. Unknown fields are ignored, and what an older GitLab does not send may be missing.

use crate::domain::{
    gitlab::{self as domain, EntityChange, EntityKind},
    ids::{GroupId, ProjectId, RunnerId, TargetId},
};
use jiff::{Timestamp, civil::Date};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
pub(super) struct Group {
    id: GroupId,
    full_path: String,
    parent_id: Option<GroupId>,
    #[serde(default)]
    archived: bool,
    marked_for_deletion_on: Option<Date>,
}

impl From<Group> for domain::Group {
    fn from(group: Group) -> Self {
        Self {
            id: group.id,
            full_path: group.full_path,
            parent: group.parent_id,
            archived: group.archived,
            marked_for_deletion_on: group.marked_for_deletion_on,
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Project {
    id: ProjectId,
    path_with_namespace: String,
    namespace: Namespace,
    #[serde(default)]
    archived: bool,
    marked_for_deletion_on: Option<Date>,
    /// The old name of the same.
    marked_for_deletion_at: Option<Date>,
}

#[derive(Deserialize)]
struct Namespace {
    id: u64,
    kind: String,
}

impl From<Project> for domain::Project {
    fn from(project: Project) -> Self {
        let in_group = project.namespace.kind == "group";
        Self {
            id: project.id,
            path_with_namespace: project.path_with_namespace,
            group: in_group.then_some(GroupId(project.namespace.id)),
            archived: project.archived,
            marked_for_deletion_on: project
                .marked_for_deletion_on
                .or(project.marked_for_deletion_at),
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
pub(super) enum RunnerType {
    #[serde(rename = "instance_type", alias = "INSTANCE_TYPE")]
    Instance,
    #[serde(rename = "group_type", alias = "GROUP_TYPE")]
    Group,
    #[serde(rename = "project_type", alias = "PROJECT_TYPE")]
    Project,
}

impl From<RunnerType> for EntityKind {
    fn from(kind: RunnerType) -> Self {
        match kind {
            RunnerType::Instance => Self::Instance,
            RunnerType::Group => Self::Group,
            RunnerType::Project => Self::Project,
        }
    }
}

pub(super) fn runner_type(target: TargetId) -> &'static str {
    match EntityKind::of(target) {
        EntityKind::Instance => "instance_type",
        EntityKind::Group => "group_type",
        EntityKind::Project => "project_type",
    }
}

#[derive(Deserialize)]
pub(super) struct Listed {
    id: RunnerId,
    description: Option<String>,
    runner_type: RunnerType,
}

impl From<Listed> for domain::Listed {
    fn from(row: Listed) -> Self {
        Self {
            id: row.id,
            description: row.description.unwrap_or_default(),
            kind: row.runner_type.into(),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Details {
    id: RunnerId,
    description: Option<String>,
    runner_type: RunnerType,
    #[serde(default)]
    groups: Vec<Owner>,
    #[serde(default)]
    projects: Vec<Owner>,
    paused: bool,
    #[serde(default)]
    tag_list: Vec<String>,
    run_untagged: bool,
    locked: bool,
    access_level: String,
    maximum_timeout: Option<u32>,
    maintenance_note: Option<String>,
    contacted_at: Option<Timestamp>,
    created_at: Option<Timestamp>,
    job_execution_status: Option<String>,
}

#[derive(Deserialize)]
struct Owner {
    id: u64,
}

impl From<Details> for domain::Entity {
    fn from(details: Details) -> Self {
        let groups = details.groups.iter().map(|owner| TargetId::Group(GroupId(owner.id)));
        let projects = details.projects.iter().map(|owner| TargetId::Project(ProjectId(owner.id)));
        Self {
            id: details.id,
            description: details.description.unwrap_or_default(),
            kind: details.runner_type.into(),
            owners: groups.chain(projects).collect(),
            paused: details.paused,
            tags: details.tag_list,
            run_untagged: details.run_untagged,
            locked: details.locked,
            protected: details.access_level == PROTECTED,
            maximum_timeout: details.maximum_timeout,
            maintenance_note: details.maintenance_note.filter(|note| !note.is_empty()),
            contacted_at: details.contacted_at,
            created_at: details.created_at,
            busy: details.job_execution_status.map(|status| status != "idle"),
        }
    }
}

const PROTECTED: &str = "ref_protected";
const NOT_PROTECTED: &str = "not_protected";

/// The body of a change; what is to stay is left out.
pub(super) fn change(change: &EntityChange) -> Value {
    let EntityChange {
        description,
        tags,
        run_untagged,
        locked,
        protected,
        maximum_timeout,
        maintenance_note,
        paused,
    } = change;
    let access_level = protected.map(|only| if only { PROTECTED } else { NOT_PROTECTED });
    let fields = [
        ("description", description.clone().map(Value::from)),
        ("tag_list", tags.clone().map(Value::from)),
        ("run_untagged", run_untagged.map(Value::from)),
        ("locked", locked.map(Value::from)),
        ("access_level", access_level.map(Value::from)),
        ("maximum_timeout", maximum_timeout.map(Value::from)),
        ("maintenance_note", maintenance_note.clone().map(Value::from)),
        ("paused", paused.map(Value::from)),
    ];
    let set = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(set.collect::<Map<_, _>>())
}

#[derive(Deserialize)]
pub(super) struct Manager {
    system_id: String,
    contacted_at: Option<Timestamp>,
    version: Option<String>,
}

impl From<Manager> for domain::Manager {
    fn from(manager: Manager) -> Self {
        Self {
            system_id: manager.system_id,
            contacted_at: manager.contacted_at,
            version: manager.version.filter(|version| !version.is_empty()),
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Changed {
    pub(super) id: RunnerId,
}

#[derive(Deserialize)]
pub(super) struct Created {
    pub(super) id: RunnerId,
    pub(super) token: String,
    pub(super) token_expires_at: Option<Timestamp>,
}

#[derive(Deserialize)]
pub(super) struct Reset {
    pub(super) token: String,
    pub(super) token_expires_at: Option<Timestamp>,
}

#[derive(Deserialize)]
pub(super) struct Verified {
    pub(super) id: RunnerId,
    pub(super) token_expires_at: Option<Timestamp>,
}

#[derive(Deserialize)]
pub(super) struct OwnToken {
    pub(super) id: u64,
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    pub(super) expires_at: Option<Date>,
    #[serde(default)]
    pub(super) active: bool,
}

#[derive(Deserialize)]
pub(super) struct Version {
    pub(super) version: String,
}
