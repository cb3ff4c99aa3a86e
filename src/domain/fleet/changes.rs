//! `set`: what one target may have different from its profile.

use super::{
    kubernetes::{quantity_pair, quota, resources, tolerations},
    problem::{At, Findings},
    profile::timeout,
    raw::RawSet,
};
use crate::domain::spec::{Amount, KubernetesSettings, RunnerSettings};
use std::collections::BTreeMap;

/// What `set` changes for one target.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Changes {
    concurrent: Option<u32>,
    maximum_timeout: Option<u32>,
    cpu: Option<Amount>,
    memory: Option<Amount>,
    ephemeral_storage: Option<Amount>,
    helper_cpu: Option<Amount>,
    helper_memory: Option<Amount>,
    service_cpu: Option<Amount>,
    service_memory: Option<Amount>,
    node_selector: Option<BTreeMap<String, String>>,
    tolerations: Option<BTreeMap<String, String>>,
    priority_class: Option<String>,
    runtime_class: Option<String>,
    pub(super) quota: BTreeMap<String, String>,
}

impl Changes {
    pub(super) fn apply(&self, runner: &mut RunnerSettings, kubernetes: &mut KubernetesSettings) {
        if let Some(concurrent) = self.concurrent {
            runner.concurrent = concurrent;
            runner.request_concurrency = runner.request_concurrency.min(concurrent);
        }
        if let Some(timeout) = self.maximum_timeout {
            runner.maximum_timeout = timeout;
        }
        for (change, own) in [
            (&self.cpu, &mut kubernetes.cpu),
            (&self.memory, &mut kubernetes.memory),
            (&self.ephemeral_storage, &mut kubernetes.ephemeral_storage),
            (&self.helper_cpu, &mut kubernetes.helper_cpu),
            (&self.helper_memory, &mut kubernetes.helper_memory),
            (&self.service_cpu, &mut kubernetes.service_cpu),
            (&self.service_memory, &mut kubernetes.service_memory),
        ] {
            if let Some(change) = change {
                own.clone_from(change);
            }
        }
        if let Some(selector) = &self.node_selector {
            kubernetes.node_selector.clone_from(selector);
        }
        if let Some(tolerations) = &self.tolerations {
            kubernetes.tolerations.clone_from(tolerations);
        }
        if self.priority_class.is_some() {
            kubernetes.priority_class.clone_from(&self.priority_class);
        }
        if self.runtime_class.is_some() {
            kubernetes.runtime_class.clone_from(&self.runtime_class);
        }
        kubernetes.quota.extend(self.quota.clone());
    }
}

/// Reads one `set`.
pub(super) fn changes(raw: &RawSet, at: &At, findings: &mut Findings<'_>) -> Changes {
    let mut changes = Changes::default();
    if let Some(runner) = &raw.runner {
        let at = at.key("runner");
        changes.concurrent = runner.concurrent;
        if runner.concurrent == Some(0) {
            findings.error(&at.key("concurrent"), "is 0: the manager would not start", "");
        }
        changes.maximum_timeout = timeout(runner.maximum_timeout.as_deref(), &at, findings);
    }
    if let Some(raw) = &raw.kubernetes {
        let at = at.key("kubernetes");
        changes.cpu = quantity_pair(raw.cpu.as_ref(), &at.key("cpu"), findings);
        changes.memory = quantity_pair(raw.memory.as_ref(), &at.key("memory"), findings);
        changes.ephemeral_storage =
            quantity_pair(raw.ephemeral_storage.as_ref(), &at.key("ephemeralStorage"), findings);
        let helper = raw.helper.clone().unwrap_or_default();
        let service = raw.service.clone().unwrap_or_default();
        [changes.helper_cpu, changes.helper_memory] =
            resources(&helper, &at.key("helper"), findings);
        [changes.service_cpu, changes.service_memory] =
            resources(&service, &at.key("service"), findings);
        changes.node_selector.clone_from(&raw.node_selector);
        changes.tolerations.clone_from(&raw.tolerations);
        tolerations(raw.tolerations.as_ref(), &at, findings);
        changes.priority_class.clone_from(&raw.priority_class);
        changes.runtime_class.clone_from(&raw.runtime_class);
        changes.quota =
            quota(raw.quota.as_ref().unwrap_or(&BTreeMap::new()), &at.key("quota"), findings);
    }
    changes
}
