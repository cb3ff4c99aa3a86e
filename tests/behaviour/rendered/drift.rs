//! Whether a live object is still what we applied.

use super::{
    example::{company, hardened},
    objects,
};
use forerunner::domain::{
    kubernetes::{Kind, Object},
    render::{annotate, differs, stamp},
};
use serde_json::{Value, json};

/// The stamped object of a kind; of two, the one in the managers' namespace or the later one.
fn desired(kind: Kind) -> Object {
    let all = objects(&hardened(), &company().context());
    all.into_iter().rfind(|object| object.name.kind == kind).unwrap()
}

/// As a server shows it: defaults, its own metadata, canonical quantities.
fn live(kind: Kind) -> Object {
    let mut live = desired(kind);
    live.body["metadata"]["uid"] = json!("7c1c");
    live.body["metadata"]["resourceVersion"] = json!("42");
    live.body["metadata"]["labels"]["policy.example.com/added"] = json!("yes");
    live.body["status"] = json!({ "anything": true });
    live
}

fn set(pointer: &str, value: Value) -> impl Fn(&mut Object) {
    let pointer = pointer.to_owned();
    move |object| {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = object.body.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
        match key.parse::<usize>() {
            Ok(index) => parent[index] = value.clone(),
            Err(_) => parent[key.replace("~1", "/").as_str()] = value.clone(),
        }
    }
}

fn check(kind: Kind, edit: impl Fn(&mut Object), expected: Option<&str>) {
    let mut live = live(kind);
    edit(&mut live);
    assert_eq!(differs(&desired(kind), &live).as_deref(), expected, "{kind:?}");
}

const POD: &str = "/spec/template/spec";

#[test]
fn what_the_server_and_a_clusters_policy_add_is_no_drift() {
    for object in objects(&hardened(), &company().context()) {
        assert_eq!(differs(&object, &object), None, "{}", object.name);
    }
    check(Kind::Namespace, |_| {}, None);
    check(Kind::Namespace, |live| live.body["kind"] = Value::Null, None);
    let container = format!("{POD}/containers/0");
    check(Kind::Deployment, set(&format!("{POD}/dnsPolicy"), json!("ClusterFirst")), None);
    check(Kind::Deployment, set(&format!("{container}/terminationMessagePath"), json!("/x")), None);
    let memory = format!("{container}/resources/limits/memory");
    check(Kind::Deployment, set(&memory, json!("0.5Gi")), None);
    check(Kind::ResourceQuota, set("/spec/hard/limits.memory", json!("65536Mi")), None);
    let sidecar = |live: &mut Object| {
        let containers = live.body.pointer_mut("/spec/template/spec/containers").unwrap();
        containers.as_array_mut().unwrap().insert(0, json!({ "name": "added" }));
    };
    check(Kind::Deployment, sidecar, None);
    let annotation = |live: &mut Object| annotate(live, "deployment.kubernetes.io/revision", "3");
    check(Kind::Deployment, annotation, None);
}

#[test]
fn an_edited_object_is_drift_and_the_path_is_named() {
    let container = format!("{POD}/containers/0");
    check(Kind::Deployment, set("/spec/replicas", json!(2)), Some("spec.replicas"));
    check(
        Kind::Deployment,
        set(&format!("{container}/image"), json!("other")),
        Some("spec.template.spec.containers[gitlab-runner].image"),
    );
    check(
        Kind::Deployment,
        set(&format!("{container}/resources/limits/memory"), json!("1Gi")),
        Some("spec.template.spec.containers[gitlab-runner].resources.limits.memory"),
    );
    check(
        Kind::Deployment,
        set(&format!("{container}/args/0"), json!("unregister")),
        Some("spec.template.spec.containers[gitlab-runner].args[0]"),
    );
    check(
        Kind::Deployment,
        set(&format!("{POD}/nodeSelector/pool"), json!("x")),
        Some("spec.template.spec.nodeSelector.pool"),
    );
    check(
        Kind::Deployment,
        set(&format!("{POD}/volumes"), json!([])),
        Some("spec.template.spec.volumes[config]"),
    );
    check(
        Kind::Namespace,
        set("/metadata/labels/pod-security.kubernetes.io~1enforce", json!("privileged")),
        Some("metadata.labels[pod-security.kubernetes.io/enforce]"),
    );
    check(Kind::RoleBinding, set("/roleRef/name", json!("admin")), Some("roleRef.name"));
    check(Kind::ResourceQuota, set("/spec/hard/pods", json!("400")), Some("spec.hard.pods"));
}

#[test]
fn what_kubernetes_replaces_as_a_whole_may_hold_nothing_more() {
    let push = |pointer: &'static str, item: Value| {
        move |live: &mut Object| {
            live.body.pointer_mut(pointer).unwrap().as_array_mut().unwrap().push(item.clone());
        }
    };
    check(Kind::RoleBinding, push("/subjects", json!({ "kind": "User" })), Some("subjects[1]"));
    check(Kind::NetworkPolicy, push("/spec/egress", json!({})), Some("spec.egress[6]"));
    check(
        Kind::NetworkPolicy,
        push("/spec/egress/0/ports", json!({ "port": 443 })),
        Some("spec.egress[0].ports[2]"),
    );
    check(
        Kind::NetworkPolicy,
        set("/spec/egress/0/ports/0/endPort", json!(65535)),
        Some("spec.egress[0].ports[0].endPort"),
    );
    check(
        Kind::NetworkPolicy,
        set("/spec/podSelector/matchLabels/nobody", json!("matches")),
        Some("spec.podSelector.matchLabels.nobody"),
    );
}

#[test]
fn a_secrets_difference_names_the_key_and_never_its_content() {
    check(Kind::Secret, set("/data/config.toml", json!("bWFkZS11cA==")), Some("data[config.toml]"));
    check(Kind::Secret, |live| live.body["data"] = Value::Null, Some("data"));
}

#[test]
fn a_changed_wish_is_drift_even_where_every_field_is_in_the_live_object() {
    let applied = "metadata.annotations[forerunner.dev/applied]";
    let mut narrower = desired(Kind::Deployment);
    narrower.body.pointer_mut(POD).unwrap().as_object_mut().unwrap().remove("enableServiceLinks");
    assert_eq!(differs(&narrower, &live(Kind::Deployment)).as_deref(), Some(applied));
    stamp(&mut narrower);
    assert_eq!(differs(&narrower, &live(Kind::Deployment)).as_deref(), Some(applied));
    let mut unstamped = desired(Kind::Deployment);
    unstamped.body["metadata"].as_object_mut().unwrap().remove("annotations");
    assert_eq!(differs(&unstamped, &live(Kind::Deployment)), None);
    assert_eq!(differs(&unstamped, &unstamped).as_deref(), Some(applied));
}

#[test]
fn a_stamp_is_the_same_however_often_it_is_made() {
    for once in objects(&hardened(), &company().context()) {
        let mut twice = once.clone();
        stamp(&mut twice);
        assert!(once == twice, "{}", once.name);
    }
}
