//! The executor's table of a `[[runners]]` entry: what a job pod is (runner-on-kubernetes.md §3, runner-observed.md §5).

use super::{
    Context,
    job_pod::{
        JOB_HOME, JOB_USER, PodSecurityContext, capabilities, pod_annotations, pod_labels,
        pod_security_context,
    },
    metadata::{Texts, texts},
};
use crate::domain::{
    ids::RunnerId,
    names,
    spec::{Pods, RunnerSpec},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// Matches no image: an empty list would allow every service. The profile's own image and the helper's always pass as a
/// service (gitlab-runner's `verifyAllowedImages`): no third party's, and nothing a job could not run anyway.
const NO_SERVICES: &str = "services-are-off.invalid/none";
/// Field names are the file's keys. Every `*_overwrite_allowed` is written out empty: a value is an unanchored pattern.
#[derive(Serialize)]
pub(super) struct Kubernetes<'a> {
    namespace: String,
    namespace_overwrite_allowed: &'static str,
    service_account_overwrite_allowed: &'static str,
    pod_labels_overwrite_allowed: &'static str,
    pod_annotations_overwrite_allowed: &'static str,
    node_selector_overwrite_allowed: &'static str,
    node_tolerations_overwrite_allowed: &'static str,
    bearer_token_overwrite_allowed: bool,
    service_account: String,
    automount_service_account_token: bool,
    image: &'a str,
    #[serde(skip_serializing_if = "is_empty")]
    allowed_images: Vec<&'a str>,
    #[serde(skip_serializing_if = "is_empty")]
    allowed_services: Vec<&'a str>,
    #[serde(skip_serializing_if = "is_empty")]
    pull_policy: Vec<&'a str>,
    #[serde(skip_serializing_if = "is_empty")]
    allowed_pull_policies: Vec<&'a str>,
    #[serde(skip_serializing_if = "is_empty")]
    image_pull_secrets: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    helper_image: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    helper_image_autoset_arch_and_os: Option<bool>,
    privileged: bool,
    allow_privilege_escalation: bool,
    #[serde(skip_serializing_if = "is_empty")]
    cap_drop: Vec<&'static str>,
    #[serde(skip_serializing_if = "is_empty")]
    cap_add: Vec<&'static str>,
    #[serde(skip_serializing_if = "is_empty")]
    allowed_users: Vec<String>,
    #[serde(skip_serializing_if = "is_empty")]
    allowed_groups: Vec<String>,
    #[serde(flatten)]
    resources: BTreeMap<&'static str, &'a str>,
    poll_interval: u32,
    poll_timeout: u32,
    resource_availability_check_max_attempts: u32,
    retry_limit: u32,
    retry_backoff_max: u32,
    pod_termination_grace_period_seconds: u32,
    cleanup_grace_period_seconds: u32,
    cleanup_resources_timeout: &'static str,
    print_pod_warning_events: bool,
    pod_disruption_budget: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    priority_class_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime_class_name: Option<&'a str>,
    retry_limits: BTreeMap<&'static str, u32>,
    node_selector: Texts,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    node_tolerations: &'a Texts,
    pod_labels: Texts,
    pod_annotations: Texts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod_security_context: Option<PodSecurityContext>,
    #[serde(skip_serializing_if = "Option::is_none")]
    volumes: Option<Volumes>,
}

#[derive(Serialize)]
struct Volumes {
    empty_dir: [EmptyDir; 1],
}

#[derive(Serialize)]
struct EmptyDir {
    name: &'static str,
    mount_path: &'static str,
    size_limit: &'static str,
}

