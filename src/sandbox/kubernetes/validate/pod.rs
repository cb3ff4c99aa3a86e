//! What makes a pod invalid, or a Deployment of pods.

use super::{super::selectors, Cause, not_supported};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) fn check_deployment(object: &Value, causes: &mut Vec<Cause>) {
    let spec = &object["spec"];
    let labels = &spec["template"]["metadata"]["labels"];
    if let Some(replicas) = spec["replicas"].as_i64().filter(|replicas| *replicas < 0) {
        let why = format!("Invalid value: {replicas}: must be greater than or equal to 0");
        causes.push(Cause::invalid("spec.replicas", why));
    }
    if spec["selector"].as_object().is_none_or(serde_json::Map::is_empty) {
        causes.push(Cause::required("spec.selector"));
    } else if !selectors::selects(&spec["selector"], labels) {
        causes.push(Cause::invalid(
            "spec.template.metadata.labels",
            format!("Invalid value: {labels}: `selector` does not match template `labels`"),
        ));
    }
    let policy = spec["template"]["spec"]["restartPolicy"].as_str().unwrap_or_default();
    if policy != "Always" {
        causes.push(not_supported("spec.template.spec.restartPolicy", policy, &["Always"]));
    }
    check_strategy(&spec["strategy"], causes);
    check(&spec["template"]["spec"], "spec.template.spec", causes);
}

pub(super) fn check(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let empty = Vec::new();
    let list = |name: &str| spec[name].as_array().unwrap_or(&empty);
    if list("containers").is_empty() {
        causes.push(Cause::required(format!("{path}.containers")));
    }
    let volumes: BTreeSet<&str> =
        list("volumes").iter().filter_map(|volume| volume["name"].as_str()).collect();
    for kind in ["initContainers", "containers"] {
        for (index, container) in list(kind).iter().enumerate() {
            let path = format!("{path}.{kind}[{index}]");
            for field in ["name", "image"] {
                if container[field].as_str().unwrap_or_default().is_empty() {
                    causes.push(Cause::required(format!("{path}.{field}")));
                }
            }
            check_probes(container, &path, causes);
            let security = &container["securityContext"];
            if security["privileged"] == true && security["allowPrivilegeEscalation"] == false {
                let why = "Invalid value: cannot set `allowPrivilegeEscalation` to false and \
                           `privileged` to true";
                causes.push(Cause::invalid(format!("{path}.securityContext"), why));
            }
            let mounts = container["volumeMounts"].as_array().unwrap_or(&empty);
            for (index, mount) in mounts.iter().enumerate() {
                let name = mount["name"].as_str().unwrap_or_default();
                if !volumes.contains(name) {
                    causes.push(Cause {
                        reason: "FieldValueNotFound",
                        field: format!("{path}.volumeMounts[{index}].name"),
                        message: format!("Not found: \"{name}\""),
                    });
                }
            }
        }
    }
    for (index, toleration) in list("tolerations").iter().enumerate() {
        if !toleration["tolerationSeconds"].is_null() && toleration["effect"] != "NoExecute" {
            let why = "Invalid value: effect must be 'NoExecute' when `tolerationSeconds` is set";
            causes.push(Cause::invalid(format!("{path}.tolerations[{index}].effect"), why));
        }
    }
}

fn check_strategy(strategy: &Value, causes: &mut Vec<Cause>) {
    let kind = strategy["type"].as_str().unwrap_or_default();
    if !["Recreate", "RollingUpdate"].contains(&kind) {
        let supported = ["Recreate", "RollingUpdate"];
        causes.push(not_supported("spec.strategy.type", kind, &supported));
    }
    if kind == "Recreate" && !strategy["rollingUpdate"].is_null() {
        let why = "Forbidden: may not be specified when strategy `type` is 'Recreate'";
        causes.push(Cause::forbidden("spec.strategy.rollingUpdate".to_owned(), why));
    }
}

fn check_probes(container: &Value, path: &str, causes: &mut Vec<Cause>) {
    for probe in ["livenessProbe", "startupProbe"] {
        let threshold = &container[probe]["successThreshold"];
        if !threshold.is_null() && *threshold != 1 {
            let field = format!("{path}.{probe}.successThreshold");
            causes.push(Cause::invalid(field, format!("Invalid value: {threshold}: must be 1")));
        }
    }
}
