//! Runners of ours whose marker somebody edited away: known again by our token alone. Where that proves nothing any more they
//! are told, with the command, and left to a person.

use crate::{
    harness::Sandbox,
    removal::{days, only, settled},
};
use forerunner::sandbox::{
    gitlab::RunnerEdit,
    wire::{Exchange, Service},
};
use serde_json::json;
use std::sync::Arc;

fn unmark(sandbox: &Sandbox, runner: u64) {
    let edit = RunnerEdit { description: Some("mine".into()), ..RunnerEdit::default() };
    sandbox.world.gitlab.edit_runner(runner, edit);
}

/// A settled runner that a person took: its token reset, its marker edited away. With its unit and id.
async fn taken() -> (Sandbox, String, u64) {
    let (sandbox, group) = settled(&only("payments")).await;
    let runner = sandbox.runner(&format!("g{group}-plan")).id;
    sandbox.world.gitlab.reset_runner_token(runner);
    unmark(&sandbox, runner);
    (sandbox, format!("runner/g{group}-plan"), runner)
}

fn only_group(unit: &str) -> u64 {
    let digits = unit.trim_start_matches("runner/g").trim_end_matches("-plan");
    digits.parse().unwrap()
}

/// What names the runner of a unit in the cluster: its status and its Secret.
fn traces(unit: &str) -> [(&'static str, String); 2] {
    let key = unit.trim_start_matches("runner/");
    [("configmaps", format!("status-runner-{key}")), ("secrets", format!("runner-{key}-config"))]
}

/// These go one after the other, with a round after each.
async fn lose_traces(sandbox: &Sandbox, unit: &str, check: impl Fn(&str)) {
    for (plural, name) in traces(unit) {
        let kubernetes = &sandbox.world.kubernetes;
        assert!(kubernetes.delete_as_admin(plural, "forerunner-nonprod", &name), "{name}");
        sandbox.wake(unit);
        sandbox.settle().await;
        check(&name);
    }
}

/// The unit is parked with the command that a person may run.
fn assert_told(sandbox: &Sandbox, unit: &str, runner: u64) {
    let reason = sandbox.status(unit)["parked"]["reason"].clone();
    let command = format!("glab api --method DELETE runners/{runner}");
    assert!(reason.as_str().is_some_and(|why| why.ends_with(&command)), "{reason}");
}

/// The unit waits for a person to look at the runner, whom it tells the command; when it is deleted, nothing is left.
async fn assert_left_to_a_person(sandbox: &Sandbox, unit: &str, runner: u64, from: i64) {
    let before = sandbox.world.gitlab.runner(runner).unwrap();
    for day in [from, from + 1] {
        sandbox.leap_to(&days(day));
        sandbox.sweep().await;
    }
    let needs = sandbox.condition(unit, "NeedsAdministrator");
    assert_eq!(needs["reason"], "UnprovenRunner", "{}", sandbox.status(unit));
    let message = needs["message"].as_str().unwrap();
    assert!(message.ends_with(&format!("glab api --method DELETE runners/{runner}")), "{message}");
    let now = sandbox.world.gitlab.runner(runner).unwrap();
    assert_eq!((now.description, now.paused), (before.description, before.paused));
    assert!(sandbox.world.azure.identities().is_empty(), "all else goes");
    sandbox.world.gitlab.delete_runner(runner);
    for day in [from + 2, from + 3] {
        sandbox.leap_to(&days(day));
        sandbox.sweep().await;
    }
    assert!(sandbox.status(unit).is_null(), "{}", sandbox.status(unit));
    assert!(sandbox.world.kubernetes.list("secrets", "forerunner-nonprod").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unmarked_orphan_is_told_and_left_and_all_else_goes() {
    let (sandbox, group) = settled(&only("*")).await;
    let (unit, key) = (format!("runner/g{group}-plan"), format!("g{group}-plan"));
    let runner = sandbox.runner(&key).id;
    sandbox.world.gitlab.destroy_group(group);
    sandbox.settle().await;
    unmark(&sandbox, runner);
    sandbox.leap_to(&days(3));
    sandbox.sweep().await;
    assert_left_to_a_person(&sandbox, &unit, runner, 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unmarked_runner_with_a_reset_token_is_told_and_left_and_all_else_goes() {
    let (sandbox, unit, runner) = taken().await;
    sandbox.deploy(&only("nobody")).await;
    sandbox.leap_to(&days(3));
    sandbox.sweep().await;
    assert_left_to_a_person(&sandbox, &unit, runner, 12).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_second_runner_is_made_beside_one_that_a_person_took() {
    let (sandbox, unit, runner) = taken().await;
    sandbox.sweep().await;
    assert_eq!(sandbox.world.gitlab.runners().len(), 1, "{:?}", sandbox.world.gitlab.runners());
    assert_told(&sandbox, &unit, runner);
    sandbox.world.gitlab.delete_runner(runner);
    sandbox.wake(&unit);
    sandbox.settle().await;
    assert!(sandbox.is_ready(&unit), "{}", sandbox.status(&unit));
    let key = unit.trim_start_matches("runner/");
    assert_ne!(sandbox.runner(key).id, runner);
}

/// Seed 3121 of the histories: nothing but the unit's status knows the runner any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_only_the_status_names_is_told_whether_its_unit_stays_or_leaves() {
    let (sandbox, group) = settled(&only("payments")).await;
    let (unit, key) = (format!("runner/g{group}-plan"), format!("g{group}-plan"));
    let runner = sandbox.runner(&key).id;
    unmark(&sandbox, runner);
    let secret = format!("runner-{key}-config");
    assert!(sandbox.world.kubernetes.delete_as_admin("secrets", "forerunner-nonprod", &secret));
    sandbox.sweep().await;
    assert_eq!(sandbox.world.gitlab.runners().len(), 1, "{:?}", sandbox.world.gitlab.runners());
    assert_told(&sandbox, &unit, runner);
    sandbox.deploy(&only("nobody")).await;
    sandbox.leap_to(&days(3));
    sandbox.sweep().await;
    assert_left_to_a_person(&sandbox, &unit, runner, 12).await;
}

/// Seed 4017 of the histories: people take marker and Secret while the round that made the runner still runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_taken_in_the_round_that_made_it_is_told() {
    let sandbox = Sandbox::new(&only("payments")).await;
    let (gitlab, kubernetes) = (sandbox.world.gitlab.clone(), sandbox.world.kubernetes.clone());
    let take = move |exchange: &Exchange| {
        if !exchange.path.contains("/deployments/") || exchange.method == "GET" {
            return;
        }
        for secret in kubernetes.list("secrets", "forerunner-nonprod") {
            let name = secret["metadata"]["name"].as_str().unwrap();
            kubernetes.delete_as_admin("secrets", "forerunner-nonprod", name);
        }
        for runner in gitlab.runners() {
            let edit = RunnerEdit { description: Some("mine".into()), ..RunnerEdit::default() };
            gitlab.edit_runner(runner.id, edit);
        }
    };
    sandbox.world.wire.observe(&[Service::Kubernetes], Arc::new(take));
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let runners = sandbox.world.gitlab.runners();
    let [runner] = &runners[..] else { panic!("one is made, and no other: {runners:?}") };
    assert_eq!(runner.description, "mine");
    assert_told(&sandbox, &format!("runner/g{group}-plan"), runner.id);
}

/// Seed 101529: the status is lost too, and what a round saw last is that somebody polls with a token that we lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_last_seen_by_a_round_that_parked_its_unit_is_told() {
    let (sandbox, group) = settled(&only("payments")).await;
    let (unit, key) = (format!("runner/g{group}-plan"), format!("g{group}-plan"));
    let runner = sandbox.runner(&key).id;
    for (plural, name) in traces(&unit) {
        let kubernetes = &sandbox.world.kubernetes;
        assert!(kubernetes.delete_as_admin(plural, "forerunner-nonprod", &name), "{name}");
    }
    sandbox.sweep().await;
    let reason = sandbox.status(&unit)["parked"]["reason"].clone();
    assert!(reason.as_str().is_some_and(|why| why.contains("somebody has polled")), "{reason}");
    unmark(&sandbox, runner);
    sandbox.wake(&unit);
    sandbox.settle().await;
    assert_eq!(sandbox.world.gitlab.runners().len(), 1, "{:?}", sandbox.world.gitlab.runners());
    assert_told(&sandbox, &unit, runner);
}

/// Seed 102015: marker, status and Secret go one after the other, with a round between any two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_traces_go_one_by_one_stays_told() {
    let (sandbox, unit, runner) = taken().await;
    lose_traces(&sandbox, &unit, |name| {
        assert_told(&sandbox, &unit, runner);
        assert_eq!(sandbox.world.gitlab.runners().len(), 1, "{name}");
    })
    .await;
}

/// The same of a unit that leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_traces_go_one_by_one_while_its_unit_leaves_stays_told() {
    let (sandbox, unit, runner) = taken().await;
    sandbox.deploy(&only("nobody")).await;
    sandbox.leap_to(&days(3));
    sandbox.sweep().await;
    lose_traces(&sandbox, &unit, |name| {
        let needs = sandbox.condition(&unit, "NeedsAdministrator");
        assert_eq!(needs["reason"], "UnprovenRunner", "{name}: {}", sandbox.status(&unit));
    })
    .await;
    assert_left_to_a_person(&sandbox, &unit, runner, 12).await;
}

/// The same of a unit that is held: it says so only once it is not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_traces_go_one_by_one_while_its_unit_is_held_is_told_afterwards() {
    let (sandbox, unit, runner) = taken().await;
    let group = only_group(&unit);
    sandbox.world.gitlab.archive_group(group);
    sandbox.settle().await;
    lose_traces(&sandbox, &unit, |name| {
        assert_eq!(sandbox.ready(&unit).0, "Archived", "{name}: {}", sandbox.status(&unit));
    })
    .await;
    sandbox.world.gitlab.unarchive_group(group);
    sandbox.settle().await;
    assert_told(&sandbox, &unit, runner);
    assert_eq!(sandbox.world.gitlab.runners().len(), 1);
}

