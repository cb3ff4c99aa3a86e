//! Rights of an identity against what is asked: which are missing, which nobody asked for, and which stand in the way.

use super::{Draft, beyond};
use crate::domain::{
    azure::{FederatedCredential, ResourceId, RoleAssignment},
    fleet::Guardrails,
    names,
    observed::Candidate,
    render::Context,
    spec::{Grant, RunnerSpec},
    status::{ConditionKind, Finding},
    step::{Step, StepId},
};
use std::collections::BTreeMap;
use uuid::Uuid;

/// Which of the roles nobody has assigned yet; under which name does not matter.
pub(crate) fn missing_grants<'a>(
    wanted: &'a [Grant],
    assignments: &[RoleAssignment],
) -> Vec<&'a Grant> {
    let is_there =
        |grant: &Grant| assignments.iter().any(|one| is_of(grant, one) && one.condition.is_none());
    wanted.iter().filter(|grant| !is_there(grant)).collect()
}

/// What others gave, wherever it was seen. Ours are known by their names.
pub(crate) fn foreign_rights<'a>(
    wanted: &[Grant],
    assignments: &'a [RoleAssignment],
) -> Vec<&'a RoleAssignment> {
    let is_asked = |one: &RoleAssignment| {
        one.condition.is_none() && wanted.iter().any(|grant| is_of(grant, one))
    };
    assignments.iter().filter(|one| !is_ours(one) && !is_asked(one)).collect()
}

/// What we gave and nothing asks for any more, such as the role that a profile had before.
pub(crate) fn surplus_rights<'a>(
    wanted: &[Grant],
    assignments: &'a [RoleAssignment],
) -> Vec<&'a RoleAssignment> {
    let is_asked = |one: &RoleAssignment| wanted.iter().any(|grant| is_of(grant, one));
    assignments.iter().filter(|one| is_ours(one) && !is_asked(one)).collect()
}

/// Takes back what is surplus, for which a unit that stays needs no permit (DESIGN, *Removal, grace and the brake*); what the
/// guardrails do not let us take is told.
pub(super) fn draft_surplus(draft: &mut Draft, context: &Context<'_>, surplus: &[&RoleAssignment]) {
    let (goes, stuck): (Vec<&RoleAssignment>, Vec<&RoleAssignment>) =
        surplus.iter().partition(|one| context.fleet.reach.covers(one));
    for one in goes {
        draft.add(Step::RemoveRole { assignment: one.clone(), may_be_refused: false }, []);
    }
    if !stuck.is_empty() {
        draft.find(beyond::finding(&stuck, "which do not let it take them away"));
    }
}

/// What we gave that nothing asks for within the guardrails.
pub(crate) fn outside(
    asked: &[Grant],
    guardrails: &Guardrails,
    mut assignments: Vec<RoleAssignment>,
) -> Vec<RoleAssignment> {
    let is_allowed = |one: &RoleAssignment| {
        asked.iter().any(|grant| is_of(grant, one) && guardrails.refuses(grant).is_none())
    };
    assignments.retain(|one| is_ours(one) && !is_allowed(one));
    assignments
}

/// What we gave and the guardrails refuse, whatever asks for it.
pub(crate) fn refused(
    guardrails: &Guardrails,
    mut assignments: Vec<RoleAssignment>,
) -> Vec<RoleAssignment> {
    let grant = |one: &RoleAssignment| Grant {
        role: one.role,
        role_name: one.role.to_string(),
        scope: one.scope.clone(),
    };
    assignments.retain(|one| is_ours(one) && guardrails.refuses(&grant(one)).is_some());
    assignments
}

/// What others gave of this very role and scope under a condition. Azure has one assignment of a role to a principal at a
/// scope, so ours can only follow once it is gone (azure.md §5.4). Under our own name a write takes the condition off.
pub(super) fn in_the_way<'a>(
    grant: &Grant,
    assignments: &'a [RoleAssignment],
) -> Option<&'a RoleAssignment> {
    let mut same = assignments.iter().filter(|one| is_of(grant, one));
    same.find(|one| one.condition.is_some() && !is_ours(one))
}

