//! The Pod Security levels that a namespace's label enforces, in the server's words.
//! Source: runner-observed.md §5, <https://kubernetes.io/docs/concepts/security/pod-security-standards/>

use serde_json::Value;

const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Volume sources that `restricted` admits.
const RESTRICTED_VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Why a pod may not run in a namespace with these labels: `violates PodSecurity "restricted:latest": …`.
pub(super) fn violation(labels: &Value, spec: &Value) -> Option<String> {
    let level = labels["pod-security.kubernetes.io/enforce"].as_str()?;
    let version = labels["pod-security.kubernetes.io/enforce-version"].as_str().unwrap_or("latest");
    let faults = match level {
        "baseline" => baseline(spec),
        "restricted" => [baseline(spec), restricted(spec)].concat(),
        _ => Vec::new(),
    };
    (!faults.is_empty())
        .then(|| format!("violates PodSecurity \"{level}:{version}\": {}", faults.join(", ")))
}

fn containers(spec: &Value) -> Vec<&Value> {
    ["initContainers", "containers"]
        .iter()
        .flat_map(|list| spec[*list].as_array().into_iter().flatten())
        .collect()
}

/// `container "a"` or `containers "a", "b"`; nothing if none is meant.
fn naming(spec: &Value, is_meant: impl Fn(&Value) -> bool) -> Option<String> {
    let names: Vec<String> = containers(spec)
        .into_iter()
        .filter(|container| is_meant(container))
        .map(|container| container["name"].to_string())
        .collect();
    match names.as_slice() {
        [] => None,
        [one] => Some(format!("container {one}")),
        several => Some(format!("containers {}", several.join(", "))),
    }
}

fn baseline(spec: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|name| spec[*name] == true)
        .map(|name| format!("{name}=true"))
        .collect();
    if !shared.is_empty() {
        faults.push(format!("host namespaces ({})", shared.join(", ")));
    }
    let added = |container: &Value| {
        let added = container["securityContext"]["capabilities"]["add"].as_array();
        added.is_some_and(|added| {
            added
                .iter()
                .any(|name| !DEFAULT_CAPABILITIES.contains(&name.as_str().unwrap_or_default()))
        })
    };
    if let Some(who) = naming(spec, added) {
        faults.push(format!(
            "non-default capabilities ({who} must not include other than the default \
             capabilities in securityContext.capabilities.add)"
        ));
    }
    let volumes: Vec<String> = volumes(spec)
        .filter(|volume| !volume["hostPath"].is_null())
        .map(|volume| volume["name"].to_string())
        .collect();
    match volumes.as_slice() {
        [] => {}
        [one] => faults.push(format!("hostPath volumes (volume {one})")),
        several => faults.push(format!("hostPath volumes (volumes {})", several.join(", "))),
    }
    let host_port = |container: &Value| {
        let ports = container["ports"].as_array();
        ports.is_some_and(|ports| ports.iter().any(|port| port["hostPort"].as_u64() > Some(0)))
    };
    if let Some(who) = naming(spec, host_port) {
        faults.push(format!("hostPort ({who} must not use hostPort)"));
    }
    if let Some(who) = naming(spec, |container| container["securityContext"]["privileged"] == true)
    {
        faults.push(format!("privileged ({who} must not set securityContext.privileged=true)"));
    }
    let unconfined =
        |context: &Value| context["securityContext"]["seccompProfile"]["type"] == "Unconfined";
    let who = naming(spec, unconfined);
    if let Some(who) = who.or_else(|| unconfined(spec).then(|| "pod".to_owned())) {
        faults.push(format!(
            "seccompProfile ({who} must not set securityContext.seccompProfile.type to \
             \"Unconfined\")"
        ));
    }
    faults
}

fn volumes(spec: &Value) -> impl Iterator<Item = &Value> {
    spec["volumes"].as_array().into_iter().flatten()
}

