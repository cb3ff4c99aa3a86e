//! An order says what it means, is never lost, and needs no queue.

use crate::{
    cli_apply::{as_told, at_desk, without_sweeps},
    commands::settled,
    deeds::{plain_fleet_for, plan_fleet},
    disturbed::entries,
    harness::Sandbox,
};
use base64::prelude::{BASE64_STANDARD, Engine};
use forerunner::{
    domain::command::{Door, Order},
    sandbox::wire::{Fault, Service, What},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Why each message was kept that nobody could act on.
fn reasons(sandbox: &Sandbox) -> Vec<String> {
    let secrets = sandbox.world.kubernetes.list("secrets", "forerunner-nonprod");
    let kept = secrets
        .iter()
        .filter(|one| one["metadata"]["labels"]["forerunner.dev/record"] == "foreign");
    let reason = |one: &Value| {
        let bytes = BASE64_STANDARD.decode(one["data"]["reason"].as_str().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    kept.map(reason).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_word_that_means_nothing_is_a_mistake_and_nothing_of_its_message_is_done() {
    let (sandbox, key, unit) = settled().await;
    let (by, why) = ("jane", "x");
    for (queue, order, words) in [
        (
            "commands",
            json!({"command": "pause", "targets": ["platform/payments", "platform/paymnts"]}),
            "word 2 of `targets`",
        ),
        (
            "commands",
            json!({"command": "pause", "targets": ["all"], "profile": "plna"}),
            "`profile` is none of fleet.yaml",
        ),
        (
            "commands",
            json!({"command": "pause", "targets": ["identity/id-tf.1a2b3c4d"]}),
            "word 1 of `targets`",
        ),
        ("approvals", json!({"command": "remove", "targets": ["g1"]}), "word 1 of `targets`"),
        (
            "approvals",
            json!({"command": "revoke", "targets": ["domain/plan"]}),
            "word 1 of `targets`",
        ),
        (
            "approvals",
            json!({"command": "confirm", "targets": ["platform/*", "infra/*"]}),
            "word 2 of `targets`",
        ),
    ] {
        let before = reasons(&sandbox);
        let mut whole = order.clone();
        (whole["by"], whole["why"]) = (json!(by), json!(why));
        sandbox.order(queue, &whole);
        sandbox.settle().await;
        let new: Vec<String> =
            reasons(&sandbox).into_iter().filter(|one| !before.contains(one)).collect();
        assert!(new.len() == 1 && new[0].contains(words), "{order}: {new:?}");
        assert!(!sandbox.runner(&key).paused, "{order}");
        sandbox.assert_ready(&unit);
    }
    let kept = reasons(&sandbox).len();
    let order = json!({"command": "pause", "targets": [key, "g1"], "by": by, "why": why});
    sandbox.world.wire.add_fault(Fault {
        service: Service::Gitlab,
        method: None,
        path: "/groups".into(),
        times: usize::MAX,
        what: What::Answer { status: 500, headers: vec![], body: "{}".into() },
    });
    sandbox.order("commands", &order);
    sandbox.settle().await;
    let told = reasons(&sandbox);
    assert!(told.len() == kept + 1, "{told:?}");
    assert!(
        told.iter().any(|one| one.contains("tried 10 times")),
        "who sees half knows nothing: {told:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_tried_again_and_then_kept() {
    let (sandbox, key, unit) = settled().await;
    let fail = |times| {
        sandbox.world.wire.add_fault(Fault {
            service: Service::Kubernetes,
            method: None,
            path: "/deployments".into(),
            times,
            what: What::Answer { status: 403, headers: vec![], body: "{}".into() },
        });
    };
    let pause = json!({"command": "pause", "targets": [key], "by": "jane", "why": "CHG1"});
    fail(5);
    sandbox.order("commands", &pause);
    sandbox.settle().await;
    sandbox.world.wire.clear_faults();
    assert!(sandbox.runner(&key).paused && reasons(&sandbox).is_empty(), "{}", sandbox.story());
    sandbox.order(
        "commands",
        &json!({"command": "resume", "targets": [key], "by": "jane", "why": "CHG1"}),
    );
    sandbox.settle().await;
    sandbox.assert_ready(&unit);
    fail(usize::MAX);
    sandbox.order("commands", &pause);
    sandbox.settle().await;
    sandbox.world.wire.clear_faults();
    assert!(!sandbox.runner(&key).paused);
    let kept = reasons(&sandbox);
    assert!(kept.len() == 1 && kept[0].contains("it was tried 10 times"), "{kept:?}");
    assert!(sandbox.world.service_bus.dead_letters("commands").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_order_is_carried_out_from_a_desk_without_any_queue() {
    let file = plan_fleet();
    let sandbox = without_sweeps(&file).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let (key, unit) = (format!("g{group}-plan"), format!("runner/g{group}-plan"));
    sandbox.assert_ready(&unit);
    let send = async |words: &[&str]| {
        let words = [&["send"], words, &["--why", "CHG1", "--local"]].concat();
        let (code, out, err) = at_desk(&sandbox, false, &words).await;
        assert_eq!(code, Some(0), "{words:?}: {out}{err}");
        out
    };
    let told = send(&["pause", &key, "--dry-run"]).await;
    assert_eq!(told, format!("would pause `{unit}`\n"));
    assert!(!sandbox.runner(&key).paused);
    send(&["pause", &key]).await;
    assert!(sandbox.runner(&key).paused);
    send(&["resume", "all"]).await;
    assert!(!sandbox.runner(&key).paused);
    let token = || {
        let name = format!("runner-{key}-config");
        let secret = sandbox.world.kubernetes.get("secrets", "forerunner-nonprod", &name);
        entries(&secret.unwrap()).remove(0).1
    };
    let old = token();
    send(&["revoke", &key]).await;
    assert!(token() != old && !sandbox.world.gitlab.token_is_valid(&old));
    sandbox.assert_ready(&unit);
    let until: Timestamp = sandbox.world.clock.now() + jiff::SignedDuration::from_hours(30);
    send(&["hold", "all", "--until", &until.to_string()]).await;
    assert_eq!(sandbox.ready(&unit).0, "Held");
    let (code, _, err) =
        at_desk(&sandbox, false, &["send", "pause", "g1", "--why", "x", "--local"]).await;
    assert!(code == Some(1) && err.contains("word 1 of `targets`"), "{err}");
    let (code, _, err) = at_desk(&sandbox, false, &["send", "sweep", "--why", "x"]).await;
    assert!(code == Some(2) && err.contains("say --local"), "{err}");
    sandbox.leap_to(&(until + jiff::SignedDuration::from_hours(1)).to_string());
    sandbox.world.gitlab.delete_runner(sandbox.runner(&key).id);
    send(&["sweep"]).await;
    sandbox.assert_ready(&unit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_brakes_plan_is_confirmed_without_any_queue() {
    let sandbox = without_sweeps(&plain_fleet_for("*")).await;
    for name in ["one", "two", "three"] {
        sandbox.world.gitlab.create_group(Some(42), name);
    }
    sandbox.settle().await;
    sandbox.leap_to("2026-11-26T08:00:00Z");
    sandbox.deploy(&plain_fleet_for("nobody")).await;
    let (code, out, err) =
        at_desk(&sandbox, false, &["send", "sweep", "--why", "x", "--local"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    let (_, listed, _) = at_desk(&sandbox, false, &["parked", "list"]).await;
    let (code, out, err) = as_told(&sandbox, &listed, &["--local"]).await;
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(
        sandbox.world.gitlab.runners().iter().all(|runner| runner.paused),
        "{}",
        sandbox.story()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_parked_is_released_without_any_queue() {
    let sandbox = without_sweeps(&plan_fleet()).await;
    let fault = Fault {
        service: Service::Arm,
        method: Some("PUT"),
        path: "/userAssignedIdentities/".into(),
        times: usize::MAX,
        what: What::Answer { status: 403, headers: vec![], body: "{}".into() },
    };
    sandbox.world.wire.add_fault(fault);
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let unit = format!("runner/g{group}-plan");
    assert!(sandbox.is_parked(&unit), "{}", sandbox.story());
    sandbox.world.wire.clear_faults();
    let (code, out, err) =
        at_desk(&sandbox, false, &["parked", "release", "--all", "--local"]).await;
    assert_eq!((code, out), (Some(0), format!("woke {unit}\n")), "{err}");
    sandbox.assert_ready(&unit);
}

/// The messages of the reference, and the examples of `send --help`, are read as they stand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_example_is_an_order() {
    let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
    let reference = include_str!("../../docs/commands.md");
    let mut read = 0;
    for row in reference.lines().filter(|line| line.contains("`{\"command\":")) {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let door = match cells[2] {
            "commands" => Door::Commands,
            "approvals" => Door::Approvals,
            other => panic!("no queue `{other}`: {row}"),
        };
        let order = Order::decode(cells[3].as_bytes(), door, now);
        let order = order.unwrap_or_else(|refused| panic!("{row}: {refused}"));
        assert!(cells[1].starts_with(order.deed.as_str()), "{row}");
        read += 1;
    }
    assert_eq!(read, 9);
    let sandbox = without_sweeps(&plan_fleet()).await;
    let (_, help, _) = at_desk(&sandbox, true, &["send", "--help"]).await;
    let examples: Vec<&str> =
        help.lines().filter(|line| line.starts_with("  forerunner send")).collect();
    assert!(examples.len() > 6, "{help}");
    for example in examples.into_iter().filter(|example| !example.contains("--local")) {
        let (code, out, err) = as_told(&sandbox, &format!("`{}`", example.trim()), &[]).await;
        assert!(code == Some(0) && out.contains("is on the queue"), "{example}: {out}{err}");
    }
}
