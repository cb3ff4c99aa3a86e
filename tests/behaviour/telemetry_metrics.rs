//! The figures are true: each is held against what the simulated world saw.

use crate::{
    deeds::{fleet, plain_fleet, plan_fleet, plan_profile},
    harness::{FLEET, START, Sandbox},
    telemetry_listening::{Listening, Point, Points},
};
use forerunner::sandbox::{
    gitlab::Mischief,
    wire::{Call, Fault, Service, What},
};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

fn value(points: &Points, name: &str) -> Option<f64> {
    match points.get(name)? {
        Point::Value(value) => Some(*value),
        Point::Values { .. } => panic!("{name} is a histogram"),
    }
}

fn check(points: &Points, expected: &[(&str, f64)]) {
    for (name, wanted) in expected {
        assert_eq!(value(points, name), Some(*wanted), "{name}: {points:#?}");
    }
}

/// forerunner's own calls as the wire saw them, by service and status.
fn seen(calls: &[Call]) -> BTreeMap<String, f64> {
    let mut seen = BTreeMap::new();
    for call in calls.iter().filter(|call| call.is_ours()) {
        let service = match call.service {
            Service::Gitlab => "gitlab",
            Service::Identity | Service::Entra => "entra",
            Service::Arm if call.path.contains("Microsoft.ResourceGraph") => "graph",
            Service::Arm => "arm",
            Service::KeyVault => "key_vault",
            Service::ServiceBus => "service_bus",
            Service::Kubernetes => "kubernetes",
            Service::Host => panic!("forerunner calls no host"),
        };
        let class = match call.status {
            Some(429) => "429".to_owned(),
            Some(status) => format!("{}xx", status / 100),
            None => "none".to_owned(),
        };
        let name = format!("forerunner.calls{{service={service},status_class={class}}}");
        *seen.entry(name).or_insert(0.0) += 1.0;
    }
    seen
}

