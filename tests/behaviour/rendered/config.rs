//! The manager's `config.toml`, and what is read back from its Secret.

use super::{
    example::{World, company, default_profile, hardened, image_build, plain},
    examples, snapshots, token,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use forerunner::domain::{
    ids::RunnerId,
    kubernetes::Object,
    render::{self, Entry, ReadError},
    spec::{Pods, RunnerSpec},
};
use secrecy::ExposeSecret;
use std::collections::BTreeSet;
use std::sync::Arc;
use toml::{Table, Value};

/// Keys of gitlab-runner 19.4.0 that we write, by table (runner-on-kubernetes.md §3).
const KNOWN: [(&str, &str); 15] = [
    (
        "",
        "concurrent check_interval shutdown_timeout log_level log_format connection_max_age listen_address runners",
    ),
    (
        "runners",
        "name url id token executor limit request_concurrency strict_check_interval \
         unhealthy_requests_limit unhealthy_interval output_limit debug_trace_disabled environment \
         tls-ca-file clone_url feature_flags cache kubernetes",
    ),
    ("runners.cache", "Type Shared Path azure"),
    ("runners.cache.azure", "AccountName ContainerName StorageDomain"),
    (
        "runners.kubernetes",
        "namespace namespace_overwrite_allowed service_account_overwrite_allowed \
         pod_labels_overwrite_allowed pod_annotations_overwrite_allowed \
         node_selector_overwrite_allowed node_tolerations_overwrite_allowed \
         bearer_token_overwrite_allowed service_account automount_service_account_token image \
         allowed_images allowed_services pull_policy allowed_pull_policies image_pull_secrets \
         helper_image helper_image_autoset_arch_and_os privileged allow_privilege_escalation \
         cap_drop cap_add allowed_users allowed_groups cpu_request cpu_limit memory_request \
         memory_limit ephemeral_storage_request ephemeral_storage_limit helper_cpu_request \
         helper_cpu_limit helper_memory_request helper_memory_limit service_cpu_request \
         service_cpu_limit service_memory_request service_memory_limit poll_interval poll_timeout \
         resource_availability_check_max_attempts retry_limit retry_backoff_max \
         pod_termination_grace_period_seconds cleanup_grace_period_seconds \
         cleanup_resources_timeout print_pod_warning_events pod_disruption_budget \
         priority_class_name runtime_class_name retry_limits node_selector node_tolerations \
         pod_labels pod_annotations pod_security_context volumes dns_policy",
    ),
    (
        "runners.kubernetes.pod_security_context",
        "run_as_non_root run_as_user run_as_group fs_group seccomp_profile",
    ),
    ("runners.kubernetes.pod_security_context.seccomp_profile", "type"),
    ("runners.kubernetes.volumes", "empty_dir"),
    ("runners.kubernetes.volumes.empty_dir", "name mount_path size_limit"),
    // Free keys: a flag, label or substring each.
    ("runners.feature_flags", "*"),
    ("runners.kubernetes.retry_limits", "*"),
    ("runners.kubernetes.node_selector", "*"),
    ("runners.kubernetes.node_tolerations", "*"),
    ("runners.kubernetes.pod_labels", "*"),
    ("runners.kubernetes.pod_annotations", "*"),
];

fn config(spec: &RunnerSpec, world: &World, runners: &[(u64, &str)]) -> String {
    let tokens: Vec<_> = runners.iter().map(|(id, text)| (RunnerId(*id), token(text))).collect();
    let entries: Vec<_> =
        tokens.iter().map(|(runner, token)| Entry { runner: *runner, token }).collect();
    render::config_toml(spec, &world.context(), &entries).expose_secret().to_owned()
}

/// The one entry of a file with one.
pub(super) fn runner(spec: &RunnerSpec, world: &World) -> Table {
    let config: Table = config(spec, world, &[(4711, "glrt-made-up-1")]).parse().unwrap();
    config["runners"][0].as_table().unwrap().clone()
}

fn secret(spec: &RunnerSpec, world: &World, runners: &[(u64, &str)]) -> Object {
    let tokens: Vec<_> = runners.iter().map(|(id, text)| (RunnerId(*id), token(text))).collect();
    let entries: Vec<_> =
        tokens.iter().map(|(runner, token)| Entry { runner: *runner, token }).collect();
    render::config_secret(spec, &world.context(), &entries)
}

/// A live Secret whose file somebody changed.
fn edited(secret: &Object, edit: impl Fn(&str) -> String) -> Object {
    let mut secret = secret.clone();
    let data = secret.body["data"]["config.toml"].as_str().unwrap();
    let text = String::from_utf8(BASE64_STANDARD.decode(data).unwrap()).unwrap();
    secret.body["data"]["config.toml"] = BASE64_STANDARD.encode(edit(&text)).into();
    secret
}

#[test]
fn the_whole_file_is_what_it_was() {
    for (name, world, spec) in examples() {
        let runners: &[_] = match name {
            "hardened" => &[(4711, "glrt-made-up-1"), (4712, "glrt-made-up-2")],
            _ => &[(4711, "glrt-made-up-1")],
        };
        let text = config(&spec, &world, runners);
        snapshots().bind(|| insta::assert_snapshot!(format!("config_{name}"), text));
    }
}

#[test]
fn every_key_is_one_the_runner_knows() {
    fn walk(path: &str, value: &Value, seen: &mut BTreeSet<String>) {
        match value {
            Value::Table(table) => {
                let known = KNOWN.iter().find(|(own, _)| *own == path);
                let known = known.unwrap_or_else(|| panic!("unknown table [{path}]")).1;
                for (key, value) in table {
                    let listed = known == "*" || known.split_whitespace().any(|own| own == key);
                    assert!(listed, "unknown key `{key}` in [{path}]");
                    seen.insert(format!("{path}/{key}"));
                    let below = if path.is_empty() { key } else { &format!("{path}.{key}") };
                    walk(below, value, seen);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(path, item, seen)),
            Value::String(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Boolean(_)
            | Value::Datetime(_) => {}
        }
    }
    let mut seen = BTreeSet::new();
    for (_, world, mut spec) in examples() {
        Arc::make_mut(&mut spec.kubernetes).runtime_class = Some("kata".to_owned());
        Arc::make_mut(&mut spec.kubernetes).service_cpu = spec.kubernetes.cpu.clone();
        let table: Table = config(&spec, &world, &[(1, "glrt-made-up-1")]).parse().unwrap();
        walk("", &Value::Table(table), &mut seen);
    }
    assert!(seen.len() > 80, "the walk saw {} keys", seen.len());
    assert!(!seen.contains("runners/token_expires_at"));
}

#[test]
fn two_entries_differ_in_nothing_but_the_runner() {
    let text = config(&hardened(), &company(), &[(1, "glrt-made-up-1"), (2, "glrt-made-up-2\n")]);
    let config: Table = text.parse().unwrap();
    let [mut one, other] = [0, 1].map(|index| config["runners"][index].as_table().unwrap().clone());
    assert_eq!(other["token"].as_str(), Some("glrt-made-up-2"), "without the line end");
    assert_eq!(config["concurrent"].as_integer(), Some(10));
    assert_eq!(one["limit"].as_integer(), Some(10));
    one.insert("token".to_owned(), other["token"].clone());
    one.insert("id".to_owned(), other["id"].clone());
    let labels = one["kubernetes"]["pod_labels"].as_table_mut().unwrap();
    assert_eq!(labels.insert("forerunner.dev/runner".to_owned(), "2".into()), Some("1".into()));
    assert_eq!(one, other);
}

#[test]
fn a_job_can_neither_choose_its_identity_nor_change_what_the_manager_may_do() {
    for (name, world, spec) in examples() {
        let runner = runner(&spec, &world);
        for (key, value) in runner["kubernetes"].as_table().unwrap() {
            if key.contains("_overwrite_allowed") {
                assert!(
                    value.as_str() == Some("") || value.as_bool() == Some(false),
                    "{name} {key}"
                );
            }
        }
        for (flag, pinned) in render::FEATURE_FLAGS {
            assert_eq!(runner["feature_flags"][flag].as_bool(), Some(pinned), "{name} {flag}");
        }
    }
}

#[test]
fn only_a_pod_with_an_identity_is_shown_to_the_webhook_and_it_runs_no_services() {
    let check = |spec: RunnerSpec, identity: bool| {
        let runner = runner(&spec, &company());
        let kubernetes = &runner["kubernetes"];
        let used = kubernetes["pod_labels"].get("azure.workload.identity/use");
        assert_eq!(used.and_then(Value::as_str), identity.then_some("true"));
        assert_eq!(runner["debug_trace_disabled"].as_bool(), Some(identity));
        let services = kubernetes.get("allowed_services").map(|list| list[0].as_str().unwrap());
        assert_eq!(services.is_some_and(|image| image.contains(".invalid/")), identity);
    };
    check(hardened(), true);
    check(image_build(), true);
    check(default_profile(), false);
}

#[test]
fn pods_decide_every_security_setting_at_once() {
    let check =
        |pods: Pods, privileged: bool, escalation: bool, drop: &[&str], user: Option<i64>| {
            let runner = runner(&RunnerSpec { pods, ..default_profile() }, &plain());
            let kubernetes = runner["kubernetes"].as_table().unwrap();
            assert_eq!(kubernetes["privileged"].as_bool(), Some(privileged), "{pods:?}");
            assert_eq!(
                kubernetes["allow_privilege_escalation"].as_bool(),
                Some(escalation),
                "{pods:?}"
            );
            let list = kubernetes.get("cap_drop").and_then(Value::as_array);
            let list: Vec<_> = list.into_iter().flatten().filter_map(Value::as_str).collect();
            assert_eq!(list, drop, "{pods:?}");
            let context = kubernetes.get("pod_security_context");
            let found = context.and_then(|context| context.get("run_as_user")?.as_integer());
            assert_eq!(found, user, "{pods:?}");
        };
    check(Pods::Hardened, false, false, &["ALL"], Some(1000));
    check(Pods::Standard, false, false, &[], None);
    check(Pods::ImageBuild, false, true, &["ALL"], None);
    check(Pods::Privileged, true, true, &[], None);
}

#[test]
fn raw_keys_come_last_and_are_merged_table_by_table() {
    let mut spec = hardened();
    Arc::make_mut(&mut spec.kubernetes).extra =
        "builds_dir = '/b'\n[kubernetes]\npoll_interval = 9\n\
                             [kubernetes.node_selector]\npool = 'ci'\n\
                             [[kubernetes.pod_spec]]\nname = 'a'\npatch = 'hostUsers: false'\n\
                             [[kubernetes.volumes.empty_dir]]\nname = 'cache'\nmount_path = '/c'"
            .parse()
            .unwrap();
    let runner = runner(&spec, &company());
    let kubernetes = &runner["kubernetes"];
    assert_eq!(runner["builds_dir"].as_str(), Some("/b"));
    assert_eq!(kubernetes["poll_interval"].as_integer(), Some(9));
    assert_eq!(kubernetes["poll_timeout"].as_integer(), Some(600));
    assert_eq!(kubernetes["node_selector"]["pool"].as_str(), Some("ci"));
    assert_eq!(kubernetes["node_selector"]["kubernetes.io/os"].as_str(), Some("linux"));
    let volumes = kubernetes["volumes"]["empty_dir"].as_array().unwrap();
    let volumes: Vec<_> = volumes.iter().filter_map(|volume| volume["name"].as_str()).collect();
    assert_eq!(volumes, ["job-home", "cache"]);
    let patches = "FF_USE_ADVANCED_POD_SPEC_CONFIGURATION";
    assert_eq!(runner["feature_flags"][patches].as_bool(), Some(true));
}

#[test]
fn the_profiles_environment_wins_over_ours() {
    let mut spec = hardened();
    Arc::make_mut(&mut spec.kubernetes).environment.insert("HOME".to_owned(), "/builds".to_owned());
    let runner = runner(&spec, &company());
    let environment: Vec<_> =
        runner["environment"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(environment.contains(&"HOME=/builds") && !environment.contains(&"HOME=/home/job"));
    assert!(environment.contains(&"ARM_USE_AKS_WORKLOAD_IDENTITY=true"));
    assert!(environment.contains(&"HTTPS_PROXY=http://proxy.example.com:3128"));
}

#[test]
fn entries_read_back_in_their_order_from_a_file_that_somebody_edited() {
    let check = |edit: fn(&str) -> String, expected: &[(u64, &str)]| {
        let secret =
            secret(&hardened(), &company(), &[(1, "glrt-made-up-1"), (2, "glrt-made-up-2")]);
        let found = render::read_entries(&edited(&secret, edit)).unwrap();
        let found: Vec<_> = found.iter().map(|(id, token)| (id.0, token.expose_secret())).collect();
        assert_eq!(found, expected);
    };
    let both = [(1, "glrt-made-up-1"), (2, "glrt-made-up-2")];
    check(str::to_owned, &both);
    check(|text| format!("# by hand\nlog_level_typo = 1\n{text}"), &both);
    check(|text| text.replace("id = 1\n", ""), &both[1..]);
    check(|text| text.replace("id = 1\n", "id = 'one'\n"), &both[1..]);
    check(|text| text.replace("id = 1\n", "id = -1\n"), &both[1..]);
    check(|text| text.replace("glrt-made-up-2", " "), &both[..1]);
    check(|text| text.replace("glrt-made-up-2", " glrt-made-up-2 "), &both);
    check(|_| "concurrent = 3".to_owned(), &[]);
    check(|_| "runners = 'none'".to_owned(), &[]);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_that_does_not_quote_it() {
    let own = secret(&hardened(), &company(), &[(1, "glrt-made-up-1")]);
    let check = |secret: Object, expected: ReadError| {
        let error = render::read_entries(&secret).unwrap_err();
        assert_eq!(error, expected);
        let chain = format!("{error} {error:?} {:?}", std::error::Error::source(&error).is_some());
        assert!(!chain.contains("made-up"), "{chain}");
        assert!(!render::expected_config_matches(&hardened(), &company().context(), &secret));
    };
    check(edited(&own, |text| text.replace("token =", "token glrt-made-up =")), ReadError::NotToml);
    let with = |value: serde_json::Value| {
        let mut secret = own.clone();
        secret.body["data"]["config.toml"] = value;
        secret
    };
    check(with("%%%".into()), ReadError::NotText);
    check(with(BASE64_STANDARD.encode([0xff, 0xfe]).into()), ReadError::NotText);
    check(with(serde_json::Value::Null), ReadError::Missing);
}

#[test]
fn a_live_file_matches_by_what_it_means() {
    let check = |matches: bool, edit: fn(&str) -> String| {
        let secret =
            secret(&hardened(), &company(), &[(1, "glrt-made-up-1"), (2, "glrt-made-up-2")]);
        let secret = edited(&secret, edit);
        let found = render::expected_config_matches(&hardened(), &company().context(), &secret);
        assert_eq!(found, matches);
    };
    check(true, str::to_owned);
    check(true, |text| format!("# a note\n\n{text}\n"));
    check(true, |text| text.replace("glrt-made-up-2", "glrt-made-up-3"));
    check(false, |text| text.replace("privileged = false", "privileged = true"));
    check(false, |text| text.replace("concurrent = 10", "concurrent = 11"));
    check(false, |text| format!("sentry_dsn = 'x'\n{text}"));
    check(false, |text| text.replace("id = 1\n", ""));
    check(false, |text| text.replace("poll_timeout = 600\n", ""));
}

#[test]
fn a_wish_that_changed_or_another_system_id_does_not_match() {
    let live = secret(&hardened(), &company(), &[(1, "glrt-made-up-1")]);
    let mut spec = hardened();
    spec.runner.concurrent = 30;
    assert!(!render::expected_config_matches(&spec, &company().context(), &live));
    let mut other = live.clone();
    other.body["data"][".runner_system_id"] = BASE64_STANDARD.encode("s_000000000000").into();
    assert!(!render::expected_config_matches(&hardened(), &company().context(), &other));
    let mut world = company();
    world.gitlab_ca = None;
    assert!(!render::expected_config_matches(&hardened(), &world.context(), &live));
}
