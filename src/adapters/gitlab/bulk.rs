//! Many runner entities a call, by GraphQL (gitlab.md §3.10).

use super::{Call, Error, Gitlab, wire::RunnerType};
use crate::{
    adapters::http::Repeat,
    domain::{
        gitlab::{Entity, EntityKind, Manager, OpenRunner},
        ids::{GroupId, ProjectId, RunnerId, TargetId},
    },
};
use http::Method;
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

const PAGES_MAX: usize = 1000;
const ROWS_PER_PAGE: usize = 100;
/// With fewer, complete lists scoped to targets are as good.
const ROWS_PER_PAGE_MIN: usize = 12;

/// Which runners: the arguments of the list, and the variables that go with them.
struct Asked {
    declared: &'static str,
    arguments: &'static str,
    nodes: &'static str,
    variables: Value,
}

const ENTITY: &str = "id description runnerType paused contactedAt createdAt tagList runUntagged locked accessLevel maximumTimeout maintenanceNote jobExecutionStatus groups { nodes { id } } projects { nodes { id } }";
const ENTITY_AND_MANAGERS: &str = "id description runnerType paused contactedAt createdAt tagList runUntagged locked accessLevel maximumTimeout maintenanceNote jobExecutionStatus groups { nodes { id } } projects { nodes { id } } managers { nodes { systemId version contactedAt } }";
const OPEN: &str = "id description runnerType tagList runUntagged groups { nodes { id fullPath } } projects { nodes { id fullPath } }";

impl Gitlab {
    /// All entities of a kind whose description contains `search`, with all their settings, 100 a call, or fewer
    /// where GitLab finds that too complex. The search is
    /// over the whole instance, so a hit is ours only if type and owner fit.
    ///
    /// Errors: whatever is not a whole answer is one, and proves nothing: GraphQL errors and a null list come as
    /// [`Error::Unreadable`], which is what a token without an administrator's rights gets. Fall back to
    /// [`Gitlab::runners_of`].
    pub async fn runners_bulk(&self, kind: EntityKind, search: &str) -> Result<Vec<Entity>, Error> {
        let nodes: Vec<Node> = self.bulk(of_kind(kind, search, ENTITY), PAGES_MAX).await?.0;
        nodes.into_iter().map(|node| node.read().ok_or_else(no_id)).collect()
    }

    /// The same, each with who polled with its tokens.
    pub async fn polled_bulk(
        &self,
        kind: EntityKind,
        search: &str,
    ) -> Result<Vec<(Entity, Vec<Manager>)>, Error> {
        let asked = of_kind(kind, search, ENTITY_AND_MANAGERS);
        let nodes: Vec<Node> = self.bulk(asked, PAGES_MAX).await?.0;
        let read = nodes.into_iter().map(|mut node| {
            let managers = node.managers.take().map(|list| list.nodes).unwrap_or_default();
            let managers = managers.into_iter().map(Into::into).collect();
            Ok((node.read().ok_or_else(no_id)?, managers))
        });
        read.collect()
    }

    /// Runners of the whole instance that are not paused, whoever's they are: those with the tag, or all. At most
    /// `pages` of a hundred, and whether that was everything.
    ///
    /// Errors: as [`Gitlab::runners_bulk`].
    pub async fn open_runners(
        &self,
        tag: Option<&str>,
        pages: usize,
    ) -> Result<(Vec<OpenRunner>, bool), Error> {
        let asked = match tag {
            Some(tag) => Asked {
                declared: "$tags: [String!],",
                arguments: "tagList: $tags, paused: false",
                nodes: OPEN,
                variables: json!({ "tags": [tag] }),
            },
            None => Asked {
                declared: "",
                arguments: "paused: false",
                nodes: OPEN,
                variables: json!({}),
            },
        };
        let (nodes, whole): (Vec<OpenNode>, bool) = self.bulk(asked, pages).await?;
        let read = nodes.into_iter().map(|node| node.read().ok_or_else(no_id));
        Ok((read.collect::<Result<_, _>>()?, whole))
    }

    /// The rows of at most so many pages, and whether there are no more.
    async fn bulk<T: DeserializeOwned>(
        &self,
        asked: Asked,
        pages_max: usize,
    ) -> Result<(Vec<T>, bool), Error> {
        let what = "runners in bulk";
        let Asked { declared, arguments, nodes, mut variables } = asked;
        let query = format!(
            "query({declared} $first: Int, $after: String) {{ runners({arguments}, first: $first, after: $after) {{ pageInfo {{ hasNextPage endCursor }} nodes {{ {nodes} }} }} }}"
        );
        let mut rows = Vec::new();
        let mut after: Option<String> = None;
        let mut first = ROWS_PER_PAGE;
        for _ in 0..pages_max {
            variables["first"] = json!(first);
            variables["after"] = json!(after);
            let mut call = Call::write(Method::POST, "", Repeat::Safe, what)
                .body(json!({"query": query, "variables": variables}));
            call.path = "/api/graphql".to_owned();
            let answer: Answer<T> = self.ask(&call).await?;
            if answer.errors.iter().any(Fault::is_too_much) && first > ROWS_PER_PAGE_MIN {
                first /= 2;
                continue;
            }
            if let Some(fault) = answer.errors.first() {
                return Err(Error::unreadable(what, fault.message.clone()));
            }
            let list = answer.data.and_then(|data| data.runners);
            let list = list.ok_or_else(|| Error::unreadable(what, "the list is null"))?;
            rows.extend(list.nodes);
            let next = list.page_info.end_cursor.filter(|_| list.page_info.has_next_page);
            match (list.page_info.has_next_page, next) {
                (false, _) => return Ok((rows, true)),
                (true, Some(cursor)) if after.as_ref() != Some(&cursor) => after = Some(cursor),
                (true, _) => return Err(Error::unreadable(what, "its pages never end")),
            }
        }
        if pages_max == PAGES_MAX {
            return Err(Error::unreadable(what, "its pages never end"));
        }
        Ok((rows, false))
    }
}

fn of_kind(kind: EntityKind, search: &str, nodes: &'static str) -> Asked {
    Asked {
        declared: "$kind: CiRunnerType, $search: String,",
        arguments: "type: $kind, search: $search",
        nodes,
        variables: json!({ "kind": enum_name(kind), "search": search }),
    }
}

fn no_id() -> Error {
    Error::unreadable("runners in bulk", "an id is none")
}

fn enum_name(kind: EntityKind) -> Value {
    Value::from(match kind {
        EntityKind::Instance => "INSTANCE_TYPE",
        EntityKind::Group => "GROUP_TYPE",
        EntityKind::Project => "PROJECT_TYPE",
    })
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Answer<T> {
    data: Option<Data<T>>,
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
#[serde(bound = "T: DeserializeOwned")]
struct Data<T> {
    runners: Option<Connection<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "T: DeserializeOwned")]
struct Connection<T> {
    page_info: PageInfo,
    nodes: Vec<T>,
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
    groups: Option<List<Owner>>,
    projects: Option<List<Owner>>,
    managers: Option<List<Polled>>,
}

/// As much as an overlap needs.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OpenNode {
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
struct List<T> {
    nodes: Vec<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Owner {
    id: String,
    full_path: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Polled {
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
    fn read(self) -> Option<OpenRunner> {
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
    fn read(self) -> Option<Entity> {
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
