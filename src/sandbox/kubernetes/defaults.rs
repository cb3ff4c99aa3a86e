//! Fields the server fills in when a write leaves them out; they belong to no manager (runner-on-kubernetes.md §9.2).

use super::{kinds::Kind, quantity};
use serde_json::{Value, json};

/// Brings quantities into the form in which they are kept. Also right for a part of an object.
pub(super) fn normalise(kind: &Kind, object: &mut Value) {
    if let Some(pod) = pod_spec(kind, object) {
        for list in ["containers", "initContainers"] {
            for container in items(pod, list) {
                if let Some(resources) = container.get_mut("resources") {
                    quantity::canonicalise(resources.get_mut("requests"));
                    quantity::canonicalise(resources.get_mut("limits"));
                }
            }
        }
        for volume in items(pod, "volumes") {
            if let Some(limit) = volume.pointer_mut("/emptyDir/sizeLimit") {
                quantity::canonicalise_one(limit);
            }
        }
    }
    if kind.kind == "ResourceQuota" {
        quantity::canonicalise(object.pointer_mut("/spec/hard"));
    }
    if kind.kind == "LimitRange"
        && let Some(spec) = object.get_mut("spec")
    {
        for limit in items(spec, "limits") {
            for bound in ["default", "defaultRequest", "max", "min", "maxLimitRequestRatio"] {
                quantity::canonicalise(limit.get_mut(bound));
            }
        }
    }
}

/// Fills in what the object leaves out.
pub(super) fn fill(kind: &Kind, object: &mut Value) {
    normalise(kind, object);
    match kind.kind {
        "Namespace" => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            set(object, "spec", json!({}));
            set(&mut object["spec"], "finalizers", json!(["kubernetes"]));
            set(object, "status", json!({"phase": "Active"}));
        }
        "Secret" => fill_secret(object),
        "Deployment" => fill_deployment(object),
        "Pod" => fill_pod(&mut object["spec"]),
        "NetworkPolicy" => fill_network_policy(&mut object["spec"]),
        "LimitRange" => items(&mut object["spec"], "limits").for_each(fill_limit),
        "RoleBinding" | "ClusterRoleBinding" => {
            let group = json!("rbac.authorization.k8s.io");
            set(&mut object["roleRef"], "apiGroup", group.clone());
            for subject in items(object, "subjects") {
                if subject["kind"] != "ServiceAccount" {
                    set(subject, "apiGroup", group.clone());
                }
            }
        }
        "ValidatingAdmissionPolicy" => {
            set(&mut object["spec"], "failurePolicy", json!("Fail"));
        }
        _ => {}
    }
}

/// The pod's spec in a Pod or in the template of what makes pods.
pub(super) fn pod_spec<'a>(kind: &Kind, object: &'a mut Value) -> Option<&'a mut Value> {
    match kind.kind {
        "Pod" => object.get_mut("spec"),
        "Deployment" | "ReplicaSet" => object.pointer_mut("/spec/template/spec"),
        _ => None,
    }
}

fn set(object: &mut Value, name: &str, value: Value) {
    if object[name].is_null() {
        object[name] = value;
    }
}

fn items<'a>(object: &'a mut Value, list: &str) -> impl Iterator<Item = &'a mut Value> {
    object.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten()
}

fn fill_secret(object: &mut Value) {
    use base64::Engine;
    set(object, "type", json!("Opaque"));
    let Some(fields) = object.as_object_mut() else { return };
    let Some(plain) = fields.remove("stringData") else { return };
    for (name, value) in plain.as_object().into_iter().flatten() {
        let encoded =
            base64::engine::general_purpose::STANDARD.encode(value.as_str().unwrap_or_default());
        object["data"][name] = encoded.into();
    }
}

fn fill_deployment(object: &mut Value) {
    let spec = &mut object["spec"];
    set(spec, "replicas", json!(1));
    set(spec, "revisionHistoryLimit", json!(10));
    set(spec, "progressDeadlineSeconds", json!(600));
    set(spec, "strategy", json!({}));
    let strategy = &mut spec["strategy"];
    set(strategy, "type", json!("RollingUpdate"));
    if strategy["type"] == "RollingUpdate" {
        set(strategy, "rollingUpdate", json!({}));
        set(&mut strategy["rollingUpdate"], "maxSurge", json!("25%"));
        set(&mut strategy["rollingUpdate"], "maxUnavailable", json!("25%"));
    }
    set(&mut spec["template"], "metadata", json!({}));
    fill_pod(&mut spec["template"]["spec"]);
}

