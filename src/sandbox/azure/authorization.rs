//! Whether a principal may do something: its role assignments at or above the scope, and nothing else.

use super::{answer::Answer, condition::Judged, scope, state::State, token::Caller};
use uuid::Uuid;

pub(super) fn may(state: &State, principal: Uuid, action: &str, at: &str, judged: &Judged) -> bool {
    state.assignments.values().any(|record| {
        let assignment = &record.assignment;
        assignment.principal_id == principal
            && scope::contains(&assignment.scope, at)
            && state.role(assignment.role).is_some_and(|role| role.allows(action))
            && match &record.parsed {
                None => true,
                Some(condition) => {
                    condition.as_ref().is_some_and(|condition| condition.allows(action, judged))
                }
            }
    })
}

/// Whether an assignment gives `action` at all, whatever its condition says: for what is not there to be judged.
pub(super) fn may_in_principle(state: &State, caller: &Caller, action: &str, at: &str) -> bool {
    state.assignments.values().any(|record| {
        let assignment = &record.assignment;
        assignment.principal_id == caller.principal_id
            && scope::contains(&assignment.scope, at)
            && state.role(assignment.role).is_some_and(|role| role.allows(action))
    })
}

/// [`may`] for data actions. A condition on such an assignment is never understood here, so it refuses.
pub(super) fn may_with_data(state: &State, principal: Uuid, action: &str, at: &str) -> bool {
    state.assignments.values().any(|record| {
        let assignment = &record.assignment;
        assignment.principal_id == principal
            && scope::contains(&assignment.scope, at)
            && record.parsed.is_none()
            && state.role(assignment.role).is_some_and(|role| role.allows_data(action))
    })
}

/// 403 unless the caller may do `action` at `at`.
pub(super) fn require(
    state: &State,
    caller: &Caller,
    action: &str,
    at: &str,
) -> Result<(), Answer> {
    require_with(state, caller, action, at, &Judged::default())
}

/// The same for a write or delete of a role assignment, on which a condition may judge.
pub(super) fn require_with(
    state: &State,
    caller: &Caller,
    action: &str,
    at: &str,
    judged: &Judged,
) -> Result<(), Answer> {
    if may(state, caller.principal_id, action, at, judged) {
        return Ok(());
    }
    let conditional = judged.request.is_some() || judged.resource.is_some();
    let or_condition = if conditional { " or an ABAC condition not fulfilled" } else { "" };
    let message = format!(
        "The client '{}' with object id '{}' does not have authorization{or_condition} to perform action '{action}' over scope '{at}' or the scope is invalid. If access was recently granted, please refresh your credentials.",
        caller.client_id, caller.principal_id
    );
    Err(Answer::refusal(403, "AuthorizationFailed", message))
}
