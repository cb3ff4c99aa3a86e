//! What a sweep reads of Azure, in lists and rotating slices.

use super::{Clients, Failure, deadline::Deadline};
use crate::{
    adapters::azure,
    domain::{
        azure::{Identity, ResourceId, RoleAssignment},
        class::Class,
        fleet::{Fleet, Profile},
        ids::{InstallationId, Unit},
        names,
        plan::domain::credentials_digest,
        slice::{self, Slice},
        status::Status,
        watch::azure::Guarded,
    },
};
use futures::{StreamExt, future::try_join_all, stream};
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tracing::info;

/// What came of one slice.
pub(super) struct Sliced<T> {
    pub(super) seen: T,
    /// `None`: it was everything.
    pub(super) next: Option<Slice>,
    /// What could not be read though its service answers, and why. The cursor goes on: one bad part is not to hide the rest.
    pub(super) unseen: Vec<String>,
}

/// How many of a slice are read at once.
const AT_ONCE: usize = 25;

/// The keys of managed identities whose federated credentials are not as their tags say, as far as this sweep looked: there is
/// no list of many.
pub(super) async fn credentials(
    clients: &Clients,
    fleet: &Fleet,
    identities: &[Identity],
    statuses: &[Status],
    (before, deadline): (Option<&Slice>, Deadline),
) -> Result<Sliced<BTreeSet<String>>, Failure> {
    let keyed: BTreeMap<&str, &Identity> = identities
        .iter()
        .filter_map(|one| Some((one.tags.get(names::TAG_KEY)?.as_str(), one)))
        .collect();
    // Only what a round has settled has a digest to be held against.
    let settled: BTreeSet<String> =
        statuses.iter().filter(|one| one.sight.is_some()).filter_map(key_of).collect();
    let keys: Vec<String> = keyed.keys().map(|key| (*key).to_owned()).collect();
    let read = |key: String| {
        let settled = settled.contains(&key);
        let identity = keyed.get(key.as_str()).copied();
        async move {
            let Some(identity) = identity.filter(|_| settled) else { return Ok(None) };
            let held = clients.arm().credentials(&identity.id).await?.unwrap_or_default();
            let told = identity.tags.get(names::TAG_CREDENTIALS);
            Ok::<_, Failure>((told != Some(&credentials_digest(&held))).then_some(key))
        }
    };
    let most = fleet.settings().sweep_calls.azure as usize;
    let looked = in_turn(&keys, most, (before, deadline), clients.now(), read).await?;
    let Sliced { seen, next, unseen } = looked;
    Ok(Sliced { seen: seen.into_iter().flatten().collect(), next, unseen })
}

/// Reads `most` of the keys, which are sorted, from where the last sweep ended.
pub(super) async fn in_turn<T, Read>(
    keys: &[String],
    most: usize,
    (before, deadline): (Option<&Slice>, Deadline),
    now: Timestamp,
    read: impl FnMut(String) -> Read,
) -> Result<Sliced<Vec<T>>, Failure>
where
    Read: Future<Output = Result<T, Failure>>,
{
    let due = slice::due(before, keys);
    let due = due.get(..most).unwrap_or(due);
    let mut answers = stream::iter(due.iter().cloned().map(read)).buffered(AT_ONCE);
    let (mut seen, mut unseen, mut looked) = (Vec::new(), Vec::new(), 0);
    // Answers come in order: where the time ends, the next sweep goes on.
    while let Some(Some(answer)) = deadline.wait(answers.next()).await {
        looked += 1;
        match answer {
            Ok(found) => seen.push(found),
            Err(failure) if ends_slice(&failure) => return Err(failure),
            Err(failure) => unseen.push(failure.text),
        }
    }
    // One that never answers is not to hide the rest; where none answers, the service does not.
    if looked > 1 && unseen.len() == looked {
        return Err(Failure::retry(unseen.swap_remove(0)));
    }
    let next = slice::next(before, keys, looked, now);
    Ok(Sliced { seen, next, unseen })
}

/// The service wants no more calls now: the cursor stays, and the next sweep asks again.
pub(super) fn ends_slice(failure: &Failure) -> bool {
    match failure.class {
        Class::Retry { after } => after.is_some(),
        Class::Wait { .. } => true,
        Class::Conflict | Class::Permanent => false,
    }
}

