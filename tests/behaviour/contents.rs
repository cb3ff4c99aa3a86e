//! What the fleet's objects say, without what a server, a second making or another token changes.

use crate::harness::{KINDS, Sandbox};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

/// By kind and without records, every object with the fleet's label or in one of its job namespaces.
pub(crate) fn contents(sandbox: &Sandbox) -> Vec<(&'static str, Vec<Value>)> {
    let ours = |object: &Value| {
        let metadata = &object["metadata"];
        let namespace = metadata["namespace"].as_str().unwrap_or_default();
        metadata["labels"]["forerunner.dev/fleet"] == "nonprod"
            || namespace.starts_with("ci-nonprod--")
    };
    let of = |kind| {
        let found = sandbox.world.kubernetes.list(kind, "").into_iter().filter(ours);
        (kind, found.map(content).collect())
    };
    KINDS.into_iter().filter(|kind| *kind != "configmaps").map(of).collect()
}

fn content(mut object: Value) -> Value {
    let metadata = object["metadata"].as_object_mut().unwrap();
    let told = ["labels", "name", "namespace", "going"];
    let annotations: Vec<Value> = metadata
        .get("annotations")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter(|(key, _)| !key.contains("settling-since") && !key.contains("revision"))
        // An account that was made anew holds its place at an existing identity and needs no word of it.
        .filter(|(key, value)| {
            let granted = value.as_str().is_some_and(|value| value.starts_with("granted "));
            !(key.ends_with("/identity-answer") && granted)
        })
        .map(|(key, value)| {
            // Another identity of the same name has other ids.
            let stable =
                !key.ends_with("-id") && !key.contains("applied") && !key.contains("restart");
            json!([key, if stable { value.clone() } else { json!("…") }])
        })
        .collect();
    let going = metadata.contains_key("deletionTimestamp");
    metadata.insert("going".into(), going.into());
    metadata.retain(|key, _| told.contains(&key.as_str()));
    metadata.insert("annotations".into(), json!(annotations));
    object.as_object_mut().unwrap().remove("status");
    if let Some(text) = object["data"]["config.toml"].as_str() {
        object["data"]["config.toml"] = config(text);
    }
    strip(&mut object);
    object
}

/// The manager's file without its entry's id and token; a broken one as it is.
fn config(text: &str) -> Value {
    let text = String::from_utf8(BASE64_STANDARD.decode(text).unwrap()).unwrap();
    let Ok(mut file) = text.parse::<toml::Table>() else { return text.into() };
    let entries = file.get_mut("runners").and_then(|all| all.as_array_mut());
    for entry in entries.into_iter().flatten().filter_map(toml::Value::as_table_mut) {
        for key in ["id", "token"] {
            entry.insert(key.to_owned(), "…".into());
        }
    }
    json!(file)
}

/// The runner's id on job pods, when a manager began anew, and digests of a pod template that hold the restart annotation.
fn strip(object: &mut Value) {
    match object {
        Value::Object(map) => {
            map.remove("forerunner.dev/restarted-at");
            for (key, value) in map.iter_mut() {
                let passing =
                    ["forerunner.dev/restart", "forerunner.dev/applied", "forerunner.dev/runner"];
                if passing.iter().any(|one| key.contains(one)) {
                    *value = json!("…");
                } else {
                    strip(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
