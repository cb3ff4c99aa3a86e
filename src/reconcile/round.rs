//! One round of one unit: observe, plan, act, and say what comes next.

use super::{
    Clients,
    act::{self, Acted},
    conclude::Ended,
    deadline::{Deadline, SWEEP_READS},
    ordered,
    outbox::Outbox,
    prepare::{Prepared, prepare},
    tell,
};
use crate::{
    clock::Clock,
    domain::{
        fleet::Fleet,
        gate,
        ids::Unit,
        message::{Message, Outgoing},
        spec::Mode,
        status::Ordered,
    },
    telemetry::{audit, meters, words::RoundEnd},
};
use jiff::{SignedDuration, Timestamp, civil::Date};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tracing::{error, info, warn};

/// What a function answers to its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Dealt with; the lines are for the invocation's own log.
    Done(Vec<String>),
    /// Only the broker can help: it delivers again.
    Failed(String),
}

/// Runs rounds. Keeps nothing between them that the world does not hold too.
pub struct Rounds {
    /// The fleet with its services, or the reason why `fleet.yaml` means nothing.
    bound: Result<(Arc<Fleet>, Clients), String>,
    pub(super) outbox: Outbox,
    pub(super) clock: Clock,
    /// Lowers `fleet.yaml`'s own mode, never raises it.
    mode: Mode,
    /// How long a sweep may read.
    sweep_reads: Duration,
}

/// What one round found and did.
pub(super) struct Report {
    pub(super) prepared: Prepared,
    pub(super) acted: Acted,
    /// Why nothing was carried out, only shown.
    pub(super) restraint: Option<Restraint>,
    /// When the round began.
    pub(super) began: Timestamp,
    /// What is still to be carried out of an operator's order.
    pub(super) order: Option<Ordered>,
    /// When the last order came in that reached a round.
    pub(super) ordered_at: Option<Timestamp>,
}

/// What keeps a round from carrying its plan out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restraint {
    /// `mode: observe`.
    Observing,
    /// `guardrails.freeze`, until the end of that day.
    Frozen { until: Date },
}

impl Rounds {
    pub fn new(
        bound: Result<(Arc<Fleet>, Clients), String>,
        outbox: Outbox,
        clock: Clock,
        mode: Mode,
    ) -> Self {
        Self { bound, outbox, clock, mode, sweep_reads: SWEEP_READS }
    }

    /// Another time for a sweep's reading, such as a desk's.
    pub fn with_sweep_reads(self, time: Duration) -> Self {
        Self { sweep_reads: time, ..self }
    }

    pub(super) fn deadline(&self) -> Deadline {
        Deadline::within(self.sweep_reads)
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
        let began = Instant::now();
        let Ended { how, outcome } = Box::pin(self.go_round(message)).await;
        meters::round(how, message.reason, &message.unit, began.elapsed());
        outcome
    }

    async fn go_round(&self, message: &Message) -> Ended {
        let fleet = match self.fleet() {
            Ok(fleet) => fleet.clone(),
            Err(reason) => return self.wait_for_fleet(message, reason).await,
        };
        let bare;
        let message = match message.intent {
            None => message,
            Some(intent) => match self.is_overtaken(&fleet, message).await {
                Ok(false) => return self.intent_round(&fleet, message, intent).await,
                Ok(true) => {
                    bare = Message { intent: None, since: None, attempt: 1, ..message.clone() };
                    &bare
                }
                Err(failure) => return self.again_or_park(&fleet, message, &[failure], None).await,
            },
        };
        if let Unit::Target(target) = message.unit {
            return match self.target_round(&fleet, target, message).await {
                Ok(wakes) => self.conclude_target(&fleet, message, wakes).await,
                Err(failure) => self.again_or_park(&fleet, message, &[failure], None).await,
            };
        }
        let began = self.clock.now();
        match Box::pin(prepare(self.clients(), &fleet, &self.clock, &message.unit)).await {
            Ok(Some(mut prepared)) => {
                let event = message.event.as_deref();
                let is_end = event.is_some_and(|event| event.ends_with("_destroy"));
                if is_end && let Some(missing) = &mut prepared.missing {
                    missing.destroyed.get_or_insert(self.clock.now());
                }
                let order = prepared.before.as_ref().and_then(|before| before.order.clone());
                // That its target is destroyed is told once.
                let order = order.filter(|_| !is_end);
                let mut left = vec![];
                if let Some(order) = &order {
                    match Box::pin(self.catch_up(&fleet, message, order)).await {
                        Ok(ended) => return ended,
                        Err(failures) => left = failures,
                    }
                    if !left.is_empty() && ordered::is_against(&prepared.plan, order) {
                        return self.again_or_park(&fleet, message, &left, None).await;
                    }
                }
                let mut report = self.act(&fleet, message, prepared, began).await;
                report.acted.failures.extend(left);
                self.conclude(&fleet, message, report).await
            }
            Ok(None) => RoundEnd::Gone.with(Outcome::Done(vec![])),
            Err(failure) => {
                let mut failures = vec![failure];
                if let Some(order) = self.left_of(&fleet, &message.unit).await {
                    match Box::pin(self.catch_up(&fleet, message, &order)).await {
                        Ok(ended) => return ended,
                        Err(left) => failures.extend(left),
                    }
                }
                self.again_or_park(&fleet, message, &failures, None).await
            }
        }
    }

