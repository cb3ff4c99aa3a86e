//! The cluster's rows beyond single edits.

use super::{Settled, mended};
use crate::disturbed::entries;
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

const MANAGERS: &str = "forerunner-nonprod";

fn secret(settled: &Settled) -> String {
    format!("runner-{}-config", settled.key)
}

/// The manager's file with other words in it.
fn rewrite(settled: &Settled, change: impl Fn(String) -> String) {
    settled.edit("secrets", MANAGERS, &secret(settled), |object| {
        let text = object["data"]["config.toml"].as_str().unwrap();
        let text = String::from_utf8(BASE64_STANDARD.decode(text).unwrap()).unwrap();
        object["data"]["config.toml"] = BASE64_STANDARD.encode(change(text)).into();
    });
}

fn file(settled: &Settled) -> String {
    let found = settled.sandbox.world.kubernetes.get("secrets", MANAGERS, &secret(settled));
    found.unwrap()["data"]["config.toml"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_edited_by_hand_is_rewritten_around_its_token() {
    let settled = Settled::new().await;
    let before = file(&settled);
    rewrite(&settled, |text| text.replacen("concurrent = ", "concurrent = 9", 1));
    assert_ne!(file(&settled), before);
    settled.sandbox.sweep().await;
    assert_eq!(file(&settled), before, "{}", settled.sandbox.status(&settled.unit));
    settled.sandbox.assert_ready(&settled.unit);
    let writes = settled.sandbox.own_writes().len();
    settled.sandbox.sweep().await;
    assert_eq!(settled.sandbox.own_writes().split_off(writes), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_with_another_entitys_token_waits_for_a_persons_word_and_loses_nothing() {
    // Also where the other's group is gone: then GitLab has another answer for its token.
    for is_orphaned in [false, true] {
        let settled = Settled::new().await;
        let (sandbox, gitlab) = (&settled.sandbox, &settled.sandbox.world.gitlab);
        let before = sandbox.world.kubernetes.get("secrets", MANAGERS, &secret(&settled)).unwrap();
        let (id, own) = entries(&before).remove(0);
        let other = gitlab.create_group(Some(42), "other");
        sandbox.sweep().await;
        let name = format!("runner-g{other}-plan-config");
        let others = sandbox.world.kubernetes.get("secrets", MANAGERS, &name).unwrap();
        let (_, foreign) = entries(&others).remove(0);
        if is_orphaned {
            gitlab.destroy_group(other);
        }
        rewrite(&settled, |text| text.replace(&own, &foreign));
        sandbox.sweep().await;
        let (reason, message) = sandbox.ready(&settled.unit);
        assert_eq!(reason, "Parked", "{message}");
        assert!(message.contains(&format!("the token of runner {id} is lost")), "{message}");
        assert!(gitlab.token_is_valid(&own) && gitlab.token_is_valid(&foreign), "none was reset");
        rewrite(&settled, |text| text.replace(&foreign, &own));
        sandbox.pass_minutes(25).await;
        sandbox.assert_ready(&settled.unit);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_environment_other_labels_and_annotations_are_put_back() {
    mended("environment", |settled| {
        settled.edit("deployments", MANAGERS, &format!("runner-{}", settled.key), |object| {
            let container = &mut object["spec"]["template"]["spec"]["containers"][0];
            let env = container["env"].as_array_mut().expect("the manager has an environment");
            env[0]["value"] = "elsewhere".into();
        });
    })
    .await;
    mended("our label", |settled| {
        settled.edit("serviceaccounts", &settled.jobs(), "job", |object| {
            object["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "somebody".into();
        });
    })
    .await;
    mended("whom jobs sign in as", |settled| {
        settled.edit("serviceaccounts", &settled.jobs(), "job", |object| {
            object["metadata"]["annotations"]
                .as_object_mut()
                .unwrap()
                .remove("azure.workload.identity/client-id");
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_manager_adds_to_our_objects_stays_and_what_it_takes_comes_back() {
    let settled = Settled::new().await;
    let (sandbox, kubernetes) = (&settled.sandbox, &settled.sandbox.world.kubernetes);
    settled.edit("namespaces", "", &settled.jobs(), |object| {
        object["metadata"]["labels"]["team"] = "theirs".into();
    });
    sandbox.sweep().await;
    sandbox.assert_ready(&settled.unit);
    let writes = sandbox.own_writes().len();
    // It fights for a field of ours, again and again: each sweep takes it back, once.
    for _ in 0..3 {
        settled.edit("deployments", MANAGERS, &format!("runner-{}", settled.key), |object| {
            object["spec"]["replicas"] = 2.into();
        });
        sandbox.sweep().await;
        assert_eq!(sandbox.replicas(&settled.key), json!(1));
        sandbox.assert_ready(&settled.unit);
    }
    let applied = sandbox.own_writes().split_off(writes);
    let applied = applied.iter().filter(|call| call.contains("/deployments/")).count();
    assert_eq!(applied, 3, "one write for each fight");
    let namespace = kubernetes.get("namespaces", "", &settled.jobs()).unwrap();
    assert_eq!(namespace["metadata"]["labels"]["team"], "theirs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_that_is_going_away_is_waited_for_and_then_made_anew() {
    let settled = Settled::new().await;
    let (sandbox, kubernetes) = (&settled.sandbox, &settled.sandbox.world.kubernetes);
    let whole = settled.whole();
    // Somebody's controller has not let go of it yet.
    kubernetes
        .apply_as_admin(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
            "name": "held", "namespace": settled.jobs(), "finalizers": ["example.com/cleanup"]}}))
        .unwrap();
    assert!(kubernetes.delete_as_admin("namespaces", "", &settled.jobs()));
    sandbox.pass_minutes(1).await;
    assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
    sandbox.pass_minutes(90).await;
    let going = kubernetes.get("namespaces", "", &settled.jobs()).unwrap();
    assert_eq!(going["status"]["phase"], "Terminating");
    assert!(!sandbox.is_parked(&settled.unit), "{}", sandbox.status(&settled.unit));
    assert_eq!(sandbox.ready(&settled.unit).0, "Progressing", "{}", sandbox.status(&settled.unit));
    assert_eq!(sandbox.world.gitlab.runners().len(), 1, "its entity and token stay");
    settled.edit("configmaps", &settled.jobs(), "held", |object| {
        object["metadata"]["finalizers"] = json!([]);
    });
    sandbox.pass_minutes(30).await;
    sandbox.assert_ready(&settled.unit);
    assert_eq!(settled.whole(), whole);
}

fn binding(settled: &Settled) -> Value {
    let kubernetes = &settled.sandbox.world.kubernetes;
    kubernetes.get("rolebindings", &settled.jobs(), &settled.manager()).unwrap()
}

/// Its role cannot be edited, so somebody puts another binding in its place, labels and all.
pub(super) fn rebind(settled: &Settled) {
    let mut wider = binding(settled);
    let kubernetes = &settled.sandbox.world.kubernetes;
    assert!(kubernetes.delete_as_admin("rolebindings", &settled.jobs(), &settled.manager()));
    let known = ["name", "namespace", "labels", "annotations"];
    wider["metadata"].as_object_mut().unwrap().retain(|key, _| known.contains(&key.as_str()));
    wider["roleRef"]["name"] = "cluster-admin".into();
    kubernetes.apply_as_admin(wider).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_under_our_name_without_our_labels_stays() {
    let settled = Settled::new().await;
    let (sandbox, kubernetes) = (&settled.sandbox, &settled.sandbox.world.kubernetes);
    rebind(&settled);
    settled.edit("rolebindings", &settled.jobs(), &settled.manager(), |object| {
        object["metadata"]["labels"] = json!({"team": "somebody"});
    });
    let theirs = binding(&settled);
    sandbox.sweep().await;
    assert!(sandbox.is_parked(&settled.unit), "{}", sandbox.status(&settled.unit));
    assert_eq!(binding(&settled), theirs);
    assert!(kubernetes.delete_as_admin("rolebindings", &settled.jobs(), &settled.manager()));
    sandbox.pass_minutes(25).await;
    sandbox.assert_ready(&settled.unit);
}
