//! Many runner entities a call, by GraphQL (gitlab.md §3.10).

mod rows;

use super::{Call, Error, Gitlab};
use crate::{
    adapters::http::Repeat,
    domain::gitlab::{Entity, GroupAt, Manager, OpenRunner},
};
use http::Method;
use rows::{Node, OpenNode, number};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

const PAGES_MAX: usize = 1000;
const ROWS_PER_PAGE: usize = 100;
/// With fewer, complete lists scoped to targets are as good.
const ROWS_PER_PAGE_MIN: usize = 12;

/// Whose runners a bulk read shows.
#[derive(Clone, Copy, Debug)]
pub enum Where<'a> {
    /// Everybody's: for administrators and auditors.
    Everywhere,
    /// Of a group, of all groups below it and of the projects in any of them: for the group's owners, too.
    Below(&'a GroupAt),
    /// The same, and those of the groups above and of the instance that serve it, as far as our token may read them. GitLab calls
    /// it experimental.
    Around(&'a GroupAt),
}

/// What was seen of runners that take jobs.
#[derive(Debug)]
pub struct Open {
    pub runners: Vec<OpenRunner>,
    /// Whether there are no more of them.
    pub whole: bool,
    pub calls: usize,
}

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
    /// All entities, of whatever type, whose description contains `search`, with all their settings, 100 a call, or fewer
    /// where GitLab finds that too complex. Whoever owns a group there writes descriptions, so a hit is ours only if type and
    /// owner fit.
    ///
    /// Errors: whatever is not a whole answer is one, and proves nothing: GraphQL errors, a null list and a null group come as
    /// [`Error::Unreadable`], which is what a token without the right gets. Nothing here says that an empty list is no refusal.
    /// Source: `app/finders/ci/runners_finder.rb` of GitLab; <https://docs.gitlab.com/api/graphql/reference/#grouprunners>.
    pub async fn runners_bulk(&self, place: Where<'_>, search: &str) -> Result<Vec<Entity>, Error> {
        let asked = marked(search, ENTITY);
        let nodes: Vec<Node> = self.bulk(place, asked, PAGES_MAX).await?.nodes;
        nodes.into_iter().map(|node| node.read().ok_or_else(no_id)).collect()
    }

    /// The same, each with who polled with its tokens.
    pub async fn polled_bulk(
        &self,
        place: Where<'_>,
        search: &str,
    ) -> Result<Vec<(Entity, Vec<Manager>)>, Error> {
        let asked = marked(search, ENTITY_AND_MANAGERS);
        let nodes: Vec<Node> = self.bulk(place, asked, PAGES_MAX).await?.nodes;
        let read = nodes.into_iter().map(|mut node| {
            let managers = node.managers.take().map(|list| list.nodes).unwrap_or_default();
            let managers = managers.into_iter().map(Into::into).collect();
            Ok((node.read().ok_or_else(no_id)?, managers))
        });
        read.collect()
    }

    /// Runners that are not paused, whoever's they are: those with the tag, or all. At most `pages` of a hundred.
    ///
    /// Errors: as [`Gitlab::runners_bulk`].
    pub async fn open_runners(
        &self,
        place: Where<'_>,
        tag: Option<&str>,
        pages: usize,
    ) -> Result<Open, Error> {
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
        let Rows { nodes, whole, calls } = self.bulk::<OpenNode>(place, asked, pages).await?;
        let runners = nodes.into_iter().map(|node| node.read().ok_or_else(no_id));
        Ok(Open { runners: runners.collect::<Result<_, _>>()?, whole, calls })
    }

    /// The rows of at most so many pages.
    async fn bulk<T: DeserializeOwned>(
        &self,
        place: Where<'_>,
        mut asked: Asked,
        pages_max: usize,
    ) -> Result<Rows<T>, Error> {
        let what = "runners in bulk";
        let query = asked.query(place);
        let mut nodes = Vec::new();
        let mut after: Option<String> = None;
        let mut first = ROWS_PER_PAGE;
        for calls in 1..=pages_max {
            asked.variables["first"] = json!(first);
            asked.variables["after"] = json!(after);
            let mut call = Call::write(Method::POST, "", Repeat::Safe, what)
                .body(json!({"query": query, "variables": asked.variables}));
            call.path = "/api/graphql".to_owned();
            let answer: Answer<T> = self.ask(&call).await?;
            if answer.errors.iter().any(Fault::is_too_much) && first > ROWS_PER_PAGE_MIN {
                first /= 2;
                continue;
            }
            if let Some(fault) = answer.errors.first() {
                return Err(Error::unreadable(what, fault.message.clone()));
            }
            let list = answer.data.and_then(|data| data.list(place));
            let list = list.ok_or_else(|| Error::unreadable(what, "the list is null"))?;
            nodes.extend(list.nodes);
            let next = list.page_info.end_cursor.filter(|_| list.page_info.has_next_page);
            match (list.page_info.has_next_page, next) {
                (false, _) => return Ok(Rows { nodes, whole: true, calls }),
                (true, Some(cursor)) if after.as_ref() != Some(&cursor) => after = Some(cursor),
                (true, _) => return Err(Error::unreadable(what, "its pages never end")),
            }
        }
        if pages_max == PAGES_MAX {
            return Err(Error::unreadable(what, "its pages never end"));
        }
        Ok(Rows { nodes, whole: false, calls: pages_max })
    }
}

struct Rows<T> {
    nodes: Vec<T>,
    whole: bool,
    calls: usize,
}

impl Asked {
    /// The query, and the variable that a group's path goes into.
    fn query(&mut self, place: Where<'_>) -> String {
        let Self { declared, arguments, nodes, variables } = self;
        let runners = |membership: &str| {
            format!(
                "runners({arguments}{membership}, first: $first, after: $after) {{ pageInfo {{ hasNextPage endCursor }} nodes {{ {nodes} }} }}"
            )
        };
        let (group, membership) = match place {
            Where::Everywhere => {
                let runners = runners("");
                return format!("query({declared} $first: Int, $after: String) {{ {runners} }}");
            }
            Where::Below(group) => (group, ", membership: DESCENDANTS"),
            Where::Around(group) => (group, ", membership: ALL_AVAILABLE"),
        };
        variables["group"] = json!(group.path);
        let runners = runners(membership);
        format!(
            "query({declared} $group: ID!, $first: Int, $after: String) {{ group(fullPath: $group) {{ id {runners} }} }}"
        )
    }
}

fn marked(search: &str, nodes: &'static str) -> Asked {
    Asked {
        declared: "$search: String,",
        arguments: "search: $search",
        nodes,
        variables: json!({ "search": search }),
    }
}

fn no_id() -> Error {
    Error::unreadable("runners in bulk", "an id is none")
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
    group: Option<OfGroup<T>>,
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct OfGroup<T> {
    id: String,
    runners: Option<Connection<T>>,
}

impl<T> Data<T> {
    /// `None` too where another group has the path by now.
    fn list(self, place: Where<'_>) -> Option<Connection<T>> {
        match place {
            Where::Everywhere => self.runners,
            Where::Below(group) | Where::Around(group) => {
                self.group.filter(|found| number(&found.id) == Some(group.id.0))?.runners
            }
        }
    }
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
