//! What no further round mends is taken out of the fast loop with its reason, listed, and comes back.

use crate::{
    deeds::{fleet, plain_fleet, plan_fleet},
    harness::Sandbox,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use forerunner::sandbox::{
    azure,
    wire::{Fault, Service, What},
};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// A right or a thing that an administrator has to give, taken away and given back.
struct Case {
    name: &'static str,
    fleet: String,
    profile: &'static str,
    take: fn(&Sandbox),
    /// What the reason says.
    words: &'static [&'static str],
    give: fn(&Sandbox),
}

const RBAC_ADMINISTRATOR: &str = "f58310d9-a9f6-439a-9e8d-f62e7b41a168";

fn take_right(sandbox: &Sandbox) {
    let all = sandbox.world.azure.assignments();
    for right in all.iter().filter(|right| right.role.to_string() == RBAC_ADMINISTRATOR) {
        assert!(sandbox.world.azure.remove_assignment(right.name));
    }
}

fn give_right(sandbox: &Sandbox) {
    let principal = sandbox.world.forerunner_user().parse().unwrap();
    let role = RBAC_ADMINISTRATOR.parse().unwrap();
    sandbox.world.azure.assign_role(crate::deeds::APP, role, principal, None);
}

fn weak_token(sandbox: &Sandbox) {
    let gitlab = &sandbox.world.gitlab;
    let token = gitlab.create_access_token(gitlab.admin_user(), &["read_api"]);
    sandbox.world.azure.set_secret("kv-fleet", "gitlab-token", &token);
}

fn good_token(sandbox: &Sandbox) {
    sandbox.world.azure.set_secret("kv-fleet", "gitlab-token", &sandbox.world.gitlab.admin_token());
}

fn make_namespace(sandbox: &Sandbox) {
    let namespace = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": "team-jobs", "labels": { "forerunner.dev/fleet": "nonprod", "pod-security.kubernetes.io/enforce": "restricted" } },
    });
    sandbox.world.kubernetes.apply_as_admin(namespace).unwrap();
}

fn cases() -> [Case; 3] {
    let given = fleet(
        "rules:\n  - { match: { groups: 'platform/payments' }, profiles: [given] }\nprofiles:\n  given: { runner: { tags: [x] }, identity: none, kubernetes: { namespace: team-jobs } }",
    );
    [
        Case {
            name: "ARM refuses",
            fleet: plan_fleet(),
            profile: "plan",
            take: take_right,
            words: &["assign Reader", "/resourceGroups/app"],
            give: give_right,
        },
        Case {
            name: "GitLab's token lacks its scope",
            fleet: plain_fleet(),
            profile: "plain",
            take: weak_token,
            words: &["GitLab"],
            give: good_token,
        },
        Case {
            name: "an administrator's namespace is missing",
            fleet: given,
            profile: "given",
            take: |_| {},
            words: &["namespace `team-jobs` does not exist", "an administrator makes it"],
            give: make_namespace,
        },
    ]
}

/// How the parked unit comes back once an administrator has mended what was wrong.
#[derive(Clone, Copy, Debug)]
enum Back {
    Sweep,
    ChangedFile,
    Hook,
}

