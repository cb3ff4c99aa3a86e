//! What one runner should be: a profile for a target, with every default and placeholder filled in.
//!
//! `fleet` makes these from `fleet.yaml`; `render` and `plan` read them. Nothing here looks anything up.

use super::{
    azure::{ResourceId, RoleAssignment},
    ids::{FleetName, RunnerKey},
    version::Version,
};
use jiff::SignedDuration;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};
use url::Url;
use uuid::Uuid;

/// One runner as `fleet.yaml` wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct RunnerSpec {
    pub key: RunnerKey,
    pub runner: RunnerSettings,
    pub identity: IdentitySpec,
    pub isolation: Isolation,
    /// How long a credential and its roles spread before a job may count on them.
    pub identity_settle: SignedDuration,
    pub pods: Pods,
    /// One for all runners of a profile, unless a placeholder makes them differ.
    pub kubernetes: Arc<KubernetesSettings>,
    pub mode: Mode,
    /// Rights and credentials that others gave an identity of ours are taken away, not only told.
    pub remove_foreign_rights: bool,
    /// A runner that a person paused is opened again, not kept so.
    pub resume_paused: bool,
    /// A token that others poll with is replaced, not only told.
    pub revoke_foreign: bool,
    /// The oldest gitlab-runner that may poll for it.
    pub version_floor: Option<Version>,
}

/// Whether we may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Plan, report, alarm; write nothing but status.
    Observe,
    Enforce,
}

/// What GitLab is told, and how much the manager takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerSettings {
    pub tags: Vec<String>,
    pub run_untagged: bool,
    pub protected: bool,
    pub locked: bool,
    /// Seconds, at least 600. The drain window follows from it.
    pub maximum_timeout: u32,
    /// Jobs at once.
    pub concurrent: u32,
    /// Parallel long polls, at most `concurrent`.
    pub request_concurrency: u32,
}

/// Who a job is in Azure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySpec {
    None,
    /// Ours: made, given these roles, and removed.
    Managed {
        name: String,
        tags: BTreeMap<String, String>,
        roles: Vec<Grant>,
    },
    /// An administrator's: we add our credential and watch. The first with room is used.
    Existing {
        candidates: Vec<ResourceId>,
        expect: Vec<Grant>,
    },
}

/// A role at a scope.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Last GUID of the role definition's id.
    pub role: Uuid,
    /// As the file names it.
    pub role_name: String,
    pub scope: ResourceId,
}

/// Whose namespace and identity a runner has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Its own.
    Target,
    /// Those of its profile, shared with the profile's other runners.
    Profile,
}

/// What job pods may do on their node; sets the Pod Security label and every security context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pods {
    /// Pod Security `restricted`, not root.
    Hardened,
    /// Pod Security `baseline`.
    Standard,
    /// Builds images without privileges: `baseline`, with the capabilities that rootless builders need.
    ImageBuild,
    /// Pod Security `privileged`; never with an identity.
    Privileged,
}

/// A request and a limit, canonical Kubernetes quantities.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub request: Option<String>,
    pub limit: Option<String>,
}

/// Where and how job pods run.
#[derive(Clone, Debug, PartialEq)]
pub struct KubernetesSettings {
    /// An administrator's namespace, labelled for us and never removed; else ours.
    pub namespace: Option<String>,
    /// An administrator's service account in it; else ours.
    pub service_account: Option<String>,
    /// The image of jobs that name none.
    pub image: String,
    pub allowed_images: Vec<String>,
    pub allowed_services: Vec<String>,
    /// Service containers get the identity's token too: forbidden by default with an identity.
    pub services: bool,
    pub pull_policy: Vec<String>,
    pub pull_secrets: Vec<String>,
    pub cpu: Amount,
    pub memory: Amount,
    pub ephemeral_storage: Amount,
    pub helper_cpu: Amount,
    pub helper_memory: Amount,
    pub service_cpu: Amount,
    pub service_memory: Amount,
    pub node_selector: BTreeMap<String, String>,
    /// `key=value` → effect, as gitlab-runner writes tolerations.
    pub tolerations: BTreeMap<String, String>,
    pub priority_class: Option<String>,
    pub runtime_class: Option<String>,
    /// `NAME=value` pairs placed before the job's own variables.
    pub environment: BTreeMap<String, String>,
    pub cache: Option<Cache>,
    /// `pods`, `requests.cpu` and so on → quantity; what the file leaves out follows from `concurrent`.
    pub quota: BTreeMap<String, String>,
    /// Whether job pods get a Kubernetes API token.
    pub kubernetes_api: bool,
    pub pod_disruption_budget: bool,
    /// Seconds to wait for a job pod.
    pub poll_timeout: u32,
    /// Raw `config.toml` keys of the `[[runners]]` entry, checked against the pinned version and our own keys.
    pub extra: toml::Table,
}

