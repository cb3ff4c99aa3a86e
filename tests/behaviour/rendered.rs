//! What we put into Kubernetes: every object as it is applied, and what the objects mean.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod administrator;
mod config;
mod drift;
pub(crate) mod example;
mod network;

use example::{World, company, default_profile, hardened, image_build, plain};
use forerunner::domain::{
    ids::RunnerId,
    kubernetes::{Kind, Object},
    names,
    render::{self, Context, Entry},
    spec::{IdentitySpec, Pods, RunnerSpec},
};
use secrecy::SecretString;
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

/// Every object of one runner but the Secret's content, stamped as they are applied.
pub(crate) fn objects(spec: &RunnerSpec, ctx: &Context<'_>) -> Vec<Object> {
    let client = match spec.identity {
        IdentitySpec::None => None,
        IdentitySpec::Managed { .. } | IdentitySpec::Existing { .. } => {
            Some((Uuid::from_u128(0x1111), Uuid::from_u128(0x2222)))
        }
    };
    let token = token("glrt-made-up-1");
    let entries = [Entry { runner: RunnerId(4711), token: &token }];
    let mut objects = vec![
        render::job_namespace(spec, ctx),
        render::default_account(spec, ctx),
        render::job_account(spec, ctx, client),
        render::manager_account(spec, ctx),
        render::binding(spec, ctx),
        render::quota(spec, ctx),
        render::limit_range(spec, ctx),
        render::job_network_policy(spec, ctx),
        render::manager_network_policy(spec, ctx),
        render::config_secret(spec, ctx, &entries),
        render::deployment(spec, ctx, 1),
    ];
    objects.iter_mut().for_each(render::stamp);
    objects
}

fn token(text: &str) -> SecretString {
    SecretString::from(text)
}

