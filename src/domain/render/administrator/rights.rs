//! forerunner's own rights: to keep job namespaces and their bounds, to bind one role, and managers in one namespace.

use super::{AdministratorInput, body, own_metadata, own_name};
use crate::domain::{names, render::manager_role::rule};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use serde_json::Value;

/// What an apply needs, the look before it, the search by labels, and the end.
const KEEP: [&str; 5] = ["create", "delete", "get", "list", "patch"];

/// A role for the cluster, one for the managers' namespace, and a binding of each.
pub(super) fn rights(input: &AdministratorInput<'_>) -> Vec<Value> {
    let managers = Some(input.managers_namespace);
    let role_ref = |kind: &str| RoleRef {
        api_group: "rbac.authorization.k8s.io".to_owned(),
        kind: kind.to_owned(),
        name: own_name(input),
    };
    let subjects = || {
        Some(vec![Subject {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "User".to_owned(),
            name: input.forerunner_user.to_owned(),
            ..Subject::default()
        }])
    };
    vec![
        body(&ClusterRole {
            metadata: own_metadata(input, None),
            rules: Some(cluster_rules(input)),
            ..ClusterRole::default()
        }),
        body(&ClusterRoleBinding {
            metadata: own_metadata(input, None),
            role_ref: role_ref("ClusterRole"),
            subjects: subjects(),
        }),
        body(&Role { metadata: own_metadata(input, managers), rules: Some(managers_rules()) }),
        body(&RoleBinding {
            metadata: own_metadata(input, managers),
            role_ref: role_ref("Role"),
            subjects: subjects(),
        }),
    ]
}

/// No more than this version uses: a test on a real API server compares them with its audit log, verb by verb.
///
/// Cluster-wide, because job namespaces come and go; the admission policy narrows it to the fleet's. No `escalate`, no
/// Secrets, no making of pods. `bind` lets it give the managers' role without holding it.
fn cluster_rules(input: &AdministratorInput<'_>) -> Vec<PolicyRule> {
    let named = |group, resource, name: &str, verbs: &[&str]| PolicyRule {
        resource_names: Some(vec![name.to_owned()]),
        ..rule(group, resource, verbs)
    };
    let admission = "admissionregistration.k8s.io";
    let (own, webhook) = (own_name(input), names::IDENTITY_WEBHOOK);
    let role = input.manager_cluster_role;
    vec![
        rule("", "namespaces", &KEEP),
        rule("", "serviceaccounts", &KEEP),
        rule("", "resourcequotas", &KEEP),
        rule("", "limitranges", &KEEP),
        rule("networking.k8s.io", "networkpolicies", &KEEP),
        rule("rbac.authorization.k8s.io", "rolebindings", &KEEP),
        // Whether a job still runs; never a look into one.
        rule("", "pods", &["list"]),
        named("rbac.authorization.k8s.io", "clusterroles", role, &["bind", "get"]),
        // Whether these are still as an administrator applied them; each by its name alone.
        named(admission, "validatingadmissionpolicies", &own, &["get"]),
        named(admission, "validatingadmissionpolicybindings", &own, &["get"]),
        named(admission, "mutatingwebhookconfigurations", webhook, &["get"]),
    ]
}

/// Secrets are replaced at the version they were read at, hence `update`; so is the ledger.
fn managers_rules() -> Vec<PolicyRule> {
    vec![
        rule("", "secrets", &["create", "delete", "get", "list", "patch", "update"]),
        rule("", "configmaps", &["create", "delete", "get", "list", "patch", "update"]),
        rule("apps", "deployments", &KEEP),
    ]
}
