//! What the sandbox shows of a real cluster, and sees of it: copies of the objects, looked at again and again.

use super::{
    super::{
        Confinement, Kubernetes,
        apply::stamp,
        kinds::{self, Kind},
        pods,
        store::{Key, State},
    },
    Real, node,
    server::Refusal,
};
use futures::future::try_join_all;
use jiff::Timestamp;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
};

/// What is copied.
const PLURALS: [&str; 7] = [
    "namespaces",
    "pods",
    "secrets",
    "serviceaccounts",
    "configmaps",
    "deployments",
    "rolebindings",
];

/// What one look found.
pub(super) struct Look {
    pub(super) changed: bool,
    /// A controller, or our node, has something to do.
    pub(super) busy: bool,
    /// Of all that was seen.
    pub(super) versions: u64,
}

/// Where the objects of a kind are; `namespace` is empty for all, and for the cluster's own.
pub(super) fn path(kind: &Kind, namespace: &str) -> String {
    let root = match kind.group {
        "" => format!("/api/{}", kind.version),
        group => format!("/apis/{group}/{}", kind.version),
    };
    match namespace {
        "" => format!("{root}/{}", kind.plural),
        namespace => format!("{root}/namespaces/{namespace}/{}", kind.plural),
    }
}

pub(super) async fn look(
    real: &Real,
    kubernetes: &Kubernetes,
    now: Timestamp,
) -> Result<Look, Refusal> {
    let lists = PLURALS.iter().filter_map(|plural| kinds::find_by_plural(plural));
    let lists = try_join_all(lists.map(|kind| async move {
        let list = real.server.get(&path(kind, "")).await?;
        Ok::<_, Refusal>((kind, list["items"].as_array().cloned().unwrap_or_default()))
    }))
    .await?;
    let (mut changed, parts, busy) = {
        let mut state = kubernetes.state();
        let mut changed = false;
        for (kind, items) in lists {
            let items = items.into_iter().filter(|item| is_ours(&state, kind, item)).collect();
            changed |= copy(&mut state, kind, items, now);
        }
        let parts = if real.plays_node { parts(&state, real, now) } else { Vec::new() };
        (changed, parts, is_busy(&state))
    };
    for (pod, part) in &parts {
        node::play(&real.server, pod, part, now).await?;
        changed = true;
    }
    let versions = versions(&kubernetes.state());
    Ok(Look { changed, busy: busy || !parts.is_empty(), versions })
}

/// In a namespace of the sandbox's fleet: others may share the cluster. Namespaces come first in `PLURALS`.
fn is_ours(state: &State, kind: &Kind, object: &Value) -> bool {
    let Some(Confinement { fleet_label, fleet, .. }) = &state.settings.confinement else {
        return false;
    };
    let label = |of: &Value| of["metadata"]["labels"][fleet_label.as_str()] == fleet.as_str();
    if kind.plural == "namespaces" {
        return label(object);
    }
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    state.find("namespaces", "", namespace).is_some_and(label)
}

/// Stores what is there and forgets what is not; whether anything was new.
fn copy(state: &mut State, kind: &'static Kind, items: Vec<Value>, now: Timestamp) -> bool {
    let mut changed = false;
    let mut present = BTreeSet::new();
    for mut object in items {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (namespace, name) =
            (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.into();
        let key = Key::new(kind.plural, &namespace, &name);
        if kind.plural == "pods" {
            in_our_time(state, &mut object, now);
        }
        changed |= state.copy(key.clone(), object, now);
        present.insert(key);
    }
    let gone = state.objects().map(|(key, _)| key).filter(|key| key.plural == kind.plural);
    let gone: Vec<Key> = gone.filter(|key| !present.contains(key)).cloned().collect();
    for key in &gone {
        state.forget(key);
    }
    changed || !gone.is_empty()
}

/// The sandbox's clock is ahead of the server's: the end of a pod's grace counts from when we first saw it told.
fn in_our_time(state: &State, pod: &mut Value, now: Timestamp) {
    if pod["metadata"]["deletionTimestamp"].is_null() {
        return;
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    let known = state.find("pods", &namespace, &name);
    let known = known.filter(|known| known["metadata"]["uid"] == pod["metadata"]["uid"]);
    let known = known.map(|known| known["metadata"]["deletionTimestamp"].clone());
    pod["metadata"]["deletionTimestamp"] =
        known.filter(|at| !at.is_null()).unwrap_or_else(|| stamp(node::deadline(pod, now)).into());
}

fn parts(state: &State, real: &Real, now: Timestamp) -> Vec<(Value, node::Part)> {
    let exited = &real.seen().exited;
    let pods = state.list("pods", None);
    pods.filter_map(|pod| Some((pod.clone(), node::part(pod, state, exited, now)?))).collect()
}

/// Whether the cluster's own controllers have something to do.
fn is_busy(state: &State) -> bool {
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let rolling = state.list("deployments", None).any(|deployment| {
        let (status, wanted) = (&deployment["status"], number(&deployment["spec"]["replicas"]));
        number(&status["observedGeneration"]) < number(&deployment["metadata"]["generation"])
            || number(&status["readyReplicas"]) != wanted
            || number(&status["updatedReplicas"]) != wanted
    });
    let ending = state
        .list("namespaces", None)
        .any(|namespace| !namespace["metadata"]["deletionTimestamp"].is_null());
    rolling || ending
}

fn versions(state: &State) -> u64 {
    let mut hasher = DefaultHasher::new();
    for (key, object) in state.objects() {
        (&key.namespace, &key.name).hash(&mut hasher);
        object["metadata"]["resourceVersion"].as_str().hash(&mut hasher);
    }
    hasher.finish()
}

impl State {
    /// Stores an object as another server has it; whether that is new here.
    fn copy(&mut self, key: Key, object: Value, now: Timestamp) -> bool {
        let before = self.find(key.plural, &key.namespace, &key.name);
        if before.is_some_and(|before| before == &object) {
            return false;
        }
        if key.plural == "secrets" {
            self.remember_secret(&key, &object, now);
        }
        if key.plural == "pods" && pods::started(&object).is_some() {
            let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
            self.mounted.entry(uid).or_insert(now);
        }
        self.insert(key, object);
        true
    }
}