fn restricted(spec: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let escalates =
        |container: &Value| container["securityContext"]["allowPrivilegeEscalation"] != false;
    if let Some(who) = naming(spec, escalates) {
        faults.push(format!(
            "allowPrivilegeEscalation != false ({who} must set \
             securityContext.allowPrivilegeEscalation=false)"
        ));
    }
    let keeps = |container: &Value| {
        let dropped = container["securityContext"]["capabilities"]["drop"].as_array();
        !dropped.is_some_and(|dropped| dropped.contains(&Value::from("ALL")))
    };
    if let Some(who) = naming(spec, keeps) {
        faults.push(format!(
            "unrestricted capabilities ({who} must set securityContext.capabilities.drop=[\"ALL\"])"
        ));
    }
    for volume in volumes(spec) {
        let source = volume
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name)
            .find(|name| *name != "name" && !RESTRICTED_VOLUMES.contains(&name.as_str()));
        if let Some(source) = source {
            faults.push(format!(
                "restricted volume types (volume {} uses restricted volume type \"{source}\")",
                volume["name"]
            ));
        }
    }
    let of_pod = &spec["securityContext"];
    let may_be_root = |container: &Value| {
        let own = &container["securityContext"]["runAsNonRoot"];
        *own == false || (own.is_null() && of_pod["runAsNonRoot"] != true)
    };
    if let Some(who) = naming(spec, may_be_root) {
        faults.push(format!(
            "runAsNonRoot != true (pod or {who} must set securityContext.runAsNonRoot=true)"
        ));
    }
    if of_pod["runAsUser"] == 0 {
        faults.push("runAsUser=0 (pod must not set runAsUser=0)".to_owned());
    }
    if let Some(who) = naming(spec, |container| container["securityContext"]["runAsUser"] == 0) {
        faults.push(format!("runAsUser=0 ({who} must not set runAsUser=0)"));
    }
    let confined = |context: &Value| {
        let profile = context["seccompProfile"]["type"].as_str();
        profile.map(|profile| ["RuntimeDefault", "Localhost"].contains(&profile))
    };
    let no_seccomp = |container: &Value| {
        !confined(&container["securityContext"]).or_else(|| confined(of_pod)).unwrap_or(false)
    };
    if let Some(who) = naming(spec, no_seccomp) {
        faults.push(format!(
            "seccompProfile (pod or {who} must set securityContext.seccompProfile.type to \
             \"RuntimeDefault\" or \"Localhost\")"
        ));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_bare_pod_breaks_restricted_in_four_ways() {
        let spec = json!({
            "initContainers": [{"name": "init-permissions"}],
            "containers": [{"name": "build"}, {"name": "helper"}],
        });
        let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
        assert_eq!(
            violation(&labels, &spec).as_deref(),
            Some(
                "violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false \
                 (containers \"init-permissions\", \"build\", \"helper\" must set \
                 securityContext.allowPrivilegeEscalation=false), unrestricted capabilities \
                 (containers \"init-permissions\", \"build\", \"helper\" must set \
                 securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or \
                 containers \"init-permissions\", \"build\", \"helper\" must set \
                 securityContext.runAsNonRoot=true), seccompProfile (pod or containers \
                 \"init-permissions\", \"build\", \"helper\" must set \
                 securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
            )
        );
    }

    #[test]
    fn baseline_refuses_privileged_and_host_paths_only() {
        let labels = json!({"pod-security.kubernetes.io/enforce": "baseline"});
        for (spec, text) in [
            (json!({"containers": [{"name": "build"}]}), None),
            (
                json!({"containers": [{"name": "b", "securityContext": {"privileged": true}}]}),
                Some(
                    "violates PodSecurity \"baseline:latest\": privileged (container \"b\" must \
                     not set securityContext.privileged=true)",
                ),
            ),
            (
                json!({"containers": [], "volumes": [{"name": "h", "hostPath": {"path": "/"}}]}),
                Some("violates PodSecurity \"baseline:latest\": hostPath volumes (volume \"h\")"),
            ),
        ] {
            assert_eq!(violation(&labels, &spec).as_deref(), text, "{spec}");
        }
    }
}
