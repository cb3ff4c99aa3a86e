//! The files as they are written. Only form: what a value means, and whether it may be so, is `compile`'s to say.
//! The doc comments are the descriptions of the published JSON Schema.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::Deserialize;
use std::{collections::BTreeMap, sync::LazyLock};

type Map<T> = BTreeMap<String, T>;

/// One fleet of GitLab runners: one GitLab, one cluster, one trust level.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawFleet {
    /// Version of this format: 1.
    pub(super) version: u32,
    /// Name of the fleet: lower-case letters, digits, single inner hyphens, 20 at most.
    pub(super) fleet: String,
    /// `enforce` writes; `observe` plans and reports. Default: enforce.
    #[serde(default)]
    pub(super) mode: Option<RawMode>,
    pub(super) gitlab: RawGitlab,
    #[serde(default)]
    pub(super) azure: Option<RawAzure>,
    pub(super) cluster: RawCluster,
    /// Path of a group → its numeric id. Rules whose profile has an identity lie under one of these.
    #[serde(default)]
    pub(super) anchors: Map<u64>,
    /// What only one group knows, by its full path.
    #[serde(default)]
    pub(super) groups: Map<RawTarget>,
    /// What only one project knows, by its full path.
    #[serde(default)]
    pub(super) projects: Map<RawTarget>,
    pub(super) rules: Vec<RawRule>,
    /// Targets that get nothing, whatever the rules say.
    #[serde(default)]
    pub(super) withdrawn: Vec<RawWithdrawn>,
    pub(super) profiles: Map<RawProfile>,
    /// The ceiling. May live in a file of its own, guardrails.yaml, with another owner.
    #[serde(default)]
    pub(super) guardrails: Option<RawGuardrails>,
    #[serde(default)]
    pub(super) rollout: Option<RawRollout>,
    #[serde(default)]
    pub(super) sweep: Option<RawSweep>,
    #[serde(default)]
    pub(super) version_floors: Option<RawVersionFloors>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum RawMode {
    Enforce,
    Observe,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawGitlab {
    /// Such as https://gitlab.example.com, with a relative URL root if there is one.
    pub(super) url: String,
    /// A PEM file beside this one, for a private CA.
    #[serde(default)]
    pub(super) ca_file: Option<String>,
    pub(super) token: RawVaultSecret,
}

/// Where forerunner's own GitLab token is kept.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawVaultSecret {
    /// Name of the vault.
    pub(super) key_vault: String,
    pub(super) secret: String,
}

/// Where managed identities are made.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawAzure {
    pub(super) subscription: String,
    pub(super) resource_group: String,
    pub(super) location: String,
    #[serde(default)]
    pub(super) tags: Map<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawCluster {
    /// ARM id of an AKS cluster.
    #[serde(default)]
    pub(super) resource_id: Option<String>,
    /// A kubeconfig file beside this one, for any cluster.
    #[serde(default)]
    pub(super) kubeconfig: Option<String>,
    #[serde(default)]
    pub(super) images: Option<RawImages>,
    #[serde(default)]
    pub(super) proxy: Option<RawProxy>,
    /// On everything forerunner makes.
    #[serde(default)]
    pub(super) labels: Map<String>,
    #[serde(default)]
    pub(super) network: Option<RawNetwork>,
    /// Namespace of the managers, made by an administrator. Default: forerunner-FLEET.
    #[serde(default)]
    pub(super) managers_namespace: Option<String>,
    /// The ClusterRole that managers are bound to. Default: forerunner-manager.
    #[serde(default)]
    pub(super) manager_cluster_role: Option<String>,
}

/// Manager, helper and pause images.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawImages {
    /// A mirror such as acr.example.io/mirror. Default: GitLab's own registry.
    #[serde(default)]
    pub(super) registry: Option<String>,
    /// Version of gitlab-runner. Default: 19.4.0.
    #[serde(default)]
    pub(super) runner: Option<String>,
    #[serde(default)]
    pub(super) pull_secrets: Vec<String>,
}

