//! What operators ask for by messages of their own: on `commands` what can be undone, on `approvals` what destroys.

use crate::{
    deeds::{plain_fleet_for, plan_fleet},
    harness::{START, Sandbox},
};
use forerunner::sandbox::{gitlab::RunnerEdit, service_bus::Properties};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

impl Sandbox {
    /// Sends a message by hand, as the portal does.
    pub(crate) fn order(&self, queue: &str, body: &Value) {
        let properties = Properties::default();
        self.world.service_bus.send_as_operator(queue, body.to_string(), properties).unwrap();
    }

    /// How many messages are kept that were refused.
    pub(crate) fn kept(&self) -> usize {
        let secrets = self.world.kubernetes.list("secrets", "forerunner-nonprod");
        let record = |one: &&Value| one["metadata"]["labels"]["forerunner.dev/record"] == "foreign";
        secrets.iter().filter(record).count()
    }
}

pub(crate) async fn settled() -> (Sandbox, String, String) {
    settled_with(&plan_fleet()).await
}

/// The reading profile, whose runners share a domain.
pub(crate) fn shared_fleet() -> String {
    plan_fleet().replace("identity: { managed", "isolation: profile, identity: { managed")
}

pub(crate) async fn settled_with(file: &str) -> (Sandbox, String, String) {
    let sandbox = Sandbox::new(file).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    (sandbox, format!("g{group}-plan"), format!("runner/g{group}-plan"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_pauses_and_resumes_a_runner_and_no_round_undoes_it() {
    let (sandbox, key, unit) = settled().await;
    let order = |command: &str, targets: &str| json!({"command": command, "targets": [targets], "by": "jane", "why": "CHG1"});
    sandbox.order("commands", &order("pause", "platform/payments"));
    sandbox.settle().await;
    let runner = sandbox.runner(&key);
    assert!(
        runner.paused && runner.maintenance_note == "forerunner command: pause by jane: CHG1",
        "{runner:?}"
    );
    sandbox.wake(&unit);
    sandbox.settle().await;
    assert!(sandbox.runner(&key).paused);
    assert_eq!(sandbox.ready(&unit).0, "PausedByPerson");
    sandbox.order("commands", &order("resume", &key[..key.find('-').unwrap()]));
    sandbox.settle().await;
    let runner = sandbox.runner(&key);
    assert!(!runner.paused && runner.maintenance_note.is_empty(), "{runner:?}");
    sandbox.assert_ready(&unit);
}

/// Whatever `drift.paused` says, and whatever else pauses it meanwhile: a withdrawal, or a rule that is gone for a day.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_pause_lasts_until_resume() {
    let file = plan_fleet().replace("identity: {", "drift: { paused: resume }, identity: {");
    let (sandbox, key, unit) = settled_with(&file).await;
    let group = key[1..].split('-').next().unwrap();
    let withdrawn = format!("withdrawn: [{{ group: {group}, reason: SEC-2 }}]\n{file}");
    let nobody = file.replace("'platform/*'", "'platform/nobody'");
    let order = async |command: &str| {
        let order = json!({"command": command, "targets": ["all"], "by": "jane", "why": "CHG1"});
        sandbox.order("commands", &order);
        sandbox.settle().await;
        sandbox.sweep().await;
    };
    let become_file = async |file: &str| {
        sandbox.deploy(file).await;
        sandbox.sweep().await;
    };
    let note = || sandbox.runner(&key).maintenance_note;
    sandbox.leap_to("2026-11-26T08:00:00Z");
    order("pause").await;
    for meanwhile in [&withdrawn, &nobody] {
        become_file(meanwhile).await;
        assert_eq!(sandbox.ready(&unit).0, "Leaving");
        become_file(&file).await;
        let (reason, message) = sandbox.ready(&unit);
        assert_eq!(reason, "PausedByPerson", "{message}");
        assert!(message.contains("forerunner send resume"), "{message}");
        assert_eq!(note(), "forerunner command: pause by jane: CHG1");
    }
    order("resume").await;
    sandbox.assert_ready(&unit);
    // What a round paused is a round's to open; an order to pause outlasts it.
    become_file(&withdrawn).await;
    order("resume").await;
    assert!(sandbox.runner(&key).paused && note().starts_with("forerunner: "), "{}", note());
    order("pause").await;
    become_file(&file).await;
    assert_eq!(sandbox.ready(&unit).0, "PausedByPerson");
    // Somebody opens it in GitLab, where only the note tells of the order.
    let id = sandbox.runner(&key).id;
    let open = RunnerEdit { paused: Some(false), ..RunnerEdit::default() };
    sandbox.world.gitlab.edit_runner(id, open);
    sandbox.sweep().await;
    sandbox.assert_ready(&unit);
    assert_eq!((sandbox.runner(&key).paused, note()), (false, String::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_by_command_finds_what_no_hook_told() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    sandbox.lose_hooks();
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.order("commands", &json!({"command": "sweep", "by": "jane", "why": "at once"}));
    sandbox.settle().await;
    sandbox.assert_ready(&format!("runner/g{group}-plan"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_written_to_what_an_operator_holds() {
    let (sandbox, key, unit) = settled().await;
    let order = json!({"command": "hold", "targets": ["all"], "by": "jane", "why": "incident 7", "until": "2026-11-24T20:00:00Z"});
    sandbox.order("approvals", &order);
    sandbox.settle().await;
    assert_eq!(
        sandbox.ready(&unit),
        ("Held".into(), "held until 2026-11-24T20:00:00Z by jane: incident 7".into())
    );
    let deployment = format!("runner-{key}");
    let edit = |object: &mut Value| object["spec"]["replicas"] = 3.into();
    sandbox.world.kubernetes.edit("deployments", "forerunner-nonprod", &deployment, edit);
    sandbox.wake(&unit);
    sandbox.settle().await;
    assert_eq!(sandbox.replicas(&key), 3, "nobody mends it");
    sandbox.leap_to("2026-11-24T21:00:00Z");
    sandbox.sweep().await;
    assert_eq!(sandbox.replicas(&key), 1, "{}", sandbox.story());
    sandbox.assert_ready(&unit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_domain_can_be_held_too() {
    let (sandbox, _, _) = settled_with(&shared_fleet()).await;
    let order = json!({"command": "hold", "targets": ["domain/plan"], "by": "jane", "why": "incident 7", "until": "2026-11-24T20:00:00Z"});
    sandbox.order("approvals", &order);
    sandbox.settle().await;
    assert_eq!(sandbox.ready("domain/plan").0, "Held");
    let level = "pod-security.kubernetes.io/enforce";
    let enforced = || {
        let namespace = sandbox.world.kubernetes.get("namespaces", "", "ci-nonprod--domain-plan");
        namespace.unwrap()["metadata"]["labels"][level].clone()
    };
    let before = enforced();
    let edit = |object: &mut Value| object["metadata"]["labels"][level] = "privileged".into();
    sandbox.world.kubernetes.edit("namespaces", "", "ci-nonprod--domain-plan", edit);
    sandbox.wake("domain/plan");
    sandbox.sweep().await;
    assert_eq!(enforced(), "privileged", "nobody mends it");
    sandbox.leap_to("2026-11-24T21:00:00Z");
    sandbox.sweep().await;
    assert_eq!(enforced(), before, "{}", sandbox.story());
    sandbox.assert_ready("domain/plan");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_brakes_plan_goes_ahead_when_it_is_confirmed_as_it_is() {
    let file = plain_fleet_for;
    let sandbox = Sandbox::new(&file("*")).await;
    for name in ["one", "two", "three"] {
        sandbox.world.gitlab.create_group(Some(42), name);
    }
    sandbox.settle().await;
    sandbox.leap_to("2026-11-26T08:00:00Z");
    sandbox.deploy(&file("nobody")).await;
    sandbox.sweep().await;
    let parked = sandbox.world.kubernetes.get("configmaps", "forerunner-nonprod", "parked-plan");
    let parked: Value =
        serde_json::from_str(parked.unwrap()["data"]["record.json"].as_str().unwrap()).unwrap();
    // The same from a desk: the list shows the plan and how to confirm it, and `send` checks what it sends.
    let settings = sandbox.folder.join("desk.env");
    let given = sandbox.world.settings(&sandbox.folder.join("fleet.yaml"));
    let lines: String = given.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    std::fs::write(&settings, lines).unwrap();
    let desk = async |arguments: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_forerunner"));
        command.args(arguments).arg("--env-file").arg(&settings);
        let output = command.output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, err) = desk(&["parked", "list"]).await;
    assert_eq!(code, Some(0), "{err}");
    let id = parked["id"].as_str().unwrap();
    assert!(out.contains(&format!("forerunner send confirm --plan {id}")), "{out}");
    let (code, _, err) = desk(&["send", "confirm", "--by", "jane", "--why", "moved"]).await;
    assert!(code == Some(2) && err.contains("`plan` is to be"), "{code:?} {err}");
    let confirm = |plan: &Value| json!({"command": "confirm", "plan": plan, "by": "jane", "why": "moved on purpose"});
    sandbox.order("approvals", &confirm(&json!("another")));
    sandbox.settle().await;
    assert!(sandbox.world.gitlab.runners().iter().all(|runner| !runner.paused));
    let (code, out, err) =
        desk(&["send", "confirm", "--plan", id, "--by", "jane", "--why", "moved"]).await;
    assert!(code == Some(0) && out.contains("`approvals`"), "{out}{err}");
    sandbox.settle().await;
    assert!(
        sandbox.world.gitlab.runners().iter().all(|runner| runner.paused),
        "{}",
        sandbox.story()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirmed_plan_needs_no_other_word_until_its_grace_is_over() {
    let sandbox = Sandbox::new(&plain_fleet_for("*")).await;
    for name in ["one", "two", "three"] {
        sandbox.world.gitlab.create_group(Some(42), name);
    }
    sandbox.settle().await;
    sandbox.world.managers.rest_between(SignedDuration::from_hours(1));
    let start: Timestamp = START.parse().unwrap();
    let sweep_after = async |hours| {
        sandbox.leap_to(&(start + SignedDuration::from_hours(hours)).to_string());
        sandbox.sweep().await;
    };
    let plan = || sandbox.world.kubernetes.get("configmaps", "forerunner-nonprod", "parked-plan");
    sandbox.deploy(&plain_fleet_for("nobody")).await;
    sweep_after(48).await;
    let parked = plan().unwrap();
    let parked: Value =
        serde_json::from_str(parked["data"]["record.json"].as_str().unwrap()).unwrap();
    let order = json!({"command": "confirm", "plan": parked["id"], "by": "jane", "why": "moved on purpose"});
    sandbox.order("approvals", &order);
    sandbox.settle().await;
    let until = start + SignedDuration::from_hours(140);
    let hold = json!({"command": "hold", "targets": ["all"], "by": "joe", "why": "SEC-2", "until": until.to_string()});
    for hours in (56..216).step_by(10) {
        if hours == 96 {
            sandbox.order("approvals", &hold);
        }
        sweep_after(hours).await;
        assert!(plan().is_none(), "{hours} h");
        assert_eq!(sandbox.world.gitlab.runners().len(), 3, "{hours} h: they rest for the grace");
    }
    sweep_after(217).await;
    assert!(sandbox.world.gitlab.runners().is_empty(), "{}", sandbox.story());
}
