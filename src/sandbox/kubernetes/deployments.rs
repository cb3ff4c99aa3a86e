//! The deployment controller: one pod for each replica, the new one before the old one goes.
//! Source: <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/>, runner-on-kubernetes.md §7.1.

use super::{
    User,
    apply::stamp,
    kinds, pods,
    store::{Key, State, Task, after},
    verbs,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;

/// Whether its pods could not be made at the last look.
pub(super) fn is_refused(deployment: &Value) -> bool {
    find_condition(deployment, "ReplicaFailure").is_some()
}

fn find_condition<'a>(deployment: &'a Value, name: &str) -> Option<&'a Value> {
    deployment["status"]["conditions"]
        .as_array()?
        .iter()
        .find(|condition| condition["type"] == name)
}

/// The pods of a Deployment that are not stopping, those of the present template first.
struct Pods {
    new: Vec<Value>,
    old: Vec<Value>,
}

impl Pods {
    fn of(state: &State, namespace: &str, deployment: &Value, hash: &str) -> Self {
        let uid = &deployment["metadata"]["uid"];
        let stem = format!("{}-", deployment["metadata"]["name"].as_str().unwrap_or_default());
        let sets: Vec<&Value> = state
            .list_named("replicasets", namespace, &stem)
            .filter(|set| set["metadata"]["ownerReferences"][0]["uid"] == *uid)
            .map(|set| &set["metadata"]["uid"])
            .collect();
        let live = state.list_named("pods", namespace, &stem).filter(|pod| {
            pod["metadata"]["deletionTimestamp"].is_null()
                && sets.contains(&&pod["metadata"]["ownerReferences"][0]["uid"])
        });
        let (new, old) =
            live.cloned().partition(|pod| pod["metadata"]["labels"]["pod-template-hash"] == hash);
        Self { new, old }
    }

    fn ready(list: &[Value]) -> usize {
        list.iter().filter(|pod| pods::is_ready(pod)).count()
    }
}

/// One look at a Deployment: at most one pod more or less, then its status.
pub(super) fn roll(state: &mut State, namespace: &str, name: &str, now: Timestamp) {
    let Some(deployment) = state.find("deployments", namespace, name).cloned() else { return };
    let uid = deployment["metadata"]["uid"].clone();
    if !deployment["metadata"]["deletionTimestamp"].is_null() {
        let uid = uid.as_str().unwrap_or_default().to_owned();
        state.schedule(Task::Collect(namespace.to_owned(), uid), now);
        return;
    }
    let spec = &deployment["spec"];
    let replicas = count(&spec["replicas"], 1);
    let hash = template_hash(&spec["template"]);
    let mut refused = None;
    let pods = Pods::of(state, namespace, &deployment, &hash);
    let total = pods.new.len() + pods.old.len();
    let available = Pods::ready(&pods.new) + Pods::ready(&pods.old);
    let (surge, unavailable) = bounds(spec, replicas);
    if pods.new.len() < replicas && total < replicas + surge {
        refused = make_pod(state, &deployment, &hash, now).err();
    } else if pods.new.len() > replicas {
        stop(state, &pods.new[replicas..], now);
    }
    let needed = replicas.saturating_sub(unavailable);
    let missing = pods.new.len() - Pods::ready(&pods.new);
    let mut spare_unready = total.saturating_sub(needed).saturating_sub(missing);
    let mut spare_ready = available.saturating_sub(needed);
    let going: Vec<Value> = pods
        .old
        .iter()
        .filter(|pod| {
            let spare = if pods::is_ready(pod) { &mut spare_ready } else { &mut spare_unready };
            let goes = *spare > 0;
            *spare = spare.saturating_sub(1);
            goes
        })
        .cloned()
        .collect();
    stop(state, &going, now);
    set_status(state, &Key::new("deployments", namespace, name), &hash, refused, now);
}

fn count(value: &Value, default: usize) -> usize {
    value.as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(default)
}

