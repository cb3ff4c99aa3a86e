//! An identity of ours that the profile has no use for any more: it has none now, or one of an administrator's, or shares another.

use super::{
    Draft,
    domain::is_ours,
    rights::{self, surplus_rights},
};
use crate::domain::{
    azure::ResourceId,
    names,
    observed::Candidate,
    render::Context,
    status::{ConditionKind, Finding},
    step::Step,
};

/// Once all else is as it should be, takes away what the identity could do: what is surplus in a unit that stays needs no permit.
/// The identity itself does, and is told with the command. `key`: what it is tagged with.
pub(crate) fn draft_left(
    draft: &mut Draft,
    context: &Context<'_>,
    key: &str,
    left: Option<&Candidate>,
) {
    let Some(Candidate { id, identity: Some(identity), credentials, assignments }) = left else {
        return;
    };
    if !is_ours(identity, &context.fleet.name, context.installation, key) {
        return;
    }
    // Until all else is as it should be, jobs may still sign in as it.
    if !draft.is_settled() {
        return;
    }
    draft.find(Finding::holds(
        ConditionKind::NeedsAdministrator,
        "IdentityLeft",
        format!(
            "identity `{}` was this unit's and has no use any more; to delete it: {}",
            id.name(),
            delete(id)
        ),
    ));
    let mut last = None;
    for door in credentials
        .iter()
        .filter(|one| names::is_credential_of(&context.fleet.name, key, &one.name))
    {
        let (identity, name) = (id.clone(), door.name.clone());
        // One at a time: Entra refuses concurrent writes under one identity (azure.md §4.3).
        last = Some(draft.add(Step::RemoveCredential { identity, name }, last));
    }
    rights::draft_surplus(draft, context, &surplus_rights(&[], assignments));
}

/// What an administrator types to delete an identity.
fn delete(id: &ResourceId) -> String {
    format!("az identity delete --ids \"{id}\"")
}
