//! What a round sees of identities in Azure: the domain's own, those that it may be lent, and one that it had before.

use super::{Clients, Failure};
use crate::{
    adapters::azure::Arm,
    domain::{
        azure::{FederatedCredential, ResourceId, RoleAssignment},
        class::Class,
        ids::IdentityName,
        kubernetes::{Kind, Object},
        names,
        observed::{Candidate, IdentityObserved},
        plan::identity::{self as identity_plan, IdentityRound, Place},
        spec::{FleetSettings, Grant, IdentitySpec, Isolation, RunnerSpec},
    },
};
use futures::{StreamExt, TryFutureExt, TryStreamExt, future::try_join_all, stream, try_join};
use std::collections::BTreeSet;
use tracing::info;
use uuid::Uuid;

pub(super) async fn identity(
    clients: &Clients,
    fleet: &FleetSettings,
    spec: &IdentitySpec,
) -> Result<IdentityObserved, Failure> {
    match spec {
        IdentitySpec::None => Ok(IdentityObserved::NotWanted),
        IdentitySpec::Managed { name, roles, .. } => {
            let id = managed_identity_id(fleet, name)?;
            let (issuer, found) =
                try_join!(clients.issuer(), candidate(clients, id, roles, &fleet.reach.scopes))?;
            let Candidate { id, identity, credentials, assignments } = found;
            Ok(IdentityObserved::Managed { issuer, id, identity, credentials, assignments })
        }
        IdentitySpec::Existing { candidates, expect } => {
            let all = try_join_all(
                candidates.iter().map(|id| candidate(clients, id.clone(), expect, &[])),
            );
            let (issuer, candidates) = try_join!(clients.issuer(), all)?;
            Ok(IdentityObserved::Existing { issuer, candidates })
        }
    }
}

pub(in crate::reconcile) fn managed_identity_id(
    fleet: &FleetSettings,
    name: &str,
) -> Result<ResourceId, Failure> {
    let azure = fleet.azure.as_ref().ok_or_else(|| {
        Failure::permanent("a profile has a managed identity and `fleet.yaml` has no `azure`: say where identities live")
    })?;
    let id = format!(
        "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}",
        azure.subscription, azure.resource_group
    );
    ResourceId::new(&id).ok_or_else(|| Failure::permanent(format!("`{id}` is no resource id")))
}

/// The identity of a runner's own that the file gives it no more. Nothing in the cluster surely tells of one: it may never have been
/// whole, and a Deployment may be gone.
pub(super) async fn left(
    clients: &Clients,
    fleet: &FleetSettings,
    spec: &RunnerSpec,
) -> Result<Option<Candidate>, Failure> {
    let has_own = matches!(spec.identity, IdentitySpec::Managed { .. })
        && spec.isolation == Isolation::Target;
    if has_own {
        return Ok(None);
    }
    match (identity_of(clients, fleet, &spec.key.to_string()).await, &spec.identity) {
        // Whoever needs nothing made in Azure does not wait for it. A sweep sees what is left, and wakes this runner for it.
        (Err(failure), IdentitySpec::None | IdentitySpec::Existing { .. }) => {
            info!("whether `{}` left an identity is not known now: {}", spec.key, failure.text);
            Ok(None)
        }
        (own, _) => own,
    }
}

/// The same of a shared domain, whose rounds are few.
pub(in crate::reconcile) async fn left_by_domain(
    clients: &Clients,
    fleet: &FleetSettings,
    spec: &RunnerSpec,
) -> Result<Option<Candidate>, Failure> {
    match spec.identity {
        IdentitySpec::Managed { .. } => Ok(None),
        IdentitySpec::None | IdentitySpec::Existing { .. } => {
            let key = names::domain_key(&spec.key, spec.isolation);
            identity_of(clients, fleet, &key).await
        }
    }
}

async fn identity_of(
    clients: &Clients,
    fleet: &FleetSettings,
    key: &str,
) -> Result<Option<Candidate>, Failure> {
    if fleet.azure.is_none() {
        return Ok(None);
    }
    let id = managed_identity_id(fleet, &names::identity(&fleet.name, key))?;
    candidate(clients, id, &[], &fleet.reach.scopes).await.map(Some)
}

/// An identity with its credentials and what its principal has where the grants lie, and at, above and below `wide` scopes.
async fn candidate(
    clients: &Clients,
    id: ResourceId,
    grants: &[Grant],
    wide: &[ResourceId],
) -> Result<Candidate, Failure> {
    let azure = clients.arm();
    let Some(identity) = azure.identity(&id).await? else {
        return Ok(Candidate { id, identity: None, credentials: vec![], assignments: vec![] });
    };
    let rights = rights_of(azure, identity.principal_id, grants, wide);
    let (credentials, mut assignments) = try_join!(credentials_of(azure, &id), rights)?;
    assignments.sort_by_key(|assignment| assignment.name);
    assignments.dedup_by_key(|assignment| assignment.name);
    Ok(Candidate { id, identity: Some(identity), credentials, assignments })
}

