//! The keys of a `[[runners]]` entry that gitlab-runner 19.4.0 reads, and which of them are ours to write.
//! gitlab-runner ignores a key that it does not know without a word, so a misspelt one would do nothing, for ever.
//! Source: runner-on-kubernetes.md §3; <https://docs.gitlab.com/runner/configuration/advanced-configuration/>,
//! <https://docs.gitlab.com/runner/executors/kubernetes/>.

use super::problem::nearest;
use toml::{Table, Value};

/// Whose a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// `extra` may set it, with everything below it.
    Free,
    /// A table, or a list of tables, whose keys are in this list too.
    Section,
    /// We write it; the text says where it is set instead.
    Ours(&'static str),
}
use Owner::{Free, Ours, Section};

const MADE: Owner = Ours("forerunner writes it itself");
const KUBERNETES_ONLY: Owner = Ours("the executor is always kubernetes");
const NO_OVERWRITE: Owner =
    Ours("jobs may overwrite nothing; every `*_overwrite_allowed` stays empty");
const PODS: Owner = Ours("`kubernetes.pods` sets it");
const PINNED: Owner = Ours("forerunner pins this feature flag, so that no job can turn it");
const IN_CLUSTER: Owner = Ours("the manager uses its own service account");
const NO_CACHE: Owner = Ours("`kubernetes.cache` is the one cache, on Azure Blob storage");
const NOT_GRANTED: Owner = Ours("it needs rights that managers do not have");

