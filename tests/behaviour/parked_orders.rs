//! Orders and parking: what parks an order loses none, and an order releases what is parked.

use crate::{deeds::plan_fleet, harness::Sandbox};
use forerunner::sandbox::{
    azure,
    wire::{Fault, Service, What},
};
use serde_json::{Value, json};

const NOTE: &str = "forerunner command: pause by jane: CHG1";

/// A settled runner of a fleet that no timer sweeps: its key and its unit.
pub(crate) async fn settled() -> (Sandbox, String, String) {
    let settings = [("SweepSchedule", "0 0 3 * * *")];
    let sandbox =
        Sandbox::with_settings(&plan_fleet(), azure::Settings::default(), &settings).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let key = format!("g{group}-plan");
    sandbox.assert_ready(&format!("runner/{key}"));
    (sandbox, key.clone(), format!("runner/{key}"))
}

fn refuse(sandbox: &Sandbox, method: &'static str, path: &str, status: u16) {
    let body = json!({ "message": "no" }).to_string();
    let what = What::Answer { status, headers: vec![], body };
    let (service, path) = (Service::Gitlab, path.to_owned());
    sandbox.world.wire.add_fault(Fault {
        service,
        method: Some(method),
        path,
        times: 10_000,
        what,
    });
}

async fn order(sandbox: &Sandbox, command: &str, key: &str) {
    order_because(sandbox, command, key, "CHG1").await;
}

async fn order_because(sandbox: &Sandbox, command: &str, key: &str, why: &str) {
    let body = json!({"command": command, "targets": [key], "by": "jane", "why": why});
    sandbox.order("commands", &body);
    sandbox.settle().await;
}

/// GitLab takes no write of a runner until the order is parked.
async fn parked(status: u16) -> (Sandbox, String, String) {
    let (sandbox, key, unit) = settled().await;
    refuse(&sandbox, "PUT", "/api/v4/runners/", status);
    order(&sandbox, "pause", &key).await;
    assert!(sandbox.is_parked(&unit), "{status}: {}", sandbox.story());
    assert!(!sandbox.runner(&key).paused);
    (sandbox, key, unit)
}

fn assert_paused(sandbox: &Sandbox, key: &str, unit: &str) {
    let runner = sandbox.runner(key);
    assert_eq!(
        (runner.paused, runner.maintenance_note.as_str()),
        (true, NOTE),
        "{}",
        sandbox.story()
    );
    assert_eq!(sandbox.ready(unit).0, "PausedByPerson");
    let status = sandbox.status(unit);
    assert!(status["parked"].is_null() && status["order"].is_null(), "{status}");
}

async fn assert_opens(sandbox: &Sandbox, key: &str, unit: &str) {
    order(sandbox, "resume", key).await;
    sandbox.sweep().await;
    let runner = sandbox.runner(key);
    assert!(!runner.paused && runner.maintenance_note.is_empty(), "{runner:?}");
    sandbox.assert_ready(unit);
    assert!(sandbox.status(unit)["order"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_was_parked_is_carried_out_when_its_unit_is_released() {
    for status in [403, 500] {
        let (sandbox, key, unit) = parked(status).await;
        assert_eq!(sandbox.status(&unit)["order"]["intent"], "pause");
        // Tried again before that is over: it is kept.
        sandbox.wake(&unit);
        sandbox.settle().await;
        assert!(sandbox.is_parked(&unit) && !sandbox.runner(&key).paused, "{}", sandbox.story());
        sandbox.world.wire.clear_faults();
        match status {
            403 => {
                sandbox.pass_minutes(61).await;
                sandbox.sweep().await;
            }
            // As `parked release` and a hook do.
            _ => {
                sandbox.wake(&unit);
                sandbox.settle().await;
            }
        }
        assert_paused(&sandbox, &key, &unit);
        assert_opens(&sandbox, &key, &unit).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_order_takes_the_place_of_one_that_is_parked() {
    let (sandbox, key, unit) = parked(403).await;
    sandbox.world.wire.clear_faults();
    assert_opens(&sandbox, &key, &unit).await;
    // The other way round.
    order_because(&sandbox, "pause", &key, "CHG2").await;
    refuse(&sandbox, "PUT", "/api/v4/runners/", 403);
    order_because(&sandbox, "resume", &key, "CHG2").await;
    assert_eq!(sandbox.status(&unit)["order"]["intent"], "resume", "{}", sandbox.story());
    order_because(&sandbox, "pause", &key, "CHG3").await;
    sandbox.world.wire.clear_faults();
    sandbox.wake(&unit);
    sandbox.settle().await;
    assert!(sandbox.runner(&key).paused, "{}", sandbox.story());
    assert_eq!(sandbox.ready(&unit).0, "PausedByPerson");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_in_the_dead_letters_is_kept_too() {
    let (sandbox, key, unit) = settled().await;
    refuse(&sandbox, "PUT", "/api/v4/runners/", 500);
    let full = What::Answer { status: 503, headers: vec![], body: String::new() };
    sandbox.world.wire.add_fault(Fault {
        service: Service::ServiceBus,
        method: Some("POST"),
        path: "/rounds/messages".into(),
        times: 10_000,
        what: full,
    });
    let cause = "pause by jane: CHG1";
    let message = json!({ "v": 1, "unit": unit, "reason": "command", "intent": "pause", "attempt": 1, "cause": cause });
    sandbox.put_on_queue(&message.to_string(), &unit);
    sandbox.pass_minutes(8).await;
    assert!(sandbox.is_parked(&unit), "{}", sandbox.story());
    sandbox.world.wire.clear_faults();
    sandbox.pass_minutes(11).await;
    sandbox.sweep().await;
    assert_paused(&sandbox, &key, &unit);
    assert_opens(&sandbox, &key, &unit).await;
}

/// Such as what its jobs may do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_that_cannot_be_carried_out_holds_up_nothing_else() {
    let (sandbox, key, unit) = parked(403).await;
    let (azure, own) = (&sandbox.world.azure, sandbox.world.forerunner_user());
    let given = || {
        let all = azure.assignments().into_iter();
        all.filter(|one| one.principal_id.to_string() != own).collect::<Vec<_>>()
    };
    let before = given().len();
    assert!(azure.remove_assignment(given()[0].name));
    sandbox.wake(&unit);
    sandbox.settle().await;
    assert_eq!(given().len(), before, "{}", sandbox.story());
    let status = sandbox.status(&unit);
    assert!(sandbox.is_parked(&unit) && status["order"]["intent"] == "pause", "{status}");
    sandbox.world.wire.clear_faults();
    sandbox.wake(&unit);
    sandbox.settle().await;
    assert_paused(&sandbox, &key, &unit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_releases_a_parked_unit_before_its_time() {
    for command in ["resume", "reprovision"] {
        let (sandbox, key, unit) = settled().await;
        let group = &key[1..key.find('-').unwrap()];
        refuse(&sandbox, "GET", &format!("/groups/{group}/runners"), 403);
        sandbox.wake(&unit);
        sandbox.settle().await;
        assert!(sandbox.is_parked(&unit), "{}", sandbox.story());
        sandbox.world.wire.clear_faults();
        order(&sandbox, command, &key).await;
        assert!(!sandbox.is_parked(&unit), "{command}: {}", sandbox.story());
        sandbox.assert_ready(&unit);
        let status: Value = sandbox.status(&unit);
        assert!(status["order"].is_null(), "{status}");
    }
}
