//! How a round ends: what is told of the unit, whom it wakes, when it is looked at again, and when it is parked.

mod told;

use super::{
    Failure, observe,
    prepare::Prepared,
    round::{Outcome, Report, Restraint, Rounds, wake},
    status_store, tell,
};
use crate::{
    domain::{
        class::Class,
        fleet::Fleet,
        ids::RunnerId,
        message::{Message, Outgoing, Reason},
        plan::Verdict,
        render::Context,
        status::{
            ConditionKind, Finding, Ordered, Parked, RoundRecord, Status, for_administrators,
        },
    },
    telemetry::words::RoundEnd,
};
use jiff::{SignedDuration, Timestamp};
use tracing::{error, info, warn};

/// Failures in a row before a unit is parked.
const ATTEMPTS_MAX: u32 = 8;
/// How long a unit may wait for what must come to an end.
const WAIT_MAX: SignedDuration = SignedDuration::from_hours(1);
/// The same for one that is parked, tried again, and found as it was.
const WAIT_AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// How a round ended, for who counts, and for the host.
pub(super) struct Ended {
    pub(super) how: RoundEnd,
    pub(super) outcome: Outcome,
}

impl RoundEnd {
    /// A round whose next message nobody took ended otherwise than it meant to.
    pub(super) fn with(self, outcome: Outcome) -> Ended {
        let how = match outcome {
            Outcome::Done(_) => self,
            Outcome::Failed(_) => Self::Unqueued,
        };
        Ended { how, outcome }
    }
}

impl Rounds {
    /// A target's own status says only that it is parked: this round was not, so that is over.
    pub(super) async fn conclude_target(
        &self,
        fleet: &Fleet,
        message: &Message,
        wakes: Vec<Outgoing>,
    ) -> Ended {
        if let Err(failure) = self.release(fleet, message).await {
            warn!("`{}` could not be released: {}", message.unit, failure.text);
        }
        RoundEnd::Woke.with(self.send(wakes, vec![]).await)
    }

    async fn release(&self, fleet: &Fleet, message: &Message) -> Result<(), Failure> {
        let settings = fleet.settings();
        let before = observe::status(self.clients(), settings, &message.unit).await?;
        let Some(before) = before.filter(|before| before.parked.is_some()) else { return Ok(()) };
        let installation = observe::installation(self.clients(), settings).await?;
        let context = Context {
            fleet: settings,
            installation: &installation,
            api_server: &[],
            gitlab_ca: None,
        };
        let woken = Finding::holds(ConditionKind::Ready, "Settled", "its runners were woken");
        let next = before.clone().released().with(&[woken], self.clock.now());
        status_store::save(self.clients(), &context, Some(&before), &next).await?;
        Ok(())
    }

    /// Says how the unit stands, wakes whom it has news for, and schedules the next look.
    pub(super) async fn conclude(&self, fleet: &Fleet, message: &Message, report: Report) -> Ended {
        let now = self.clock.now();
        let report = waiting(report);
        let restrained = report.restraint.is_some();
        let mut outgoing: Vec<Outgoing> = report
            .prepared
            .plan
            .wakes
            .iter()
            .map(|unit| wake(message, unit.clone()).send(now))
            .collect();
        if restrained {
            outgoing.clear();
        }
        if !report.acted.failures.is_empty() {
            let failures = report.acted.failures.clone();
            let sent = self.outbox.send(&outgoing).await;
            if let Err(failure) = sent {
                return RoundEnd::Unqueued.with(Outcome::Failed(failure.text));
            }
            return self.again_or_park(fleet, message, &failures, Some(report)).await;
        }
        match &report.prepared.plan.verdict {
            Verdict::Settled => {}
            Verdict::FollowUp { .. } if restrained => {}
            Verdict::FollowUp { after, waits, patient } => {
                let since = report.prepared.before.as_ref().and_then(|status| status.waiting_since);
                let parked = still_parked(&report, message, &fleet.settings().digest);
                let most = if parked.is_some() { WAIT_AGAIN } else { WAIT_MAX };
                let deadline =
                    message.deadline.unwrap_or_else(|| later(since.unwrap_or(now), most));
                if now > deadline && !patient {
                    let failure =
                        Failure::permanent(format!("waited until {deadline} for {waits}"));
                    return self.again_or_park(fleet, message, &[failure], Some(report)).await;
                }
                info!("`{}` waits for {waits}", message.unit);
                let next =
                    Message { deadline: Some(deadline).filter(|_| !patient), ..message.clone() };
                // What was under way when it was parked begins no loop of its own.
                if parked.is_none_or(|parked| parked.next <= now) {
                    outgoing.push(next.follow_up(*after, now));
                }
            }
            Verdict::Park { reason } => {
                let failure = Failure::permanent(reason.clone());
                let sent = self.outbox.send(&outgoing).await;
                if let Err(failure) = sent {
                    return RoundEnd::Unqueued.with(Outcome::Failed(failure.text));
                }
                return self.again_or_park(fleet, message, &[failure], Some(report)).await;
            }
        }
        let did = report.acted.did.clone();
        if report.prepared.plan.is_gone && !restrained {
            info!("nothing is left of `{}`", message.unit);
            return RoundEnd::Gone.with(self.send(outgoing, did).await);
        }
        if let Err(failure) = self.say(fleet, message, &report, None, now).await {
            warn!("the status of `{}` could not be written: {}", message.unit, failure.text);
        }
        let how = match (report.prepared.plan.is_settled(), report.restraint) {
            (true, _) => RoundEnd::Settled,
            (false, Some(Restraint::Observing)) => RoundEnd::Observed,
            (false, Some(Restraint::Frozen { .. })) => RoundEnd::Frozen,
            (false, None) => RoundEnd::Waits,
        };
        if how == RoundEnd::Settled {
            info!("`{}` is settled", message.unit);
            tell::online(message, &report.prepared, now);
        }
        how.with(self.send(outgoing, did).await)
    }

