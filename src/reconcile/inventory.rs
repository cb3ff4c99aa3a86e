//! What a sweep sees of the whole fleet, in complete lists. Without the targets, the cluster's objects and the ledger there is no
//! sweep; what else fails is not judged.

mod objects;
mod tenants;

use super::{
    Clients, Failure,
    bulk::{self, Sliced},
    deadline::Deadline,
    entities::{self, Entities, Sought},
    fleet_status::{self, Told},
    lent::{self, Beyond, Promises},
    looks::{Looks, Seen},
    observe,
    target::TargetRead,
    tree,
    unlisted::{self, Unlisted},
    watch::{self, Watched},
};
use crate::domain::{
    azure::{Identity, ResourceId, RoleAssignment},
    fleet::Fleet,
    fleet_status::FleetStatus,
    ids::{InstallationId, ProfileName, RunnerKey, TargetId, Unit},
    ledger::Ledger,
    names,
    slice::{Slice, SliceKind},
    status::{Status, Tally},
};
use futures::try_join;
use objects::{Objects, objects};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// The whole fleet, as one sweep saw it.
pub(super) struct Inventory {
    pub(super) installation: InstallationId,
    pub(super) targets: BTreeMap<TargetId, TargetRead>,
    /// Known targets that could not be read by themselves, and why: nothing of them is judged or permitted. `None`: not asked any
    /// more.
    pub(super) unread: BTreeMap<TargetId, Option<String>>,
    pub(super) statuses: BTreeMap<Unit, Status>,
    pub(super) tally: Tally,
    /// What was told of the fleet as a whole.
    pub(super) told: Option<FleetStatus>,
    /// How far this and earlier sweeps have come, where one cannot look at everything.
    pub(super) slices: BTreeMap<SliceKind, Slice>,
    /// Every unit of which anything was ever made, or told.
    pub(super) known: BTreeSet<Unit>,
    /// The runners that have a manager.
    pub(super) made: BTreeSet<RunnerKey>,
    /// Profiles of which a runner may still run jobs in what they share, or shared.
    pub(super) tenants: BTreeSet<ProfileName>,
    pub(super) ledger: Ledger,
    /// What each unit looks like in the lists, as far as this sweep looked.
    pub(super) looks: Looks,
    /// What existing identities hold where only `expect` says to look.
    pub(super) beyond: Beyond,
    /// Who issues the tokens of the cluster's accounts, where this sweep asked.
    pub(super) issuer: Option<String>,
    /// What belongs to no unit.
    pub(super) watched: Watched,
    /// How long it took to make looks of what was read.
    pub(super) planning: Duration,
    /// What could not be read, and why: then the sweep has not seen the whole fleet, and permits nothing.
    pub(super) unseen: Vec<String>,
}

