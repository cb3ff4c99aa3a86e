//! Rights that forerunner gave and that the guardrails allow no more (DESIGN, *Guardrails are a ceiling*).

use super::{Plan, Verdict, draft::Node, rights::take_away};
use crate::domain::{
    azure::RoleAssignment,
    gate::{Closed, Pass},
    ledger::Leave,
    status::{ConditionKind, Finding, for_administrators},
    step::Step,
};
use jiff::SignedDuration;

/// How soon to ask Azure once more, which may refuse: its condition on our own rights may allow less than the file did.
const AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// Adds to the plan of a unit that rests outside the guardrails that its rights out there go with a permit, or by an administrator.
pub fn add(mut plan: Plan, beyond: &[RoleAssignment], may_go: Result<Pass, Closed>) -> Plan {
    if beyond.is_empty() {
        return plan;
    }
    let waits = match may_go {
        Ok(_) => "Azure was asked to take them away",
        Err(Closed::Protected) => "`protect: true` keeps them",
        Err(Closed::Frozen | Closed::PutOff) => "`guardrails.freeze` keeps them for now",
        Err(Closed::NoPermit) => "they go when a sweep permits it",
    };
    let finding = finding(&beyond.iter().collect::<Vec<_>>(), waits);
    let (theirs, others) = plan
        .findings
        .into_iter()
        .chain([finding])
        .partition(|one| one.kind == ConditionKind::NeedsAdministrator);
    plan.findings = others;
    plan.findings.extend(for_administrators(theirs));
    if may_go.is_ok_and(|pass| pass.why() == Leave::Outside) {
        let steps = beyond
            .iter()
            .map(|one| Step::RemoveRole { assignment: one.clone(), may_be_refused: true });
        plan.steps.extend(steps.map(|step| Node { step, needs: vec![] }));
        if plan.verdict == Verdict::Settled {
            plan.verdict =
                Verdict::FollowUp { after: AGAIN, waits: waits.to_owned(), patient: true };
        }
    }
    plan
}

/// Tells of rights of ours that lie out there, with what takes them away.
pub(super) fn finding(beyond: &[&RoleAssignment], waits: &str) -> Finding {
    let commands: Vec<String> = beyond.iter().map(|one| take_away(one)).collect();
    Finding::holds(
        ConditionKind::NeedsAdministrator,
        BEYOND,
        format!(
            "{} right(s) that forerunner gave lie outside the guardrails, {waits}; to take them away now: {}",
            beyond.len(),
            commands.join("; ")
        ),
    )
}

/// The reason of the condition that says so: by it a sweep knows who needs a permit.
pub const BEYOND: &str = "RightsOutsideGuardrails";