    /// A bad file never loses a hook: the unit is looked at again, and nothing is written.
    async fn wait_for_fleet(&self, message: &Message, reason: &str) -> Ended {
        warn!("fleet.yaml is not valid, so `{}` waits: {reason}", message.unit);
        let again = message.clone().follow_up(SignedDuration::from_mins(5), self.clock.now());
        let sent = self.send(vec![again], vec!["fleet.yaml is not valid".to_owned()]).await;
        RoundEnd::NoFleet.with(sent)
    }

    /// Carries the plan out, or only shows it where the mode or a freeze says so.
    pub(super) async fn act(
        &self,
        fleet: &Fleet,
        message: &Message,
        prepared: Prepared,
        began: Timestamp,
    ) -> Report {
        let frozen = gate::frozen_until(fleet.guardrails(), prepared.deed, self.clock.now());
        let restraint = if self.observes(fleet, &message.unit) {
            Some(Restraint::Observing)
        } else {
            frozen.map(|until| Restraint::Frozen { until })
        };
        let before = prepared.before.as_ref();
        let order = before.and_then(|before| before.order.clone());
        let ordered_at = before.and_then(|before| before.ordered_at);
        let scene = prepared.scene(fleet, self.clients());
        tell::drift(&prepared, &scene);
        if restraint.is_none() {
            let origin = tell::origin(fleet, message, prepared.rule.clone());
            let acting = act::act(self.clients(), &prepared.plan, &prepared.seen, &scene);
            let acted = audit::because(origin, acting).await;
            return Report { prepared, acted, restraint, began, order, ordered_at };
        }
        let steps = prepared.plan.steps.iter();
        let would: Vec<String> = steps.map(|node| format!("would {}", node.step)).collect();
        for line in &would {
            info!("{line}");
        }
        let acted = Acted { did: would, ..Acted::default() };
        Report { prepared, acted, restraint, began, order, ordered_at }
    }

    /// The lowest of the modes that the setting, the file and the unit's profile name.
    pub(super) fn observes(&self, fleet: &Fleet, unit: &Unit) -> bool {
        let profile = match unit {
            Unit::Runner(key) => fleet.profile(&key.profile),
            Unit::Domain(profile) => fleet.profile(profile),
            Unit::Target(_) | Unit::Identity(_) => None,
        };
        let of_profile = profile.map_or(Mode::Enforce, |profile| profile.mode);
        self.mode.min(fleet.settings().mode).min(of_profile) == Mode::Observe
    }

    /// Whether the fleet as a whole is only looked at.
    pub(super) fn observes_all(&self, fleet: &Fleet) -> bool {
        self.mode.min(fleet.settings().mode) == Mode::Observe
    }

    pub(super) async fn send(&self, outgoing: Vec<Outgoing>, lines: Vec<String>) -> Outcome {
        match self.outbox.send(&outgoing).await {
            Ok(()) => Outcome::Done(lines),
            Err(failure) => {
                error!("what comes next could not be queued: {}", failure.text);
                Outcome::Failed(failure.text)
            }
        }
    }
}

/// A wake-up of another unit, in the name of the same cause.
pub(super) fn wake(message: &Message, unit: Unit) -> Message {
    Message {
        traceparent: message.traceparent.clone(),
        since: message.since,
        ..Message::wake(unit, message.reason, message.cause.clone())
    }
}
