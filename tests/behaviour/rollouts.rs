//! A change that rolls managers reaches a few at a time; one that fails stops the rest.

use crate::{
    crashes::crashes,
    deeds::plain_fleet,
    disturbed::{check_all, run, same},
    harness::Sandbox,
};
use forerunner::sandbox::wire::Call;
use jiff::SignedDuration;
use serde_json::Value;

const GROUPS: usize = 5;
const OLD: &str = "19.4.0";
const NEW: &str = "19.4.1";

/// The plain profile, with two places and this version of the manager.
fn version(version: &str) -> String {
    let file = plain_fleet().replace("runner: 19.4.0", &format!("runner: {version}"));
    format!("{file}rollout: {{ inFlight: 2 }}\n")
}

fn one_at_a_time() -> String {
    version(NEW).replace("inFlight: 2", "inFlight: 1")
}

/// Some groups whose runners are settled.
async fn settled(groups: usize) -> Sandbox {
    let sandbox = Sandbox::new(&version(OLD)).await;
    for at in 0..groups {
        sandbox.world.gitlab.create_group(Some(42), &format!("group-{at}"));
    }
    sandbox.settle().await;
    assert_eq!(rolled(&sandbox, OLD), groups, "{}", sandbox.story());
    sandbox
}

fn managers(sandbox: &Sandbox) -> Vec<Value> {
    let all = sandbox.world.kubernetes.list("deployments", "forerunner-nonprod");
    all.into_iter().filter(|one| one["metadata"]["name"] != "gitlab-runner").collect()
}

/// How many managers are to be of this version.
fn rolled(sandbox: &Sandbox, version: &str) -> usize {
    let image = |one: &Value| one["spec"]["template"]["spec"]["containers"][0]["image"].to_string();
    managers(sandbox).iter().filter(|one| image(one).contains(version)).count()
}

fn units(sandbox: &Sandbox) -> Vec<String> {
    sandbox.keys().iter().map(|key| format!("runner/{key}")).collect()
}

fn rollouts(sandbox: &Sandbox) -> usize {
    let ledger =
        sandbox.world.kubernetes.get("configmaps", "forerunner-nonprod", "ledger").unwrap();
    let book: Value =
        serde_json::from_str(ledger["data"]["record.json"].as_str().unwrap()).unwrap();
    book["rollouts"].as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_reaches_all_managers_a_few_at_a_time() {
    let sandbox = settled(GROUPS).await;
    sandbox.deploy(&version(NEW)).await;
    let begun = sandbox.world.clock.now();
    assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
    let mut most = 0;
    while rolled(&sandbox, NEW) < GROUPS || rollouts(&sandbox) > 0 {
        most = most.max(rollouts(&sandbox));
        let waited = sandbox.world.clock.now().duration_since(begun);
        assert!(waited < SignedDuration::from_mins(10), "{waited}: {}", sandbox.story());
        sandbox.pass(SignedDuration::from_secs(2)).await;
    }
    assert_eq!(most, 2, "both places are used, and no third");
    sandbox.settle().await;
    units(&sandbox).iter().for_each(|unit| sandbox.assert_ready(unit));
    let writes = sandbox.own_writes().len();
    sandbox.sweep().await;
    assert_eq!(sandbox.own_writes().len(), writes, "{}", sandbox.story());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_does_not_come_back_stops_the_rest_until_it_is_mended() {
    let sandbox = settled(GROUPS).await;
    let kubernetes = &sandbox.world.kubernetes;
    kubernetes.fail_image_pulls(Some(NEW));
    sandbox.deploy(&version(NEW)).await;
    for _ in 0..3 {
        assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
        sandbox.pass_minutes(11).await;
    }
    assert_eq!(rolled(&sandbox, NEW), 2, "{}", sandbox.story());
    let reason = |unit: &String| sandbox.condition(unit, "Deployed")["reason"].clone();
    let told: Vec<Value> = units(&sandbox).iter().map(reason).collect();
    let count = |word: &str| told.iter().filter(|one| **one == word).count();
    assert_eq!((count("ImagePullBackOff"), count("WaitsForRollout")), (2, 3), "{told:?}");
    // The old pods serve on.
    let available = |one: &&Value| one["status"]["availableReplicas"] == 1;
    assert_eq!(managers(&sandbox).iter().filter(available).count(), GROUPS);
    let waiting = units(&sandbox).into_iter().find(|unit| reason(unit) == "WaitsForRollout");
    let words = sandbox.condition(&waiting.unwrap(), "Deployed")["message"].to_string();
    assert!(words.contains("did not come back") && words.contains("cannot be pulled"), "{words}");
    // The file is mended: those that failed go first, the rest follows by itself.
    sandbox.deploy(&version("19.4.2")).await;
    sandbox.sweep().await;
    assert_eq!(rolled(&sandbox, "19.4.2"), GROUPS, "{}", sandbox.story());
    units(&sandbox).iter().for_each(|unit| sandbox.assert_ready(unit));
    assert_eq!(rollouts(&sandbox), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_leaves_or_rests_gives_its_place_away() {
    let sandbox = settled(3).await;
    sandbox.world.kubernetes.fail_image_pulls(Some(NEW));
    sandbox.deploy(&version(NEW)).await;
    assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
    sandbox.pass_minutes(3).await;
    assert_eq!((rolled(&sandbox, NEW), rollouts(&sandbox)), (2, 2), "{}", sandbox.story());
    sandbox.world.kubernetes.fail_image_pulls(None);
    let stuck: Vec<String> = units(&sandbox)
        .into_iter()
        .filter(|unit| sandbox.condition(unit, "Deployed")["reason"] != "WaitsForRollout")
        .collect();
    for unit in &stuck {
        let group = unit["runner/g".len()..].split('-').next().unwrap().parse().unwrap();
        sandbox.world.gitlab.archive_group(group);
    }
    sandbox.sweep().await;
    sandbox.pass_minutes(11).await;
    sandbox.sweep().await;
    assert_eq!((rolled(&sandbox, NEW), rollouts(&sandbox)), (3, 0), "{}", sandbox.story());
}

/// The process dies around each write that takes a place, uses it or gives it away.
#[test]
fn a_crash_around_any_call_loses_no_place() {
    async fn change(sandbox: &Sandbox) {
        sandbox.sweep().await;
        let next = sandbox.world.clock.now() + SignedDuration::from_mins(11);
        sandbox.world.clock.turn_to(next);
        sandbox.sweep().await;
        assert_eq!(rollouts(sandbox), 0, "{}", sandbox.story());
    }
    let (expected, calls) = run(async {
        let sandbox = settled(2).await;
        sandbox.deploy(&one_at_a_time()).await;
        let before = sandbox.world.wire.calls().iter().filter(|call| call.is_ours()).count();
        change(&sandbox).await;
        let calls = sandbox.world.wire.calls().into_iter().filter(Call::is_ours);
        (sandbox.inventory(), calls.skip(before).collect::<Vec<_>>())
    });
    let mut around = crashes(&calls);
    let writes =
        [" PUT /api/v1/namespaces/forerunner-nonprod/configmaps/ledger", " PATCH /apis/apps/v1/"];
    around.retain(|crash| writes.iter().any(|write| crash.about.contains(write)));
    assert!(around.len() >= 12, "{}", around.len());
    check_all(&around, async |crash| {
        let sandbox = settled(2).await;
        sandbox.deploy(&one_at_a_time()).await;
        sandbox.world.wire.crash_at(crash.call, crash.moment);
        change(&sandbox).await;
        same(&sandbox, &sandbox.inventory(), &expected)
    });
}