/// How many pods more and fewer than asked for a rollout may have.
fn bounds(spec: &Value, replicas: usize) -> (usize, usize) {
    let strategy = &spec["strategy"];
    if strategy["type"] == "Recreate" {
        return (0, replicas);
    }
    let amount = |value: &Value, up: bool| {
        let percent = value.as_str().and_then(|text| text.strip_suffix('%')?.parse::<usize>().ok());
        match percent {
            Some(percent) if up => (replicas * percent).div_ceil(100),
            Some(percent) => replicas * percent / 100,
            None => count(value, 0),
        }
    };
    let surge = amount(&strategy["rollingUpdate"]["maxSurge"], true);
    let unavailable = amount(&strategy["rollingUpdate"]["maxUnavailable"], false);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

fn template_hash(template: &Value) -> String {
    hex::encode(&Sha256::digest(template.to_string())[..5])
}

/// Makes one pod the way the controller does: through admission.
fn make_pod(
    state: &mut State,
    deployment: &Value,
    hash: &str,
    now: Timestamp,
) -> Result<(), String> {
    let set = replica_set(state, deployment, hash, now);
    let namespace = deployment["metadata"]["namespace"].as_str().unwrap_or_default();
    let template = &set["spec"]["template"];
    let suffix = state.next_suffix();
    let set_name = set["metadata"]["name"].as_str().unwrap_or_default();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("{set_name}-{suffix}"), "generateName": format!("{set_name}-"),
            "namespace": namespace,
            "labels": template["metadata"]["labels"],
            "annotations": template["metadata"]["annotations"],
            "ownerReferences": [owner(&set)],
        },
        "spec": template["spec"],
    });
    let controller = User::service_account("kube-system", "replicaset-controller");
    let call = verbs::Call {
        user: &controller,
        manager: "kube-controller-manager".to_owned(),
        dry_run: false,
        now,
    };
    let made = verbs::create(state, &call, kinds::known("pods"), namespace, pod);
    // A refusal names the stem of the name: the same trouble reads the same at each try.
    let stem = format!("{set_name}-");
    made.map(|_| ()).map_err(|refusal| refusal.message().replace(&format!("{stem}{suffix}"), &stem))
}

fn owner(object: &Value) -> Value {
    json!({
        "apiVersion": object["apiVersion"], "kind": object["kind"],
        "name": object["metadata"]["name"], "uid": object["metadata"]["uid"],
        "controller": true, "blockOwnerDeletion": true,
    })
}

/// The ReplicaSet of the template, made if it is the first time.
fn replica_set(state: &mut State, deployment: &Value, hash: &str, now: Timestamp) -> Value {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let namespace = text(&deployment["metadata"]["namespace"]);
    let name = format!("{}-{hash}", text(&deployment["metadata"]["name"]));
    if let Some(set) = state.find("replicasets", &namespace, &name) {
        return set.clone();
    }
    let mut template = deployment["spec"]["template"].clone();
    template["metadata"]["labels"]["pod-template-hash"] = hash.into();
    let mut selector = deployment["spec"]["selector"].clone();
    selector["matchLabels"]["pod-template-hash"] = hash.into();
    let set = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": name, "namespace": namespace,
            "labels": template["metadata"]["labels"],
            "ownerReferences": [owner(deployment)],
        },
        "spec": {
            "replicas": deployment["spec"]["replicas"], "selector": selector,
            "template": template,
        },
    });
    verbs::store_new(state, Key::new("replicasets", &namespace, &name), set, now)
}

fn stop(state: &mut State, going: &[Value], now: Timestamp) {
    for pod in going {
        let text = |name: &str| pod["metadata"][name].as_str().unwrap_or_default();
        pods::delete(state, &Key::new("pods", text("namespace"), text("name")), None, now);
    }
}

