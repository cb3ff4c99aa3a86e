//! Which fields each type has. A query is held against it before anything is read, as GitLab does.

use super::{parse::Field, unknown};

/// A field's name and, where it is an object, the type of that.
type Known = (&'static str, Option<&'static str>);

const QUERY: &[Known] = &[("runners", Some("CiRunnerConnection")), ("group", Some("Group"))];
const GROUP: &[Known] = &[
    ("id", None),
    ("name", None),
    ("path", None),
    ("fullPath", None),
    ("runners", Some("CiRunnerConnection")),
];
const PROJECT: &[Known] = &[("id", None), ("name", None), ("path", None), ("fullPath", None)];
const RUNNERS: &[Known] =
    &[("count", None), ("pageInfo", Some("PageInfo")), ("nodes", Some("CiRunner"))];
const PAGE_INFO: &[Known] =
    &[("hasNextPage", None), ("hasPreviousPage", None), ("startCursor", None), ("endCursor", None)];
const RUNNER: &[Known] = &[
    ("id", None),
    ("description", None),
    ("runnerType", None),
    ("status", None),
    ("paused", None),
    ("contactedAt", None),
    ("createdAt", None),
    ("tokenExpiresAt", None),
    ("tagList", None),
    ("runUntagged", None),
    ("locked", None),
    ("accessLevel", None),
    ("maximumTimeout", None),
    ("maintenanceNote", None),
    ("jobExecutionStatus", None),
    ("groups", Some("GroupConnection")),
    ("projects", Some("ProjectConnection")),
    ("managers", Some("CiRunnerManagerConnection")),
];
const MANAGER: &[Known] = &[
    ("id", None),
    ("systemId", None),
    ("version", None),
    ("contactedAt", None),
    ("createdAt", None),
];

/// Every complaint about the query; none if it can be answered.
pub(super) fn problems(selection: &[Field]) -> Vec<String> {
    let mut problems = Vec::new();
    check(selection, "Query", &mut problems);
    problems
}

fn check(selection: &[Field], kind: &str, problems: &mut Vec<String>) {
    for field in selection.iter().filter(|field| field.name != "__typename") {
        let known = fields(kind).iter().find(|(name, _)| *name == field.name);
        match known {
            None => problems.push(unknown(&field.name, kind)),
            Some((name, None)) if !field.selection.is_empty() => {
                problems.push(format!("Selections can't be made on scalars (field '{name}')"));
            }
            Some((name, Some(kind))) if field.selection.is_empty() => {
                let text = format!("Field must have selections (field '{name}' returns {kind})");
                problems.push(text);
            }
            Some((_, None)) => {}
            Some((_, Some(kind))) => check(&field.selection, kind, problems),
        }
    }
}

fn fields(kind: &str) -> &'static [Known] {
    match kind {
        "Query" => QUERY,
        "Group" => GROUP,
        "Project" => PROJECT,
        "CiRunnerConnection" => RUNNERS,
        "PageInfo" => PAGE_INFO,
        "CiRunner" => RUNNER,
        "CiRunnerManager" => MANAGER,
        "GroupConnection" => &[("count", None), ("nodes", Some("Group"))],
        "ProjectConnection" => &[("count", None), ("nodes", Some("Project"))],
        "CiRunnerManagerConnection" => &[("count", None), ("nodes", Some("CiRunnerManager"))],
        _ => &[],
    }
}