pub(super) fn fill_pod(spec: &mut Value) {
    set(spec, "restartPolicy", json!("Always"));
    set(spec, "dnsPolicy", json!("ClusterFirst"));
    set(spec, "schedulerName", json!("default-scheduler"));
    set(spec, "securityContext", json!({}));
    set(spec, "terminationGracePeriodSeconds", json!(30));
    let account = spec["serviceAccountName"].clone();
    if !account.is_null() {
        spec["serviceAccount"] = account;
    } else if let Some(fields) = spec.as_object_mut() {
        fields.remove("serviceAccountName");
    }
    for list in ["initContainers", "containers"] {
        items(spec, list).for_each(fill_container);
    }
    items(spec, "volumes").for_each(fill_volume);
}

fn fill_container(container: &mut Value) {
    let image = container["image"].as_str().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let latest = !image.contains('@') && (!name.contains(':') || name.ends_with(":latest"));
    let pull = if latest { "Always" } else { "IfNotPresent" };
    set(container, "imagePullPolicy", json!(pull));
    set(container, "terminationMessagePath", json!("/dev/termination-log"));
    set(container, "terminationMessagePolicy", json!("File"));
    set(container, "resources", json!({}));
    let limits = container["resources"]["limits"].clone();
    for (name, limit) in limits.as_object().into_iter().flatten() {
        set(&mut container["resources"]["requests"], name, limit.clone());
    }
    if container["resources"]["limits"].is_null()
        && let Some(resources) = container["resources"].as_object_mut()
    {
        resources.remove("limits");
    }
    items(container, "ports").for_each(|port| set(port, "protocol", json!("TCP")));
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(probe) = container.get_mut(name) {
            fill_probe(probe);
        }
    }
    for variable in items(container, "env") {
        if let Some(field) = variable.pointer_mut("/valueFrom/fieldRef") {
            set(field, "apiVersion", json!("v1"));
        }
    }
}

fn fill_probe(probe: &mut Value) {
    for (name, number) in [
        ("timeoutSeconds", 1),
        ("periodSeconds", 10),
        ("successThreshold", 1),
        ("failureThreshold", 3),
    ] {
        // The server does not tell nothing from zero.
        if probe[name].is_null() || probe[name] == 0 {
            probe[name] = json!(number);
        }
    }
    if let Some(get) = probe.get_mut("httpGet") {
        set(get, "scheme", json!("HTTP"));
        set(get, "path", json!("/"));
    }
}

fn fill_volume(volume: &mut Value) {
    for source in ["secret", "configMap", "projected", "downwardAPI"] {
        if let Some(source) = volume.get_mut(source) {
            set(source, "defaultMode", json!(420));
        }
    }
    if let Some(projected) = volume.get_mut("projected") {
        for source in items(projected, "sources") {
            if let Some(token) = source.get_mut("serviceAccountToken") {
                set(token, "expirationSeconds", json!(3600));
            }
        }
    }
    if let Some(host) = volume.get_mut("hostPath") {
        set(host, "type", json!(""));
    }
}

fn fill_network_policy(spec: &mut Value) {
    set(spec, "podSelector", json!({}));
    if spec["policyTypes"].is_null() {
        let egress = spec["egress"].as_array().is_some_and(|rules| !rules.is_empty());
        spec["policyTypes"] =
            if egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
    }
    for direction in ["ingress", "egress"] {
        let Some(rules) = spec.get_mut(direction).and_then(Value::as_array_mut) else { continue };
        for rule in rules {
            items(rule, "ports").for_each(|port| set(port, "protocol", json!("TCP")));
        }
    }
    if let Some(fields) = spec.as_object_mut() {
        fields.retain(|name, value| !(value.is_null() && (name == "ingress" || name == "egress")));
    }
}

/// A container's maximum is its default limit, and that its default request.
fn fill_limit(limit: &mut Value) {
    if limit["type"] != "Container" {
        return;
    }
    for (from, to) in [("max", "default"), ("default", "defaultRequest")] {
        let bounds = limit[from].clone();
        for (name, bound) in bounds.as_object().into_iter().flatten() {
            set(&mut limit[to], name, bound.clone());
        }
    }
    if let Some(fields) = limit.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
}
