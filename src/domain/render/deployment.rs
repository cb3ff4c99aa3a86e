//! The manager's Deployment: one process that polls GitLab, drains before it goes, and leaves a dead node soon.

use super::{
    Context,
    config::{LISTEN_ADDRESS, SHUTDOWN_SECONDS},
    manager_container::{METRICS_PORT, container, volumes},
    manager_role::keeps_pause_pods,
    metadata::{Texts, matching, metadata, object, runner_labels, texts},
};
use crate::domain::{
    kubernetes::{Kind, Object, ObjectName},
    names,
    spec::RunnerSpec,
};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment},
        core::v1::{
            LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile,
            Toleration,
        },
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

/// Seconds of a dead or unreachable node before another one gets the manager.
const DEAD_NODE_SECONDS: i64 = 30;
/// uid and file group of the Alpine image (runner-on-kubernetes.md §1.5).
const USER: i64 = 100;
const GROUP: i64 = 65533;

/// The manager. `replicas` is 1, or 0 while the runner is paused; never more, or two processes share one system id.
/// Its pods roll only for what a running manager cannot reload.
pub fn deployment(spec: &RunnerSpec, ctx: &Context<'_>, replicas: i32) -> Object {
    let manager = names::manager(&spec.key);
    let namespace = &ctx.fleet.cluster.managers_namespace;
    let name = ObjectName::new(Kind::Deployment, namespace, &manager);
    let labels = runner_labels(spec, ctx);
    let typed = Deployment {
        metadata: metadata(&name, labels.clone()),
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            revision_history_limit: Some(3),
            progress_deadline_seconds: Some(600),
            // The new pod polls before the old one drains.
            strategy: Some(DeploymentStrategy {
                type_: Some("RollingUpdate".to_owned()),
                rolling_update: Some(RollingUpdateDeployment {
                    max_surge: Some(IntOrString::Int(1)),
                    max_unavailable: Some(IntOrString::Int(0)),
                }),
            }),
            // Cannot be changed: only what never does.
            selector: matching([(names::LABEL_KEY, &spec.key.to_string())]),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels),
                    annotations: Some(pod_annotations(spec, ctx)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(spec, ctx, manager)),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    };
    object(name, &typed)
}

/// How long a manager may finish its jobs: as long as the longest job.
pub fn drain_seconds(spec: &RunnerSpec) -> u32 {
    spec.runner.maximum_timeout
}

/// The pod's whole grace period: the drain, one in a hundred more for a hook that counts in sleeps of a second, the
/// abort of what still runs, and a minute.
pub fn grace_seconds(spec: &RunnerSpec) -> u32 {
    let drain = drain_seconds(spec);
    drain.saturating_add(drain / 100).saturating_add(SHUTDOWN_SECONDS + 60)
}

fn pod_annotations(spec: &RunnerSpec, ctx: &Context<'_>) -> Texts {
    texts([
        (names::ANNOTATION_RESTART, &restart_digest(spec, ctx)),
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
        ("karpenter.sh/do-not-disrupt", "true"),
        ("prometheus.io/path", "/metrics"),
        ("prometheus.io/port", &METRICS_PORT.to_string()),
        ("prometheus.io/scrape", "true"),
    ])
}

/// Over what the process reads once: never the token, nor the rest of `config.toml` (runner-on-kubernetes.md §2.2).
fn restart_digest(spec: &RunnerSpec, ctx: &Context<'_>) -> String {
    let settings = serde_json::json!({
        "listen_address": LISTEN_ADDRESS,
        "system_id": names::system_id(ctx.installation, &spec.key),
        "gitlab_ca": ctx.gitlab_ca,
        "autoscaler": keeps_pause_pods(spec),
    });
    names::hash(&settings.to_string())
}

fn pod(spec: &RunnerSpec, ctx: &Context<'_>, manager: String) -> PodSpec {
    let images = &ctx.fleet.cluster.images;
    let pull_secrets: Vec<_> = images
        .pull_secrets
        .iter()
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    PodSpec {
        service_account_name: Some(manager),
        automount_service_account_token: Some(true),
        enable_service_links: Some(false),
        restart_policy: Some("Always".to_owned()),
        termination_grace_period_seconds: Some(i64::from(grace_seconds(spec))),
        node_selector: Some(texts([("kubernetes.io/os", "linux")])),
        tolerations: Some(
            ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"].map(leave).into(),
        ),
        image_pull_secrets: (!pull_secrets.is_empty()).then_some(pull_secrets),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            run_as_group: Some(GROUP),
            fs_group: Some(GROUP),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(spec, ctx)],
        volumes: Some(volumes(spec)),
        ..PodSpec::default()
    }
}

fn leave(taint: &str) -> Toleration {
    Toleration {
        key: Some(taint.to_owned()),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(DEAD_NODE_SECONDS),
        ..Toleration::default()
    }
}
