//! Rows of a bulk read, as GraphQL has them.

use crate::{
    adapters::gitlab::wire::RunnerType,
    domain::{
        gitlab::{Entity, Manager, OpenRunner},
        ids::{GroupId, ProjectId, RunnerId, TargetId},
    },
};
use jiff::Timestamp;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Node {
    id: String,
    description: Option<String>,
    runner_type: RunnerType,
    paused: bool,
    contacted_at: Option<Timestamp>,
    created_at: Option<Timestamp>,
    #[serde(default)]
    tag_list: Option<Vec<String>>,
    run_untagged: bool,
    #[serde(default)]
    locked: Option<bool>,
    access_level: String,
    maximum_timeout: Option<u32>,
    maintenance_note: Option<String>,
    job_execution_status: Option<String>,
    groups: Option<List<Owner>>,
    projects: Option<List<Owner>>,
    pub(super) managers: Option<List<Polled>>,
}

/// As much as an overlap needs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OpenNode {
    id: String,
    description: Option<String>,
    runner_type: RunnerType,
    #[serde(default)]
    tag_list: Option<Vec<String>>,
    run_untagged: bool,
    groups: Option<List<Owner>>,
    projects: Option<List<Owner>>,
}

#[derive(Deserialize)]
pub(super) struct List<T> {
    pub(super) nodes: Vec<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    id: String,
    full_path: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Polled {
    system_id: String,
    version: Option<String>,
    contacted_at: Option<Timestamp>,
}

impl From<Polled> for Manager {
    fn from(polled: Polled) -> Self {
        let Polled { system_id, version, contacted_at } = polled;
        Self { system_id, contacted_at, version }
    }
}

fn owners(
    groups: Option<List<Owner>>,
    projects: Option<List<Owner>>,
) -> Option<Vec<(TargetId, String)>> {
    let mut all = Vec::new();
    for owner in groups.map(|list| list.nodes).unwrap_or_default() {
        let id = TargetId::Group(GroupId(number(&owner.id)?));
        all.push((id, owner.full_path.unwrap_or_default()));
    }
    for owner in projects.map(|list| list.nodes).unwrap_or_default() {
        let id = TargetId::Project(ProjectId(number(&owner.id)?));
        all.push((id, owner.full_path.unwrap_or_default()));
    }
    Some(all)
}

impl OpenNode {
    pub(super) fn read(self) -> Option<OpenRunner> {
        Some(OpenRunner {
            id: RunnerId(number(&self.id)?),
            description: self.description.unwrap_or_default(),
            kind: self.runner_type.into(),
            owners: owners(self.groups, self.projects)?,
            tags: self.tag_list.unwrap_or_default(),
            run_untagged: self.run_untagged,
        })
    }
}

impl Node {
    pub(super) fn read(self) -> Option<Entity> {
        let owners = owners(self.groups, self.projects)?;
        Some(Entity {
            id: RunnerId(number(&self.id)?),
            description: self.description.unwrap_or_default(),
            kind: self.runner_type.into(),
            owners: owners.into_iter().map(|(id, _)| id).collect(),
            paused: self.paused,
            tags: self.tag_list.unwrap_or_default(),
            run_untagged: self.run_untagged,
            locked: self.locked.unwrap_or_default(),
            protected: self.access_level.eq_ignore_ascii_case("ref_protected"),
            maximum_timeout: self.maximum_timeout,
            maintenance_note: self.maintenance_note.filter(|note| !note.is_empty()),
            contacted_at: self.contacted_at,
            created_at: self.created_at,
            busy: self.job_execution_status.map(|status| !status.eq_ignore_ascii_case("idle")),
        })
    }
}

/// The number at the end of `gid://gitlab/Ci::Runner/8`.
pub(super) fn number(global_id: &str) -> Option<u64> {
    global_id.rsplit('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_ends_a_global_id() {
        assert_eq!(number("gid://gitlab/Ci::Runner/8"), Some(8));
        assert_eq!(number("gid://gitlab/Ci::Runner/"), None);
    }
}
