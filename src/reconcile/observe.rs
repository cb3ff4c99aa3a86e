//! Reads what one unit needs, independent reads at once. A read that fails ends the round: absence is never guessed.

mod identities;
mod places;

pub(super) use identities::{
    assignments_of, existing_identity, left_by_domain, managed_identity_id, returned_identity,
};

use super::{Clients, Failure, leaving};
use crate::{
    adapters::gitlab::Verified,
    domain::{
        claim,
        gitlab::{Entity, Listed},
        ids::{InstallationId, RunnerId, RunnerKey, Unit},
        kubernetes::{Kind, Object, ObjectName},
        ledger::Ledger,
        marker::Marker,
        names,
        observed::{DomainObserved, EntryObserved, Observed, SecretObserved, TokenCheck},
        plan::{domain as domain_plan, hold::HeldObserved, rollout, runner as runner_plan},
        records, render, sight,
        spec::{FleetSettings, RunnerSpec},
        status::Status,
    },
};
use futures::{TryFutureExt, future::try_join_all, try_join};
use identities::{identity, left};
use jiff::Timestamp;
use secrecy::SecretString;
use std::collections::{BTreeMap, BTreeSet};

/// The managers' namespace tells which installation this is; nothing is known without it.
pub(super) async fn installation(
    clients: &Clients,
    fleet: &FleetSettings,
) -> Result<InstallationId, Failure> {
    let name = &fleet.cluster.managers_namespace;
    let found = clients.kubernetes().get(&ObjectName::of_cluster(Kind::Namespace, name)).await?;
    let namespace = found.ok_or_else(|| {
        Failure::permanent(format!(
            "namespace `{name}` does not exist: an administrator applies deploy/kubernetes"
        ))
    })?;
    if namespace.label(names::LABEL_FLEET) != Some(fleet.name.as_str()) {
        return Err(Failure::permanent(format!(
            "namespace `{name}` lacks the label {}={}: an administrator applies deploy/kubernetes",
            names::LABEL_FLEET,
            fleet.name
        )));
    }
    let uid = namespace.body["metadata"]["uid"].as_str().unwrap_or_default();
    if uid.is_empty() {
        return Err(Failure::retry(format!("namespace `{name}` was shown without its uid")));
    }
    Ok(InstallationId(uid.to_owned()))
}

/// All that a runner's round looks at.
pub(super) async fn runner(
    clients: &Clients,
    fleet: &FleetSettings,
    spec: &RunnerSpec,
    installation: InstallationId,
    ledger: Ledger,
) -> Result<Observed, Failure> {
    let managers = &fleet.cluster.managers_namespace;
    let manager = names::manager(&spec.key);
    let jobs = names::job_namespace(&fleet.name, spec);
    let kubernetes = clients.kubernetes();
    let read = |kind, namespace: &str, name: &str| {
        let name = ObjectName::new(kind, namespace, name);
        async move { kubernetes.get(&name).await.map_err(Failure::from) }
    };
    let unit = Unit::Runner(spec.key.clone());
    let (entities, domain, deployment, manager_account, manager_policy, binding, left_places, left) =
        try_join!(
            entities(clients, fleet, &spec.key, &installation),
            domain(clients, fleet, spec, installation.clone()),
            read(Kind::Deployment, managers, &manager),
            read(Kind::ServiceAccount, managers, &manager),
            read(Kind::NetworkPolicy, managers, &manager),
            read(Kind::RoleBinding, &jobs, &manager),
            places::left(clients, fleet, spec, &installation),
            left(clients, fleet, spec),
        )?;
    let pods = match &deployment {
        Some(live) if !runner_plan::is_available(live) => {
            let selector =
                format!("{}={},{}={}", names::LABEL_FLEET, fleet.name, names::LABEL_KEY, spec.key);
            kubernetes.list(Kind::Pod, Some(managers), Some(&selector)).await?
        }
        Some(_) | None => vec![],
    };
    // Whose place in a rollout is about to be free is the only one to ask who waits for it.
    let has_rolled = ledger.book.rollout(&unit).is_some()
        && deployment.as_ref().is_some_and(runner_plan::is_available);
    let waiting = if has_rolled {
        let statuses = statuses(clients, fleet).await?;
        rollout::waiting(statuses, fleet.rollout_in_flight)
    } else {
        vec![]
    };
    let confirmed = |entity: &&Entity| {
        ledger.book.partings.iter().any(|one| one.unit == unit && one.runner == entity.id)
    };
    let confirmed: Vec<Entity> = entities.entities.iter().filter(confirmed).cloned().collect();
    let busy = leaving::busy(clients, &confirmed).await?;
    Ok(Observed {
        domain,
        left,
        left_places,
        busy,
        pods,
        waiting,
        entities: entities.entities,
        managers: entities.managers,
        secret: entities.secret,
        deployment,
        manager_account,
        manager_policy,
        binding,
        ledger,
        runners: entities.runners,
        status: entities.status,
    })
}

