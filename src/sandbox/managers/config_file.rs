//! `config.toml` as gitlab-runner reads it: unknown keys are ignored, wrong types refuse the file.
//! Source: runner-on-kubernetes.md §2.1; defaults of the keys from §3 there.

use super::go_duration;
use jiff::SignedDuration;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Has no `Debug`: its entries hold tokens.
#[derive(Clone, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub(super) concurrent: i64,
    /// Where it answers probes; nowhere where it is empty.
    pub(super) listen_address: String,
    /// Seconds; 0 stands for the default.
    check_interval: i64,
    pub(super) runners: Vec<Entry>,
}

/// One `[[runners]]`.
#[derive(Clone, Deserialize, Default)]
#[serde(default)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) token: String,
    /// Jobs of this entry at once; 0 is as many as there may be.
    pub(super) limit: usize,
    unhealthy_requests_limit: usize,
    unhealthy_interval: Option<String>,
    pub(super) strict_check_interval: bool,
    pub(super) environment: Vec<String>,
    pub(super) feature_flags: BTreeMap<String, bool>,
    pub(super) kubernetes: KubernetesSection,
}

/// `[runners.kubernetes]`, as far as it shapes the pod and the way to it.
#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct KubernetesSection {
    namespace: String,
    pub(super) service_account: String,
    pub(super) automount_service_account_token: Option<bool>,
    pub(super) image: String,
    helper_image: String,
    pub(super) image_pull_secrets: Vec<String>,
    pub(super) privileged: Option<bool>,
    pub(super) allow_privilege_escalation: Option<bool>,
    pub(super) cap_add: Vec<String>,
    pub(super) cap_drop: Vec<String>,
    pub(super) cpu_request: String,
    pub(super) cpu_limit: String,
    pub(super) memory_request: String,
    pub(super) memory_limit: String,
    pub(super) ephemeral_storage_request: String,
    pub(super) ephemeral_storage_limit: String,
    pub(super) helper_cpu_request: String,
    pub(super) helper_cpu_limit: String,
    pub(super) helper_memory_request: String,
    pub(super) helper_memory_limit: String,
    pub(super) helper_ephemeral_storage_request: String,
    pub(super) helper_ephemeral_storage_limit: String,
    poll_interval: i64,
    poll_timeout: i64,
    resource_availability_check_max_attempts: Option<i64>,
    retry_limit: i64,
    retry_backoff_max: i64,
    /// Part of an error's text → number of tries.
    retry_limits: BTreeMap<String, i64>,
    pub(super) pod_termination_grace_period_seconds: Option<i64>,
    pub(super) pod_disruption_budget: bool,
    pub(super) print_pod_warning_events: Option<bool>,
    pub(super) priority_class_name: String,
    pub(super) runtime_class_name: String,
    pub(super) node_selector: BTreeMap<String, String>,
    pub(super) node_tolerations: BTreeMap<String, String>,
    pub(super) pod_labels: BTreeMap<String, String>,
    pub(super) pod_annotations: BTreeMap<String, String>,
    pub(super) pod_security_context: SecurityContext,
    pub(super) build_container_security_context: SecurityContext,
    pub(super) helper_container_security_context: SecurityContext,
    pub(super) init_permissions_container_security_context: SecurityContext,
    pub(super) volumes: Volumes,
    pub(super) pod_spec: Vec<PodSpecPatch>,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct SecurityContext {
    pub(super) run_as_non_root: Option<bool>,
    pub(super) run_as_user: Option<i64>,
    pub(super) run_as_group: Option<i64>,
    pub(super) fs_group: Option<i64>,
    pub(super) supplemental_groups: Vec<i64>,
    pub(super) privileged: Option<bool>,
    pub(super) allow_privilege_escalation: Option<bool>,
    pub(super) capabilities: Capabilities,
    pub(super) seccomp_profile: Option<SeccompProfile>,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Capabilities {
    pub(super) add: Vec<String>,
    pub(super) drop: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct SeccompProfile {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) localhost_profile: String,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Volumes {
    pub(super) empty_dir: Vec<Volume>,
    pub(super) host_path: Vec<Volume>,
    pub(super) secret: Vec<Volume>,
    pub(super) config_map: Vec<Volume>,
    pub(super) pvc: Vec<Volume>,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct Volume {
    pub(super) name: String,
    pub(super) mount_path: String,
    pub(super) host_path: String,
    pub(super) read_only: bool,
    pub(super) medium: String,
    pub(super) size_limit: String,
}

#[derive(Clone, Debug, Deserialize, Default)]
#[serde(default)]
pub(super) struct PodSpecPatch {
    pub(super) patch: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            concurrent: 1,
            listen_address: String::new(),
            check_interval: 0,
            runners: Vec::new(),
        }
    }
}

impl Config {
    /// Errors: syntax, and a value of another type than its key has.
    pub(super) fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    pub(super) fn check_interval(&self) -> SignedDuration {
        SignedDuration::from_secs(if self.check_interval > 0 { self.check_interval } else { 3 })
    }
}

impl Entry {
    /// What logs and labels call it: nine characters of the token.
    pub(super) fn short_token(&self) -> String {
        short(&self.token)
    }

    pub(super) fn unhealthy_requests_limit(&self) -> usize {
        if self.unhealthy_requests_limit > 0 { self.unhealthy_requests_limit } else { 3 }
    }

    pub(super) fn unhealthy_interval(&self) -> SignedDuration {
        let configured = self.unhealthy_interval.as_deref().and_then(go_duration::parse);
        configured
            .filter(|interval| interval.is_positive())
            .unwrap_or(SignedDuration::from_hours(1))
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> bool {
        self.feature_flags.get(name).copied().unwrap_or(default)
    }
}

impl KubernetesSection {
    pub(super) fn namespace(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }

    pub(super) fn helper_image(&self, version: &str) -> String {
        if !self.helper_image.is_empty() {
            return self.helper_image.clone();
        }
        format!(
            "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:x86_64-v{version}"
        )
    }

    pub(super) fn poll_interval(&self) -> SignedDuration {
        SignedDuration::from_secs(if self.poll_interval > 0 { self.poll_interval } else { 3 })
    }

    pub(super) fn poll_timeout(&self) -> SignedDuration {
        SignedDuration::from_secs(if self.poll_timeout > 0 { self.poll_timeout } else { 180 })
    }

    /// How often more it looks for accounts and pull secrets that are missing; 0 looks for none.
    pub(super) fn availability_attempts(&self) -> i64 {
        self.resource_availability_check_max_attempts.unwrap_or(5)
    }

    /// How often a call is tried that fails with this text; once, unless the text is known to pass.
    pub(super) fn tries(&self, error: &str) -> i64 {
        let known = self.retry_limits.iter().find(|(part, _)| error.contains(part.as_str()));
        if let Some((_, tries)) = known {
            return *tries;
        }
        let passing = ["connection refused", "connection reset", "unexpected EOF", "TLS handshake"];
        if !passing.iter().any(|part| error.contains(part)) {
            return 1;
        }
        if self.retry_limit > 0 { self.retry_limit } else { 5 }
    }

    /// Before the next try: half a second, doubled each time.
    pub(super) fn backoff(&self, tries: i64) -> SignedDuration {
        let most = if self.retry_backoff_max > 0 { self.retry_backoff_max } else { 2000 };
        let doubled = 500_i64.saturating_mul(1 << tries.clamp(1, 20).saturating_sub(1));
        SignedDuration::from_millis(doubled.min(most))
    }
}

/// The part of a runner's token that is no secret: what follows the prefixes, as long as a label's value may be: a mark
/// at either end gives way to an `r`, at the start by moving up.
pub(super) fn short(token: &str) -> String {
    let bare = token.strip_prefix("glrt-").unwrap_or(token);
    let typed = bare.as_bytes();
    let bare = match typed {
        [b't', b'1'..=b'3', b'_', ..] => &bare[3..],
        _ => bare,
    };
    let mut short: Vec<char> = bare.chars().take(9).collect();
    if short.first().is_some_and(|first| !first.is_ascii_alphanumeric()) {
        short.insert(0, 'r');
        short.pop();
    }
    if let Some(last) = short.last_mut().filter(|last| !last.is_ascii_alphanumeric()) {
        *last = 'r';
    }
    short.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_ignored_and_wrong_types_refuse_the_file() {
        let text = "concurrent = 4\nspelt_wrong = 1\n[[runners]]\nname = \"a\"\nlimit = 2\n\
                    unhealthy_interval = \"20s\"\n[runners.kubernetes]\nnamespace = \"ci\"\n";
        let config = Config::parse(text).unwrap();
        let entry = &config.runners[0];
        assert_eq!((config.concurrent, entry.limit), (4, 2));
        assert_eq!(entry.unhealthy_interval(), SignedDuration::from_secs(20));
        assert_eq!(entry.kubernetes.namespace(), "ci");
        assert!(Config::parse("concurrent = \"four\"").is_err());
        assert!(Config::parse("concurrent = ").is_err());
        assert_eq!(Config::parse("").unwrap().concurrent, 1);
    }

    #[test]
    fn a_short_token_leaves_the_secret_out() {
        assert_eq!(short("glrt-EXAMPLE0000000000000"), "EXAMPLE00");
        assert_eq!(short("glrt-t1_abcdefghijklmnop"), "abcdefghi");
        assert_eq!(short("glrt-AgklbjXJ-abcdefghijk"), "AgklbjXJr");
        assert_eq!(short("glrt--abcdefgh-ijk"), "r-abcdefg");
    }

    #[test]
    fn quota_is_waited_for_as_the_file_says() {
        let text = "[[runners]]\n[runners.kubernetes.retry_limits]\n\"exceeded quota\" = 20\n";
        let section = Config::parse(text).unwrap().runners.remove(0).kubernetes;
        assert_eq!(section.tries("pods \"x\" is forbidden: exceeded quota: q"), 20);
        assert_eq!(section.tries("pods is forbidden: User cannot create"), 1);
        assert_eq!(section.tries("dial tcp: connection refused"), 5);
        let waits: i64 = (1..20).map(|tries| section.backoff(tries).as_secs()).sum();
        assert!((30..=40).contains(&waits), "{waits}");
    }
}
