//! The small ConfigMaps that forerunner keeps beside the managers: the ledger, and what is told of each unit.

use super::{
    fleet_status::FleetStatus,
    ids::Unit,
    kubernetes::{Kind, Object, ObjectName},
    ledger::{Book, Leave, Ledger},
    names,
    render::Context,
    spec::FleetSettings,
    status::Status,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;

/// Tells the kinds of record apart.
pub const LABEL_RECORD: &str = "forerunner.dev/record";
pub const RECORD_STATUS: &str = "status";
pub const RECORD_FLEET: &str = "fleet";
const RECORD_LEDGER: &str = "ledger";
pub const RECORD_FOREIGN: &str = "foreign";
pub const RECORD_PLAN: &str = "plan";
/// The one key of each record's `data`.
const DATA: &str = "record.json";

/// The ledger with this book.
pub fn ledger(context: &Context<'_>, book: &Book) -> Object {
    let text = serde_json::to_string(book).expect("a book is plain data");
    record(context, names::LEDGER, RECORD_LEDGER, &text)
}

/// Reads the ledger back. A missing one is empty; one that cannot be read is `None`: it must not pass for an empty one.
pub fn read_ledger(found: Option<&Object>) -> Option<Ledger> {
    let Some(object) = found else { return Some(Ledger::default()) };
    let book = serde_json::from_str(object.body["data"][DATA].as_str()?).ok()?;
    Some(Ledger { resource_version: Some(object.resource_version()?.to_owned()), book })
}

/// Where the ledger is kept.
pub fn ledger_name(fleet: &FleetSettings) -> ObjectName {
    ObjectName::new(Kind::ConfigMap, &fleet.cluster.managers_namespace, names::LEDGER)
}

/// Removals that the brake holds, until fewer are wanted or an operator confirms them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedPlan {
    /// Digest of the units and reasons: who confirms it confirms these and no others.
    pub id: String,
    pub since: Timestamp,
    pub limit: usize,
    pub wants: BTreeMap<String, Leave>,
}

impl ParkedPlan {
    pub fn new(wants: &BTreeMap<Unit, Leave>, limit: usize, now: Timestamp) -> Self {
        let wants: BTreeMap<String, Leave> =
            wants.iter().map(|(unit, why)| (unit.to_string(), *why)).collect();
        let id = names::hash(&format!("{wants:?}"))[..12].to_owned();
        Self { id, since: now, limit, wants }
    }

    /// What it is, for people.
    pub fn words(&self) -> String {
        let (count, limit) = (self.wants.len(), self.limit);
        format!(
            "{count} unit(s) want removal and the brake lets {limit} go in 24 hours, so none goes"
        )
    }

    /// What lets it go on, for people.
    pub fn remedy(&self) -> String {
        format!("restore what was lost, or: forerunner send confirm --plan {} --why …", self.id)
    }
}

/// The one parked plan.
pub fn plan(context: &Context<'_>, plan: &ParkedPlan) -> Object {
    let text = serde_json::to_string(plan).expect("a plan is plain data");
    record(context, names::PARKED_PLAN, RECORD_PLAN, &text)
}

pub fn read_plan(object: &Object) -> Option<ParkedPlan> {
    serde_json::from_str(object.body["data"][DATA].as_str()?).ok()
}

/// A unit's status.
pub fn status(context: &Context<'_>, status: &Status) -> Object {
    let text = serde_json::to_string(status).expect("a status is plain data");
    record(context, &names::status_map(&status.unit), RECORD_STATUS, &text)
}

/// Reads a status back; what cannot be read is lost history.
pub fn read_status(object: &Object) -> Option<Status> {
    serde_json::from_str(object.body["data"][DATA].as_str()?).ok()
}

/// What sweeps found of the fleet as a whole.
pub fn fleet_status(context: &Context<'_>, status: &FleetStatus) -> Object {
    let text = serde_json::to_string(status).expect("a status is plain data");
    record(context, names::FLEET_STATUS, RECORD_FLEET, &text)
}

/// Reads it back; what cannot be read is lost history.
pub fn read_fleet_status(object: &Object) -> Option<FleetStatus> {
    serde_json::from_str(object.body["data"][DATA].as_str()?).ok()
}

/// A body from our queue that is no message of ours, in a Secret, because it may hold anything.
pub fn foreign(
    context: &Context<'_>,
    function: &str,
    message_id: Option<&str>,
    reason: &str,
    body: &[u8],
) -> Object {
    /// Far above what the queue takes, far below what a Secret holds.
    const KEPT_MAX: usize = 512 * 1024;
    let digest = names::hash(&String::from_utf8_lossy(body));
    let mut object = record(context, &format!("foreign-{}", &digest[..16]), RECORD_FOREIGN, "");
    object.name.kind = Kind::Secret;
    object.body["kind"] = json!("Secret");
    object.body["data"] = json!({
        "body": BASE64_STANDARD.encode(&body[..body.len().min(KEPT_MAX)]),
        "reason": BASE64_STANDARD.encode(reason),
        "function": BASE64_STANDARD.encode(function),
        "messageId": BASE64_STANDARD.encode(message_id.unwrap_or_default()),
    });
    object
}

/// A message that nobody could act on, as it was kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Kept {
    /// Of the Secret.
    pub name: String,
    pub uid: Option<String>,
    pub since: Option<Timestamp>,
    /// The function that received it.
    pub function: String,
    pub message_id: Option<String>,
    pub reason: String,
    /// Unknown bytes: they may hold a secret.
    pub body: Vec<u8>,
}

/// Reads a kept message back; `None` for a Secret that is none.
pub fn read_foreign(object: &Object) -> Option<Kept> {
    let bytes = |key: &str| BASE64_STANDARD.decode(object.body["data"][key].as_str()?).ok();
    let text = |key: &str| Some(String::from_utf8_lossy(&bytes(key)?).into_owned());
    let metadata = &object.body["metadata"];
    Some(Kept {
        name: object.name.name.clone(),
        uid: metadata["uid"].as_str().map(str::to_owned),
        since: metadata["creationTimestamp"].as_str().and_then(|at| at.parse().ok()),
        function: text("function")?,
        message_id: text("messageId").filter(|id| !id.is_empty()),
        reason: text("reason")?,
        body: bytes("body")?,
    })
}

fn record(context: &Context<'_>, name: &str, record: &str, text: &str) -> Object {
    let name = ObjectName::new(Kind::ConfigMap, &context.fleet.cluster.managers_namespace, name);
    let body = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name.name,
            "namespace": name.namespace,
            "labels": {
                names::LABEL_MANAGED_BY: names::MANAGED_BY,
                names::LABEL_FLEET: context.fleet.name.as_str(),
                names::LABEL_INSTALLATION: context.installation.0,
                LABEL_RECORD: record,
            },
        },
        "data": { DATA: text },
    });
    Object { name, body }
}