/// What holding a runner looks at.
pub(super) async fn held(
    clients: &Clients,
    fleet: &FleetSettings,
    key: &RunnerKey,
    installation: InstallationId,
) -> Result<HeldObserved, Failure> {
    let managers = &fleet.cluster.managers_namespace;
    let deployment = ObjectName::new(Kind::Deployment, managers, &names::manager(key));
    let (entities, deployment) = try_join!(
        entities(clients, fleet, key, &installation),
        clients.kubernetes().get(&deployment).map_err(Failure::from),
    )?;
    let Entities { entities, secret, status, .. } = entities;
    let entries = match &secret {
        SecretObserved::Present { entries, .. } => entries.iter().map(|one| one.runner).collect(),
        SecretObserved::Absent | SecretObserved::Foreign => vec![],
    };
    Ok(HeldObserved { installation, entities, entries, deployment, status })
}

pub(super) async fn ledger(clients: &Clients, fleet: &FleetSettings) -> Result<Ledger, Failure> {
    let name = ObjectName::new(Kind::ConfigMap, &fleet.cluster.managers_namespace, names::LEDGER);
    clients.ledger(&name).await
}

pub(super) async fn status(
    clients: &Clients,
    fleet: &FleetSettings,
    unit: &Unit,
) -> Result<Option<Status>, Failure> {
    let name = ObjectName::new(
        Kind::ConfigMap,
        &fleet.cluster.managers_namespace,
        &names::status_map(unit),
    );
    let found = clients.kubernetes().get(&name).await?;
    // History that cannot be read is lost history, not a failure.
    Ok(found.as_ref().and_then(records::read_status))
}

/// What is told of every unit, in one list.
pub(super) async fn statuses(
    clients: &Clients,
    fleet: &FleetSettings,
) -> Result<Vec<Status>, Failure> {
    let selector =
        format!("{}={},{}=status", names::LABEL_FLEET, fleet.name, records::LABEL_RECORD);
    let namespace = Some(fleet.cluster.managers_namespace.as_str());
    let found = clients.kubernetes().list(Kind::ConfigMap, namespace, Some(&selector)).await?;
    Ok(found.iter().filter_map(records::read_status).collect())
}

struct Entities {
    entities: Vec<crate::domain::gitlab::Entity>,
    managers: BTreeMap<RunnerId, Vec<crate::domain::gitlab::Manager>>,
    secret: SecretObserved,
    runners: BTreeSet<Unit>,
    status: Option<Status>,
}

/// The entities of this key in the target's own list, who polls with them, and the Secret with its tokens.
async fn entities(
    clients: &Clients,
    fleet: &FleetSettings,
    key: &RunnerKey,
    installation: &InstallationId,
) -> Result<Entities, Failure> {
    let (gitlab, kubernetes) = (clients.gitlab(), clients.kubernetes());
    let secret = runner_plan::secret_name(fleet, key);
    let unit = Unit::Runner(key.clone());
    let (listed, live, status) = try_join!(
        gitlab.runners_of(key.target).map_err(Failure::from),
        kubernetes.get(&secret).map_err(Failure::from),
        status(clients, fleet, &unit),
    )?;
    let entries = match &live {
        Some(object) if object.label(names::LABEL_FLEET) == Some(fleet.name.as_str()) => {
            // A hand-edited file without a readable entry is a Secret without a token.
            render::read_entries(object).unwrap_or_default()
        }
        Some(_) | None => Vec::new(),
    };
    let named = entries.iter().map(|(runner, _)| *runner);
    let known: Vec<RunnerId> =
        named.chain(status.as_ref().and_then(|status| status.entity)).collect();
    let concerned: Vec<RunnerId> = concerned(&listed, fleet, key, &known);
    let read = try_join_all(concerned.iter().map(|id| async move {
        try_join!(gitlab.entity(*id), gitlab.managers(*id)).map_err(Failure::from)
    }))
    .await?;
    let mut entities = Vec::new();
    let mut managers = BTreeMap::new();
    for (entity, polled) in read {
        if let Some(entity) = entity {
            managers.insert(entity.id, polled);
            entities.push(entity);
        }
    }
    let system_id = names::system_id(installation, key);
    // An old poll says nothing of a token that somebody has reset since.
    let fresh = |at: Timestamp| clients.now().duration_since(at) < runner_plan::CONTACT_COUNTS;
    let polls = |id: &RunnerId| {
        managers.get(id).into_iter().flatten().any(|one: &crate::domain::gitlab::Manager| {
            one.system_id == system_id && one.contacted_at.is_some_and(fresh)
        })
    };
    // One without a marker is known by nothing but its token, so that is asked about.
    let marked = |entity: &Entity| Marker::find(&entity.description).is_some();
    let certain = !live.as_ref().is_some_and(render::was_edited)
        && entities.len() == 1
        && entries.len() == 1
        && entities[0].id == entries[0].0
        && marked(&entities[0])
        && polls(&entries[0].0);
    let verifier = names::verifier_system_id(installation, key);
    let entries = check(clients, entries, certain, &verifier).await?;
    let (secret, runners) = match live {
        None => (SecretObserved::Absent, made_runners(clients, fleet).await?),
        Some(object) if object.label(names::LABEL_FLEET) != Some(fleet.name.as_str()) => {
            (SecretObserved::Foreign, BTreeSet::new())
        }
        Some(object) => (SecretObserved::Present { object, entries }, BTreeSet::new()),
    };
    Ok(Entities { entities, managers, secret, runners, status })
}

