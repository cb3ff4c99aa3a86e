//! Rounds that look at many: a target's fan-out, the sweep over the whole fleet, dead letters, and the fleet's status.

use super::{
    Clients, Failure,
    desire::Desires,
    observe, outbox,
    round::{Outcome, Rounds, wake},
    target::{self, TargetRead},
};
use crate::domain::{
    fleet::{Fleet, TargetFacts, TargetKind},
    gitlab::{Group, Project},
    ids::{GroupId, RunnerKey, TargetId, Unit},
    kubernetes::Kind,
    marker::Marker,
    message::{Message, Outgoing, Reason},
    names,
    plan::hold::Hold,
    records,
    status::{ConditionKind, Status},
};
use futures::{TryFutureExt, try_join};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use tracing::{error, info, warn};

/// Hook events after which the paths of everything below have changed without a word.
const MOVES: [&str; 4] = ["group_rename", "project_rename", "project_transfer", "group_update"];

impl Rounds {
    /// Wakes every runner of the target that a rule gives it or a marker shows it has; after a move, of its
    /// descendants too.
    pub(super) async fn target_round(
        &self,
        fleet: &Fleet,
        target: TargetId,
        message: &Message,
    ) -> Result<Vec<Outgoing>, Failure> {
        let (gitlab, now) = (self.clients().gitlab(), self.clock.now());
        let (read, made) =
            try_join!(target::read(self.clients(), target), made_runners(self.clients(), fleet))?;
        let mut keys: BTreeSet<RunnerKey> =
            made.iter().filter(|key| key.target == target).cloned().collect();
        if let Some(read) = &read {
            keys.extend(wanted_keys(fleet, &read.facts, now));
            let listed = gitlab.runners_of(target).await?;
            let marked = listed.iter().filter_map(|one| Marker::find(&one.description));
            keys.extend(
                marked
                    .filter(|marker| {
                        marker.fleet == fleet.settings().name && marker.key.target == target
                    })
                    .map(|marker| marker.key),
            );
        }
        let moved = message.event.as_deref().is_some_and(|event| MOVES.contains(&event));
        if let (true, TargetId::Group(id), Some(_)) = (moved, target, &read) {
            let below = descendants(self.clients(), id).await?;
            keys.extend(
                made.iter().filter(|key| below.iter().any(|facts| facts.id == key.target)).cloned(),
            );
            keys.extend(below.iter().flat_map(|facts| wanted_keys(fleet, facts, now)));
        }
        Ok(keys.into_iter().map(|key| wake(message, Unit::Runner(key)).send(now)).collect())
    }

    /// Finds matched targets that are not settled and parked units that are due, and wakes them.
    ///
    /// A list that fails ends the sweep: what it did not see is neither absent nor settled.
    pub async fn sweep(&self) -> Outcome {
        let fleet = match self.fleet() {
            Ok(fleet) => fleet.clone(),
            Err(reason) => {
                error!("nothing was swept, because fleet.yaml is not valid: {reason}");
                return Outcome::Done(vec!["fleet.yaml is not valid".to_owned()]);
            }
        };
        match self.find_unsettled(&fleet).await {
            Ok(units) => {
                let now = self.clock.now();
                let cause = format!("sweep-{}", now.as_second());
                info!(units = units.len(), "the sweep wakes {} unit(s)", units.len());
                let lines = vec![format!("woke {} unit(s)", units.len())];
                let wakes = units
                    .into_iter()
                    .map(|unit| Message::wake(unit, Reason::Sweep, cause.clone()).send(now));
                self.send(wakes.collect(), lines).await
            }
            Err(failure) => {
                // The next sweep tries again; an answer of failure would only be logged by the host.
                error!("the sweep did not see the whole fleet: {}", failure.text);
                Outcome::Failed(failure.text)
            }
        }
    }

