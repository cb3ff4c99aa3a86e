//! What makes an object invalid: names, labels, required fields, and fields that never change.

mod network;
mod pod;

use super::{
    kinds::Kind,
    status::{Cause, Status},
};
use base64::Engine;
use serde_json::Value;

/// Bytes that a Secret or a ConfigMap holds at most.
const DATA_MAX: usize = 1024 * 1024;

pub(super) fn check(kind: &Kind, object: &Value, live: Option<&Value>) -> Result<(), Status> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let mut causes = Vec::new();
    check_metadata(kind, object, &mut causes);
    match kind.kind {
        "Deployment" => pod::check_deployment(object, &mut causes),
        "Pod" => pod::check(&object["spec"], "spec", &mut causes),
        "RoleBinding" | "ClusterRoleBinding" => check_binding(object, &mut causes),
        "Secret" => check_secret(object)?,
        "ConfigMap" => check_config_map(object, &mut causes),
        "NetworkPolicy" => network::check(object, &mut causes),
        _ => {}
    }
    if let Some(live) = live {
        check_change(kind, object, live, &mut causes);
    }
    if causes.is_empty() { Ok(()) } else { Err(Status::invalid(kind, name, &causes)) }
}

fn check_metadata(kind: &Kind, object: &Value, causes: &mut Vec<Cause>) {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let is_label = kind.kind == "Namespace";
    let is_path = kind.group == "rbac.authorization.k8s.io";
    let longest = if is_label { 63 } else { 253 };
    let fits = |part: &str| {
        let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
        edge(part.as_bytes().first())
            && edge(part.as_bytes().last())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if name.is_empty() {
        causes.push(Cause::required("metadata.name"));
    } else if is_path && !name.contains(['/', '%']) {
        // RBAC objects may be named like a path segment, such as `system:node`.
    } else if name.len() > longest
        || (is_label && !fits(name))
        || (!is_label && !name.split('.').all(fits))
    {
        let what = if is_label { "label" } else { "subdomain" };
        causes.push(Cause::invalid(
            "metadata.name",
            format!(
                "Invalid value: \"{name}\": a lowercase RFC 1123 {what} of at most {longest} \
                 characters is needed"
            ),
        ));
    }
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    for (key, value) in labels {
        let value = value.as_str().unwrap_or_default();
        let edge = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
        let valid = value.len() <= 63
            && edge(value.as_bytes().first())
            && edge(value.as_bytes().last())
            && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        if !valid {
            causes.push(Cause::invalid(
                "metadata.labels",
                format!("Invalid value: \"{value}\": no valid value of the label {key}"),
            ));
        }
    }
    let annotations = object["metadata"]["annotations"].as_object();
    let size: usize = annotations
        .into_iter()
        .flatten()
        .map(|(name, value)| name.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size > 256 * 1024 {
        causes.push(Cause {
            reason: "FieldValueTooLong",
            field: "metadata.annotations".to_owned(),
            message: "Too long: may not be more than 262144 bytes".to_owned(),
        });
    }
}

fn check_binding(object: &Value, causes: &mut Vec<Cause>) {
    let role = &object["roleRef"];
    let kind = role["kind"].as_str().unwrap_or_default();
    if !["Role", "ClusterRole"].contains(&kind) {
        causes.push(not_supported("roleRef.kind", kind, &["Role", "ClusterRole"]));
    }
    if role["name"].as_str().unwrap_or_default().is_empty() {
        causes.push(Cause::required("roleRef.name"));
    }
    for (index, subject) in object["subjects"].as_array().into_iter().flatten().enumerate() {
        let kind = subject["kind"].as_str().unwrap_or_default();
        if !["ServiceAccount", "User", "Group"].contains(&kind) {
            let supported = ["ServiceAccount", "User", "Group"];
            causes.push(not_supported(&format!("subjects[{index}].kind"), kind, &supported));
        }
        if subject["kind"] == "ServiceAccount" && subject["namespace"].is_null() {
            causes.push(Cause::required(format!("subjects[{index}].namespace")));
        }
    }
}

fn not_supported(field: &str, value: &str, supported: &[&str]) -> Cause {
    let supported: Vec<String> = supported.iter().map(|value| format!("\"{value}\"")).collect();
    Cause {
        reason: "FieldValueNotSupported",
        field: field.to_owned(),
        message: format!(
            "Unsupported value: \"{value}\": supported values: {}",
            supported.join(", ")
        ),
    }
}

/// Data that is no base64 does not even decode.
fn check_secret(object: &Value) -> Result<(), Status> {
    let mut size = 0;
    for (name, value) in object["data"].as_object().into_iter().flatten() {
        let text = value.as_str().unwrap_or_default();
        let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text) else {
            return Err(Status::bad_request(format!(
                "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data in \
                 data.{name}"
            )));
        };
        size += bytes.len();
    }
    if size > DATA_MAX {
        let cause = Cause::too_long("data");
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        return Err(Status::invalid(super::kinds::known("secrets"), name, &[cause]));
    }
    Ok(())
}

fn check_config_map(object: &Value, causes: &mut Vec<Cause>) {
    let sizes = ["data", "binaryData"].map(|field| {
        let values = object[field].as_object().into_iter().flatten();
        values.map(|(_, value)| value.as_str().map_or(0, str::len)).sum::<usize>()
    });
    if sizes.iter().sum::<usize>() > DATA_MAX {
        // The server names no field here.
        causes.push(Cause::too_long("[]"));
    }
}

fn check_change(kind: &Kind, object: &Value, live: &Value, causes: &mut Vec<Cause>) {
    let mut fixed = |field: &str, value: &Value, why: &str| {
        causes.push(Cause::invalid(field, format!("Invalid value: {value}: {why}")));
    };
    match kind.kind {
        "Deployment" if object["spec"]["selector"] != live["spec"]["selector"] => {
            fixed("spec.selector", &object["spec"]["selector"], "field is immutable");
        }
        "RoleBinding" | "ClusterRoleBinding" if object["roleRef"] != live["roleRef"] => {
            fixed("roleRef", &object["roleRef"], "cannot change roleRef");
        }
        "Secret" if object["type"] != live["type"] => {
            fixed("type", &object["type"], "field is immutable");
        }
        "Pod" if object["spec"] != live["spec"] => {
            let why = "Forbidden: pod updates may change only a few fields of the spec";
            causes.push(Cause::forbidden("spec", why));
        }
        _ => {}
    }
    if ["Secret", "ConfigMap"].contains(&kind.kind)
        && live["immutable"] == true
        && (object["data"] != live["data"] || object["immutable"] != true)
    {
        let why = "Forbidden: field is immutable when `immutable` is set";
        causes.push(Cause::forbidden("data", why));
    }
}
