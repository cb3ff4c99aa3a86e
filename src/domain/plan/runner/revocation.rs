//! A token that is to be worthless: an operator said so (`revoke`), or somebody else polls with it and the file says
//! `drift.foreignManager: revoke`. Waits for no window and leaves no overlap (DESIGN, *Rotation without a gap*).

use super::{Ours, polls, token};
use crate::domain::{
    ids::Unit,
    observed::Observed,
    plan::{Draft, Plan, domain::SOON},
    render::Context,
    spec::RunnerSpec,
    status::{ConditionKind, Finding},
    step::Step,
};
use jiff::Timestamp;

/// Why another token is due, whatever becomes of the rest of the runner; nothing where none is.
pub(super) fn due(
    spec: &RunnerSpec,
    observed: &Observed,
    ours: &Ours<'_>,
    now: Timestamp,
) -> Option<String> {
    if observed.ledger.book.revokes(&Unit::Runner(spec.key.clone())) {
        return Some("it is revoked".to_owned());
    }
    let polls = polls::of_kept(spec, observed, ours);
    let strangers = polls.strangers(&observed.ledger.book, now);
    let acts = spec.revoke_foreign && !strangers.is_empty();
    acts.then(|| format!("{} polled with it", strangers.join(" and ")))
}

/// GitLab makes another token, the Secret keeps it, and then it is written down: a round that dies before that is done again.
pub(super) fn plan(
    mut draft: Draft,
    spec: &RunnerSpec,
    context: &Context<'_>,
    observed: &Observed,
    ours: &Ours<'_>,
    why: String,
    now: Timestamp,
) -> Plan {
    let unit = Unit::Runner(spec.key.clone());
    let foreign = || token::foreign_secret(spec, context, observed);
    if let Some(reason) = ours.refusal().or_else(foreign) {
        draft.block(reason);
        return draft.finish(SOON);
    }
    let kept = ours.keep.map(|keep| {
        let rehearsed = Step::RehearseSecret { object: token::rehearsal(spec, context) };
        let rehearsal = draft.add(rehearsed, []);
        let replaced = Step::ReplaceToken { runner: keep.id, why };
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
