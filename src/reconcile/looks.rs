//! What units look like in a sweep's lists, to be compared with what their last settled round saw.

use super::{
    Clients, Failure,
    bulk::{Sliced, ends_slice},
    deadline::Deadline,
};
use crate::{
    adapters::gitlab,
    domain::{
        azure::{FederatedCredential, Identity, ResourceId, RoleAssignment},
        claim,
        fleet::{Fleet, TargetKind},
        gitlab::{Entity, EntityKind, Manager},
        ids::{FleetName, IdentityName, InstallationId, RunnerKey, Unit},
        kubernetes::{Kind, Object},
        marker::Marker,
        names,
        observed::{DomainObserved, Observed, SecretObserved},
        plan::{
            identity::IdentityRound,
            rights::{foreign_rights, missing_grants},
        },
        sight::{self, Marks, Sight},
        slice::{self, Slice},
        spec::{FleetSettings, Grant},
        version::Version,
        watch::gitlab::{Misplaced, Whose},
    },
};
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
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
    /// Versions of our managers that poll, where the file sets a floor and GitLab tells them in bulk.
    versions: BTreeMap<RunnerKey, Version>,
    /// Keys of identities whose credentials are others than their tags say.
    changed_credentials: BTreeSet<String>,
}

/// What the parts of a sweep saw, each in its own way.
pub(super) struct Seen<'a> {
    pub(super) objects: BTreeMap<String, Marks>,
    pub(super) identities: Option<&'a [Identity]>,
    pub(super) entities: Entities,
    pub(super) changed_credentials: BTreeSet<String>,
    pub(super) lent: Option<&'a BTreeMap<IdentityName, Lent>>,
    pub(super) assignments: Option<&'a [RoleAssignment]>,
    /// Without it nothing that trusts it is judged.
    pub(super) issuer: Option<&'a str>,
}

/// An existing identity, as a sweep sees it.
pub(super) struct Lent {
    pub(super) id: ResourceId,
    /// `None`: there is none, or none that we may see.
    pub(super) principal: Option<Uuid>,
    pub(super) credentials: Vec<FederatedCredential>,
}

/// Entities by the runners that they are of.
#[derive(Debug, Default)]
pub(super) struct Entities {
    looks: BTreeMap<RunnerKey, Option<String>>,
    silent: BTreeSet<RunnerKey>,
    versions: BTreeMap<RunnerKey, Version>,
    /// Entities with a marker of this installation that do not belong, or not alone, to its target.
    pub(super) misplaced: Vec<Misplaced>,
}

