//! What units look like in a sweep's lists, to be compared with what their last settled round saw.

use super::{Clients, Failure};
use crate::{
    adapters::gitlab,
    domain::{
        azure::{FederatedCredential, Identity, ResourceId, RoleAssignment},
        fleet::Fleet,
        gitlab::{Entity, EntityKind},
        ids::{FleetName, IdentityName, InstallationId, RunnerKey, TargetId, Unit},
        kubernetes::Object,
        names,
        observed::{DomainObserved, Observed, SecretObserved},
        plan::{
            domain::{credentials_digest, foreign_rights, missing_grants},
            identity::IdentityRound,
        },
        sight::{self, Marks, Sight},
        spec::{FleetSettings, Grant},
        status::Status,
    },
};
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use tracing::info;
use uuid::Uuid;

/// What a sweep saw of each unit. What it did not look at this time is not judged.
#[derive(Debug, Default)]
pub(super) struct Looks {
    gitlab: BTreeMap<RunnerKey, Option<String>>,
    azure: Option<BTreeMap<String, Marks>>,
    kubernetes: BTreeMap<String, Marks>,
    lent: BTreeMap<IdentityName, Option<String>>,
    /// Whose principal an identity's key has.
    principals: BTreeMap<String, Uuid>,
    /// What each principal may do, as far as forerunner may look.
    assignments: Option<BTreeMap<Uuid, Vec<RoleAssignment>>>,
    /// Runners that have not been polled with for long, or never.
    silent: BTreeSet<RunnerKey>,
    /// Keys of identities whose credentials are others than their tags say.
    changed_credentials: BTreeSet<String>,
}

/// What the parts of a sweep saw, each in its own way.
pub(super) struct Seen<'a> {
    pub(super) objects: BTreeMap<String, Marks>,
    pub(super) identities: Option<&'a [Identity]>,
    pub(super) entities: Entities,
    pub(super) changed_credentials: BTreeSet<String>,
    pub(super) lent: Option<BTreeMap<IdentityName, Option<String>>>,
    pub(super) assignments: Option<Vec<RoleAssignment>>,
}

/// Entities by the runners that they are of.
#[derive(Debug, Default)]
pub(super) struct Entities {
    looks: BTreeMap<RunnerKey, Option<String>>,
    silent: BTreeSet<RunnerKey>,
}

impl Looks {
    pub(super) fn of(seen: Seen<'_>) -> Self {
        let Seen { objects, identities, entities, changed_credentials, lent, assignments } = seen;
        let Entities { looks: gitlab, silent } = entities;
        let lent = lent.unwrap_or_default();
        let kubernetes = objects;
        let mut looks =
            Self { gitlab, silent, lent, changed_credentials, kubernetes, ..Self::default() };
        looks.azure = identities.map(|identities| {
            let mut azure: BTreeMap<String, Marks> = BTreeMap::new();
            for identity in identities {
                if let Some(key) = identity.tags.get(names::TAG_KEY) {
                    azure.entry(key.clone()).or_default().identity(identity);
                    looks.principals.insert(key.clone(), identity.principal_id);
                }
            }
            azure
        });
        looks.assignments = assignments.map(|assignments| {
            let mut by_principal: BTreeMap<Uuid, Vec<RoleAssignment>> = BTreeMap::new();
            for assignment in assignments {
                let of = by_principal.entry(assignment.principal_id).or_default();
                if !of.contains(&assignment) {
                    of.push(assignment);
                }
            }
            by_principal
        });
        looks
    }

    /// Whether an identity of ours has exactly these roles, as far as forerunner may look: none is missing and, where one of
    /// them lies, nobody gave it another.
    pub(super) fn has_roles(&self, key: &str, roles: &[Grant]) -> bool {
        let (Some(principal), Some(all)) = (self.principals.get(key), &self.assignments) else {
            return true;
        };
        let held = all.get(principal).map_or(&[][..], Vec::as_slice);
        missing_grants(roles, held).is_empty() && foreign_rights(roles, held).is_empty()
    }