/// Paths below one `[[runners]]` entry.
static KEYS: &[(&str, Owner)] = &[
    ("name", MADE),
    ("url", Ours("`gitlab.url` sets it")),
    ("id", MADE),
    ("token", MADE),
    ("token_obtained_at", MADE),
    ("token_expires_at", MADE),
    ("executor", KUBERNETES_ONLY),
    ("limit", Ours("`runner.concurrent` sets it")),
    ("request_concurrency", Ours("`runner.requestConcurrency` sets it")),
    ("environment", Ours("`kubernetes.environment` sets it")),
    ("tls-ca-file", Ours("`gitlab.caFile` sets it")),
    ("tls-cert-file", Ours("the manager mounts no file of yours")),
    ("tls-key-file", Ours("the manager mounts no file of yours")),
    ("strict_check_interval", Free),
    ("unhealthy_requests_limit", Free),
    ("unhealthy_interval", Free),
    ("output_limit", Free),
    ("job_status_final_update_retry_limit", Free),
    ("builds_dir", Free),
    ("cache_dir", Free),
    ("clone_url", Free),
    ("shell", Free),
    ("pre_get_sources_script", Free),
    ("post_get_sources_script", Free),
    ("pre_build_script", Free),
    ("post_build_script", Free),
    ("safe_directory_checkout", Free),
    ("clean_git_config", Free),
    ("prepare_timeout", Free),
    ("get_sources_timeout", Free),
    ("graceful_kill_timeout", Free),
    ("force_kill_timeout", Free),
    ("debug_trace_disabled", Free),
    ("custom_build_dir", Section),
    ("custom_build_dir.enabled", Free),
    ("referees", Free),
    ("experimental", Section),
    ("experimental.boot_verify", Section),
    ("experimental.boot_verify.enabled", Free),
    ("experimental.boot_verify.timeout", Free),
    ("experimental.boot_verify.acquire_min_backoff", Free),
    ("experimental.boot_verify.acquire_max_backoff", Free),
    ("feature_flags", Section),
    ("feature_flags.FF_DISABLE_AUTOMATIC_TOKEN_ROTATION", PINNED),
    ("feature_flags.FF_USE_POD_ACTIVE_DEADLINE_SECONDS", PINNED),
    ("feature_flags.FF_USE_ADVANCED_POD_SPEC_CONFIGURATION", PINNED),
    ("feature_flags.FF_PRINT_POD_EVENTS", PINNED),
    ("feature_flags.FF_KUBERNETES_HONOR_ENTRYPOINT", PINNED),
    ("feature_flags.FF_WAIT_FOR_POD_TO_BE_REACHABLE", PINNED),
    ("feature_flags.FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY", PINNED),
    ("feature_flags.FF_SUSPENDABLE_ENVIRONMENTS", PINNED),
    ("feature_flags.FF_CONCRETE", PINNED),
    ("cache", Section),
    ("cache.Type", NO_CACHE),
    ("cache.Path", NO_CACHE),
    ("cache.Shared", NO_CACHE),
    ("cache.azure", NO_CACHE),
    ("cache.s3", NO_CACHE),
    ("cache.gcs", NO_CACHE),
    ("cache.MaxUploadedArchiveSize", Free),
    ("ssh", KUBERNETES_ONLY),
    ("docker", KUBERNETES_ONLY),
    ("parallels", KUBERNETES_ONLY),
    ("virtualbox", KUBERNETES_ONLY),
    ("machine", KUBERNETES_ONLY),
    ("autoscaler", KUBERNETES_ONLY),
    ("instance", KUBERNETES_ONLY),
    ("custom", KUBERNETES_ONLY),
    ("kubernetes", Section),
    ("kubernetes.host", IN_CLUSTER),
    ("kubernetes.cert_file", IN_CLUSTER),
    ("kubernetes.key_file", IN_CLUSTER),
    ("kubernetes.ca_file", IN_CLUSTER),
    ("kubernetes.bearer_token", IN_CLUSTER),
    ("kubernetes.context", IN_CLUSTER),
    ("kubernetes.bearer_token_overwrite_allowed", NO_OVERWRITE),
    ("kubernetes.namespace", Ours("`kubernetes.namespace` of the profile sets it")),
    ("kubernetes.namespace_overwrite_allowed", NO_OVERWRITE),
    ("kubernetes.namespace_per_job", NOT_GRANTED),
    ("kubernetes.service_account", Ours("`kubernetes.serviceAccount` of the profile sets it")),
    ("kubernetes.service_account_overwrite_allowed", NO_OVERWRITE),
    ("kubernetes.automount_service_account_token", Ours("`kubernetes.kubernetesApi` sets it")),
    ("kubernetes.pod_labels_overwrite_allowed", NO_OVERWRITE),
    ("kubernetes.pod_annotations_overwrite_allowed", NO_OVERWRITE),
    ("kubernetes.node_selector_overwrite_allowed", NO_OVERWRITE),
    ("kubernetes.node_tolerations_overwrite_allowed", NO_OVERWRITE),
    ("kubernetes.image", Ours("`kubernetes.image` of the profile sets it")),
    ("kubernetes.allowed_images", Ours("`kubernetes.allowedImages` sets it")),
    ("kubernetes.allowed_services", Ours("`kubernetes.allowedServices` sets it")),
    ("kubernetes.pull_policy", Ours("`kubernetes.pullPolicy` sets it")),
    ("kubernetes.allowed_pull_policies", Ours("`kubernetes.pullPolicy` sets it")),
    ("kubernetes.image_pull_secrets", Ours("`kubernetes.pullSecrets` sets it")),
    ("kubernetes.use_service_account_image_pull_secrets", Free),
    ("kubernetes.helper_image", Ours("`cluster.images` sets it")),
    ("kubernetes.helper_image_flavor", Free),
    ("kubernetes.helper_image_autoset_arch_and_os", Free),
    ("kubernetes.privileged", PODS),
    ("kubernetes.allow_privilege_escalation", PODS),
    ("kubernetes.cap_add", PODS),
    ("kubernetes.cap_drop", PODS),
    ("kubernetes.pod_security_context", PODS),
    ("kubernetes.build_container_security_context", PODS),
    ("kubernetes.helper_container_security_context", PODS),
    ("kubernetes.service_container_security_context", PODS),
    ("kubernetes.init_permissions_container_security_context", PODS),
    ("kubernetes.allowed_users", Free),
    ("kubernetes.allowed_groups", Free),
    ("kubernetes.cpu_request", Ours("`kubernetes.cpu` sets it")),
    ("kubernetes.cpu_limit", Ours("`kubernetes.cpu` sets it")),
    ("kubernetes.memory_request", Ours("`kubernetes.memory` sets it")),
    ("kubernetes.memory_limit", Ours("`kubernetes.memory` sets it")),
    ("kubernetes.ephemeral_storage_request", Ours("`kubernetes.ephemeralStorage` sets it")),
    ("kubernetes.ephemeral_storage_limit", Ours("`kubernetes.ephemeralStorage` sets it")),
    ("kubernetes.helper_cpu_request", Ours("`kubernetes.helper.cpu` sets it")),
    ("kubernetes.helper_cpu_limit", Ours("`kubernetes.helper.cpu` sets it")),
    ("kubernetes.helper_memory_request", Ours("`kubernetes.helper.memory` sets it")),
    ("kubernetes.helper_memory_limit", Ours("`kubernetes.helper.memory` sets it")),
    ("kubernetes.service_cpu_request", Ours("`kubernetes.service.cpu` sets it")),
    ("kubernetes.service_cpu_limit", Ours("`kubernetes.service.cpu` sets it")),
    ("kubernetes.service_memory_request", Ours("`kubernetes.service.memory` sets it")),
    ("kubernetes.service_memory_limit", Ours("`kubernetes.service.memory` sets it")),
    ("kubernetes.helper_ephemeral_storage_request", Free),
    ("kubernetes.helper_ephemeral_storage_limit", Free),
    ("kubernetes.service_ephemeral_storage_request", Free),
    ("kubernetes.service_ephemeral_storage_limit", Free),
    ("kubernetes.poll_interval", Free),
    ("kubernetes.poll_timeout", Ours("`kubernetes.pollTimeout` sets it")),
    ("kubernetes.resource_availability_check_max_attempts", Free),
    ("kubernetes.retry_limit", Free),
    ("kubernetes.retry_backoff_max", Free),
    ("kubernetes.retry_limits", Free),
    ("kubernetes.pod_termination_grace_period_seconds", Free),
    ("kubernetes.cleanup_grace_period_seconds", Free),
    ("kubernetes.cleanup_resources_timeout", Free),
    ("kubernetes.print_pod_warning_events", Free),
    ("kubernetes.pod_disruption_budget", Ours("`kubernetes.podDisruptionBudget` sets it")),
    ("kubernetes.priority_class_name", Ours("`kubernetes.priorityClass` sets it")),
    ("kubernetes.runtime_class_name", Ours("`kubernetes.runtimeClass` sets it")),
    ("kubernetes.scheduler_name", Free),
    ("kubernetes.node_selector", Ours("`kubernetes.nodeSelector` sets it")),
    ("kubernetes.node_tolerations", Ours("`kubernetes.tolerations` sets it")),
    ("kubernetes.affinity", Section),
    ("kubernetes.affinity.node_affinity", Free),
    ("kubernetes.affinity.pod_affinity", Free),
    ("kubernetes.affinity.pod_anti_affinity", Free),
    ("kubernetes.host_aliases", Section),
    ("kubernetes.host_aliases.ip", Free),
    ("kubernetes.host_aliases.hostnames", Free),
    ("kubernetes.dns_policy", Free),
    ("kubernetes.dns_config", Section),
    ("kubernetes.dns_config.nameservers", Free),
    ("kubernetes.dns_config.searches", Free),
    ("kubernetes.dns_config.options", Free),
    ("kubernetes.container_lifecycle", Section),
    ("kubernetes.container_lifecycle.post_start", Free),
    ("kubernetes.container_lifecycle.pre_stop", Free),
    ("kubernetes.services", Free),
    ("kubernetes.pod_labels", Section),
    ("kubernetes.pod_annotations", Section),
    (
        "kubernetes.pod_spec",
        Ours("a patch could change everything; only forerunner's own are used"),
    ),
    ("kubernetes.volumes", Section),
    ("kubernetes.volumes.host_path", Ours("a job never sees its node's files")),
    ("kubernetes.volumes.empty_dir", Free),
    ("kubernetes.volumes.secret", Free),
    ("kubernetes.volumes.config_map", Free),
    ("kubernetes.volumes.pvc", Free),
    ("kubernetes.volumes.csi", Free),
    ("kubernetes.volumes.nfs", Free),
    ("kubernetes.logs_base_dir", Free),
    ("kubernetes.scripts_base_dir", Free),
    ("kubernetes.autoscaler", Section),
    ("kubernetes.autoscaler.max_pause_pods", Free),
    ("kubernetes.autoscaler.pause_pod_image", Ours("`cluster.images` sets it")),
    ("kubernetes.autoscaler.pause_pod_priority_class_name", Free),
    ("kubernetes.autoscaler.pause_pod_image_pull_secrets", Free),
    ("kubernetes.autoscaler.policy", Section),
    ("kubernetes.autoscaler.policy.periods", Free),
    ("kubernetes.autoscaler.policy.timezone", Free),
    ("kubernetes.autoscaler.policy.idle_count", Free),
    ("kubernetes.autoscaler.policy.idle_time", Free),
    ("kubernetes.autoscaler.policy.scale_factor", Free),
    ("kubernetes.autoscaler.policy.scale_factor_limit", Free),
    ("kubernetes.autoscaler.policy.preemptive_mode", Free),
];

