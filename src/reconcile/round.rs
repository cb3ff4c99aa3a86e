//! One round of one unit: observe, plan, act, and say what comes next.

use super::{
    Clients, Failure,
    act::{self, Acted},
    conclude::Ended,
    deadline::{Deadline, SWEEP_READS},
    outbox::Outbox,
    prepare::{Prepared, prepare, prepare_word},
    tell,
};
use crate::{
    clock::Clock,
    domain::{
        fleet::Fleet,
        gate,
        ids::Unit,
        message::{Intent, Message, Outgoing},
        spec::Mode,
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
        if let Some(intent) = message.intent {
            return self.intent_round(&fleet, message, intent).await;
        }
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
                if event.is_some_and(|event| event.ends_with("_destroy"))
                    && let Some(missing) = &mut prepared.missing
                {
                    missing.destroyed.get_or_insert(self.clock.now());
                }
                let report = self.act(&fleet, message, prepared, began).await;
                self.conclude(&fleet, message, report).await
            }
            Ok(None) => RoundEnd::Gone.with(Outcome::Done(vec![])),
            Err(failure) => self.again_or_park(&fleet, message, &[failure], None).await,
        }
    }

    /// A bad file never loses a hook: the unit is looked at again, and nothing is written.
    async fn wait_for_fleet(&self, message: &Message, reason: &str) -> Ended {
        warn!("fleet.yaml is not valid, so `{}` waits: {reason}", message.unit);
        let again = message.clone().follow_up(SignedDuration::from_mins(5), self.clock.now());
        let sent = self.send(vec![again], vec!["fleet.yaml is not valid".to_owned()]).await;
        RoundEnd::NoFleet.with(sent)
    }

    /// Does what an operator asks of a runner beyond *look at this one*. What no version of this program acts on yet is
    /// kept and shown, never dropped.
    async fn intent_round(&self, fleet: &Fleet, message: &Message, intent: Intent) -> Ended {
        let pause = match intent {
            Intent::Pause => true,
            Intent::Resume => false,
            Intent::Reprovision | Intent::Rotate => {
                let text = format!("this version does not act on `{}` yet", intent.as_str());
                return self.again_or_park(fleet, message, &[Failure::permanent(text)], None).await;
            }
        };
        let Unit::Runner(key) = &message.unit else {
            let failure = Failure::permanent("only a runner can be paused and resumed");
            return self.again_or_park(fleet, message, &[failure], None).await;
        };
        let began = self.clock.now();
        let word =
            prepare_word(self.clients(), fleet, &self.clock, key, pause, &message.cause).await;
        match word {
            Ok(prepared) => {
                let report = self.act(fleet, message, prepared, began).await;
                // A try that failed asks again for the same; what follows a success is an ordinary round.
                let intent = message.intent.filter(|_| !report.acted.failures.is_empty());
                let message = Message { intent, ..message.clone() };
                self.conclude(fleet, &message, report).await
            }
            Err(failure) => self.again_or_park(fleet, message, &[failure], None).await,
        }
    }

    /// Carries the plan out, or only shows it where the mode or a freeze says so.
    async fn act(
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
        let scene = prepared.scene(fleet, self.clients());
        tell::drift(&prepared, &scene);
        if restraint.is_none() {
            let origin = tell::origin(fleet, message, prepared.rule.clone());
            let acting = act::act(self.clients(), &prepared.plan, &prepared.seen, &scene);
            let acted = audit::because(origin, acting).await;
            return Report { prepared, acted, restraint, began };
        }
        let steps = prepared.plan.steps.iter();
        let would: Vec<String> = steps.map(|node| format!("would {}", node.step)).collect();
        for line in &would {
            info!("{line}");
        }
        Report { prepared, acted: Acted { did: would, ..Acted::default() }, restraint, began }
    }

    /// The lowest of the modes that the setting, the file and the unit's profile name.
    fn observes(&self, fleet: &Fleet, unit: &Unit) -> bool {
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
