//! The fleet as a person at a desk looks at it: reads, and changes nothing. Needs no queue.

mod access;
mod explain;
mod job;
mod known;
mod meant;
mod parked;

pub use access::{
    AccessReport, Answerable, Giver, IdentityAccess, IdentityKind, Reach, Right, RightStanding,
};
pub use explain::Explained;
pub use job::{Candidate, Had, JobExplained};
pub use meant::Meant;

use super::{
    Clients, Failure,
    fleet_status::{self, Told},
    observe, permits,
    target::{self, TargetRead},
    tree,
};
use crate::{
    clock::Clock,
    domain::{
        fleet::{Clash, Fleet, IdentityTemplate, Served, TargetFacts, WantedState, clashes},
        ids::{ProfileName, RunnerKey, TargetId, Unit},
        names,
        records::{self, ParkedPlan},
        selector::Selector,
        spec::{Isolation, Mode, RunnerSpec},
        status::Status,
    },
};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A valid fleet with every service it is about.
pub struct View {
    pub(super) fleet: Arc<Fleet>,
    pub(super) clients: Clients,
    pub(super) clock: Clock,
    mode: Mode,
}

/// What a person's words stand for on the real tree.
#[derive(Debug, Default)]
pub struct Selected {
    pub units: BTreeSet<Unit>,
    /// Pairs of runners that a job cannot tell apart, at least one of them selected.
    pub clashes: Vec<Clash>,
    /// What could not be looked up, each with its reason.
    pub problems: Vec<String>,
    /// One of them is a list of the whole fleet: units may be missing, or seem to be nobody's.
    pub partial: bool,
    /// Targets as they were read on the way: GitLab limits how many are asked for one by one.
    pub(super) reads: BTreeMap<TargetId, TargetRead>,
}

impl Selected {
    /// Exactly these.
    pub fn of(units: BTreeSet<Unit>) -> Self {
        Self { units, ..Self::default() }
    }
}

impl View {
    /// `mode` lowers the file's own.
    pub fn new(fleet: Arc<Fleet>, clients: Clients, clock: Clock, mode: Mode) -> Self {
        Self { fleet, clients, clock, mode }
    }

    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// What is told of every unit and of the fleet as a whole, in one list.
    pub async fn told(&self) -> Result<Told, Failure> {
        fleet_status::told(&self.clients, &self.fleet).await
    }

    /// What is told of every unit, in one list.
    pub async fn statuses(&self) -> Result<Vec<Status>, Failure> {
        observe::statuses(&self.clients, self.fleet.settings()).await
    }

    /// The removals that the brake holds, if it does.
    pub async fn parked_plan(&self) -> Result<Option<ParkedPlan>, Failure> {
        let found = self.clients.kubernetes().get(&permits::plan_name(&self.fleet)).await?;
        Ok(found.as_ref().and_then(records::read_plan))
    }

    /// Whether the unit's rounds carry nothing out.
    pub(super) fn observes(&self, unit: &Unit) -> bool {
        let profile = match unit {
            Unit::Runner(key) => self.fleet.profile(&key.profile),
            Unit::Domain(profile) => self.fleet.profile(profile),
            Unit::Target(_) | Unit::Identity(_) => None,
        };
        let of_profile = profile.map_or(Mode::Enforce, |profile| profile.mode);
        self.mode.min(self.fleet.settings().mode).min(of_profile) == Mode::Observe
    }

    /// The units that the words stand for; without any, all that rules match and all of which anything is left.
    pub async fn select(&self, selectors: &[Selector]) -> Selected {
        let mut selected = Selected::default();
        let needs_known = |one: &Selector| !matches!(one, Selector::Unit(unit) if !matches!(unit, Unit::Target(_)));
        let known = match selectors.is_empty() || selectors.iter().any(needs_known) {
            true => self.known_units(&mut selected.problems).await,
            false => BTreeSet::new(),
        };
        if selectors.is_empty() || selectors.iter().any(Selector::needs_tree) {
            self.select_from_tree(selectors, &known, &mut selected).await;
        }
        selected.partial = !selected.problems.is_empty();
        for selector in selectors.iter().filter(|selector| !selector.needs_tree()) {
            if let Err(failure) = self.select_one(selector, &known, &mut selected).await {
                selected.problems.push(format!("{selector}: {}", failure.text));
            }
        }
        let key = |clash: &Clash| clash.runners.clone();
        selected.clashes.sort_by_key(key);
        selected.clashes.dedup_by_key(|clash| key(clash));
        selected
    }

