//! The manager's Deployment: one process that polls GitLab, drains before it goes, and leaves a dead node soon.

use super::{
    Context,
    config::{LISTEN_ADDRESS, SHUTDOWN_SECONDS},
    manager_role::keeps_pause_pods,
    metadata::{Texts, matching, metadata, object, quantities, runner_labels, texts},
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
            Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, ExecAction,
            HTTPGetAction, Lifecycle, LifecycleHandler, LocalObjectReference, PodSecurityContext,
            PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
            SecretVolumeSource, SecurityContext, TCPSocketAction, Toleration, Volume, VolumeMount,
        },
    },
    apimachinery::pkg::{
        api::resource::Quantity, apis::meta::v1::ObjectMeta, util::intstr::IntOrString,
    },
};

pub(super) const METRICS_PORT: u16 = 9252;
pub(super) const CONFIG_DIRECTORY: &str = "/etc/gitlab-runner";
/// Seconds of a dead or unreachable node before another one gets the manager.
const DEAD_NODE_SECONDS: i64 = 30;
const HOME: &str = "/home/gitlab-runner";
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

fn container(spec: &RunnerSpec, ctx: &Context<'_>) -> Container {
    let images = &ctx.fleet.cluster.images;
    let registry = images.registry.as_deref().unwrap_or("registry.gitlab.com");
    let config = format!("--config={CONFIG_DIRECTORY}/config.toml");
    let directory = format!("--working-directory={HOME}");
    Container {
        name: "gitlab-runner".to_owned(),
        image: Some(format!("{registry}/gitlab-org/gitlab-runner:alpine-v{}", images.runner)),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(["/usr/bin/dumb-init", "--", "/entrypoint"].map(str::to_owned).into()),
        args: Some(vec!["run".to_owned(), config, directory]),
        env: Some(environment(ctx)),
        ports: Some(vec![ContainerPort {
            name: Some("metrics".to_owned()),
            container_port: i32::from(METRICS_PORT),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        lifecycle: Some(Lifecycle {
            pre_stop: Some(LifecycleHandler {
                exec: Some(ExecAction {
                    command: Some(vec![
                        "/bin/sh".to_owned(),
                        "-c".to_owned(),
                        drain_script(drain_seconds(spec)),
                    ]),
                }),
                ..LifecycleHandler::default()
            }),
            ..Lifecycle::default()
        }),
        startup_probe: Some(probe(None, 2, 2, 60)),
        readiness_probe: Some(probe(Some("/health/ready"), 10, 3, 3)),
        // Never asks GitLab: a probe that does restarts every manager in an outage of GitLab.
        liveness_probe: Some(probe(None, 30, 5, 10)),
        resources: Some(resources(spec)),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            privileged: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        volume_mounts: Some(vec![
            mount("config", CONFIG_DIRECTORY, Some(true)),
            mount("home", HOME, None),
            mount("tmp", "/tmp", None),
        ]),
        ..Container::default()
    }
}

/// `SIGQUIT` finishes the jobs and takes none. The hook stays until the process is gone: when it returns the kubelet
/// sends the image's own stop signal, which would abort them. At the end of the window one `SIGTERM`, so that what still
/// runs is reported and its pods removed; a second signal would orphan them (runner-on-kubernetes.md §2.4).
fn drain_script(seconds: u32) -> String {
    format!(
        "kill -QUIT 1; n=0; while kill -0 1 2>/dev/null; do n=$((n+1)); \
         if [ \"$n\" -eq {seconds} ]; then kill -TERM 1; fi; sleep 1; done"
    )
}

/// A TCP connection, or a GET of `path`, to the metrics port.
fn probe(path: Option<&str>, period: i32, timeout: i32, failures: i32) -> Probe {
    let port = IntOrString::String("metrics".to_owned());
    let get = path.map(|path| HTTPGetAction {
        path: Some(path.to_owned()),
        port: port.clone(),
        scheme: Some("HTTP".to_owned()),
        ..HTTPGetAction::default()
    });
    let socket = TCPSocketAction { port, ..TCPSocketAction::default() };
    Probe {
        tcp_socket: get.is_none().then_some(socket),
        http_get: get,
        period_seconds: Some(period),
        timeout_seconds: Some(timeout),
        success_threshold: Some(1),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// The proxy is for GitLab; the API server is reached directly, whatever its address.
fn environment(ctx: &Context<'_>) -> Vec<EnvVar> {
    let variable = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..EnvVar::default()
    };
    let mut variables = vec![variable("HOME", HOME), variable("TMPDIR", "/tmp")];
    if let Some(proxy) = super::executor::proxy(ctx, &["$(KUBERNETES_SERVICE_HOST)"]) {
        variables.extend(proxy.iter().map(|(name, value)| variable(name, value)));
    }
    variables
}

/// Jobs' logs are buffered on disk. In steps, so that another `concurrent` seldom rolls the pod.
fn room(spec: &RunnerSpec) -> u64 {
    u64::from(spec.runner.concurrent).next_power_of_two().max(16)
}

/// Written as the server would write it.
fn mebibytes(size: u64) -> String {
    if size.is_multiple_of(1024) { format!("{}Gi", size / 1024) } else { format!("{size}Mi") }
}

fn log_buffer_mebibytes(spec: &RunnerSpec) -> u64 {
    room(spec) * u64::from(super::config::OUTPUT_LIMIT_KIBIBYTES) / 1024 + 256
}

fn resources(spec: &RunnerSpec) -> ResourceRequirements {
    let memory = mebibytes(256 + room(spec) * 16);
    let storage = mebibytes(log_buffer_mebibytes(spec) + 512);
    ResourceRequirements {
        requests: Some(quantities([
            ("cpu", "100m"),
            ("memory", "128Mi"),
            ("ephemeral-storage", "256Mi"),
        ])),
        limits: Some(quantities([("memory", &memory), ("ephemeral-storage", &storage)])),
        ..ResourceRequirements::default()
    }
}

fn mount(name: &str, path: &str, read_only: Option<bool>) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only,
        ..VolumeMount::default()
    }
}

/// The Secret is mounted as a directory: a single file would never follow a change.
fn volumes(spec: &RunnerSpec) -> Vec<Volume> {
    let scratch = |name: &str, size: u64| Volume {
        name: name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            size_limit: Some(Quantity(mebibytes(size))),
            ..EmptyDirVolumeSource::default()
        }),
        ..Volume::default()
    };
    let config = Volume {
        name: "config".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(names::config_secret(&spec.key)),
            default_mode: Some(0o440),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    };
    vec![config, scratch("home", 256), scratch("tmp", log_buffer_mebibytes(spec))]
}