/// The key that what is made for the unit bears.
fn key_of(status: &Status) -> Option<String> {
    match &status.unit {
        Unit::Runner(runner) => Some(runner.to_string()),
        Unit::Domain(profile) => Some(names::shared_domain_key(profile)),
        Unit::Target(_) | Unit::Identity(_) => None,
    }
}

/// Who issues the tokens of the cluster's accounts; asked where a profile has an identity.
pub(super) async fn issuer(clients: &Clients, fleet: &Fleet) -> Result<Option<String>, Failure> {
    match fleet.profiles().any(Profile::has_identity) {
        true => clients.issuer().await.map(Some),
        false => Ok(None),
    }
}

/// Who has rights where none of the fleet's identities may write.
pub(super) async fn guarded(clients: &Clients, fleet: &Fleet) -> Result<Vec<Guarded>, Failure> {
    let asked = fleet.guardrails().never.iter().map(|scope| async move {
        let assignments = match clients.arm().assignments_at(scope).await {
            Ok(found) => found,
            Err(error) if error.class() == Class::Permanent => None,
            Err(error) => return Err(Failure::from(error)),
        };
        Ok(Guarded { scope: scope.clone(), assignments })
    });
    try_join_all(asked).await
}

/// Identities of ours that lie elsewhere than the file says, such as after another `azure.resourceGroup`: nobody keeps them, and
/// they may still hold rights. Resource Graph lags and shows what we may read, so they are told and never touched.
pub(super) async fn strays(
    clients: &Clients,
    fleet: &Fleet,
    installation: &InstallationId,
) -> Vec<ResourceId> {
    let settings = fleet.settings();
    let Some(home) = &settings.azure else { return vec![] };
    let found = clients.arm().graph_identities(&[home.subscription], &settings.name).await;
    let found = shown("identities", found);
    let home =
        format!("/subscriptions/{}/resourceGroups/{}", home.subscription, home.resource_group);
    let is_stray = |one: &Identity| {
        one.tags.get(names::TAG_INSTALLATION) == Some(&installation.0)
            && !one.id.lower().starts_with(&format!("{}/", home.to_lowercase()))
    };
    let mut strays: Vec<ResourceId> =
        found.into_iter().filter(is_stray).map(|one| one.id).collect();
    // They would keep what ten thousand identities took.
    strays.shrink_to_fit();
    strays
}

/// Roles that forerunner gave where the guardrails' scopes do not reach, such as before one of them was taken off. Resource Graph
/// lags and shows what we may read, so they are told and never touched.
pub(super) async fn beyond_reach(
    clients: &Clients,
    fleet: &Fleet,
    installation: &InstallationId,
) -> Vec<RoleAssignment> {
    let settings = fleet.settings();
    if settings.azure.is_none() {
        return vec![];
    }
    let described = names::assignment_description(&settings.name, installation, "");
    let found = clients.arm().graph_described(&described, &settings.reach.scopes).await;
    shown("role assignments", found)
}

/// What Resource Graph shows; nothing rests on what it does not.
fn shown<T>(what: &str, found: Result<Vec<T>, azure::Error>) -> Vec<T> {
    found.unwrap_or_else(|error| {
        info!("Resource Graph shows no {what}: {}", Failure::from(error).text);
        vec![]
    })
}

/// Every assignment where forerunner may give roles, by principal: one list for each scope that no other one holds.
pub(super) async fn assignments(
    clients: &Clients,
    fleet: &Fleet,
) -> Result<Arc<[RoleAssignment]>, Failure> {
    let asked = fleet.settings().reach.scopes.iter().map(|scope| async move {
        let found = clients.arm().assignments_at(scope).await?;
        found.ok_or_else(|| {
            Failure::permanent(format!(
                "scope `{scope}` of guardrails.scopes does not exist, or forerunner may not read it"
            ))
        })
    });
    let mut all: Vec<RoleAssignment> = try_join_all(asked).await?.into_iter().flatten().collect();
    // What lies above two scopes is in the lists of both.
    all.sort_unstable_by_key(|one| (one.principal_id, one.name));
    all.dedup();
    Ok(all.into())
}
