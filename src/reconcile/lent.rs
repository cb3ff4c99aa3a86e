//! Administrators' identities as a sweep sees them: what a unit was lent there, and what it was promised.

use super::{
    Clients, Failure,
    bulk::{self, Sliced, ends_slice},
    deadline::Deadline,
    inventory::Inventory,
    target::TargetRead,
};
use crate::domain::{
    azure::{FederatedCredential, Identity, ResourceId, RoleAssignment},
    class::Class,
    fleet::{Fleet, Profile, WantedState},
    ids::{IdentityName, TargetId, Unit},
    names,
    plan::{domain::credential, rights::missing_grants},
    slice::Slice,
    spec::{Grant, IdentitySpec, Isolation, RunnerSpec},
    status::Status,
};
use futures::{future::join_all, try_join};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// An existing identity, as a sweep sees it.
pub(super) struct Lent {
    pub(super) id: ResourceId,
    /// `None`: there is none, or none that we may see.
    pub(super) identity: Option<Identity>,
    pub(super) credentials: Vec<FederatedCredential>,
}

impl Lent {
    pub(super) fn principal(&self) -> Option<Uuid> {
        self.identity.as_ref().map(|identity| identity.principal_id)
    }
}

/// Existing identities of the file, by name, as far as they could be read.
#[derive(Default)]
pub(super) struct LentRead {
    pub(super) seen: BTreeMap<IdentityName, Lent>,
    /// Those that Azure does not show us, and what it answers instead: they are not judged.
    pub(super) unread: Vec<(ResourceId, String)>,
}

/// Every existing identity of the file with its credentials: they have no tags of ours. One that cannot be read hides no other.
pub(super) async fn all(clients: &Clients, fleet: &Fleet) -> Result<LentRead, Failure> {
    let azure = clients.arm();
    let asked = fleet.existing_identities().into_iter().map(|(name, (id, _))| async move {
        let read = async { try_join!(azure.identity(&id), azure.credentials(&id)) };
        let read = read.await.map_err(Failure::from);
        (name, id, read)
    });
    let mut found = LentRead::default();
    for (name, id, read) in join_all(asked).await {
        match read {
            Ok((identity, credentials)) => {
                let credentials = credentials.unwrap_or_default();
                found.seen.insert(name, Lent { id, identity, credentials });
            }
            Err(failure) if ends_slice(&failure) => return Err(failure),
            Err(failure) => found.unread.push((id, failure.text)),
        }
    }
    Ok(found)
}

/// What principals have at scopes that no list of the guardrails' scopes shows, as far as a sweep looked.
pub(super) type Beyond = BTreeMap<(Uuid, ResourceId), Vec<RoleAssignment>>;

/// Where a sweep looks for what units were promised.
pub(super) struct Promises<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) targets: &'a BTreeMap<TargetId, TargetRead>,
    pub(super) statuses: &'a [Status],
    pub(super) lent: &'a BTreeMap<IdentityName, Lent>,
    pub(super) issuer: &'a str,
}

/// Reads what settled units are expected to have beyond the guardrails, which do not bound it: one list for each identity and scope.
pub(super) async fn beyond(
    clients: &Clients,
    promises: Promises<'_>,
    slice: (Option<&Slice>, Deadline),
) -> Result<Sliced<Beyond>, Failure> {
    let fleet = promises.fleet;
    let asked = promises.beyond(clients.now());
    let keys: Vec<String> = asked.keys().cloned().collect();
    let read = |key: String| {
        let asked = asked.get(&key).cloned();
        async move {
            let Some((principal, scope)) = asked else { return Ok(None) };
            let held = match clients.arm().assignments_of(&scope, principal).await {
                Ok(held) => held.unwrap_or_default(),
                // The unit's own round asks the same, and says so.
                Err(error) if error.class() == Class::Permanent => vec![],
                Err(error) => return Err(Failure::from(error)),
            };
            Ok(Some(((principal, scope), held)))
        }
    };
    let most = fleet.settings().sweep_calls.azure as usize;
    let Sliced { seen, next, unseen } =
        bulk::in_turn(&keys, most, slice, clients.now(), read).await?;
    Ok(Sliced { seen: seen.into_iter().flatten().collect(), next, unseen })
}