    async fn select_from_tree(
        &self,
        selectors: &[Selector],
        known: &BTreeSet<Unit>,
        selected: &mut Selected,
    ) {
        let whole = selectors.is_empty() || selectors.contains(&Selector::All);
        let chosen =
            |path: &str| whole || selectors.iter().any(|selector| selector.takes_path(path));
        // What is known is shown even where GitLab does not answer.
        if whole {
            selected.units.extend(known.iter().cloned());
        }
        let targets = match tree::targets(&self.clients, &self.fleet).await {
            Ok(targets) => targets,
            Err(failure) => {
                selected.problems.push(format!("the targets in GitLab: {}", failure.text));
                return;
            }
        };
        let facts: Vec<TargetFacts> = targets.iter().map(|read| read.facts.clone()).collect();
        selected.reads = targets.into_iter().map(|read| (read.facts.id, read)).collect();
        let here: BTreeSet<TargetId> =
            facts.iter().filter(|facts| chosen(&facts.path)).map(|facts| facts.id).collect();
        selected.units.extend(runners_of(known, |target| here.contains(target)));
        for facts in facts.iter().filter(|facts| here.contains(&facts.id)) {
            selected.units.extend(self.wanted_units(facts));
        }
        let found = self.clashes_of(&facts).into_iter().filter(|clash| {
            here.contains(&clash.runners.0.target) || here.contains(&clash.runners.1.target)
        });
        selected.clashes.extend(found);
    }

    async fn select_one(
        &self,
        selector: &Selector,
        known: &BTreeSet<Unit>,
        selected: &mut Selected,
    ) -> Result<(), Failure> {
        let target = match selector {
            Selector::Unit(Unit::Runner(key)) => {
                selected.units.insert(Unit::Runner(key.clone()));
                let Some(read) = target::read(&self.clients, key.target).await? else {
                    return Ok(());
                };
                let found = self.clashes_around(&read.facts).await?.into_iter();
                selected.reads.insert(key.target, read);
                selected.clashes.extend(
                    found.filter(|clash| clash.runners.0 == *key || clash.runners.1 == *key),
                );
                return Ok(());
            }
            Selector::Unit(unit @ (Unit::Domain(_) | Unit::Identity(_))) => {
                selected.units.insert(unit.clone());
                return Ok(());
            }
            Selector::Unit(Unit::Target(target)) | Selector::Target(target) => *target,
            Selector::Path(pattern) => self.target_at(pattern.as_str()).await?,
            Selector::All => return Ok(()),
        };
        let mine: Vec<Unit> = runners_of(known, |of| *of == target).collect();
        let is_known = !mine.is_empty();
        selected.units.extend(mine);
        let Some(read) = target::read(&self.clients, target).await? else {
            let lost = "GitLab shows it to our token neither as a group nor as a project";
            return if is_known { Ok(()) } else { Err(Failure::permanent(lost)) };
        };
        selected.units.extend(self.wanted_units(&read.facts));
        let found = self.clashes_around(&read.facts).await?.into_iter();
        selected.reads.insert(target, read);
        selected.clashes.extend(
            found.filter(|clash| {
                clash.runners.0.target == target || clash.runners.1.target == target
            }),
        );
        Ok(())
    }