    /// Whether nobody has polled with it for long.
    pub(super) fn is_silent(&self, key: &RunnerKey) -> bool {
        self.silent.contains(key)
    }

    /// Whether the unit still looks as its last settled round saw it.
    pub(super) fn agree(&self, unit: &Unit, seen: &Sight) -> bool {
        let key = match unit {
            Unit::Runner(key) => key.to_string(),
            Unit::Domain(profile) => names::shared_domain_key(profile),
            Unit::Identity(name) => {
                return self.lent.get(name).is_none_or(|found| *found == seen.azure);
            }
            Unit::Target(_) => return true,
        };
        let digest = |of: &BTreeMap<String, Marks>| of.get(&key).and_then(Marks::digest);
        let gitlab = match unit {
            Unit::Runner(key) => self.gitlab.get(key).is_none_or(|found| *found == seen.gitlab),
            Unit::Domain(_) | Unit::Identity(_) | Unit::Target(_) => true,
        };
        gitlab
            && self.azure.as_ref().is_none_or(|azure| digest(azure) == seen.azure)
            && digest(&self.kubernetes) == seen.kubernetes
            && !self.changed_credentials.contains(&key)
    }
}

/// A manager that polls shows within this time (GitLab's own *online*, gitlab.md §3.8).
const SILENT: SignedDuration = SignedDuration::from_hours(2);
/// How many targets' lists a sweep reads one by one where our token may not read in bulk; the next goes on from there.
const TARGETS_MAX: usize = 200;
/// How many identities' credentials a sweep reads; the next goes on where this one ended.
const CREDENTIALS_MAX: usize = 50;

