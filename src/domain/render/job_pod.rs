//! What a job pod is, apart from where it runs: who it is for, what it may do on its node, what it finds in its
//! environment.

use super::{
    Context,
    metadata::{Texts, has_identity, runner_labels, texts},
};
use crate::domain::{
    ids::RunnerId,
    names,
    spec::{Pods, RunnerSpec},
};
use serde::Serialize;

/// A home that any user may write.
pub(super) const JOB_HOME: &str = "/home/job";
pub(super) const JOB_USER: u32 = 1000;
/// What builders without privileges need to write other users' files; all within Pod Security `baseline`.
const BUILDER_CAPABILITIES: [&str; 8] =
    ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "SETFCAP", "SETGID", "SETUID", "SYS_CHROOT"];

#[derive(Serialize)]
pub(super) struct PodSecurityContext {
    #[serde(skip_serializing_if = "Option::is_none")]
    run_as_non_root: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_as_user: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_as_group: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fs_group: Option<u32>,
    seccomp_profile: SeccompProfile,
}

#[derive(Serialize)]
struct SeccompProfile {
    #[serde(rename = "type")]
    kind: &'static str,
}

/// `CI_DEBUG_TRACE` prints every secret variable of a job: off where a job has an identity.
pub(super) fn hides_traces(spec: &RunnerSpec) -> bool {
    has_identity(spec)
}

/// `NAME=value`, placed before the job's own variables: defaults, not controls. The profile's win over ours.
pub(super) fn job_environment(spec: &RunnerSpec, ctx: &Context<'_>) -> Vec<String> {
    let mut variables = proxy(ctx, &[]).unwrap_or_default();
    if has_identity(spec) {
        // Terraform's azurerm: sign in with what the workload-identity webhook puts in, never with a CLI's login.
        let terraform = [("ARM_USE_AKS_WORKLOAD_IDENTITY", "true"), ("ARM_USE_CLI", "false")];
        variables.extend(texts(terraform));
    }
    match spec.pods {
        Pods::Hardened => variables.extend(texts([("HOME", JOB_HOME)])),
        // Builders that neither mount nor nest user namespaces.
        Pods::ImageBuild => {
            variables.extend(texts([("BUILDAH_ISOLATION", "chroot"), ("STORAGE_DRIVER", "vfs")]))
        }
        Pods::Standard | Pods::Privileged => {}
    }
    variables.extend(spec.kubernetes.environment.clone());
    variables.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// The proxy in both spellings that tools look for; never for the cluster itself. None without a proxy.
pub(super) fn proxy(ctx: &Context<'_>, direct: &[&str]) -> Option<Texts> {
    let proxy = ctx.fleet.cluster.proxy.as_ref()?;
    let own = ["localhost", "127.0.0.1", ".svc", ".cluster.local"];
    let ranges = ctx.fleet.cluster.network.cluster_ranges.iter();
    let none: Vec<&str> = direct
        .iter()
        .copied()
        .chain(own)
        .chain(ranges.map(String::as_str))
        .chain(proxy.no.iter().map(String::as_str))
        .collect();
    let none = none.join(",");
    Some(texts([
        ("HTTPS_PROXY", &proxy.https),
        ("https_proxy", &proxy.https),
        ("NO_PROXY", &none),
        ("no_proxy", &none),
    ]))
}

/// Dropped and added. Nothing for `standard`: the runner itself drops `NET_RAW`.
pub(super) fn capabilities(pods: Pods) -> (Vec<&'static str>, Vec<&'static str>) {
    match pods {
        Pods::Hardened => (vec!["ALL"], Vec::new()),
        Pods::ImageBuild => (vec!["ALL"], BUILDER_CAPABILITIES.to_vec()),
        Pods::Standard | Pods::Privileged => (Vec::new(), Vec::new()),
    }
}

/// A builder's system calls differ from one tool to the next: no profile of ours there, the node's default holds.
pub(super) fn pod_security_context(pods: Pods) -> Option<PodSecurityContext> {
    let user = match pods {
        Pods::Hardened => Some(JOB_USER),
        Pods::Standard => None,
        Pods::ImageBuild | Pods::Privileged => return None,
    };
    Some(PodSecurityContext {
        run_as_non_root: user.map(|_| true),
        run_as_user: user,
        run_as_group: user,
        fs_group: user,
        seccomp_profile: SeccompProfile { kind: "RuntimeDefault" },
    })
}

/// Constants alone: a value with a variable in it would be the job's to choose. The workload-identity webhook looks at
/// the pod's label, not at the account's.
pub(super) fn pod_labels(spec: &RunnerSpec, ctx: &Context<'_>, runner: RunnerId) -> Texts {
    let mut labels = runner_labels(spec, ctx);
    labels.insert(names::LABEL_RUNNER.to_owned(), runner.to_string());
    if has_identity(spec) {
        labels.extend(texts([("azure.workload.identity/use", "true")]));
    }
    labels
}

/// A container that needs no Azure token gets none; a service's name is the job's to choose, so it cannot be listed.
pub(super) fn pod_annotations(spec: &RunnerSpec) -> Texts {
    let mut annotations = texts([
        ("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"),
        ("karpenter.sh/do-not-disrupt", "true"),
    ]);
    if has_identity(spec) {
        annotations
            .extend(texts([("azure.workload.identity/skip-containers", "init-permissions")]));
    }
    annotations
}
