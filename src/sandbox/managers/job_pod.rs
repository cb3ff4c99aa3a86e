//! The pod of a job, shaped as the Kubernetes executor shapes it (runner-observed.md §5).

use super::{
    config_file::{Entry, KubernetesSection, SecurityContext, Volume},
    go_duration,
    payload::Payload,
    protocol::REVISION,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What the shape depends on besides the file and the job.
pub(super) struct Naming<'a> {
    pub(super) pod_name: &'a str,
    /// `runner-SHORT-project-N-concurrent-M`, which other pods may have too.
    pub(super) family: &'a str,
    /// `M` of that.
    pub(super) slot: usize,
    /// Of gitlab-runner.
    pub(super) version: &'a str,
}

pub(super) fn shape(entry: &Entry, payload: &Payload, naming: &Naming<'_>) -> Value {
    let section = &entry.kubernetes;
    let volumes = Mounts::of(&section.volumes, payload);
    let helper_image = section.helper_image(naming.version);
    let build_image = image(section, payload);
    let container = |name: &str, image: &str, own: &SecurityContext, resources: Value| {
        json!({
            "name": name, "image": image, "resources": resources,
            "securityContext": container_security(section, own),
            "volumeMounts": volumes.mounts,
        })
    };
    let helper_resources = resources(&[
        ("requests", "cpu", &section.helper_cpu_request),
        ("requests", "memory", &section.helper_memory_request),
        ("requests", "ephemeral-storage", &section.helper_ephemeral_storage_request),
        ("limits", "cpu", &section.helper_cpu_limit),
        ("limits", "memory", &section.helper_memory_limit),
        ("limits", "ephemeral-storage", &section.helper_ephemeral_storage_limit),
    ]);
    let build_resources = resources(&[
        ("requests", "cpu", &section.cpu_request),
        ("requests", "memory", &section.memory_request),
        ("requests", "ephemeral-storage", &section.ephemeral_storage_request),
        ("limits", "cpu", &section.cpu_limit),
        ("limits", "memory", &section.memory_limit),
        ("limits", "ephemeral-storage", &section.ephemeral_storage_limit),
    ]);
    let init = container(
        "init-permissions",
        &helper_image,
        &section.init_permissions_container_security_context,
        helper_resources.clone(),
    );
    let mut build = container(
        "build",
        &build_image,
        &section.build_container_security_context,
        build_resources,
    );
    build["env"] = environment(entry, payload, naming);
    let mut helper = container(
        "helper",
        &helper_image,
        &section.helper_container_security_context,
        helper_resources,
    );
    for container in [&mut build, &mut helper] {
        inherit_users(&section.pod_security_context, &mut container["securityContext"]);
    }
    let mut spec = json!({
        "restartPolicy": "Never",
        "initContainers": [init],
        "containers": [build, helper],
        "volumes": volumes.volumes,
        "securityContext": pod_security(&section.pod_security_context),
    });
    if entry.flag("FF_USE_POD_ACTIVE_DEADLINE_SECONDS", true) {
        spec["activeDeadlineSeconds"] = (payload.timeout_seconds() + 1).into();
    }
    let texts = [
        ("serviceAccountName", &section.service_account),
        ("priorityClassName", &section.priority_class_name),
        ("runtimeClassName", &section.runtime_class_name),
    ];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        spec[name] = text.as_str().into();
    }
    if let Some(mount) = section.automount_service_account_token {
        spec["automountServiceAccountToken"] = mount.into();
    }
    if let Some(grace) = section.pod_termination_grace_period_seconds {
        spec["terminationGracePeriodSeconds"] = grace.into();
    }
    if !section.image_pull_secrets.is_empty() {
        let names = section.image_pull_secrets.iter().map(|name| json!({"name": name}));
        spec["imagePullSecrets"] = names.collect();
    }
    if !section.node_selector.is_empty() {
        spec["nodeSelector"] = json!(section.node_selector);
    }
    if !section.node_tolerations.is_empty() {
        spec["tolerations"] = section.node_tolerations.iter().map(toleration).collect();
    }
    if entry.flag("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", false) {
        for patch in &section.pod_spec {
            let patch: Option<Value> = serde_saphyr::from_str(&patch.patch).ok();
            merge(&mut spec, &patch.unwrap_or_default());
        }
    }
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": naming.pod_name,
            "namespace": section.namespace(),
            "labels": labels(entry, payload, naming),
            "annotations": annotations(section, payload),
        },
        "spec": spec,
    })
}

