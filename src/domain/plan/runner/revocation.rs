//! A token that is to be worthless: an operator said so (`revoke`), or somebody else polls with it and the file says
//! `drift.foreignManager: revoke`. Waits for no window and leaves no overlap (DESIGN, *Rotation without a gap*).

use super::{Ours, polls, token};
use crate::domain::{
    ids::Unit,
    observed::{Observed, SecretObserved},
    plan::{Draft, Plan, domain::SOON},
    render::Context,
    spec::RunnerSpec,
    status::{ConditionKind, Finding},
    step::Step,
};
use jiff::Timestamp;

/// Whether another token is due, whatever becomes of the rest of the runner.
pub(super) fn is_due(
    spec: &RunnerSpec,
    observed: &Observed,
    ours: &Ours<'_>,
    now: Timestamp,
) -> bool {
    let unit = Unit::Runner(spec.key.clone());
    let is_ordered = observed.ledger.book.revokes(&unit);
    let in_other_hands = || !polls::strangers(spec, observed, ours, now).is_empty();
    is_ordered || (spec.revoke_foreign && in_other_hands())
}

/// GitLab makes another token, the Secret keeps it, and then it is written down: a round that dies before that is done again.
pub(super) fn plan(
    mut draft: Draft,
    spec: &RunnerSpec,
    context: &Context<'_>,
    observed: &Observed,
    ours: &Ours<'_>,
    now: Timestamp,
) -> Plan {
    let unit = Unit::Runner(spec.key.clone());
    let secret = super::secret_name(context.fleet, &spec.key);
    let is_foreign = matches!(observed.secret, SecretObserved::Foreign);
    let foreign =
        is_foreign.then(|| format!("{secret} exists and is not ours: remove or rename it"));
    if let Some(reason) = ours.refusal().or(foreign) {
        draft.block(reason);
        return draft.finish(SOON);
    }
    let kept = ours.keep.map(|keep| {
        let rehearsed = Step::RehearseSecret { object: token::rehearsal(spec, context) };
        let rehearsal = draft.add(rehearsed, []);
        let replaced = Step::ReplaceToken { runner: keep.id, why: "revoked" };
        let from = draft.add(replaced, [rehearsal]);
        token::draft_kept(&mut draft, spec, context, observed, ours, from)
    });
    let ledger = observed.ledger.clone();
    draft.add(Step::NoteRevoked { unit, at: now, ledger }, kept);
    draft.find(Finding::fails(
        ConditionKind::Registered,
        "Progressing",
        "its token is revoked, and another one on its way",
    ));
    draft.finish(SOON)
}
