//! What is made in every namespace, and how one goes away.

use super::{
    store::{Key, State, Task},
    verbs,
};
use jiff::Timestamp;
use serde_json::json;

/// Makes the `default` service account and the cluster's certificate, unless somebody did.
pub(super) fn furnish(state: &mut State, namespace: &str, now: Timestamp) {
    let Some(found) = state.find("namespaces", "", namespace) else { return };
    if !found["metadata"]["deletionTimestamp"].is_null() {
        return;
    }
    let account = Key::new("serviceaccounts", namespace, "default");
    if state.find(account.plural, namespace, "default").is_none() {
        let object = json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace},
        });
        verbs::store_new(state, account, object, now);
    }
    let certificate = Key::new("configmaps", namespace, "kube-root-ca.crt");
    if state.find(certificate.plural, namespace, "kube-root-ca.crt").is_none() {
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "kube-root-ca.crt", "namespace": namespace},
            "data": {"ca.crt": "a simulated cluster has no certificate\n"},
        });
        verbs::store_new(state, certificate, object, now);
    }
}

/// Deletes what is in a namespace that is going away; pods get their time to stop, and what has a finalizer stays until somebody
/// takes that away.
pub(super) fn empty(state: &mut State, namespace: &str, now: Timestamp) {
    let inside: Vec<Key> = state
        .objects()
        .filter(|(key, _)| key.namespace == namespace)
        .map(|(key, _)| key.clone())
        .collect();
    for key in inside {
        if key.plural == "pods" {
            super::pods::delete(state, &key, None, now);
        } else if let Some(live) = state.find(key.plural, &key.namespace, &key.name).cloned() {
            verbs::delete_object(state, &key, live, &verbs::Deletion::default(), now);
        }
    }
}

/// Removes the namespace itself once nothing is in it.
pub(super) fn end(state: &mut State, namespace: &str, now: Timestamp) {
    empty(state, namespace, now);
    let full = state.objects().any(|(key, _)| key.namespace == namespace);
    if full {
        let again = std::time::Duration::from_secs(5);
        state.schedule_in(Task::EndNamespace(namespace.to_owned()), again, now);
        return;
    }
    state.remove(&Key::new("namespaces", "", namespace), now);
}
