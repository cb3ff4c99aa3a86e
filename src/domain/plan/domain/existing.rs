//! An administrator's identity: the domain asks for one of the profile's list, whose own round gives it a credential.

use super::{AccountIdentity, CREDENTIALS_MAX, DomainDraft, SOON};
use crate::domain::{
    azure::{FederatedCredential, ResourceId},
    ids::Unit,
    kubernetes::Object,
    names,
    observed::Candidate,
    plan::{Draft, rights},
    spec::{Grant, RunnerSpec},
};

pub(super) fn draft_existing<'a>(
    draft: &mut Draft,
    domain: &mut DomainDraft,
    spec: &RunnerSpec,
    chosen: &Choice<'a>,
    expect: &[Grant],
) -> AccountIdentity<'a> {
    let candidate = match *chosen {
        Choice::Holds(candidate) => {
            domain.seen = candidate.identity.as_ref().map(|identity| identity.principal_id);
            candidate
        }
        Choice::Ask(candidate) => {
            draft.wake(Unit::Identity(names::identity_unit(&candidate.id)));
            draft.wait(SOON, format!("identity `{}` to answer", candidate.id.name()));
            candidate
        }
        Choice::Missing(id) => {
            draft.block(format!(
                "identity `{}` does not exist, or forerunner may not read it: an administrator makes it, or corrects `identity.existing`",
                id.name()
            ));
            return AccountIdentity::default();
        }
        Choice::Full => {
            draft.block(format!(
                "every identity of profile `{}` already holds {CREDENTIALS_MAX} federated credentials: list another one under `identity.existing`",
                spec.key.profile
            ));
            return AccountIdentity::default();
        }
    };
    rights::draft_expected(draft, candidate, expect);
    AccountIdentity { identity: candidate.identity.as_ref(), asks: Some(&candidate.id) }
}

pub(super) enum Choice<'a> {
    Holds(&'a Candidate),
    Ask(&'a Candidate),
    Missing(&'a ResourceId),
    Full,
}

/// The one holding the account's credential, else the first of the list with room; one that refused comes last, and is
/// asked again once it has room.
pub(super) fn choose<'a>(
    candidates: &'a [Candidate],
    wanted: &FederatedCredential,
    account: Option<&Object>,
) -> Choice<'a> {
    if let Some(holder) = candidates.iter().find(|candidate| candidate.credentials.contains(wanted))
    {
        return Choice::Holds(holder);
    }
    let answer = account.and_then(|account| account.annotation(names::ANNOTATION_IDENTITY_ANSWER));
    let refused =
        answer.and_then(|answer| answer.strip_prefix("refused ")).and_then(ResourceId::new);
    let with_room = candidates.iter().filter(|candidate| {
        candidate.identity.is_some() && candidate.credentials.len() < CREDENTIALS_MAX
    });
    let best = with_room.min_by_key(|candidate| refused.as_ref() == Some(&candidate.id));
    match (best, candidates.iter().find(|candidate| candidate.identity.is_none())) {
        (Some(first), _) => Choice::Ask(first),
        (None, Some(missing)) => Choice::Missing(&missing.id),
        (None, None) => Choice::Full,
    }
}
