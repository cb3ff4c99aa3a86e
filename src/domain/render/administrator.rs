//! What an administrator applies once: the managers' namespace, the managers' role, forerunner's own rights, and the
//! admission policy that confines it (runner-on-kubernetes.md §12). `deploy/kubernetes/` shows it for an example fleet.

mod admission;
mod rights;

use super::{
    manager_role::manager_cluster_role,
    metadata::{body, texts},
    namespace::pod_security_labels,
};
use crate::domain::{ids::FleetName, names, spec::RunnerSpec};
use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use serde_json::Value;

/// What only an administrator knows.
#[derive(Clone, Copy, Debug)]
pub struct AdministratorInput<'a> {
    pub fleet: &'a FleetName,
    pub managers_namespace: &'a str,
    pub manager_cluster_role: &'a str,
    /// forerunner's user name as the API server sees it: on AKS with Entra ID the object id of its identity.
    pub forerunner_user: &'a str,
    /// Job namespaces that may enforce Pod Security `privileged`; empty unless a profile has `pods: privileged`.
    pub privileged_namespaces: &'a [String],
}

/// Whole objects in the order to apply them. Of kinds that forerunner itself never writes, so plain JSON.
pub fn administrator(input: &AdministratorInput<'_>, specs: &[RunnerSpec]) -> Vec<Value> {
    let mut objects = vec![managers_namespace(input)];
    objects.push(manager_cluster_role(input.manager_cluster_role, specs).body);
    objects.extend(rights::rights(input));
    objects.extend(admission::admission(input));
    objects
}

/// Its uid is the installation id. Every manager in it passes `restricted`.
fn managers_namespace(input: &AdministratorInput<'_>) -> Value {
    let mut labels = pod_security_labels("restricted", "restricted");
    labels.extend(texts([(names::LABEL_FLEET, input.fleet.as_str())]));
    body(&Namespace {
        metadata: ObjectMeta {
            name: Some(input.managers_namespace.to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    })
}

/// What forerunner's own rights and policy are called: one set a fleet.
fn own_name(input: &AdministratorInput<'_>) -> String {
    names::own_rights(input.fleet)
}

fn own_metadata(input: &AdministratorInput<'_>, namespace: Option<&str>) -> ObjectMeta {
    ObjectMeta {
        name: Some(own_name(input)),
        namespace: namespace.map(str::to_owned),
        labels: Some(texts([(names::LABEL_FLEET, input.fleet.as_str())])),
        ..ObjectMeta::default()
    }
}
