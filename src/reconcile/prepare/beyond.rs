//! What forerunner gave and the guardrails allow no more, of a unit that rests for it.

use crate::{
    domain::{
        azure::{ResourceId, RoleAssignment},
        fleet::Fleet,
        ids::{InstallationId, RunnerKey},
        plan::{domain::is_ours, rights},
        spec::{IdentitySpec, Isolation},
    },
    reconcile::{Clients, Failure, observe},
};
use futures::future::try_join_all;
use std::collections::BTreeSet;

/// A runner's own. What lies in a shared domain is the domain's.
pub(super) async fn of_runner(
    clients: &Clients,
    fleet: &Fleet,
    installation: &InstallationId,
    key: &RunnerKey,
    identity: &IdentitySpec,
) -> Result<Vec<RoleAssignment>, Failure> {
    match fleet.profile(&key.profile).map(|profile| profile.isolation) {
        Some(Isolation::Target) => {
            read(clients, fleet, installation, &key.to_string(), identity).await
        }
        Some(Isolation::Profile) | None => Ok(vec![]),
    }
}

/// Looks where the file asks for roles, and where the guardrails let forerunner give any. `key`: of the trust domain.
pub(super) async fn read(
    clients: &Clients,
    fleet: &Fleet,
    installation: &InstallationId,
    key: &str,
    identity: &IdentitySpec,
) -> Result<Vec<RoleAssignment>, Failure> {
    let IdentitySpec::Managed { name, roles, .. } = identity else { return Ok(vec![]) };
    let (settings, guardrails, arm) = (fleet.settings(), fleet.guardrails(), clients.arm());
    let found = arm.identity(&observe::managed_identity_id(settings, name)?).await?;
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
    Ok(rights::outside(roles, guardrails, held))
}
