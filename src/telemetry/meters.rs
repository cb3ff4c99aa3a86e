//! Counts and times what happens. Whoever has something to count calls a function here; where it goes is the
//! subscriber's: without one, nowhere.

use super::{
    metrics::{self, Kind, Metric},
    words::{
        Called, DriftKind, DriftThing, Found, HookEnd, Quota, RoundEnd, StatusClass, SweepEnd,
    },
};
use crate::{
    clock::Clock,
    domain::{
        fleet_status::FindingKind,
        ids::Unit,
        message::Reason,
        slice::{Slice, SliceKind},
        status::{ConditionKind, Tally},
    },
};
use jiff::{SignedDuration, Timestamp};
use opentelemetry::{
    KeyValue,
    metrics::{Counter, Gauge, Histogram, Meter},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tracing::Subscriber;
use tracing_subscriber::Layer;

/// The instruments, as part of the subscriber, so that what counts needs no handle to them.
#[derive(Clone)]
pub(super) struct Meters(Arc<Instruments>);

impl<S: Subscriber> Layer<S> for Meters {}

struct Instruments {
    clock: Clock,
    invocations: Counter<u64>,
    invocation_duration: Histogram<f64>,
    hooks: Counter<u64>,
    rounds: Counter<u64>,
    round_duration: Histogram<f64>,
    drift: Counter<u64>,
    hook_to_online: Histogram<f64>,
    queue_age: Histogram<f64>,
    calls: Counter<u64>,
    call_duration: Histogram<f64>,
    quota_remaining: Gauge<u64>,
    sweeps: Counter<u64>,
    sweep_duration: Histogram<f64>,
    sweep_woken: Counter<u64>,
    dead_letters: Counter<u64>,
    foreign_messages: Counter<u64>,
    swept: Arc<Mutex<Swept>>,
}

/// What only a sweep knows. It is told while it is fresh: another process may have swept since.
#[derive(Default)]
struct Swept {
    at: Option<Timestamp>,
    units: BTreeMap<(&'static str, bool, String), u64>,
    findings: BTreeMap<&'static str, u64>,
    parked: u64,
    brake_holds: Option<u64>,
    token_days: Option<f64>,
    /// Since when each thing has been looked at that is read in slices.
    slices: BTreeMap<&'static str, Timestamp>,
    /// Since when this process has seen no whole fleet.
    unseen_since: Option<Timestamp>,
}

/// Longer than sweeps are apart by default.
const FRESH: SignedDuration = SignedDuration::from_mins(15);
/// More reasons than this are no reasons of ours.
const REASONS_MAX: usize = 60;

impl Meters {
    pub(super) fn new(meter: &Meter, clock: Clock) -> Self {
        let swept = Arc::<Mutex<Swept>>::default();
        observe(meter, &clock, &swept);
        let all = Self(Arc::new(Instruments {
            clock,
            invocations: counter(meter, metrics::INVOCATIONS),
            invocation_duration: histogram(meter, metrics::INVOCATION_DURATION),
            hooks: counter(meter, metrics::HOOKS),
            rounds: counter(meter, metrics::ROUNDS),
            round_duration: histogram(meter, metrics::ROUND_DURATION),
            drift: counter(meter, metrics::DRIFT),
            hook_to_online: histogram(meter, metrics::HOOK_TO_ONLINE),
            queue_age: histogram(meter, metrics::QUEUE_AGE),
            calls: counter(meter, metrics::CALLS),
            call_duration: histogram(meter, metrics::CALL_DURATION),
            quota_remaining: meter
                .u64_gauge(metrics::QUOTA_REMAINING.name)
                .with_unit(metrics::QUOTA_REMAINING.unit)
                .with_description(metrics::QUOTA_REMAINING.description)
                .build(),
            sweeps: counter(meter, metrics::SWEEPS),
            sweep_duration: histogram(meter, metrics::SWEEP_DURATION),
            sweep_woken: counter(meter, metrics::SWEEP_WOKEN),
            dead_letters: counter(meter, metrics::DEAD_LETTERS),
            foreign_messages: counter(meter, metrics::FOREIGN_MESSAGES),
            swept,
        }));
        all.begin();
        all
    }

    /// Puts what is rare at zero, for a rise is only seen of what was there before it. A process that was just started may
    /// count before anything has left it; for that the alerts take a new series as it is.
    fn begin(&self) {
        self.0.dead_letters.add(0, &[]);
        for function in ["round", "command", "approval", "dead_letter"] {
            self.0.foreign_messages.add(0, &[KeyValue::new("function", function)]);
        }
    }

    /// One answered invocation.
    pub(super) fn invocation(&self, function: &'static str, status: u16, took: Duration) {
        let labels = [
            KeyValue::new("function", function),
            KeyValue::new("http.response.status_code", i64::from(status)),
        ];
        self.0.invocations.add(1, &labels);
        self.0.invocation_duration.record(took.as_secs_f64(), &labels);
    }

    fn swept(&self) -> MutexGuard<'_, Swept> {
        self.0.swept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands the meters of whoever listens to `record`.
fn with(record: impl FnOnce(&Meters)) {
    let listening =
        tracing::dispatcher::get_default(|dispatch| dispatch.downcast_ref::<Meters>().cloned());
    if let Some(meters) = listening {
        record(&meters);
    }
}

pub(crate) fn hook(outcome: HookEnd) {
    with(|Meters(all)| all.hooks.add(1, &[KeyValue::new("outcome", outcome.as_str())]));
}

pub(crate) fn round(outcome: RoundEnd, reason: Reason, unit: &Unit, took: Duration) {
    let outcome = KeyValue::new("outcome", outcome.as_str());
    let kind = KeyValue::new("unit.kind", kind(unit));
    with(|Meters(all)| {
        let reason = KeyValue::new("reason", reason.as_str());
        all.rounds.add(1, &[outcome.clone(), reason, kind.clone()]);
        all.round_duration.record(took.as_secs_f64(), &[outcome, kind]);
    });
}

pub(crate) fn drift(kind: DriftKind, thing: DriftThing) {
    let labels = [KeyValue::new("kind", kind.as_str()), KeyValue::new("thing", thing.as_str())];
    with(|Meters(all)| all.drift.add(1, &labels));
}

/// A runner that a hook began is online.
pub(crate) fn online(after: SignedDuration) {
    with(|Meters(all)| all.hook_to_online.record(after.as_secs_f64().max(0.0), &[]));
}

/// How long a message had been due when its work began.
pub(crate) fn queue_age(queue: &'static str, age: SignedDuration) {
    let labels = [KeyValue::new("queue", queue)];
    with(|Meters(all)| all.queue_age.record(age.as_secs_f64().max(0.0), &labels));
}

/// One try of a call; without a status, no answer came.
pub(crate) fn call(called: Called, status: Option<u16>, took: Duration) {
    let service = KeyValue::new("service", called.as_str());
    let class = KeyValue::new("status_class", StatusClass::of(status).as_str());
    with(|Meters(all)| {
        all.calls.add(1, &[service.clone(), class]);
        all.call_duration.record(took.as_secs_f64(), &[service]);
    });
}

/// What a service says is left.
pub(crate) fn quota(called: Called, quota: Quota, left: u64) {
    let labels =
        [KeyValue::new("service", called.as_str()), KeyValue::new("quota", quota.as_str())];
    with(|Meters(all)| all.quota_remaining.record(left, &labels));
}

pub(crate) fn sweep(outcome: SweepEnd, woken: usize, took: Duration) {
    let labels = [KeyValue::new("outcome", outcome.as_str())];
    with(|meters| {
        let Meters(all) = meters;
        all.sweeps.add(1, &labels);
        all.sweep_duration.record(took.as_secs_f64(), &labels);
        all.sweep_woken.add(woken as u64, &[]);
        let now = all.clock.now();
        let mut swept = meters.swept();
        match outcome {
            SweepEnd::Whole => swept.unseen_since = Some(now),
            SweepEnd::Partial | SweepEnd::Failed => _ = swept.unseen_since.get_or_insert(now),
        }
    });
}

/// What a sweep read of every unit.
pub(crate) fn units(tally: &Tally) {
    with(|meters| {
        let mut units = BTreeMap::new();
        let mut reasons: BTreeSet<&str> = BTreeSet::new();
        for ((kind, status, reason), count) in &tally.conditions {
            let fits = is_reason(reason) && reasons.len() < REASONS_MAX;
            let known = fits || reasons.contains(reason.as_str());
            let reason = if known { reason } else { "Other" };
            reasons.insert(reason);
            *units.entry((word(*kind), *status, reason.to_owned())).or_default() += count;
        }
        let at = Some(meters.0.clock.now());
        let mut swept = meters.swept();
        (swept.at, swept.units, swept.parked) = (at, units, tally.parked);
    });
}

/// What a sweep found of the fleet as a whole. Of what it may not have seen it says nothing: that is not over.
pub(crate) fn findings(found: &BTreeMap<FindingKind, u64>, whole: bool) {
    with(|meters| {
        let mut next: BTreeMap<&str, u64> = Found::WORDS.iter().map(|word| (*word, 0)).collect();
        next.extend(found.iter().map(|(kind, count)| (Found::of(*kind).as_str(), *count)));
        let mut swept = meters.swept();
        if !whole {
            for (word, before) in &swept.findings {
                let count = next.entry(word).or_default();
                *count = (*count).max(*before);
            }
        }
        swept.findings = next;
    });
}

/// How far sweeps have come with what they read one by one.
pub(crate) fn slices(slices: &BTreeMap<SliceKind, Slice>) {
    let of = |(kind, slice): (&SliceKind, &Slice)| {
        let word = match kind {
            SliceKind::FederatedCredentials => "federated_credentials",
            SliceKind::Runners => "runners",
            SliceKind::ExpectedRights => "expected_rights",
        };
        (word, slice.all_since.unwrap_or(slice.began))
    };
    with(|meters| meters.swept().slices = slices.iter().map(of).collect());
}

/// How many removals the brake holds.
pub(crate) fn brake_holds(units: usize) {
    with(|meters| meters.swept().brake_holds = Some(units as u64));
}

/// Days that forerunner's own token has left, where it has an end.
pub(crate) fn token_days(days: Option<f64>) {
    with(|meters| meters.swept().token_days = days);
}

pub(crate) fn dead_letter() {
    with(|Meters(all)| all.dead_letters.add(1, &[]));
}

pub(crate) fn foreign_message(function: &'static str) {
    with(|Meters(all)| all.foreign_messages.add(1, &[KeyValue::new("function", function)]));
}

fn counter(meter: &Meter, metric: Metric) -> Counter<u64> {
    let builder = meter.u64_counter(metric.name).with_unit(metric.unit);
    builder.with_description(metric.description).build()
}

fn histogram(meter: &Meter, metric: Metric) -> Histogram<f64> {
    let boundaries = match metric.kind {
        Kind::Histogram(boundaries) => boundaries.to_vec(),
        Kind::Counter | Kind::Gauge => vec![],
    };
    let builder = meter.f64_histogram(metric.name).with_unit(metric.unit);
    builder.with_description(metric.description).with_boundaries(boundaries).build()
}

/// Gauges that are read when metrics leave.
fn observe(meter: &Meter, clock: &Clock, swept: &Arc<Mutex<Swept>>) {
    let fresh = |read: fn(&Swept) -> Option<f64>| {
        let (clock, swept) = (clock.clone(), swept.clone());
        move || {
            let swept = swept.lock().unwrap_or_else(PoisonError::into_inner);
            if is_fresh(&swept, clock.now()) { read(&swept) } else { None }
        }
    };
    let gauge = |metric: Metric, read: Box<dyn Fn() -> Option<f64> + Send + Sync>| {
        let builder = meter.f64_observable_gauge(metric.name).with_unit(metric.unit);
        let _registered = builder
            .with_description(metric.description)
            .with_callback(move |observer| {
                if let Some(value) = read() {
                    observer.observe(value, &[]);
                }
            })
            .build();
    };
    gauge(metrics::UNITS_PARKED, Box::new(fresh(|swept| Some(swept.parked as f64))));
    gauge(metrics::BRAKE_HOLDS, Box::new(fresh(|swept| Some(swept.brake_holds? as f64))));
    gauge(metrics::TOKEN_DAYS, Box::new(fresh(|swept| swept.token_days)));
    let (now, of) = (clock.clone(), swept.clone());
    let staleness = move || {
        let swept = of.lock().unwrap_or_else(PoisonError::into_inner);
        Some(now.now().duration_since(swept.unseen_since?).as_secs_f64().max(0.0))
    };
    gauge(metrics::SWEEP_STALENESS, Box::new(staleness));
    let (now, of) = (clock.clone(), swept.clone());
    let findings = metrics::FINDINGS;
    let _registered = meter
        .u64_observable_gauge(findings.name)
        .with_unit(findings.unit)
        .with_description(findings.description)
        .with_callback(move |observer| {
            let swept = of.lock().unwrap_or_else(PoisonError::into_inner);
            if !is_fresh(&swept, now.now()) {
                return;
            }
            for (kind, count) in &swept.findings {
                observer.observe(*count, &[KeyValue::new("kind", *kind)]);
            }
        })
        .build();
    let (now, of) = (clock.clone(), swept.clone());
    let slices = metrics::SLICE_STALENESS;
    let _registered = meter
        .f64_observable_gauge(slices.name)
        .with_unit(slices.unit)
        .with_description(slices.description)
        .with_callback(move |observer| {
            let (swept, now) = (of.lock().unwrap_or_else(PoisonError::into_inner), now.now());
            if !is_fresh(&swept, now) {
                return;
            }
            for (slice, since) in &swept.slices {
                let age = now.duration_since(*since).as_secs_f64().max(0.0);
                observer.observe(age, &[KeyValue::new("slice", *slice)]);
            }
        })
        .build();
    let (clock, swept) = (clock.clone(), swept.clone());
    let units = meter.u64_observable_gauge(metrics::UNITS.name).with_unit(metrics::UNITS.unit);
    let _registered = units
        .with_description(metrics::UNITS.description)
        .with_callback(move |observer| {
            let swept = swept.lock().unwrap_or_else(PoisonError::into_inner);
            if !is_fresh(&swept, clock.now()) {
                return;
            }
            for ((condition, status, reason), count) in &swept.units {
                let labels = [
                    KeyValue::new("condition", *condition),
                    KeyValue::new("status", if *status { "true" } else { "false" }),
                    KeyValue::new("reason", reason.clone()),
                ];
                observer.observe(*count, &labels);
            }
        })
        .build();
}

fn is_fresh(swept: &Swept, now: Timestamp) -> bool {
    swept.at.is_some_and(|at| now.duration_since(at) < FRESH)
}

/// CamelCase, as ours are; a status lies where a person may write anything.
fn is_reason(text: &str) -> bool {
    (1..=40).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric())
}

fn kind(unit: &Unit) -> &'static str {
    match unit {
        Unit::Target(_) => "target",
        Unit::Runner(_) => "runner",
        Unit::Domain(_) => "domain",
        Unit::Identity(_) => "identity",
    }
}

fn word(kind: ConditionKind) -> &'static str {
    match kind {
        ConditionKind::Ready => "Ready",
        ConditionKind::Registered => "Registered",
        ConditionKind::IdentityReady => "IdentityReady",
        ConditionKind::Deployed => "Deployed",
        ConditionKind::Online => "Online",
        ConditionKind::NeedsAdministrator => "NeedsAdministrator",
        ConditionKind::Parked => "Parked",
    }
}
