//! A plan while it is being made, and when it is done.

use crate::domain::{
    ids::{RunnerId, Unit},
    status::{ConditionKind, Finding, Leaving, for_administrators},
    step::{Step, StepId},
};
use jiff::SignedDuration;
use std::collections::BTreeSet;

/// A step and the steps whose results or effects it needs. Branches that need nothing of each other run at once.
#[derive(Clone, Debug)]
pub struct Node {
    pub step: Step,
    pub needs: Vec<StepId>,
}

/// What one round is to do, and what is to be said of the unit if all of it succeeds.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    pub steps: Vec<Node>,
    pub findings: Vec<Finding>,
    pub verdict: Verdict,
    /// Other units that this one waits for or has news for.
    pub wakes: Vec<Unit>,
    /// Since when and until when it leaves.
    pub leaving: Option<Leaving>,
    /// Entities that the plan stops at until an operator lets them go, because somebody polls with them.
    pub partings: BTreeSet<RunnerId>,
    /// Nothing is left of the unit: nothing is told of it any more.
    pub is_gone: bool,
}

/// How the unit stands once the steps are done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    #[default]
    Settled,
    /// Look again after this long; `waits` says for what. What is `patient` may last for ever and is no failure.
    FollowUp { after: SignedDuration, waits: String, patient: bool },
    /// Nothing but a person, a right or a changed file helps.
    Park { reason: String },
}

impl Plan {
    pub fn is_settled(&self) -> bool {
        self.steps.is_empty() && self.verdict == Verdict::Settled
    }

    pub fn finding(&self, kind: ConditionKind) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.kind == kind)
    }
}

#[derive(Default)]
pub(crate) struct Draft {
    steps: Vec<Node>,
    findings: Vec<Finding>,
    wakes: Vec<Unit>,
    blocks: Vec<String>,
    partings: BTreeSet<RunnerId>,
    wait: Option<Wait>,
}

#[derive(Clone)]
struct Wait {
    after: SignedDuration,
    waits: String,
    patient: bool,
}

impl Draft {
    pub(crate) fn add(&mut self, step: Step, needs: impl IntoIterator<Item = StepId>) -> StepId {
        self.steps.push(Node { step, needs: needs.into_iter().collect() });
        StepId(self.steps.len() - 1)
    }

    pub(crate) fn find(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Something that no further round mends.
    pub(crate) fn block(&mut self, reason: String) {
        if !self.blocks.contains(&reason) {
            self.blocks.push(reason);
        }
    }

    /// Something that an operator's word about this entity mends.
    pub(crate) fn block_until_parting(&mut self, runner: RunnerId, reason: String) {
        self.partings.insert(runner);
        self.block(reason);
    }

    /// Nothing to mend, to wait for or for a person to mend.
    pub(crate) fn is_settled(&self) -> bool {
        !self.mends() && !self.is_blocked() && self.wait.is_none()
    }

    /// Asks for another look; the soonest wish wins, unless one is patient. It must come to an end before the message's deadline.
    pub(crate) fn wait(&mut self, after: SignedDuration, waits: impl Into<String>) {
        self.wish(Wait { after, waits: waits.into(), patient: false });
    }

    /// Asks for another look at a state to wait in, however long it lasts.
    pub(crate) fn wait_patiently(&mut self, after: SignedDuration, waits: impl Into<String>) {
        self.wish(Wait { after, waits: waits.into(), patient: true });
    }

    /// Asks for another look for as long as `other`, another unit's, asks for one.
    pub(crate) fn wait_with(
        &mut self,
        other: &Self,
        after: SignedDuration,
        waits: impl Into<String>,
    ) {
        let patient = other.wait.as_ref().is_some_and(|wait| wait.patient);
        self.wish(Wait { after, waits: waits.into(), patient });
    }

    /// What may last decides: all that comes after it waits with it, and none of that is late meanwhile.
    fn wish(&mut self, wish: Wait) {
        let order = |wait: &Wait| (!wait.patient, wait.after);
        if self.wait.as_ref().is_none_or(|before| order(&wish) < order(before)) {
            self.wait = Some(wish);
        }
    }

    pub(crate) fn wake(&mut self, unit: Unit) {
        if !self.wakes.contains(&unit) {
            self.wakes.push(unit);
        }
    }

    /// Whether anything is to be done before all is in place. What is only to be taken away may have to wait for an administrator, and
    /// nothing else waits for that.
    pub(crate) fn mends(&self) -> bool {
        self.steps.iter().any(|node| !node.step.only_takes())
    }

    /// Whether something waits for a person.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.blocks.is_empty()
    }

    fn gather_administrators(&mut self) {
        let is_theirs = |finding: &Finding| finding.kind == ConditionKind::NeedsAdministrator;
        let (theirs, rest): (Vec<Finding>, Vec<Finding>) =
            std::mem::take(&mut self.findings).into_iter().partition(is_theirs);
        self.findings = rest;
        self.findings.extend(for_administrators(theirs));
    }

    /// Closes the plan: `Ready` sums up the findings, blocks park, waits and steps ask for another look.
    pub(crate) fn finish(mut self, look_again: SignedDuration) -> Plan {
        self.gather_administrators();
        if !self.steps.is_empty() {
            self.wait(look_again, "what this round did to show");
        }
        let missing = self.findings.iter().find(|finding| {
            !finding.status
                && !matches!(
                    finding.kind,
                    ConditionKind::NeedsAdministrator | ConditionKind::Parked
                )
        });
        let ready = match (self.blocks.first(), missing, &self.wait) {
            (Some(reason), _, _) => Finding::fails(ConditionKind::Ready, "Parked", reason.clone()),
            // Nothing to wait for and yet not as asked: a person's doing, and it says so itself.
            (None, Some(missing), None) => {
                Finding::fails(ConditionKind::Ready, missing.reason, missing.message.clone())
            }
            (None, _, Some(_)) => Finding::fails(
                ConditionKind::Ready,
                "Progressing",
                "on its way; the other conditions say what is left",
            ),
            (None, None, None) => {
                Finding::holds(ConditionKind::Ready, "Settled", "as fleet.yaml says")
            }
        };
        self.findings.push(ready);
        let verdict = match (self.blocks.is_empty(), self.wait) {
            (false, _) => Verdict::Park { reason: self.blocks.join("; ") },
            (true, Some(Wait { after, waits, patient })) => {
                Verdict::FollowUp { after, waits, patient }
            }
            (true, None) => Verdict::Settled,
        };
        Plan {
            steps: self.steps,
            findings: self.findings,
            verdict,
            wakes: self.wakes,
            leaving: None,
            partings: self.partings,
            is_gone: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        azure::ResourceId,
        kubernetes::{Kind, ObjectName},
    };

    #[test]
    fn what_is_only_taken_away_holds_up_nothing_else_and_is_looked_at_again() {
        let identity = ResourceId::new("/subscriptions/1/identities/a").unwrap();
        let taken = Step::RemoveCredential { identity, name: "door".into() };
        let mut draft = Draft::default();
        assert!(draft.is_settled());
        draft.add(taken.clone(), []);
        assert!(draft.is_settled() && !draft.mends());
        let plan = draft.finish(SignedDuration::from_secs(15));
        assert!(matches!(plan.verdict, Verdict::FollowUp { .. }), "{:?}", plan.verdict);
        let mut draft = Draft::default();
        let deployment = ObjectName::new(Kind::Deployment, "managers", "runner-g42-apply");
        draft.add(Step::ScaleToZero { deployment }, []);
        draft.add(taken, []);
        assert!(draft.mends() && !draft.is_settled());
    }
}