/// Resources whose bound for a job's own wish may be set, for the containers named by the prefix.
const BOUNDED: &str = "_overwrite_max_allowed";
const PREFIXES: [&str; 4] = ["", "helper_", "service_", "pod_"];
const RESOURCES: [&str; 6] = [
    "cpu_request",
    "cpu_limit",
    "memory_request",
    "memory_limit",
    "ephemeral_storage_request",
    "ephemeral_storage_limit",
];

/// What stands in `extra` and may not: the key's path, what is wrong, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) reason: String,
    pub(super) remedy: String,
}

/// Reads `extra`: the keys of one `[[runners]]` entry, written as they would stand below it, or with their full
/// `[runners.…]` headings.
pub(super) fn read(text: &str) -> Result<Table, Vec<Refused>> {
    let refuse = |reason: String, remedy: &str| vec![Refused { reason, remedy: remedy.to_owned() }];
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        refuse(format!("no TOML in line {line} of `extra`: {}", error.message()), "")
    })?;
    let entry = unwrap_entry(table).map_err(|reason| {
        refuse(
            reason,
            "write the keys of one entry, such as `[kubernetes]` or `[runners.kubernetes]`",
        )
    })?;
    let mut refused = Vec::new();
    check(&entry, "", &mut refused);
    if refused.is_empty() { Ok(entry) } else { Err(refused) }
}

