//! Changes that roll managers: a few at a time, the next when the last polls again, and one that fails stops the rest.

use super::Draft;
use crate::domain::{
    ids::Unit,
    ledger::{Ledger, Turn},
    status::{ConditionKind, Finding, Status},
    step::{RolloutWord, Step, StepId},
};
use jiff::{SignedDuration, Timestamp};

/// Who waits is woken when a place is free; this is for a wake-up that got lost.
const AT_ROLLOUT: SignedDuration = SignedDuration::from_mins(10);
/// From then on whoever ends a rollout finds this one among those that wait.
const SEEN_BY_ALL: SignedDuration = SignedDuration::from_secs(30);
/// How long a manager may take to come back before it counts as one that does not.
const COMES_BACK: SignedDuration = SignedDuration::from_hours(1);
/// The reason of `Deployed` while a manager waits for its turn.
const WAITS: &str = "WaitsForRollout";

/// Whether the unit's manager may be rolled in this round, and after which step.
pub(super) enum May {
    Roll(Option<StepId>),
    /// Not yet: the finding says for whom it waits.
    Wait,
}

/// Asks for the unit's turn.
pub(super) fn ask(
    draft: &mut Draft,
    unit: &Unit,
    ledger: &Ledger,
    before: Option<&Status>,
    in_flight: u32,
    now: Timestamp,
) -> May {
    let waits = match ledger.book.turn(unit, in_flight, now) {
        Turn::Has => return May::Roll(None),
        Turn::Free => {
            let word = RolloutWord::Begins { at: now, in_flight };
            return May::Roll(Some(note(draft, unit, word, ledger)));
        }
        Turn::Full => format!("rollout.inFlight ({in_flight}) to leave room"),
        Turn::Stopped(by) => format!(
            "`{}`, whose manager did not come back from the same rollout: {}; mend it, or hold it, and the rest goes on",
            by.unit,
            by.failed.as_deref().unwrap_or_default()
        ),
    };
    draft.find(Finding::fails(ConditionKind::Deployed, WAITS, format!("waits for {waits}")));
    // Who ended a moment ago may not have seen this one wait: it looks once more when all can see it.
    let after = if before.is_some_and(self::waits) { AT_ROLLOUT } else { SEEN_BY_ALL };
    draft.wait_patiently(after, waits);
    May::Wait
}

/// How a unit's manager stands, for the rollout that it is part of.
pub(super) enum Manager {
    /// It polls as it should.
    Polls,
    /// What keeps it, in the cluster's words, where anything is told.
    IsAway(Option<String>),
}

/// Ends or fails the unit's own rollout, if it has one; `waiting` are those that may come next.
pub(super) fn judge(
    draft: &mut Draft,
    unit: &Unit,
    ledger: &Ledger,
    manager: Manager,
    waiting: &[Unit],
    now: Timestamp,
) {
    let Some(rollout) = ledger.book.rollout(unit) else { return };
    match manager {
        Manager::Polls => {
            note(draft, unit, RolloutWord::Ends, ledger);
            waiting.iter().for_each(|next| draft.wake(next.clone()));
        }
        Manager::IsAway(_) if rollout.failed.is_some() => {}
        Manager::IsAway(Some(reason)) => {
            note(draft, unit, RolloutWord::Failed { reason }, ledger);
        }
        Manager::IsAway(None) => {
            if now.duration_since(rollout.since) > COMES_BACK {
                let reason = "it has not polled for an hour since".to_owned();
                note(draft, unit, RolloutWord::Failed { reason }, ledger);
            }
        }
    }
}

/// Gives the place of a unit away that is to poll no more.
pub(crate) fn give_away(unit: &Unit, ledger: &Ledger) -> Option<Step> {
    ledger.book.rollout(unit)?;
    Some(Step::NoteRollout { unit: unit.clone(), word: RolloutWord::Ends, ledger: ledger.clone() })
}

/// Whether a unit is told to wait for its turn.
pub fn waits(status: &Status) -> bool {
    status.condition(ConditionKind::Deployed).is_some_and(|deployed| deployed.reason == WAITS)
}

/// The units that have waited longest for their turn.
pub fn waiting(statuses: Vec<Status>, in_flight: u32) -> Vec<Unit> {
    let since = |status: &Status| {
        let deployed = status.condition(ConditionKind::Deployed).filter(|_| waits(status))?;
        Some(deployed.since)
    };
    let mut all: Vec<(Timestamp, Unit)> =
        statuses.into_iter().filter_map(|status| Some((since(&status)?, status.unit))).collect();
    all.sort();
    all.into_iter().map(|(_, unit)| unit).take(in_flight as usize).collect()
}

fn note(draft: &mut Draft, unit: &Unit, word: RolloutWord, ledger: &Ledger) -> StepId {
    draft.add(Step::NoteRollout { unit: unit.clone(), word, ledger: ledger.clone() }, [])
}
