//! Every metric there is: the one place that names them. `docs/telemetry.md` and `deploy/telemetry/` are held against it.

use super::words::{
    Called, DriftKind, DriftThing, Found, HookEnd, Quota, RoundEnd, StatusClass, SweepEnd,
};

/// One metric, as OpenTelemetry names it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Metric {
    pub name: &'static str,
    /// In UCUM; what is counted stands in braces.
    pub unit: &'static str,
    pub kind: Kind,
    pub attributes: &'static [Attribute],
    pub description: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only ever grows.
    Counter,
    /// The last value known.
    Gauge,
    /// Values by these boundaries.
    Histogram(&'static [f64]),
}

/// What a metric's values are told apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub name: &'static str,
    pub values: Values,
}

/// Why an attribute has few values. Never a unit, a path or an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    Of(&'static [&'static str]),
    /// A set that is closed elsewhere, in words.
    Bounded(&'static str),
}

const fn attribute(name: &'static str, values: &'static [&'static str]) -> Attribute {
    Attribute { name, values: Values::Of(values) }
}

const FUNCTION: Attribute =
    Attribute { name: "function", values: Values::Bounded("the functions' names") };
const STATUS_CODE: Attribute = Attribute {
    name: "http.response.status_code",
    values: Values::Bounded("what we answer the host"),
};
const QUEUE: Attribute = attribute("queue", &["rounds", "commands", "approvals"]);
const REASON: Attribute =
    attribute("reason", &["hook", "sweep", "command", "rotation", "follow-up"]);
const UNIT_KIND: Attribute = attribute("unit.kind", &["target", "runner", "domain", "identity"]);
const SERVICE: Attribute = attribute("service", Called::WORDS);

/// Calls and invocations, from a millisecond to the host's patience.
const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    300.0, 1500.0,
];
/// Waits, from a bucket of wake-ups to an afternoon.
const WAITS: &[f64] = &[
    1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 14400.0,
];

const fn metric(
    name: &'static str,
    unit: &'static str,
    kind: Kind,
    attributes: &'static [Attribute],
    description: &'static str,
) -> Metric {
    Metric { name, unit, kind, attributes, description }
}