fn unwrap_entry(mut table: Table) -> Result<Table, String> {
    let entry = match table.remove("runners") {
        None => return Ok(table),
        Some(Value::Table(entry)) => entry,
        Some(Value::Array(entries)) => match <[Value; 1]>::try_from(entries) {
            Ok([Value::Table(entry)]) => entry,
            Ok(_) | Err(_) => return Err("`runners` in `extra` is more than one entry".to_owned()),
        },
        Some(_) => return Err("`runners` in `extra` is no table".to_owned()),
    };
    match table.keys().next() {
        Some(key) => Err(format!("`{key}` in `extra` stands beside `runners`")),
        None => Ok(entry),
    }
}

fn check(table: &Table, above: &str, refused: &mut Vec<Refused>) {
    for (key, value) in table {
        let path = if above.is_empty() { key.clone() } else { format!("{above}.{key}") };
        match owner(&path, above, key) {
            Some(Free) => {}
            Some(Ours(instead)) => refused.push(Refused {
                reason: format!("`{path}` in `extra` is not to be set there"),
                remedy: instead.to_owned(),
            }),
            Some(Section) => match value {
                Value::Table(below) => check(below, &path, refused),
                Value::Array(items) if items.iter().all(Value::is_table) => {
                    items
                        .iter()
                        .filter_map(Value::as_table)
                        .for_each(|below| check(below, &path, refused));
                }
                Value::String(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Boolean(_)
                | Value::Datetime(_)
                | Value::Array(_) => refused.push(Refused {
                    reason: format!("`{path}` in `extra` is no table"),
                    remedy: String::new(),
                }),
            },
            None => refused.push(Refused {
                reason: format!("`{path}` in `extra` is no key of gitlab-runner 19.4.0"),
                remedy: near(above, key),
            }),
        }
    }
}

fn owner(path: &str, above: &str, key: &str) -> Option<Owner> {
    if let Some((_, owner)) = KEYS.iter().find(|(known, _)| *known == path) {
        return Some(*owner);
    }
    match above {
        // Flags come and go with every version; what must hold is pinned above.
        "feature_flags" if key.starts_with("FF_") => Some(Free),
        "kubernetes.pod_labels" | "kubernetes.pod_annotations" => {
            let ours = ["azure.workload.identity/", "forerunner.dev/", "app.kubernetes.io/"];
            let taken = ours.iter().any(|prefix| key.starts_with(prefix));
            Some(if taken {
                Ours("forerunner sets what begins so, from the identity")
            } else {
                Free
            })
        }
        "kubernetes" if key.starts_with("suspend_") => Some(NOT_GRANTED),
        "kubernetes" if key.ends_with("_overwrite_allowed") => Some(NO_OVERWRITE),
        "kubernetes" => {
            let bounded = key.strip_suffix(BOUNDED);
            let known = PREFIXES.iter().any(|prefix| {
                let resource = bounded.unwrap_or(key).strip_prefix(prefix);
                let counts = bounded.is_some() || *prefix == "pod_";
                counts && resource.is_some_and(|name| RESOURCES.contains(&name))
            });
            known.then_some(Free)
        }
        _ => None,
    }
}

fn near(above: &str, key: &str) -> String {
    let siblings = KEYS.iter().filter_map(|(path, _)| match path.rsplit_once('.') {
        Some((parent, own)) => (parent == above).then_some(own),
        None => above.is_empty().then_some(*path),
    });
    match nearest(key, siblings) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "gitlab-runner would ignore it without a word; leave it out".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extra_may_hold_what_has_no_key_of_its_own() {
        for text in [
            "",
            "output_limit = 16384",
            "[kubernetes]\nscheduler_name = 'x'\n[kubernetes.retry_limits]\n'exceeded quota' = 20",
            "[runners.kubernetes]\nscheduler_name = 'x'",
            "[[runners]]\nshell = 'bash'\n[runners.kubernetes.pod_labels]\nteam = 'ci'",
            "[kubernetes]\ncpu_limit_overwrite_max_allowed = '4'\npod_memory_limit = '8Gi'",
            "[[kubernetes.volumes.empty_dir]]\nname = 'tmp'\nmount_path = '/tmp'",
            "[feature_flags]\nFF_USE_FASTZIP = true",
        ] {
            assert!(read(text).is_ok(), "{text}: {:?}", read(text));
        }
        assert_eq!(
            read("[runners.kubernetes]\nscheduler_name = 'x'"),
            read("[kubernetes]\nscheduler_name = 'x'")
        );
    }

    #[test]
    fn extra_may_not_hold_what_is_ours_or_unknown() {
        for (text, reason, remedy) in [
            ("token = 'x'", "`token`", "forerunner writes it"),
            ("url = 'x'", "`url`", "gitlab.url"),
            ("executor = 'shell'", "`executor`", "always kubernetes"),
            ("limit = 3", "`limit`", "runner.concurrent"),
            ("environment = []", "`environment`", "kubernetes.environment"),
            ("[kubernetes]\nnamespace = 'x'", "`kubernetes.namespace`", "of the profile"),
            ("[kubernetes]\nservice_account = 'x'", "service_account", "kubernetes.serviceAccount"),
            ("[kubernetes]\nservice_account_overwrite_allowed = '.*'", "overwrite", "stays empty"),
            ("[kubernetes]\nsomething_new_overwrite_allowed = '.*'", "overwrite", "stays empty"),
            ("[kubernetes]\nprivileged = true", "privileged", "kubernetes.pods"),
            ("[[kubernetes.pod_spec]]\nname = 'x'", "pod_spec", "patch"),
            ("[[kubernetes.volumes.host_path]]\nname = 'x'", "host_path", "node"),
            (
                "[kubernetes.pod_labels]\n'azure.workload.identity/use' = 'true'",
                "workload",
                "identity",
            ),
            ("[feature_flags]\nFF_SUSPENDABLE_ENVIRONMENTS = true", "FF_SUSP", "pins"),
            ("[cache]\nType = 's3'", "cache.Type", "kubernetes.cache"),
            ("output_limt = 3", "no key", "`output_limit`"),
            ("[kubernetes]\nschedular_name = 'x'", "no key", "`scheduler_name`"),
            ("[docker]\nimage = 'x'", "docker", "always kubernetes"),
            ("concurrent = 3", "no key", ""),
            ("kubernetes = 3", "no table", ""),
            ("a = ", "no TOML in line 1", ""),
            ("shell = 'x'\n[[runners]]\nshell = 'y'", "beside", "one entry"),
        ] {
            let refused = read(text).unwrap_err();
            let fits = refused[0].reason.contains(reason) && refused[0].remedy.contains(remedy);
            assert!(fits, "{text}: {refused:?}");
        }
    }

    #[test]
    fn each_key_stands_once_and_below_a_section() {
        for (index, (path, _)) in KEYS.iter().enumerate() {
            assert!(KEYS[index + 1..].iter().all(|(other, _)| other != path), "{path}");
            if let Some((parent, _)) = path.rsplit_once('.') {
                assert!(KEYS.contains(&(parent, Section)), "{path}");
            }
        }
    }
}