/// The same of a unit that an operator holds: without a write of forerunner's, and so without a word until the hold ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_traces_go_one_by_one_while_an_operator_holds_its_unit_is_told_afterwards() {
    let (sandbox, unit, runner) = taken().await;
    let order = json!({ "command": "hold", "targets": ["all"], "by": "jane", "why": "incident 7", "until": days(3) });
    sandbox.order("approvals", &order);
    sandbox.settle().await;
    lose_traces(&sandbox, &unit, |name| {
        assert_eq!(sandbox.ready(&unit).0, "Held", "{name}: {}", sandbox.status(&unit));
    })
    .await;
    sandbox.leap_to(&days(4));
    sandbox.sweep().await;
    assert_told(&sandbox, &unit, runner);
    assert_eq!(sandbox.world.gitlab.runners().len(), 1);
}

/// The same of a unit that is not wanted any more and has no permit to leave yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_traces_go_one_by_one_before_its_unit_may_leave_stays_told() {
    let (sandbox, unit, runner) = taken().await;
    sandbox.deploy(&only("nobody")).await;
    lose_traces(&sandbox, &unit, |name| {
        assert_eq!(sandbox.ready(&unit).0, "NotWanted", "{name}: {}", sandbox.status(&unit));
    })
    .await;
    sandbox.leap_to(&days(3));
    sandbox.sweep().await;
    assert_left_to_a_person(&sandbox, &unit, runner, 12).await;
}

/// Seed 405777: a round that only says why it does nothing writes the lost status anew, before the Secret goes too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_whose_status_is_written_by_a_round_that_only_looks_at_the_target_is_told() {
    let (sandbox, group) = settled(&only("*")).await;
    let (unit, key) = (format!("runner/g{group}-plan"), format!("g{group}-plan"));
    let runner = sandbox.runner(&key).id;
    let [status, secret] = traces(&unit);
    let delete = |(plural, name): &(&str, String)| {
        assert!(sandbox.world.kubernetes.delete_as_admin(plural, "forerunner-nonprod", name));
    };
    delete(&status);
    sandbox.world.gitlab.destroy_group(group);
    sandbox.settle().await;
    assert_eq!(sandbox.ready(&unit).0, "LostSightOf");
    unmark(&sandbox, runner);
    delete(&secret);
    sandbox.leap_to(&days(3));
    sandbox.sweep().await;
    assert_left_to_a_person(&sandbox, &unit, runner, 12).await;
}