/// The budget that keeps a node's drain from evicting the pod.
pub(super) fn disruption_budget(pod: &Value, family: &str) -> Value {
    let metadata = &pod["metadata"];
    let name = format!("{}-pdb", metadata["name"].as_str().unwrap_or_default());
    json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
        "metadata": {
            "name": name, "namespace": metadata["namespace"],
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Pod", "name": metadata["name"],
                "uid": metadata["uid"],
            }],
        },
        "spec": {
            "minAvailable": 1,
            "selector": {"matchLabels": {"job.runner.gitlab.com/pod": family}},
        },
    })
}

/// What the job names, else what the file does.
pub(super) fn image(section: &KubernetesSection, payload: &Payload) -> String {
    payload.image().unwrap_or_else(|| section.image.clone())
}

/// Flags, the file's variables, what the runner knows, the job's public ones: the last of a name counts.
fn environment(entry: &Entry, payload: &Payload, naming: &Naming<'_>) -> Value {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| {
        variables.retain(|(known, _)| known != name);
        variables.push((name.to_owned(), value.to_owned()));
    };
    for (name, value) in &entry.feature_flags {
        set(name, &value.to_string());
    }
    for pair in &entry.environment {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        set(name, value);
    }
    let slot = naming.slot.to_string();
    let directory = format!("/builds/{}", payload.variable("CI_PROJECT_PATH"));
    for (name, value) in [
        ("CI_BUILDS_DIR", "/builds"),
        ("CI_PROJECT_DIR", &directory),
        ("RUNNER_TEMP_PROJECT_DIR", &format!("{directory}.tmp")),
        ("CI_CONCURRENT_ID", &slot),
        ("CI_CONCURRENT_PROJECT_ID", &slot),
        ("CI_DISPOSABLE_ENVIRONMENT", "true"),
        ("CI_JOB_IMAGE", &image(&entry.kubernetes, payload)),
        ("CI_JOB_STATUS", "running"),
        ("CI_JOB_TIMEOUT", &payload.timeout_seconds().to_string()),
        ("CI_SERVER", "yes"),
    ] {
        set(name, value);
    }
    for variable in payload.variables().filter(|variable| variable.public && !variable.file) {
        set(&variable.name, &variable.value);
    }
    set("CI_RUNNER_SHORT_TOKEN", &entry.short_token());
    set("CI_RUNNER_REVISION", REVISION);
    set("CI_RUNNER_VERSION", naming.version);
    set("CI_RUNNER_EXECUTABLE_ARCH", "linux/amd64");
    let object = |(name, value): (String, String)| json!({"name": name, "value": value});
    variables.into_iter().map(object).collect()
}

fn labels(entry: &Entry, payload: &Payload, naming: &Naming<'_>) -> Value {
    let (namespace, name) = payload.project_path();
    let own = [
        ("job.runner.gitlab.com/pod", naming.family.to_owned()),
        ("manager.runner.gitlab.com/id-short", entry.short_token()),
        ("manager.runner.gitlab.com/name", entry.name.clone()),
        ("pod", naming.family.to_owned()),
        ("project.runner.gitlab.com/id", payload.project_id().to_string()),
        ("project.runner.gitlab.com/name", name),
        ("project.runner.gitlab.com/namespace", namespace),
        ("project.runner.gitlab.com/namespace-id", payload.variable("CI_PROJECT_NAMESPACE_ID")),
        ("project.runner.gitlab.com/root-namespace", payload.variable("CI_PROJECT_ROOT_NAMESPACE")),
        ("project.runner.gitlab.com/root-namespace-id", payload.root_namespace_id().to_string()),
    ];
    let configured = &entry.kubernetes.pod_labels;
    let all = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    let all = all.chain(configured.iter().map(|(name, value)| (name.clone(), value.clone())));
    let labels: Map<String, Value> =
        all.map(|(name, value)| (name, label_value(&value).into())).collect();
    Value::Object(labels)
}

fn annotations(section: &KubernetesSection, payload: &Payload) -> Value {
    let mut all = json!({
        "job.runner.gitlab.com/id": payload.id.to_string(),
        "job.runner.gitlab.com/name": payload.name(),
        "job.runner.gitlab.com/ref": payload.git("ref"),
        "job.runner.gitlab.com/sha": payload.git("sha"),
        "job.runner.gitlab.com/before_sha": payload.git("before_sha"),
        "job.runner.gitlab.com/timeout": go_duration::print(payload.timeout_seconds()),
        "job.runner.gitlab.com/url": payload.variable("CI_JOB_URL"),
        "project.runner.gitlab.com/id": payload.project_id().to_string(),
    });
    for (name, value) in &section.pod_annotations {
        all[name] = value.as_str().into();
    }
    all
}

/// What a label may hold: other characters become `_`.
fn label_value(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let kept: String = text.chars().map(|c| if allowed(c) { c } else { '_' }).take(63).collect();
    kept.trim_matches(|c: char| !c.is_ascii_alphanumeric()).to_owned()
}

