//! What others put into a job namespace of ours: told with the command that takes it away, and left as it is.

use super::Settled;
use crate::deeds::APP;
use forerunner::sandbox::azure::Lock;
use serde_json::{Value, json};

/// A role that everybody may be given.
fn binding(settled: &Settled, name: &str, labels: Value) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": settled.jobs(), "labels": labels},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": "job", "namespace": settled.jobs()}],
    })
}

fn policy(settled: &Settled, name: &str, egress: Value) -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": settled.jobs()},
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": egress},
    })
}

/// Applied by a person: told by the sweep that follows, under this reason and with this command; taken away as the
/// command says: over.
async fn told(row: &str, reason: &str, command: &str, object: impl FnOnce(&Settled) -> Value) {
    let settled = Settled::new().await;
    let (sandbox, kubernetes) = (&settled.sandbox, &settled.sandbox.world.kubernetes);
    let object = object(&settled);
    let plural = if object["kind"] == "RoleBinding" { "rolebindings" } else { "networkpolicies" };
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    kubernetes.apply_as_admin(object).unwrap();
    let before = kubernetes.get(plural, &settled.jobs(), &name);
    sandbox.sweep().await;
    let told = sandbox.condition(&settled.unit, "NeedsAdministrator");
    assert_eq!(told["reason"], reason, "{row}: {told}\n{}", sandbox.status(&settled.unit));
    let command = format!("kubectl delete {command} {name} --namespace {}", settled.jobs());
    assert!(told["message"].as_str().unwrap().contains(&command), "{row}: {told}");
    assert_eq!(
        kubernetes.get(plural, &settled.jobs(), &name),
        before,
        "{row}: theirs all the same"
    );
    sandbox.assert_ready(&settled.unit);
    let writes = sandbox.own_writes().len();
    sandbox.sweep().await;
    assert_eq!(sandbox.own_writes().split_off(writes), Vec::<String>::new(), "{row}");
    assert!(kubernetes.delete_as_admin(plural, &settled.jobs(), &name));
    sandbox.sweep().await;
    let after = sandbox.condition(&settled.unit, "NeedsAdministrator");
    assert!(after.is_null(), "{row}: {after}");
    sandbox.assert_ready(&settled.unit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_that_we_did_not_make_is_told() {
    let row = |row, labels: fn(&Settled) -> Value| {
        told(row, "ForeignBinding", "rolebinding", move |settled| {
            binding(settled, "helpful", labels(settled))
        })
    };
    row("unlabelled", |_| json!({})).await;
    // Whatever it says of itself: ours has another name.
    row("with our labels", |settled| {
        json!({"forerunner.dev/fleet": "nonprod", "forerunner.dev/key": settled.key,
            "app.kubernetes.io/managed-by": "forerunner"})
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_opens_what_ours_keeps_shut_is_told_and_one_that_opens_nothing_is_not() {
    told("open", "ForeignPolicy", "networkpolicy", |settled| policy(settled, "open", json!([{}])))
        .await;
    let settled = Settled::new().await;
    let shut = policy(&settled, "shut", json!([]));
    settled.sandbox.world.kubernetes.apply_as_admin(shut).unwrap();
    settled.sandbox.sweep().await;
    let told = settled.sandbox.condition(&settled.unit, "NeedsAdministrator");
    assert!(told.is_null(), "{told}");
    settled.sandbox.assert_ready(&settled.unit);
}

/// A unit has one reason at a time, and alarms go by reasons.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_others_gave_is_the_reason_whatever_else_an_administrator_is_to_do() {
    let settled = Settled::new().await;
    let (sandbox, azure) = (&settled.sandbox, &settled.sandbox.world.azure);
    let told = |reason: &str, parts: &[&str]| {
        let told = sandbox.condition(&settled.unit, "NeedsAdministrator");
        assert_eq!(told["reason"], reason, "{told}\n{}", sandbox.story());
        for part in parts {
            assert!(told["message"].as_str().unwrap().contains(part), "no `{part}` in {told}");
        }
    };
    sandbox.world.kubernetes.apply_as_admin(policy(&settled, "open", json!([{}]))).unwrap();
    sandbox.sweep().await;
    told("ForeignPolicy", &[]);
    sandbox.world.kubernetes.apply_as_admin(binding(&settled, "helpful", json!({}))).unwrap();
    sandbox.sweep().await;
    told("ForeignBinding", &["delete networkpolicy"]);
    let principal = azure.identities().remove(0).principal_id;
    let contributor = "b24988ac-6180-42a0-ab88-20f7382dd24c".parse().unwrap();
    azure.assign_role(APP, contributor, principal, None);
    sandbox.sweep().await;
    told("ForeignRights", &["delete rolebinding", "delete networkpolicy"]);
    // Not even what keeps forerunner from its own work hides it.
    let ours = azure
        .assignments()
        .into_iter()
        .find(|one| one.description.as_deref().unwrap_or_default().starts_with("forerunner:"));
    assert!(azure.remove_assignment(ours.unwrap().name));
    azure.lock(APP, Lock::ReadOnly);
    sandbox.sweep().await;
    told("ForeignRights", &["az lock delete", "delete rolebinding"]);
    assert_eq!(sandbox.ready(&settled.unit).0, "ScopeLocked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_put_elsewhere_is_their_own() {
    let settled = Settled::new().await;
    let (sandbox, kubernetes) = (&settled.sandbox, &settled.sandbox.world.kubernetes);
    let mut binding = binding(&settled, "theirs", json!({}));
    binding["metadata"]["namespace"] = "default".into();
    kubernetes.apply_as_admin(binding).unwrap();
    sandbox.world.wire.forget_calls();
    sandbox.sweep().await;
    let calls = sandbox.own_calls();
    assert!(!calls.iter().any(|call| call.starts_with("ServiceBus")), "{calls:#?}");
    assert_eq!(sandbox.own_writes(), Vec::<String>::new());
}
