//! What a sweep finds beside its units: read here, judged in `domain/watch`.

use super::{
    Clients, Failure,
    inventory::Inventory,
    lent::Lent,
    survey::{self, Survey},
};
use crate::{
    adapters::kubernetes,
    domain::{
        azure::{Identity, ResourceId, RoleAssignment},
        fleet::{Fleet, Profile},
        fleet_status::{Finding, FindingKind},
        ids::{GroupId, IdentityName},
        kubernetes::{Kind, ObjectName},
        names,
        watch::{
            self,
            azure::{Guarded, Holder},
            cluster::{ClusterObserved, Seen},
            gitlab::{Misplaced, OwnOpen},
        },
    },
};
use futures::try_join;
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tracing::info;

/// What a sweep read that belongs to no unit. What it could not read this time is not judged.
pub(super) struct Watched {
    /// Every identity that a job may sign in as.
    pub(super) holders: Box<[Holder]>,
    /// Whether the managed identities of this installation are among them.
    pub(super) sees_identities: bool,
    pub(super) lent: Option<BTreeMap<IdentityName, Lent>>,
    /// Who has what at, above and below the scopes of the guardrails.
    pub(super) assignments: Arc<[RoleAssignment]>,
    pub(super) guarded: Vec<Guarded>,
    pub(super) cluster: Option<ClusterObserved>,
    pub(super) strays: Vec<ResourceId>,
    /// Roles of ours where no list of the guardrails' scopes shows them.
    pub(super) beyond_reach: Vec<RoleAssignment>,
    pub(super) misplaced: Vec<Misplaced>,
    /// Existing identities that Azure does not show us, and what it answers instead.
    pub(super) unread_identities: Vec<(ResourceId, String)>,
    /// How many of our runners take jobs, wherever they were listed: everywhere, or below an anchor.
    pub(super) open: BTreeMap<Option<GroupId>, OwnOpen>,
}

/// The objects of the cluster that an administrator applied.
pub(super) async fn cluster(clients: &Clients, fleet: &Fleet) -> Result<ClusterObserved, Failure> {
    let look = async |name: ObjectName| match clients.kubernetes().get(&name).await {
        Ok(Some(object)) => Ok(Seen::Found(object)),
        Ok(None) => Ok(Seen::Absent),
        Err(error @ kubernetes::Error::Forbidden { .. }) => {
            Ok(Seen::Hidden(Failure::from(error).text))
        }
        Err(error) => Err(Failure::from(error)),
    };
    let webhook = async {
        match fleet.profiles().any(Profile::has_identity) {
            true => look(watch::cluster::webhook()).await.map(Some),
            false => Ok(None),
        }
    };
    let policy = |kind| watch::cluster::policy(fleet, kind);
    let (manager_role, policy, policy_binding, own_binding, webhook) = try_join!(
        look(watch::cluster::manager_role(fleet)),
        look(policy(Kind::ValidatingAdmissionPolicy)),
        look(policy(Kind::ValidatingAdmissionPolicyBinding)),
        look(watch::cluster::own_binding(fleet)),
        webhook,
    )?;
    Ok(ClusterObserved { manager_role, policy, policy_binding, own_binding, webhook })
}

/// Everything that belongs to no unit, or that no round may mend.
pub(super) fn findings(
    fleet: &Fleet,
    inventory: &Inventory,
    survey: &Survey,
    now: Timestamp,
) -> Vec<Finding> {
    let watched = &inventory.watched;
    let mut found: Vec<Finding> = watched.strays.iter().map(|id| stray(id, now)).collect();
    let cluster = watched.cluster.iter();
    found.extend(cluster.flat_map(|cluster| watch::cluster::findings(fleet, cluster, now)));
    let guarded = watched.guarded.iter().flat_map(|one| one.assignments.iter().flatten());
    let all = watched.assignments.iter().chain(guarded);
    found.extend(watch::azure::reaching(fleet.guardrails(), all, &watched.holders, now));
    if fleet.profiles().any(Profile::has_identity) {
        let principal = watched.cluster.as_ref().map(watch::cluster::principal);
        let principal = principal.unwrap_or_else(|| "PRINCIPAL".to_owned());
        found.extend(watch::azure::unwatched(&watched.guarded, &principal, now));
    }
    found.extend(watch::azure::unread(&watched.unread_identities, now));
    found.extend(watch::azure::beyond_reach(&watched.beyond_reach, now));
    let lent = watched.lent.iter().flat_map(BTreeMap::values);
    let credentials = lent.map(|lent| (&lent.id, lent.credentials.len()));
    found.extend(watch::azure::limits(credentials, &watched.assignments, now));
    let served = survey::served(inventory, &survey.wanted);
    found.extend(watch::gitlab::overlaps(&served, now));
    found.extend(watch::gitlab::misplaced(&watched.misplaced, now));
    let unread = inventory.unread.iter();
    let unread = unread.filter_map(|(target, why)| Some((*target, why.as_deref()?)));
    found.extend(watch::gitlab::unread(unread, now));
    found
}

fn stray(id: &ResourceId, now: Timestamp) -> Finding {
    let message = format!(
        "identity {id} is ours and lies elsewhere than azure.resourceGroup says: nobody keeps it, and it may still hold rights"
    );
    let remedy = format!("az identity delete --ids {id}");
    Finding::new(FindingKind::StrayIdentity, message, remedy, now)
}

/// What is left of identities once it is known how they look.
pub(super) fn holders(
    managed: Option<Vec<Identity>>,
    lent: Option<&BTreeMap<IdentityName, Lent>>,
) -> Box<[Holder]> {
    let managed = managed.into_iter().flatten();
    let managed = managed.map(|one| Holder { id: one.id, principal: one.principal_id });
    let lent = lent.into_iter().flat_map(BTreeMap::values);
    let lent =
        lent.filter_map(|one| Some(Holder { id: one.id.clone(), principal: one.principal()? }));
    managed.chain(lent).collect()
}

/// How many of them are looked at again in one sweep.
const ORPHANS_MAX: usize = 20;

/// Roles of ours that a dead principal holds. The lists may be of two moments: whoever was made between them is asked for by name.
pub(super) async fn orphans(
    clients: &Clients,
    fleet: &Fleet,
    inventory: &Inventory,
    now: Timestamp,
) -> Vec<Finding> {
    let settings = fleet.settings();
    let (Some(azure), true) = (&settings.azure, inventory.watched.sees_identities) else {
        return vec![];
    };
    let principals: BTreeSet<_> =
        inventory.watched.holders.iter().map(|holder| holder.principal).collect();
    let assignments = &inventory.watched.assignments;
    let suspects =
        watch::azure::orphans(&settings.name, &inventory.installation, assignments, &principals);
    let mut found = Vec::new();
    for (key, assignment) in suspects.into_iter().take(ORPHANS_MAX) {
        let id = format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{}",
            azure.subscription,
            azure.resource_group,
            names::identity(&settings.name, key)
        );
        let Some(id) = ResourceId::new(&id) else { continue };
        match clients.arm().identity(&id).await {
            Ok(identity) => {
                let lives = identity.is_some_and(|one| one.principal_id == assignment.principal_id);
                found.extend((!lives).then(|| watch::azure::orphan(key, assignment, now)));
            }
            Err(error) => info!("{}", Failure::from(error).text),
        }
    }
    found
}