async fn check(case: &Case, back: Back) {
    let Case { name, fleet, profile, take, words, give } = case;
    let sandbox = Sandbox::new(fleet).await;
    take(&sandbox);
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let unit = format!("runner/g{group}-{profile}");
    let status = sandbox.status(&unit);
    let parked = &status["parked"];
    let reason = parked["reason"].as_str().unwrap_or_default();
    assert!(
        words.iter().all(|word| reason.contains(word)),
        "{name}: {status}\n{}",
        sandbox.story()
    );
    let at = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    let waits = |parked: &Value, since: Timestamp| at(&parked["next"]).duration_since(since);
    assert_eq!(waits(parked, at(&parked["since"])), SignedDuration::from_mins(10), "{name}");
    // The `fleet` function lists it.
    let listed = sandbox.fetch("/api/fleet").await;
    let units = listed["units"].as_array().unwrap();
    let found = units.iter().find(|one| one["unit"] == *unit).unwrap();
    assert_eq!(found["parked"]["reason"], parked["reason"], "{name}");
    // Tried again by the sweep, and then after twice the time.
    let since = at(&parked["since"]);
    sandbox.pass_minutes(25).await;
    let again = sandbox.status(&unit)["parked"].clone();
    assert_eq!(
        (&again["since"], &again["tries"]),
        (&parked["since"], &json!(1)),
        "{name}: {again}"
    );
    assert!(
        at(&again["next"]).duration_since(since) >= SignedDuration::from_mins(30),
        "{name}: {again}"
    );
    give(&sandbox);
    match back {
        Back::Sweep => sandbox.pass_minutes(30).await,
        Back::ChangedFile => {
            sandbox.deploy(&format!("# mended\n{fleet}")).await;
            sandbox.sweep().await;
        }
        Back::Hook => {
            sandbox.world.gitlab.rename_group(group, "payments-2");
            sandbox.world.gitlab.rename_group(group, "payments");
            sandbox.settle().await;
        }
    }
    sandbox.assert_ready(&unit);
    assert!(!sandbox.is_parked(&unit), "{name}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_person_must_mend_is_parked_and_comes_back() {
    let [arm, gitlab, namespace] = cases();
    check(&arm, Back::Sweep).await;
    check(&gitlab, Back::ChangedFile).await;
    check(&namespace, Back::Hook).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_managers_namespace_nothing_is_lost() {
    let sandbox = Sandbox::new(&plain_fleet()).await;
    let kubernetes = &sandbox.world.kubernetes;
    let mut objects = vec![kubernetes.get("namespaces", "", "forerunner-nonprod").unwrap()];
    for plural in ["serviceaccounts", "roles", "rolebindings"] {
        objects.extend(kubernetes.list(plural, "forerunner-nonprod"));
    }
    assert!(kubernetes.delete_as_admin("namespaces", "", "forerunner-nonprod"));
    sandbox.pass_minutes(1).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.pass_minutes(5).await;
    let logs = sandbox.whole_story();
    assert!(logs.contains("`forerunner-nonprod`"), "{logs}");
    assert!(sandbox.keys().is_empty());
    assert!(sandbox.world.service_bus.dead_letters("rounds").is_empty());
    for object in objects {
        let metadata = &object["metadata"];
        let plain = json!({
            "apiVersion": object["apiVersion"], "kind": object["kind"], "rules": object["rules"],
            "roleRef": object["roleRef"], "subjects": object["subjects"],
            "metadata": { "name": metadata["name"], "namespace": metadata["namespace"], "labels": metadata["labels"] },
        });
        let plain: serde_json::Map<String, Value> = plain
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        kubernetes.apply_as_admin(Value::Object(plain)).unwrap();
    }
    sandbox.pass_minutes(20).await;
    sandbox.assert_ready(&format!("runner/g{group}-plain"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endless_failures_park_after_eight_attempts() {
    // No sweep joins in: each would begin a chain of its own.
    let settings = [("SweepSchedule", "0 0 3 * * *")];
    let sandbox =
        Sandbox::with_settings(&plain_fleet(), azure::Settings::default(), &settings).await;
    sandbox.lose_hooks();
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    let broken = What::Answer { status: 500, headers: vec![], body: "{}".into() };
    let path = format!("/groups/{group}/runners");
    let fault = Fault { service: Service::Gitlab, method: None, path, times: 10_000, what: broken };
    sandbox.world.wire.add_fault(fault);
    let unit = format!("runner/g{group}-plain");
    sandbox.wake(&unit);
    sandbox.settle().await;
    assert!(sandbox.is_parked(&unit), "{}", sandbox.story());
    let host = sandbox.world.host().unwrap();
    let rounds = host.invocations().iter().filter(|one| one.function == "round").count();
    assert_eq!(rounds, 8, "{}", sandbox.story());
    assert!(sandbox.world.service_bus.dead_letters("rounds").is_empty());
    sandbox.world.wire.clear_faults();
    sandbox.pass_minutes(11).await;
    sandbox.sweep().await;
    sandbox.assert_ready(&unit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_none_of_ours_is_kept_and_not_delivered_again() {
    let good =
        json!({ "v": 1, "unit": "runner/g42-plain", "reason": "hook", "attempt": 1, "cause": "x" });
    let cases = [
        ("hello, is this thing on?".to_owned(), "x", "not JSON"),
        (json!({ "v": 2 }).to_string(), "x", "`v` is not 1"),
        (good.to_string(), "another-session", "session"),
    ];
    for (body, session, reason) in cases {
        let sandbox = Sandbox::new(&plain_fleet()).await;
        sandbox.put_on_queue(&body, session);
        sandbox.settle().await;
        let secrets = sandbox.world.kubernetes.list("secrets", "forerunner-nonprod");
        let kept = secrets
            .iter()
            .find(|secret| secret["metadata"]["name"].as_str().unwrap().starts_with("foreign-"));
        let kept = kept.unwrap_or_else(|| panic!("{body}\n{}", sandbox.story()));
        let plain = |key: &str| {
            let bytes = BASE64_STANDARD.decode(kept["data"][key].as_str().unwrap()).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(plain("body"), body);
        assert!(plain("reason").contains(reason), "{body}: {}", plain("reason"));
        let bus = &sandbox.world.service_bus;
        assert_eq!((bus.depth("rounds"), bus.dead_letters("rounds").len()), (0, 0), "{body}");
        let host = sandbox.world.host().unwrap();
        assert_eq!(host.invocations().len(), 1, "{body}");
        assert!(!sandbox.whole_story().contains("is this thing on"), "no body reaches a log");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_written_down_and_its_unit_comes_back() {
    let sandbox = Sandbox::new(&plain_fleet()).await;
    sandbox.lose_hooks();
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    // Every round works and cannot queue what comes next.
    let full = What::Answer { status: 503, headers: vec![], body: String::new() };
    let fault = Fault {
        service: Service::ServiceBus,
        method: Some("POST"),
        path: "/rounds/messages".into(),
        times: 10_000,
        what: full,
    };
    sandbox.world.wire.add_fault(fault);
    for unit in [format!("target/g{group}"), format!("runner/g{group}-plain")] {
        sandbox.wake(&unit);
    }
    sandbox.pass_minutes(8).await;
    let bus = &sandbox.world.service_bus;
    assert_eq!(
        (bus.depth("rounds"), bus.dead_letters("rounds").len()),
        (0, 0),
        "{}",
        sandbox.story()
    );
    for unit in [format!("target/g{group}"), format!("runner/g{group}-plain")] {
        let reason = sandbox.status(&unit)["parked"]["reason"].to_string();
        assert!(
            reason.contains("dead letters: MaxDeliveryCountExceeded"),
            "{unit}: {reason}\n{}",
            sandbox.story()
        );
    }
    sandbox.world.wire.clear_faults();
    sandbox.pass_minutes(30).await;
    sandbox.assert_ready(&format!("runner/g{group}-plain"));
    assert!(!sandbox.is_parked(&format!("target/g{group}")), "{}", sandbox.story());
    assert_eq!(sandbox.keys().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_fleet_file_never_loses_a_hook() {
    let sandbox = Sandbox::new(&plain_fleet()).await;
    sandbox.deploy("version: 1\nrulez: []\n").await;
    let health = sandbox.fetch("/api/health").await;
    assert_eq!(health["ready"], json!(false), "{health}");
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.pass_minutes(90).await;
    assert_eq!(sandbox.own_writes(), Vec::<String>::new());
    assert!(sandbox.world.service_bus.dead_letters("rounds").is_empty());
    sandbox.lose_hooks();
    sandbox.deploy(&plain_fleet()).await;
    let health = sandbox.fetch("/api/health").await;
    assert_eq!(health["ready"], json!(true), "{health}");
    sandbox.settle().await;
    sandbox.assert_ready(&format!("runner/g{group}-plain"));
}

/// A manager that never runs, or never polls, and how that ends.
type Trouble = (&'static str, fn(&Sandbox), fn(&Sandbox));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_is_over_after_its_hour_and_tried_again_at_doubled_intervals() {
    let troubles: [Trouble; 3] = [
        (
            "no image",
            |sandbox| sandbox.world.kubernetes.fail_image_pulls(Some("runner")),
            |sandbox| sandbox.world.kubernetes.fail_image_pulls(None),
        ),
        (
            "no room",
            |sandbox| sandbox.world.kubernetes.set_unschedulable(true),
            |sandbox| sandbox.world.kubernetes.set_unschedulable(false),
        ),
        (
            "no polls",
            |sandbox| {
                let what = What::Answer { status: 500, headers: vec![], body: "{}".into() };
                let (service, path) = (Service::Gitlab, "/api/v4/jobs/request".to_owned());
                let fault = Fault { service, method: None, path, times: 100_000, what };
                sandbox.world.wire.add_fault(fault);
            },
            |sandbox| sandbox.world.wire.clear_faults(),
        ),
    ];
    join_all(troubles.map(|(name, begin, end)| async move {
        let sandbox = Sandbox::new(&plain_fleet()).await;
        begin(&sandbox);
        let group = sandbox.world.gitlab.create_group(Some(42), "payments");
        let unit = format!("runner/g{group}-plain");
        sandbox.pass_minutes(65).await;
        let parked = sandbox.status(&unit)["parked"].clone();
        let reason = parked["reason"].as_str();
        assert!(reason.is_some_and(|why| why.starts_with("waited until")), "{name}: {parked}");
        // After 10, 20 and 40 minutes, each time for ten; what joins in meanwhile changes nothing of it.
        for (minutes, tries) in [(35, 1), (40, 2), (60, 3)] {
            sandbox.pass_minutes(minutes).await;
            let again = &sandbox.status(&unit)["parked"];
            assert_eq!(again["since"], parked["since"], "{name}");
            assert_eq!(again["tries"], tries, "{name}: {}", sandbox.status(&unit));
        }
        end(&sandbox);
        sandbox.pass_minutes(100).await;
        sandbox.assert_ready(&unit);
        assert!(sandbox.status(&unit)["parked"].is_null(), "{name}");
    }))
    .await;
}

/// Azure's roles take ten minutes to count (azure.md §1), and whoever gives them to forerunner may come late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_hour_of_an_installation_ends_settled_without_anybodys_help() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    let (azure, own) = (&sandbox.world.azure, sandbox.world.forerunner_user());
    let all = azure.assignments().into_iter();
    let rights: Vec<_> = all.filter(|one| one.principal_id.to_string() == own).collect();
    assert!(rights.len() > 1, "{rights:?}");
    assert!(rights.iter().all(|right| azure.remove_assignment(right.name)));
    let groups = ["payments", "network", "search"];
    let groups = groups.map(|name| sandbox.world.gitlab.create_group(Some(42), name));
    sandbox.pass_minutes(25).await;
    assert!(sandbox.world.azure.identities().is_empty(), "it may do nothing yet");
    for right in &rights {
        azure.assign_role(&right.scope, right.role, right.principal_id, right.condition.as_deref());
    }
    sandbox.pass_minutes(35).await;
    for unit in groups.map(|group| format!("runner/g{group}-plan")) {
        sandbox.assert_ready(&unit);
        assert!(!sandbox.is_parked(&unit), "{}", sandbox.status(&unit));
    }
}
