//! Whether a live object is still what we applied. Only fields we send count: what the server defaults, a controller
//! writes or a cluster's policy adds is not drift (runner-on-kubernetes.md §9.2).

use super::{metadata::annotate, quantity};
use crate::domain::{kubernetes::Object, names};
use serde_json::Value;

/// Writes the digest of the object's own content into its annotation. Last, before it is applied.
pub fn stamp(object: &mut Object) {
    let digest = digest(object);
    annotate(object, names::ANNOTATION_APPLIED, &digest);
}

/// None if the live object carries the digest of `desired` (stamped or not) and every field of it. Otherwise the first
/// path that differs, without values: a Secret's would be its content.
pub fn differs(desired: &Object, live: &Object) -> Option<String> {
    // Lists leave the first two out of their items; nobody applies a status.
    let own = |key: &str| !["apiVersion", "kind", "status"].contains(&key);
    let fields = desired.body.as_object().into_iter().flatten().filter(|(key, _)| own(key));
    let rule = Rule { whole: false, quantities: false };
    let edited = fields.into_iter().find_map(|(key, wanted)| match live.body.get(key) {
        Some(live) => field(key, wanted, live, rule.below(key)),
        None => Some(key.clone()),
    });
    let applied = live.annotation(names::ANNOTATION_APPLIED);
    let path = || format!("metadata.annotations[{}]", names::ANNOTATION_APPLIED);
    let stale = || (applied != Some(&digest(desired))).then(path);
    edited.or_else(stale)
}

fn digest(object: &Object) -> String {
    let mut body = object.body.clone();
    let metadata = body.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(metadata) = metadata
        && let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut)
    {
        annotations.remove(names::ANNOTATION_APPLIED);
        if annotations.is_empty() {
            metadata.remove("annotations");
        }
    }
    names::hash(&body.to_string()) // maps are in order of their keys
}

/// How the values below a path are compared.
#[derive(Clone, Copy)]
struct Rule {
    /// Whether more than we sent is a difference: in lists and maps that Kubernetes replaces as a whole.
    whole: bool,
    /// Whether texts are quantities.
    quantities: bool,
}

impl Rule {
    fn below(self, key: &str) -> Self {
        let whole = ["nodeSelector", "podSelector", "namespaceSelector", "selector", "roleRef"]
            .contains(&key);
        let quantities =
            ["hard", "limits", "requests", "default", "defaultRequest", "sizeLimit"].contains(&key);
        Self { whole: self.whole || whole, quantities: self.quantities || quantities }
    }
}

fn field(path: &str, wanted: &Value, live: &Value, rule: Rule) -> Option<String> {
    match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            let below = |key: &str| {
                if key.contains(['.', '/']) {
                    format!("{path}[{key}]")
                } else {
                    format!("{path}.{key}")
                }
            };
            let edited = wanted.iter().find_map(|(key, wanted)| match live.get(key) {
                Some(live) => field(&below(key), wanted, live, rule.below(key)),
                None => Some(below(key)),
            });
            let added = || live.keys().find(|key| rule.whole && !wanted.contains_key(*key));
            edited.or_else(|| added().map(|key| below(key)))
        }
        (Value::Array(wanted), Value::Array(live)) => list(path, wanted, live, rule),
        (Value::String(wanted), Value::String(live)) if rule.quantities => {
            (!quantity::equal(wanted, live)).then(|| path.to_owned())
        }
        (wanted, live) => (wanted != live).then(|| path.to_owned()),
    }
}

fn list(path: &str, wanted: &[Value], live: &[Value], rule: Rule) -> Option<String> {
    let keys = if rule.whole { &[][..] } else { keys_of(path) };
    if keys.is_empty() {
        let whole = Rule { whole: true, ..rule };
        let pairs = wanted.iter().zip(live).enumerate();
        let edited = pairs.into_iter().find_map(|(index, (wanted, live))| {
            field(&format!("{path}[{index}]"), wanted, live, whole)
        });
        return edited.or_else(|| (wanted.len() != live.len()).then(|| path.to_owned()));
    }
    wanted.iter().find_map(|wanted| {
        let same = |live: &&Value| keys.iter().all(|key| live[key] == wanted[key]);
        let below = format!("{path}[{}]", wanted[keys[0]].to_string().trim_matches('"'));
        match live.iter().find(same) {
            Some(live) => field(&below, wanted, live, rule),
            None => Some(below),
        }
    })
}

/// What tells one element from another in the lists that Kubernetes merges; none for those it replaces.
fn keys_of(path: &str) -> &'static [&'static str] {
    match path.rsplit('.').next().unwrap_or_default() {
        "containers" | "initContainers" | "env" | "volumes" | "imagePullSecrets" => &["name"],
        "ports" => &["containerPort", "protocol"],
        "volumeMounts" => &["mountPath"],
        "hostAliases" => &["ip"],
        _ => &[],
    }
}
