//! One round of one unit: observe, plan, act, and say what comes next.

use super::{
    Clients, Failure,
    act::{self, Acted, Scene},
    desire::Desires,
    observe, outbox, status_store, target,
};
use crate::{
    adapters::service_bus::ServiceBus,
    clock::Clock,
    domain::{
        class::Class,
        fleet::{Fleet, WantedState},
        ids::{IdentityName, InstallationId, ProfileName, RunnerKey, Unit},
        kubernetes::Object,
        message::{Intent, Message, Outgoing},
        plan::{self, Plan, Verdict, hold::Hold, runner::Ceilings},
        render::Context,
        spec::Mode,
        status::{ConditionKind, Finding, RoundRecord, Status},
    },
};
use futures::try_join;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use tracing::{error, info, warn};

/// What a function answers to its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Dealt with; the lines are for the invocation's own log.
    Done(Vec<String>),
    /// Only the broker can help: it delivers again.
    Failed(String),
}

/// Failures in a row before a unit is parked.
const ATTEMPTS_MAX: u32 = 8;
/// How long a unit may wait for what must come to an end.
const WAIT_MAX: SignedDuration = SignedDuration::from_hours(1);
/// While a unit is on its way, its status is written at its first and last step, and this often between.
const PROGRESS_WRITTEN: SignedDuration = SignedDuration::from_mins(5);

/// Runs rounds. Keeps nothing between them that the world does not hold too.
pub struct Rounds {
    /// The fleet with its services, or the reason why `fleet.yaml` means nothing.
    bound: Result<(Arc<Fleet>, Clients), String>,
    pub(super) service_bus: ServiceBus,
    pub(super) clock: Clock,
    /// Lowers `fleet.yaml`'s own mode, never raises it.
    mode: Mode,
}

/// What one round found and did.
pub(super) struct Report {
    installation: InstallationId,
    path: Option<String>,
    plan: Plan,
    acted: Acted,
    before: Option<Status>,
    /// Digest of what was asked, where the unit is one that the sweep compares.
    desire: Option<String>,
    /// Nothing was carried out, only shown.
    observing: bool,
}

impl Rounds {
    pub fn new(
        bound: Result<(Arc<Fleet>, Clients), String>,
        service_bus: ServiceBus,
        clock: Clock,
        mode: Mode,
    ) -> Self {
        Self { bound, service_bus, clock, mode }
    }

    /// The fleet, or why there is none.
    pub fn fleet(&self) -> Result<&Arc<Fleet>, &str> {
        self.bound.as_ref().map(|(fleet, _)| fleet).map_err(String::as_str)
    }

    pub(super) fn clients(&self) -> &Clients {
        let (_, clients) =
            self.bound.as_ref().expect("only asked for once the fleet is known to be valid");
        clients
    }

    /// One round for the message's unit. Fails only where the queue cannot take what comes next.
    pub async fn round(&self, message: &Message) -> Outcome {
        let fleet = match self.fleet() {
            Ok(fleet) => fleet.clone(),
            Err(reason) => return self.wait_for_fleet(message, reason).await,
        };
        if let Some(intent) = message.intent {
            return self.park_intent(&fleet, message, intent).await;
        }
        let result = match &message.unit {
            Unit::Target(target) => {
                return match self.target_round(&fleet, *target, message).await {
                    Ok(wakes) => self.conclude_target(&fleet, message, wakes).await,
                    Err(failure) => self.again_or_park(&fleet, message, &[failure], None).await,
                };
            }
            Unit::Runner(key) => self.runner_round(&fleet, key).await,
            Unit::Domain(profile) => self.domain_round(&fleet, profile).await,
            Unit::Identity(name) => self.identity_round(&fleet, name).await,
        };
        match result {
            Ok(report) => self.conclude(&fleet, message, report).await,
            Err(failure) => self.again_or_park(&fleet, message, &[failure], None).await,
        }
    }

    /// A bad file never loses a hook: the unit is looked at again, and nothing is written.
    async fn wait_for_fleet(&self, message: &Message, reason: &str) -> Outcome {
        warn!("fleet.yaml is not valid, so `{}` waits: {reason}", message.unit);
        let again = message.clone().follow_up(SignedDuration::from_mins(5), self.clock.now());
        self.send(vec![again], vec!["fleet.yaml is not valid".to_owned()]).await
    }

