//! What happens to a write between authorization and storage: pods are completed and checked, quotas counted.

use super::{
    User,
    confinement::{self, Write},
    kinds::Kind,
    pod_security,
    status::Status,
    store::State,
};
use serde_json::{Value, json};

/// Refuses to make anything in a namespace that is missing or going away.
pub(super) fn check_namespace(
    state: &State,
    kind: &Kind,
    namespace: &str,
    name: &str,
) -> Result<(), Status> {
    if !kind.namespaced {
        return Ok(());
    }
    let Some(found) = state.find("namespaces", "", namespace) else {
        return Err(Status::not_found(super::kinds::known("namespaces"), namespace));
    };
    if found["metadata"]["deletionTimestamp"].is_null() {
        Ok(())
    } else {
        Err(Status::namespace_terminating(kind, name, namespace))
    }
}

/// Completes a new object: the account of a pod, and its workload identity.
pub(super) fn mutate(state: &State, kind: &Kind, namespace: &str, object: &mut Value) {
    if kind.kind != "Pod" {
        return;
    }
    let spec = &mut object["spec"];
    if spec["serviceAccountName"].is_null() {
        spec["serviceAccountName"] = json!("default");
    }
    spec["serviceAccount"] = spec["serviceAccountName"].clone();
    if spec["priority"].is_null() {
        spec["priority"] = json!(0);
        spec["preemptionPolicy"] = json!("PreemptLowerPriority");
    }
    if spec["enableServiceLinks"].is_null() {
        spec["enableServiceLinks"] = json!(true);
    }
    let account = spec["serviceAccountName"].as_str().unwrap_or_default();
    if let Some(account) = state.find("serviceaccounts", namespace, account)
        && state.find("mutatingwebhookconfigurations", "", super::WEBHOOK).is_some()
    {
        super::workload_identity::inject(state, account, object);
    }
}

/// Refuses what admission plugins and policies refuse.
pub(super) fn validate(state: &State, user: &User, write: &Write<'_>) -> Result<(), Status> {
    if let Some(why) = confinement::denial(state, user, write) {
        return Err(Status::denied_by_policy(write.kind, write.name, &why));
    }
    let (Some(object), None) = (write.object, write.old) else { return Ok(()) };
    if write.kind.kind != "Pod" || !write.subresource.is_empty() {
        return Ok(());
    }
    let refuse = |why: String| Err(Status::forbidden(write.kind, write.name, &why));
    let account = object["spec"]["serviceAccountName"].as_str().unwrap_or_default();
    if state.find("serviceaccounts", write.namespace, account).is_none() {
        return refuse(format!(
            "error looking up service account {}/{account}: serviceaccount \"{account}\" not found",
            write.namespace
        ));
    }
    if let Some(namespace) = state.find("namespaces", "", write.namespace)
        && let Some(why) =
            pod_security::violation(&namespace["metadata"]["labels"], &object["spec"])
    {
        return refuse(why);
    }
    match exceeded_quota(state, write.namespace) {
        Some(why) => refuse(why),
        None => Ok(()),
    }
}

/// Counts pods only: the other resources of a quota are kept but not enforced.
fn exceeded_quota(state: &State, namespace: &str) -> Option<String> {
    let used = state
        .list("pods", Some(namespace))
        .filter(|pod| {
            let phase = pod["status"]["phase"].as_str();
            !phase.is_some_and(|phase| ["Succeeded", "Failed"].contains(&phase))
        })
        .count();
    state.list("resourcequotas", Some(namespace)).find_map(|quota| {
        let hard = quota["spec"]["hard"]["pods"].as_str()?;
        let limit: usize = hard.parse().ok()?;
        (used >= limit).then(|| {
            let name = quota["metadata"]["name"].as_str().unwrap_or_default();
            format!(
                "exceeded quota: {name}, requested: pods=1, used: pods={used}, limited: pods={hard}"
            )
        })
    })
}
