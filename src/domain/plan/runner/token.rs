//! The one token of a runner: kept, made, replaced, and written down around.

use super::{AT_CEILING, Ceilings, Ours, entity::settings, secret_name};
use crate::domain::{
    claim,
    ids::{RunnerId, Unit},
    kubernetes::Object,
    names,
    observed::{EntryObserved, Observed, SecretObserved, TokenCheck},
    plan::{Draft, unlabelled},
    render::{self, Context},
    spec::{Isolation, RunnerSpec},
    status::{ConditionKind, Finding},
    step::{Step, StepId},
};
use jiff::Timestamp;
use secrecy::SecretString;

/// What became of the only copy of the token.
pub(super) struct Kept {
    /// The step that writes it, if one does.
    pub(super) step: Option<StepId>,
    /// Whether the Secret already holds a token that is not known to be dead.
    pub(super) holds: bool,
    /// Whether the Secret rests, because it sends jobs where they ran before and they cannot run elsewhere yet.
    pub(super) lags: bool,
}

pub(super) fn draft_token(
    draft: &mut Draft,
    spec: &RunnerSpec,
    context: &Context<'_>,
    observed: &Observed,
    ours: &Ours<'_>,
    ceilings: Ceilings,
    now: Timestamp,
) -> Kept {
    let nothing = Kept { step: None, holds: false, lags: false };
    if let Some(reason) = foreign_secret(spec, context, observed) {
        draft.block(reason);
        draft.find(Finding::fails(
            ConditionKind::Registered,
            "Blocked",
            "its Secret is somebody else's",
        ));
        return nothing;
    }
    if let (Some(keep), Some(_)) = (ours.keep, live(observed, ours)) {
        let message = match observed.ledger.book.replaced(&Unit::Runner(spec.key.clone())) {
            Some(at) => {
                format!("runner {}; its token was revoked, and another made at {at:.0}", keep.id)
            }
            None => format!("runner {}", keep.id),
        };
        draft.find(Finding::holds(ConditionKind::Registered, "Registered", message));
        return Kept { step: None, holds: true, lags: false };
    }
    draft.find(Finding::fails(
        ConditionKind::Registered,
        "Progressing",
        "no entity with a token that we keep",
    ));
    let rehearsed = Step::RehearseSecret { object: rehearsal(spec, context) };
    let from = match ours.keep {
        Some(keep) => {
            let verifier = names::verifier_system_id(ours.installation, &spec.key);
            let unit = Unit::Runner(spec.key.clone());
            let may_part = observed.ledger.book.may_part(&unit, keep.id, now);
            if !observed.is_unused(keep.id, &verifier) && !may_part {
                let reason = format!(
                    "the token of runner {} is lost and somebody has polled with it: `forerunner send confirm {} --why …` \
                     permits a new one",
                    keep.id, spec.key
                );
                draft.block_until_parting(keep.id, reason);
                return nothing;
            }
            let rehearsal = draft.add(rehearsed, []);
            let why = "nobody kept it".to_owned();
            draft.add(Step::ReplaceToken { runner: keep.id, why }, [rehearsal])
        }
        None => {
            if let Some(taken) = taken(spec, observed) {
                draft.block(format!(
                    "runner {taken} was this unit's, its description bears no marker any more, and no token proves it \
                     ours; look at it and run: glab api --method DELETE runners/{taken}"
                ));
                return nothing;
            }
            let unit = Unit::Runner(spec.key.clone());
            let Some(booking) = draft_booking(draft, &unit, observed, ceilings, now) else {
                return nothing;
            };
            let rehearsal = draft.add(rehearsed, []);
            let step = Step::CreateRunner {
                target: spec.key.target,
                settings: settings(spec, &context.fleet.name, ours.installation, true),
            };
            draft.add(step, booking.into_iter().chain([rehearsal]))
        }
    };
    let step = draft_kept(draft, spec, context, observed, ours, from);
    Kept { step: Some(step), holds: false, lags: false }
}

/// The entry of the entity that we keep, with a token that is not known to be dead.
fn live<'a>(observed: &'a Observed, ours: &Ours<'_>) -> Option<&'a EntryObserved> {
    let keep = ours.keep?;
    observed.entries().iter().find(|entry| match entry.check {
        TokenCheck::NotAsked => entry.runner == keep.id,
        TokenCheck::BelongsTo(runner) => entry.runner == keep.id && runner == keep.id,
        TokenCheck::Refused => false,
    })
}

