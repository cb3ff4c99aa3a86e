//! What the shipped ValidatingAdmissionPolicy refuses forerunner, evaluated natively instead of in CEL
//! (runner-on-kubernetes.md §12). It holds while its binding exists.

use super::{User, kinds::Kind, store::State};
use serde_json::Value;

/// Whom the policy confines, and to what.
#[derive(Clone, Debug)]
pub struct Confinement {
    /// Name of the policy and of its binding.
    pub policy: String,
    /// The user name, as the authenticator gives it.
    pub user: String,
    /// Key of the label of the fleet's namespaces.
    pub fleet_label: String,
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
    if user.name != rules.user
        || state.find("validatingadmissionpolicybindings", "", &rules.policy).is_none()
    {
        return None;
    }
    let (why, policy) = (refusal(state, rules, write)?, &rules.policy);
    Some(format!(
        "ValidatingAdmissionPolicy '{policy}' with binding '{policy}' denied request: {why}"
    ))
}

fn refusal(state: &State, rules: &Confinement, write: &Write<'_>) -> Option<String> {
    let labelled = |namespace: Option<&Value>| {
        namespace.is_some_and(|namespace| {
            !namespace["metadata"]["labels"][rules.fleet_label.as_str()].is_null()
        })
    };
    let is_namespace = write.kind.kind == "Namespace";
    if is_namespace {
        if !labelled(write.old.or(write.object)) {
            return Some("the namespace is not one of the fleet's".to_owned());
        }
        if write.name == rules.managers_namespace && write.old.is_some() {
            return Some("the managers' namespace is not to be changed".to_owned());
        }
        let level = |object: &Value| {
            let level = &object["metadata"]["labels"]["pod-security.kubernetes.io/enforce"];
            level.as_str().is_some_and(|level| ["baseline", "restricted"].contains(&level))
        };
        if write.object.is_some_and(|object| !level(object)) {
            return Some("the namespace has to enforce baseline or restricted".to_owned());
        }
        return None;
    }
    if !labelled(state.find("namespaces", "", write.namespace)) {
        return Some("the namespace is not one of the fleet's".to_owned());
    }
    match (write.kind.kind, write.subresource) {
        ("Pod", _) if write.old.is_none() => Some("no pods of its own".to_owned()),
        ("ServiceAccount", "token") => Some("no tokens of service accounts".to_owned()),
        ("RoleBinding", _) => {
            let binding = write.object?;
            let to_managers = binding["subjects"].as_array().is_none_or(|subjects| {
                subjects.iter().all(|subject| {
                    subject["kind"] == "ServiceAccount"
                        && subject["namespace"] == rules.managers_namespace.as_str()
                })
            });
            let shipped = binding["roleRef"]["kind"] == "ClusterRole"
                && binding["roleRef"]["name"] == rules.managers_cluster_role.as_str();
            (!to_managers || !shipped)
                .then(|| "only managers are bound, to their one role".to_owned())
        }
        _ => None,
    }
}