fn toleration((key, effect): (&String, &String)) -> Value {
    let mut toleration = match key.split_once('=') {
        Some((key, value)) => json!({"key": key, "operator": "Equal", "value": value}),
        None if key.is_empty() => json!({"operator": "Exists"}),
        None => json!({"key": key, "operator": "Exists"}),
    };
    if !effect.is_empty() {
        toleration["effect"] = effect.as_str().into();
    }
    toleration
}

fn resources(wanted: &[(&str, &str, &String)]) -> Value {
    let mut resources = json!({});
    for (kind, name, amount) in wanted.iter().filter(|(_, _, amount)| !amount.is_empty()) {
        resources[*kind][*name] = amount.as_str().into();
    }
    resources
}

fn pod_security(wanted: &SecurityContext) -> Value {
    let mut context = users(wanted);
    if let Some(group) = wanted.fs_group {
        context["fsGroup"] = group.into();
    }
    if !wanted.supplemental_groups.is_empty() {
        context["supplementalGroups"] = json!(wanted.supplemental_groups);
    }
    context
}

fn container_security(section: &KubernetesSection, own: &SecurityContext) -> Value {
    let mut context = users(own);
    let mut drop = vec!["NET_RAW".to_owned()];
    for name in section.cap_drop.iter().chain(&own.capabilities.drop) {
        if !drop.contains(name) {
            drop.push(name.clone());
        }
    }
    let add: Vec<&String> = section.cap_add.iter().chain(&own.capabilities.add).collect();
    drop.retain(|name| !add.contains(&name));
    context["capabilities"] = json!({"drop": drop});
    if !add.is_empty() {
        context["capabilities"]["add"] = json!(add);
    }
    let privileged = own.privileged.or(section.privileged);
    let escalation = own.allow_privilege_escalation.or(section.allow_privilege_escalation);
    for (name, value) in [("privileged", privileged), ("allowPrivilegeEscalation", escalation)] {
        if let Some(value) = value {
            context[name] = value.into();
        }
    }
    context
}

/// User and group of the pod stand in each container that runs scripts, where it has none of its own.
fn inherit_users(pod: &SecurityContext, context: &mut Value) {
    for (name, value) in [("runAsUser", pod.run_as_user), ("runAsGroup", pod.run_as_group)] {
        if let Some(value) = value.filter(|_| context[name].is_null()) {
            context[name] = value.into();
        }
    }
}

fn users(wanted: &SecurityContext) -> Value {
    let mut context = json!({});
    if let Some(value) = wanted.run_as_non_root {
        context["runAsNonRoot"] = value.into();
    }
    for (name, value) in [("runAsUser", wanted.run_as_user), ("runAsGroup", wanted.run_as_group)] {
        if let Some(value) = value {
            context[name] = value.into();
        }
    }
    // A wrong type is logged and the profile not set, so nothing stands here then.
    let profile = wanted.seccomp_profile.as_ref();
    let known = ["RuntimeDefault", "Localhost", "Unconfined"];
    if let Some(profile) = profile.filter(|profile| known.contains(&profile.kind.as_str())) {
        context["seccompProfile"] = json!({"type": profile.kind});
        if !profile.localhost_profile.is_empty() {
            context["seccompProfile"]["localhostProfile"] =
                profile.localhost_profile.clone().into();
        }
    }
    context
}

/// The volumes of the pod, and where every container has them.
struct Mounts {
    volumes: Vec<Value>,
    mounts: Vec<Value>,
}

impl Mounts {
    fn of(configured: &super::config_file::Volumes, payload: &Payload) -> Self {
        let (project, job) = (payload.project_id(), payload.id);
        let mut all = Self { volumes: Vec::new(), mounts: Vec::new() };
        for volume in &configured.empty_dir {
            let texts = [("sizeLimit", &volume.size_limit), ("medium", &volume.medium)];
            let set = texts.into_iter().filter(|(_, text)| !text.is_empty());
            let source: Map<String, Value> =
                set.map(|(name, text)| (name.to_owned(), text.as_str().into())).collect();
            all.add(volume, "emptyDir", Value::Object(source));
        }
        for volume in &configured.host_path {
            all.add(volume, "hostPath", json!({"path": volume.host_path}));
        }
        for volume in &configured.secret {
            all.add(volume, "secret", json!({"secretName": volume.name}));
        }
        for volume in &configured.config_map {
            all.add(volume, "configMap", json!({"name": volume.name}));
        }
        for volume in &configured.pvc {
            all.add(volume, "persistentVolumeClaim", json!({"claimName": volume.name}));
        }
        let own = [
            ("repo", "/builds".to_owned()),
            ("scripts", format!("/scripts-{project}-{job}")),
            ("logs", format!("/logs-{project}-{job}")),
        ];
        for (name, mount_path) in own {
            let volume = Volume { name: name.to_owned(), mount_path, ..Volume::default() };
            all.add(&volume, "emptyDir", json!({}));
        }
        all
    }