fn examples() -> [(&'static str, World, RunnerSpec); 3] {
    [
        ("hardened", company(), hardened()),
        ("image_build", company(), image_build()),
        ("default", plain(), default_profile()),
    ]
}

fn snapshots() -> insta::Settings {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"));
    settings.set_prepend_module_to_snapshot(false);
    settings
}

#[test]
fn every_object_is_what_it_was() {
    for (name, world, spec) in examples() {
        let objects = objects(&spec, &world.context()).into_iter().map(|mut object| {
            let data = object.body.get_mut("data").and_then(Value::as_object_mut);
            for value in data.into_iter().flat_map(|data| data.values_mut()) {
                *value = "(shown in its own snapshot)".into();
            }
            object.body
        });
        let objects: Vec<_> = objects.collect();
        snapshots().bind(|| insta::assert_yaml_snapshot!(format!("objects_{name}"), objects));
    }
}

#[test]
fn every_object_says_whose_it_is_whatever_labels_the_fleet_adds() {
    for (name, world, spec) in examples() {
        for object in objects(&spec, &world.context()) {
            let check = |label: &str, wanted: &str| {
                assert_eq!(object.label(label), Some(wanted), "{name}: {}", object.name);
            };
            check(names::LABEL_MANAGED_BY, "forerunner");
            check(names::LABEL_FLEET, "nonprod");
            check(names::LABEL_INSTALLATION, "3f2a8c1e-0000-4000-8000-000000000001");
            assert!(object.label(names::LABEL_KEY).is_some(), "{name}: {}", object.name);
            let team = world.fleet.cluster.labels.get("team").map(String::as_str);
            assert_eq!(object.label("team"), team, "{name}: {}", object.name);
        }
    }
}

#[test]
fn what_runners_of_a_profile_share_is_the_same_for_each() {
    let world = company();
    let mut other = image_build();
    other.key = "p8-images".parse().unwrap();
    other.runner.concurrent = 30; // what `set` may change
    Arc::make_mut(&mut other.kubernetes).cpu.limit = Some("8".to_owned());
    let [one, other] = [image_build(), other].map(|spec| objects(&spec, &world.context()));
    for (one, other) in one.iter().zip(&other) {
        let shared = match one.name.kind {
            Kind::Namespace | Kind::ResourceQuota | Kind::LimitRange => true,
            Kind::ServiceAccount | Kind::NetworkPolicy => {
                one.name.namespace.as_deref() == Some("ci-nonprod--domain-images")
            }
            Kind::RoleBinding | Kind::Secret | Kind::Deployment => false,
            Kind::ClusterRole
            | Kind::ConfigMap
            | Kind::Pod
            | Kind::ValidatingAdmissionPolicy
            | Kind::ValidatingAdmissionPolicyBinding
            | Kind::MutatingWebhookConfiguration => unreachable!("not among them"),
        };
        assert_eq!(one == other, shared, "{}", one.name);
    }
}

#[test]
fn a_namespace_enforces_what_its_pods_need_and_no_less() {
    let check = |pods: Pods, enforce: &str, watch: &str| {
        let spec = RunnerSpec { pods, ..default_profile() };
        let namespace = render::job_namespace(&spec, &plain().context());
        let label = |end: &str| namespace.label(&format!("pod-security.kubernetes.io/{end}"));
        assert_eq!(label("enforce"), Some(enforce), "{pods:?}");
        assert_eq!((label("audit"), label("warn")), (Some(watch), Some(watch)), "{pods:?}");
    };
    check(Pods::Hardened, "restricted", "restricted");
    check(Pods::Standard, "baseline", "restricted");
    check(Pods::ImageBuild, "baseline", "restricted");
    check(Pods::Privileged, "privileged", "baseline");
}

#[test]
fn a_container_without_limits_gets_some_where_the_quota_would_refuse_it() {
    let check = |quota: &[(&str, &str)], limit: Option<&str>, default: Value, request: &str| {
        let mut spec = default_profile();
        Arc::make_mut(&mut spec.kubernetes).cpu.limit = limit.map(str::to_owned);
        Arc::make_mut(&mut spec.kubernetes).quota =
            quota.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let range = render::limit_range(&spec, &plain().context());
        let item = &range.body["spec"]["limits"][0];
        assert_eq!(item["default"]["cpu"], default, "{quota:?} {limit:?}");
        assert_eq!(item["defaultRequest"]["cpu"], request, "{quota:?} {limit:?}");
    };
    check(&[], None, Value::Null, "100m");
    check(&[("limits.cpu", "80")], None, "1".into(), "100m");
    check(&[("limits.memory", "80Gi")], None, Value::Null, "100m");
    check(&[], Some("2"), "2".into(), "100m");
    check(&[], Some("50m"), "50m".into(), "50m"); // never a request above the limit
}

#[test]
fn only_an_account_with_an_identity_names_one() {
    let (world, spec) = (company(), hardened());
    let client = (Uuid::from_u128(1), Uuid::from_u128(2));
    let with = render::job_account(&spec, &world.context(), Some(client));
    let without = render::job_account(&spec, &world.context(), None);
    let client_id = "azure.workload.identity/client-id";
    assert_eq!(with.annotation(client_id), Some("00000000-0000-0000-0000-000000000001"));
    assert_eq!(without.body["metadata"].get("annotations"), None);
    for account in [with, render::manager_account(&spec, &world.context())] {
        assert_eq!(account.body["automountServiceAccountToken"], false, "{}", account.name);
    }
}

#[test]
fn a_job_gets_a_kubernetes_token_only_where_the_profile_says_so() {
    for allowed in [false, true] {
        let mut spec = default_profile();
        Arc::make_mut(&mut spec.kubernetes).kubernetes_api = allowed;
        let account = render::job_account(&spec, &plain().context(), None);
        assert_eq!(account.body["automountServiceAccountToken"], allowed);
        let runner = config::runner(&spec, &plain());
        assert_eq!(
            runner["kubernetes"]["automount_service_account_token"].as_bool(),
            Some(allowed)
        );
        let default = render::default_account(&spec, &plain().context());
        assert_eq!(default.body["automountServiceAccountToken"], false);
    }
}

/// The manager's pod template alone: what rolls it.
fn template(spec: &RunnerSpec, world: &World) -> Value {
    render::deployment(spec, &world.context(), 1).body["spec"]["template"].clone()
}

#[test]
fn a_manager_rolls_only_for_what_it_cannot_reload() {
    let before = template(&hardened(), &company());
    let check = |what: &str, rolls: bool, change: fn(&mut RunnerSpec, &mut World)| {
        let (mut spec, mut world) = (hardened(), company());
        change(&mut spec, &mut world);
        assert_eq!(template(&spec, &world) != before, rolls, "{what}");
    };
    check("concurrent", false, |spec, _| spec.runner.concurrent = 12);
    check("tags", false, |spec, _| spec.runner.tags.push("new".to_owned()));
    check("the jobs' image", false, |spec, _| {
        Arc::make_mut(&mut spec.kubernetes).image = "other".to_owned()
    });
    check("the jobs' environment", false, |spec, _| {
        Arc::make_mut(&mut spec.kubernetes).environment.clear()
    });
    check("ranges without a proxy", false, |_, world| {
        world.fleet.cluster.network.allow.clear();
    });
    check("the API server's address", false, |_, world| world.api_server.clear());
    check("the version", true, |_, world| world.fleet.cluster.images.runner = "19.5.0".to_owned());
    check("the CA", true, |_, world| world.gitlab_ca = Some("-- another --".to_owned()));
    check("the longest job", true, |spec, _| spec.runner.maximum_timeout = 7200);
    check("the installation", true, |_, world| world.installation.0 = "another".to_owned());
    check("the proxy", true, |_, world| world.fleet.cluster.proxy = None);
    check("the first pause pods", true, |spec, _| {
        Arc::make_mut(&mut spec.kubernetes).extra =
            "kubernetes.autoscaler.max_pause_pods = 1".parse().unwrap();
    });
}

#[test]
fn a_manager_leaves_a_dead_node_within_30_seconds() {
    let template = template(&default_profile(), &plain());
    for taint in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        let tolerations = template["spec"]["tolerations"].as_array().unwrap();
        let own = tolerations.iter().find(|toleration| toleration["key"] == taint).unwrap();
        assert_eq!(own["effect"], "NoExecute");
        assert!(own["tolerationSeconds"].as_u64().unwrap() <= 30, "{taint}");
    }
}

