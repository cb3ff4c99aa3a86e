//! `pause` and `resume` that have to wait for the end of a hold or a freeze, and those that a later one overtakes.

use crate::{deeds::plan_fleet, harness::Sandbox, parked_orders::settled};
use forerunner::sandbox::gitlab::RunnerEdit;
use serde_json::{Value, json};

const NOTE: &str = "forerunner command: pause by jane: CHG1";
const FROZEN: &str = "  freeze: [{ from: 2026-11-24, to: 2026-11-26, allow: [] }]\n";

async fn order(sandbox: &Sandbox, command: &str, key: &str, why: &str) {
    let body = json!({"command": command, "targets": [key], "by": "jane", "why": why});
    sandbox.order("commands", &body);
    sandbox.settle().await;
}

/// What keeps every write away for a time.
#[derive(Clone, Copy, Debug)]
enum Rest {
    Hold,
    Freeze,
}

async fn begin(sandbox: &Sandbox, rest: Rest, key: &str) {
    match rest {
        Rest::Hold => {
            let until = "2026-11-26T20:00:00Z";
            let hold = json!({"command": "hold", "targets": [key], "by": "joe", "why": "SEC-2", "until": until});
            sandbox.order("approvals", &hold);
            sandbox.settle().await;
        }
        Rest::Freeze => {
            sandbox.deploy(&format!("{}{FROZEN}", plan_fleet())).await;
            sandbox.sweep().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_to_a_held_or_frozen_runner_is_carried_out_when_that_is_over() {
    for (rest, orders) in [
        (Rest::Hold, &["pause"][..]),
        (Rest::Hold, &["pause", "resume"]),
        (Rest::Freeze, &["pause"]),
        (Rest::Freeze, &["pause", "resume"]),
    ] {
        let (sandbox, key, unit) = settled().await;
        begin(&sandbox, rest, &key).await;
        for command in orders {
            order(&sandbox, command, &key, "CHG1").await;
            let status = sandbox.status(&unit);
            assert_eq!(status["order"]["intent"], *command, "{rest:?}: {status}");
        }
        sandbox.sweep().await;
        let status = sandbox.status(&unit);
        assert_eq!(status["order"]["intent"], *orders.last().unwrap(), "{rest:?}: {status}");
        assert!(!sandbox.runner(&key).paused, "{rest:?}: {}", sandbox.story());
        assert!(!sandbox.is_parked(&unit), "{rest:?}: {status}");
        sandbox.leap_to("2026-11-27T08:00:00Z");
        sandbox.sweep().await;
        let runner = sandbox.runner(&key);
        let (paused, note) = match orders {
            [_] => (true, NOTE),
            _ => (false, ""),
        };
        assert_eq!((runner.paused, runner.maintenance_note.as_str()), (paused, note), "{rest:?}");
        let status = sandbox.status(&unit);
        assert!(status["order"].is_null(), "{rest:?}: {status}");
    }
}

/// Somebody took the marker off, or the runner is not there yet, or not any more: whom the next round knows or makes is paused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_that_finds_no_runner_of_ours_is_kept_until_there_is_one() {
    for is_there in [true, false] {
        let (sandbox, key, unit) = settled().await;
        let id = sandbox.runner(&key).id;
        if is_there {
            let edit = RunnerEdit { description: Some("mine".into()), ..RunnerEdit::default() };
            sandbox.world.gitlab.edit_runner(id, edit);
        } else {
            sandbox.world.gitlab.delete_runner(id);
        }
        order(&sandbox, "pause", &key, "CHG1").await;
        sandbox.sweep().await;
        let runner = sandbox.runner(&key);
        assert_eq!(runner.id == id, is_there);
        assert_eq!((runner.paused, runner.maintenance_note.as_str()), (true, NOTE), "{is_there}");
        let status = sandbox.status(&unit);
        assert!(status["order"].is_null(), "{status}");
        order(&sandbox, "resume", &key, "CHG1").await;
        sandbox.assert_ready(&unit);
    }
}

/// Nothing is kept of what the file may let forerunner do one day.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_to_an_observed_runner_is_told_and_not_kept() {
    let (sandbox, key, unit) = settled().await;
    let observing = plan_fleet().replace("version: 1\n", "version: 1\nmode: observe\n");
    sandbox.deploy(&observing).await;
    order(&sandbox, "pause", &key, "CHG1").await;
    let status = sandbox.status(&unit);
    assert!(status["order"].is_null() && !sandbox.runner(&key).paused, "{status}");
    assert!(status.to_string().contains("would pause runner"), "{status}");
}

/// As a try that failed and waits: it knows when it was ordered.
fn retry(unit: &str, intent: &str, since: &Value) -> Value {
    json!({ "v": 1, "unit": unit, "reason": "command", "intent": intent, "attempt": 3,
        "cause": format!("{intent} by jane: CHG0"), "since": since })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_try_of_an_order_undoes_no_later_one() {
    for (first, then) in [("pause", "resume"), ("resume", "pause")] {
        let (sandbox, key, unit) = settled().await;
        let before = json!(sandbox.world.clock.now().to_string());
        sandbox.pass_minutes(1).await;
        order(&sandbox, then, &key, "CHG1").await;
        assert_eq!(sandbox.runner(&key).paused, then == "pause");
        sandbox.pass_minutes(1).await;
        sandbox.put_on_queue(&retry(&unit, first, &before).to_string(), &unit);
        sandbox.settle().await;
        assert_eq!(sandbox.runner(&key).paused, then == "pause", "{first}: {}", sandbox.story());
        assert!(sandbox.status(&unit)["order"].is_null() && !sandbox.is_parked(&unit));
        // One that is later still counts.
        let after = json!(sandbox.world.clock.now().to_string());
        sandbox.put_on_queue(&retry(&unit, first, &after).to_string(), &unit);
        sandbox.settle().await;
        assert_eq!(sandbox.runner(&key).paused, first == "pause", "{first}: {}", sandbox.story());
    }
}

/// The broker drops what bears the same id within its time, and these are two orders.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_is_given_again_in_the_same_words_counts_again() {
    let (sandbox, key, _) = settled().await;
    for (command, paused) in [("pause", true), ("resume", false), ("pause", true)] {
        order(&sandbox, command, &key, "CHG1").await;
        assert_eq!(sandbox.runner(&key).paused, paused, "{command}: {}", sandbox.story());
        sandbox.pass_minutes(1).await;
    }
}
