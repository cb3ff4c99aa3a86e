//! `forerunner status` and `forerunner parked`: what rounds wrote down, worst first, and what lets it go on.

use crate::{
    cli_desk::run,
    deeds::{fleet, plan_fleet},
    harness::Sandbox,
};
use forerunner::{
    cli::{
        answer::{Answer, Colour},
        hands::Whose,
        parked::{self, Action, ParkedArguments},
        status::{self, StatusOf},
    },
    sandbox::wire::Service,
};
use serde_json::{Value, json};

async fn status(sandbox: &Sandbox, targets: &[&str], problems: bool, json: bool) -> Answer {
    let targets = targets.iter().map(|target| (*target).to_owned()).collect();
    let arguments = StatusOf { targets, problems, json, place: Default::default() };
    status::answer(&arguments, &sandbox.desk(), Colour::default()).await
}

/// With a queue unless it is left out, and whoever is asked says so.
async fn parked(sandbox: &Sandbox, action: Action, json: bool, says: Option<bool>) -> Answer {
    let arguments = ParkedArguments { action, json, place: Default::default() };
    parked::answer(&arguments, &sandbox.desk_without(&[]), Colour::default(), |_| says).await
}

fn show(name: &str, reveal: bool) -> Action {
    Action::Show { name: name.to_owned(), reveal }
}

fn release(units: &[&str], all: bool) -> Action {
    let whose = Whose { local: false, timeout: 30, audit: None };
    Action::Release { units: units.iter().map(|unit| (*unit).to_owned()).collect(), all, whose }
}

fn drop_action(name: &str, yes: bool) -> Action {
    Action::Drop { name: name.to_owned(), yes, audit: None }
}

/// A person's own rights at a desk: forerunner itself may not list Secrets.
fn let_operator_see_messages(sandbox: &Sandbox) {
    let metadata = json!({ "name": "operator", "namespace": "forerunner-nonprod" });
    let api = "rbac.authorization.k8s.io";
    let version = format!("{api}/v1");
    let verbs = ["list", "delete"];
    let rules = json!([{ "apiGroups": [""], "resources": ["secrets"], "verbs": verbs }]);
    let user =
        json!([{ "apiGroup": api, "kind": "User", "name": sandbox.world.forerunner_user() }]);
    let objects = [
        json!({ "apiVersion": version, "kind": "Role", "metadata": metadata, "rules": rules }),
        json!({ "apiVersion": version, "kind": "RoleBinding", "metadata": metadata, "subjects": user,
            "roleRef": { "apiGroup": api, "kind": "Role", "name": "operator" } }),
    ];
    for object in objects {
        sandbox.world.kubernetes.apply_as_admin(object).unwrap();
    }
}

const RBAC_ADMINISTRATOR: &str = "f58310d9-a9f6-439a-9e8d-f62e7b41a168";