    fn add(&mut self, volume: &Volume, kind: &str, source: Value) {
        self.volumes.push(json!({"name": volume.name, kind: source}));
        let mut mount = json!({"name": volume.name, "mountPath": volume.mount_path});
        if volume.read_only {
            mount["readOnly"] = true.into();
        }
        self.mounts.push(mount);
    }
}

/// Lists of named things merge by name, everything else as JSON merge patches do.
fn merge(into: &mut Value, patch: &Value) {
    let (Some(object), Some(patch)) = (into.as_object_mut(), patch.as_object()) else {
        *into = patch.clone();
        return;
    };
    for (name, change) in patch {
        let present = object.entry(name.clone()).or_insert(Value::Null);
        match (present.as_array_mut(), change.as_array()) {
            _ if change.is_null() => *present = Value::Null,
            (Some(items), Some(changes)) if changes.iter().all(|item| item["name"].is_string()) => {
                for change in changes {
                    match items.iter_mut().find(|item| item["name"] == change["name"]) {
                        Some(item) => merge(item, change),
                        None => items.push(change.clone()),
                    }
                }
            }
            _ => merge(present, change),
        }
    }
    object.retain(|_, value| !value.is_null());
}

/// What a build container was given, read back from the pod that the server stored.
pub(super) fn build_container(pod: &Value) -> &Value {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    containers.into_iter().find(|container| container["name"] == "build").unwrap_or(&Value::Null)
}

/// Its variables, by name.
pub(super) fn variables_of(container: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let list = container["env"].as_array().into_iter().flatten();
    list.map(|variable| (text(&variable["name"]), text(&variable["value"]))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::managers::config_file::Config;

    fn payload() -> Payload {
        Payload::new(json!({
            "id": 77, "token": "made-up", "job_info": {"name": "hello", "project_id": 5},
            "runner_info": {"timeout": 600}, "image": {"name": "img:1"},
            "variables": [
                {"key": "CI_PROJECT_PATH", "value": "g/p", "public": true},
                {"key": "SECRET", "value": "s", "public": false},
                {"key": "A", "value": "of the job", "public": true},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn the_pod_says_what_file_and_job_say() {
        let text = r#"
            [[runners]]
            name = "a"
            token = "glrt-EXAMPLE0000000000000"
            environment = ["A=of the file", "B=1"]
            [runners.kubernetes]
            namespace = "ci-a"
            service_account = "job"
            cap_drop = ["ALL"]
            allow_privilege_escalation = false
            node_tolerations = { "ci=true" = "NoSchedule" }
            pod_labels = { "azure.workload.identity/use" = "true" }
            [runners.kubernetes.pod_security_context]
            run_as_non_root = true
            [runners.kubernetes.pod_security_context.seccomp_profile]
            type = "runtimedefault"
        "#;
        let entry = Config::parse(text).unwrap().runners.remove(0);
        let naming =
            Naming { pod_name: "runner-x", family: "runner-f", slot: 0, version: "19.4.0" };
        let pod = shape(&entry, &payload(), &naming);
        let spec = &pod["spec"];
        assert_eq!(spec["activeDeadlineSeconds"], 601);
        assert_eq!(spec["serviceAccountName"], "job");
        let build = build_container(&pod);
        let variables = variables_of(build);
        assert_eq!(variables["A"], "of the job");
        assert_eq!(variables["B"], "1");
        assert!(!variables.contains_key("SECRET"));
        assert_eq!(build["image"], "img:1");
        assert_eq!(build["securityContext"]["capabilities"]["drop"], json!(["NET_RAW", "ALL"]));
        assert_eq!(
            spec["securityContext"],
            json!({"runAsNonRoot": true}),
            "a wrong type is no profile"
        );
        assert_eq!(
            spec["tolerations"],
            json!([{"key": "ci", "operator": "Equal", "value": "true", "effect": "NoSchedule"}])
        );
        let metadata = &pod["metadata"];
        assert_eq!(metadata["labels"]["azure.workload.identity/use"], "true");
        assert_eq!(metadata["labels"]["manager.runner.gitlab.com/id-short"], "EXAMPLE00");
        assert_eq!(metadata["annotations"]["job.runner.gitlab.com/timeout"], "10m0s");
    }

    #[test]
    fn a_patch_of_the_pod_merges_named_things_by_name() {
        let mut spec = json!({"containers": [{"name": "build", "image": "a"}], "x": 1});
        let patch = json!({"containers": [{"name": "build", "tty": true}], "x": null});
        merge(&mut spec, &patch);
        assert_eq!(spec, json!({"containers": [{"name": "build", "image": "a", "tty": true}]}));
    }
}