/// The entities of every runner that was made: in bulk where our token may, else by the lists of their targets.
pub(super) async fn entities(
    clients: &Clients,
    fleet: &Fleet,
    made: &BTreeSet<RunnerKey>,
) -> Result<Entities, Failure> {
    let (name, now) = (&fleet.settings().name, clients.now());
    let search = format!("[forerunner:{name}:");
    let kinds: BTreeSet<u8> = made.iter().map(|key| rank(EntityKind::of(key.target))).collect();
    let mut all: Vec<Entity> = Vec::new();
    for kind in [EntityKind::Instance, EntityKind::Group, EntityKind::Project] {
        if !kinds.contains(&rank(kind)) {
            continue;
        }
        match clients.gitlab().runners_bulk(kind, &search).await {
            Ok(entities) => all.extend(entities),
            // What a token without an administrator's rights gets, and what proves nothing.
            Err(gitlab::Error::Unreadable { .. } | gitlab::Error::Forbidden { .. }) => {
                return one_by_one(clients, name, made, now).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let mut found = Entities::default();
    for key in made {
        found.take(&all, name, key, now);
    }
    Ok(found)
}

impl Entities {
    fn take(&mut self, entities: &[Entity], fleet: &FleetName, key: &RunnerKey, now: Timestamp) {
        let mut marks = Marks::default();
        let ours: Vec<&Entity> =
            entities.iter().filter(|one| sight::is_of(one, fleet, key)).collect();
        ours.iter().for_each(|entity| marks.entity(entity));
        let polled = |one: &&&Entity| {
            one.paused || one.contacted_at.is_some_and(|at| now.duration_since(at) < SILENT)
        };
        if ours.iter().filter(polled).count() < ours.len() {
            self.silent.insert(key.clone());
        }
        self.looks.insert(key.clone(), marks.digest());
    }
}

fn rank(kind: EntityKind) -> u8 {
    match kind {
        EntityKind::Instance => 0,
        EntityKind::Group => 1,
        EntityKind::Project => 2,
    }
}

async fn one_by_one(
    clients: &Clients,
    fleet: &FleetName,
    made: &BTreeSet<RunnerKey>,
    now: Timestamp,
) -> Result<Entities, Failure> {
    let targets: BTreeSet<TargetId> = made.iter().map(|key| key.target).collect();
    let targets: Vec<TargetId> = targets.into_iter().collect();
    let turn = clients.turn(targets.len().div_ceil(TARGETS_MAX));
    let slice = targets.chunks(TARGETS_MAX).nth(turn).unwrap_or_default();
    if slice.len() < targets.len() {
        info!("{} of {} targets have their runners looked at", slice.len(), targets.len());
    }
    let gitlab = clients.gitlab();
    let mut found = Entities::default();
    for target in slice.iter().copied() {
        let keys: Vec<&RunnerKey> = made.iter().filter(|key| key.target == target).collect();
        // A target that is gone or hidden is the round's to judge.
        let listed = match gitlab.runners_of(target).await {
            Ok(listed) => listed,
            Err(gitlab::Error::NotFound { .. } | gitlab::Error::Forbidden { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let ids = listed.iter().filter(|one| {
            keys.iter().any(|key| crate::domain::claim::concerns(one, fleet, key, &[]))
        });
        let read = try_join_all(ids.map(|one| gitlab.entity(one.id))).await?;
        let entities: Vec<Entity> = read.into_iter().flatten().collect();
        for key in keys {
            found.take(&entities, fleet, key, now);
        }
    }
    Ok(found)
}

/// A rotating slice of the managed identities: federated credentials have no list of many.
pub(super) async fn credentials(
    clients: &Clients,
    identities: &[Identity],
    statuses: &[Status],
) -> Result<BTreeSet<String>, Failure> {
    let mut keyed: Vec<(&String, &Identity)> =
        identities.iter().filter_map(|one| Some((one.tags.get(names::TAG_KEY)?, one))).collect();
    keyed.sort_by_key(|(key, _)| (*key).clone());
    let turn = clients.turn(keyed.len().div_ceil(CREDENTIALS_MAX));
    let slice = keyed.chunks(CREDENTIALS_MAX).nth(turn).unwrap_or_default();
    // Only what a round has settled has a digest to be held against.
    let settled = |key: &str| {
        statuses.iter().any(|status| match &status.unit {
            Unit::Runner(runner) => runner.to_string() == key && status.sight.is_some(),
            Unit::Domain(profile) => {
                names::shared_domain_key(profile) == key && status.sight.is_some()
            }
            Unit::Target(_) | Unit::Identity(_) => false,
        })
    };
    let asked = slice.iter().filter(|(key, _)| settled(key)).map(|(key, identity)| async move {
        let held = clients.arm().credentials(&identity.id).await?.unwrap_or_default();
        let told = identity.tags.get(names::TAG_CREDENTIALS);
        let changed = told != Some(&credentials_digest(&held));
        Ok::<_, Failure>(changed.then(|| (*key).clone()))
    });
    Ok(try_join_all(asked).await?.into_iter().flatten().collect())
}

/// The credentials of every existing identity of the file: they have no tags of ours.
pub(super) async fn lent(
    clients: &Clients,
    fleet: &Fleet,
) -> Result<BTreeMap<IdentityName, Option<String>>, Failure> {
    let identities: Vec<(IdentityName, ResourceId)> =
        fleet.existing_identities().into_iter().map(|(name, (id, _))| (name, id)).collect();
    let asked = identities.into_iter().map(|(name, id)| async move {
        let held: Vec<FederatedCredential> =
            clients.arm().credentials(&id).await?.unwrap_or_default();
        let mut marks = Marks::default();
        held.iter().for_each(|one| marks.credential(one));
        Ok::<_, Failure>((name, marks.digest()))
    });
    Ok(try_join_all(asked).await?.into_iter().collect())
}

/// Identities of ours that lie elsewhere than the file says, such as after another `azure.resourceGroup`: nobody keeps them, and
/// they may still hold rights. Resource Graph lags and shows what we may read, so they are told and never touched.
pub(super) async fn strays(
    clients: &Clients,
    fleet: &Fleet,
    installation: &InstallationId,
) -> Vec<ResourceId> {
    let settings = fleet.settings();
    let Some(azure) = &settings.azure else { return vec![] };
    let found = clients.arm().graph_identities(&[azure.subscription], &settings.name).await;
    let found = found.unwrap_or_else(|error| {
        info!("Resource Graph shows no identities: {}", Failure::from(error).text);
        vec![]
    });
    let home =
        format!("/subscriptions/{}/resourceGroups/{}", azure.subscription, azure.resource_group);
    let is_stray = |one: &Identity| {
        one.tags.get(names::TAG_INSTALLATION) == Some(&installation.0)
            && !one.id.lower().starts_with(&format!("{}/", home.to_lowercase()))
    };
    found.into_iter().filter(is_stray).map(|one| one.id).collect()
}

/// Every assignment where forerunner may give roles: one list for each scope that no other one holds.
pub(super) async fn assignments(
    clients: &Clients,
    fleet: &Fleet,
) -> Result<Vec<RoleAssignment>, Failure> {
    let scopes = &fleet.guardrails().scopes;
    let outermost = scopes.iter().enumerate().filter(|(at, scope)| {
        !scopes
            .iter()
            .enumerate()
            .any(|(other, outer)| outer.contains(scope) && (!scope.contains(outer) || other < *at))
    });
    let asked = outermost.map(|(_, scope)| async move {
        let found = clients.arm().assignments_at(scope).await?;
        found.ok_or_else(|| {
            Failure::permanent(format!(
                "scope `{scope}` of guardrails.scopes does not exist, or forerunner may not read it"
            ))
        })
    });
    Ok(try_join_all(asked).await?.concat())
}

/// What a settled round saw of its runner.
pub(super) fn of_runner(observed: &Observed, fleet: &FleetSettings, key: &RunnerKey) -> Sight {
    let mut marks = Marks::default();
    let ours = observed.entities.iter().filter(|one| sight::is_of(one, &fleet.name, key));
    ours.for_each(|entity| marks.entity(entity));
    let secret = match &observed.secret {
        SecretObserved::Present { object, .. } => Some(object),
        SecretObserved::Absent | SecretObserved::Foreign => None,
    };
    let own = [
        &observed.deployment,
        &observed.manager_account,
        &observed.manager_policy,
        &observed.binding,
    ];
    let own = own.into_iter().flatten().chain(secret);
    let key = key.to_string();
    let domain = of_domain(&observed.domain, fleet, &key);
    let domains = observed.domain.objects.values().flatten();
    let kubernetes = of_objects(own.chain(domains), fleet, &key);
    Sight { gitlab: marks.digest(), azure: domain.azure, kubernetes }
}

pub(super) fn of_domain(observed: &DomainObserved, fleet: &FleetSettings, key: &str) -> Sight {
    let mut marks = Marks::default();
    let ours = |one: &&Identity| one.tags.get(names::TAG_KEY).map(String::as_str) == Some(key);
    observed.identity.managed().filter(ours).into_iter().for_each(|one| marks.identity(one));
    let kubernetes = of_objects(observed.objects.values().flatten(), fleet, key);
    Sight { gitlab: None, azure: marks.digest(), kubernetes }
}

/// Of a shared domain's objects the runner's own look has none: they bear another key.
fn of_objects<'a>(
    objects: impl Iterator<Item = &'a Object>,
    fleet: &FleetSettings,
    key: &str,
) -> Option<String> {
    let mut marks = Marks::default();
    let ours = objects.filter(|object| sight::key_of(object, &fleet.name) == Some(key));
    ours.for_each(|object| marks.object(object));
    marks.digest()
}

pub(super) fn of_identity(observed: &IdentityRound) -> Sight {
    let mut marks = Marks::default();
    observed.credentials.iter().flatten().for_each(|one| marks.credential(one));
    Sight { azure: marks.digest(), ..Sight::default() }
}