fn concerned(
    listed: &[Listed],
    fleet: &FleetSettings,
    key: &RunnerKey,
    known: &[RunnerId],
) -> Vec<RunnerId> {
    listed
        .iter()
        .filter(|one| claim::concerns(one, &fleet.name, key, known))
        .map(|one| one.id)
        .collect()
}

/// Asks GitLab whose token each is, unless the manager's own polls already say so.
async fn check(
    clients: &Clients,
    entries: Vec<(RunnerId, SecretString)>,
    certain: bool,
    verifier: &str,
) -> Result<Vec<EntryObserved>, Failure> {
    let gitlab = clients.gitlab();
    try_join_all(entries.into_iter().map(|(runner, token)| async move {
        let check = match certain {
            true => TokenCheck::NotAsked,
            false => match gitlab.verify(&token, verifier).await? {
                Verified::Valid { id, .. } => TokenCheck::BelongsTo(id),
                Verified::Refused => TokenCheck::Refused,
            },
        };
        Ok(EntryObserved { runner, token, check })
    }))
    .await
}

/// Every runner of the fleet has one manager Deployment.
pub(super) async fn made_runners(
    clients: &Clients,
    fleet: &FleetSettings,
) -> Result<BTreeSet<Unit>, Failure> {
    let selector = format!("{}={}", names::LABEL_FLEET, fleet.name);
    let kubernetes = clients.kubernetes();
    let found = kubernetes
        .list(Kind::Deployment, Some(&fleet.cluster.managers_namespace), Some(&selector))
        .await?;
    let keys = found.iter().filter_map(|one| one.label(names::LABEL_KEY)?.parse().ok());
    Ok(keys.map(Unit::Runner).collect())
}

/// All that a trust domain's round looks at.
pub(super) async fn domain(
    clients: &Clients,
    fleet: &FleetSettings,
    spec: &RunnerSpec,
    installation: InstallationId,
) -> Result<DomainObserved, Failure> {
    let kubernetes = clients.kubernetes();
    let wanted = domain_plan::object_names(&fleet.name, spec);
    let objects = try_join_all(wanted.into_iter().map(|name| async move {
        let found = kubernetes.get(&name).await.map_err(Failure::from)?;
        Ok::<(ObjectName, Option<Object>), Failure>((name, found))
    }));
    let (objects, strangers, identity, api_server) = try_join!(
        objects,
        strangers(clients, fleet, spec),
        identity(clients, fleet, &spec.identity),
        clients.api_server_addresses()
    )?;
    let gitlab_ca = clients.gitlab_ca().map(str::to_owned);
    Ok(DomainObserved {
        installation,
        api_server,
        gitlab_ca,
        objects: objects.into_iter().collect(),
        strangers,
        identity,
    })
}

/// What others put into a job namespace of ours. One that an administrator made is theirs to furnish.
async fn strangers(
    clients: &Clients,
    fleet: &FleetSettings,
    spec: &RunnerSpec,
) -> Result<Vec<Object>, Failure> {
    if spec.kubernetes.namespace.is_some() {
        return Ok(vec![]);
    }
    let namespace = names::job_namespace(&fleet.name, spec);
    let domain = names::domain_key(&spec.key, spec.isolation);
    let kubernetes = clients.kubernetes();
    let list = |kind| kubernetes.list(kind, Some(&namespace), None).map_err(Failure::from);
    let (bindings, policies) = try_join!(list(Kind::RoleBinding), list(Kind::NetworkPolicy))?;
    let all = bindings.into_iter().chain(policies);
    Ok(all.filter(|object| sight::is_strange(object, &fleet.name, &domain)).collect())
}