/// A job cache on Azure Blob storage (runner-on-kubernetes.md §3.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cache {
    pub account: String,
    pub container: String,
    /// Blob domain, `blob.core.windows.net` in the public cloud.
    pub domain: String,
}

/// What all runners of a fleet share.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetSettings {
    pub name: FleetName,
    /// `sha256:` and hex of `fleet.yaml` and `guardrails.yaml`.
    pub digest: String,
    pub mode: Mode,
    pub gitlab: GitlabSettings,
    pub azure: Option<AzureSettings>,
    pub cluster: ClusterSettings,
    /// How many managers a change may roll at once.
    pub rollout_in_flight: u32,
    pub sweep_calls: SweepCalls,
    /// As guardrails say, whatever a runner asks.
    pub reach: Reach,
}

/// Which roles forerunner may give and take, and where: what guardrails say of Azure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    pub roles: Vec<Uuid>,
    /// None of them lies within another.
    pub scopes: Vec<ResourceId>,
}

impl Reach {
    pub fn covers(&self, right: &RoleAssignment) -> bool {
        self.roles.contains(&right.role)
            && self.scopes.iter().any(|scope| scope.contains(&right.scope))
    }
}

/// Calls that one sweep may spend on what has no list of many. Complete lists are read whole, and beyond these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepCalls {
    pub azure: u32,
    pub gitlab: u32,
}

impl Default for SweepCalls {
    /// ARM lets a subscription read 250 times at once and 25 times a second (azure.md §4); GitLab's own limits are turned off by
    /// default, or 7,200 an hour (gitlab.md §1). Rounds and people need most of either.
    fn default() -> Self {
        Self { azure: 50, gitlab: 400 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitlabSettings {
    /// With a relative URL root if there is one, without a trailing slash.
    pub url: Url,
    pub ca_file: Option<PathBuf>,
    /// Key Vault name and secret name of forerunner's own token.
    pub token: VaultSecret,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultSecret {
    pub vault: String,
    pub secret: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AzureSettings {
    pub subscription: Uuid,
    pub resource_group: String,
    pub location: String,
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClusterSettings {
    pub access: ClusterAccess,
    pub images: Images,
    pub proxy: Option<Proxy>,
    /// On everything we make.
    pub labels: BTreeMap<String, String>,
    pub network: Network,
    /// The managers' namespace, an administrator's; `forerunner-FLEET` unless the file names another.
    pub managers_namespace: String,
    /// The shipped ClusterRole that managers are bound to.
    pub manager_cluster_role: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterAccess {
    /// Through ARM: address, CA and issuer are read there.
    Aks(ResourceId),
    /// Through a kubeconfig file beside `fleet.yaml`.
    Kubeconfig(PathBuf),
}

/// Where the manager's, helper's and pause images come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Images {
    /// A mirror such as `acr.example.io/mirror`, or GitLab's own registry.
    pub registry: Option<String>,
    /// Version of gitlab-runner, `19.4.0`.
    pub runner: String,
    pub pull_secrets: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proxy {
    pub https: String,
    pub no: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// The cluster's own ranges, which jobs do not reach. CIDRs.
    pub cluster_ranges: Vec<String>,
    /// What jobs and managers may reach in spite of that: a private GitLab, endpoints, a proxy.
    pub allow: Vec<Allowed>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    pub cidr: String,
    pub ports: Vec<u16>,
}