    /// An intent that no version of this program acts on yet is kept and shown, never dropped.
    async fn park_intent(&self, fleet: &Fleet, message: &Message, intent: Intent) -> Outcome {
        let failure =
            Failure::permanent(format!("this version does not act on `{}` yet", intent.as_str()));
        self.again_or_park(fleet, message, &[failure], None).await
    }

    async fn runner_round(&self, fleet: &Fleet, key: &RunnerKey) -> Result<Report, Failure> {
        let settings = fleet.settings();
        let (installation, read) = try_join!(
            observe::installation(self.clients(), settings),
            target::read(self.clients(), key.target)
        )?;
        let unit = Unit::Runner(key.clone());
        let desires = Desires::of(fleet);
        let Some(read) = read else {
            let finding = Finding::fails(
                ConditionKind::Ready,
                "LostSightOf",
                format!(
                    "GitLab shows no {} to our token: gone, or hidden from us; nothing is changed",
                    key.target
                ),
            );
            let report = self.only_say(fleet, installation, None, &unit, finding).await?;
            return Ok(Report { desire: Some(desires.digest(None, None)), ..report });
        };
        let path = Some(read.facts.path.clone()).filter(|path| !path.is_empty());
        let now = self.clock.now();
        let wanted = fleet
            .wanted_at(&read.facts, now)
            .into_iter()
            .find(|wanted| wanted.profile == key.profile);
        let state = wanted.map(|wanted| wanted.state);
        let desire = desires.digest(state.as_ref(), read.hold.as_ref());
        let say = async |finding| {
            let (installation, path) = (installation.clone(), path.clone());
            let report = self.only_say(fleet, installation, path, &unit, finding).await?;
            Ok(Report { desire: Some(desire.clone()), ..report })
        };
        let pause = async |hold: &Hold| {
            let (installation, path) = (installation.clone(), path.clone());
            let report = self.hold(fleet, key, installation, path, hold).await?;
            Ok(Report { desire: Some(desire.clone()), ..report })
        };
        let not_ready =
            |reason, message: String| Finding::fails(ConditionKind::Ready, reason, message);
        // A group scheduled for deletion gets another path: what the rules say of that one means nothing.
        if let Some(hold) = &read.hold {
            return pause(hold).await;
        }
        let spec = match state {
            Some(WantedState::Runner(spec)) => spec,
            Some(WantedState::NeedsValue { placeholder }) => {
                let message = format!(
                    "needs {placeholder}: give it under `groups:` or `projects:` of fleet.yaml"
                );
                return say(not_ready("NeedsValue", message)).await;
            }
            Some(WantedState::AnchorMoved { anchor, expected, found }) => {
                let message = format!(
                    "anchor group {anchor} is at `{found}`, and fleet.yaml says `{expected}`: nothing new is given, nothing taken"
                );
                return say(not_ready("AnchorMoved", message)).await;
            }
            Some(WantedState::Withdrawn { reason }) => {
                return pause(&Hold::Withdrawn(reason)).await;
            }
            Some(WantedState::OutsideGuardrails { problems }) => {
                return pause(&Hold::OutsideGuardrails(problems.join("; "))).await;
            }
            Some(WantedState::ExceptionEnded { exception, until }) => {
                let ended = format!("{exception} (until {until})");
                return pause(&Hold::ExceptionEnded(ended)).await;
            }
            None => {
                let message = "no rule gives this target the profile; what is there is kept until removal is asked for";
                return say(not_ready("NotWanted", message.to_owned())).await;
            }
        };
        let observed =
            observe::runner(self.clients(), settings, &spec, installation.clone()).await?;
        let plan = plan::runner::plan(&spec, settings, &observed, ceilings(fleet), now);
        let scene = Scene {
            fleet: settings,
            installation: &installation,
            api_server: &observed.domain.api_server,
            gitlab_ca: self.clients().gitlab_ca(),
            spec: Some(&spec),
        };
        let observing = self.observes(fleet, Some(&key.profile));
        let acted = self.act(observing, &plan, &scene).await;
        let before = observed.status;
        Ok(Report { installation, path, plan, acted, before, desire: Some(desire), observing })
    }

