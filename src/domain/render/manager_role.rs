//! What managers may do in their job namespaces.

use super::metadata::{metadata, object, texts};
use crate::domain::{
    kubernetes::{Kind, Object, ObjectName},
    names,
    spec::RunnerSpec,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};

/// The ClusterRole that an administrator applies once and every manager is bound to, in its job namespace alone: the
/// verbs seen in use (runner-observed.md §2) that these profiles need, no more.
pub fn manager_cluster_role(name: &str, specs: &[RunnerSpec]) -> Object {
    let name = ObjectName::of_cluster(Kind::ClusterRole, name);
    let labels = texts([(names::LABEL_MANAGED_BY, "administrator")]);
    let typed = ClusterRole {
        metadata: metadata(&name, labels),
        rules: Some(manager_rules(specs)),
        ..ClusterRole::default()
    };
    object(name, &typed)
}

fn manager_rules(specs: &[RunnerSpec]) -> Vec<PolicyRule> {
    let any = |needs: fn(&RunnerSpec) -> bool| specs.iter().any(needs);
    let mut rules = vec![rule("", "pods", &["create", "delete", "get", "list", "watch"])];
    // Without a profile the default strategy, so that the first runner works.
    if specs.is_empty() || any(attaches) {
        rules.push(rule("", "pods/attach", &["create"]));
    }
    rules.push(rule("", "pods/exec", &["create"]));
    if any(reads_logs) {
        rules.push(rule("", "pods/log", &["get"]));
    }
    rules.extend([
        // A job's registry credentials; `delete` for a refused pod, and for owner references under admission.
        rule("", "secrets", &["create", "delete", "get", "update"]),
        rule("", "serviceaccounts", &["get"]),
        rule("", "events", &["list", "watch"]),
    ]);
    if any(|spec| spec.kubernetes.pod_disruption_budget) {
        rules.push(rule("policy", "poddisruptionbudgets", &["create", "get"]));
    }
    if any(keeps_pause_pods) {
        let verbs = ["create", "delete", "get", "list", "update"];
        rules.push(rule("apps", "deployments", &verbs));
    }
    rules
}

pub(super) fn rule(group: &str, resource: &str, verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        ..PolicyRule::default()
    }
}

fn attaches(spec: &RunnerSpec) -> bool {
    !switched_on(spec, "FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY")
}

/// `CI_DEBUG_SERVICES` reads service containers' logs, unless tracing is switched off (runner-observed.md §4).
fn reads_logs(spec: &RunnerSpec) -> bool {
    let debugs_services = spec.kubernetes.services && !super::job_pod::hides_traces(spec);
    let flags =
        ["FF_KUBERNETES_HONOR_ENTRYPOINT", "FF_WAIT_FOR_POD_TO_BE_REACHABLE", "FF_CONCRETE"];
    debugs_services || flags.into_iter().any(|flag| switched_on(spec, flag))
}

pub(super) fn keeps_pause_pods(spec: &RunnerSpec) -> bool {
    spec.kubernetes.extra.get("kubernetes").is_some_and(|keys| keys.get("autoscaler").is_some())
}

/// Whether `extra` turns a feature flag on that we leave off.
fn switched_on(spec: &RunnerSpec, flag: &str) -> bool {
    let flags = spec.kubernetes.extra.get("feature_flags");
    flags.and_then(|flags| flags.get(flag)?.as_bool()).unwrap_or(false)
}
