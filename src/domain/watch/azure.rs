//! Rights of identities that jobs sign in as, where no right may reach; what dead identities left; limits that come near.

use crate::domain::{
    azure::{ResourceId, RoleAssignment},
    fleet::{Guardrails, roles},
    fleet_status::{Finding, FindingKind},
    ids::{FleetName, InstallationId},
    names,
    plan::{
        domain::CREDENTIALS_MAX,
        rights::{is_ours, take_away},
    },
    spec::Grant,
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// An entry of `guardrails.never` as a sweep saw it.
#[derive(Clone, Debug)]
pub struct Guarded {
    pub scope: ResourceId,
    /// All assignments at, above and below it, whoever has them; `None`: forerunner may not look there.
    pub assignments: Option<Vec<RoleAssignment>>,
}

/// An identity that jobs of the fleet sign in as.
#[derive(Clone, Debug)]
pub struct Holder {
    pub id: ResourceId,
    pub principal: Uuid,
}

/// Writing rights of the holders that reach an entry of `never`, whoever gave them.
pub fn reaching<'a>(
    guardrails: &Guardrails,
    assignments: impl Iterator<Item = &'a RoleAssignment>,
    holders: &[Holder],
    now: Timestamp,
) -> Vec<Finding> {
    let holders: BTreeMap<Uuid, &Holder> =
        holders.iter().map(|holder| (holder.principal, holder)).collect();
    let found = assignments.filter_map(|assignment| {
        let holder = holders.get(&assignment.principal_id)?;
        let RoleAssignment { role, scope, .. } = assignment;
        let role_name = roles::by_id(*role).map_or_else(|| role.to_string(), |known| known.name.to_owned());
        let grant = Grant { role: *role, role_name, scope: scope.clone() };
        let danger = guardrails.endangers(&grant)?;
        let message = format!(
            "identity `{}` holds {danger}: a job that signs in as it could take over what keeps the fleet",
            holder.id.name()
        );
        Some(Finding::new(FindingKind::ReachesNever, message, take_away(assignment), now))
    });
    found.collect()
}

/// Entries of `never` that forerunner, who is `principal`, may not watch.
pub fn unwatched(guarded: &[Guarded], principal: &str, now: Timestamp) -> Vec<Finding> {
    let hidden = guarded.iter().filter(|one| one.assignments.is_none());
    let found = hidden.map(|Guarded { scope, .. }| {
        let message = format!(
            "forerunner may not see who has rights on {scope}, which guardrails.never keeps out"
        );
        let remedy = format!(
            "az role assignment create --assignee-object-id {principal} --assignee-principal-type ServicePrincipal --role \"Reader\" --scope \"{scope}\""
        );
        Finding::new(FindingKind::Unwatched, message, remedy, now)
    });
    found.collect()
}

/// Roles that we gave to principals that are no identity of ours (any more), each with the key it was for. Ours beyond
/// doubt: the name is made of scope, principal and role.
pub fn orphans<'a>(
    fleet: &FleetName,
    installation: &InstallationId,
    assignments: &'a [RoleAssignment],
    principals: &BTreeSet<Uuid>,
) -> Vec<(&'a str, &'a RoleAssignment)> {
    let prefix = names::assignment_description(fleet, installation, "");
    let mut seen = BTreeSet::new();
    let found = assignments.iter().filter_map(|one| {
        let key = one.description.as_deref()?.strip_prefix(&prefix)?;
        (is_ours(one) && !principals.contains(&one.principal_id)).then_some((key, one))
    });
    found.filter(|(_, one)| seen.insert(one.name)).collect()
}

/// Existing identities that Azure does not show us, and what it answers instead.
pub fn unread(identities: &[(ResourceId, String)], now: Timestamp) -> Vec<Finding> {
    let found = identities.iter().map(|(id, why)| {
        let message = format!("identity {id} could not be read: what became of it is not seen");
        let remedy = format!("{why}; where it stays so, see that forerunner may read it");
        Finding::new(FindingKind::Unwatched, message, remedy, now)
    });
    found.collect()
}

/// Roles of ours where the guardrails' scopes do not reach.
pub fn beyond_reach(assignments: &[RoleAssignment], now: Timestamp) -> Vec<Finding> {
    let ours = assignments.iter().filter(|one| is_ours(one)).map(|one| {
        let message = format!(
            "principal {} holds role {} on {}, which forerunner gave and guardrails.scopes do not reach any more",
            one.principal_id, one.role, one.scope
        );
        Finding::new(FindingKind::RoleBeyondReach, message, take_away(one), now)
    });
    ours.collect()
}

/// What is told of one that really is nobody's.
pub fn orphan(key: &str, assignment: &RoleAssignment, now: Timestamp) -> Finding {
    let message = format!(
        "a role that forerunner gave for {key} on {} belongs to principal {}, which is no identity of the fleet any more",
        assignment.scope, assignment.principal_id
    );
    Finding::new(FindingKind::OrphanedRole, message, take_away(assignment), now)
}

/// A subscription takes this many assignments and no more (azure.md §5).
const ASSIGNMENTS_MAX: usize = 4_000;
/// From here on it is told.
const ASSIGNMENTS_NEAR: usize = ASSIGNMENTS_MAX * 9 / 10;
const CREDENTIALS_NEAR: usize = CREDENTIALS_MAX - 2;

/// Existing identities with hardly a place left, by id, and subscriptions with hardly an assignment left, as far as the
/// lists that are read anyway show.
pub fn limits<'a>(
    credentials: impl Iterator<Item = (&'a ResourceId, usize)>,
    assignments: &[RoleAssignment],
    now: Timestamp,
) -> Vec<Finding> {
    let finding =
        |message: String, remedy: &str| Finding::new(FindingKind::LimitNear, message, remedy, now);
    let full = credentials.filter(|(_, held)| *held >= CREDENTIALS_NEAR).map(|(id, held)| {
        finding(
            format!("identity {id} holds {held} of {CREDENTIALS_MAX} federated credentials"),
            "list another identity under `identity.existing` of its profiles",
        )
    });
    let mut found: Vec<Finding> = full.collect();
    let mut by_subscription: BTreeMap<&str, BTreeSet<Uuid>> = BTreeMap::new();
    for one in assignments {
        if let Some(subscription) = one.scope.subscription() {
            by_subscription.entry(subscription).or_default().insert(one.name);
        }
    }
    let crowded = by_subscription.into_iter().filter(|(_, held)| held.len() >= ASSIGNMENTS_NEAR);
    found.extend(crowded.map(|(subscription, held)| {
        finding(
            format!(
                "subscription {subscription} holds at least {} of {ASSIGNMENTS_MAX} role assignments",
                held.len()
            ),
            "take away what nobody needs, or give roles at a wider scope",
        )
    }));
    found
}