pub const INVOCATIONS: Metric = metric(
    "forerunner.invocations",
    "{invocation}",
    Kind::Counter,
    &[FUNCTION, STATUS_CODE],
    "Invocations that were answered.",
);
pub const INVOCATION_DURATION: Metric = metric(
    "forerunner.invocation.duration",
    "s",
    Kind::Histogram(SECONDS),
    &[FUNCTION, STATUS_CODE],
    "From the host's request to our answer.",
);
pub const HOOKS: Metric = metric(
    "forerunner.hooks",
    "{delivery}",
    Kind::Counter,
    &[attribute("outcome", HookEnd::WORDS)],
    "Deliveries of GitLab's hooks, by what became of them.",
);
pub const ROUNDS: Metric = metric(
    "forerunner.rounds",
    "{round}",
    Kind::Counter,
    &[attribute("outcome", RoundEnd::WORDS), REASON, UNIT_KIND],
    "Rounds, by how they ended and why the unit was looked at.",
);
pub const ROUND_DURATION: Metric = metric(
    "forerunner.round.duration",
    "s",
    Kind::Histogram(SECONDS),
    &[attribute("outcome", RoundEnd::WORDS), UNIT_KIND],
    "From the first read of a round to its last write.",
);
pub const DRIFT: Metric = metric(
    "forerunner.drift",
    "{difference}",
    Kind::Counter,
    &[attribute("kind", DriftKind::WORDS), attribute("thing", DriftThing::WORDS)],
    "What rounds set out to mend of units that had been ready; where `mode` is `observe`, what they would. What is only told is in `forerunner.units` and `forerunner.findings`.",
);
pub const HOOK_TO_ONLINE: Metric = metric(
    "forerunner.hook_to_online.duration",
    "s",
    Kind::Histogram(WAITS),
    &[],
    "From a hook's arrival until a runner that was not ready is online and may take jobs.",
);
pub const QUEUE_AGE: Metric = metric(
    "forerunner.queue.age",
    "s",
    Kind::Histogram(WAITS),
    &[QUEUE],
    "From the time a message was due on its queue until its work began.",
);
pub const CALLS: Metric = metric(
    "forerunner.calls",
    "{call}",
    Kind::Counter,
    &[SERVICE, attribute("status_class", StatusClass::WORDS)],
    "Tries of calls to services, each repeat counted.",
);
pub const CALL_DURATION: Metric = metric(
    "forerunner.call.duration",
    "s",
    Kind::Histogram(SECONDS),
    &[SERVICE],
    "From a call's first byte to its answer's last.",
);
pub const QUOTA_REMAINING: Metric = metric(
    "forerunner.quota.remaining",
    "{call}",
    Kind::Gauge,
    &[SERVICE, attribute("quota", Quota::WORDS)],
    "How many calls a service would still take, as its last answer said.",
);
pub const SWEEPS: Metric = metric(
    "forerunner.sweeps",
    "{sweep}",
    Kind::Counter,
    &[attribute("outcome", SweepEnd::WORDS)],
    "Sweeps, by how much of the fleet they saw.",
);
pub const SWEEP_DURATION: Metric = metric(
    "forerunner.sweep.duration",
    "s",
    Kind::Histogram(SECONDS),
    &[attribute("outcome", SweepEnd::WORDS)],
    "How long sweeps took.",
);
pub const SWEEP_WOKEN: Metric = metric(
    "forerunner.sweep.woken",
    "{unit}",
    Kind::Counter,
    &[],
    "Units that sweeps put on the queue, because they drift or are due.",
);
pub const SWEEP_STALENESS: Metric = metric(
    "forerunner.sweep.staleness",
    "s",
    Kind::Gauge,
    &[],
    "Age of the last sweep of this process that saw the whole fleet; before the first, of its first try.",
);
pub const SLICE_STALENESS: Metric = metric(
    "forerunner.sweep.slice.staleness",
    "s",
    Kind::Gauge,
    &[attribute("slice", &["federated_credentials", "runners", "expected_rights"])],
    "Of what sweeps read one by one: age of the oldest look, or of the first while not each has been looked at. Missing where one sweep looks at all.",
);
pub const UNITS: Metric = metric(
    "forerunner.units",
    "{unit}",
    Kind::Gauge,
    &[
        Attribute {
            name: "condition",
            values: Values::Of(&[
                "Ready",
                "Registered",
                "IdentityReady",
                "Deployed",
                "Online",
                "NeedsAdministrator",
                "Parked",
            ]),
        },
        attribute("status", &["true", "false"]),
        Attribute {
            name: "reason",
            values: Values::Bounded("the conditions' reasons; beyond sixty of them, `Other`"),
        },
    ],
    "Units by what is told of them, as the last sweep read it.",
);
pub const FINDINGS: Metric = metric(
    "forerunner.findings",
    "{finding}",
    Kind::Gauge,
    &[attribute("kind", Found::WORDS)],
    "What the last sweep found that is no unit's, or no round's to mend; 0 when it is over, which only a sweep that saw the whole fleet says.",
);
pub const UNITS_PARKED: Metric = metric(
    "forerunner.units.parked",
    "{unit}",
    Kind::Gauge,
    &[],
    "Units that are parked, as the last sweep read it.",
);
pub const BRAKE_HOLDS: Metric = metric(
    "forerunner.brake.holds",
    "{unit}",
    Kind::Gauge,
    &[],
    "Units whose removal the brake holds; 0 while it is free.",
);
pub const TOKEN_DAYS: Metric = metric(
    "forerunner.token.lifetime",
    "d",
    Kind::Gauge,
    &[],
    "Days until forerunner's own GitLab token expires; missing where it has no end.",
);
pub const DEAD_LETTERS: Metric = metric(
    "forerunner.dead_letters",
    "{message}",
    Kind::Counter,
    &[],
    "Messages that the broker gave up on.",
);
pub const FOREIGN_MESSAGES: Metric = metric(
    "forerunner.foreign_messages",
    "{message}",
    Kind::Counter,
    &[FUNCTION],
    "What was on our queues and is no message of ours: it is kept for a person.",
);

/// In the order of the page.
pub const ALL: [Metric; 23] = [
    INVOCATIONS,
    INVOCATION_DURATION,
    HOOKS,
    ROUNDS,
    ROUND_DURATION,
    DRIFT,
    HOOK_TO_ONLINE,
    QUEUE_AGE,
    CALLS,
    CALL_DURATION,
    QUOTA_REMAINING,
    SWEEPS,
    SWEEP_DURATION,
    SWEEP_WOKEN,
    SWEEP_STALENESS,
    SLICE_STALENESS,
    UNITS,
    FINDINGS,
    UNITS_PARKED,
    BRAKE_HOLDS,
    TOKEN_DAYS,
    DEAD_LETTERS,
    FOREIGN_MESSAGES,
];