/// For managers and jobs.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawProxy {
    pub(super) https: String,
    #[serde(default)]
    pub(super) no: Vec<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawNetwork {
    /// The cluster's own ranges, which jobs do not reach.
    #[serde(default)]
    pub(super) cluster_ranges: Vec<String>,
    /// What jobs and managers reach in spite of that.
    #[serde(default)]
    pub(super) allow: Vec<RawAllowed>,
}

/// A network: its CIDR alone means port 443; else the ports are listed.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum RawAllowed {
    Cidr(String),
    Ports(RawAllowedPorts),
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawAllowedPorts {
    pub(super) cidr: String,
    pub(super) ports: Vec<u16>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawTarget {
    /// Fills `{name}` in scopes, tags and names.
    #[serde(default)]
    pub(super) values: Map<String>,
    /// Profile → what is different here.
    #[serde(default)]
    pub(super) set: Map<RawSet>,
    /// Numeric id; needed by `protect`.
    #[serde(default)]
    pub(super) id: Option<u64>,
    /// None of its runners is ever removed, whatever becomes of its path and of the rules.
    #[serde(default)]
    pub(super) protect: Option<bool>,
}

/// What one target may have different from its profile.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawSet {
    #[serde(default)]
    pub(super) runner: Option<RawSetRunner>,
    #[serde(default)]
    pub(super) kubernetes: Option<RawSetKubernetes>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawSetRunner {
    #[serde(default)]
    pub(super) concurrent: Option<u32>,
    #[serde(default)]
    pub(super) maximum_timeout: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawSetKubernetes {
    #[serde(default)]
    pub(super) cpu: Option<RawAmount>,
    #[serde(default)]
    pub(super) memory: Option<RawAmount>,
    #[serde(default)]
    pub(super) ephemeral_storage: Option<RawAmount>,
    #[serde(default)]
    pub(super) helper: Option<RawResources>,
    #[serde(default)]
    pub(super) service: Option<RawResources>,
    #[serde(default)]
    pub(super) node_selector: Option<Map<String>>,
    #[serde(default)]
    pub(super) tolerations: Option<Map<String>>,
    #[serde(default)]
    pub(super) priority_class: Option<String>,
    #[serde(default)]
    pub(super) runtime_class: Option<String>,
    #[serde(default)]
    pub(super) quota: Option<Map<String>>,
}

/// Which targets get which profiles. Rules add up; order means nothing.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawRule {
    pub(super) r#match: RawMatch,
    pub(super) profiles: Vec<String>,
}

/// `*` is one path segment, `**` one or more; case is ignored.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawMatch {
    #[serde(default)]
    pub(super) groups: Option<OneOrMany>,
    #[serde(default)]
    pub(super) projects: Option<OneOrMany>,
    #[serde(default)]
    pub(super) instance: Option<bool>,
    /// Beats what the rule matches.
    #[serde(default)]
    pub(super) except: Option<OneOrMany>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn to_vec(&self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one.clone()],
            Self::Many(many) => many.clone(),
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawWithdrawn {
    /// Numeric id.
    #[serde(default)]
    pub(super) group: Option<u64>,
    /// Numeric id.
    #[serde(default)]
    pub(super) project: Option<u64>,
    /// For the reader; the id decides.
    #[serde(default)]
    pub(super) path: Option<String>,
    pub(super) reason: String,
}

/// A named recipe for a runner.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawProfile {
    pub(super) runner: RawRunner,
    /// `none`, or managed or existing.
    pub(super) identity: RawIdentity,
    /// Default: target.
    #[serde(default)]
    pub(super) isolation: Option<RawIsolation>,
    /// `never` or a period. Default: never.
    #[serde(default)]
    pub(super) identity_rotation: Option<String>,
    #[serde(default)]
    pub(super) kubernetes: Option<RawKubernetes>,
    #[serde(default)]
    pub(super) rotation: Option<RawRotation>,
    #[serde(default)]
    pub(super) drift: Option<RawDrift>,
    /// The profile's first name, so that renaming it makes nothing anew.
    #[serde(default)]
    pub(super) was: Option<String>,
    /// None of its runners is ever removed.
    #[serde(default)]
    pub(super) protect: Option<bool>,
    #[serde(default)]
    pub(super) mode: Option<RawMode>,
    /// What this profile may do although the defaults forbid it, and until when.
    #[serde(default)]
    pub(super) exceptions: Vec<RawException>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawRunner {
    pub(super) tags: Vec<String>,
    /// Default: false.
    #[serde(default)]
    pub(super) run_untagged: Option<bool>,
    /// Only jobs of protected refs. Default: true if any role writes.
    #[serde(default)]
    pub(super) protected: Option<bool>,
    /// Other projects cannot enable it (projects only). Default: true.
    #[serde(default)]
    pub(super) locked: Option<bool>,
    /// Jobs at once. Default: 4.
    #[serde(default)]
    pub(super) concurrent: Option<u32>,
    /// Parallel polls. Default: 4 or `concurrent`, whichever is less.
    #[serde(default)]
    pub(super) request_concurrency: Option<u32>,
    /// Default: 1h; at least 10m.
    #[serde(default)]
    pub(super) maximum_timeout: Option<String>,
    /// The oldest gitlab-runner this profile may run on.
    #[serde(default)]
    pub(super) version_floor: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum RawIdentity {
    None(RawNone),
    Some(RawSomeIdentity),
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum RawNone {
    None,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawSomeIdentity {
    #[serde(default)]
    pub(super) managed: Option<RawManaged>,
    /// ARM ids of user-assigned identities that an administrator made.
    #[serde(default)]
    pub(super) existing: Option<Vec<String>>,
    /// Rights an administrator gave to `existing`: watched, never assigned.
    #[serde(default)]
    pub(super) expect: Option<Vec<RawGrant>>,
    /// How long a credential and its roles spread before a job counts on them. Default: 2m.
    #[serde(default)]
    pub(super) settle: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawManaged {
    #[serde(default)]
    pub(super) roles: Vec<RawGrant>,
    /// Added to `azure.tags`.
    #[serde(default)]
    pub(super) tags: Map<String>,
}

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawGrant {
    /// Name of a built-in role, or the GUID of any.
    pub(super) role: String,
    pub(super) scope: String,
    /// Who allowed what the defaults forbid, such as a change number.
    #[serde(default)]
    pub(super) exception: Option<String>,
    /// Last day of the exception.
    #[serde(default)]
    pub(super) until: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawException {
    pub(super) allow: RawAllow,
    /// Who allowed it, such as a change number.
    pub(super) exception: String,
    /// Its last day.
    pub(super) until: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum RawAllow {
    IdentityOnInstance,
    IdentityOnUntagged,
    IdentityOnPrivileged,
    UnprotectedWriter,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum RawIsolation {
    Target,
    Profile,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawPods {
    Hardened,
    Standard,
    ImageBuild,
    Privileged,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawKubernetes {
    /// Default: hardened with an identity, else standard.
    #[serde(default)]
    pub(super) pods: Option<RawPods>,
    /// A namespace that an administrator made and labelled.
    #[serde(default)]
    pub(super) namespace: Option<String>,
    /// A service account in it that an administrator made and labelled.
    #[serde(default)]
    pub(super) service_account: Option<String>,
    /// The image of jobs that name none.
    #[serde(default)]
    pub(super) image: Option<String>,
    /// Empty: every image.
    #[serde(default)]
    pub(super) allowed_images: Vec<String>,
    #[serde(default)]
    pub(super) allowed_services: Vec<String>,
    /// Whether jobs may have services. Default: false with an identity (a service gets its token too).
    #[serde(default)]
    pub(super) services: Option<bool>,
    /// Default: [always].
    #[serde(default)]
    pub(super) pull_policy: Option<Vec<RawPullPolicy>>,
    #[serde(default)]
    pub(super) pull_secrets: Vec<String>,
    #[serde(default)]
    pub(super) cpu: Option<RawAmount>,
    #[serde(default)]
    pub(super) memory: Option<RawAmount>,
    #[serde(default)]
    pub(super) ephemeral_storage: Option<RawAmount>,
    #[serde(default)]
    pub(super) helper: Option<RawResources>,
    #[serde(default)]
    pub(super) service: Option<RawResources>,
    #[serde(default)]
    pub(super) node_selector: Option<Map<String>>,
    /// `key=value` → effect.
    #[serde(default)]
    pub(super) tolerations: Option<Map<String>>,
    #[serde(default)]
    pub(super) priority_class: Option<String>,
    #[serde(default)]
    pub(super) runtime_class: Option<String>,
    /// Placed before the job's own variables; a job can override each.
    #[serde(default)]
    pub(super) environment: Map<String>,
    #[serde(default)]
    pub(super) cache: Option<RawCache>,
    /// Resource → quantity of the job namespace. What is left out follows from `concurrent`.
    #[serde(default)]
    pub(super) quota: Map<String>,
    /// Whether job pods get a token of the Kubernetes API. Default: false.
    #[serde(default)]
    pub(super) kubernetes_api: Option<bool>,
    /// Default: true.
    #[serde(default)]
    pub(super) pod_disruption_budget: Option<bool>,
    /// How long to wait for a job pod. Default: 10m.
    #[serde(default)]
    pub(super) poll_timeout: Option<String>,
    /// Raw config.toml keys of the `[[runners]]` entry, for what has no key here.
    #[serde(default)]
    pub(super) extra: Option<String>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawPullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// One quantity for request and limit, or each its own.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum RawAmount {
    Both(String),
    Each(RawRequestLimit),
}

#[derive(Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawRequestLimit {
    #[serde(default)]
    pub(super) request: Option<String>,
    #[serde(default)]
    pub(super) limit: Option<String>,
}

#[derive(Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawResources {
    #[serde(default)]
    pub(super) cpu: Option<RawAmount>,
    #[serde(default)]
    pub(super) memory: Option<RawAmount>,
}

/// A job cache on Azure Blob storage, reached with the job's own identity.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawCache {
    pub(super) account: String,
    pub(super) container: String,
    /// Default: blob.core.windows.net.
    #[serde(default)]
    pub(super) domain: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawRotation {
    /// Default: 30d.
    #[serde(default)]
    pub(super) every: Option<String>,
    /// Six fields: second, minute, hour, day, month, weekday. Default: any time.
    #[serde(default)]
    pub(super) window: Option<String>,
    /// Default: UTC.
    #[serde(default)]
    pub(super) time_zone: Option<String>,
    /// Default: 15m.
    #[serde(default)]
    pub(super) patience: Option<String>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawDrift {
    /// Rights on an identity of ours that we did not give. Default: report.
    #[serde(default)]
    pub(super) foreign_rights: Option<RawForeignRights>,
    /// A runner that somebody paused. Default: keep.
    #[serde(default)]
    pub(super) paused: Option<RawPaused>,
    /// Somebody else polling with our token. Default: alarm.
    #[serde(default)]
    pub(super) foreign_manager: Option<RawForeignManager>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum RawForeignRights {
    Report,
    Remove,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum RawPaused {
    Keep,
    Resume,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum RawForeignManager {
    Alarm,
    /// Its token is replaced at once.
    Revoke,
}

/// A ceiling over everything that forerunner gives.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawGuardrails {
    /// The only roles forerunner assigns.
    #[serde(default)]
    pub(super) roles: Vec<String>,
    /// Each admits itself and what lies below.
    #[serde(default)]
    pub(super) scopes: Vec<String>,
    /// No writing role reaches these.
    #[serde(default)]
    pub(super) never: Vec<String>,
    /// Runners at most. Default: 500.
    #[serde(default)]
    pub(super) runners: Option<u32>,
    #[serde(default)]
    pub(super) creations: Option<RawCreations>,
    #[serde(default)]
    pub(super) deletions: Option<RawDeletions>,
    /// How long what is no longer wanted is kept. Default: 7d.
    #[serde(default)]
    pub(super) grace: Option<String>,
    #[serde(default)]
    pub(super) freeze: Vec<RawFreeze>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawCreations {
    /// Default: 50.
    pub(super) per_hour: u32,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawDeletions {
    /// Default: 10.
    #[serde(default)]
    pub(super) max: Option<u32>,
    /// Default: 20.
    #[serde(default)]
    pub(super) percent: Option<u32>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawFreeze {
    /// First day.
    pub(super) from: String,
    /// Last day.
    pub(super) to: String,
    #[serde(default)]
    pub(super) allow: Vec<RawFreezeAllow>,
}

#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) enum RawFreezeAllow {
    Restore,
    Revoke,
}

/// How a changed file reaches the runners.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawRollout {
    /// Managers that may restart at once; the next when the last polls again. Default: 5.
    #[serde(default)]
    pub(super) in_flight: Option<u32>,
}

/// What a sweep may cost.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawSweep {
    #[serde(default)]
    pub(super) calls: Option<RawSweepCalls>,
}

/// Calls that one sweep may spend, beside complete lists, on what has to be read one by one; the next sweep goes on from there.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawSweepCalls {
    /// Lists of identities' federated credentials. Default: 50.
    #[serde(default)]
    pub(super) azure: Option<u32>,
    /// Reads of runners that no bulk list shows, and lists of others' runners. Default: 400.
    #[serde(default)]
    pub(super) gitlab: Option<u32>,
}

/// Older versions than these are reported.
#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawVersionFloors {
    /// The oldest gitlab-runner any profile may run on.
    #[serde(default)]
    pub(super) runner: Option<String>,
    #[serde(default)]
    pub(super) gitlab: Option<String>,
    #[serde(default)]
    pub(super) kubernetes: Option<String>,
}

/// The JSON Schema of `fleet.yaml`, without references, and without `null`: a key that has no value is an error.
pub(super) fn fleet_schema() -> &'static serde_json::Value {
    static SCHEMA: LazyLock<serde_json::Value> = LazyLock::new(schema::<RawFleet>);
    &SCHEMA
}

/// The JSON Schema of `guardrails.yaml`.
pub(super) fn guardrails_schema() -> &'static serde_json::Value {
    static SCHEMA: LazyLock<serde_json::Value> = LazyLock::new(schema::<RawGuardrails>);
    &SCHEMA
}

fn schema<T: JsonSchema>() -> serde_json::Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    drop_null(&mut schema);
    schema
}

fn drop_null(schema: &mut serde_json::Value) {
    use serde_json::Value;
    match schema {
        Value::Array(items) => items.iter_mut().for_each(drop_null),
        Value::Object(object) => {
            if object.get("default") == Some(&Value::Null) {
                object.remove("default");
            }
            if let Some(Value::Array(kinds)) = object.get_mut("type") {
                kinds.retain(|kind| kind != "null");
                if let [only] = kinds.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(branches)) = object.get_mut("anyOf") {
                branches.retain(|branch| branch.get("type") != Some(&Value::from("null")));
                if branches.len() == 1
                    && let Some(Value::Object(only)) = branches.pop()
                {
                    object.remove("anyOf");
                    for (key, value) in only {
                        object.entry(key).or_insert(value);
                    }
                }
            }
            object.values_mut().for_each(drop_null);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_closed_and_knows_no_null() {
        for schema in [fleet_schema(), guardrails_schema()] {
            let text = schema.to_string();
            assert!(!text.contains("\"null\"") && !text.contains("$ref"), "{text}");
            assert_eq!(schema["additionalProperties"], false);
        }
        let profile = &fleet_schema()["properties"]["profiles"]["additionalProperties"];
        assert_eq!(profile["additionalProperties"], false);
        assert_eq!(profile["properties"]["runner"]["additionalProperties"], false);
    }
}
