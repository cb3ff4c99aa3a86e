//! Reads all that is left of a unit that leaves, whatever `fleet.yaml` says of it now.

use super::{Clients, Failure, observe};
use crate::{
    adapters::gitlab::{self, Verified},
    domain::{
        azure::{FederatedCredential, Identity, ResourceId},
        claim,
        gitlab::Entity,
        ids::{InstallationId, RunnerId, RunnerKey, Unit},
        kubernetes::{Kind, Object},
        marker::Marker,
        names,
        plan::{
            removal::{Owned, Remains},
            runner as runner_plan,
        },
        render,
        spec::FleetSettings,
    },
};
use futures::{TryFutureExt, future::try_join_all, try_join};
use secrecy::SecretString;
use std::collections::BTreeSet;

/// Kinds that carry the key's label wherever they lie.
const KINDS: [Kind; 6] = [
    Kind::Namespace,
    Kind::ServiceAccount,
    Kind::RoleBinding,
    Kind::ResourceQuota,
    Kind::LimitRange,
    Kind::NetworkPolicy,
];

/// What is looked for.
#[derive(Clone, Copy)]
pub(super) struct Search<'a> {
    pub(super) unit: &'a Unit,
    /// What the parts are labelled with.
    pub(super) key: &'a str,
    /// The runner, and whether its target was read as present.
    pub(super) runner: Option<(&'a RunnerKey, bool)>,
    /// Where assignments of its identity may lie, beside the identity's own resource group.
    pub(super) scopes: &'a BTreeSet<ResourceId>,
    /// Existing identities that may hold a credential for it, whether or not its job account still names one.
    pub(super) lenders: &'a [ResourceId],
}

pub(super) async fn remains(
    clients: &Clients,
    fleet: &FleetSettings,
    installation: InstallationId,
    search: Search<'_>,
) -> Result<Remains, Failure> {
    let secret = async {
        match search.runner {
            Some((key, _)) => {
                let name = runner_plan::secret_name(fleet, key);
                clients.kubernetes().get(&name).await.map_err(Failure::from)
            }
            None => Ok(None),
        }
    };
    let (secret, objects, identity, status) = try_join!(
        secret,
        objects(clients, fleet, &search),
        identity(clients, fleet, &installation, &search),
        observe::status(clients, fleet, search.unit),
    )?;
    let secret = secret.filter(|one| is_ours(fleet, search.key, one));
    let kept = secret.as_ref().map(render::read_entries).transpose().ok().flatten();
    let kept = kept.unwrap_or_default();
    let mut entries: BTreeSet<RunnerId> = kept.iter().map(|(runner, _)| *runner).collect();
    let told = status.as_ref().and_then(|status| status.entity);
    let told = told.filter(|id| !entries.contains(id));
    let ((entities, hidden), lent, tenants) = try_join!(
        entities(clients, fleet, &search, &entries, told),
        lent(clients, fleet, &search, &objects),
        tenants(clients, fleet, &search, &objects),
    )?;
    let issuer = match lent.is_empty() {
        true => None,
        false => Some(clients.issuer().await?),
    };
    let ids: Vec<RunnerId> = entities.iter().map(|entity| entity.id).collect();
    entries.extend(told.filter(|id| ids.contains(id)));
    let (busy, job_pods, proven) = try_join!(
        busy(clients, &entities),
        job_pods(clients, fleet, &search, &objects, &ids),
        proven(clients, &installation, &search, &entities, kept),
    )?;
    let objects = objects.into_iter().chain(secret).collect();
    Ok(Remains {
        installation,
        entities,
        hidden,
        entries,
        proven,
        busy,
        tenants,
        job_pods,
        objects,
        identity,
        lent,
        issuer,
        status,
    })
}

/// The runners that live in a shared domain: all of the profile but those that are bound elsewhere and not here any more.
async fn tenants(
    clients: &Clients,
    fleet: &FleetSettings,
    search: &Search<'_>,
    objects: &[Object],
) -> Result<usize, Failure> {
    let Unit::Domain(profile) = search.unit else { return Ok(0) };
    let selector = format!("{}={}", names::LABEL_FLEET, fleet.name);
    let bindings = clients.kubernetes().list(Kind::RoleBinding, None, Some(&selector));
    let (made, bindings) =
        try_join!(observe::made_runners(clients, fleet), bindings.map_err(Failure::from))?;
    let here = places(objects);
    let lives = |unit: &&Unit| {
        let Unit::Runner(key) = unit else { return false };
        let name = names::manager(key);
        let bound = bindings.iter().filter(|one| one.name.name == name);
        let mut bound =
            bound.map(|one| here.contains(one.name.namespace.as_deref().unwrap_or_default()));
        let (first, is_here) = (bound.next(), bound.any(|is_here| is_here));
        key.profile == *profile && (first.is_none_or(|is_here| is_here) || is_here)
    };
    Ok(made.iter().filter(lives).count())
}

