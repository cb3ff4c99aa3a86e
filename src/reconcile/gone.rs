//! Which targets are destroyed, and not only out of sight.

use super::{
    Clients, Failure,
    inventory::{Inventory, target_of},
};
use crate::{
    adapters::gitlab,
    domain::{
        fleet::Fleet,
        ids::{RunnerKey, TargetId, Unit},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

/// Two answers of 404 count as two when they are this far apart: a round's and a sweep's.
const APART: SignedDuration = SignedDuration::from_mins(5);

/// Which of the units whose target is missing belong to one that is destroyed: 404 by id twice and apart, our token
/// valid, other known targets readable, and a token that sees everything or a verified destroy hook.
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
