//! What the server says about itself: its version and its resources.

use super::{kinds, status::Status};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// `/version`
pub(super) fn version(text: &str) -> Value {
    let mut parts = text.trim_start_matches('v').split('.');
    json!({
        "major": parts.next().unwrap_or_default(), "minor": parts.next().unwrap_or_default(),
        "gitVersion": text, "gitCommit": "", "gitTreeState": "clean", "buildDate": "",
        "goVersion": "", "compiler": "", "platform": "linux/amd64",
    })
}

/// `/api`, `/apis` and what is below them.
pub(super) fn resources(path: &str) -> Result<Value, Status> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        ["api"] => Ok(json!({"kind": "APIVersions", "versions": ["v1"]})),
        ["apis"] => Ok(groups()),
        ["api", version] => list("", version),
        ["apis", group, version] => list(group, version),
        _ => Err(Status::no_such_path()),
    }
}

fn groups() -> Value {
    let named: BTreeSet<(&str, &str)> = kinds::all()
        .filter(|kind| !kind.group.is_empty())
        .map(|kind| (kind.group, kind.version))
        .collect();
    let groups: Vec<Value> = named
        .into_iter()
        .map(|(group, version)| {
            let version = json!({"groupVersion": format!("{group}/{version}"), "version": version});
            json!({"name": group, "versions": [version], "preferredVersion": version})
        })
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

fn list(group: &str, version: &str) -> Result<Value, Status> {
    let resources: Vec<Value> = kinds::all()
        .filter(|kind| kind.group == group && kind.version == version)
        .map(|kind| {
            let verbs: &[&str] = match kind.kind {
                "SelfSubjectAccessReview" => &["create"],
                _ => &["create", "delete", "get", "list", "patch", "update"],
            };
            json!({
                "name": kind.plural, "singularName": kind.kind.to_lowercase(), "kind": kind.kind,
                "namespaced": kind.namespaced, "verbs": verbs,
            })
        })
        .collect();
    if resources.is_empty() {
        return Err(Status::no_such_path());
    }
    let version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    Ok(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version,
        "resources": resources,
    }))
}
