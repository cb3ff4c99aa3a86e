//! The kubelet: pods are scheduled, start, get Ready, and stop after their grace period.

use super::{
    apply::stamp,
    store::{Key, State, Task, after},
    verbs,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

/// What goes wrong on the nodes.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Images that contain this text cannot be pulled.
    pub(super) unpullable: Option<String>,
    /// Containers of images that contain this text end at once, again and again.
    pub(super) crashing: Option<String>,
    /// No node has room.
    pub(super) unschedulable: bool,
}

/// A pod that has not started because something it mounts is not there.
pub(super) fn waits_for_mount(pod: &Value) -> bool {
    let statuses = pod["status"]["containerStatuses"].as_array();
    pod["status"]["startTime"].is_string()
        && statuses.is_some_and(|statuses| {
            statuses
                .iter()
                .any(|status| status["state"]["waiting"]["reason"] == "ContainerCreating")
        })
}

/// Whether a pod of the namespace has its volumes already, the Secret among them. One that still waits for the Secret
/// gets the present content when it mounts it.
pub(super) fn is_mounted(state: &State, namespace: &str, secret: &str) -> bool {
    state.list("pods", Some(namespace)).any(|pod| {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        state.mounted.contains_key(uid) && secrets_of(pod).any(|name| name == secret)
    })
}

/// Names of the Secrets a pod mounts.
pub(super) fn secrets_of(pod: &Value) -> impl Iterator<Item = &str> {
    let volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
    volumes.filter_map(|volume| volume["secret"]["secretName"].as_str())
}

/// When its container came up, if it is up.
pub(super) fn started(pod: &Value) -> Option<Timestamp> {
    let state = &pod["status"]["containerStatuses"][0]["state"];
    state["running"]["startedAt"].as_str()?.parse().ok()
}

pub(super) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    })
}

/// One look at a pod that is not up yet.
pub(super) fn start(state: &mut State, namespace: &str, name: &str, now: Timestamp) {
    let key = Key::new("pods", namespace, name);
    let Some(pod) = state.find("pods", namespace, name).cloned() else { return };
    if started(&pod).is_some() || !pod["metadata"]["deletionTimestamp"].is_null() {
        return;
    }
    if state.faults.unschedulable {
        let message = "0/3 nodes are available: 3 Insufficient cpu.";
        let condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": message,
        });
        let status = json!({"phase": "Pending", "conditions": [condition]});
        set_status(state, &key, pod, status, now);
        warn(state, &key, "FailedScheduling", message, now);
        return;
    }
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
    let Some(mounted) = state.mounted.get(uid).copied() else {
        mount(state, &key, pod, now);
        return;
    };
    let starts = after(mounted, state.settings.start_delay);
    if now < starts {
        // Something else, such as another Secret, made the kubelet look before its time.
        state.schedule(Task::StartPod(key.namespace, key.name), starts);
        return;
    }
    let image = pod["spec"]["containers"][0]["image"].as_str().unwrap_or_default().to_owned();
    let hit = |fault: &Option<String>| fault.as_ref().is_some_and(|text| image.contains(text));
    if hit(&state.faults.unpullable) {
        let message = format!("Back-off pulling image \"{image}\"");
        let status = waiting(&pod, now, "ImagePullBackOff", &message);
        set_status(state, &key, pod, status, now);
        warn(state, &key, "Failed", &format!("Failed to pull image \"{image}\": not found"), now);
        return;
    }
    if hit(&state.faults.crashing) {
        let status = crashed(&pod, now);
        set_status(state, &key, pod, status, now);
        warn(state, &key, "BackOff", "Back-off restarting failed container", now);
        return;
    }
    let status = running(&pod, now);
    set_status(state, &key, pod, status, now);
}

/// A real kubelet tries a failed mount again after a growing pause of up to about two minutes; here the Secret's
/// appearance alone is what makes it try, at once.
fn mount(state: &mut State, key: &Key, pod: Value, now: Timestamp) {
    let Some((volume, secret)) = missing_volume(state, &pod) else {
        begin(state, key, pod, now);
        return;
    };
    let status = waiting(&pod, now, "ContainerCreating", "");
    set_status(state, key, pod, status, now);
    let message =
        format!("MountVolume.SetUp failed for volume \"{volume}\" : secret \"{secret}\" not found");
    warn(state, key, "FailedMount", &message, now);
}

/// Everything is mounted: the containers start after the delay.
fn begin(state: &mut State, key: &Key, pod: Value, now: Timestamp) {
    let uid = pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    state.mounted.insert(uid, now);
    let status = waiting(&pod, now, "ContainerCreating", "");
    set_status(state, key, pod, status, now);
    let delay = state.settings.start_delay;
    state.schedule_in(Task::StartPod(key.namespace.clone(), key.name.clone()), delay, now);
}

/// Volume and Secret that keep the pod from starting.
fn missing_volume(state: &State, pod: &Value) -> Option<(String, String)> {
    let namespace = pod["metadata"]["namespace"].as_str()?;
    let volumes = pod["spec"]["volumes"].as_array()?;
    volumes.iter().find_map(|volume| {
        let secret = volume["secret"]["secretName"].as_str()?;
        let absent = volume["secret"]["optional"] != true
            && state.find("secrets", namespace, secret).is_none();
        absent.then(|| (volume["name"].as_str().unwrap_or_default().to_owned(), secret.to_owned()))
    })
}

