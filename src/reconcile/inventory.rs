//! What a sweep sees of the whole fleet, in complete lists. Without the targets, the cluster's objects and the ledger there is no
//! sweep; what else fails is not judged.

use super::{
    Clients, Failure,
    looks::{self, Looks, Seen},
    observe,
    target::{self, TargetRead},
    tree,
};
use crate::{
    adapters::gitlab,
    domain::{
        azure::{Identity, ResourceId},
        fleet::Fleet,
        ids::{FleetName, InstallationId, ProfileName, RunnerKey, TargetId, Unit},
        kubernetes::{Kind, Object},
        ledger::Ledger,
        names,
        sight::{self, Marks},
        status::Status,
    },
};
use futures::{future::try_join_all, try_join};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// The whole fleet, as one sweep saw it.
pub(super) struct Inventory {
    pub(super) installation: InstallationId,
    pub(super) targets: BTreeMap<TargetId, TargetRead>,
    pub(super) statuses: BTreeMap<Unit, Status>,
    /// Every unit of which anything was ever made, or told.
    pub(super) known: BTreeSet<Unit>,
    /// The runners that have a manager.
    pub(super) made: BTreeSet<RunnerKey>,
    pub(super) ledger: Ledger,
    /// What each unit looks like in the lists, as far as this sweep looked.
    pub(super) looks: Looks,
    /// Identities of ours that nobody keeps.
    pub(super) strays: Vec<ResourceId>,
    /// What could not be read, and why: then the sweep has not seen the whole fleet, and permits nothing.
    pub(super) unseen: Vec<String>,
}

pub(super) async fn take(clients: &Clients, fleet: &Fleet) -> Result<Inventory, Failure> {
    let settings = fleet.settings();
    let core = async {
        try_join!(
            observe::installation(clients, settings),
            observe::statuses(clients, settings),
            tree::targets(clients, fleet),
            observe::ledger(clients, settings),
            objects(clients, fleet),
        )
    };
    let (core, identities, lent, assignments) = tokio::join!(
        core,
        identities(clients, fleet),
        looks::lent(clients, fleet),
        looks::assignments(clients, fleet),
    );
    let (installation, statuses, targets, ledger, objects) = core?;
    // What Azure or one of GitLab's bulk reads does not show is not judged, and holds up nothing else.
    let mut unseen = Vec::new();
    let identities = seen_or_told(identities, &mut unseen);
    let lent = seen_or_told(lent, &mut unseen);
    let assignments = seen_or_told(assignments, &mut unseen);
    let made: BTreeSet<RunnerKey> =
        objects.managers.iter().filter_map(|key| key.parse().ok()).collect();
    let ours: Option<Vec<Identity>> = identities
        .map(|all| all.into_iter().filter(|one| is_ours(one, fleet, &installation)).collect());
    let tagged =
        ours.iter().flatten().filter_map(|one| one.tags.get(names::TAG_KEY).map(String::as_str));
    let keys = objects.namespaces.iter().map(String::as_str).chain(tagged);
    let mut known: BTreeSet<Unit> = keys.filter_map(unit).collect();
    known.extend(made.iter().cloned().map(Unit::Runner));
    known.extend(statuses.iter().map(|status| status.unit.clone()));
    let managed = ours.as_deref().unwrap_or_default();
    let (strays, entities, credentials) = tokio::join!(
        looks::strays(clients, fleet, &installation),
        looks::entities(clients, fleet, &made),
        looks::credentials(clients, managed, &statuses),
    );
    let entities = seen_or_told(entities, &mut unseen).unwrap_or_default();
    let changed_credentials = seen_or_told(credentials, &mut unseen).unwrap_or_default();
    let (objects, identities) = (objects.marks, ours.as_deref());
    let seen = Seen { objects, identities, entities, changed_credentials, lent, assignments };
    let looks = Looks::of(seen);
    let mut targets: BTreeMap<TargetId, TargetRead> =
        targets.into_iter().map(|read| (read.facts.id, read)).collect();
    targets.extend(unlisted(clients, &known, &targets).await?);
    Ok(Inventory {
        installation,
        targets,
        statuses: statuses.into_iter().map(|status| (status.unit.clone(), status)).collect(),
        known,
        made,
        ledger,
        looks,
        strays,
        unseen,
    })
}

/// What was read, or why it was not.
fn seen_or_told<T>(read: Result<T, Failure>, unseen: &mut Vec<String>) -> Option<T> {
    read.inspect_err(|failure| unseen.push(failure.text.clone())).ok()
}

