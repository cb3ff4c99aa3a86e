//! `forerunner apply --local`: the real program carries out what `plan` shows, without any queue.

use crate::{deeds::plan_fleet, harness::Sandbox};
use jiff::SignedDuration;
use std::{process::Stdio, time::Duration};
use tokio::process::Command;

/// Runs it while the sandbox's clock, which the program follows, is turned ahead.
pub(crate) async fn apply(sandbox: &Sandbox, arguments: &[&str]) -> (Option<i32>, String, String) {
    let settings = sandbox.folder.join("desk.env");
    let mut given = sandbox.world.settings(&sandbox.folder.join("fleet.yaml"));
    given.remove("ServiceBus__fullyQualifiedNamespace");
    let lines: String = given.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    std::fs::write(&settings, lines).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_forerunner"));
    command.arg("apply").args(arguments).arg("--env-file").arg(&settings);
    command.env_remove("ServiceBus__fullyQualifiedNamespace").stdin(Stdio::null());
    command.env("USER", "jane");
    let mut running = std::pin::pin!(command.kill_on_drop(true).output());
    let turned = async {
        loop {
            sandbox.world.pass(SignedDuration::from_secs(1)).await;
            tokio::task::yield_now().await;
        }
    };
    let output = tokio::select! {
        output = &mut running => output.unwrap(),
        () = turned => unreachable!("it turns for ever"),
        _ = tokio::time::timeout(Duration::from_secs(100), std::future::pending::<()>()) => {
            panic!("apply did not end\n{}", sandbox.story())
        }
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_applied_from_a_desk_and_once_more_changes_nothing() {
    // No sweep does the work meanwhile: the clock runs as fast as it can.
    let never = [("SweepSchedule", "0 0 0 1 1 *")];
    let sandbox = Sandbox::with_settings(&plan_fleet(), Default::default(), &never).await;
    sandbox.lose_hooks();
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    let unit = format!("runner/g{group}-plan");
    let target = ["--local", "platform/payments"];
    let (code, out, err) = apply(&sandbox, &target).await;
    assert_eq!(code, Some(2), "{out}\n{err}");
    assert!(out.contains("create") && err.contains("say --yes"), "{out}\n{err}");
    assert!(sandbox.keys().is_empty(), "nobody said yes");
    let (code, out, err) = apply(&sandbox, &["--local", "--yes", "platform/payments"]).await;
    assert_eq!(code, Some(0), "{out}\n{err}\n{}", sandbox.story());
    assert!(out.contains("1 unit(s) as fleet.yaml says, 0 not yet"), "{out}");
    assert!(!out.contains("glrt-") && !err.contains("glrt-"), "{out}{err}");
    sandbox.assert_ready(&unit);
    let audit = std::fs::read_to_string(sandbox.folder.join("forerunner-audit.jsonl")).unwrap();
    let events: Vec<serde_json::Value> =
        audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let by_jane = |event: &serde_json::Value| {
        event["cause"] == "apply by jane: from a desk" && event["actor"] == "jane"
    };
    assert!(events.iter().all(|event| by_jane(event) && event["unit"] == *unit), "{audit}");
    let made = events.iter().filter(|event| event["action"] == "create").count();
    assert!(made > 10 && !audit.contains("glrt-"), "{audit}");
    let writes = sandbox.own_writes().len();
    let (code, out, _) = apply(&sandbox, &["--local", "--yes", "platform/payments"]).await;
    assert_eq!(code, Some(0), "{out}");
    assert_eq!(sandbox.own_writes().len(), writes);
    let (code, _, err) = apply(&sandbox, &["platform/payments"]).await;
    assert!(code == Some(2) && err.contains("--local"), "{err}");
    // What cannot be told is not done.
    let unwritable = ["--local", "--yes", "--audit", "/no/such/folder/audit.jsonl"];
    let (code, _, err) = apply(&sandbox, &unwritable).await;
    assert!(code == Some(1) && err.contains("name another file with --audit"), "{err}");
}