/// How many scopes are read at once.
const AT_ONCE: usize = 25;

/// A wide scope that we may not read hides what others gave there, from this round as from a sweep; where a grant lies, we have to see.
async fn rights_of(
    arm: &Arm,
    principal: Uuid,
    grants: &[Grant],
    wide: &[ResourceId],
) -> Result<Vec<RoleAssignment>, Failure> {
    let wide = wide.iter().cloned().map(|scope| async move {
        match arm.assignments_of(&scope, principal).await {
            Ok(found) => Ok(found.map(|found| (scope, found))),
            Err(error) if error.class() == Class::Permanent => Ok(None),
            Err(error) => Err(Failure::from(error)),
        }
    });
    let wide: Vec<Option<_>> = stream::iter(wide).buffered(AT_ONCE).try_collect().await?;
    let shown: Vec<_> = wide.into_iter().flatten().collect();
    let is_shown = |scope: &ResourceId| shown.iter().any(|(wide, _)| wide.contains(scope));
    let rest = grants.iter().map(|grant| &grant.scope).filter(|scope| !is_shown(scope));
    let rest: BTreeSet<&ResourceId> = rest.collect();
    let rest =
        try_join_all(rest.into_iter().map(|scope| assignments_of(arm, scope, principal))).await?;
    Ok(shown.into_iter().map(|(_, found)| found).chain(rest).flatten().collect())
}

/// The identity was there a moment ago: if it is not any more, this round saw nothing it could trust.
async fn credentials_of(arm: &Arm, id: &ResourceId) -> Result<Vec<FederatedCredential>, Failure> {
    let found = arm.credentials(id).await?;
    found.ok_or_else(|| {
        Failure::retry(format!("identity `{}` came or went while it was read", id.name()))
    })
}

pub(in crate::reconcile) async fn assignments_of(
    arm: &Arm,
    scope: &ResourceId,
    principal: Uuid,
) -> Result<Vec<RoleAssignment>, Failure> {
    let found = arm.assignments_of(scope, principal).await?;
    found.ok_or_else(|| {
        Failure::permanent(format!("scope `{scope}` does not exist, or forerunner may not read it"))
    })
}

/// All that the round of an existing identity looks at. `place` says where an account stands, if it may ask for it at all.
pub(in crate::reconcile) async fn existing_identity(
    clients: &Clients,
    fleet: &FleetSettings,
    id: ResourceId,
    place: impl Fn(&Object) -> Option<Place>,
) -> Result<IdentityRound, Failure> {
    let selector = format!(
        "{}={},{}={}",
        names::LABEL_MANAGED_BY,
        names::MANAGED_BY,
        names::LABEL_FLEET,
        fleet.name
    );
    let kubernetes = clients.kubernetes();
    let azure = clients.arm();
    let (issuer, identity, accounts) = try_join!(
        clients.issuer(),
        azure.identity(&id).map_err(Failure::from),
        kubernetes.list(Kind::ServiceAccount, None, Some(&selector)).map_err(Failure::from),
    )?;
    let credentials = match &identity {
        Some(_) => azure.credentials(&id).await?,
        None => None,
    };
    let named = |account: &Object| asked_identity(account).as_ref() == Some(&id);
    let (returning, asking): (Vec<Object>, Vec<Object>) =
        accounts.into_iter().filter(named).partition(identity_plan::gives_back);
    let stands = |at: Place| {
        let there = asking.iter().filter(|account| place(account) == Some(at));
        there.cloned().collect::<Vec<_>>()
    };
    let (accounts, former) = (stands(Place::Present), stands(Place::Former));
    let bindings = match former.is_empty() {
        true => vec![],
        false => kubernetes.list(Kind::RoleBinding, None, Some(&selector)).await?,
    };
    Ok(IdentityRound { id, issuer, identity, credentials, accounts, former, bindings, returning })
}

fn asked_identity(account: &Object) -> Option<ResourceId> {
    account.annotation(names::ANNOTATION_IDENTITY).and_then(ResourceId::new)
}

/// An existing identity that the file lists no longer, known by an account that still gives it back.
pub(in crate::reconcile) async fn returned_identity(
    clients: &Clients,
    fleet: &FleetSettings,
    name: &IdentityName,
) -> Result<Option<ResourceId>, Failure> {
    let selector = format!("{}={}", names::LABEL_FLEET, fleet.name);
    let accounts = clients.kubernetes().list(Kind::ServiceAccount, None, Some(&selector)).await?;
    let returning = accounts.iter().filter(|account| identity_plan::gives_back(account));
    let mut named = returning.filter_map(asked_identity);
    Ok(named.find(|id| names::identity_unit(id) == *name))
}