pub(super) async fn take(
    clients: &Clients,
    fleet: &Fleet,
    deadline: Deadline,
) -> Result<Inventory, Failure> {
    let settings = fleet.settings();
    let core = async {
        try_join!(
            observe::installation(clients, settings),
            fleet_status::told_in_brief(clients, fleet),
            tree::targets(clients, fleet),
            observe::ledger(clients, settings),
            objects(clients, fleet),
        )
    };
    // Nothing waits here for what it does not need: a part that hangs leaves the others their time.
    let units = async {
        let core = deadline.hold("the targets, the cluster's objects and the ledger", core).await?;
        Ok::<_, Failure>(Units::read(clients, fleet, core, deadline).await)
    };
    let (units, lent, assignments, issuer, guarded, cluster) = tokio::join!(
        units,
        deadline.hold("the existing identities", lent::all(clients, fleet)),
        deadline.hold("the role assignments", bulk::assignments(clients, fleet)),
        deadline.hold("the cluster's token issuer", bulk::issuer(clients, fleet)),
        deadline.hold("who reaches guardrails.never", bulk::guarded(clients, fleet)),
        deadline.hold("what an administrator applied", watch::cluster(clients, fleet)),
    );
    let Units {
        core,
        made,
        known,
        unlisted,
        targets,
        identities,
        strays,
        beyond_reach,
        entities,
        credentials,
    } = units?;
    let (installation, told, _, ledger, objects) = core;
    let statuses = told.units;
    // What Azure or one of GitLab's bulk reads does not show is not judged, and holds up nothing else.
    let mut unseen = Vec::new();
    let ours = seen_or_told(identities, &mut unseen);
    let lent = seen_or_told(lent, &mut unseen);
    let (lent, unread_identities) =
        lent.map_or_else(Default::default, |lent| (Some(lent.seen), lent.unread));
    let assignments = seen_or_told(assignments, &mut unseen);
    let issuer = seen_or_told(issuer, &mut unseen).flatten();
    let guarded = seen_or_told(guarded, &mut unseen);
    let cluster = seen_or_told(cluster, &mut unseen);
    let Unlisted { read, unread, ended } = unlisted;
    let targets = targets.into_iter().chain(read).collect();
    unseen.extend(ended);
    let mut slices = told.fleet.as_ref().map(|told| told.slices.clone()).unwrap_or_default();
    let mut entities = take_slice(entities, SliceKind::Runners, &mut slices, &mut unseen);
    let misplaced = std::mem::take(&mut entities.misplaced);
    let open = std::mem::take(&mut entities.open);
    let changed_credentials =
        take_slice(credentials, SliceKind::FederatedCredentials, &mut slices, &mut unseen);
    let beyond = match (&lent, &issuer) {
        (Some(lent), Some(issuer)) => {
            let promises = Promises { fleet, targets: &targets, statuses: &statuses, lent, issuer };
            let before = slices.get(&SliceKind::ExpectedRights).cloned();
            let read = lent::beyond(clients, promises, (before.as_ref(), deadline)).await;
            take_slice(read, SliceKind::ExpectedRights, &mut slices, &mut unseen)
        }
        (None, _) | (_, None) => Beyond::new(),
    };
    let began = Instant::now();
    let looks = Looks::of(Seen {
        objects: objects.digests,
        down: objects.down,
        identities: ours.as_deref(),
        entities,
        changed_credentials,
        lent: lent.as_ref(),
        assignments: assignments.clone(),
        issuer: issuer.as_deref(),
    });
    let sees_identities = ours.is_some();
    let holders = watch::holders(ours, lent.as_ref());
    let planning = began.elapsed();
    Ok(Inventory {
        installation,
        targets,
        unread,
        statuses: statuses.into_iter().map(|status| (status.unit.clone(), status)).collect(),
        tally: told.tally,
        told: told.fleet,
        slices,
        known,
        made,
        tenants: objects.tenants,
        ledger,
        looks,
        beyond,
        issuer,
        planning,
        watched: Watched {
            holders,
            sees_identities,
            lent,
            assignments: assignments.unwrap_or_default(),
            guarded: guarded.unwrap_or_default(),
            cluster,
            strays,
            beyond_reach,
            misplaced,
            unread_identities,
            open,
        },
        unseen,
    })
}

/// What no unit can be judged without: the installation, what is told, the targets that a rule could match, the ledger, and the
/// cluster's objects.
type Core = (InstallationId, Told, Vec<TargetRead>, Ledger, Objects);

/// What is read of units once the core is there. What failed is told, or ends the sweep, where all of it is put together.
struct Units {
    core: Core,
    made: BTreeSet<RunnerKey>,
    known: BTreeSet<Unit>,
    /// The targets that the lists showed, and the known ones that they did not.
    targets: BTreeMap<TargetId, TargetRead>,
    unlisted: Unlisted,
    /// Ours alone.
    identities: Result<Vec<Identity>, Failure>,
    strays: Vec<ResourceId>,
    beyond_reach: Vec<RoleAssignment>,
    entities: Result<Sliced<Entities>, Failure>,
    credentials: Result<Sliced<BTreeSet<String>>, Failure>,
}

