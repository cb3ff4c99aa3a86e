//! What forerunner gave and the guardrails allow no more, of a unit that rests for it, or that the file has no use for.

use crate::{
    domain::{
        azure::{ResourceId, RoleAssignment},
        fleet::Fleet,
        ids::{InstallationId, RunnerKey},
        names,
        plan::{domain::is_ours, rights},
        spec::{Grant, IdentitySpec, Isolation},
    },
    reconcile::{Clients, Failure, observe},
};
use futures::future::try_join_all;
use std::collections::BTreeSet;

/// A runner's own, or those of the identity that was its own before its profile shared another. What lies in a shared domain is the
/// domain's.
pub(super) async fn of_runner(
    clients: &Clients,
    fleet: &Fleet,
    installation: &InstallationId,
    key: &RunnerKey,
    identity: &IdentitySpec,
) -> Result<Vec<RoleAssignment>, Failure> {
    let own = key.to_string();
    match fleet.profile(&key.profile).map(|profile| profile.isolation) {
        Some(Isolation::Target) => read(clients, fleet, installation, &own, identity).await,
        Some(Isolation::Profile) | None => left(clients, fleet, installation, &own).await,
    }
}

/// Of an identity that the file asks for. `key`: of the trust domain.
pub(super) async fn read(
    clients: &Clients,
    fleet: &Fleet,
    installation: &InstallationId,
    key: &str,
    identity: &IdentitySpec,
) -> Result<Vec<RoleAssignment>, Failure> {
    let IdentitySpec::Managed { roles, .. } = identity else { return Ok(vec![]) };
    let held = held(clients, fleet, installation, key, roles).await?;
    Ok(rights::outside(roles, fleet.guardrails(), held))
}

/// Of an identity that the file has no use for, and that jobs may still sign in as until its runners have moved out.
pub(super) async fn left(
    clients: &Clients,
    fleet: &Fleet,
    installation: &InstallationId,
    key: &str,
) -> Result<Vec<RoleAssignment>, Failure> {
    let held = held(clients, fleet, installation, key, &[]).await?;
    Ok(rights::refused(fleet.guardrails(), held))
}

/// What an identity of ours has where the file asks for roles, and where the guardrails let forerunner give any.
async fn held(
    clients: &Clients,
    fleet: &Fleet,
    installation: &InstallationId,
    key: &str,
    roles: &[Grant],
) -> Result<Vec<RoleAssignment>, Failure> {
    let (settings, guardrails, arm) = (fleet.settings(), fleet.guardrails(), clients.arm());
    if settings.azure.is_none() {
        return Ok(vec![]);
    }
    let id = observe::managed_identity_id(settings, &names::identity(&settings.name, key))?;
    let found = arm.identity(&id).await?;
    let Some(found) = found.filter(|one| is_ours(one, &settings.name, installation, key)) else {
        return Ok(vec![]);
    };
    let asked = roles.iter().map(|grant| &grant.scope);
    let scopes: BTreeSet<&ResourceId> = asked.chain(&guardrails.scopes).collect();
    let lists = scopes.into_iter().map(|scope| arm.assignments_of(scope, found.principal_id));
    // At a scope that is gone nobody has a right.
    let mut held = try_join_all(lists).await?.into_iter().flatten().collect::<Vec<_>>().concat();
    held.sort_by_key(|one| one.name);
    held.dedup_by_key(|one| one.name);
    Ok(held)
}