    /// Retryable: the same again, later. Permanent, or tried too often: parked with its reason.
    pub(super) async fn again_or_park(
        &self,
        fleet: &Fleet,
        message: &Message,
        failures: &[Failure],
        report: Option<Report>,
    ) -> Ended {
        let now = self.clock.now();
        let Some(failure) = Failure::worst(failures).cloned() else {
            return RoundEnd::Settled.with(Outcome::Done(vec![]));
        };
        let unit = &message.unit;
        // What else went wrong shows once that is over.
        if failure.class == Class::Permanent
            && failures.iter().all(|one| one.step.is_some() || one.class != Class::Permanent)
            && let Some(report) = report
        {
            return self.await_administrator(fleet, message, failures, report, now).await;
        }
        let after = match failure.class {
            Class::Retry { after } if message.attempt < ATTEMPTS_MAX => after,
            Class::Wait { after } if message.attempt < ATTEMPTS_MAX => Some(after),
            Class::Conflict if message.attempt < ATTEMPTS_MAX => None,
            Class::Retry { .. } | Class::Wait { .. } | Class::Conflict | Class::Permanent => {
                error!("`{unit}` is parked: {}", failure.text);
                return match self.park(fleet, message, &failure.text, report, now).await {
                    Ok(()) => {
                        let told = vec![format!("parked: {}", failure.text)];
                        RoundEnd::Parked.with(Outcome::Done(told))
                    }
                    // Nowhere to write it down: the same again later, so that it is not forgotten.
                    Err(unwritten) => {
                        error!("`{unit}` could not be parked: {}", unwritten.text);
                        let again = message.clone().retry(
                            Some(SignedDuration::from_mins(10)),
                            jitter(),
                            now,
                        );
                        RoundEnd::Retried.with(self.send(vec![again], vec![failure.text]).await)
                    }
                };
            }
        };
        warn!("`{unit}` is tried again: {}", failure.text);
        if let Some(report) = &report
            && let Err(unwritten) = self.say(fleet, message, report, Some(&failure.text), now).await
        {
            warn!("the status of `{unit}` could not be written: {}", unwritten.text);
        }
        let again = vec![message.clone().retry(after, jitter(), now)];
        RoundEnd::Retried.with(self.send(again, vec![failure.text]).await)
    }

    /// Somebody's rule stands in the way, and somebody with more rights lifts it: said with the command, and looked at
    /// again by every sweep. No failure, and never parked.
    async fn await_administrator(
        &self,
        fleet: &Fleet,
        message: &Message,
        failures: &[Failure],
        mut report: Report,
        now: Timestamp,
    ) -> Ended {
        let steps: Vec<&(&str, String)> =
            failures.iter().filter_map(|failure| failure.step.as_ref()).collect();
        let findings = &mut report.prepared.plan.findings;
        let known = findings.iter().filter(|one| one.kind == ConditionKind::NeedsAdministrator);
        let told = steps.iter().map(|(reason, step)| {
            Finding::holds(ConditionKind::NeedsAdministrator, reason, step.as_str())
        });
        let told = for_administrators(told.chain(known.cloned()).collect());
        let text =
            failures.iter().map(|failure| failure.text.as_str()).collect::<Vec<_>>().join("; ");
        let reason = steps.first().map_or("NeedsAdministrator", |(reason, _)| *reason);
        let ready = Finding::fails(ConditionKind::Ready, reason, text.clone());
        let said: Vec<Finding> = told.into_iter().chain([ready]).collect();
        findings.retain(|one| !said.iter().any(|said| said.kind == one.kind));
        findings.extend(said);
        // It is no longer what it was parked for.
        if let Some(before) = &mut report.prepared.before {
            before.parked = None;
        }
        report.prepared.plan.verdict = Verdict::Settled;
        warn!("`{}` waits for an administrator: {text}", message.unit);
        if let Err(unwritten) = self.say(fleet, message, &report, Some(&text), now).await {
            warn!("the status of `{}` could not be written: {}", message.unit, unwritten.text);
        }
        let told = vec![format!("waits for an administrator: {text}")];
        RoundEnd::NeedsAdministrator.with(Outcome::Done(told))
    }