/// One ready, one archived, one parked because the right to assign roles is gone.
async fn mixed() -> (Sandbox, [String; 3]) {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    let [ready, archived] =
        ["ready", "archived"].map(|path| sandbox.world.gitlab.create_group(Some(42), path));
    sandbox.settle().await;
    sandbox.world.gitlab.archive_group(archived);
    sandbox.settle().await;
    for right in sandbox.world.azure.assignments() {
        if right.role.to_string() == RBAC_ADMINISTRATOR {
            assert!(sandbox.world.azure.remove_assignment(right.name));
        }
    }
    let parked = sandbox.world.gitlab.create_group(Some(42), "parked");
    sandbox.settle().await;
    // What was archived without a hook.
    sandbox.sweep().await;
    (sandbox, [ready, archived, parked].map(|group| format!("runner/g{group}-plan")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_comes_first_and_one_list_tells_all() {
    let (sandbox, [ready, archived, parked]) = mixed().await;
    sandbox.world.wire.forget_calls();
    let shown = status(&sandbox, &[], false, false).await;
    let calls = sandbox.own_calls();
    let outside = |call: &&String| {
        !call.starts_with("Kubernetes GET")
            && !call.contains("Identity")
            && !call.contains("listClusterUserCredential")
    };
    assert_eq!(calls.iter().filter(|call| call.starts_with("Kubernetes")).count(), 1, "{calls:#?}");
    assert_eq!(calls.iter().find(outside), None, "{calls:#?}");
    assert_eq!((shown.code, shown.talk.as_str()), (0, ""));
    assert!(
        shown.out.starts_with("fleet nonprod: 3 unit(s): 1 parked, 1 not ready, 1 ready\n"),
        "{}",
        shown.out
    );
    let at = |text: &str| shown.out.find(text).unwrap_or_else(|| panic!("{text}: {}", shown.out));
    assert!(at(&parked) < at(&archived) && at(&archived) < at(&ready), "{}", shown.out);
    for part in [
        "    Parked: ",
        "assign Reader",
        "    Archived: the target or a group above it is archived",
        "tried 0 time(s) since, next in 9 min",
    ] {
        at(part);
    }
    assert!(!shown.out.contains('\x1b'));
    let document: Value =
        serde_json::from_str(&status(&sandbox, &[], true, true).await.out).unwrap();
    let units: Vec<&Value> =
        document["units"].as_array().unwrap().iter().map(|unit| &unit["unit"]).collect();
    assert_eq!(units, [&json!(parked), &json!(archived)], "only what is not ready");
    assert_eq!(
        document["counts"],
        json!({ "parked": 1, "needs-administrator": 0, "not-ready": 1, "ready": 1 })
    );
    for target in ["platform/ready", &ready, ready.strip_prefix("runner/").unwrap(), "platform/r*"]
    {
        let one = status(&sandbox, &[target], false, false).await;
        if target.ends_with('*') {
            assert_eq!(one.code, 2, "a star inside a segment means nothing");
        } else {
            assert!(
                one.out.starts_with("fleet nonprod: 1 unit(s): 1 ready"),
                "{target}: {}",
                one.out
            );
        }
    }
    let all = status(&sandbox, &["platform/*"], false, false).await;
    // Who asks for some units hears of those, and not what the sweep found of the fleet.
    let (fleet, units) = shown.out.split_at(at("  parked   "));
    assert!(fleet.contains("the whole fleet"), "{fleet}");
    let heading = fleet.lines().next().unwrap();
    assert_eq!(all.out, format!("{heading}\n{units}"));
    let nobody = status(&sandbox, &["platform/nobody"], false, false).await;
    assert_eq!((nobody.code, nobody.out.as_str()), (1, ""));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_unit_says_what_releases_it_and_is_released_through_the_queue() {
    let (sandbox, [ready, _, unit]) = mixed().await;
    let listed = parked(&sandbox, Action::List, false, None).await;
    assert_eq!(listed.code, 0);
    assert!(
        listed.out.contains(&format!("{unit}  platform/parked\n  assign Reader")),
        "{}",
        listed.out
    );
    assert!(listed.out.ends_with("1 unit(s) parked, 0 message(s) kept\n"), "{}", listed.out);
    assert_eq!(listed.talk, "");
    let shown = parked(&sandbox, show(&unit, false), false, None).await;
    let by = format!("    forerunner parked release {unit}\n");
    for part in [
        "  reason    assign Reader",
        "    a changed fleet.yaml\n",
        "  tried     0 time(s) again\n",
        "  last rounds\n",
        &by,
    ] {
        assert!(shown.out.contains(part), "no `{part}` in\n{}", shown.out);
    }
    let document: Value =
        serde_json::from_str(&parked(&sandbox, show(&unit, false), true, None).await.out).unwrap();
    let did = document["rounds"][0]["did"].to_string();
    assert!(did.contains("create identity"), "what it did before it gave up: {document}");
    assert!(document["releasedBy"].as_array().unwrap().contains(&json!(by.trim())));
    // Nothing to release, and nothing to release it with.
    let not = parked(&sandbox, release(&[&ready], false), false, None).await;
    assert_eq!((not.code, not.talk), (1, format!("error: `{ready}` is not parked\n")));
    let arguments = ParkedArguments {
        action: release(&[&unit], false),
        json: false,
        place: Default::default(),
    };
    let without = parked::answer(&arguments, &sandbox.desk(), Colour::default(), |_| None).await;
    assert!(
        without.code == 2
            && without.talk.contains("`ServiceBus__fullyQualifiedNamespace` is missing: set it")
            && without.talk.contains("say --local"),
        "{}",
        without.talk
    );
    assert_eq!(sandbox.world.service_bus.depth("rounds"), 0);
    // The right is back, and the unit need not wait for the sweep.
    let principal = sandbox.world.forerunner_user().parse().unwrap();
    sandbox.world.azure.assign_role(
        crate::deeds::APP,
        RBAC_ADMINISTRATOR.parse().unwrap(),
        principal,
        None,
    );
    let before = sandbox.world.clock.now();
    let released = parked(&sandbox, release(&[], true), false, None).await;
    assert_eq!((released.code, released.out), (0, format!("woke {unit}\n")), "{}", released.talk);
    sandbox.settle().await;
    sandbox.assert_ready(&unit);
    let took = sandbox.world.clock.now().duration_since(before);
    assert!(took.as_mins() < 8, "before any sweep: {took}");
    let none = parked(&sandbox, release(&[], true), false, None).await;
    assert_eq!((none.code, none.out.as_str()), (0, "nothing is parked\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_message_shows_its_body_only_when_asked_and_goes_only_after_asking() {
    let sandbox = Sandbox::new(&fleet("rules:\n  - { match: { groups: 'platform/*' }, profiles: [plain] }\nprofiles:\n  plain: { runner: { tags: [plain] }, identity: none }\n")).await;
    let_operator_see_messages(&sandbox);
    sandbox.put_on_queue("{\"v\":1,\"pasword\":\"hunter2\"}", "typed-by-hand");
    sandbox.settle().await;
    let document: Value =
        serde_json::from_str(&parked(&sandbox, Action::List, true, None).await.out).unwrap();
    let message = &document["messages"][0];
    let name = message["name"].as_str().unwrap();
    assert_eq!(message["function"], "round", "{document}");
    assert!(message["reason"].as_str().unwrap().contains("a key that a message"), "{document}");
    let listed = parked(&sandbox, Action::List, false, None).await;
    assert!(listed.out.ends_with("0 unit(s) parked, 1 message(s) kept\n"), "{}", listed.out);
    let masked = parked(&sandbox, show(name, false), false, None).await;
    assert!(
        masked.out.contains(r#"{"pasword":"(sensitive)","v":"(sensitive)"}  27 bytes"#),
        "{}",
        masked.out
    );
    for text in [&document.to_string(), &listed.out, &masked.out] {
        assert!(!text.contains("hunter2"), "{text}");
    }
    let revealed = parked(&sandbox, show(name, true), false, None).await;
    assert!(revealed.out.contains(r#"{"v":1,"pasword":"hunter2"}"#), "{}", revealed.out);
    let is_there = || sandbox.world.kubernetes.get("secrets", "forerunner-nonprod", name).is_some();
    for (says, code) in [(None, 2), (Some(false), 1)] {
        let kept = parked(&sandbox, drop_action(name, false), false, says).await;
        assert_eq!((kept.code, kept.out.as_str()), (code, ""), "{says:?}");
        assert!(is_there(), "{says:?}");
    }
    let asked = parked(&sandbox, drop_action(name, false), true, Some(true)).await;
    assert!(asked.code == 2 && asked.talk.contains("--yes") && is_there(), "{asked:?}");
    let gone = parked(&sandbox, drop_action(name, false), false, Some(true)).await;
    assert_eq!((gone.code, gone.out), (0, format!("deleted {name}\n")));
    assert!(!is_there());
    let again = parked(&sandbox, drop_action(name, true), false, None).await;
    assert_eq!(again.code, 1, "{}", again.talk);
    let calls = sandbox.world.wire.calls();
    let deletions =
        calls.iter().filter(|call| call.service == Service::Kubernetes && call.method == "DELETE");
    assert_eq!(deletions.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_message_that_is_deleted_is_told_to_programs_and_archives() {
    let sandbox = Sandbox::settled_child(&plan_fleet()).await;
    let_operator_see_messages(&sandbox);
    sandbox.put_on_queue("{\"v\":1}", "typed-by-hand");
    sandbox.settle().await;
    let listed = parked(&sandbox, Action::List, true, None).await;
    let document: Value = serde_json::from_str(&listed.out).unwrap();
    let name = document["messages"][0]["name"].as_str().unwrap();
    let file = sandbox.env_file();
    let arguments = ["parked", "drop", name, "--yes", "--json", "--env-file"];
    let gone = run(&[&arguments[..], &[file.to_str().unwrap()]].concat()).await;
    assert_eq!(gone.code, 0, "{}", gone.talk);
    let document: Value = serde_json::from_str(&gone.out).unwrap();
    assert_eq!(document, json!({ "deleted": name }));
    let audit = std::fs::read_to_string(sandbox.folder.join("forerunner-audit.jsonl")).unwrap();
    let event: Value = serde_json::from_str(audit.lines().next().unwrap()).unwrap();
    assert_eq!(event["message"], format!("delete the kept message {name}"), "{event:#}");
    assert_eq!((&event["action"], &event["fleet"]), (&json!("delete"), &json!("nonprod")));
    assert_eq!(event["call"]["method"], "DELETE", "{event:#}");
}

#[tokio::test]
async fn every_command_of_a_desk_shows_examples() {
    for command in [
        &["check"][..],
        &["plan"],
        &["apply"],
        &["remove"],
        &["adopt"],
        &["status"],
        &["explain"],
        &["parked"],
        &["send"],
        &["admin-steps"],
        &["report", "access"],
    ] {
        let help = run(&[command, &["--help"]].concat()).await;
        assert!(help.code == 0 && help.out.contains("Examples:\n"), "{command:?}: {}", help.out);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_program_tells_the_same_and_refuses_what_it_does_not_know() {
    let sandbox = Sandbox::settled_child(&plan_fleet()).await;
    let file = sandbox.env_file();
    let file = file.to_str().unwrap();
    let shown = run(&["status", "--env-file", file]).await;
    assert_eq!(shown.code, 0, "{}", shown.talk);
    assert!(shown.out.starts_with("fleet nonprod: 1 unit(s): 1 ready\n  ready"), "{}", shown.out);
    for (arguments, code) in [
        (&["parked", "list", "--env-file", file][..], 0),
        (&["parked", "release", "--all", "--env-file", file], 0),
        (&["parked", "release", "--env-file", file], 2),
        (&["parked", "show", "nothing", "--env-file", file], 2),
        (&["status", "--env-file", file, "what is this"], 2),
    ] {
        let run = run(arguments).await;
        assert_eq!(run.code, code, "{arguments:?}: {}{}", run.out, run.talk);
    }
}
