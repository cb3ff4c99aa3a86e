//! Many runner entities a call, by GraphQL (gitlab.md §3.10).

mod rows;

use super::{Call, Error, Gitlab};
use crate::{
    adapters::http::Repeat,
    domain::{
        gitlab::{Entity, GroupAt, Manager, OpenRunner},
        ids::GroupId,
    },
};
use http::Method;
use rows::{Node, OpenNode, number};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

const WHAT: &str = "runners in bulk";
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

impl Where<'_> {
    /// The group that it is about, if it is about one.
    pub fn group(self) -> Option<GroupId> {
        match self {
            Self::Everywhere => None,
            Self::Below(group) | Self::Around(group) => Some(group.id),
        }
    }
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
    variables: Value,
}

/// What of them.
#[derive(Clone, Copy)]
enum Shown {
    Rows(&'static str),
    Count,
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
        let mut all = Vec::new();
        let take = |node: Node| {
            all.push(node.read().ok_or_else(no_id)?);
            Ok(())
        };
        self.bulk(place, marked(search), ENTITY, PAGES_MAX, take).await?;
        Ok(all)
    }

    /// The same, one after the other, so that no more than a page of them is held; with who polled with their tokens. What was
    /// taken before an error is no list.
    pub async fn fold_runners(
        &self,
        place: Where<'_>,
        search: &str,
        mut take: impl FnMut(Entity, Vec<Manager>),
    ) -> Result<(), Error> {
        let take = |mut node: Node| {
            let managers = node.managers.take().map(|list| list.nodes).unwrap_or_default();
            let managers = managers.into_iter().map(Into::into).collect();
            take(node.read().ok_or_else(no_id)?, managers);
            Ok(())
        };
        self.bulk(place, marked(search), ENTITY_AND_MANAGERS, PAGES_MAX, take).await.map(drop)
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
        let mut runners = Vec::new();
        let take = |node: OpenNode| {
            runners.push(node.read().ok_or_else(no_id)?);
            Ok(())
        };
        let Pages { whole, calls } = self.bulk(place, open(tag), OPEN, pages, take).await?;
        Ok(Open { runners, whole, calls })
    }

    /// How many [`Gitlab::open_runners`] would show, and those that our token may not read besides: in one call.
    ///
    /// Errors: as [`Gitlab::runners_bulk`].
    /// Source: `count` of <https://docs.gitlab.com/api/graphql/reference/#cirunnerconnection>.
    pub async fn count_open(&self, place: Where<'_>, tag: Option<&str>) -> Result<usize, Error> {
        let mut asked = open(tag);
        let query = asked.query(place, Shown::Count);
        let counted: Counted = self.list(place, &query, &asked.variables).await??;
        Ok(counted.count)
    }

    /// Takes the rows of at most so many pages.
    async fn bulk<T: DeserializeOwned>(
        &self,
        place: Where<'_>,
        mut asked: Asked,
        nodes: &'static str,
        pages_max: usize,
        mut take: impl FnMut(T) -> Result<(), Error>,
    ) -> Result<Pages, Error> {
        let query = asked.query(place, Shown::Rows(nodes));
        let mut after: Option<String> = None;
        let mut first = ROWS_PER_PAGE;
        for calls in 1..=pages_max {
            asked.variables["first"] = json!(first);
            asked.variables["after"] = json!(after);
            let list = self.list(place, &query, &asked.variables).await?;
            let list: Connection<T> = match list {
                Err(fault) if fault.is_too_much() && first > ROWS_PER_PAGE_MIN => {
                    first /= 2;
                    continue;
                }
                list => list?,
            };
            list.nodes.into_iter().try_for_each(&mut take)?;
            let next = list.page_info.end_cursor.filter(|_| list.page_info.has_next_page);
            match (list.page_info.has_next_page, next) {
                (false, _) => return Ok(Pages { whole: true, calls }),
                (true, Some(cursor)) if after.as_ref() != Some(&cursor) => after = Some(cursor),
                (true, _) => return Err(Error::unreadable(WHAT, "its pages never end")),
            }
        }
        if pages_max == PAGES_MAX {
            return Err(Error::unreadable(WHAT, "its pages never end"));
        }
        Ok(Pages { whole: false, calls: pages_max })
    }