    /// Writes down that the unit is parked, and why.
    pub(super) async fn park(
        &self,
        fleet: &Fleet,
        message: &Message,
        reason: &str,
        report: Option<Report>,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let settings = fleet.settings();
        let began = report.as_ref().map(|report| report.began);
        let entity = report.as_ref().and_then(own_entity);
        let left = report.as_ref().map(|report| (report.order.clone(), report.ordered_at));
        let (installation, before, path, findings, did) = match report {
            Some(Report { prepared, acted, .. }) => {
                let Prepared { installation, before, path, plan, .. } = prepared;
                (installation, before, path, plan.findings, acted.did)
            }
            None => {
                let installation = observe::installation(self.clients(), settings).await?;
                let before = observe::status(self.clients(), settings, &message.unit).await?;
                (installation, before, None, vec![], vec![])
            }
        };
        let context = Context {
            fleet: settings,
            installation: &installation,
            api_server: &[],
            gitlab_ca: None,
        };
        let mut status = before.clone().unwrap_or_else(|| Status::new(message.unit.clone()));
        status.path = path.or(status.path);
        status.entity = entity.or(status.entity);
        // What could not even be read carried nothing out.
        (status.order, status.ordered_at) = left.unwrap_or_else(|| {
            let order = Ordered::by(message).filter(|order| !status.is_overtaken(order));
            let at = order.as_ref().and_then(|order| order.at);
            (order.or(status.order.take()), status.ordered_at.max(at))
        });
        if !findings.is_empty() {
            status = status.with(&findings, now);
        }
        let record = RoundRecord {
            at: now,
            cause: message.cause.clone(),
            did,
            failure: Some(reason.to_owned()),
            took: began.map(|began| took(began, now)),
        };
        let status = status.park(reason, &settings.digest, now).with_round(record);
        status_store::save(self.clients(), &context, before.as_ref(), &status).await?;
        Ok(())
    }
}

/// The entity that the round made, or else saw to be the unit's own.
fn own_entity(report: &Report) -> Option<RunnerId> {
    report.acted.made.or(report.prepared.entity)
}

fn took(began: Timestamp, now: Timestamp) -> SignedDuration {
    SignedDuration::from_millis_i128(now.duration_since(began).as_millis())
}

/// Where nothing failed and a service is merely not done yet, the unit waits for that: it counts as no attempt, and ends
/// at the deadline of waits.
fn waiting(mut report: Report) -> Report {
    let failures = &report.acted.failures;
    let after = failures.iter().map(|failure| match failure.class {
        Class::Wait { after } => Some(after),
        Class::Retry { .. } | Class::Conflict | Class::Permanent => None,
    });
    let Some(Some(after)) = after.collect::<Option<Vec<_>>>().map(|all| all.into_iter().max())
    else {
        return report;
    };
    if !matches!(report.prepared.plan.verdict, Verdict::Park { .. }) {
        let waits = failures.iter().map(|failure| failure.text.as_str()).collect::<Vec<_>>();
        let waits = waits.join("; ");
        report.prepared.plan.verdict = Verdict::FollowUp { after, waits, patient: false };
    }
    report.acted.failures.clear();
    report
}

/// What a unit is parked for, where a round that nobody asked for did nothing and still waits: how often it was tried counts on.
fn still_parked<'a>(report: &'a Report, message: &Message, digest: &str) -> Option<&'a Parked> {
    let waits = matches!(report.prepared.plan.verdict, Verdict::FollowUp { patient: false, .. });
    let asked = !matches!(message.reason, Reason::Sweep | Reason::FollowUp);
    let parked = report.prepared.before.as_ref().and_then(|before| before.parked.as_ref());
    parked.filter(|parked| waits && !asked && report.acted.did.is_empty() && parked.fleet == digest)
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn jitter() -> f64 {
    rand::random()
}