/// Why no token can be kept: the Secret's name is taken.
pub(super) fn foreign_secret(
    spec: &RunnerSpec,
    context: &Context<'_>,
    observed: &Observed,
) -> Option<String> {
    let secret = secret_name(context.fleet, &spec.key);
    let is_foreign = matches!(observed.secret, SecretObserved::Foreign);
    is_foreign.then(|| {
        let why = unlabelled(&secret, &context.fleet.name);
        format!("{why}. It may hold the only copy of the runner's token")
    })
}

/// Keeps the token that `from` makes, and no other beside it.
pub(super) fn draft_kept(
    draft: &mut Draft,
    spec: &RunnerSpec,
    context: &Context<'_>,
    observed: &Observed,
    ours: &Ours<'_>,
    from: StepId,
) -> StepId {
    let version = match &observed.secret {
        SecretObserved::Present { object, .. } => object.resource_version().map(str::to_owned),
        SecretObserved::Absent | SecretObserved::Foreign => None,
    };
    let secret = secret_name(context.fleet, &spec.key);
    let verifier = names::verifier_system_id(ours.installation, &spec.key);
    draft.add(Step::KeepToken { from, secret, beside: vec![], version, verifier }, [from])
}

/// An entity that our Secret or the unit's status names and that a person took: the marker edited away, the token reset or lost. A
/// second one beside it would serve the same jobs, and its id would be forgotten.
pub(crate) fn taken(spec: &RunnerSpec, observed: &Observed) -> Option<RunnerId> {
    let told = observed.status.as_ref().and_then(|status| status.entity);
    let named = |id: RunnerId| {
        told == Some(id) || observed.entries().iter().any(|entry| entry.runner == id)
    };
    claim::taken(&observed.entities, named, spec.key.target)
}

/// The step that books a creation (none if a dead round did); `None` where a ceiling says wait.
fn draft_booking(
    draft: &mut Draft,
    unit: &Unit,
    observed: &Observed,
    ceilings: Ceilings,
    now: Timestamp,
) -> Option<Option<StepId>> {
    let book = &observed.ledger.book;
    if book.has(unit, 1, now) {
        return Some(None);
    }
    let per_hour = ceilings.creations_per_hour;
    let waits = if !book.has_place(unit, ceilings.runners, &observed.runners, now) {
        Some(format!("guardrails.runners ({}) to leave room", ceilings.runners))
    } else if !book.has_room(per_hour, now) {
        Some(format!("guardrails.creations.perHour ({per_hour}) to leave room"))
    } else {
        None
    };
    if let Some(waits) = waits {
        draft.wait_patiently(AT_CEILING, waits);
        return None;
    }
    let step = Step::BookCreation {
        unit: unit.clone(),
        generation: 1,
        at: now,
        per_hour,
        runners_max: ceilings.runners,
        made: observed.runners.clone(),
        ledger: observed.ledger.clone(),
    };
    Some(Some(draft.add(step, [])))
}

/// The Secret as it would be written, with a token that is none.
pub(super) fn rehearsal(spec: &RunnerSpec, context: &Context<'_>) -> Object {
    let token = SecretString::from("rehearsal");
    render::config_secret(spec, context, &[render::Entry { runner: RunnerId(0), token: &token }])
}

/// Brings the Secret up to date around the token that it holds.
pub(super) fn draft_rewrite(
    draft: &mut Draft,
    spec: &RunnerSpec,
    context: &Context<'_>,
    observed: &Observed,
    ours: &Ours<'_>,
) -> Option<StepId> {
    let entry = live(observed, ours)?;
    let SecretObserved::Present { object, entries } = &observed.secret else { return None };
    if entries.len() == 1 && render::expected_config_matches(spec, context, object) {
        return None;
    }
    let version = object.resource_version()?.to_owned();
    let entries = vec![(entry.runner, entry.token.clone())];
    let secret = secret_name(context.fleet, &spec.key);
    Some(draft.add(Step::RewriteSecret { secret, entries, version }, []))
}

/// Whether the file that we wrote has jobs run where they did under the other `isolation`.
pub(super) fn is_elsewhere(spec: &RunnerSpec, context: &Context<'_>, observed: &Observed) -> bool {
    let SecretObserved::Present { object, .. } = &observed.secret else { return false };
    let other = match spec.isolation {
        Isolation::Target => Isolation::Profile,
        Isolation::Profile => Isolation::Target,
    };
    let fleet = &context.fleet.name;
    let before = names::namespace_of(fleet, &spec.key, other, None);
    !render::was_edited(object)
        && before != names::job_namespace(fleet, spec)
        && render::jobs_run_in(object).is_some_and(|live| live == before)
}
