//! What a sweep makes of what it saw. Pure.

use super::{desire::Desires, inventory::Inventory, lent, prepare::leave};
use crate::domain::{
    fleet::{Fleet, Served, WantedState},
    ids::{ProfileName, RunnerKey, Unit},
    ledger::Leave,
    names,
    plan::beyond::BEYOND,
    spec::{IdentitySpec, Isolation},
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
    /// Units whose target could not be read: they may want removal too, and none of them is permitted.
    pub(super) unread: BTreeSet<Unit>,
    /// What the rules give every target now.
    pub(super) wanted: BTreeMap<RunnerKey, WantedState>,
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
        // Its round could not read the target either.
        if inventory.unread.contains_key(&key.target) {
            if may_want(&unit) {
                survey.unread.insert(unit);
            }
            continue;
        }
        let target = inventory.targets.get(&key.target);
        let withdrawn = fleet.withdrawal(key.target);
        let state = wanted.get(key).or(withdrawn.as_ref());
        // Nothing is made of it, and when it has gone there is nothing to look at.
        let is_withdrawn = matches!(state, Some(WantedState::Withdrawn { .. }));
        if is_withdrawn && !inventory.known.contains(&unit) {
            continue;
        }
        let hold = target.and_then(|read| read.hold.as_ref());
        let desire = desires.digest(state, hold);
        let settled = inventory.statuses.get(&unit).is_some_and(|status| {
            is_settled(status, &desire)
                && looks_settled(inventory, status)
                && (status.order.is_none() || status.parked.is_some())
        }) && !is_amiss(fleet, inventory, key, state)
            && !inventory.ledger.book.revokes(&unit)
            && (target.is_some() || is_known_missing(inventory, &unit));
        if !settled {
            survey.wakes.insert(unit.clone());
        }
        match leave(target.is_some(), state, hold) {
            Some(Leave::Gone) => {
                survey.missing.insert(key.clone());
            }
            Some(Leave::Outside) if !is_beyond(inventory, &unit) => {}
            Some(why) if may_want(&unit) => {
                survey.wants.insert(unit, why);
            }
            Some(_) | None => {}
        }
    }
    let lenders = fleet.existing_identities();
    let shared = inventory.statuses.values().filter(|status| match &status.unit {
        Unit::Domain(profile) => {
            let state = fleet.shared_state(profile, now);
            // What nobody shares any more has no round but for who has not moved out.
            let is_used = state.is_some() || inventory.tenants.contains(profile);
            (is_used && !is_settled(status, &desires.of_domain(state.as_ref())))
                || !looks_settled(inventory, status)
                || (status.sight.is_some() && !has_roles(fleet, inventory, profile, state.as_ref()))
        }
        Unit::Identity(name) => {
            !looks_settled(inventory, status)
                || (lenders.contains_key(name) && is_unfinished(status))
        }
        Unit::Runner(_) | Unit::Target(_) => false,
    });
    survey.wakes.extend(shared.map(|status| status.unit.clone()));
    // One whose status is lost would never be looked at again.
    let untold = inventory
        .known
        .iter()
        .filter(|unit| matches!(unit, Unit::Domain(_)) && !inventory.statuses.contains_key(unit));
    survey.wakes.extend(untold.cloned());
    let domains = inventory.known.iter();
    let domains = domains.filter(|unit| is_left_domain(fleet, inventory, unit) && may_want(unit));
    survey.wants.extend(domains.map(|unit| (unit.clone(), Leave::Unmatched)));
    let beyond = inventory.known.iter().filter(|unit| {
        let Unit::Domain(profile) = unit else { return false };
        let rests = match fleet.shared_state(profile, now) {
            Some(WantedState::OutsideGuardrails { .. }) => true,
            Some(
                WantedState::Runner(_)
                | WantedState::NeedsValue { .. }
                | WantedState::Withdrawn { .. }
                | WantedState::ExceptionEnded { .. }
                | WantedState::AnchorMoved { .. },
            ) => false,
            // Without a runner in it, it leaves whole.
            None => inventory.tenants.contains(profile),
        };
        rests && is_beyond(inventory, unit) && may_want(unit)
    });
    survey.wants.extend(beyond.map(|unit| (unit.clone(), Leave::Outside)));
    let digest = &fleet.settings().digest;
    let due = inventory.statuses.values().filter(|status| status.is_due(digest, now));
    survey.wakes.extend(due.map(|status| status.unit.clone()));
    survey.wanted = wanted;
    survey
}

