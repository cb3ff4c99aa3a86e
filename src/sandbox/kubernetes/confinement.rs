//! What the shipped ValidatingAdmissionPolicy refuses forerunner, evaluated natively instead of in CEL
//! (runner-on-kubernetes.md §12). It holds while it and its binding exist.

use super::{User, kinds::Kind, store::State};
use serde_json::Value;

/// Whom the policy confines, and to what.
#[derive(Clone, Debug)]
pub struct Confinement {
    /// Name of the policy and of its binding.
    pub policy: String,
    /// The user name, as the authenticator gives it.
    pub user: String,
    /// Key of the label of the fleet's namespaces, and its value.
    pub fleet_label: String,
    pub fleet: String,
    /// The namespace of the managers, whose object nobody confined may change.
    pub managers_namespace: String,
    /// The one ClusterRole that may be bound, and only to accounts of the managers' namespace.
    pub managers_cluster_role: String,
}

/// A write as the policy sees it.
#[derive(Debug)]
pub(super) struct Write<'a> {
    pub(super) kind: &'a Kind,
    pub(super) subresource: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) object: Option<&'a Value>,
    pub(super) old: Option<&'a Value>,
}

/// Why the write is refused, if it is.
pub(super) fn denial(state: &State, user: &User, write: &Write<'_>) -> Option<String> {
    let rules = state.settings.confinement.as_ref()?;
    let is_there = |plural: &str| state.find(plural, "", &rules.policy).is_some();
    if user.name != rules.user
        || !is_there("validatingadmissionpolicybindings")
        || !is_there("validatingadmissionpolicies")
    {
        return None;
    }
    let (why, policy) = (refusal(state, rules, write)?, &rules.policy);
    Some(format!(
        "ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: {why}"
    ))
}

/// The policy's validations, in its order; the first that fails is told, with its own words.
fn refusal(state: &State, rules: &Confinement, write: &Write<'_>) -> Option<&'static str> {
    let label = |object: Option<&Value>, key: &str| {
        let label = object.and_then(|object| object["metadata"]["labels"][key].as_str());
        label.unwrap_or_default().to_owned()
    };
    let ours = |object: Option<&Value>| label(object, &rules.fleet_label) == rules.fleet;
    let is_namespace = write.kind.kind == "Namespace";
    let managers = rules.managers_namespace.as_str();
    let deletes = write.object.is_none();
    if !is_namespace && !ours(state.find("namespaces", "", write.namespace)) {
        return Some("forerunner works only in namespaces that carry its fleet's label");
    }
    if is_namespace {
        if (write.old.is_some() && !ours(write.old)) || (!deletes && !ours(write.object)) {
            return Some(
                "forerunner makes, changes and deletes only namespaces that carry its fleet's label, and never moves it",
            );
        }
        let level = label(write.object, "pod-security.kubernetes.io/enforce");
        if !deletes && !["baseline", "restricted"].contains(&level.as_str()) {
            return Some(
                "a namespace of forerunner's enforces Pod Security baseline or restricted",
            );
        }
        if write.name == managers {
            return Some("the managers' namespace is an administrator's");
        }
    }
    if write.kind.kind == "RoleBinding" {
        if write.object.is_some_and(|binding| !binds_managers(rules, binding)) {
            return Some("forerunner binds only managers, and only to their own role");
        }
        if write.namespace == managers {
            return Some("nobody is bound to anything in the managers' namespace");
        }
    }
    let kept = ["Secret", "ConfigMap", "Deployment"].contains(&write.kind.kind);
    if kept && write.namespace != managers {
        return Some(
            "forerunner keeps Secrets, ConfigMaps and Deployments in the managers' namespace alone",
        );
    }
    if write.kind.kind == "Secret" && write.object.is_some_and(|secret| secret["type"] != "Opaque")
    {
        return Some(
            "forerunner writes only Opaque Secrets: another type would be filled with a manager's token",
        );
    }
    if write.kind.kind == "Pod" {
        return Some("forerunner makes, changes and enters no pods");
    }
    (!write.subresource.is_empty())
        .then_some("forerunner uses no sub-resource: no service-account token, no exec, no status")
}

fn binds_managers(rules: &Confinement, binding: &Value) -> bool {
    let role = &binding["roleRef"];
    let is_managers = |subject: &Value| {
        subject["kind"] == "ServiceAccount"
            && subject["namespace"] == rules.managers_namespace.as_str()
    };
    role["kind"] == "ClusterRole"
        && role["name"] == rules.managers_cluster_role.as_str()
        && binding["subjects"].as_array().is_some_and(|subjects| subjects.iter().all(is_managers))
}