pub(super) fn kubernetes<'a>(
    spec: &'a RunnerSpec,
    ctx: &Context<'_>,
    runner: RunnerId,
) -> Kubernetes<'a> {
    let settings = &spec.kubernetes;
    let helper_image = helper_image(spec, ctx);
    let pinned_user = match spec.pods {
        Pods::Hardened => vec![JOB_USER.to_string()],
        Pods::Standard | Pods::ImageBuild | Pods::Privileged => Vec::new(),
    };
    let (cap_drop, cap_add) = capabilities(spec.pods);
    Kubernetes {
        namespace: names::job_namespace(&ctx.fleet.name, spec),
        namespace_overwrite_allowed: "",
        service_account_overwrite_allowed: "",
        pod_labels_overwrite_allowed: "",
        pod_annotations_overwrite_allowed: "",
        node_selector_overwrite_allowed: "",
        node_tolerations_overwrite_allowed: "",
        bearer_token_overwrite_allowed: false,
        service_account: names::job_account(spec),
        automount_service_account_token: settings.kubernetes_api,
        image: &settings.image,
        allowed_images: strs(&settings.allowed_images),
        allowed_services: if settings.services {
            strs(&settings.allowed_services)
        } else {
            vec![NO_SERVICES]
        },
        pull_policy: strs(&settings.pull_policy),
        allowed_pull_policies: strs(&settings.pull_policy),
        image_pull_secrets: strs(&settings.pull_secrets),
        helper_image_autoset_arch_and_os: helper_image.is_none().then_some(true),
        helper_image,
        privileged: spec.pods == Pods::Privileged,
        allow_privilege_escalation: matches!(spec.pods, Pods::ImageBuild | Pods::Privileged),
        cap_drop,
        cap_add,
        allowed_users: pinned_user.clone(),
        allowed_groups: pinned_user,
        resources: resources(spec),
        poll_interval: 3,
        poll_timeout: settings.poll_timeout,
        resource_availability_check_max_attempts: 5,
        retry_limit: 5,
        retry_backoff_max: 2000,
        pod_termination_grace_period_seconds: 30,
        cleanup_grace_period_seconds: 10,
        cleanup_resources_timeout: "5m",
        print_pod_warning_events: true,
        pod_disruption_budget: settings.pod_disruption_budget,
        priority_class_name: settings.priority_class.as_deref(),
        runtime_class_name: settings.runtime_class.as_deref(),
        retry_limits: BTreeMap::from([
            ("exceeded quota", 20),
            ("TLS handshake timeout", 10),
            ("connection refused", 10),
        ]),
        node_selector: node_selector(spec),
        node_tolerations: &settings.tolerations,
        pod_labels: pod_labels(spec, ctx, runner),
        pod_annotations: pod_annotations(spec),
        pod_security_context: pod_security_context(spec.pods),
        volumes: (spec.pods == Pods::Hardened).then_some(Volumes {
            empty_dir: [EmptyDir { name: "job-home", mount_path: JOB_HOME, size_limit: "1Gi" }],
        }),
    }
}

/// From the mirror, in step with the manager. The version stands in full: a job could choose the value of a variable.
fn helper_image(spec: &RunnerSpec, ctx: &Context<'_>) -> Option<String> {
    let images = &ctx.fleet.cluster.images;
    let registry = images.registry.as_ref()?;
    let arm = node_selector(spec).get("kubernetes.io/arch").is_some_and(|arch| arch == "arm64");
    let arch = if arm { "arm64" } else { "x86_64" };
    let path = "gitlab-org/gitlab-runner/gitlab-runner-helper";
    Some(format!("{registry}/{path}:{arch}-v{}", images.runner))
}

fn resources(spec: &RunnerSpec) -> BTreeMap<&'static str, &str> {
    let kubernetes = &spec.kubernetes;
    let amounts = [
        (&kubernetes.cpu, ["cpu_request", "cpu_limit"]),
        (&kubernetes.memory, ["memory_request", "memory_limit"]),
        (&kubernetes.ephemeral_storage, ["ephemeral_storage_request", "ephemeral_storage_limit"]),
        (&kubernetes.helper_cpu, ["helper_cpu_request", "helper_cpu_limit"]),
        (&kubernetes.helper_memory, ["helper_memory_request", "helper_memory_limit"]),
        (&kubernetes.service_cpu, ["service_cpu_request", "service_cpu_limit"]),
        (&kubernetes.service_memory, ["service_memory_request", "service_memory_limit"]),
    ];
    let pairs = amounts.into_iter().flat_map(|(amount, [request, limit])| {
        [(request, amount.request.as_deref()), (limit, amount.limit.as_deref())]
    });
    pairs.filter_map(|(key, value)| Some((key, value?))).collect()
}

fn node_selector(spec: &RunnerSpec) -> Texts {
    let mut labels = texts([("kubernetes.io/os", "linux")]);
    labels.extend(spec.kubernetes.node_selector.clone());
    labels
}

fn strs(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

fn is_empty<T>(list: &[T]) -> bool {
    list.is_empty()
}