/// The namespaces that any of these is or lies in.
fn places(objects: &[Object]) -> BTreeSet<&str> {
    objects
        .iter()
        .filter_map(|object| match &object.name.namespace {
            Some(namespace) => Some(namespace.as_str()),
            None => (object.name.kind == Kind::Namespace).then_some(object.name.name.as_str()),
        })
        .collect()
}

fn is_ours(fleet: &FleetSettings, key: &str, object: &Object) -> bool {
    object.label(names::LABEL_FLEET) == Some(fleet.name.as_str())
        && object.label(names::LABEL_KEY) == Some(key)
}

async fn objects(
    clients: &Clients,
    fleet: &FleetSettings,
    search: &Search<'_>,
) -> Result<Vec<Object>, Failure> {
    let key = search.key;
    let selector = format!("{}={},{}={key}", names::LABEL_FLEET, fleet.name, names::LABEL_KEY);
    let kubernetes = clients.kubernetes();
    let managers = fleet.cluster.managers_namespace.as_str();
    let everywhere = KINDS.map(|kind| (kind, None));
    let all = everywhere.into_iter().chain([(Kind::Deployment, Some(managers))]);
    let lists =
        try_join_all(all.map(|(kind, within)| kubernetes.list(kind, within, Some(&selector))));
    let objects = lists.await?.concat();
    // A label's value holds 63 characters, and the selector is the server's to apply: both are looked at again.
    Ok(objects.into_iter().filter(|object| is_ours(fleet, key, object)).collect())
}

/// Its entities, and the ids of those that GitLab does not let us read where the target shows itself no more.
async fn entities(
    clients: &Clients,
    fleet: &FleetSettings,
    search: &Search<'_>,
    entries: &BTreeSet<RunnerId>,
    told: Option<RunnerId>,
) -> Result<(Vec<Entity>, BTreeSet<RunnerId>), Failure> {
    let Some((key, target_is_there)) = search.runner else {
        return Ok((vec![], BTreeSet::new()));
    };
    let mut ids: BTreeSet<RunnerId> = entries.iter().copied().chain(told).collect();
    if target_is_there {
        let known: Vec<RunnerId> = ids.iter().copied().collect();
        let listed = clients.gitlab().runners_of(key.target).await?;
        let ours = listed.iter().filter(|one| claim::concerns(one, &fleet.name, key, &known));
        ids.extend(ours.map(|one| one.id));
    }
    let client = clients.gitlab();
    let read = ids.iter().map(|id| async move {
        match client.entity(*id).await {
            // An orphan whose group is gone belongs to nobody, and only an administrator may see it (gitlab.md §3.5).
            Err(gitlab::Error::Forbidden { .. }) if !target_is_there => Ok(Err(*id)),
            other => other.map(Ok).map_err(Failure::from),
        }
    });
    let found: Vec<Result<Option<Entity>, RunnerId>> = try_join_all(read).await?;
    let hidden = found.iter().filter_map(|one| one.as_ref().err().copied()).collect();
    // What only the status names may have become somebody else's since; an orphan with our marker is the sweep's to tell.
    let is_this = |entity: &Entity| {
        told != Some(entity.id)
            || claim::belongs_to(entity, key.target)
            || (entity.owners.is_empty() && Marker::find(&entity.description).is_none())
    };
    Ok((found.into_iter().flatten().flatten().filter(is_this).collect(), hidden))
}

/// Which entities without a marker our Secret's tokens belong to.
async fn proven(
    clients: &Clients,
    installation: &InstallationId,
    search: &Search<'_>,
    entities: &[Entity],
    kept: Vec<(RunnerId, SecretString)>,
) -> Result<BTreeSet<RunnerId>, Failure> {
    // GitLab verifies no orphan's token (422, gitlab.md §4).
    let Some((key, true)) = search.runner else { return Ok(BTreeSet::new()) };
    let unmarked = |id: &RunnerId| {
        let mut read = entities.iter().filter(|entity| entity.id == *id);
        read.any(|entity| Marker::find(&entity.description).is_none())
    };
    let verifier = names::verifier_system_id(installation, key);
    let asked = kept.into_iter().filter(|(id, _)| unmarked(id)).map(|(id, token)| {
        let verifier = verifier.as_str();
        async move {
            let verified = clients.gitlab().verify(&token, verifier).await?;
            let is_its = matches!(verified, Verified::Valid { id: of, .. } if of == id);
            Ok::<_, Failure>(is_its.then_some(id))
        }
    });
    Ok(try_join_all(asked).await?.into_iter().flatten().collect())
}

pub(super) async fn busy(
    clients: &Clients,
    entities: &[Entity],
) -> Result<BTreeSet<RunnerId>, Failure> {
    let gitlab = clients.gitlab();
    let asked = entities
        .iter()
        .map(|entity| async move { Ok::<_, Failure>((entity.id, !gitlab.is_idle(entity).await?)) });
    let answers = try_join_all(asked).await?;
    Ok(answers.into_iter().filter(|(_, busy)| *busy).map(|(id, _)| id).collect())
}

