//! `forerunner apply`: the real program has carried out what `plan` shows, by the functions or, without any queue, from here.

use crate::{
    deeds::{plain_fleet, plan_fleet},
    harness::Sandbox,
};
use forerunner::sandbox::{
    gitlab::RunnerEdit,
    wire::{Fault, Service, What},
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::{process::Stdio, time::Duration};
use tokio::process::Command;

/// Applies where no queue is configured.
pub(crate) async fn apply(sandbox: &Sandbox, arguments: &[&str]) -> (Option<i32>, String, String) {
    at_desk(sandbox, false, &[&["apply"], arguments].concat()).await
}

/// Runs the program while the sandbox's clock, which it follows, is turned ahead and the functions do their work.
pub(crate) async fn at_desk(
    sandbox: &Sandbox,
    has_queue: bool,
    arguments: &[&str],
) -> (Option<i32>, String, String) {
    let settings = sandbox.folder.join("desk.env");
    let mut given = sandbox.world.settings(&sandbox.folder.join("fleet.yaml"));
    if !has_queue {
        given.remove("ServiceBus__fullyQualifiedNamespace");
    }
    let lines: String = given.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    std::fs::write(&settings, lines).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_forerunner"));
    command.args(arguments).arg("--env-file").arg(&settings);
    let waits = |word: &&str| ["apply", "remove", "send", "release"].contains(word);
    if arguments.iter().take(2).any(waits) && !arguments.contains(&"--timeout") {
        // The clock runs ahead of a process that works in real time: only a test of the end may meet it.
        command.args(["--timeout", "600"]);
    }
    command.env_remove("ServiceBus__fullyQualifiedNamespace").stdin(Stdio::null());
    command.env("USER", "jane");
    let mut running = std::pin::pin!(command.kill_on_drop(true).output());
    let turned = async {
        loop {
            sandbox.pass(SignedDuration::from_secs(1)).await;
            tokio::task::yield_now().await;
        }
    };
    let output = tokio::select! {
        output = &mut running => output.unwrap(),
        () = turned => unreachable!("it turns for ever"),
        _ = tokio::time::timeout(Duration::from_secs(100), std::future::pending::<()>()) => {
            panic!("{}\n{arguments:?} did not end", sandbox.story())
        }
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Runs the command that a text names, after `forerunner`, as it stands there; `…` is for a person to fill in.
pub(crate) async fn as_told(
    sandbox: &Sandbox,
    text: &str,
    more: &[&str],
) -> (Option<i32>, String, String) {
    let (_, told) = text.split_once("forerunner send").unwrap_or_else(|| panic!("{text}"));
    let told = told.split(['`', '"', '\n']).next().unwrap_or_default();
    let mut words = vec!["send".to_owned()];
    for (at, part) in told.split('\'').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_whitespace().map(|word| word.replace('…', "SEC-1"))),
            _ => words.push(part.to_owned()),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).chain(more.iter().copied()).collect();
    at_desk(sandbox, true, &words).await
}

/// No sweep does the work meanwhile: the clock runs as fast as it can.
pub(crate) async fn without_sweeps(fleet: &str) -> Sandbox {
    let never = [("SweepSchedule", "0 0 0 1 1 *")];
    Sandbox::with_settings(fleet, Default::default(), &never).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_is_applied_from_a_desk_and_once_more_changes_nothing() {
    let sandbox = without_sweeps(&plan_fleet()).await;
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
        event["cause"] == "reprovision by jane: apply from a desk" && event["actor"] == "jane"
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_functions_are_told_and_followed_until_it_is_so() {
    let sandbox = without_sweeps(&plan_fleet()).await;
    let made = sandbox.world.gitlab.create_group(Some(42), "made");
    sandbox.settle().await;
    sandbox.lose_hooks();
    let new = sandbox.world.gitlab.create_group(Some(42), "new");
    let edit = RunnerEdit { tags: Some(vec!["everything".into()]), ..RunnerEdit::default() };
    let key = format!("g{made}-plan");
    sandbox.world.gitlab.edit_runner(sandbox.runner(&key).id, edit);
    let why = ["apply", "--yes", "--why", "CHG7"];
    let (code, out, err) = at_desk(&sandbox, true, &why).await;
    assert_eq!(code, Some(0), "{out}\n{err}");
    assert!(out.contains("2 unit(s) as fleet.yaml says, 0 not yet"), "{out}");
    for unit in [format!("runner/{key}"), format!("runner/g{new}-plan")] {
        sandbox.assert_ready(&unit);
        assert!(err.contains(&format!("{unit}  ")), "no step of {unit}: {err}");
        let cause = sandbox.status(&unit)["rounds"][0]["cause"].clone();
        assert_eq!(cause, "reprovision by jane: CHG7", "{}", sandbox.status(&unit));
    }
    assert_eq!(sandbox.runner(&key).tags, ["azure-plan"]);
    let own_audit = sandbox.folder.join("forerunner-audit.jsonl");
    assert!(!own_audit.exists(), "the functions did it, and told it");
    // Nothing is asked of them once more.
    let (code, out, _) = at_desk(&sandbox, true, &["apply", "--json", "--yes"]).await;
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, Some(0), "{out}");
    assert_eq!((&told["asTheFileSays"], &told["notYet"]), (&json!(2), &json!([])), "{out}");
    let (code, _, err) = at_desk(&sandbox, true, &["apply", "--json"]).await;
    assert!(code == Some(2) && err.contains("--yes"), "JSON asks nobody: {err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_work_cannot_mend_ends_with_one_and_the_reason() {
    for has_queue in [false, true] {
        let sandbox = without_sweeps(&plain_fleet()).await;
        let [lost, archived] =
            ["lost", "archived"].map(|name| sandbox.world.gitlab.create_group(Some(42), name));
        sandbox.settle().await;
        // Somebody may still poll with its token: only a person's word lets it go.
        let secret = format!("runner-g{lost}-plain-config");
        assert!(sandbox.world.kubernetes.delete_as_admin("secrets", "forerunner-nonprod", &secret));
        sandbox.lose_hooks();
        sandbox.world.gitlab.archive_group(archived);
        let local = if has_queue { &[][..] } else { &["--local"] };
        let run = [&["apply", "--yes"], local].concat();
        let (code, out, err) = at_desk(&sandbox, has_queue, &run).await;
        assert_eq!(code, Some(1), "{out}\n{err}");
        assert!(out.contains("0 unit(s) as fleet.yaml says, 2 not yet"), "{out}\n{err}");
        for words in ["`: the token of runner", "`: the target or a group above it is archived"] {
            assert!(err.contains(words), "no `{words}` in {err}");
        }
        // A person's word, by the queue that takes it or from here.
        let key = format!("g{lost}-plain");
        let (code, out, err) =
            at_desk(&sandbox, has_queue, &[run, vec!["--confirm", &key]].concat()).await;
        assert_eq!(code, Some(0), "{out}\n{err}");
        sandbox.assert_ready(&format!("runner/{key}"));
    }
}

fn refuse_to_read(sandbox: &Sandbox, path: &str) {
    let body = "{\"message\":\"403 Forbidden\"}".to_owned();
    let what = What::Answer { status: 403, headers: vec![], body };
    let (service, method, path) = (Service::Gitlab, Some("GET"), path.to_owned());
    sandbox.world.wire.add_fault(Fault { service, method, path, times: usize::MAX, what });
}

/// Somebody edits the runner's tags.
fn edit(sandbox: &Sandbox, key: &str) {
    let edit = RunnerEdit { tags: Some(vec!["everything".into()]), ..RunnerEdit::default() };
    sandbox.world.gitlab.edit_runner(sandbox.runner(key).id, edit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_told_and_the_rest_is_applied() {
    for has_queue in [false, true] {
        let sandbox = without_sweeps(&plain_fleet()).await;
        let [edited, broken] =
            ["edited", "broken"].map(|name| sandbox.world.gitlab.create_group(Some(42), name));
        sandbox.settle().await;
        sandbox.lose_hooks();
        refuse_to_read(&sandbox, &format!("/groups/{broken}/runners"));
        let [edited, broken] = [edited, broken].map(|group| format!("g{group}-plain"));
        let tags = sandbox.runner(&edited).tags;
        [&edited, &broken].iter().for_each(|key| edit(&sandbox, key));
        let local = if has_queue { &[][..] } else { &["--local"] };
        let apply = async |targets: &[&str]| {
            let arguments = [&["apply", "--yes", "--json"], local, targets].concat();
            let (code, out, err) = at_desk(&sandbox, has_queue, &arguments).await;
            assert_eq!(code, Some(1), "{out}\n{err}");
            serde_json::from_str::<Value>(&out).unwrap_or_else(|error| panic!("{error}: {err}"))
        };
        let assert_left = |told: &Value| {
            assert_eq!((&told["asTheFileSays"], &told["failures"]), (&json!(1), &json!([])));
            let [left] = &told["notYet"].as_array().unwrap()[..] else { panic!("{told:#}") };
            assert_eq!(left["unit"], format!("runner/{broken}"));
            assert!(left["why"].as_str().unwrap().starts_with("could not be read: "), "{left}");
            assert_eq!(sandbox.runner(&broken).tags, ["everything"]);
        };
        assert_left(&apply(&[]).await);
        assert_eq!(sandbox.runner(&edited).tags, tags, "{}", sandbox.story());
        // Nobody permits what nobody has seen.
        let secret = format!("runner-{edited}-config");
        assert!(sandbox.world.kubernetes.delete_as_admin("secrets", "forerunner-nonprod", &secret));
        assert_left(&apply(&["--confirm", &edited, &broken]).await);
        sandbox.assert_ready(&format!("runner/{edited}"));
        // Nor does a word that GitLab knows nothing of.
        edit(&sandbox, &edited);
        let told = apply(&[&edited, "platform/nobody"]).await;
        assert_eq!((&told["asTheFileSays"], &told["notYet"]), (&json!(1), &json!([])), "{told:#}");
        let failure = told["failures"][0].as_str().unwrap_or_else(|| panic!("{told:#}"));
        assert!(failure.starts_with("platform/nobody: "), "{failure}");
        assert_eq!(sandbox.runner(&edited).tags, tags, "{}", sandbox.story());
    }
}

/// Units may be missing from it, or seem to be nobody's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_applied_of_a_fleet_whose_lists_are_refused() {
    let sandbox = without_sweeps(&plain_fleet()).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.lose_hooks();
    let key = format!("g{group}-plain");
    edit(&sandbox, &key);
    refuse_to_read(&sandbox, "/api/v4/groups?");
    let (code, out, err) = apply(&sandbox, &["--local", "--yes"]).await;
    assert_eq!(code, Some(1), "{out}\n{err}");
    for words in ["error: the targets in GitLab: ", "error: what cannot be read is not applied\n"] {
        assert!(err.contains(words), "no `{words}` in {err}");
    }
    let (code, out, err) = apply(&sandbox, &["--local", "--yes", "--json"]).await;
    let told: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {err}"));
    assert_eq!((code, &told["asTheFileSays"]), (Some(1), &json!(0)), "{told:#}");
    assert_eq!(told["plan"]["units"][0]["unit"], format!("runner/{key}"));
    assert_eq!(told["notYet"][0]["why"], "nothing was applied");
    assert_eq!(told["failures"][0], told["plan"]["problems"][0], "{told:#}");
    assert_eq!(told["failures"][1], "what cannot be read is not applied");
    assert_eq!(sandbox.runner(&key).tags, ["everything"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_that_do_not_run_are_not_waited_for_for_ever() {
    let sandbox = without_sweeps(&plain_fleet()).await;
    sandbox.lose_hooks();
    sandbox.world.gitlab.create_group(Some(42), "payments");
    // As for a stopped app: what is sent is taken, and nobody comes for it.
    sandbox.world.wire.add_fault(Fault {
        service: Service::ServiceBus,
        method: Some("POST"),
        path: "/commands/messages".to_owned(),
        times: 1,
        what: What::Answer { status: 201, headers: vec![], body: String::new() },
    });
    let (code, out, err) = at_desk(&sandbox, true, &["apply", "--yes", "--timeout", "2"]).await;
    assert_eq!(code, Some(1), "{out}\n{err}");
    for words in ["stopped after ", "change(s) are still to be made"] {
        assert!(err.contains(words), "no `{words}` in {err}");
    }
}
