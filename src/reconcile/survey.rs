//! What a sweep makes of what it saw. Pure.

use super::{desire::Desires, inventory::Inventory, prepare::leave};
use crate::domain::{
    fleet::{Fleet, WantedState},
    ids::{RunnerKey, Unit},
    ledger::Leave,
    status::{ConditionKind, Status},
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What a sweep asks for.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Units for a round to look at.
    pub(super) wakes: BTreeSet<Unit>,
    /// Units that want removal, and why.
    pub(super) wants: BTreeMap<Unit, Leave>,
    /// Runners whose target was in no list.
    pub(super) missing: BTreeSet<RunnerKey>,
}

pub(super) fn survey(fleet: &Fleet, inventory: &Inventory, now: Timestamp) -> Survey {
    let mut survey = Survey::default();
    let desires = Desires::of(fleet);
    let wanted = wanted(fleet, inventory, now);
    let held = |unit: &Unit| inventory.ledger.book.held(unit, now).is_some();
    let may_want = |unit: &Unit| !is_protected(fleet, unit) && !held(unit);
    let known = inventory.known.iter().filter_map(|unit| match unit {
        Unit::Runner(key) => Some(key),
        Unit::Target(_) | Unit::Domain(_) | Unit::Identity(_) => None,
    });
    let keys: BTreeSet<&RunnerKey> = known.chain(wanted.keys()).collect();
    for key in keys {
        let unit = Unit::Runner(key.clone());
        let target = inventory.targets.get(&key.target);
        let (state, hold) = (wanted.get(key), target.and_then(|read| read.hold.as_ref()));
        let desire = desires.digest(state, hold);
        if !inventory.statuses.get(&unit).is_some_and(|status| is_settled(status, &desire)) {
            survey.wakes.insert(unit.clone());
        }
        match leave(target.is_some(), state, hold) {
            Some(Leave::Gone) => {
                survey.missing.insert(key.clone());
            }
            Some(why) if may_want(&unit) => {
                survey.wants.insert(unit, why);
            }
            Some(_) | None => {}
        }
    }
    let domains = inventory.known.iter();
    let domains = domains.filter(|unit| is_left_domain(fleet, inventory, unit) && may_want(unit));
    survey.wants.extend(domains.map(|unit| (unit.clone(), Leave::Unmatched)));
    let digest = &fleet.settings().digest;
    let due = inventory.statuses.values().filter(|status| status.is_due(digest, now));
    survey.wakes.extend(due.map(|status| status.unit.clone()));
    survey
}

/// What is parked comes at its own time; what waits for an administrator is followed up.
fn is_settled(status: &Status, desire: &String) -> bool {
    let settled = status.settled_for.as_ref() == Some(desire)
        && status.condition(ConditionKind::NeedsAdministrator).is_none();
    settled || status.parked.is_some()
}

pub(super) fn wanted(
    fleet: &Fleet,
    inventory: &Inventory,
    now: Timestamp,
) -> BTreeMap<RunnerKey, WantedState> {
    let of_target = |read: &super::target::TargetRead| {
        let target = read.facts.id;
        let wanted = fleet.wanted_at(&read.facts, now).into_iter();
        wanted.map(move |one| (RunnerKey { target, profile: one.profile }, one.state))
    };
    inventory.targets.values().flat_map(of_target).collect()
}

pub(super) fn is_protected(fleet: &Fleet, unit: &Unit) -> bool {
    let profile = match unit {
        Unit::Runner(key) => fleet.profile(&key.profile),
        Unit::Domain(profile) => fleet.profile(profile),
        Unit::Target(_) | Unit::Identity(_) => None,
    };
    profile.is_some_and(|profile| profile.protect)
}

/// A shared domain whose profile is gone or shares no more, and whose last runner is gone too.
fn is_left_domain(fleet: &Fleet, inventory: &Inventory, unit: &Unit) -> bool {
    let Unit::Domain(profile) = unit else { return false };
    fleet.shared_domain(profile).is_none()
        && !inventory.made.iter().any(|key| key.profile == *profile)
}

/// Units that may leave and have a way to go: not drained yet, or past their grace.
pub(super) fn moving<'a>(
    inventory: &'a Inventory,
    permitted: &'a BTreeSet<Unit>,
    now: Timestamp,
) -> impl Iterator<Item = Unit> + 'a {
    let moves = move |unit: &&Unit| {
        let leaving = inventory.statuses.get(*unit).and_then(|status| status.leaving.as_ref());
        leaving.is_none_or(|leaving| !leaving.drained || leaving.until <= now)
    };
    permitted.iter().filter(moves).cloned()
}