impl Units {
    async fn read(clients: &Clients, fleet: &Fleet, mut core: Core, deadline: Deadline) -> Self {
        let listed = std::mem::take(&mut core.2);
        let listed: BTreeMap<TargetId, TargetRead> =
            listed.into_iter().map(|read| (read.facts.id, read)).collect();
        let (installation, told, _, ledger, objects) = &core;
        let made: BTreeSet<RunnerKey> =
            objects.managers.iter().filter_map(|key| key.parse().ok()).collect();
        // Whatever is left of a unit makes it known: people may have taken its namespace, its manager and its status.
        let mut known: BTreeSet<Unit> =
            objects.digests.keys().filter_map(|key| names::unit_of_key(key)).collect();
        known.extend(told.units.iter().map(|status| status.unit.clone()));
        let before = |kind| told.fleet.as_ref().and_then(|told| told.slices.get(&kind));
        let before = |kind| (before(kind), deadline);
        let of_azure = async {
            let all = deadline.hold("the managed identities", identities(clients, fleet)).await;
            let ours = all.map(|all| {
                let ours = all.into_iter().filter(|one| is_ours(one, fleet, installation));
                ours.collect::<Vec<Identity>>()
            });
            let managed = ours.as_deref().unwrap_or_default();
            let keys = managed.iter().filter_map(|one| one.tags.get(names::TAG_KEY));
            let tagged: BTreeSet<Unit> = keys.filter_map(|key| names::unit_of_key(key)).collect();
            let alone = tagged.difference(&known).cloned().collect();
            let slice = before(SliceKind::FederatedCredentials);
            let (more, credentials) = tokio::join!(
                unlisted::read(clients, &alone, &listed, deadline),
                bulk::credentials(clients, fleet, managed, &told.units, slice),
            );
            (ours, tagged, more, credentials)
        };
        let book = &ledger.book;
        let sought = Sought { fleet, installation, made: &made, listed: &listed, book };
        // What a dead round began, or somebody emptied, may have nothing but its entity.
        let of_gitlab = async {
            let read = entities::entities(clients, sought, before(SliceKind::Runners)).await;
            let left = read.iter().flat_map(|read| &read.seen.left).cloned().map(Unit::Runner);
            let left: BTreeSet<Unit> = left.filter(|unit| !known.contains(unit)).collect();
            let more = unlisted::read(clients, &left, &listed, deadline).await;
            (read, left, more)
        };
        let (mut unlisted, strays, beyond_reach, of_gitlab, of_azure) = tokio::join!(
            unlisted::read(clients, &known, &listed, deadline),
            deadline.wait(bulk::strays(clients, fleet, installation)),
            deadline.wait(bulk::beyond_reach(clients, fleet, installation)),
            of_gitlab,
            of_azure,
        );
        let (entities, left, more_of_gitlab) = of_gitlab;
        let (identities, tagged, more_of_azure, credentials) = of_azure;
        known.extend(tagged.into_iter().chain(left));
        unlisted.join(more_of_gitlab);
        unlisted.join(more_of_azure);
        Self {
            core,
            made,
            known,
            targets: listed,
            unlisted,
            identities,
            strays: strays.unwrap_or_default(),
            beyond_reach: beyond_reach.unwrap_or_default(),
            entities,
            credentials,
        }
    }
}

/// What was read, or why it was not.
fn seen_or_told<T>(read: Result<T, Failure>, unseen: &mut Vec<String>) -> Option<T> {
    read.inspect_err(|failure| unseen.push(failure.text.clone())).ok()
}

/// What a slice showed. Where the next sweep goes on is put down; one that failed is tried again from the same place.
fn take_slice<T: Default>(
    read: Result<Sliced<T>, Failure>,
    kind: SliceKind,
    slices: &mut BTreeMap<SliceKind, Slice>,
    unseen: &mut Vec<String>,
) -> T {
    let read = read.map_err(|failure| failure.during(kind));
    let Some(read) = seen_or_told(read, unseen) else { return T::default() };
    match read.next {
        Some(next) => _ = slices.insert(kind, next),
        None => _ = slices.remove(&kind),
    }
    unseen.extend(read.unseen.into_iter().map(|reason| format!("{kind}: {reason}")));
    read.seen
}

pub(super) fn target_of(unit: &Unit) -> Option<TargetId> {
    match unit {
        Unit::Runner(key) => Some(key.target),
        Unit::Target(_) | Unit::Domain(_) | Unit::Identity(_) => None,
    }
}

pub(super) fn is_ours(identity: &Identity, fleet: &Fleet, installation: &InstallationId) -> bool {
    let tag = |name: &str| identity.tags.get(name).map(String::as_str);
    tag(names::TAG_FLEET) == Some(fleet.settings().name.as_str())
        && tag(names::TAG_INSTALLATION) == Some(&installation.0)
}

/// Where no profile ever had a managed identity, nobody may look there.
pub(super) async fn identities(clients: &Clients, fleet: &Fleet) -> Result<Vec<Identity>, Failure> {
    let Some(azure) = &fleet.settings().azure else { return Ok(vec![]) };
    let found = clients.arm().identities_in(azure.subscription, &azure.resource_group).await?;
    found.ok_or_else(|| {
        Failure::permanent(format!(
            "resource group `{}` shows no identities: it is gone, or forerunner may not read it",
            azure.resource_group
        ))
    })
}
