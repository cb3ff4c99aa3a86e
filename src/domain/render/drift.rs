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

/// One field that is not as it should be. The values may be anything: who shows them masks them.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference<'a> {
    pub path: String,
    /// Nothing: the field is not to be there.
    pub wanted: Option<&'a Value>,
    pub live: Option<&'a Value>,
}

/// None if the live object carries the digest of `desired` (stamped or not) and every field of it. Otherwise the first
/// path that differs, without values: a Secret's would be its content.
pub fn differs(desired: &Object, live: &Object) -> Option<String> {
    let edited = differences(desired, live).into_iter().next().map(|difference| difference.path);
    let applied = live.annotation(names::ANNOTATION_APPLIED);
    let path = || format!("metadata.annotations[{}]", names::ANNOTATION_APPLIED);
    let stale = || (applied != Some(&digest(desired))).then(path);
    edited.or_else(stale)
}

/// Whether applying a Deployment makes pods anew that run now: another template, or something that the digest alone
/// shows, such as a field that is no longer sent.
pub fn rolls(desired: &Object, live: &Object) -> bool {
    let template = |path: &str| path.starts_with("spec.template");
    let stale = || live.annotation(names::ANNOTATION_APPLIED) != Some(&digest(desired));
    live.body["spec"]["replicas"] != 0
        && (differences(desired, live).iter().any(|one| template(&one.path)) || stale())
}

/// Whether pods of the desired Deployment read again what a process reads only as it begins.
pub fn reads_anew(desired: &Object, live: &Object) -> bool {
    let digest = |object: &Object| {
        let template = &object.body["spec"]["template"]["metadata"]["annotations"];
        template[names::ANNOTATION_RESTART].clone()
    };
    digest(desired) != digest(live)
}

/// Every field of `desired` that the live object lacks or has otherwise, in the order of their keys, and what a list or
/// map that is replaced as a whole holds beyond.
pub fn differences<'a>(desired: &'a Object, live: &'a Object) -> Vec<Difference<'a>> {
    // Lists leave the first two out of their items; nobody applies a status.
    let own = |key: &str| !["apiVersion", "kind", "status"].contains(&key);
    let fields = desired.body.as_object().into_iter().flatten().filter(|(key, _)| own(key));
    let rule = Rule { whole: false, quantities: false };
    let mut found = Vec::new();
    for (key, wanted) in fields {
        match live.body.get(key) {
            Some(live) => field(&mut found, key, wanted, live, rule.below(key)),
            None => found.push(missing(key.clone(), wanted)),
        }
    }
    found
}

/// The same of two values, where more than is wanted is a difference too.
pub fn value_differences<'a>(wanted: &'a Value, live: &'a Value) -> Vec<Difference<'a>> {
    let mut found = Vec::new();
    field(&mut found, "", wanted, live, Rule { whole: true, quantities: false });
    for difference in &mut found {
        difference.path = difference.path.trim_start_matches('.').to_owned();
    }
    found
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

fn missing(path: String, wanted: &Value) -> Difference<'_> {
    Difference { path, wanted: Some(wanted), live: None }
}

fn field<'a>(
    found: &mut Vec<Difference<'a>>,
    path: &str,
    wanted: &'a Value,
    live: &'a Value,
    rule: Rule,
) {
    let differ = match (wanted, live) {
        (Value::Object(wanted), Value::Object(live)) => {
            let below = |key: &str| {
                if key.contains(['.', '/']) {
                    format!("{path}[{key}]")
                } else {
                    format!("{path}.{key}")
                }
            };
            for (key, wanted) in wanted {
                match live.get(key) {
                    Some(live) => field(found, &below(key), wanted, live, rule.below(key)),
                    None => found.push(missing(below(key), wanted)),
                }
            }
            let added = live.iter().filter(|(key, _)| rule.whole && !wanted.contains_key(*key));
            found.extend(added.map(|(key, live)| Difference {
                path: below(key),
                wanted: None,
                live: Some(live),
            }));
            false
        }
        (Value::Array(wanted), Value::Array(live)) => {
            list(found, path, wanted, live, rule);
            false
        }
        (Value::String(wanted), Value::String(live)) if rule.quantities => {
            !quantity::equal(wanted, live)
        }
        (wanted, live) => wanted != live,
    };
    if differ {
        found.push(Difference { path: path.to_owned(), wanted: Some(wanted), live: Some(live) });
    }
}

fn list<'a>(
    found: &mut Vec<Difference<'a>>,
    path: &str,
    wanted: &'a [Value],
    live: &'a [Value],
    rule: Rule,
) {
    let keys = if rule.whole { &[][..] } else { keys_of(path) };
    if keys.is_empty() {
        let whole = Rule { whole: true, ..rule };
        let at = |index: usize| format!("{path}[{index}]");
        for (index, (wanted, live)) in wanted.iter().zip(live).enumerate() {
            field(found, &at(index), wanted, live, whole);
        }
        let both = wanted.len().min(live.len());
        let short = wanted[both..].iter().zip(both..);
        found.extend(short.map(|(wanted, index)| missing(at(index), wanted)));
        let long = live[both..].iter().zip(both..);
        found.extend(long.map(|(live, index)| Difference {
            path: at(index),
            wanted: None,
            live: Some(live),
        }));
        return;
    }
    for wanted in wanted {
        let same = |live: &&Value| keys.iter().all(|key| live[key] == wanted[key]);
        let below = format!("{path}[{}]", wanted[keys[0]].to_string().trim_matches('"'));
        match live.iter().find(same) {
            Some(live) => field(found, &below, wanted, live, rule),
            None => found.push(missing(below, wanted)),
        }
    }
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