/// Job pods of these entities' entries, in the namespaces where the manager was bound; all of the profile's in what it shared.
async fn job_pods(
    clients: &Clients,
    fleet: &FleetSettings,
    search: &Search<'_>,
    objects: &[Object],
    entities: &[RunnerId],
) -> Result<usize, Failure> {
    if let Unit::Domain(profile) = search.unit {
        let counted = places(objects)
            .into_iter()
            .map(|namespace| job_pods_in(clients, fleet, namespace, |key| key.profile == *profile));
        return Ok(try_join_all(counted).await?.into_iter().sum());
    }
    let bound = objects.iter().filter(|object| object.name.kind == Kind::RoleBinding);
    let namespaces: BTreeSet<&str> =
        bound.filter_map(|binding| binding.name.namespace.as_deref()).collect();
    let searches = namespaces.iter().flat_map(|namespace| {
        entities.iter().map(move |id| (*namespace, format!("{}={id}", names::LABEL_RUNNER)))
    });
    let lists = try_join_all(searches.map(|(namespace, selector)| async move {
        clients.kubernetes().list(Kind::Pod, Some(namespace), Some(&selector)).await
    }));
    Ok(lists.await?.concat().iter().filter(|pod| !has_ended(pod)).count())
}

/// Pods there of jobs that these runners took and that have not ended.
pub(super) async fn job_pods_in(
    clients: &Clients,
    fleet: &FleetSettings,
    namespace: &str,
    of: impl Fn(&RunnerKey) -> bool,
) -> Result<usize, Failure> {
    let selector = format!("{}={}", names::LABEL_FLEET, fleet.name);
    let pods = clients.kubernetes().list(Kind::Pod, Some(namespace), Some(&selector)).await?;
    let is_its = |pod: &&Object| {
        let key = pod.label(names::LABEL_KEY).and_then(|key| key.parse().ok());
        pod.label(names::LABEL_RUNNER).is_some() && key.is_some_and(|key| of(&key))
    };
    Ok(pods.iter().filter(is_its).filter(|pod| !has_ended(pod)).count())
}

fn has_ended(pod: &Object) -> bool {
    matches!(pod.body["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
}

/// The identity that carries this unit's tags, with every right of it that we can see.
async fn identity(
    clients: &Clients,
    fleet: &FleetSettings,
    installation: &InstallationId,
    search: &Search<'_>,
) -> Result<Option<Owned>, Failure> {
    let Some(azure) = &fleet.azure else { return Ok(None) };
    let arm = clients.arm();
    let found = arm.identities_in(azure.subscription, &azure.resource_group).await?;
    let found = found.ok_or_else(|| {
        Failure::retry(format!(
            "resource group `{}` shows no list of identities: gone, or hidden from us",
            azure.resource_group
        ))
    })?;
    let tag = |one: &Identity, name: &str| one.tags.get(name).cloned().unwrap_or_default();
    let ours = |one: &Identity| {
        tag(one, names::TAG_FLEET) == fleet.name.as_str()
            && tag(one, names::TAG_INSTALLATION) == installation.0
            && tag(one, names::TAG_KEY) == search.key
    };
    let Some(identity) = found.into_iter().find(ours) else { return Ok(None) };
    let mut scopes = search.scopes.clone();
    scopes.extend(identity.id.group_scope());
    let principal = identity.principal_id;
    let rights =
        try_join_all(scopes.iter().map(|scope| observe::assignments_of(arm, scope, principal)));
    let (credentials, rights) =
        try_join!(arm.credentials(&identity.id).map_err(Failure::from), rights)?;
    let credentials = credentials.ok_or_else(|| {
        Failure::retry(format!("identity `{}` went while it was read", identity.id.name()))
    })?;
    let mut assignments = rights.concat();
    assignments.sort_by_key(|assignment| assignment.name);
    assignments.dedup_by_key(|assignment| assignment.name);
    Ok(Some(Owned { identity, credentials, assignments }))
}

/// Our credentials on the existing identities that may hold one; a job account that somebody deleted names none any more.
async fn lent(
    clients: &Clients,
    fleet: &FleetSettings,
    search: &Search<'_>,
    objects: &[Object],
) -> Result<Vec<(ResourceId, FederatedCredential)>, Failure> {
    let accounts = objects.iter().filter(|object| object.name.kind == Kind::ServiceAccount);
    let asked = accounts.filter_map(|account| account.annotation(names::ANNOTATION_IDENTITY));
    let lenders = search.lenders.iter().cloned();
    let identities: BTreeSet<ResourceId> =
        asked.filter_map(ResourceId::new).chain(lenders).collect();
    let lists = try_join_all(identities.into_iter().map(|id| async move {
        let held = clients.arm().credentials(&id).await?.unwrap_or_default();
        Ok::<_, Failure>(held.into_iter().map(move |one| (id.clone(), one)).collect::<Vec<_>>())
    }));
    let ours =
        |one: &FederatedCredential| names::is_credential_of(&fleet.name, search.key, &one.name);
    Ok(lists.await?.concat().into_iter().filter(|(_, one)| ours(one)).collect())
}
