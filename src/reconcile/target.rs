//! Reads a target and everything above it: where it is, and whether it may be served at all.

use super::{Clients, Failure};
use crate::domain::{
    fleet::TargetFacts,
    gitlab::Group,
    ids::{GroupId, TargetId},
    plan::hold::Hold,
};

/// A target as read in this round.
#[derive(Clone, Debug)]
pub(super) struct TargetRead {
    pub(super) facts: TargetFacts,
    /// It, or a group above it, is archived or scheduled for deletion.
    pub(super) hold: Option<Hold>,
}

/// More levels than GitLab allows (20): a chain this long is an answer gone wrong.
const LEVELS_MAX: usize = 32;

/// Reads the target and its ancestors. `None`: 404, which may mean *gone* or *hidden*.
pub(super) async fn read(
    clients: &Clients,
    target: TargetId,
) -> Result<Option<TargetRead>, Failure> {
    let gitlab = clients.gitlab();
    match target {
        TargetId::Instance => {
            let facts =
                TargetFacts { id: target, path: String::new(), ancestors: vec![], personal: false };
            Ok(Some(TargetRead { facts, hold: None }))
        }
        TargetId::Group(id) => {
            let Some(group) = gitlab.group(id).await? else { return Ok(None) };
            let above = ancestors(clients, group.parent).await?;
            let hold = hold(group.archived, group.marked_for_deletion_on.is_some(), above.iter());
            let facts = TargetFacts {
                id: target,
                path: group.full_path,
                ancestors: facts(&above),
                personal: false,
            };
            Ok(Some(TargetRead { facts, hold }))
        }
        TargetId::Project(id) => {
            let Some(project) = gitlab.project(id).await? else { return Ok(None) };
            let above = ancestors(clients, project.group).await?;
            let hold =
                hold(project.archived, project.marked_for_deletion_on.is_some(), above.iter());
            let facts = TargetFacts {
                id: target,
                path: project.path_with_namespace,
                ancestors: facts(&above),
                personal: project.group.is_none(),
            };
            Ok(Some(TargetRead { facts, hold }))
        }
    }
}

/// The groups above, nearest first.
async fn ancestors(clients: &Clients, mut parent: Option<GroupId>) -> Result<Vec<Group>, Failure> {
    let gitlab = clients.gitlab();
    let mut above: Vec<Group> = Vec::new();
    while let Some(id) = parent {
        if above.len() >= LEVELS_MAX {
            return Err(Failure::retry(format!(
                "more than {LEVELS_MAX} groups lie above group {id}"
            )));
        }
        let group = gitlab.group(id).await?.ok_or_else(|| {
            Failure::permanent(format!(
                "group {id} lies above the target and our token may not see it: make it a member"
            ))
        })?;
        parent = group.parent;
        above.push(group);
    }
    Ok(above)
}

/// What the target's own state and that of the groups above it ask for.
pub(super) fn hold<'a>(
    archived: bool,
    marked: bool,
    above: impl Iterator<Item = &'a Group> + Clone,
) -> Option<Hold> {
    // A descendant of a doomed group is not marked itself (gitlab.md §4.3).
    if marked || above.clone().any(|group| group.marked_for_deletion_on.is_some()) {
        Some(Hold::Scheduled)
    } else if archived || above.clone().any(|group| group.archived) {
        Some(Hold::Archived)
    } else {
        None
    }
}

/// Root first, as rules read them.
fn facts(above: &[Group]) -> Vec<(GroupId, String)> {
    above.iter().rev().map(|group| (group.id, group.full_path.clone())).collect()
}