    /// The group or project that a person named by its path.
    pub(super) async fn target_at(&self, path: &str) -> Result<TargetId, Failure> {
        let gitlab = self.clients.gitlab();
        if let Some(group) = gitlab.group_by_path(path).await? {
            return Ok(TargetId::Group(group.id));
        }
        if let Some(project) = gitlab.project_by_path(path).await? {
            return Ok(TargetId::Project(project.id));
        }
        Err(Failure::permanent("GitLab shows our token no group and no project of this path"))
    }

    /// Clashes with a target's runners: of what lies above it, and for a group below it.
    async fn clashes_around(&self, target: &TargetFacts) -> Result<Vec<Clash>, Failure> {
        let mut facts = lineage(target);
        if let TargetId::Group(id) = target.id {
            facts.extend(tree::descendants(&self.clients, id).await?);
        }
        Ok(self.clashes_of(&facts))
    }

    fn clashes_of(&self, facts: &[TargetFacts]) -> Vec<Clash> {
        let now = self.clock.now();
        let runners = facts.iter().flat_map(|facts| {
            let wanted = self.fleet.wanted_at(facts, now).into_iter();
            wanted.filter_map(move |wanted| match wanted.state {
                WantedState::Runner(spec) => Some((facts, spec)),
                WantedState::NeedsValue { .. }
                | WantedState::Withdrawn { .. }
                | WantedState::OutsideGuardrails { .. }
                | WantedState::ExceptionEnded { .. }
                | WantedState::AnchorMoved { .. } => None,
            })
        });
        let runners: Vec<(&TargetFacts, Box<RunnerSpec>)> = runners.collect();
        let served = runners.iter().map(|(facts, spec)| Served { facts, spec });
        clashes(&served.collect::<Vec<_>>())
    }

    /// The runners that rules give the target, and the units that these share with others.
    fn wanted_units(&self, facts: &TargetFacts) -> Vec<Unit> {
        let wanted = self.fleet.wanted_at(facts, self.clock.now()).into_iter();
        let mut units = Vec::new();
        for wanted in wanted {
            let shared = match wanted.state {
                WantedState::Runner(_) => self.shared_units(&wanted.profile),
                WantedState::NeedsValue { .. }
                | WantedState::Withdrawn { .. }
                | WantedState::OutsideGuardrails { .. }
                | WantedState::ExceptionEnded { .. }
                | WantedState::AnchorMoved { .. } => vec![],
            };
            let key = RunnerKey { target: facts.id, profile: wanted.profile };
            units.push(Unit::Runner(key));
            units.extend(shared);
        }
        units
    }

    fn shared_units(&self, profile: &ProfileName) -> Vec<Unit> {
        let Some(found) = self.fleet.profile(profile) else { return vec![] };
        let domain = (found.isolation == Isolation::Profile).then(|| Unit::Domain(profile.clone()));
        let identities = match &found.identity {
            IdentityTemplate::Existing { candidates, .. } => candidates.as_slice(),
            IdentityTemplate::None | IdentityTemplate::Managed { .. } => &[],
        };
        let identities = identities.iter().map(|id| Unit::Identity(names::identity_unit(id)));
        domain.into_iter().chain(identities).collect()
    }
}

fn runners_of(
    known: &BTreeSet<Unit>,
    of: impl Fn(&TargetId) -> bool,
) -> impl Iterator<Item = Unit> {
    let is_of = move |unit: &&Unit| matches!(unit, Unit::Runner(key) if of(&key.target));
    known.iter().filter(is_of).cloned()
}

/// The target and all above it, the instance included.
pub(super) fn lineage(facts: &TargetFacts) -> Vec<TargetFacts> {
    let instance = TargetFacts {
        id: TargetId::Instance,
        path: String::new(),
        ancestors: vec![],
        personal: false,
    };
    let above = facts.ancestors.iter().enumerate().map(|(depth, (id, path))| TargetFacts {
        id: TargetId::Group(*id),
        path: path.clone(),
        ancestors: facts.ancestors[..depth].to_vec(),
        personal: false,
    });
    let mut line: Vec<TargetFacts> = above.collect();
    line.push(facts.clone());
    if facts.id != TargetId::Instance {
        line.push(instance);
    }
    line
}
