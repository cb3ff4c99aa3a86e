//! How a profile's jobs run: pods, sizes, placement, and `extra`.

use super::{
    amount,
    problem::{At, Findings},
    profile::period,
    raw::{RawAmount, RawKubernetes, RawPods, RawPullPolicy, RawResources},
    runner_keys,
};
use crate::domain::spec::{Amount, Cache, KubernetesSettings, Pods};
use std::collections::BTreeMap;

pub(super) fn pods(raw: Option<&RawKubernetes>, has_identity: bool) -> Pods {
    match raw.and_then(|raw| raw.pods) {
        Some(RawPods::Hardened) => Pods::Hardened,
        Some(RawPods::Standard) => Pods::Standard,
        Some(RawPods::ImageBuild) => Pods::ImageBuild,
        Some(RawPods::Privileged) => Pods::Privileged,
        None if has_identity => Pods::Hardened,
        None => Pods::Standard,
    }
}

/// Sizes that a job gets when the file says nothing (runner-on-kubernetes.md §3.3: every container needs them).
fn amount_of(request: &str, limit: &str) -> Amount {
    Amount { request: Some(request.to_owned()), limit: Some(limit.to_owned()) }
}

const IMAGE: &str = "docker.io/library/alpine:3.22";

pub(super) fn kubernetes(
    raw: &RawKubernetes,
    has_identity: bool,
    at: &At,
    findings: &mut Findings<'_>,
) -> KubernetesSettings {
    let services = raw.services.unwrap_or(!has_identity);
    if services && has_identity {
        findings.warning(
            &at.key("services"),
            "a service container gets the identity's token too",
            "",
        );
    }
    let policies = raw.pull_policy.clone().unwrap_or_else(|| vec![RawPullPolicy::Always]);
    if raw.kubernetes_api == Some(true) && has_identity {
        findings.warning(
            &at.key("kubernetesApi"),
            "jobs with an identity get a token of the cluster too",
            "",
        );
    }
    let amounts = Amounts::read(raw, at, findings);
    let helper = raw.helper.clone().unwrap_or_default();
    let service = raw.service.clone().unwrap_or_default();
    let [helper_cpu, helper_memory] = resources(&helper, &at.key("helper"), findings);
    let [service_cpu, service_memory] = resources(&service, &at.key("service"), findings);
    let linux = || BTreeMap::from([("kubernetes.io/os".to_owned(), "linux".to_owned())]);
    tolerations(raw.tolerations.as_ref(), at, findings);
    environment(&raw.environment, &at.key("environment"), findings);
    if raw.service_account.is_some() && raw.namespace.is_none() {
        let remedy = "say in which namespace it is";
        findings.error(&at.key("serviceAccount"), "needs `namespace`", remedy);
    }
    KubernetesSettings {
        namespace: raw.namespace.clone(),
        service_account: raw.service_account.clone(),
        image: raw.image.clone().unwrap_or_else(|| IMAGE.to_owned()),
        allowed_images: raw.allowed_images.clone(),
        allowed_services: raw.allowed_services.clone(),
        services,
        pull_policy: policies.iter().map(|policy| pull_policy(*policy)).collect(),
        pull_secrets: raw.pull_secrets.clone(),
        cpu: amounts.cpu.unwrap_or_else(|| amount_of("500m", "2")),
        memory: amounts.memory.unwrap_or_else(|| amount_of("512Mi", "2Gi")),
        ephemeral_storage: amounts.ephemeral_storage.unwrap_or_else(|| amount_of("1Gi", "8Gi")),
        helper_cpu: helper_cpu.unwrap_or_else(|| amount_of("100m", "500m")),
        helper_memory: helper_memory.unwrap_or_else(|| amount_of("128Mi", "512Mi")),
        service_cpu: service_cpu.unwrap_or_else(|| amount_of("100m", "1")),
        service_memory: service_memory.unwrap_or_else(|| amount_of("128Mi", "1Gi")),
        node_selector: raw.node_selector.clone().unwrap_or_else(linux),
        tolerations: raw.tolerations.clone().unwrap_or_default(),
        priority_class: raw.priority_class.clone(),
        runtime_class: raw.runtime_class.clone(),
        environment: raw.environment.clone(),
        cache: raw.cache.as_ref().map(|cache| Cache {
            account: cache.account.clone(),
            container: cache.container.clone(),
            domain: cache.domain.clone().unwrap_or_else(|| "blob.core.windows.net".to_owned()),
        }),
        quota: quota(&raw.quota, &at.key("quota"), findings),
        kubernetes_api: raw.kubernetes_api.unwrap_or(false),
        pod_disruption_budget: raw.pod_disruption_budget.unwrap_or(true),
        poll_timeout: raw.poll_timeout.as_ref().map_or(600, |text| {
            u32::try_from(period(text, &at.key("pollTimeout"), findings).as_secs())
                .unwrap_or(u32::MAX)
        }),
        extra: extra(raw.extra.as_deref(), &at.key("extra"), findings),
    }
}

