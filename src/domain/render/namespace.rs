//! The job namespace and its bounds.

use super::{
    Context,
    metadata::{domain_labels, metadata, object, quantities, texts},
    quantity,
};
use crate::domain::{
    kubernetes::{Kind, Object, ObjectName},
    names,
    spec::{Isolation, Pods, RunnerSpec},
};
use k8s_openapi::{
    api::core::v1::{
        LimitRange, LimitRangeItem, LimitRangeSpec, Namespace, ResourceQuota, ResourceQuotaSpec,
    },
    apimachinery::pkg::api::resource::Quantity,
};

/// The namespace of the job pods, with its Pod Security labels (runner-on-kubernetes.md §6.1).
///
/// Not for a namespace that an administrator made (`kubernetes.namespace`): that one's labels are theirs.
pub fn job_namespace(spec: &RunnerSpec, ctx: &Context<'_>) -> Object {
    let namespace = names::job_namespace(&ctx.fleet.name, spec);
    let name = ObjectName::of_cluster(Kind::Namespace, &namespace);
    let mut labels = domain_labels(spec, ctx);
    labels.extend(pod_security(spec.pods));
    let typed = Namespace { metadata: metadata(&name, labels), ..Namespace::default() };
    object(name, &typed)
}

fn pod_security(pods: Pods) -> super::metadata::Texts {
    let (enforce, watch) = match pods {
        Pods::Hardened => ("restricted", "restricted"),
        Pods::Standard | Pods::ImageBuild => ("baseline", "restricted"),
        Pods::Privileged => ("privileged", "baseline"),
    };
    pod_security_labels(enforce, watch)
}

pub(super) fn pod_security_labels(enforce: &str, watch: &str) -> super::metadata::Texts {
    texts([
        ("pod-security.kubernetes.io/enforce", enforce),
        ("pod-security.kubernetes.io/enforce-version", "latest"),
        ("pod-security.kubernetes.io/audit", watch),
        ("pod-security.kubernetes.io/audit-version", "latest"),
        ("pod-security.kubernetes.io/warn", watch),
        ("pod-security.kubernetes.io/warn-version", "latest"),
    ])
}

/// How much the namespace may hold. What the file leaves out follows from `concurrent`, which counts twice while a
/// manager rolls, and ten pods that still terminate; a shared namespace has no single `concurrent` to follow from.
pub fn quota(spec: &RunnerSpec, ctx: &Context<'_>) -> Object {
    let name = bounds(Kind::ResourceQuota, spec, ctx);
    let mut hard = quantities([
        ("persistentvolumeclaims", "0"),
        ("services.loadbalancers", "0"),
        ("services.nodeports", "0"),
    ]);
    if spec.isolation == Isolation::Target {
        let pods = u64::from(spec.runner.concurrent) * 2 + 10;
        hard.insert("pods".to_owned(), Quantity(pods.to_string()));
    }
    let given = &spec.kubernetes.quota;
    hard.extend(given.iter().map(|(key, value)| (key.clone(), Quantity(value.clone()))));
    let typed = ResourceQuota {
        metadata: metadata(&name, domain_labels(spec, ctx)),
        spec: Some(ResourceQuotaSpec { hard: Some(hard), ..ResourceQuotaSpec::default() }),
        ..ResourceQuota::default()
    };
    object(name, &typed)
}

/// What a container without requests or limits gets: with a quota on them the server refuses one that has none.
/// A limit is put in only where the profile has one, or the quota counts it. Runners that share a namespace may differ
/// in theirs, so there only the quota counts.
pub fn limit_range(spec: &RunnerSpec, ctx: &Context<'_>) -> Object {
    let name = bounds(Kind::LimitRange, spec, ctx);
    let kubernetes = &spec.kubernetes;
    let resources = [
        ("cpu", &kubernetes.cpu, "100m", "1"),
        ("memory", &kubernetes.memory, "128Mi", "1Gi"),
        ("ephemeral-storage", &kubernetes.ephemeral_storage, "256Mi", "4Gi"),
    ];
    let mut item = LimitRangeItem { type_: "Container".to_owned(), ..LimitRangeItem::default() };
    for (resource, amount, request, fallback) in resources {
        let counted = kubernetes.quota.contains_key(&format!("limits.{resource}"));
        let own = amount.limit.as_deref().filter(|_| spec.isolation == Isolation::Target);
        let limit = own.or(counted.then_some(fallback));
        let request = limit.filter(|limit| quantity::less(limit, request)).unwrap_or(request);
        let set = |map: &mut Option<std::collections::BTreeMap<String, Quantity>>, value: &str| {
            let map = map.get_or_insert_default();
            map.insert(resource.to_owned(), Quantity(value.to_owned()));
        };
        set(&mut item.default_request, request);
        if let Some(limit) = limit {
            set(&mut item.default, limit);
        }
    }
    let typed = LimitRange {
        metadata: metadata(&name, domain_labels(spec, ctx)),
        spec: Some(LimitRangeSpec { limits: vec![item] }),
    };
    object(name, &typed)
}

fn bounds(kind: Kind, spec: &RunnerSpec, ctx: &Context<'_>) -> ObjectName {
    ObjectName::new(kind, &names::job_namespace(&ctx.fleet.name, spec), &names::job_bounds(spec))
}
