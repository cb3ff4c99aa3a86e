//! What a process in a pod sees: for the simulated runner managers.

use super::{Kubernetes, pods, store::Key, store::State, store::after, tokens};
use base64::Engine;
use jiff::Timestamp;
use serde_json::Value;
use std::collections::BTreeMap;

/// A pod of a Deployment whose container runs.
#[derive(Clone, Debug, PartialEq)]
pub struct ManagerPod {
    pub namespace: String,
    pub name: String,
    pub uid: String,
    /// Name of the Deployment.
    pub deployment: String,
    /// Labels of the Deployment's own metadata.
    pub deployment_labels: BTreeMap<String, String>,
    pub service_account: String,
    /// The first Secret that it mounts.
    pub secret_name: Option<String>,
    /// Of its first container.
    pub image: String,
    pub args: Vec<String>,
    pub started_at: Timestamp,
    /// When it will be killed, if it has been told to stop.
    pub terminating: Option<Timestamp>,
}

/// A Secret as the pods that mount it see it.
#[derive(Clone, PartialEq, Eq)]
pub struct MountedSecret {
    pub resource_version: String,
    pub data: BTreeMap<String, Vec<u8>>,
    /// Since when they see this content.
    pub visible_since: Timestamp,
}

impl Kubernetes {
    /// Pods of Deployments whose container runs, also those that are told to stop.
    pub fn running_manager_pods(&self) -> Vec<ManagerPod> {
        // A cluster with nodes of its own runs what is in its pods.
        if self.real.as_ref().is_some_and(|real| !real.plays_node()) {
            return Vec::new();
        }
        let state = self.state();
        state.list("pods", None).filter_map(|pod| manager_pod(&state, pod)).collect()
    }

    /// What running pods see of a Secret: a change reaches them after the kubelet's lag, a pod that starts sees the
    /// present content at once. Nothing if the Secret never was. A deleted one stays visible.
    pub fn mounted_secret(&self, namespace: &str, name: &str) -> Option<MountedSecret> {
        let now = self.clock.now();
        let state = self.state();
        let versions = state.secrets.get(&(namespace.to_owned(), name.to_owned()))?;
        let starts: Vec<Timestamp> = state
            .list("pods", Some(namespace))
            .filter(|pod| pods::secrets_of(pod).any(|secret| secret == name))
            .filter_map(|pod| {
                let uid = pod["metadata"]["uid"].as_str().unwrap_or_default();
                state.mounted.get(uid).copied()
            })
            .collect();
        versions.iter().rev().find_map(|version| {
            let refreshed = after(version.written, state.settings.refresh_lag);
            let started = starts.iter().copied().filter(|start| *start >= version.written).min();
            let since = started.map_or(refreshed, |started| started.min(refreshed));
            (since <= now).then(|| MountedSecret {
                resource_version: version.resource_version.clone(),
                data: decode(&version.data),
                visible_since: since,
            })
        })
    }

    /// Its process has ended after it was told to stop: the pod is gone.
    pub fn pod_exited(&self, namespace: &str, name: &str) {
        let now = self.clock.now();
        let mut state = self.state();
        let stopping = state
            .find("pods", namespace, name)
            .is_some_and(|pod| !pod["metadata"]["deletionTimestamp"].is_null());
        if let Some(real) = &self.real {
            let pod = state.find("pods", namespace, name);
            let uid = pod.and_then(|pod| pod["metadata"]["uid"].as_str());
            uid.into_iter().for_each(|uid| real.pod_exited(uid));
        } else if stopping {
            state.remove(&Key::new("pods", namespace, name), now);
        }
    }

    /// The token that a pod's projected volume holds. Nothing if the account or the pod is missing.
    pub async fn service_account_token(
        &self,
        namespace: &str,
        name: &str,
        audience: &str,
        pod: Option<&str>,
    ) -> Option<String> {
        let now = self.clock.now();
        if let Some(real) = &self.real {
            let pod = match pod {
                None => None,
                Some(pod) => Some((pod, self.get("pods", namespace, pod)?)),
            };
            return real.token(namespace, name, audience, pod).await;
        }
        let state = self.state();
        let pod = match pod {
            None => None,
            Some(pod) => {
                let found = state.find("pods", namespace, pod)?;
                let uid = found["metadata"]["uid"].as_str().unwrap_or_default();
                Some((pod.to_owned(), uid.to_owned()))
            }
        };
        let wanted = tokens::Wanted {
            namespace,
            account: name,
            audiences: vec![audience.to_owned()],
            seconds: 3600,
            pod,
        };
        tokens::issue(&state, &wanted, now).map(|(token, _)| token)
    }
}

fn manager_pod(state: &State, pod: &Value) -> Option<ManagerPod> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let started_at = pods::started(pod)?;
    let namespace = text(&pod["metadata"]["namespace"]);
    let set = pod["metadata"]["ownerReferences"][0]["name"].as_str()?;
    // The ReplicaSet may be gone already; its name still says whose it was.
    let (deployment, _) = set.rsplit_once('-')?;
    let labels = match state.find("deployments", &namespace, deployment) {
        Some(found) => found["metadata"]["labels"].clone(),
        None => pod["metadata"]["labels"].clone(),
    };
    let container = &pod["spec"]["containers"][0];
    let args = container["args"].as_array().into_iter().flatten();
    Some(ManagerPod {
        name: text(&pod["metadata"]["name"]),
        uid: text(&pod["metadata"]["uid"]),
        deployment: deployment.to_owned(),
        deployment_labels: labels
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect(),
        service_account: text(&pod["spec"]["serviceAccountName"]),
        secret_name: pods::secrets_of(pod).next().map(str::to_owned),
        image: text(&container["image"]),
        args: args.map(text).collect(),
        started_at,
        terminating: pod["metadata"]["deletionTimestamp"].as_str().and_then(|at| at.parse().ok()),
        namespace,
    })
}

fn decode(data: &Value) -> BTreeMap<String, Vec<u8>> {
    let entries = data.as_object().into_iter().flatten();
    entries
        .map(|(name, value)| {
            let text = value.as_str().unwrap_or_default();
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            (name.clone(), bytes.unwrap_or_default())
        })
        .collect()
}