    /// Pauses and scales to zero what must not serve for now.
    async fn hold(
        &self,
        fleet: &Fleet,
        key: &RunnerKey,
        installation: InstallationId,
        path: Option<String>,
        hold: &Hold,
    ) -> Result<Report, Failure> {
        let settings = fleet.settings();
        let observed = observe::held(self.clients(), settings, key, installation.clone()).await?;
        let plan = plan::hold::plan(key, settings, &observed, hold);
        let scene = Scene {
            fleet: settings,
            installation: &installation,
            api_server: &[],
            gitlab_ca: None,
            spec: None,
        };
        let observing = self.observes(fleet, Some(&key.profile));
        let acted = self.act(observing, &plan, &scene).await;
        let before = observed.status;
        Ok(Report { installation, path, plan, acted, before, desire: None, observing })
    }

    /// A state to wait in: it is said, and nothing else is done.
    async fn only_say(
        &self,
        fleet: &Fleet,
        installation: InstallationId,
        path: Option<String>,
        unit: &Unit,
        finding: Finding,
    ) -> Result<Report, Failure> {
        let before = observe::status(self.clients(), fleet.settings(), unit).await?;
        let plan = Plan { findings: vec![finding], ..Plan::default() };
        let acted = Acted::default();
        Ok(Report { installation, path, plan, acted, before, desire: None, observing: false })
    }

    async fn domain_round(&self, fleet: &Fleet, profile: &ProfileName) -> Result<Report, Failure> {
        let settings = fleet.settings();
        let installation = observe::installation(self.clients(), settings).await?;
        let unit = Unit::Domain(profile.clone());
        let Some(spec) = fleet.shared_domain(profile).map(|domain| domain.runner) else {
            let finding = Finding::fails(
                ConditionKind::Ready,
                "NotWanted",
                format!(
                    "no profile `{profile}` shares a domain; what is there is kept until removal is asked for"
                ),
            );
            return self.only_say(fleet, installation, None, &unit, finding).await;
        };
        let (observed, before) = try_join!(
            observe::domain(self.clients(), settings, &spec, installation.clone()),
            observe::status(self.clients(), settings, &unit),
        )?;
        let plan = plan::domain::plan(&spec, settings, &observed);
        let scene = Scene {
            fleet: settings,
            installation: &installation,
            api_server: &observed.api_server,
            gitlab_ca: self.clients().gitlab_ca(),
            spec: Some(&spec),
        };
        let observing = self.observes(fleet, Some(profile));
        let acted = self.act(observing, &plan, &scene).await;
        Ok(Report { installation, path: None, plan, acted, before, desire: None, observing })
    }

    async fn identity_round(&self, fleet: &Fleet, name: &IdentityName) -> Result<Report, Failure> {
        let settings = fleet.settings();
        let installation = observe::installation(self.clients(), settings).await?;
        let unit = Unit::Identity(name.clone());
        let Some((id, _)) = fleet.existing_identities().remove(name) else {
            let finding = Finding::fails(
                ConditionKind::Ready,
                "NotWanted",
                format!("no profile lists an existing identity `{name}`"),
            );
            return self.only_say(fleet, installation, None, &unit, finding).await;
        };
        let entitled = |account: &Object| plan::identity::is_entitled(fleet, &id, account);
        let (observed, before) = try_join!(
            observe::existing_identity(self.clients(), settings, id.clone(), entitled),
            observe::status(self.clients(), settings, &unit),
        )?;
        let plan = plan::identity::plan(&settings.name, &observed);
        let scene = Scene {
            fleet: settings,
            installation: &installation,
            api_server: &[],
            gitlab_ca: None,
            spec: None,
        };
        let observing = self.observes(fleet, None);
        let acted = self.act(observing, &plan, &scene).await;
        Ok(Report { installation, path: None, plan, acted, before, desire: None, observing })
    }

    /// Carries the plan out, or only shows it where the mode says so.
    async fn act(&self, observing: bool, plan: &Plan, scene: &Scene<'_>) -> Acted {
        if !observing {
            return act::act(self.clients(), plan, scene).await;
        }
        let would: Vec<String> =
            plan.steps.iter().map(|node| format!("would {}", node.step)).collect();
        for line in &would {
            info!("{line}");
        }
        Acted { did: would, failures: vec![] }
    }