impl Looks {
    pub(super) fn of(seen: Seen<'_>) -> Self {
        let Seen { objects, identities, entities, changed_credentials, lent, assignments, issuer } =
            seen;
        let Entities { looks: gitlab, silent, versions, .. } = entities;
        let digest = |lent: &Lent, issuer: &str| {
            let mut marks = Marks::default();
            lent.credentials.iter().for_each(|one| marks.credential(one));
            marks.issuer(issuer);
            marks.digest()
        };
        let lent = lent
            .into_iter()
            .flatten()
            .filter_map(|(name, lent)| Some((name.clone(), digest(lent, issuer?))));
        let lent = lent.collect();
        let kubernetes = objects;
        let mut looks = Self {
            gitlab,
            silent,
            versions,
            lent,
            changed_credentials,
            kubernetes,
            ..Self::default()
        };
        looks.azure = identities.zip(issuer).map(|(identities, issuer)| {
            let mut azure: BTreeMap<String, Marks> = BTreeMap::new();
            for identity in identities {
                if let Some(key) = identity.tags.get(names::TAG_KEY) {
                    let marks = azure.entry(key.clone()).or_default();
                    marks.identity(identity);
                    marks.issuer(issuer);
                    looks.principals.insert(key.clone(), identity.principal_id);
                }
            }
            azure
        });
        looks.assignments = assignments.map(|assignments| {
            let mut by_principal: BTreeMap<Uuid, Vec<RoleAssignment>> = BTreeMap::new();
            for assignment in assignments {
                let of = by_principal.entry(assignment.principal_id).or_default();
                if !of.contains(assignment) {
                    of.push(assignment.clone());
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

    /// Whether a list of this sweep shows an entity with the runner's marker where it belongs; `None`: it did not look.
    pub(super) fn shows_entity(&self, key: &RunnerKey) -> Option<bool> {
        self.gitlab.get(key).map(Option::is_some)
    }

    /// Whether its manager is known to be older than this.
    pub(super) fn is_older(&self, key: &RunnerKey, floor: Option<Version>) -> bool {
        floor.zip(self.versions.get(key)).is_some_and(|(floor, version)| *version < floor)
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

/// The entities of every runner that was made: in bulk where our token may, else by the lists of their targets.
pub(super) async fn entities(
    clients: &Clients,
    fleet: &Fleet,
    installation: &InstallationId,
    made: &BTreeSet<RunnerKey>,
    (before, deadline): (Option<&Slice>, Deadline),
) -> Result<Sliced<Entities>, Failure> {
    let (name, now) = (&fleet.settings().name, clients.now());
    let search = format!("[forerunner:{name}:");
    // Of the kinds that the rules are for too: what was left behind has no manager any more.
    let ruled = fleet.group_patterns().into_iter().map(|pattern| match pattern.kind {
        TargetKind::Group => EntityKind::Group,
        TargetKind::Project => EntityKind::Project,
    });
    let kinds = made.iter().map(|key| EntityKind::of(key.target)).chain(ruled);
    let kinds: BTreeSet<u8> = kinds.map(rank).collect();
    let floors = fleet.profiles().any(|profile| profile.version_floor.is_some());
    let mut all: Vec<(Entity, Vec<Manager>)> = Vec::new();
    for kind in [EntityKind::Instance, EntityKind::Group, EntityKind::Project] {
        if !kinds.contains(&rank(kind)) {
            continue;
        }
        let gitlab = clients.gitlab();
        let bulk = async {
            match floors {
                true => gitlab.polled_bulk(kind, &search).await,
                false => gitlab.runners_bulk(kind, &search).await.map(unpolled),
            }
        };
        let Some(bulk) = deadline.wait(bulk).await else {
            return Err(deadline.late("GitLab's runners"));
        };
        match bulk {
            Ok(entities) => all.extend(entities),
            // What a token without an administrator's rights gets, and what proves nothing.
            Err(gitlab::Error::Unreadable { .. } | gitlab::Error::Forbidden { .. }) => {
                return one_by_one(clients, fleet, made, (before, deadline)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let (all, managers): (Vec<Entity>, Vec<Vec<Manager>>) = all.into_iter().unzip();
    let mut found = Entities::of(&all, name, made.iter(), now);
    found.versions = versions(&all, &managers, installation);
    found.misplaced = misplaced(&all, name, installation, made);
    Ok(Sliced { seen: found, next: None, unseen: vec![] })
}

fn unpolled(entities: Vec<Entity>) -> Vec<(Entity, Vec<Manager>)> {
    entities.into_iter().map(|entity| (entity, vec![])).collect()
}

/// What each of our managers says of itself.
fn versions(
    entities: &[Entity],
    managers: &[Vec<Manager>],
    installation: &InstallationId,
) -> BTreeMap<RunnerKey, Version> {
    let known = entities.iter().zip(managers).filter_map(|(entity, managers)| {
        let key = Marker::find(&entity.description)?.key;
        let own = names::system_id(installation, &key);
        let manager = managers.iter().find(|one| one.system_id == own)?;
        let version = manager.version.as_deref()?.parse().ok()?;
        claim::belongs_to(entity, key.target).then_some((key, version))
    });
    known.collect()
}

fn misplaced(
    entities: &[Entity],
    fleet: &FleetName,
    installation: &InstallationId,
    made: &BTreeSet<RunnerKey>,
) -> Vec<Misplaced> {
    let elsewhere = entities.iter().filter_map(|entity| {
        let Marker { key, .. } = Marker::find(&entity.description)
            .filter(|marker| marker.fleet == *fleet && marker.installation == *installation)?;
        let is_kind = entity.kind == EntityKind::of(key.target);
        let whose = match entity.owners.as_slice() {
            // An orphan of a unit that is still there goes with it, or is told by its round.
            [] if is_kind && made.contains(&key) => return None,
            [] if is_kind => Whose::Nobody,
            owners if is_kind && owners.contains(&key.target) => Whose::Shared,
            _ => Whose::Others,
        };
        let is_there = claim::belongs_to(entity, key.target);
        (!is_there).then_some(Misplaced { runner: entity.id, key, whose })
    });
    elsewhere.collect()
}

impl Entities {
    /// What of these is each runner's; one that has none looks like nothing.
    fn of<'a>(
        entities: &[Entity],
        fleet: &FleetName,
        keys: impl Iterator<Item = &'a RunnerKey>,
        now: Timestamp,
    ) -> Self {
        let mut marks: BTreeMap<RunnerKey, Marks> =
            keys.map(|key| (key.clone(), Marks::default())).collect();
        let mut silent = BTreeSet::new();
        for entity in entities {
            let Some(key) = sight::whose(entity, fleet) else { continue };
            let Some(marks) = marks.get_mut(&key) else { continue };
            marks.entity(entity);
            let polls = entity.contacted_at.is_some_and(|at| now.duration_since(at) < SILENT);
            if !entity.paused && !polls {
                silent.insert(key);
            }
        }
        let looks = marks.into_iter().map(|(key, marks)| (key, marks.digest())).collect();
        Self { looks, silent, ..Self::default() }
    }
}

fn rank(kind: EntityKind) -> u8 {
    match kind {
        EntityKind::Instance => 0,
        EntityKind::Group => 1,
        EntityKind::Project => 2,
    }
}

/// A slice of the targets, as far as the budget reaches; at least one.
async fn one_by_one(
    clients: &Clients,
    fleet: &Fleet,
    made: &BTreeSet<RunnerKey>,
    (before, deadline): (Option<&Slice>, Deadline),
) -> Result<Sliced<Entities>, Failure> {
    let (settings, now) = (fleet.settings(), clients.now());
    let mut runners: BTreeMap<String, Vec<&RunnerKey>> = BTreeMap::new();
    for key in made {
        runners.entry(key.target.to_string()).or_default().push(key);
    }
    let targets: Vec<String> = runners.keys().cloned().collect();
    let most = settings.sweep_calls.gitlab as usize;
    let (mut seen, mut looked, mut calls) = (Entities::default(), 0, 0);
    let mut unseen = Vec::new();
    for target in slice::due(before, &targets) {
        if calls >= most {
            break;
        }
        let keys = runners.get(target).map_or(&[][..], Vec::as_slice);
        // Where the time ends, the next sweep goes on.
        let Some(read) = deadline.wait(entities_of_one(clients, fleet, keys)).await else { break };
        looked += 1;
        calls += 1;
        let entities = match read {
            Ok(Some(entities)) => entities,
            Ok(None) => continue,
            Err(failure) if ends_slice(&failure) => return Err(failure),
            Err(failure) => {
                unseen.push(failure.text);
                continue;
            }
        };
        calls += entities.len();
        let found = Entities::of(&entities, &settings.name, keys.iter().copied(), now);
        seen.looks.extend(found.looks);
        seen.silent.extend(found.silent);
    }
    if looked > 1 && unseen.len() == looked {
        return Err(Failure::retry(unseen.swap_remove(0)));
    }
    let next = slice::next(before, &targets, looked, now);
    Ok(Sliced { seen, next, unseen })
}

/// The entities of one target's runners. `None`: it is gone or hidden, which is the round's to judge.
async fn entities_of_one(
    clients: &Clients,
    fleet: &Fleet,
    keys: &[&RunnerKey],
) -> Result<Option<Vec<Entity>>, Failure> {
    let (gitlab, name) = (clients.gitlab(), &fleet.settings().name);
    let Some(first) = keys.first() else { return Ok(None) };
    let listed = match gitlab.runners_of(first.target).await {
        Ok(listed) => listed,
        Err(gitlab::Error::NotFound { .. } | gitlab::Error::Forbidden { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let ours =
        listed.iter().filter(|one| keys.iter().any(|key| claim::concerns(one, name, key, &[])));
    let read = try_join_all(ours.map(|one| gitlab.entity(one.id))).await?;
    Ok(Some(read.into_iter().flatten().collect()))
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
    let kubernetes =
        of_objects(own.chain(domains), strangers_of(&observed.domain, fleet, &key), fleet, &key);
    Sight { gitlab: marks.digest(), azure: domain.azure, kubernetes }
}

pub(super) fn of_domain(observed: &DomainObserved, fleet: &FleetSettings, key: &str) -> Sight {
    let mut marks = Marks::default();
    let ours = |one: &&Identity| one.tags.get(names::TAG_KEY).map(String::as_str) == Some(key);
    let identity = observed.identity.managed().filter(ours);
    if let (Some(identity), Some(issuer)) = (identity, observed.identity.issuer()) {
        marks.identity(identity);
        marks.issuer(issuer);
    }
    let strangers = strangers_of(observed, fleet, key);
    let kubernetes = of_objects(observed.objects.values().flatten(), strangers, fleet, key);
    Sight { gitlab: None, azure: marks.digest(), kubernetes }
}

/// What others put into the namespace, if it is this key's own.
fn strangers_of<'a>(
    observed: &'a DomainObserved,
    fleet: &FleetSettings,
    key: &str,
) -> &'a [Object] {
    let mut objects = observed.objects.values().flatten();
    let is_own = objects.any(|object| {
        object.name.kind == Kind::Namespace && sight::key_of(object, &fleet.name) == Some(key)
    });
    if is_own { &observed.strangers } else { &[] }
}

/// Of a shared domain's objects the runner's own look has none: they bear another key.
fn of_objects<'a>(
    objects: impl Iterator<Item = &'a Object>,
    strangers: &[Object],
    fleet: &FleetSettings,
    key: &str,
) -> Option<String> {
    let mut marks = Marks::default();
    let ours = objects.filter(|object| sight::key_of(object, &fleet.name) == Some(key));
    ours.for_each(|object| marks.object(object));
    strangers.iter().for_each(|object| marks.object(object));
    marks.digest()
}

pub(super) fn of_identity(observed: &IdentityRound) -> Sight {
    let mut marks = Marks::default();
    observed.credentials.iter().flatten().for_each(|one| marks.credential(one));
    marks.issuer(&observed.issuer);
    Sight { azure: marks.digest(), ..Sight::default() }
}