    /// What one query says of a place's runners, or what GitLab found wrong with it.
    async fn list<C: DeserializeOwned>(
        &self,
        place: Where<'_>,
        query: &str,
        variables: &Value,
    ) -> Result<Result<C, Fault>, Error> {
        let mut call = Call::write(Method::POST, "", Repeat::Safe, WHAT)
            .body(json!({"query": query, "variables": variables}));
        call.path = "/api/graphql".to_owned();
        let answer: Answer<C> = self.ask(&call).await?;
        let fault = answer.errors.iter().position(Fault::is_too_much).unwrap_or_default();
        if let Some(fault) = answer.errors.into_iter().nth(fault) {
            return Ok(Err(fault));
        }
        let list = answer.data.and_then(|data| data.list(place));
        Ok(Ok(list.ok_or_else(|| Error::unreadable(WHAT, "the list is null"))?))
    }
}

/// How a list was read.
struct Pages {
    whole: bool,
    calls: usize,
}

impl Asked {
    /// The query, and the variable that a group's path goes into.
    fn query(&mut self, place: Where<'_>, shown: Shown) -> String {
        let Self { declared, arguments, variables } = self;
        let (paging, page, shown) = match shown {
            Shown::Rows(nodes) => (
                "$first: Int, $after: String",
                ", first: $first, after: $after",
                format!("pageInfo {{ hasNextPage endCursor }} nodes {{ {nodes} }}"),
            ),
            Shown::Count => ("", "", "count".to_owned()),
        };
        let runners =
            |membership: &str| format!("runners({arguments}{membership}{page}) {{ {shown} }}");
        let (group, membership) = match place {
            Where::Everywhere => {
                let runners = runners("");
                // A query without variables has no parentheses either.
                return match format!("{declared}{paging}") {
                    none if none.is_empty() => format!("query {{ {runners} }}"),
                    all => format!("query({all}) {{ {runners} }}"),
                };
            }
            Where::Below(group) => (group, ", membership: DESCENDANTS"),
            Where::Around(group) => (group, ", membership: ALL_AVAILABLE"),
        };
        variables["group"] = json!(group.path);
        let runners = runners(membership);
        format!(
            "query({declared} $group: ID!, {paging}) {{ group(fullPath: $group) {{ id {runners} }} }}"
        )
    }
}

fn marked(search: &str) -> Asked {
    Asked {
        declared: "$search: String,",
        arguments: "search: $search",
        variables: json!({ "search": search }),
    }
}

/// Those that take jobs: with the tag, or all.
fn open(tag: Option<&str>) -> Asked {
    match tag {
        Some(tag) => Asked {
            declared: "$tags: [String!],",
            arguments: "tagList: $tags, paused: false",
            variables: json!({ "tags": [tag] }),
        },
        None => Asked { declared: "", arguments: "paused: false", variables: json!({}) },
    }
}

fn no_id() -> Error {
    Error::unreadable(WHAT, "an id is none")
}

#[derive(Deserialize)]
#[serde(bound = "C: DeserializeOwned")]
struct Answer<C> {
    data: Option<Data<C>>,
    #[serde(default)]
    errors: Vec<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    message: String,
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        Self::unreadable(WHAT, fault.message)
    }
}

impl Fault {
    /// GitLab weighs a query by fields and rows, and limits its time: fewer rows pass.
    fn is_too_much(&self) -> bool {
        let message = self.message.to_lowercase();
        ["complexity", "timed out", "timeout"].iter().any(|word| message.contains(word))
    }
}

#[derive(Deserialize)]
#[serde(bound = "C: DeserializeOwned")]
struct Data<C> {
    runners: Option<C>,
    group: Option<OfGroup<C>>,
}

#[derive(Deserialize)]
#[serde(bound = "C: DeserializeOwned")]
struct OfGroup<C> {
    id: String,
    runners: Option<C>,
}

impl<C> Data<C> {
    /// `None` too where another group has the path by now.
    fn list(self, place: Where<'_>) -> Option<C> {
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
struct Counted {
    count: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageInfo {
    has_next_page: bool,
    end_cursor: Option<String>,
}
