//! Which targets are destroyed, and not only out of sight.

use super::{
    Clients, Failure,
    inventory::{Inventory, target_of},
};
use crate::{
    adapters::gitlab,
    domain::{
        command::Order,
        fleet::Fleet,
        ids::{RunnerKey, TargetId, Unit},
        selector::Selector,
    },
};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

/// Two answers of 404 count as two when they are this far apart: a round's and a sweep's.
const APART: SignedDuration = SignedDuration::from_mins(5);

/// Which of the units whose target is missing belong to one that is destroyed: 404 by id twice and apart, our token
/// valid, other known targets readable, and a token that sees everything, a verified destroy hook or an operator's word.
pub(super) async fn confirm_gone(
    clients: &Clients,
    fleet: &Fleet,
    inventory: &Inventory,
    missing: &BTreeSet<RunnerKey>,
    now: Timestamp,
) -> Result<Vec<Unit>, Failure> {
    let told = |key: &RunnerKey| {
        let status = inventory.statuses.get(&Unit::Runner(key.clone()))?;
        status.missing.clone().filter(|missing| now.duration_since(missing.since) >= APART)
    };
    let suspects: Vec<(&RunnerKey, bool)> =
        missing.iter().filter_map(|key| Some((key, told(key)?.destroyed.is_some()))).collect();
    if suspects.is_empty() || !others_are_readable(fleet, inventory, missing) {
        return Ok(vec![]);
    }
    let gitlab = clients.gitlab();
    if !gitlab.token_self().await?.active {
        return Ok(vec![]);
    }
    let sees_everything = match gitlab.runners_of(TargetId::Instance).await {
        Ok(_) => true,
        Err(gitlab::Error::Forbidden { .. } | gitlab::Error::InsufficientScope { .. }) => false,
        Err(error) => return Err(error.into()),
    };
    let gone = suspects.into_iter().filter(|(_, destroyed)| *destroyed || sees_everything);
    Ok(gone.map(|(key, _)| Unit::Runner(key.clone())).collect())
}

/// Takes an operator's word that the targets of these units are destroyed, where GitLab shows them no more: as good as the hook's, until
/// one shows itself again. Whoever means *all* says nothing of any one.
pub(super) fn take_word(
    inventory: &mut Inventory,
    order: &Order,
    units: &BTreeSet<Unit>,
    now: Timestamp,
) -> BTreeSet<Unit> {
    let is_named =
        |unit: &Unit| order.of.iter().any(|one| *one != Selector::All && one.takes(unit, None));
    let is_lost = |unit: &&Unit| {
        target_of(unit).is_some_and(|target| {
            !inventory.targets.contains_key(&target) && !inventory.unread.contains_key(&target)
        })
    };
    let lost = units.iter().filter(is_lost).filter(|unit| is_named(unit));
    let lost: BTreeSet<Unit> = lost.cloned().collect();
    for unit in &lost {
        let status = inventory.statuses.get_mut(unit);
        if let Some(missing) = status.and_then(|status| status.missing.as_mut()) {
            missing.destroyed.get_or_insert(now);
        }
    }
    lost
}

/// Void where no other target is known. An anchor is known by the file: where everything below it was destroyed, that it is
/// there tells an end from a token that sees no more.
fn others_are_readable(
    fleet: &Fleet,
    inventory: &Inventory,
    missing: &BTreeSet<RunnerKey>,
) -> bool {
    let lost: BTreeSet<TargetId> = missing.iter().map(|key| key.target).collect();
    let known = inventory.known.iter().filter_map(target_of);
    let is_readable =
        |target: &TargetId| !lost.contains(target) && !inventory.unread.contains_key(target);
    let others: BTreeSet<TargetId> = known.filter(|target| *target != TargetId::Instance).collect();
    let mut anchors = fleet.anchors().map(|(_, id)| TargetId::Group(id));
    others.iter().any(is_readable)
        || others.len() == 1
        || anchors.any(|anchor| inventory.targets.contains_key(&anchor))
}
