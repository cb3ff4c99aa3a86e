//! Who a manager and its jobs are in the cluster. The manager has Kubernetes rights and no Azure identity, the job an
//! Azure identity and no Kubernetes rights (runner-on-kubernetes.md §4.4).

use super::{
    Context,
    metadata::{domain_labels, metadata, object, runner_labels, texts},
};
use crate::domain::{
    kubernetes::{Kind, Object, ObjectName},
    names,
    spec::RunnerSpec,
};
use k8s_openapi::api::{
    core::v1::ServiceAccount,
    rbac::v1::{RoleBinding, RoleRef, Subject},
};
use uuid::Uuid;

/// The account of pods that name none: no Kubernetes API token by accident.
pub fn default_account(spec: &RunnerSpec, ctx: &Context<'_>) -> Object {
    let name = job_side(Kind::ServiceAccount, spec, ctx, "default");
    let typed = ServiceAccount {
        metadata: metadata(&name, domain_labels(spec, ctx)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    object(name, &typed)
}

/// The account of the job pods: the only subject of the federated credential. No RoleBinding of ours names it.
/// `client` is the identity's client id and tenant id, once it is known.
pub fn job_account(spec: &RunnerSpec, ctx: &Context<'_>, client: Option<(Uuid, Uuid)>) -> Object {
    let name = job_side(Kind::ServiceAccount, spec, ctx, &names::job_account(spec));
    let mut metadata = metadata(&name, domain_labels(spec, ctx));
    metadata.annotations = client.map(|(client, tenant)| {
        texts([
            (names::ANNOTATION_CLIENT, &client.to_string()),
            (names::ANNOTATION_TENANT, &tenant.to_string()),
            ("azure.workload.identity/service-account-token-expiration", "3600"),
        ])
    });
    let typed = ServiceAccount {
        metadata,
        automount_service_account_token: Some(spec.kubernetes.kubernetes_api),
        ..ServiceAccount::default()
    };
    object(name, &typed)
}

/// The manager's account, in the managers' namespace. Its Deployment asks for the token, nothing else gets one.
pub fn manager_account(spec: &RunnerSpec, ctx: &Context<'_>) -> Object {
    let namespace = &ctx.fleet.cluster.managers_namespace;
    let name = ObjectName::new(Kind::ServiceAccount, namespace, &names::manager(&spec.key));
    let typed = ServiceAccount {
        metadata: metadata(&name, runner_labels(spec, ctx)),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    };
    object(name, &typed)
}

/// Lets the manager run pods in the job namespace, by the shipped ClusterRole and nowhere else.
/// `roleRef` cannot be changed: another role is a deletion and a creation.
pub fn binding(spec: &RunnerSpec, ctx: &Context<'_>) -> Object {
    let manager = names::manager(&spec.key);
    let name = job_side(Kind::RoleBinding, spec, ctx, &manager);
    let typed = RoleBinding {
        metadata: metadata(&name, runner_labels(spec, ctx)),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: ctx.fleet.cluster.manager_cluster_role.clone(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: manager,
            namespace: Some(ctx.fleet.cluster.managers_namespace.clone()),
            ..Subject::default()
        }]),
    };
    object(name, &typed)
}

fn job_side(kind: Kind, spec: &RunnerSpec, ctx: &Context<'_>, name: &str) -> ObjectName {
    ObjectName::new(kind, &names::job_namespace(&ctx.fleet.name, spec), name)
}
