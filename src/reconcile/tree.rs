//! GitLab's tree, read in lists: every target a rule could match, and what lies below a group.

use super::{
    Clients, Failure,
    target::{self, TargetRead},
};
use crate::domain::{
    fleet::{Fleet, TargetFacts, TargetKind},
    gitlab::{Group, Project},
    ids::{GroupId, TargetId},
    plan::hold::Hold,
};
use futures::{TryFutureExt, try_join};
use std::collections::BTreeMap;

/// Every target that a rule could match.
pub(super) async fn targets(clients: &Clients, fleet: &Fleet) -> Result<Vec<TargetRead>, Failure> {
    let gitlab = clients.gitlab();
    let groups = gitlab.groups().all().map_err(Failure::from);
    let (groups, projects) = if matches_projects(fleet) {
        try_join!(groups, gitlab.projects().all().map_err(Failure::from))?
    } else {
        (groups.await?, vec![])
    };
    let instance = TargetFacts {
        id: TargetId::Instance,
        path: String::new(),
        ancestors: vec![],
        personal: false,
    };
    let mut all = vec![TargetRead { facts: instance, hold: None }];
    let tree = Tree::of(&groups);
    all.extend(groups.iter().map(|group| TargetRead {
        facts: tree.group(group),
        hold: tree.hold(group.archived, group.marked_for_deletion_on.is_some(), group.parent),
    }));
    all.extend(projects.iter().map(|project| TargetRead {
        facts: tree.project(project),
        hold: tree.hold(project.archived, project.marked_for_deletion_on.is_some(), project.group),
    }));
    Ok(all)
}

fn matches_projects(fleet: &Fleet) -> bool {
    fleet.group_patterns().iter().any(|pattern| pattern.kind == TargetKind::Project)
}

pub(super) async fn descendants(
    clients: &Clients,
    group: GroupId,
) -> Result<Vec<TargetFacts>, Failure> {
    let gitlab = clients.gitlab();
    let (groups, projects, above) = try_join!(
        gitlab.descendant_groups(group).all().map_err(Failure::from),
        gitlab.group_projects(group).all().map_err(Failure::from),
        target::read(clients, TargetId::Group(group)),
    )?;
    let Some(above) = above else { return Ok(vec![]) };
    let mut root = above.facts.ancestors.clone();
    root.push((group, above.facts.path.clone()));
    let tree = Tree { groups: groups.iter().map(|one| (one.id, one)).collect(), root };
    let groups_below = groups.iter().map(|one| tree.group(one));
    Ok(groups_below.chain(projects.iter().map(|one| tree.project(one))).collect())
}

/// Groups by id, to walk upwards without another call.
struct Tree<'a> {
    groups: BTreeMap<GroupId, &'a Group>,
    /// What lies above all of them, root first.
    root: Vec<(GroupId, String)>,
}

impl<'a> Tree<'a> {
    fn of(groups: &'a [Group]) -> Self {
        Self { groups: groups.iter().map(|group| (group.id, group)).collect(), root: vec![] }
    }

    fn group(&self, group: &Group) -> TargetFacts {
        TargetFacts {
            id: TargetId::Group(group.id),
            path: group.full_path.clone(),
            ancestors: self.above(group.parent),
            personal: false,
        }
    }

    fn project(&self, project: &Project) -> TargetFacts {
        TargetFacts {
            id: TargetId::Project(project.id),
            path: project.path_with_namespace.clone(),
            ancestors: self.above(project.group),
            personal: project.group.is_none(),
        }
    }

    /// As a round that reads one target finds it.
    fn hold(&self, archived: bool, marked: bool, parent: Option<GroupId>) -> Option<Hold> {
        target::hold(archived, marked, self.chain(parent).into_iter())
    }

    /// The groups above, nearest first.
    fn chain(&self, mut parent: Option<GroupId>) -> Vec<&'a Group> {
        let mut chain = Vec::new();
        while let Some(group) = parent.and_then(|id| self.groups.get(&id)) {
            chain.push(*group);
            parent = group.parent;
        }
        chain
    }

    fn above(&self, parent: Option<GroupId>) -> Vec<(GroupId, String)> {
        let chain = self.chain(parent);
        let below_root = chain.iter().rev().map(|group| (group.id, group.full_path.clone()));
        self.root.iter().cloned().chain(below_root).collect()
    }
}
