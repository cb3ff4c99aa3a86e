//! The manager's container and what is mounted into it. Passes Pod Security `restricted`.

use super::{
    Context,
    config::{CONFIG_DIRECTORY, OUTPUT_LIMIT_KIBIBYTES},
    deployment::drain_seconds,
    job_pod::proxy,
    metadata::quantities,
};
use crate::domain::{names, spec::RunnerSpec};
use k8s_openapi::{
    api::core::v1::{
        Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EnvVar, ExecAction,
        HTTPGetAction, Lifecycle, LifecycleHandler, Probe, ResourceRequirements,
        SecretVolumeSource, SecurityContext, TCPSocketAction, Volume, VolumeMount,
    },
    apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString},
};

pub(super) const METRICS_PORT: u16 = 9252;
const HOME: &str = "/home/gitlab-runner";

pub(super) fn container(spec: &RunnerSpec, ctx: &Context<'_>) -> Container {
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
    if let Some(proxy) = proxy(ctx, &["$(KUBERNETES_SERVICE_HOST)"]) {
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
    room(spec) * u64::from(OUTPUT_LIMIT_KIBIBYTES) / 1024 + 256
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
pub(super) fn volumes(spec: &RunnerSpec) -> Vec<Volume> {
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