fn counted(points: &Points, metric: &str) -> BTreeMap<String, f64> {
    let of = points.iter().filter(|(name, _)| name.starts_with(&format!("{metric}{{")));
    of.map(|(name, _)| (name.clone(), value(points, name).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provisioning_tells_its_calls_its_rounds_and_the_way_from_hook_to_online() {
    let (listening, sandbox) = Listening::beside(FLEET).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let points = listening.points().await;
    let calls = sandbox.world.wire.calls();
    assert_eq!(counted(&points, "forerunner.calls"), seen(&calls));
    // One hook made the group, and it took until the last condition held.
    let ready = sandbox.condition(&format!("runner/g{group}-plan"), "Ready");
    let ready: Timestamp = ready["since"].as_str().unwrap().parse().unwrap();
    let Some(Point::Values { count: 1, sum }) = points.get("forerunner.hook_to_online.duration")
    else {
        panic!("{points:#?}")
    };
    let began: Timestamp = START.parse().unwrap();
    let whole = ready.duration_since(began).as_secs_f64();
    assert!((whole - 5.0..=whole).contains(sum) && *sum > 120.0, "{sum} of {whole}");
    // Every message that was worked on has an age.
    let host = sandbox.world.host().unwrap();
    let rounds: f64 = counted(&points, "forerunner.rounds").values().sum();
    let Some(Point::Values { count, sum }) = points.get("forerunner.queue.age{queue=rounds}")
    else {
        panic!("{points:#?}")
    };
    assert_eq!(*count as f64, rounds, "{:?}", host.logs().len());
    assert!(*sum < 60.0, "nothing waited for long: {sum}");
    check(
        &points,
        &[
            ("forerunner.hooks{outcome=woke}", 1.0),
            ("forerunner.rounds{outcome=woke,reason=hook,unit.kind=target}", 1.0),
            ("forerunner.rounds{outcome=settled,reason=follow-up,unit.kind=runner}", 1.0),
        ],
    );
    assert!(counted(&points, "forerunner.drift").is_empty(), "what is made never was ready");
    let left = value(&points, "forerunner.quota.remaining{quota=writes,service=arm}");
    assert!(left.is_some_and(|left| left > 0.0), "{points:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_unit_is_counted_where_the_sweep_reads_it() {
    let (listening, sandbox) = Listening::beside(&plan_fleet()).await;
    let deputy = "f58310d9-a9f6-439a-9e8d-f62e7b41a168";
    for right in sandbox.world.azure.assignments() {
        if right.role.to_string() == deputy {
            assert!(sandbox.world.azure.remove_assignment(right.name));
        }
    }
    sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.sweep().await;
    check(
        &listening.points().await,
        &[
            ("forerunner.units.parked", 1.0),
            ("forerunner.units{condition=Parked,reason=Parked,status=true}", 1.0),
            ("forerunner.units{condition=Ready,reason=Parked,status=false}", 1.0),
            ("forerunner.rounds{outcome=parked,reason=hook,unit.kind=runner}", 1.0),
        ],
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_service_is_seen_and_what_it_leaves_us() {
    let (listening, sandbox) = Listening::beside(&plain_fleet()).await;
    let headers = vec![
        ("retry-after", "30".to_owned()),
        ("ratelimit-remaining", "0".to_owned()),
        ("ratelimit-limit", "2000".to_owned()),
    ];
    sandbox.world.wire.add_fault(Fault {
        service: Service::Gitlab,
        method: None,
        path: "/api/v4/".to_owned(),
        times: 2,
        what: What::Answer { status: 429, headers, body: "{}".to_owned() },
    });
    sandbox.world.gitlab.create_group(Some(42), "payments");
    let host = sandbox.world.host().unwrap();
    assert!(host.run_timer_now("sweep"));
    sandbox.pass(jiff::SignedDuration::from_secs(20)).await;
    let points = listening.points().await;
    check(
        &points,
        &[
            ("forerunner.calls{service=gitlab,status_class=429}", 2.0),
            ("forerunner.quota.remaining{quota=calls,service=gitlab}", 0.0),
            ("forerunner.sweeps{outcome=failed}", 1.0),
        ],
    );
    assert_eq!(value(&points, "forerunner.units.parked"), None, "no sweep saw anything");
    sandbox.settle().await;
    let points = listening.points().await;
    let retried = counted(&points, "forerunner.rounds").into_iter();
    let retried: f64 =
        retried.filter(|(name, _)| name.contains("outcome=retried")).map(|(_, count)| count).sum();
    assert_eq!(retried, 1.0, "{points:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settled_fleet_is_told_by_each_sweep_and_ages_without_one() {
    let (listening, sandbox) = Listening::beside(&plain_fleet()).await;
    let gitlab = &sandbox.world.gitlab;
    let (end, scopes) = ("2027-02-02".parse().unwrap(), ["api", "admin_mode"]);
    let token = gitlab.create_access_token_until(gitlab.admin_user(), &scopes, Some(end));
    sandbox.world.azure.set_secret("kv-fleet", "gitlab-token", &token);
    for name in ["one", "two"] {
        sandbox.world.gitlab.create_group(Some(42), name);
    }
    sandbox.settle().await;
    sandbox.sweep().await;
    let points = listening.points().await;
    let woken = value(&points, "forerunner.sweep.woken").unwrap();
    check(
        &points,
        &[
            ("forerunner.units{condition=Ready,reason=Settled,status=true}", 2.0),
            ("forerunner.units.parked", 0.0),
            ("forerunner.sweep.staleness", 0.0),
        ],
    );
    let days = value(&points, "forerunner.token.lifetime").unwrap();
    assert!((69.0..70.0).contains(&days), "{days}");
    sandbox.sweep().await;
    assert_eq!(value(&listening.points().await, "forerunner.sweep.woken"), Some(woken));
    // Nobody sweeps for half an hour: what is old is no longer told, and how old is.
    sandbox.leap_to("2026-11-24T12:00:00Z");
    let points = listening.points().await;
    assert!(value(&points, "forerunner.sweep.staleness").unwrap() > 1800.0, "{points:#?}");
    assert_eq!(value(&points, "forerunner.units.parked"), None);
    assert!(counted(&points, "forerunner.units").is_empty(), "{points:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_read_in_slices_ages_until_each_had_its_turn() {
    let file = format!("{}sweep: {{ calls: {{ azure: 1 }} }}\n", plan_fleet());
    let (listening, sandbox) = Listening::beside(&file).await;
    for name in ["one", "two"] {
        sandbox.world.gitlab.create_group(Some(42), name);
    }
    sandbox.settle().await;
    let age = async || {
        let points = listening.points().await;
        value(&points, "forerunner.sweep.slice.staleness{slice=federated_credentials}")
    };
    let mut ages = Vec::new();
    for _ in 0..3 {
        sandbox.sweep().await;
        let now = sandbox.world.clock.now();
        sandbox.world.clock.turn_to(now + SignedDuration::from_mins(5));
        ages.push(age().await.unwrap_or_default());
    }
    // Two sweeps see both; the third begins anew, and the older look is as old as the cycle before.
    let minutes = |age: &f64| (age / 60.0).round() as i64;
    assert_eq!(ages.iter().map(minutes).collect::<Vec<_>>(), [5, 10, 15], "{ages:?}");
    sandbox.leap_to("2026-11-24T12:00:00Z");
    assert_eq!(age().await, None, "what is old is no longer told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_amiss_is_counted_once_by_what_it_is() {
    let (listening, sandbox) = Listening::beside(&plan_fleet()).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let ours = |one: &&forerunner::sandbox::azure::Assignment| {
        one.description.as_deref().unwrap_or_default().starts_with("forerunner:")
    };
    let given = sandbox.world.azure.assignments();
    assert!(sandbox.world.azure.remove_assignment(given.iter().find(ours).unwrap().name));
    let name = format!("runner-g{group}-plan");
    sandbox.world.kubernetes.edit("deployments", "forerunner-nonprod", &name, |deployment| {
        deployment["spec"]["replicas"] = 3.into();
    });
    sandbox.sweep().await;
    sandbox.assert_ready(&format!("runner/g{group}-plan"));
    let drift: Vec<(String, f64)> =
        counted(&listening.points().await, "forerunner.drift").into_iter().collect();
    let expected = [
        ("forerunner.drift{kind=different,thing=deployment}".to_owned(), 1.0),
        ("forerunner.drift{kind=missing,thing=role}".to_owned(), 1.0),
    ];
    for one in &expected {
        assert!(drift.contains(one), "{drift:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_sweeps_find_beside_the_units_is_counted_by_kind_until_it_is_over() {
    let (listening, sandbox) = Listening::beside(&plan_fleet()).await;
    sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.sweep().await;
    let reaches = "forerunner.findings{kind=ReachesNever}";
    check(
        &listening.points().await,
        &[(reaches, 0.0), ("forerunner.findings{kind=AdmissionPolicy}", 0.0)],
    );
    let azure = &sandbox.world.azure;
    let identity = azure.identities().remove(0);
    let cluster = "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-aks";
    let contributor = "b24988ac-6180-42a0-ab88-20f7382dd24c".parse().unwrap();
    let given = azure.assign_role(cluster, contributor, identity.principal_id, None);
    sandbox.sweep().await;
    check(&listening.points().await, &[(reaches, 1.0)]);
    assert!(azure.remove_assignment(given));
    // A sweep that did not see everything says of nothing that it is over.
    sandbox.world.wire.add_fault(Fault {
        service: Service::Arm,
        method: Some("GET"),
        path: "/userAssignedIdentities?".to_owned(),
        times: 1000,
        what: What::Answer { status: 503, headers: vec![], body: String::new() },
    });
    sandbox.sweep().await;
    check(&listening.points().await, &[(reaches, 1.0)]);
    sandbox.world.wire.clear_faults();
    sandbox.sweep().await;
    check(&listening.points().await, &[(reaches, 0.0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_brake_holds_is_counted_until_it_is_free() {
    let file = |name: &str| {
        fleet(&format!(
            "rules:\n  - {{ match: {{ groups: 'platform/{name}' }}, profiles: [plan] }}\nprofiles:\n{}",
            plan_profile()
        ))
    };
    let (listening, sandbox) = Listening::beside(&file("*")).await;
    for name in ["one", "two", "three"] {
        sandbox.world.gitlab.create_group(Some(42), name);
    }
    sandbox.settle().await;
    sandbox.leap_to("2026-11-26T08:00:00Z");
    sandbox.deploy(&file("nobody")).await;
    sandbox.sweep().await;
    check(&listening.points().await, &[("forerunner.brake.holds", 3.0)]);
    sandbox.deploy(&file("*")).await;
    sandbox.sweep().await;
    check(&listening.points().await, &[("forerunner.brake.holds", 0.0)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_nobody_can_mean_and_hooks_that_prove_nothing_are_counted() {
    let (listening, sandbox) = Listening::beside(&plain_fleet()).await;
    sandbox.put_on_queue("{\"v\":1}", "target/g1");
    sandbox.world.gitlab.set_mischief(Mischief::default());
    let address = sandbox.world.address("host").unwrap();
    let url = format!("http://{address}/api/gitlab_hook");
    let sent = crate::deeds::client().post(url).body("{}").send().await.unwrap();
    assert_eq!(sent.status().as_u16(), 401);
    sandbox.settle().await;
    check(
        &listening.points().await,
        &[
            ("forerunner.foreign_messages{function=round}", 1.0),
            ("forerunner.hooks{outcome=refused}", 1.0),
        ],
    );
}

/// The real program, as the Functions host starts it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_program_sends_its_metrics_before_it_answers_and_writes_its_audit_lines() {
    let (endpoint, received) = crate::telemetry::collector().await;
    let clock = forerunner::clock::Clock::frozen(START.parse().unwrap());
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str())];
    let sandbox = Sandbox::with_child_and(&plain_fleet(), clock, &settings).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.assert_ready(&format!("runner/g{group}-plain"));
    let points = crate::telemetry_listening::read(&received);
    assert_eq!(counted(&points, "forerunner.calls"), seen(&sandbox.world.wire.calls()));
    check(
        &points,
        &[("forerunner.invocations{function=gitlab_hook,http.response.status_code=200}", 1.0)],
    );
    let lines = sandbox.world.host().unwrap().logs();
    let events = lines.iter().filter(|line| line.text.contains("forerunner.audit/1"));
    let events: Vec<serde_json::Value> =
        events.map(|line| serde_json::from_str(&line.text).unwrap()).collect();
    assert!(
        events.iter().any(|event| event["message"].as_str().unwrap().starts_with("create runner"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_the_broker_gives_up_on_is_counted_and_so_is_every_try() {
    let (listening, sandbox) = Listening::beside(&plain_fleet()).await;
    check(&listening.points().await, &[("forerunner.dead_letters", 0.0)]);
    sandbox.lose_hooks();
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    // A target's round has somebody to wake, and nobody takes the message.
    sandbox.world.wire.add_fault(Fault {
        service: Service::ServiceBus,
        method: Some("POST"),
        path: "/rounds/messages".to_owned(),
        times: 1000,
        what: What::Answer { status: 500, headers: vec![], body: String::new() },
    });
    sandbox.wake(&format!("target/g{group}"));
    sandbox.pass(jiff::SignedDuration::from_mins(2)).await;
    check(
        &listening.points().await,
        &[
            ("forerunner.dead_letters", 1.0),
            ("forerunner.rounds{outcome=unqueued,reason=command,unit.kind=target}", 10.0),
        ],
    );
}