impl Promises<'_> {
    /// Which principal's rights are to be read at which scope, each once.
    fn beyond(&self, now: Timestamp) -> BTreeMap<String, (Uuid, ResourceId)> {
        let mut asked = BTreeMap::new();
        let expecting = self.fleet.profiles().filter(|profile| profile.expects_rights());
        let (alone, shared): (Vec<&Profile>, Vec<&Profile>) =
            expecting.partition(|profile| profile.isolation == Isolation::Target);
        if alone.is_empty() && shared.is_empty() {
            return asked;
        }
        let settled: BTreeSet<&Unit> =
            self.statuses.iter().filter(|one| one.sight.is_some()).map(|one| &one.unit).collect();
        let mut take = |unit: &Unit, spec: &RunnerSpec| {
            let IdentitySpec::Existing { expect, .. } = &spec.identity else { return };
            let holder = holder(self.fleet, self.lent, self.issuer, spec);
            let Some(principal) = holder.and_then(Lent::principal) else { return };
            let hidden = expect.iter().filter(|grant| !is_listed(self.fleet, grant));
            for Grant { scope, .. } in hidden.filter(|_| settled.contains(unit)) {
                let key = format!("{principal} {}", scope.lower());
                asked.insert(key, (principal, scope.clone()));
            }
        };
        for profile in shared {
            if let Some(domain) = self.fleet.shared_domain(&profile.key) {
                take(&Unit::Domain(profile.key.clone()), &domain.runner);
            }
        }
        // What the file wants of each target is worked out only where a profile asks for it.
        for read in self.targets.values().filter(|_| !alone.is_empty()) {
            for wanted in self.fleet.wanted_at(&read.facts, now) {
                if let WantedState::Runner(spec) = wanted.state
                    && spec.isolation == Isolation::Target
                {
                    take(&Unit::Runner(spec.key.clone()), &spec);
                }
            }
        }
        asked
    }
}

/// Whether the domain's credential is on one of its profile's existing identities, and that one has every expected right, as far
/// as the sweep looked.
pub(super) fn is_kept(fleet: &Fleet, inventory: &Inventory, spec: &RunnerSpec) -> bool {
    let IdentitySpec::Existing { expect, .. } = &spec.identity else { return true };
    let (Some(lent), Some(issuer)) = (&inventory.watched.lent, &inventory.issuer) else {
        return true;
    };
    let holder = holder(fleet, lent, issuer, spec);
    let Some(principal) = holder.and_then(Lent::principal) else { return false };
    let held = |grant: &Grant| match is_listed(fleet, grant) {
        true => inventory.looks.held_by(principal),
        false => inventory.beyond.get(&(principal, grant.scope.clone())).map(Vec::as_slice),
    };
    let is_there = |grant: &Grant| {
        held(grant).is_none_or(|held| missing_grants(std::slice::from_ref(grant), held).is_empty())
    };
    expect.iter().all(is_there)
}

/// The identity that holds the domain's credential: the one that its round chooses.
fn holder<'a>(
    fleet: &Fleet,
    lent: &'a BTreeMap<IdentityName, Lent>,
    issuer: &str,
    spec: &RunnerSpec,
) -> Option<&'a Lent> {
    let IdentitySpec::Existing { candidates, .. } = &spec.identity else { return None };
    let wanted = credential(spec, &fleet.settings().name, issuer);
    let mut all = candidates.iter().filter_map(|id| lent.get(&names::identity_unit(id)));
    all.find(|one| one.credentials.contains(&wanted))
}

/// Whether the lists of the guardrails' scopes show it.
fn is_listed(fleet: &Fleet, grant: &Grant) -> bool {
    fleet.guardrails().scopes.iter().any(|scope| scope.contains(&grant.scope))
}
