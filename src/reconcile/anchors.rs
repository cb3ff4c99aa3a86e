//! The groups that `anchors` pins, where they are now: GitLab lists runners by a group's path, and only its id is the group.

use super::{Clients, Failure, target::TargetRead};
use crate::domain::{
    fleet::{Fleet, TargetFacts},
    gitlab::GroupAt,
    ids::{GroupId, TargetId},
};
use std::collections::BTreeMap;

/// The anchors that lie below no other one. One that our token may not see is left out.
pub(super) async fn top(
    clients: &Clients,
    fleet: &Fleet,
    listed: &BTreeMap<TargetId, TargetRead>,
) -> Result<Vec<GroupAt>, Failure> {
    let mut all = seen(fleet, listed);
    for (_, id) in fleet.anchors() {
        // A list may skip one.
        if !listed.contains_key(&TargetId::Group(id)) {
            let group = clients.gitlab().group(id).await?;
            all.extend(group.map(|group| GroupAt { id, path: group.full_path }));
        }
    }
    Ok(topmost(all))
}

/// Those of them that the lists show.
pub(super) fn top_listed(fleet: &Fleet, listed: &BTreeMap<TargetId, TargetRead>) -> Vec<GroupAt> {
    topmost(seen(fleet, listed))
}

fn seen(fleet: &Fleet, listed: &BTreeMap<TargetId, TargetRead>) -> Vec<GroupAt> {
    let all = fleet.anchors().filter_map(|(_, id)| {
        let path = listed.get(&TargetId::Group(id))?.facts.path.clone();
        Some(GroupAt { id, path })
    });
    all.collect()
}

fn topmost(all: Vec<GroupAt>) -> Vec<GroupAt> {
    let paths: Vec<String> = all.iter().map(|one| one.path.to_lowercase()).collect();
    let lies_below = |path: &str| {
        let above = |other: &String| {
            path.strip_prefix(other.as_str()).is_some_and(|rest| rest.starts_with('/'))
        };
        paths.iter().any(above)
    };
    all.into_iter().filter(|one| !lies_below(&one.path.to_lowercase())).collect()
}

/// Whether the target is the group, or lies below it.
pub(super) fn holds(group: GroupId, facts: &TargetFacts) -> bool {
    facts.id == TargetId::Group(group) || facts.ancestors.iter().any(|(above, _)| *above == group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_anchor_below_another_one_is_left_out_and_one_beside_it_is_not() {
        let check = |paths: &[&str], expected: &[&str]| {
            let all = paths.iter().zip(1..);
            let all = all.map(|(path, id)| GroupAt { id: GroupId(id), path: (*path).to_owned() });
            let top: Vec<String> = topmost(all.collect()).into_iter().map(|one| one.path).collect();
            assert_eq!(top, expected, "{paths:?}");
        };
        check(&[], &[]);
        check(&["platform", "platform-2", "infra/core"], &["platform", "platform-2", "infra/core"]);
        check(&["platform/cloud/net", "Platform", "platform/cloud"], &["Platform"]);
        check(&["infra/core", "infra/core/net", "infra/tools"], &["infra/core", "infra/tools"]);
    }
}