fn is_of(grant: &Grant, assignment: &RoleAssignment) -> bool {
    assignment.role == grant.role && assignment.scope == grant.scope
}

/// Known by its name, whose parts nobody chooses by accident.
pub(crate) fn is_ours(one: &RoleAssignment) -> bool {
    one.name == names::role_assignment(&one.scope, one.principal_id, one.role)
}

/// A right or a credential that others gave an identity of ours: told with the command that takes it away, or taken
/// away where the profile says so and the guardrails let us. Answers the steps that take a right away.
pub(super) fn draft_foreign(
    draft: &mut Draft,
    spec: &RunnerSpec,
    context: &Context<'_>,
    id: &ResourceId,
    credentials: &[FederatedCredential],
    rights: &[&RoleAssignment],
) -> BTreeMap<Uuid, StepId> {
    let key = names::domain_key(&spec.key, spec.isolation);
    let doors: Vec<&FederatedCredential> = credentials
        .iter()
        .filter(|one| !names::is_credential_of(&context.fleet.name, &key, &one.name))
        .collect();
    let (removed, rights): (Vec<&RoleAssignment>, Vec<&RoleAssignment>) = rights
        .iter()
        .partition(|right| spec.remove_foreign_rights && context.fleet.reach.covers(right));
    let removed = removed.into_iter().map(|right| {
        let step = Step::RemoveRole { assignment: right.clone(), may_be_refused: false };
        (right.name, draft.add(step, []))
    });
    let removed = removed.collect();
    let (closed, doors) =
        if spec.remove_foreign_rights { (doors, vec![]) } else { (vec![], doors) };
    let mut last = None;
    for door in closed {
        let (identity, name) = (id.clone(), door.name.clone());
        last = Some(draft.add(Step::RemoveCredential { identity, name }, last));
    }
    let rights = rights.iter().map(|one| take_away(one));
    let doors = doors.iter().map(|one| delete_credential(id, &one.name));
    let commands: Vec<String> = rights.chain(doors).collect();
    if !commands.is_empty() {
        draft.find(Finding::holds(
            ConditionKind::NeedsAdministrator,
            "ForeignRights",
            format!(
                "identity `{}` carries what forerunner did not give; to take it away: {}",
                id.name(),
                commands.join("; ")
            ),
        ));
    }
    removed
}

/// What an administrator types to take a credential away.
pub(super) fn delete_credential(identity: &ResourceId, name: &str) -> String {
    format!(
        "az identity federated-credential delete --ids \"{identity}/federatedIdentityCredentials/{name}\""
    )
}

/// What an administrator types to take a right away.
pub(crate) fn take_away(right: &RoleAssignment) -> String {
    format!(
        "az role assignment delete --ids \"{}/providers/Microsoft.Authorization/roleAssignments/{}\"",
        right.scope.as_str().trim_end_matches('/'),
        right.name
    )
}

/// A right that an administrator was expected to give and has not.
pub(super) fn draft_expected(draft: &mut Draft, candidate: &Candidate, expect: &[Grant]) {
    let Some(identity) = &candidate.identity else { return };
    let missing = missing_grants(expect, &candidate.assignments);
    if missing.is_empty() {
        return;
    }
    let commands: Vec<String> = missing
        .iter()
        .map(|grant| {
            let give = format!(
                "az role assignment create --assignee-object-id {} --assignee-principal-type ServicePrincipal --role \"{}\" --scope \"{}\"",
                identity.principal_id, grant.role_name, grant.scope
            );
            // A condition keeps the right from being what was expected, and the same right from being given again.
            let mut same = candidate.assignments.iter().filter(|one| is_of(grant, one));
            same.next().map_or(give.clone(), |narrowed| format!("{}; {give}", take_away(narrowed)))
        })
        .collect();
    draft.find(Finding::holds(
        ConditionKind::NeedsAdministrator,
        "RightMissing",
        commands.join("; "),
    ));
}