    /// The lowest of the modes that the setting, the file and the profile name.
    fn observes(&self, fleet: &Fleet, profile: Option<&ProfileName>) -> bool {
        let of_profile = profile.and_then(|name| fleet.profile(name)).map(|profile| profile.mode);
        let mode = self.mode.min(fleet.settings().mode).min(of_profile.unwrap_or(Mode::Enforce));
        mode == Mode::Observe
    }

    /// A target's own status says only that it is parked: this round was not, so that is over.
    async fn conclude_target(
        &self,
        fleet: &Fleet,
        message: &Message,
        wakes: Vec<Outgoing>,
    ) -> Outcome {
        if let Err(failure) = self.release(fleet, message).await {
            warn!("`{}` could not be released: {}", message.unit, failure.text);
        }
        self.send(wakes, vec![]).await
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
    async fn conclude(&self, fleet: &Fleet, message: &Message, report: Report) -> Outcome {
        let now = self.clock.now();
        let report = waiting(report);
        let observing = report.observing;
        let mut outgoing: Vec<Outgoing> =
            report.plan.wakes.iter().map(|unit| wake(message, unit.clone()).send(now)).collect();
        if observing {
            outgoing.clear();
        }
        if !report.acted.failures.is_empty() {
            let failures = report.acted.failures.clone();
            let sent = outbox::send(&self.service_bus, &outgoing).await;
            if let Err(failure) = sent {
                return Outcome::Failed(failure.text);
            }
            return self.again_or_park(fleet, message, &failures, Some(report)).await;
        }
        match &report.plan.verdict {
            Verdict::Settled => {}
            Verdict::FollowUp { .. } if observing => {}
            Verdict::FollowUp { after, waits, patient } => {
                let since = report.before.as_ref().and_then(|status| status.waiting_since);
                let deadline =
                    message.deadline.unwrap_or_else(|| later(since.unwrap_or(now), WAIT_MAX));
                if now > deadline && !patient {
                    let failure =
                        Failure::permanent(format!("waited until {deadline} for {waits}"));
                    return self.again_or_park(fleet, message, &[failure], Some(report)).await;
                }
                info!("`{}` waits for {waits}", message.unit);
                let next =
                    Message { deadline: Some(deadline).filter(|_| !patient), ..message.clone() };
                outgoing.push(next.follow_up(*after, now));
            }
            Verdict::Park { reason } => {
                let failure = Failure::permanent(reason.clone());
                let sent = outbox::send(&self.service_bus, &outgoing).await;
                if let Err(failure) = sent {
                    return Outcome::Failed(failure.text);
                }
                return self.again_or_park(fleet, message, &[failure], Some(report)).await;
            }
        }
        let did = report.acted.did.clone();
        if let Err(failure) = self.say(fleet, message, &report, None, now).await {
            warn!("the status of `{}` could not be written: {}", message.unit, failure.text);
        }
        if report.plan.is_settled() {
            info!("`{}` is settled", message.unit);
        }
        self.send(outgoing, did).await
    }

    /// Retryable: the same again, later. Permanent, or tried too often: parked with its reason.
    async fn again_or_park(
        &self,
        fleet: &Fleet,
        message: &Message,
        failures: &[Failure],
        report: Option<Report>,
    ) -> Outcome {
        let now = self.clock.now();
        let Some(failure) = Failure::worst(failures).cloned() else { return Outcome::Done(vec![]) };
        let unit = &message.unit;
        let after = match failure.class {
            Class::Retry { after } if message.attempt < ATTEMPTS_MAX => after,
            Class::Wait { after } if message.attempt < ATTEMPTS_MAX => Some(after),
            Class::Conflict if message.attempt < ATTEMPTS_MAX => None,
            Class::Retry { .. } | Class::Wait { .. } | Class::Conflict | Class::Permanent => {
                error!("`{unit}` is parked: {}", failure.text);
                return match self.park(fleet, message, &failure.text, report, now).await {
                    Ok(()) => Outcome::Done(vec![format!("parked: {}", failure.text)]),
                    // Nowhere to write it down: the same again later, so that it is not forgotten.
                    Err(unwritten) => {
                        error!("`{unit}` could not be parked: {}", unwritten.text);
                        let again = message.clone().retry(
                            Some(SignedDuration::from_mins(10)),
                            jitter(),
                            now,
                        );
                        self.send(vec![again], vec![failure.text]).await
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
        self.send(vec![message.clone().retry(after, jitter(), now)], vec![failure.text]).await
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
        let (installation, before, path, findings) = match report {
            Some(report) => (report.installation, report.before, report.path, report.plan.findings),
            None => {
                let installation = observe::installation(self.clients(), settings).await?;
                let before = observe::status(self.clients(), settings, &message.unit).await?;
                (installation, before, None, vec![])
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
        if !findings.is_empty() {
            status = status.with(&findings, now);
        }
        let record = RoundRecord {
            at: now,
            cause: message.cause.clone(),
            did: vec![],
            failure: Some(reason.to_owned()),
        };
        let status = status.park(reason, &settings.digest, now).with_round(record);
        status_store::save(self.clients(), &context, before.as_ref(), &status).await?;
        Ok(())
    }

    async fn say(
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
            installation: &report.installation,
            api_server: &[],
            gitlab_ca: None,
        };
        let old = report.before.clone().unwrap_or_else(|| Status::new(message.unit.clone()));
        if failure.is_some() && old.parked.is_some() {
            // Still what it is parked for, as far as anybody knows: how often it was tried must not be lost.
            return Ok(());
        }
        let mut next = old.clone().released().with(&findings(report), now);
        let settled = report.plan.is_settled() && failure.is_none();
        next.settled_for = report.desire.clone().filter(|_| settled);
        next.path = report.path.clone().or(next.path);
        next.waiting_since = match &report.plan.verdict {
            Verdict::FollowUp { patient: false, .. } => old.waiting_since.or(Some(now)),
            Verdict::FollowUp { patient: true, .. } | Verdict::Settled | Verdict::Park { .. } => {
                None
            }
        };
        if report.before.is_some() && !is_worth_writing(&old, &next, now) {
            return Ok(());
        }
        let record = RoundRecord {
            at: now,
            cause: message.cause.clone(),
            did: report.acted.did.clone(),
            failure: failure.map(str::to_owned),
        };
        if !record.did.is_empty() || record.failure.is_some() {
            next = next.with_round(record);
        }
        status_store::save(self.clients(), &context, report.before.as_ref(), &next).await?;
        Ok(())
    }

    pub(super) async fn send(&self, outgoing: Vec<Outgoing>, lines: Vec<String>) -> Outcome {
        match outbox::send(&self.service_bus, &outgoing).await {
            Ok(()) => Outcome::Done(lines),
            Err(failure) => {
                error!("what comes next could not be queued: {}", failure.text);
                Outcome::Failed(failure.text)
            }
        }
    }
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
    if !matches!(report.plan.verdict, Verdict::Park { .. }) {
        let waits = failures.iter().map(|failure| failure.text.as_str()).collect::<Vec<_>>();
        let waits = waits.join("; ");
        report.plan.verdict = Verdict::FollowUp { after, waits, patient: false };
    }
    report.acted.failures.clear();
    report
}

/// What is told of the unit; where nothing is carried out, that is why it is not ready.
fn findings(report: &Report) -> Vec<Finding> {
    let mut findings = report.plan.findings.clone();
    let steps = report.plan.steps.len();
    if report.observing && steps > 0 {
        findings.retain(|finding| finding.kind != ConditionKind::Ready);
        let message = format!("mode: observe; {steps} step(s) would be taken");
        findings.push(Finding::fails(ConditionKind::Ready, "Observing", message));
    }
    findings
}

/// The conditions changed; but steps of one way from *progressing* to *progressing* are not each worth a write.
fn is_worth_writing(old: &Status, next: &Status, now: Timestamp) -> bool {
    // A clock that no longer runs would end a later wait before it began.
    let wait_over = old.waiting_since.is_some() && next.waiting_since.is_none();
    if wait_over || old.settled_for != next.settled_for {
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

/// A wake-up of another unit, in the name of the same cause.
pub(super) fn wake(message: &Message, unit: Unit) -> Message {
    Message {
        traceparent: message.traceparent.clone(),
        ..Message::wake(unit, message.reason, message.cause.clone())
    }
}

fn ceilings(fleet: &Fleet) -> Ceilings {
    let guardrails = fleet.guardrails();
    Ceilings { runners: guardrails.runners, creations_per_hour: guardrails.creations_per_hour }
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn jitter() -> f64 {
    rand::random()
}
