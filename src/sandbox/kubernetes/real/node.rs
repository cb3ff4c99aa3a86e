//! A node where there is none: pods are bound to it, run as soon as what they mount is there, and end.

use super::{
    super::{pods, store::State},
    server::{Refusal, Server},
};
use crate::sandbox::kubernetes::apply::stamp;
use jiff::{SignedDuration, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub(super) const NODE: &str = "sandbox-node";

/// What a node does next for one pod.
pub(super) enum Part {
    Bind,
    Start,
    Remove,
}

pub(super) async fn join(server: &Server, now: Timestamp) -> Result<(), Refusal> {
    let made = server
        .post(
            "/api/v1/nodes",
            &json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": NODE, "labels": {"kubernetes.io/os": "linux", "kubernetes.io/hostname": NODE}},
            }),
        )
        .await;
    match made {
        Err(refusal) if refusal.status != 409 => return Err(refusal),
        Ok(_) | Err(_) => {}
    }
    let room = json!({"cpu": "64", "memory": "256Gi", "ephemeral-storage": "1Ti", "pods": "500"});
    let status = json!({"status": {
        "capacity": room, "allocatable": room,
        "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady",
            "lastHeartbeatTime": stamp(now), "lastTransitionTime": stamp(now)}],
        "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
    }});
    server.merge(&format!("/api/v1/nodes/{NODE}/status"), &status).await.map(drop)
}

/// Nothing to do: it runs, or it waits for a node or for what it mounts, or its process is told to stop.
pub(super) fn part(
    pod: &Value,
    state: &State,
    exited: &BTreeSet<String>,
    now: Timestamp,
) -> Option<Part> {
    let node = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    let ending = !pod["metadata"]["deletionTimestamp"].is_null();
    if ending {
        let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
        let managed = pod["metadata"]["ownerReferences"].is_array();
        let killed = pod["metadata"]["deletionTimestamp"].as_str().and_then(|at| at.parse().ok());
        let killed = killed.is_some_and(|at: Timestamp| at <= now);
        let over = pods::started(pod).is_none() || !managed || exited.contains(uid) || killed;
        return over.then_some(Part::Remove);
    }
    if node.is_empty() {
        // What the cluster's scheduler says of it then stands.
        return (!state.faults.unschedulable).then_some(Part::Bind);
    }
    let ours = node == NODE && pods::started(pod).is_none();
    let phase = pod["status"]["phase"].as_str().unwrap_or("Pending");
    (ours && phase == "Pending" && has_mounts(pod, state)).then_some(Part::Start)
}

/// The Secrets it mounts are there.
fn has_mounts(pod: &Value, state: &State) -> bool {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or_default();
    pods::secrets_of(pod).all(|secret| state.find("secrets", namespace, secret).is_some())
}

/// Errors: a pod that is gone by now, or was bound by somebody else, is none.
pub(super) async fn play(
    server: &Server,
    pod: &Value,
    part: &Part,
    now: Timestamp,
) -> Result<(), Refusal> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
    let done = match part {
        Part::Bind => {
            let binding = json!({
                "apiVersion": "v1", "kind": "Binding", "metadata": {"name": name, "namespace": namespace},
                "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
            });
            server.post(&format!("{path}/binding"), &binding).await
        }
        Part::Start => {
            let status = json!({"status": pods::running(pod, now)});
            server.merge(&format!("{path}/status"), &status).await
        }
        Part::Remove => {
            let options = json!({
                "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
                "preconditions": {"uid": pod["metadata"]["uid"]},
            });
            server.call(Method::DELETE, &path, "application/json", Some(&options)).await
        }
    };
    match done {
        Err(refusal) if refusal.status != 404 && refusal.status != 409 => Err(refusal),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// When a pod that was told to stop at `now` is killed.
pub(super) fn deadline(pod: &Value, now: Timestamp) -> Timestamp {
    let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(30);
    now.saturating_add(SignedDuration::from_secs(grace)).unwrap_or(Timestamp::MAX)
}