fn extra(text: Option<&str>, at: &At, findings: &mut Findings<'_>) -> toml::Table {
    match text.map(runner_keys::read) {
        None => toml::Table::new(),
        Some(Ok(table)) => table,
        Some(Err(refused)) => {
            for refused in refused {
                findings.error(at, refused.reason, refused.remedy);
            }
            toml::Table::new()
        }
    }
}

struct Amounts {
    cpu: Option<Amount>,
    memory: Option<Amount>,
    ephemeral_storage: Option<Amount>,
}

impl Amounts {
    fn read(raw: &RawKubernetes, at: &At, findings: &mut Findings<'_>) -> Self {
        let mut read =
            |raw: &Option<RawAmount>, key| quantity_pair(raw.as_ref(), &at.key(key), findings);
        Self {
            cpu: read(&raw.cpu, "cpu"),
            memory: read(&raw.memory, "memory"),
            ephemeral_storage: read(&raw.ephemeral_storage, "ephemeralStorage"),
        }
    }
}

pub(super) fn resources(
    raw: &RawResources,
    at: &At,
    findings: &mut Findings<'_>,
) -> [Option<Amount>; 2] {
    [
        quantity_pair(raw.cpu.as_ref(), &at.key("cpu"), findings),
        quantity_pair(raw.memory.as_ref(), &at.key("memory"), findings),
    ]
}

pub(super) fn quantity_pair(
    raw: Option<&RawAmount>,
    at: &At,
    findings: &mut Findings<'_>,
) -> Option<Amount> {
    let mut read = |text: &str, at: &At| findings.accept(at, amount::quantity(text), "");
    let amount = match raw? {
        RawAmount::Both(text) => {
            let both = read(text, at);
            Amount { request: both.clone(), limit: both }
        }
        RawAmount::Each(each) => Amount {
            request: each.request.as_ref().and_then(|text| read(text, &at.key("request"))),
            limit: each.limit.as_ref().and_then(|text| read(text, &at.key("limit"))),
        },
    };
    if let (Some(request), Some(limit)) = (&amount.request, &amount.limit)
        && amount::thousandths(request) > amount::thousandths(limit)
    {
        findings.error(at, format!("the request {request} is above the limit {limit}"), "");
    }
    Some(amount)
}

pub(super) fn quota(
    raw: &BTreeMap<String, String>,
    at: &At,
    findings: &mut Findings<'_>,
) -> BTreeMap<String, String> {
    let mut quota = BTreeMap::new();
    for (resource, text) in raw {
        if let Some(read) = findings.accept(&at.key(resource), amount::quantity(text), "") {
            quota.insert(resource.clone(), read);
        }
    }
    quota
}

pub(super) fn tolerations(
    raw: Option<&BTreeMap<String, String>>,
    at: &At,
    findings: &mut Findings<'_>,
) {
    for (key, effect) in raw.into_iter().flatten() {
        if !matches!(effect.as_str(), "NoSchedule" | "PreferNoSchedule" | "NoExecute" | "") {
            let at = at.key("tolerations").key(key);
            let remedy = "NoSchedule, PreferNoSchedule, NoExecute, or \"\" for all";
            findings.error(&at, format!("`{effect}` is no effect"), remedy);
        }
    }
}

fn environment(raw: &BTreeMap<String, String>, at: &At, findings: &mut Findings<'_>) {
    for name in raw.keys() {
        let known = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(known) {
            findings.error(&at.key(name), format!("`{name}` is no name of a variable"), "");
        }
        if name.starts_with("FF_") || name.starts_with("KUBERNETES_") {
            let reason = format!("`{name}` steers gitlab-runner itself");
            findings.error(
                &at.key(name),
                reason,
                "a feature flag belongs into `extra`, below [feature_flags]",
            );
        }
    }
}

fn pull_policy(policy: RawPullPolicy) -> String {
    match policy {
        RawPullPolicy::Always => "always",
        RawPullPolicy::IfNotPresent => "if-not-present",
        RawPullPolicy::Never => "never",
    }
    .to_owned()
}
