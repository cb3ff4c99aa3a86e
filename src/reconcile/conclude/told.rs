//! What a round tells of its unit, and when that is worth a write (decision 0012).

use super::{own_entity, still_parked, took};
use crate::{
    domain::{
        fleet::Fleet,
        message::Message,
        plan::{Verdict, rollout},
        render::Context,
        status::{ConditionKind, Finding, RoundRecord, Status},
    },
    reconcile::{
        Failure,
        round::{Report, Restraint, Rounds},
        status_store,
    },
};
use jiff::{SignedDuration, Timestamp};

/// While a unit is on its way, its status is written at its first and last step, and this often between.
const PROGRESS_WRITTEN: SignedDuration = SignedDuration::from_mins(5);

impl Rounds {
    /// Writes down how the unit stands, where that is worth a write.
    pub(super) async fn say(
        &self,
        fleet: &Fleet,
        message: &Message,
        report: &Report,
        failure: Option<&str>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let settings = fleet.settings();
        let context = Context {
            fleet: settings,
            installation: &report.prepared.installation,
            api_server: &[],
            gitlab_ca: None,
        };
        let old =
            report.prepared.before.clone().unwrap_or_else(|| Status::new(message.unit.clone()));
        if failure.is_some() && old.parked.is_some() {
            // Still what it is parked for, as far as anybody knows: how often it was tried must not be lost.
            return Ok(());
        }
        let mut next = match still_parked(report, message, &settings.digest) {
            Some(_) => old.clone().still_parked(&findings(report), now),
            None => old.clone().released().with(&findings(report), now),
        };
        let settled = report.prepared.plan.is_settled() && failure.is_none();
        next.settled_for = report.prepared.desire.clone().filter(|_| settled);
        next.last_settled_for = next.settled_for.clone().or(old.last_settled_for.clone());
        next.sight = report.prepared.sight.clone().filter(|_| settled);
        next.leaving = report.prepared.plan.leaving.clone();
        next.missing = report.prepared.missing.clone();
        next.entity = own_entity(report).or(old.entity);
        next.order = report.order.clone();
        next.ordered_at = report.ordered_at;
        next.path = report.prepared.path.clone().or(next.path);
        next.waiting_since = match &report.prepared.plan.verdict {
            // A freeze is no wait that could last too long.
            Verdict::FollowUp { patient: false, .. } if report.restraint.is_none() => {
                old.waiting_since.or(Some(now))
            }
            Verdict::FollowUp { .. } | Verdict::Settled | Verdict::Park { .. } => None,
        };
        if report.prepared.before.is_some() && !is_worth_writing(&old, &next, now) {
            return Ok(());
        }
        let record = RoundRecord {
            at: now,
            cause: message.cause.clone(),
            did: report.acted.did.clone(),
            failure: failure.map(str::to_owned),
            took: Some(took(report.began, now)),
        };
        if !record.did.is_empty() || record.failure.is_some() {
            next = next.with_round(record);
        }
        status_store::save(self.clients(), &context, report.prepared.before.as_ref(), &next)
            .await?;
        Ok(())
    }
}

/// What is told of the unit; where nothing is carried out, that is why it is not ready.
fn findings(report: &Report) -> Vec<Finding> {
    let mut findings = report.prepared.plan.findings.clone();
    let steps = report.prepared.plan.steps.len();
    if let (Some(restraint), 1..) = (report.restraint, steps) {
        findings.retain(|finding| finding.kind != ConditionKind::Ready);
        let (reason, message) = match restraint {
            Restraint::Observing => {
                ("Observing", format!("mode: observe; {steps} step(s) would be taken"))
            }
            Restraint::Frozen { until } => (
                "Frozen",
                format!("guardrails.freeze lasts until {until}; {steps} step(s) wait for its end"),
            ),
        };
        findings.push(Finding::fails(ConditionKind::Ready, reason, message));
    }
    findings
}

/// The conditions changed; but steps of one way from *progressing* to *progressing* are not each worth a write.
fn is_worth_writing(old: &Status, next: &Status, now: Timestamp) -> bool {
    // A clock that no longer runs would end a later wait before it began; one that nobody wrote down never ends it.
    let clock = old.waiting_since != next.waiting_since;
    let moved = |status: &Status| {
        let Status { settled_for, sight, leaving, missing, entity, order, ordered_at, .. } =
            status.clone();
        (settled_for, sight, leaving, missing, entity, order, ordered_at)
    };
    // Who ends a rollout looks for those that wait for it.
    let turns = rollout::waits(old) != rollout::waits(next);
    if clock || turns || moved(old) != moved(next) {
        return true;
    }
    if old.conditions == next.conditions && old.path == next.path && old.parked == next.parked {
        return false;
    }
    let progressing = |status: &Status| {
        status.condition(ConditionKind::Ready).is_some_and(|ready| ready.reason == "Progressing")
    };
    let newest = old.conditions.iter().map(|condition| condition.since).max();
    let fresh = newest.is_some_and(|at| now.duration_since(at) < PROGRESS_WRITTEN);
    !(progressing(old) && progressing(next) && fresh && old.parked.is_none())
}