fn set_status(state: &mut State, key: &Key, hash: &str, refused: Option<String>, now: Timestamp) {
    let Some(mut deployment) = state.find("deployments", &key.namespace, &key.name).cloned() else {
        return;
    };
    let pods = Pods::of(state, &key.namespace, &deployment, hash);
    let replicas = count(&deployment["spec"]["replicas"], 1);
    let (_, unavailable) = bounds(&deployment["spec"], replicas);
    let total = pods.new.len() + pods.old.len();
    let ready = Pods::ready(&pods.new) + Pods::ready(&pods.old);
    let done =
        pods.new.len() == replicas && pods.old.is_empty() && Pods::ready(&pods.new) == replicas;

    let mut conditions = Vec::new();
    let available = ready + unavailable >= replicas;
    conditions.push(if available {
        condition(
            "Available",
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        condition(
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    });
    conditions.push(progress(state, &deployment, key, hash, done, now));
    if let Some(why) = refused {
        conditions.push(condition("ReplicaFailure", "True", "FailedCreate", &why));
        let again = Task::RollLater(key.namespace.clone(), key.name.clone());
        state.schedule_in(again, Duration::from_secs(10), now);
    }
    for condition in &mut conditions {
        let name = condition["type"].as_str().unwrap_or_default();
        let before = find_condition(&deployment, name)
            .filter(|before| before["status"] == condition["status"]);
        let since = before.map(|before| before["lastTransitionTime"].clone());
        let updated = before
            .filter(|before| before["reason"] == condition["reason"])
            .map(|before| before["lastUpdateTime"].clone());
        condition["lastTransitionTime"] = since.unwrap_or_else(|| stamp(now).into());
        condition["lastUpdateTime"] = updated.unwrap_or_else(|| stamp(now).into());
    }
    let mut status = json!({
        "observedGeneration": deployment["metadata"]["generation"], "conditions": conditions,
    });
    for (name, number) in [
        ("replicas", total),
        ("updatedReplicas", pods.new.len()),
        ("readyReplicas", ready),
        ("availableReplicas", ready),
        ("unavailableReplicas", replicas.max(total).saturating_sub(ready)),
    ] {
        if number > 0 {
            status[name] = number.into();
        }
    }
    deployment["status"] = status;
    state.put_changed(key.clone(), deployment, now);
}

fn condition(name: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": name, "status": status, "reason": reason, "message": message})
}

/// Progressing, and whether it takes longer than it may.
fn progress(
    state: &mut State,
    deployment: &Value,
    key: &Key,
    hash: &str,
    done: bool,
    now: Timestamp,
) -> Value {
    let set = format!("{}-{hash}", key.name);
    if done {
        let message = format!("ReplicaSet \"{set}\" has successfully progressed.");
        return condition("Progressing", "True", "NewReplicaSetAvailable", &message);
    }
    let began = state
        .find("replicasets", &key.namespace, &set)
        .and_then(|set| set["metadata"]["creationTimestamp"].as_str()?.parse().ok())
        .unwrap_or(now);
    let before = find_condition(deployment, "Progressing");
    // A rollout that was done and has lost its pod since does not count from its first day, but from the first look
    // that missed the pod.
    let since = match before.and_then(|before| before["reason"].as_str()) {
        Some("NewReplicaSetAvailable") => now,
        Some("ReplicaSetUpdated") => {
            let updated = before.and_then(|before| before["lastUpdateTime"].as_str());
            updated.and_then(|time| time.parse().ok()).map_or(began, |time| began.max(time))
        }
        Some(_) | None => began,
    };
    let patience = deployment["spec"]["progressDeadlineSeconds"].as_u64().unwrap_or(600);
    let deadline = after(since, Duration::from_secs(patience));
    if now >= deadline {
        let message = format!("ReplicaSet \"{set}\" has timed out progressing.");
        return condition("Progressing", "False", "ProgressDeadlineExceeded", &message);
    }
    state.schedule(Task::RollLater(key.namespace.clone(), key.name.clone()), deadline);
    let message = format!("ReplicaSet \"{set}\" is progressing.");
    condition("Progressing", "True", "ReplicaSetUpdated", &message)
}

/// Deletes what the owner with this uid left, and the owner itself if it only waited for that.
pub(super) fn collect(state: &mut State, namespace: &str, uid: &str, now: Timestamp) {
    let owned = |object: &Value| object["metadata"]["ownerReferences"][0]["uid"] == uid;
    let key = |plural: &'static str, object: &Value| {
        Key::new(plural, namespace, object["metadata"]["name"].as_str().unwrap_or_default())
    };
    let pods: Vec<Key> = state
        .list("pods", Some(namespace))
        .filter(|pod| owned(pod))
        .map(|pod| key("pods", pod))
        .collect();
    for pod in pods {
        pods::delete(state, &pod, None, now);
    }
    let waiting = state
        .list("deployments", Some(namespace))
        .find(|deployment| deployment["metadata"]["uid"] == uid)
        .map(|deployment| key("deployments", deployment));
    let sets: Vec<(Key, String)> = state
        .list("replicasets", Some(namespace))
        .filter(|set| owned(set))
        .map(|set| {
            let uid = set["metadata"]["uid"].as_str().unwrap_or_default();
            (key("replicasets", set), uid.to_owned())
        })
        .collect();
    let mut left = 0;
    for (set, uid) in sets {
        if waiting.is_some() {
            collect(state, namespace, &uid, now);
            let busy = state
                .list("pods", Some(namespace))
                .any(|pod| pod["metadata"]["ownerReferences"][0]["uid"] == uid.as_str());
            left += usize::from(busy);
            if busy {
                continue;
            }
        }
        state.remove(&set, now);
    }
    if let Some(deployment) = waiting
        && left == 0
    {
        state.remove(&deployment, now);
    }
}