fn set_status(state: &mut State, key: &Key, mut pod: Value, status: Value, now: Timestamp) {
    if status["startTime"].is_string() {
        pod["spec"]["nodeName"] = json!("aks-nodepool1-00000000-vmss000000");
    }
    pod["status"] = status;
    state.put_changed(key.clone(), pod, now);
}

fn conditions(ready: bool, now: Timestamp) -> Value {
    let status = if ready { "True" } else { "False" };
    let condition = |name: &str, status: &str| json!({"type": name, "status": status, "lastTransitionTime": stamp(now)});
    json!([
        condition("PodScheduled", "True"),
        condition("Initialized", "True"),
        condition("ContainersReady", status),
        condition("Ready", status),
    ])
}

/// The status of each container is made by `each` from its name and image.
fn status_of(
    pod: &Value,
    now: Timestamp,
    phase: &str,
    ready: bool,
    each: impl Fn() -> Value,
) -> Value {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let statuses: Vec<Value> = containers
        .map(|container| {
            let mut status = each();
            status["name"] = container["name"].clone();
            status["image"] = container["image"].clone();
            status["ready"] = ready.into();
            status
        })
        .collect();
    let start = match pod["status"]["startTime"].as_str() {
        Some(start) => start.to_owned(),
        None => stamp(now),
    };
    // A status that only repeats itself keeps its times.
    let conditions = if is_ready(pod) == ready && pod["status"]["conditions"][3].is_object() {
        pod["status"]["conditions"].clone()
    } else {
        conditions(ready, now)
    };
    json!({
        "phase": phase, "startTime": start, "conditions": conditions, "qosClass": "Burstable",
        "containerStatuses": statuses,
    })
}

fn waiting(pod: &Value, now: Timestamp, reason: &str, message: &str) -> Value {
    status_of(pod, now, "Pending", false, || {
        let mut state = json!({"waiting": {"reason": reason}});
        if !message.is_empty() {
            state["waiting"]["message"] = message.into();
        }
        json!({"state": state, "restartCount": 0, "started": false})
    })
}

pub(super) fn running(pod: &Value, now: Timestamp) -> Value {
    status_of(
        pod,
        now,
        "Running",
        true,
        || json!({"state": {"running": {"startedAt": stamp(now)}}, "restartCount": 0, "started": true}),
    )
}

fn crashed(pod: &Value, now: Timestamp) -> Value {
    let restarts = pod["status"]["containerStatuses"][0]["restartCount"].as_u64().unwrap_or(0) + 1;
    // Nothing wrote into the termination log; what its output ends with shows only where that is asked for.
    let shown = pod["spec"]["containers"][0]["terminationMessagePolicy"] == "FallbackToLogsOnError";
    status_of(pod, now, "Running", false, || {
        let mut ended = json!({
            "exitCode": 1, "reason": "Error", "finishedAt": stamp(now), "startedAt": stamp(now),
        });
        if shown {
            ended["message"] = "it starts\nFATAL: the container ended at once\n".into();
        }
        json!({
            "state": {"waiting": {"reason": "CrashLoopBackOff",
                "message": "back-off 5m0s restarting failed container"}},
            "lastState": {"terminated": ended}, "restartCount": restarts, "started": false,
        })
    })
}

/// Writes a warning event about a pod, or counts up the one that is there.
pub(super) fn warn(state: &mut State, about: &Key, reason: &str, message: &str, now: Timestamp) {
    let Some(pod) = state.find(about.plural, &about.namespace, &about.name) else { return };
    let name = format!("{}.{}", about.name, reason.to_lowercase());
    let key = Key::new("events", &about.namespace, &name);
    let involved = json!({
        "apiVersion": "v1", "kind": pod["kind"], "namespace": about.namespace,
        "name": about.name, "uid": pod["metadata"]["uid"],
    });
    if let Some(mut event) = state.find("events", &about.namespace, &name).cloned() {
        event["count"] = (event["count"].as_u64().unwrap_or(0) + 1).into();
        event["lastTimestamp"] = stamp(now).into();
        event["message"] = message.into();
        state.put(key, event, now);
        return;
    }
    let event = json!({
        "apiVersion": "v1", "kind": "Event",
        "metadata": {"name": name, "namespace": about.namespace},
        "involvedObject": involved, "reason": reason, "message": message, "type": "Warning",
        "count": 1, "firstTimestamp": stamp(now), "lastTimestamp": stamp(now),
        "source": {"component": "kubelet"}, "reportingComponent": "kubelet",
    });
    verbs::store_new(state, key, event, now);
}

/// Begins to stop a pod; one that never ran is gone at once.
pub(super) fn delete(state: &mut State, key: &Key, grace: Option<u64>, now: Timestamp) {
    let Some(mut pod) = state.find("pods", &key.namespace, &key.name).cloned() else { return };
    let grace =
        grace.or_else(|| pod["spec"]["terminationGracePeriodSeconds"].as_u64()).unwrap_or(30);
    if started(&pod).is_none() || grace == 0 {
        state.remove(key, now);
        return;
    }
    let task = Task::StopPod(key.namespace.clone(), key.name.clone());
    let managed = pod["metadata"]["ownerReferences"].is_array();
    let stops = if managed { grace } else { grace.min(1) };
    if pod["metadata"]["deletionTimestamp"].is_null() {
        let deadline = after(now, Duration::from_secs(grace));
        pod["metadata"]["deletionTimestamp"] = stamp(deadline).into();
        pod["metadata"]["deletionGracePeriodSeconds"] = grace.into();
        state.put(key.clone(), pod, now);
    }
    state.schedule_in(task, Duration::from_secs(stops), now);
}