    async fn find_unsettled(&self, fleet: &Fleet) -> Result<BTreeSet<Unit>, Failure> {
        observe::installation(self.clients(), fleet.settings()).await?;
        let (statuses, targets) =
            try_join!(statuses(self.clients(), fleet), targets(self.clients(), fleet))?;
        let (now, digest) = (self.clock.now(), &fleet.settings().digest);
        let desires = Desires::of(fleet);
        let mut asked: BTreeMap<Unit, String> = BTreeMap::new();
        // What nobody asks for any more is looked at once, and then known.
        let holds: BTreeMap<TargetId, Option<&Hold>> =
            targets.iter().map(|read| (read.facts.id, read.hold.as_ref())).collect();
        for status in &statuses {
            let Unit::Runner(key) = &status.unit else { continue };
            let hold = holds.get(&key.target).copied().flatten();
            asked.insert(status.unit.clone(), desires.digest(None, hold));
        }
        for read in &targets {
            for wanted in fleet.wanted_at(&read.facts, now) {
                let key = RunnerKey { target: read.facts.id, profile: wanted.profile };
                let desire = desires.digest(Some(&wanted.state), read.hold.as_ref());
                asked.insert(Unit::Runner(key), desire);
            }
        }
        let known: BTreeMap<&Unit, &Status> =
            statuses.iter().map(|status| (&status.unit, status)).collect();
        let unsettled = asked.iter().filter(|(unit, desire)| {
            known.get(unit).is_none_or(|status| {
                status.parked.is_none()
                    && (status.settled_for.as_ref() != Some(desire)
                        || status.condition(ConditionKind::NeedsAdministrator).is_some())
            })
        });
        let due = statuses.iter().filter(|status| status.is_due(digest, now));
        let due = due.map(|status| status.unit.clone());
        Ok(unsettled.map(|(unit, _)| unit.clone()).chain(due).collect())
    }

    /// A message that the broker gave up on: its unit is parked with the reason. If that cannot be written down it
    /// is logged and forgotten here: the sweep finds the unit again.
    pub async fn dead_letter(&self, message: &Message, reason: &str) -> Outcome {
        error!("`{}` went to the dead letters: {reason}", message.unit);
        let Ok(fleet) = self.fleet() else { return Outcome::Done(vec![reason.to_owned()]) };
        let text = format!("its message went to the dead letters: {reason}");
        if let Err(failure) = self.park(fleet, message, &text, None, self.clock.now()).await {
            warn!(
                "`{}` could not be parked; the sweep finds it again: {}",
                message.unit, failure.text
            );
        }
        Outcome::Done(vec![text])
    }

    /// What is told of every unit.
    pub async fn statuses(&self) -> Result<Vec<Status>, Failure> {
        match self.fleet() {
            Ok(fleet) => statuses(self.clients(), fleet).await,
            Err(_) => Ok(vec![]),
        }
    }

    /// Wakes units by hand, as the sweep would.
    pub async fn wake(&self, units: Vec<Unit>, cause: &str) -> Result<(), Failure> {
        let now = self.clock.now();
        let wakes: Vec<Outgoing> = units
            .into_iter()
            .map(|unit| Message::wake(unit, Reason::Command, cause.to_owned()).send(now))
            .collect();
        outbox::send(&self.service_bus, &wakes).await
    }
}

pub(super) fn wanted_keys(fleet: &Fleet, facts: &TargetFacts, now: Timestamp) -> Vec<RunnerKey> {
    let target = facts.id;
    fleet
        .wanted_at(facts, now)
        .into_iter()
        .map(|wanted| RunnerKey { target, profile: wanted.profile })
        .collect()
}

/// The keys of all runners that have a manager.
pub(super) async fn made_runners(
    clients: &Clients,
    fleet: &Fleet,
) -> Result<Vec<RunnerKey>, Failure> {
    let settings = fleet.settings();
    let selector = format!("{}={}", names::LABEL_FLEET, settings.name);
    let kubernetes = clients.kubernetes();
    let namespace = Some(settings.cluster.managers_namespace.as_str());
    let found = kubernetes.list(Kind::Deployment, namespace, Some(&selector)).await?;
    Ok(found.iter().filter_map(|one| one.label(names::LABEL_KEY)?.parse().ok()).collect())
}

pub(super) async fn statuses(clients: &Clients, fleet: &Fleet) -> Result<Vec<Status>, Failure> {
    let settings = fleet.settings();
    let selector =
        format!("{}={},{}=status", names::LABEL_FLEET, settings.name, records::LABEL_RECORD);
    let kubernetes = clients.kubernetes();
    let namespace = Some(settings.cluster.managers_namespace.as_str());
    let found = kubernetes.list(Kind::ConfigMap, namespace, Some(&selector)).await?;
    Ok(found.iter().filter_map(records::read_status).collect())
}

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