#[test]
fn a_manager_may_drain_as_long_as_its_longest_job_runs() {
    for timeout in [600, 3600, 10800, 604_800, u32::MAX] {
        let mut spec = default_profile();
        spec.runner.maximum_timeout = timeout;
        let template = template(&spec, &plain());
        let grace = template["spec"]["terminationGracePeriodSeconds"].as_u64().unwrap();
        let container = &template["spec"]["containers"][0];
        let hook = container["lifecycle"]["preStop"]["exec"]["command"][2].as_str().unwrap();
        assert!(hook.contains(&format!("-eq {timeout} ]")), "{hook}");
        assert!(grace == u64::from(u32::MAX) || grace >= u64::from(timeout) + 120, "{timeout}");
    }
}

/// A stand-in for process 1, which `kill` of the hook is turned to, ends by itself on its second look.
#[test]
fn the_drain_hook_waits_for_the_process_and_sends_one_more_signal_at_most() {
    let mut spec = default_profile();
    let check = |spec: &RunnerSpec, looks: u32, signals: &str| {
        let template = template(spec, &plain());
        let container = &template["spec"]["containers"][0];
        let hook = container["lifecycle"]["preStop"]["exec"]["command"][2].as_str().unwrap();
        // `kill` and `sleep` as functions: what the hook asks for, without a process and without waiting.
        let script = format!(
            "looks=0; sleep() {{ :; }}; kill() {{ case $1 in \
             -0) looks=$((looks+1)); [ $looks -lt {looks} ] ;; \
             *) printf '%s %s;' \"$1\" \"$2\" ;; esac; }}; {hook}"
        );
        let output = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), signals);
    };
    spec.runner.maximum_timeout = 600;
    check(&spec, 1, "-QUIT 1;");
    check(&spec, 600, "-QUIT 1;");
    check(&spec, 601, "-QUIT 1;-TERM 1;");
    check(&spec, 660, "-QUIT 1;-TERM 1;");
}

#[test]
fn a_paused_manager_has_no_pods_and_is_otherwise_the_same() {
    let (world, spec) = (plain(), default_profile());
    let [running, mut paused] =
        [1, 0].map(|replicas| render::deployment(&spec, &world.context(), replicas));
    assert_eq!(paused.body["spec"]["replicas"], 0);
    paused.body["spec"]["replicas"] = 1.into();
    assert!(running == paused);
}
