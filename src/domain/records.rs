//! The small ConfigMaps that forerunner keeps beside the managers: the ledger, and what is told of each unit.

use super::{
    kubernetes::{Kind, Object, ObjectName},
    ledger::{Book, Ledger},
    names,
    render::Context,
    status::Status,
};
use serde_json::json;

/// Tells the kinds of record apart.
pub const LABEL_RECORD: &str = "forerunner.dev/record";
pub const RECORD_STATUS: &str = "status";
const RECORD_LEDGER: &str = "ledger";
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

/// A unit's status.
pub fn status(context: &Context<'_>, status: &Status) -> Object {
    let text = serde_json::to_string(status).expect("a status is plain data");
    record(context, &names::status_map(&status.unit), RECORD_STATUS, &text)
}

/// Reads a status back; what cannot be read is lost history.
pub fn read_status(object: &Object) -> Option<Status> {
    serde_json::from_str(object.body["data"][DATA].as_str()?).ok()
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
