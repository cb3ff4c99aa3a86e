//! Many runner entities a call, by GraphQL (gitlab.md §3.10).

use super::{Call, Error, Gitlab, wire::RunnerType};
use crate::{
    adapters::http::Repeat,
    domain::{
        gitlab::{Entity, EntityKind},
        ids::{GroupId, ProjectId, RunnerId, TargetId},
    },
};
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

const PAGES_MAX: usize = 1000;
const ROWS_PER_PAGE: usize = 100;
/// With fewer, complete lists scoped to targets are as good.
const ROWS_PER_PAGE_MIN: usize = 12;

const QUERY: &str = "query($kind: CiRunnerType, $search: String, $first: Int, $after: String) { runners(type: $kind, search: $search, first: $first, after: $after) { pageInfo { hasNextPage endCursor } nodes { id description runnerType paused contactedAt createdAt tagList runUntagged locked accessLevel maximumTimeout maintenanceNote jobExecutionStatus groups { nodes { id } } projects { nodes { id } } } } }";

impl Gitlab {
    /// All entities of a kind whose description contains `search`, with all their settings, 100 a call, or fewer
    /// where GitLab finds that too complex. The search is
    /// over the whole instance, so a hit is ours only if type and owner fit.
    ///
    /// Errors: whatever is not a whole answer is one, and proves nothing: GraphQL errors and a null list come as
    /// [`Error::Unreadable`], which is what a token without an administrator's rights gets. Fall back to
    /// [`Gitlab::runners_of`].
    pub async fn runners_bulk(&self, kind: EntityKind, search: &str) -> Result<Vec<Entity>, Error> {
        let what = "runners in bulk";
        let mut entities = Vec::new();
        let mut after: Option<String> = None;
        let mut first = ROWS_PER_PAGE;
        for _ in 0..PAGES_MAX {
            let variables = json!({"kind": enum_name(kind), "search": search,
                "first": first, "after": after});
            let mut call = Call::write(Method::POST, "", Repeat::Safe, what)
                .body(json!({"query": QUERY, "variables": variables}));
            call.path = "/api/graphql".to_owned();
            let answer: Answer = self.ask(&call).await?;
            if answer.errors.iter().any(Fault::is_too_much) && first > ROWS_PER_PAGE_MIN {
                first /= 2;
                continue;
            }
            if let Some(fault) = answer.errors.first() {
                return Err(Error::unreadable(what, fault.message.clone()));
            }
            let list = answer.data.and_then(|data| data.runners);
            let list = list.ok_or_else(|| Error::unreadable(what, "the list is null"))?;
            for node in list.nodes {
                entities.push(node.read().ok_or_else(|| Error::unreadable(what, "an id is none"))?);
            }
            let next = list.page_info.end_cursor.filter(|_| list.page_info.has_next_page);
            match (list.page_info.has_next_page, next) {
                (false, _) => return Ok(entities),
                (true, Some(cursor)) if after.as_ref() != Some(&cursor) => after = Some(cursor),
                (true, _) => return Err(Error::unreadable(what, "its pages never end")),
            }
        }
        Err(Error::unreadable(what, "its pages never end"))
    }
}

fn enum_name(kind: EntityKind) -> Value {
    Value::from(match kind {
        EntityKind::Instance => "INSTANCE_TYPE",
        EntityKind::Group => "GROUP_TYPE",
        EntityKind::Project => "PROJECT_TYPE",
    })
}

#[derive(Deserialize)]
struct Answer {
    data: Option<Data>,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    message: String,
}

impl Fault {
    /// GitLab weighs a query by fields and rows, and limits its time: fewer rows pass.
    fn is_too_much(&self) -> bool {
        let message = self.message.to_lowercase();
        ["complexity", "timed out", "timeout"].iter().any(|word| message.contains(word))
    }
}

#[derive(Deserialize)]
struct Data {
    runners: Option<Connection>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Connection {
    page_info: PageInfo,
    nodes: Vec<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
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
    groups: Option<Owners>,
    projects: Option<Owners>,
}

#[derive(Deserialize)]
struct Owners {
    nodes: Vec<Owner>,
}

#[derive(Deserialize)]
struct Owner {
    id: String,
}

impl Node {
    fn read(self) -> Option<Entity> {
        let owners = |list: Option<Owners>| list.map(|list| list.nodes).unwrap_or_default();
        let mut all = Vec::new();
        for owner in owners(self.groups) {
            all.push(TargetId::Group(GroupId(number(&owner.id)?)));
        }
        for owner in owners(self.projects) {
            all.push(TargetId::Project(ProjectId(number(&owner.id)?)));
        }
        Some(Entity {
            id: RunnerId(number(&self.id)?),
            description: self.description.unwrap_or_default(),
            kind: self.runner_type.into(),
            owners: all,
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
fn number(global_id: &str) -> Option<u64> {
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
