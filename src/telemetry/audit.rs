//! Every write outside as one line that an archive can keep: who asked for it and why, what it changes, and what came of
//! it. `docs/audit.schema.json` is its shape; an event that changes its meaning gets another [`SCHEMA`].

use super::words::Called;
use http::Method;
use jiff::Timestamp;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Serialize;
use std::sync::Arc;
use tracing::{Span, info};

/// Which shape a line has.
pub const SCHEMA: &str = "forerunner.audit/1";
/// By which an archive picks the lines out.
pub const TARGET: &str = "audit";

/// One write, or one try of it: a repeat is another event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Which shape this is: `forerunner.audit/1`.
    schema: &'static str,
    /// Always `audit`.
    target: &'static str,
    /// Always `INFO`.
    level: &'static str,
    /// When the answer came, RFC 3339 in UTC.
    timestamp: String,
    /// What was done, in one line for people.
    message: String,
    /// The fleet's name.
    fleet: Option<String>,
    /// Digest of the `fleet.yaml` in force.
    fleet_digest: Option<String>,
    /// Such as `runner/g42-plan`; null where a write is about the whole fleet.
    unit: Option<String>,
    /// Why the unit was looked at: hook, sweep, command, rotation or follow-up.
    reason: Option<&'static str>,
    /// What began it all: a delivery's id, a sweep's, or an operator's command.
    cause: Option<String>,
    /// Who asked for it, as an operator claims; null where nobody did.
    actor: Option<String>,
    /// The rule of `fleet.yaml` by which a runner is there; null where none gives it any more, and for what runners share.
    rule: Option<String>,
    action: Action,
    /// Which fields it changes, as far as the round saw them before; what may be a secret is masked.
    changes: Vec<Change>,
    call: Call,
    result: Outcome,
    /// 32 hexadecimal digits.
    trace_id: Option<String>,
}

/// What becomes of the thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Action {
    Create,
    Change,
    Delete,
    /// An entry in the ledger.
    Note,
}

/// One field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct Change {
    pub(crate) path: String,
    /// Before; null: it was not there, or was not looked at.
    pub(crate) old: Option<String>,
    /// After; null: it goes.
    pub(crate) new: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct Call {
    /// Such as `gitlab`, `arm` or `kubernetes`.
    service: &'static str,
    method: String,
    /// Without its query.
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
struct Outcome {
    outcome: Word,
    /// Of the answer; null: none came.
    status: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Done,
    Refused,
    /// It may have taken effect: no answer came, or one of failure.
    Unknown,
}

/// Why something is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    pub(crate) fleet: String,
    pub(crate) fleet_digest: String,
    pub(crate) unit: Option<String>,
    pub(crate) reason: Option<&'static str>,
    pub(crate) cause: String,
    pub(crate) actor: Option<String>,
    pub(crate) rule: Option<String>,
}

/// What is written.
#[derive(Clone, Debug)]
pub(crate) struct Deed {
    /// One line for people; never a secret.
    pub(crate) what: String,
    pub(crate) action: Action,
    pub(crate) changes: Vec<Change>,
}

tokio::task_local! {
    static ORIGIN: Arc<Origin>;
    /// `None`: a record of our own, which is no write outside.
    static DEED: Option<Arc<Deed>>;
}

/// Runs what writes for this reason.
pub(crate) async fn because<F: Future>(origin: Origin, work: F) -> F::Output {
    ORIGIN.scope(Arc::new(origin), work).await
}

/// Runs what carries out this deed, in one call or in several.
pub(crate) async fn doing<F: Future>(deed: Deed, work: F) -> F::Output {
    DEED.scope(Some(Arc::new(deed)), work).await
}

/// Runs what writes this into the ledger, as a part of the deed that it is for.
pub(crate) async fn noting<F: Future>(changes: Vec<Change>, work: F) -> F::Output {
    let outer = DEED.try_with(Clone::clone).ok().flatten();
    let what = outer.map_or_else(|| "write the ledger".to_owned(), |deed| deed.what.clone());
    doing(Deed { what, action: Action::Note, changes }, work).await
}

/// Runs what writes down a record that only tells of other writes.
pub(crate) async fn recording<F: Future>(work: F) -> F::Output {
    DEED.scope(None, work).await
}

/// Tells of a call that may have changed something; without a status no answer came.
pub(crate) fn wrote(
    called: Called,
    method: &Method,
    path: &str,
    status: Option<u16>,
    now: Timestamp,
) {
    let outside = match called {
        Called::Gitlab | Called::Arm | Called::Graph | Called::KeyVault | Called::Kubernetes => {
            true
        }
        // Our own queue, tokens for ourselves, and what only tests call.
        Called::ServiceBus | Called::Entra | Called::Other => false,
    };
    let deed = DEED.try_with(Clone::clone).unwrap_or_else(|_| {
        // Nobody said what this is for, and it is told all the same.
        let (what, action) = (format!("{method} {path}"), Action::Change);
        Some(Arc::new(Deed { what, action, changes: vec![] }))
    });
    let Some(deed) = deed.filter(|_| outside) else { return };
    let origin = ORIGIN.try_with(Clone::clone).ok();
    let known = |text: fn(&Origin) -> &str| {
        origin.as_deref().map(|origin| text(origin).to_owned()).filter(|text| !text.is_empty())
    };
    let outcome = match status {
        Some(200..=299) => Word::Done,
        // A redirect is followed by nobody.
        Some(300..=499) => Word::Refused,
        Some(_) | None => Word::Unknown,
    };
    let event = Event {
        schema: SCHEMA,
        target: TARGET,
        level: "INFO",
        timestamp: now.to_string(),
        message: deed.what.clone(),
        fleet: known(|origin| &origin.fleet),
        fleet_digest: known(|origin| &origin.fleet_digest),
        unit: origin.as_ref().and_then(|origin| origin.unit.clone()),
        reason: origin.as_ref().and_then(|origin| origin.reason),
        cause: known(|origin| &origin.cause),
        actor: origin.as_ref().and_then(|origin| origin.actor.clone()),
        rule: origin.as_ref().and_then(|origin| origin.rule.clone()),
        action: deed.action,
        changes: deed.changes.clone(),
        call: Call { service: called.as_str(), method: method.to_string(), path: path.to_owned() },
        result: Outcome { outcome, status },
        trace_id: super::trace_id(&Span::current()),
    };
    let record = serde_json::to_string(&event).expect("an event is plain data");
    info!(target: TARGET, record);
}

/// The JSON Schema of a line.
pub fn schema() -> serde_json::Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<Event>().to_value();
    schema["properties"]["schema"]["const"] = SCHEMA.into();
    schema["properties"]["target"]["const"] = TARGET.into();
    schema
}
