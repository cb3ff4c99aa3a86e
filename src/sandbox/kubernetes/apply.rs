//! Server-side apply, and who owns which field after any write.
//! Source: <https://kubernetes.io/docs/reference/using-api/server-side-apply/>, runner-on-kubernetes.md §9.

use super::{
    fields::{self, Fields, Path},
    kinds::Kind,
    merge,
    status::Status,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One entry of `managedFields`.
#[derive(Clone, Debug, PartialEq)]
struct Manager {
    name: String,
    /// `Apply` or `Update`.
    operation: String,
    api_version: String,
    time: String,
    fields: Fields,
}

impl Manager {
    fn is(&self, name: &str, operation: &str) -> bool {
        self.name == name && self.operation == operation
    }

    fn display(&self) -> String {
        match self.operation.as_str() {
            "Update" => format!("\"{}\" using {} at {}", self.name, self.api_version, self.time),
            _ => format!("\"{}\"", self.name),
        }
    }
}

/// What the object becomes when `manager` applies `config` over `live` (missing: it is made).
///
/// Fields the manager applied before and does not now go, unless another owns them. Errors: 409 without `force`
/// where another owns a field that would change.
pub(super) fn apply(
    live: Option<&Value>,
    config: &Value,
    kind: &Kind,
    manager: &str,
    force: bool,
    now: Timestamp,
) -> Result<Value, Status> {
    let empty = json!({});
    let old = live.unwrap_or(&empty);
    let mut managers = read_managers(old);
    let asked = members(config, kind);
    let before: Fields = managers
        .iter()
        .find(|entry| entry.is(manager, "Apply"))
        .map(|entry| entry.fields.clone())
        .unwrap_or_default();
    managers.retain(|entry| !entry.is(manager, "Apply"));

    let mut merged = merge::merge(old, config, kind.fields());
    let mut dropped: Vec<Path> =
        before.paths().into_iter().filter(|path| !asked.contains(path)).collect();
    dropped.sort_by_key(|path| std::cmp::Reverse(path.len()));
    for path in dropped {
        let kept = asked.touches(&path) || managers.iter().any(|entry| entry.fields.touches(&path));
        if !kept {
            merge::remove(&mut merged, &path, &asked);
        }
    }

    let (changed, gone) = changes(old, &merged, kind);
    let conflicts = conflicts(&managers, &changed);
    if !force && !conflicts.is_empty() {
        return Err(conflict(&conflicts));
    }
    disown(&mut managers, changed.iter().chain(&gone));

    let previous = read_managers(old).into_iter().find(|entry| entry.is(manager, "Apply"));
    let unchanged = changed.is_empty() && gone.is_empty();
    let time = previous
        .filter(|entry| unchanged && entry.fields == asked)
        .map_or_else(|| stamp(now), |entry| entry.time);
    managers.push(Manager {
        name: manager.to_owned(),
        operation: "Apply".to_owned(),
        api_version: kind.api_version(),
        time,
        fields: asked,
    });
    write_managers(&mut merged, &managers);
    Ok(merged)
}

/// Gives the fields that an ordinary write changed to its manager.
pub(super) fn track_update(
    old: Option<&Value>,
    new: &mut Value,
    kind: &Kind,
    manager: &str,
    now: Timestamp,
) {
    let empty = json!({});
    let old = old.unwrap_or(&empty);
    let mut managers = read_managers(old);
    let (changed, gone) = changes(old, new, kind);
    if changed.is_empty() && gone.is_empty() {
        write_managers(new, &managers);
        return;
    }
    let own = managers.iter().position(|entry| entry.is(manager, "Update"));
    let mut own = own.map(|at| managers.remove(at)).unwrap_or_else(|| Manager {
        name: manager.to_owned(),
        operation: "Update".to_owned(),
        api_version: kind.api_version(),
        time: String::new(),
        fields: Fields::default(),
    });
    disown(&mut managers, changed.iter().chain(&gone));
    gone.iter().for_each(|path| own.fields.remove(path));
    changed.iter().for_each(|path| own.fields.insert(path));
    own.time = stamp(now);
    managers.push(own);
    write_managers(new, &managers);
}

fn members(config: &Value, kind: &Kind) -> Fields {
    let mut set = Fields::default();
    fields::leaves(config, kind.fields()).keys().for_each(|path| set.insert(path));
    set
}

/// Fields that are new or have another value, and fields that are no more.
fn changes(old: &Value, new: &Value, kind: &Kind) -> (Vec<Path>, Vec<Path>) {
    let before: BTreeMap<Path, Option<Value>> = fields::leaves(old, kind.fields());
    let after = fields::leaves(new, kind.fields());
    let changed = after
        .iter()
        .filter(|(path, value)| before.get(*path) != Some(value))
        .map(|(path, _)| path.clone());
    let gone = before.keys().filter(|path| !after.contains_key(*path)).cloned();
    (changed.collect(), gone.collect())
}

fn conflicts(managers: &[Manager], changed: &[Path]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in managers {
        for path in changed.iter().filter(|path| entry.fields.contains(path)) {
            found.push((entry.display(), fields::display(path)));
        }
    }
    found
}

fn conflict(conflicts: &[(String, String)]) -> Status {
    let mut by_manager: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (manager, field) in conflicts {
        by_manager.entry(manager).or_default().push(field);
    }
    let parts: Vec<String> = by_manager
        .iter()
        .map(|(manager, fields)| match fields.as_slice() {
            [one] => format!("conflict with {manager}: {one}"),
            several => format!("conflicts with {manager}:\n- {}", several.join("\n- ")),
        })
        .collect();
    let plural = if conflicts.len() == 1 { "" } else { "s" };
    let message =
        format!("Apply failed with {} conflict{plural}: {}", conflicts.len(), parts.join("\n"));
    Status::apply_conflict(message, conflicts)
}

fn disown<'a>(managers: &mut [Manager], paths: impl Iterator<Item = &'a Path>) {
    for path in paths {
        managers.iter_mut().for_each(|entry| entry.fields.remove(path));
    }
}

fn read_managers(object: &Value) -> Vec<Manager> {
    let entries = object["metadata"]["managedFields"].as_array();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    let read = |entry: &Value| Manager {
        name: text(entry, "manager"),
        operation: text(entry, "operation"),
        api_version: text(entry, "apiVersion"),
        time: text(entry, "time"),
        fields: Fields::from_json(&entry["fieldsV1"]),
    };
    entries.into_iter().flatten().map(read).collect()
}

fn write_managers(object: &mut Value, managers: &[Manager]) {
    let mut managers: Vec<&Manager> =
        managers.iter().filter(|entry| !entry.fields.is_empty()).collect();
    managers.sort_by_key(|entry| (&entry.operation, &entry.name));
    let entries: Vec<Value> = managers
        .iter()
        .map(|entry| {
            json!({
                "manager": entry.name, "operation": entry.operation,
                "apiVersion": entry.api_version, "time": entry.time,
                "fieldsType": "FieldsV1", "fieldsV1": entry.fields.to_json(),
            })
        })
        .collect();
    if entries.is_empty() {
        if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("managedFields");
        }
        return;
    }
    object["metadata"]["managedFields"] = entries.into();
}

/// Seconds, as the API writes times.
pub(super) fn stamp(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
