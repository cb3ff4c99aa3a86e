//! Credentials that a leaving unit has on existing identities: given back by their own rounds, or told.

use super::{Draft, Remains, SOON, identity, rights};
use crate::domain::{
    azure::{FederatedCredential, ResourceId},
    ids::Unit,
    kubernetes::{Kind, Object},
    names,
    status::{ConditionKind, Finding},
    step::Step,
};
use std::collections::BTreeSet;

/// Whether the identity's round leaves it alone: it is for another issuer, so maybe another installation's, and no account of ours is
/// left that could give it back.
pub(super) fn is_stuck(
    remains: &Remains,
    (id, credential): &(ResourceId, FederatedCredential),
) -> bool {
    let mut accounts = accounts(remains);
    remains.issuer.as_ref().is_some_and(|issuer| *issuer != credential.issuer)
        && !accounts.any(|account| lender(account).as_ref() == Some(id))
}

pub(super) fn stuck_finding((id, credential): &(ResourceId, FederatedCredential)) -> Finding {
    let message = format!(
        "credential `{}` on identity `{}` bears this unit's name and lets in accounts of another issuer, {}: find out whose it is first; {}",
        credential.name,
        id.name(),
        credential.issuer,
        rights::delete_credential(id, &credential.name)
    );
    Finding::holds(ConditionKind::NeedsAdministrator, "LentCredential", message)
}

fn accounts(remains: &Remains) -> impl Iterator<Item = &Object> {
    remains.objects.iter().filter(|one| one.name.kind == Kind::ServiceAccount)
}

/// The existing identity that a job account names.
fn lender(account: &Object) -> Option<ResourceId> {
    account.annotation(names::ANNOTATION_IDENTITY).and_then(ResourceId::new)
}

/// An existing identity's round alone writes its credentials: the accounts say that they need theirs no longer, and wait. One
/// that no account asks for its round takes back unasked.
pub(super) fn give_back(
    draft: &mut Draft,
    remains: &Remains,
    lent: &[&(ResourceId, FederatedCredential)],
) {
    let lenders: BTreeSet<&ResourceId> = lent.iter().map(|(id, _)| id).collect();
    for account in accounts(remains) {
        let of = lender(account).filter(|id| lenders.contains(id));
        if let Some(id) = of.filter(|_| !identity::gives_back(account)) {
            let answer = identity::given_back(&id);
            draft.add(Step::AnswerAccount { account: account.name.clone(), answer }, []);
        }
    }
    for id in lenders {
        draft.wake(Unit::Identity(names::identity_unit(id)));
        draft.wait_patiently(SOON, format!("identity `{}` to take its credential back", id.name()));
    }
}
