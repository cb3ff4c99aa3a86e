//! The manager's complete `config.toml`. gitlab-runner ignores a misspelt key without a word, so the file is written
//! from types; `runner-observed.md` §8.

use super::{
    Context,
    executor::{Kubernetes, kubernetes},
    job_pod::{hides_traces, job_environment},
};
use crate::domain::{ids::RunnerId, names, spec::RunnerSpec};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// Where the Secret is mounted.
pub(super) const CONFIG_DIRECTORY: &str = "/etc/gitlab-runner";
pub(super) const LISTEN_ADDRESS: &str = ":9252";
/// After `SIGTERM`: how long aborted jobs have to report and take their pods along.
pub(super) const SHUTDOWN_SECONDS: u32 = 60;
pub(super) const OUTPUT_LIMIT_KIBIBYTES: u32 = 16384;
pub(super) const CA_KEY: &str = "ca.crt";

/// The feature flags we pin: a job's variable cannot change what stands here, and the managers' role fits them. Our own
/// token rotation replaces the runner's, which would write a new token into a file it cannot save.
pub const FEATURE_FLAGS: [(&str, bool); 8] = [
    ("FF_CONCRETE", false),
    ("FF_DISABLE_AUTOMATIC_TOKEN_ROTATION", true),
    ("FF_KUBERNETES_HONOR_ENTRYPOINT", false),
    ("FF_PRINT_POD_EVENTS", true),
    ("FF_SUSPENDABLE_ENVIRONMENTS", false),
    ("FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY", false),
    ("FF_USE_POD_ACTIVE_DEADLINE_SECONDS", true),
    ("FF_WAIT_FOR_POD_TO_BE_REACHABLE", false),
];

/// One GitLab runner entity that the manager serves; two only while rotating.
pub struct Entry<'a> {
    pub runner: RunnerId,
    pub token: &'a SecretString,
}

/// Seconds unless a unit is in the text.
#[derive(Serialize)]
struct Config {
    concurrent: u32,
    check_interval: u32,
    shutdown_timeout: u32,
    log_level: &'static str,
    log_format: &'static str,
    connection_max_age: &'static str,
    listen_address: &'static str,
    runners: Vec<Table>,
}

/// `token_expires_at` has no field here on purpose: with it the manager would reset its own token.
#[derive(Serialize)]
struct Runner<'a> {
    name: String,
    url: &'a str,
    id: Option<i64>,
    token: &'a str,
    executor: &'static str,
    limit: u32,
    request_concurrency: u32,
    strict_check_interval: bool,
    unhealthy_requests_limit: u32,
    unhealthy_interval: &'static str,
    output_limit: u32,
    debug_trace_disabled: bool,
    environment: Vec<String>,
    #[serde(rename = "tls-ca-file", skip_serializing_if = "Option::is_none")]
    tls_ca_file: Option<String>,
    feature_flags: BTreeMap<&'static str, bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<Cache<'a>>,
    kubernetes: Kubernetes<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Cache<'a> {
    #[serde(rename = "Type")]
    kind: &'static str,
    shared: bool,
    path: String,
    #[serde(rename = "azure")]
    azure: AzureCache<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct AzureCache<'a> {
    account_name: &'a str,
    container_name: &'a str,
    storage_domain: &'a str,
}

/// The whole file, tokens included. Both entries may run `concurrent` jobs; the process keeps to it over both, as seen
/// (runner-observed.md §6).
pub fn config_toml(spec: &RunnerSpec, ctx: &Context<'_>, entries: &[Entry<'_>]) -> SecretString {
    let config = Config {
        concurrent: spec.runner.concurrent.max(1), // less than one ends the process
        check_interval: 3,
        shutdown_timeout: SHUTDOWN_SECONDS,
        log_level: "info",
        log_format: "json",
        connection_max_age: "15m",
        listen_address: LISTEN_ADDRESS,
        runners: entries.iter().map(|entry| runner_table(spec, ctx, entry)).collect(),
    };
    toml::to_string(&config).expect("texts, numbers and tables are TOML").into()
}

fn runner_table(spec: &RunnerSpec, ctx: &Context<'_>, entry: &Entry<'_>) -> Table {
    let concurrent = spec.runner.concurrent.max(1);
    let runner = Runner {
        name: spec.key.to_string(),
        url: ctx.fleet.gitlab.url.as_str().trim_end_matches('/'),
        id: i64::try_from(entry.runner.0).ok(),
        token: entry.token.expose_secret().trim(), // a newline would end up in a header
        executor: "kubernetes",
        limit: concurrent,
        request_concurrency: spec.runner.request_concurrency.clamp(1, concurrent),
        strict_check_interval: false,
        unhealthy_requests_limit: 3,
        unhealthy_interval: "10m",
        output_limit: OUTPUT_LIMIT_KIBIBYTES,
        debug_trace_disabled: hides_traces(spec),
        environment: job_environment(spec, ctx),
        tls_ca_file: ctx.gitlab_ca.map(|_| format!("{CONFIG_DIRECTORY}/{CA_KEY}")),
        feature_flags: feature_flags(spec),
        cache: cache(spec),
        kubernetes: kubernetes(spec, ctx, entry.runner),
    };
    let mut table = Table::try_from(&runner).expect("texts, numbers and tables are TOML");
    merge(&mut table, &spec.kubernetes.extra);
    table
}

/// Patches of the pod need a flag of their own, which warns in every job: on only where `extra` has some.
fn feature_flags(spec: &RunnerSpec) -> BTreeMap<&'static str, bool> {
    let patches = spec.kubernetes.extra.get("kubernetes").and_then(|keys| keys.get("pod_spec"));
    let mut flags = BTreeMap::from(FEATURE_FLAGS);
    flags.insert("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", patches.is_some());
    flags
}

/// One path a trust domain: whoever shares it can poison it. Without a key the job's own identity signs in.
fn cache(spec: &RunnerSpec) -> Option<Cache<'_>> {
    let cache = spec.kubernetes.cache.as_ref()?;
    Some(Cache {
        kind: "azure",
        shared: true,
        path: names::domain_key(&spec.key, spec.isolation),
        azure: AzureCache {
            account_name: &cache.account,
            container_name: &cache.container,
            storage_domain: &cache.domain,
        },
    })
}

/// Tables are merged, lists of tables (volumes, services, patches) grow, anything else is replaced.
fn merge(own: &mut Table, extra: &Table) {
    for (key, value) in extra {
        match (own.get_mut(key), value) {
            (Some(Value::Table(own)), Value::Table(extra)) => merge(own, extra),
            (Some(Value::Array(own)), Value::Array(extra)) if own.iter().all(Value::is_table) => {
                own.extend(extra.iter().cloned());
            }
            (_, value) => {
                own.insert(key.clone(), value.clone());
            }
        }
    }
}
