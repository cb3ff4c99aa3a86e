//! What a unit's wanted state and its target's come to: it serves, rests, waits, or leaves.

use crate::domain::{
    fleet::WantedState,
    gate::{Closed, Pass},
    ledger::Leave,
    plan::hold::Hold,
    spec::{IdentitySpec, RunnerSpec},
};

/// Why a runner, or what it may do, is to go, by what the file and the target say now.
pub(in crate::reconcile) fn leave(
    target_is_there: bool,
    state: Option<&WantedState>,
    hold: Option<&Hold>,
) -> Option<Leave> {
    match (target_is_there, hold, state) {
        (false, _, _) => Some(Leave::Gone),
        // What the rules say of the path of a target on its way out means nothing.
        (true, Some(_), _) => None,
        (true, None, None) => Some(Leave::Unmatched),
        (true, None, Some(WantedState::Withdrawn { .. })) => Some(Leave::Withdrawn),
        (true, None, Some(WantedState::OutsideGuardrails { .. })) => Some(Leave::Outside),
        (
            true,
            None,
            Some(
                WantedState::Runner(_)
                | WantedState::NeedsValue { .. }
                | WantedState::ExceptionEnded { .. }
                | WantedState::AnchorMoved { .. },
            ),
        ) => None,
    }
}

/// Nothing is given back to what is to go when a freeze ends.
pub(super) fn put_off(may_go: Result<Pass, Closed>) -> Option<Hold> {
    (may_go == Err(Closed::PutOff)).then_some(Hold::PutOff)
}

/// Whose rights to look at, of a unit that rests outside the guardrails.
pub(super) fn outside(state: Option<&WantedState>) -> Option<IdentitySpec> {
    match state? {
        WantedState::OutsideGuardrails { identity, .. } => Some(identity.clone()),
        WantedState::Runner(_)
        | WantedState::NeedsValue { .. }
        | WantedState::Withdrawn { .. }
        | WantedState::ExceptionEnded { .. }
        | WantedState::AnchorMoved { .. } => None,
    }
}

/// What an unwanted runner still waits for.
pub(super) fn waits_for(reason: &str, may_go: Result<Pass, Closed>) -> &'static str {
    match (reason, may_go) {
        ("NotWanted", Err(Closed::Protected)) => "; `protect: true` keeps it",
        ("NotWanted", Err(Closed::Frozen | Closed::PutOff)) => {
            "; `guardrails.freeze` keeps it for now"
        }
        ("NotWanted", Err(Closed::NoPermit)) => "; it is kept until a sweep permits its removal",
        _ => "",
    }
}

/// What is to be done with a runner whose target is there.
pub(super) enum Stance {
    Serve(Box<RunnerSpec>),
    Hold(Hold),
    /// Neither given nor taken away: a reason and a message say why.
    Say(&'static str, String),
}

/// A group scheduled for deletion gets another path: what the rules say of that one means nothing.
pub(super) fn stance(wanted: Option<WantedState>, hold: Option<Hold>) -> Stance {
    if let Some(hold) = hold {
        return Stance::Hold(hold);
    }
    match wanted {
        Some(WantedState::Runner(spec)) => Stance::Serve(spec),
        Some(WantedState::NeedsValue { placeholder }) => Stance::Say(
            "NeedsValue",
            format!("needs {placeholder}: give it under `groups:` or `projects:` of fleet.yaml"),
        ),
        Some(WantedState::AnchorMoved { anchor, expected, found }) => Stance::Say(
            "AnchorMoved",
            format!(
                "anchor group {anchor} is at `{found}`, and fleet.yaml says `{expected}`: nothing new is given, nothing taken"
            ),
        ),
        Some(WantedState::Withdrawn { reason }) => Stance::Hold(Hold::Withdrawn(reason)),
        Some(WantedState::OutsideGuardrails { problems, .. }) => {
            Stance::Hold(Hold::OutsideGuardrails(problems.join("; ")))
        }
        Some(WantedState::ExceptionEnded { exception, until }) => {
            Stance::Hold(Hold::ExceptionEnded(format!("{exception} (until {until})")))
        }
        None => Stance::Say("NotWanted", "no rule gives this target the profile".to_owned()),
    }
}