/// The runners that the rules give, where they are.
pub(super) fn served<'a>(
    inventory: &'a Inventory,
    wanted: &'a BTreeMap<RunnerKey, WantedState>,
) -> Vec<Served<'a>> {
    let served = wanted.iter().filter_map(|(key, state)| match state {
        WantedState::Runner(spec) => {
            let facts = &inventory.targets.get(&key.target)?.facts;
            Some(Served { facts, spec })
        }
        WantedState::NeedsValue { .. }
        | WantedState::Withdrawn { .. }
        | WantedState::OutsideGuardrails { .. }
        | WantedState::ExceptionEnded { .. }
        | WantedState::AnchorMoved { .. } => None,
    });
    served.collect()
}

/// What no digest shows: roles taken or added, a place on an existing identity, a manager that does not run, and who polls. What is parked comes at its own time.
fn is_amiss(
    fleet: &Fleet,
    inventory: &Inventory,
    key: &RunnerKey,
    state: Option<&WantedState>,
) -> bool {
    let Some(WantedState::Runner(spec)) = state else { return false };
    let parked = |status: &Status| status.parked.is_some() || status.sight.is_none();
    if inventory.statuses.get(&Unit::Runner(key.clone())).is_some_and(parked) {
        return false;
    }
    let has_roles = match (&spec.identity, spec.isolation) {
        (IdentitySpec::Managed { roles, .. }, Isolation::Target) => {
            inventory.looks.has_roles(&key.to_string(), roles)
        }
        (IdentitySpec::Existing { .. }, Isolation::Target) => lent::is_kept(fleet, inventory, spec),
        (IdentitySpec::Managed { .. } | IdentitySpec::Existing { .. }, Isolation::Profile)
        | (IdentitySpec::None, _) => true,
    };
    inventory.looks.is_oddly_managed(key) || !has_roles
}

/// Whether a round found rights that the guardrails allow no more.
fn is_beyond(inventory: &Inventory, unit: &Unit) -> bool {
    let told = inventory.statuses.get(unit);
    let told = told.and_then(|status| status.condition(ConditionKind::NeedsAdministrator));
    told.is_some_and(|told| told.reason == BEYOND)
}

/// Whether a round has looked for the target and put down since when it is missing; what is parked comes at its own time.
fn is_known_missing(inventory: &Inventory, unit: &Unit) -> bool {
    let status = inventory.statuses.get(unit);
    status.is_some_and(|status| status.missing.is_some() || status.parked.is_some())
}

/// Whether the lists show what its last settled round saw. What is parked, held or leaving has no such sight.
fn looks_settled(inventory: &Inventory, status: &Status) -> bool {
    status.sight.as_ref().is_none_or(|seen| inventory.looks.agree(&status.unit, seen))
}

/// An identity's last round had something to do or to wait for; what is parked comes at its own time.
fn is_unfinished(status: &Status) -> bool {
    status.sight.is_none() && status.parked.is_none()
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

fn has_roles(
    fleet: &Fleet,
    inventory: &Inventory,
    profile: &ProfileName,
    state: Option<&WantedState>,
) -> bool {
    let Some(WantedState::Runner(spec)) = state else { return true };
    match &spec.identity {
        IdentitySpec::Managed { roles, .. } => {
            inventory.looks.has_roles(&names::shared_domain_key(profile), roles)
        }
        IdentitySpec::Existing { .. } => lent::is_kept(fleet, inventory, spec),
        IdentitySpec::None => true,
    }
}

pub(super) fn is_protected(fleet: &Fleet, unit: &Unit) -> bool {
    match unit {
        Unit::Runner(key) => fleet.protects(key),
        Unit::Domain(profile) => fleet.profile(profile).is_some_and(|profile| profile.protect),
        Unit::Target(_) | Unit::Identity(_) => false,
    }
}

/// A shared domain whose profile is gone or shares no more, and whose last runner is gone too or has moved out.
fn is_left_domain(fleet: &Fleet, inventory: &Inventory, unit: &Unit) -> bool {
    let Unit::Domain(profile) = unit else { return false };
    fleet.shared_domain(profile).is_none() && !inventory.tenants.contains(profile)
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