/// What the cluster holds of each key, and which keys have a manager or a namespace.
#[derive(Default)]
struct Objects {
    marks: BTreeMap<String, Marks>,
    managers: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

impl Objects {
    fn take(&mut self, object: &Object, fleet: &FleetName) {
        let Some(key) = sight::key_of(object, fleet) else { return };
        self.marks.entry(key.to_owned()).or_default().object(object);
        match object.name.kind {
            Kind::Deployment => _ = self.managers.insert(key.to_owned()),
            Kind::Namespace => _ = self.namespaces.insert(key.to_owned()),
            Kind::ServiceAccount
            | Kind::RoleBinding
            | Kind::ClusterRole
            | Kind::ResourceQuota
            | Kind::LimitRange
            | Kind::NetworkPolicy
            | Kind::Secret
            | Kind::ConfigMap
            | Kind::Pod => {}
        }
    }

    fn join(&mut self, other: Self) {
        for (key, marks) in other.marks {
            self.marks.entry(key).or_default().join(marks);
        }
        self.managers.extend(other.managers);
        self.namespaces.extend(other.namespaces);
    }
}

/// Kinds whose objects of ours bear the fleet's label wherever they lie, and those of the managers' namespace. Of a large
/// fleet only the digests are held, never the objects.
async fn objects(clients: &Clients, fleet: &Fleet) -> Result<Objects, Failure> {
    let settings = fleet.settings();
    let selector = format!("{}={}", names::LABEL_FLEET, settings.name);
    let managers = Some(settings.cluster.managers_namespace.as_str());
    let lists = [
        (Kind::Namespace, None),
        (Kind::ServiceAccount, None),
        (Kind::RoleBinding, None),
        (Kind::ResourceQuota, None),
        (Kind::LimitRange, None),
        (Kind::NetworkPolicy, None),
        (Kind::Deployment, managers),
        (Kind::Secret, managers),
    ];
    let take = |all: &mut Objects, object: Object| all.take(&object, &settings.name);
    let lists =
        lists.map(|(kind, within)| clients.kubernetes().fold(kind, within, Some(&selector), take));
    let mut all = Objects::default();
    try_join_all(lists).await?.into_iter().for_each(|part| all.join(part));
    Ok(all)
}

/// Known targets that were in no list, each by its id: a list may skip one, and projects are listed only where a rule
/// is for projects.
async fn unlisted(
    clients: &Clients,
    known: &BTreeSet<Unit>,
    listed: &BTreeMap<TargetId, TargetRead>,
) -> Result<Vec<(TargetId, TargetRead)>, Failure> {
    let targets: BTreeSet<TargetId> = known.iter().filter_map(target_of).collect();
    let absent = targets.into_iter().filter(|target| !listed.contains_key(target));
    let read = try_join_all(absent.map(|target| target::read(clients, target))).await?;
    Ok(read.into_iter().flatten().map(|read| (read.facts.id, read)).collect())
}

fn target_of(unit: &Unit) -> Option<TargetId> {
    match unit {
        Unit::Runner(key) => Some(key.target),
        Unit::Target(_) | Unit::Domain(_) | Unit::Identity(_) => None,
    }
}

fn is_ours(identity: &Identity, fleet: &Fleet, installation: &InstallationId) -> bool {
    let tag = |name: &str| identity.tags.get(name).map(String::as_str);
    tag(names::TAG_FLEET) == Some(fleet.settings().name.as_str())
        && tag(names::TAG_INSTALLATION) == Some(&installation.0)
}

/// The unit that a part is labelled for.
fn unit(key: &str) -> Option<Unit> {
    match key.strip_prefix("domain-") {
        Some(profile) => ProfileName::new(profile).ok().map(Unit::Domain),
        None => key.parse().ok().map(Unit::Runner),
    }
}

/// Where no profile ever had a managed identity, nobody may look there.
async fn identities(clients: &Clients, fleet: &Fleet) -> Result<Vec<Identity>, Failure> {
    let Some(azure) = &fleet.settings().azure else { return Ok(vec![]) };
    let found = clients.arm().identities_in(azure.subscription, &azure.resource_group).await?;
    found.ok_or_else(|| {
        Failure::permanent(format!(
            "resource group `{}` shows no identities: it is gone, or forerunner may not read it",
            azure.resource_group
        ))
    })
}

/// Two answers of 404 count as two when they are this far apart: a round's and a sweep's.
const APART: SignedDuration = SignedDuration::from_mins(5);

/// Which of the units whose target is missing belong to one that is destroyed: 404 by id twice and apart, our token
/// valid, other known targets readable, and a token that sees everything or a verified destroy hook.
pub(super) async fn confirm_gone(
    clients: &Clients,
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
    if suspects.is_empty() || !others_are_readable(inventory, missing) {
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

/// Void where no other target is known.
fn others_are_readable(inventory: &Inventory, missing: &BTreeSet<RunnerKey>) -> bool {
    let lost: BTreeSet<TargetId> = missing.iter().map(|key| key.target).collect();
    let known = inventory.known.iter().filter_map(target_of);
    let others: BTreeSet<TargetId> = known.filter(|target| *target != TargetId::Instance).collect();
    others.iter().any(|target| !lost.contains(target)) || others.len() == 1
}
