//! What leaves is stopped, loses its rights, rests for the grace and goes whole; nothing goes without a sweep's permit.

use crate::{
    crashes::crashes,
    deeds::{APP, PLAIN, client, fleet, plain_fleet_for, plan_profile},
    disturbed::{check_all, run, same},
    harness::{FUNCTION_KEY, Heard, START, Sandbox},
    invariants::record::{Recorder, Truth},
    two_writers::process,
};
use forerunner::{
    cli::{
        answer::Colour,
        status::{self, StatusOf},
    },
    clock::Clock,
    domain::message::{Message, Reason},
    reconcile::Outcome,
    sandbox::{
        gitlab::{JobStatus, NewJob, RunnerEdit},
        wire::{Call, Fault, Service, What},
    },
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// The reading profile for one group below `platform`, by its name.
pub(crate) fn only(name: &str) -> String {
    fleet(&format!(
        "rules:\n  - {{ match: {{ groups: 'platform/{name}' }}, profiles: [plan] }}\nprofiles:\n{}",
        plan_profile()
    ))
}

pub(crate) fn days(days: i64) -> String {
    let start: Timestamp = START.parse().unwrap();
    (start + SignedDuration::from_hours(24 * days)).to_string()
}

/// What a fleet leaves that never had a runner: the ledger, and what an administrator made.
async fn untouched() -> Value {
    let sandbox = Sandbox::new(&only("nobody")).await;
    sandbox.sweep().await;
    let mut all = sandbox.inventory();
    let objects = all["objects"].as_array_mut().unwrap();
    objects.push(json!("configmaps forerunner-nonprod/ledger"));
    objects.sort_by_key(ToString::to_string);
    all
}

/// A group with a settled runner, two days old.
pub(crate) async fn settled(file: &str) -> (Sandbox, u64) {
    settled_in(Sandbox::new(file).await).await
}

async fn settled_in(sandbox: Sandbox) -> (Sandbox, u64) {
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.leap_to(&days(2));
    sandbox.sweep().await;
    (sandbox, group)
}

/// Nothing but what an administrator made is left; says what is, and what is told of the units.
async fn assert_untouched(sandbox: &Sandbox) {
    let (found, expected) = (sandbox.inventory(), untouched().await);
    for (part, lines) in found.as_object().unwrap() {
        let lines = lines.as_array().unwrap().iter();
        let left: Vec<_> =
            lines.filter(|line| !expected[part].as_array().unwrap().contains(line)).collect();
        let told: Vec<String> = sandbox
            .keys()
            .iter()
            .map(|key| sandbox.status(&format!("runner/{key}")).to_string())
            .collect();
        assert!(left.is_empty(), "{part}: {left:#?}\n{told:#?}");
    }
    assert_eq!(found, expected);
}

/// One way out: a settled runner whose rule is taken away, with a grace of minutes.
async fn leaving() -> Sandbox {
    leaving_at(Clock::frozen(START.parse().unwrap()), None).await
}

/// The same under a clock that the test has too, and heard by it where it listens.
pub(crate) async fn leaving_at(clock: Clock, heard: Option<Heard>) -> Sandbox {
    let short = |file: String| file.replace("guardrails:\n", "guardrails:\n  grace: 2m\n");
    let sandbox = Sandbox::at(&short(only("payments")), clock, heard).await;
    let (sandbox, _) = settled_in(sandbox).await;
    sandbox.deploy(&short(only("nobody"))).await;
    sandbox
}

/// Sweeps until nothing is left to take away; what is parked is due again within that time.
pub(crate) async fn go(sandbox: &Sandbox) {
    for _ in 0..4 {
        assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
        let settled = sandbox.world.settle(SignedDuration::from_hours(3)).await;
        settled.unwrap_or_else(|error| panic!("{error}"));
        sandbox.pass(SignedDuration::from_mins(11)).await;
    }
}

/// The process dies around each call of a removal that writes, and at each different read.
#[test]
fn a_crash_around_any_call_leaves_nothing_behind() {
    let (expected, calls) = run(async {
        let sandbox = leaving().await;
        let before = sandbox.world.wire.calls().iter().filter(|call| call.is_ours()).count();
        go(&sandbox).await;
        assert_untouched(&sandbox).await;
        let calls = sandbox.world.wire.calls().into_iter().filter(Call::is_ours);
        (sandbox.inventory(), calls.skip(before).collect::<Vec<_>>())
    });
    assert!(calls.iter().filter(|call| call.method == "DELETE").count() >= 9, "{calls:#?}");
    check_all(&crashes(&calls), async |crash| {
        let sandbox = leaving().await;
        sandbox.world.wire.crash_at(crash.call, crash.moment);
        go(&sandbox).await;
        same(&sandbox, &sandbox.inventory(), &expected)
    });
}

pub(crate) fn deleted(sandbox: &Sandbox) -> Vec<String> {
    sandbox.own_writes().into_iter().filter(|call| call.contains(" DELETE ")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_rule_gives_any_more_rests_for_the_grace_and_then_goes_whole() {
    let (sandbox, group) = settled(&only("payments")).await;
    let (key, unit) = (format!("g{group}-plan"), format!("runner/g{group}-plan"));
    sandbox.assert_ready(&unit);
    sandbox.deploy(&only("nobody")).await;
    sandbox.sweep().await;
    let runner = sandbox.runner(&key);
    assert!(runner.paused, "{}", sandbox.story());
    assert!(runner.maintenance_note.starts_with("forerunner: leaving since "), "{runner:?}");
    assert_eq!(sandbox.replicas(&key), json!(0));
    assert_eq!(sandbox.ready(&unit).0, "Leaving");
    assert!(sandbox.ready(&unit).1.starts_with("leaving until 2026-12-03T"), "{}", sandbox.story());
    // A job can do nothing in Azure any more, and everything else can come back.
    let removed = deleted(&sandbox);
    assert!(removed.len() == 1 && removed[0].contains("/roleAssignments/"), "{removed:#?}");
    assert_eq!(sandbox.world.azure.identities().len(), 1);
    // It stays so.
    let writes = sandbox.own_writes().len();
    sandbox.leap_to(&days(6));
    sandbox.sweep().await;
    let renewed = sandbox.own_writes();
    assert_eq!(renewed.len(), writes + 1, "the permit alone: {:#?}", &renewed[writes..]);
    // The match returns: so does all of it.
    sandbox.deploy(&only("payments")).await;
    sandbox.sweep().await;
    sandbox.assert_ready(&unit);
    let runner = sandbox.runner(&key);
    assert!(!runner.paused && runner.maintenance_note.is_empty(), "{runner:?}");
    assert_eq!(sandbox.replicas(&key), json!(1));
    // And leaves again, this time for good.
    sandbox.deploy(&only("nobody")).await;
    sandbox.sweep().await;
    assert!(sandbox.ready(&unit).1.starts_with("leaving until 2026-12-07T"), "{}", sandbox.story());
    sandbox.leap_to(&days(14));
    sandbox.sweep().await;
    assert_untouched(&sandbox).await;
    let order = deleted(&sandbox);
    let at = |part: &str| order.iter().rposition(|call| call.contains(part)).expect(part);
    assert!(at("/federatedIdentityCredentials/") < at("/namespaces/ci-nonprod"), "{order:#?}");
    assert!(at("/roleAssignments/") < at("/userAssignedIdentities/id-nonprod"), "{order:#?}");
    assert!(at("/deployments/") < at("/secrets/"), "{order:#?}");
    assert!(at("/runners/") > at("/secrets/") && at("/runners/") > at("/namespaces/ci-"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sweeps_and_two_rounds_at_once_do_no_harm() {
    let sandbox = leaving().await;
    let [unit] = &sandbox.keys().into_iter().collect::<Vec<_>>()[..] else { panic!("one runner") };
    let unit = format!("runner/{unit}");
    let (one, other) = (process(&sandbox), process(&sandbox));
    let (first, second) = tokio::join!(one.sweep(), other.sweep());
    for outcome in [first, second] {
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}\n{}", sandbox.story());
    }
    let ledger = sandbox.world.kubernetes.get("configmaps", "forerunner-nonprod", "ledger");
    let text = ledger.unwrap()["data"]["record.json"].as_str().unwrap().to_owned();
    assert_eq!(text.matches("unmatched").count(), 1, "one permit: {text}");
    let message = Message::wake(unit.parse().unwrap(), Reason::Sweep, "two-at-once".to_owned());
    for _ in 0..8 {
        let (first, second) = tokio::join!(one.round(&message), other.round(&message));
        for outcome in [first, second] {
            assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}\n{}", sandbox.story());
        }
        sandbox.pass(SignedDuration::from_mins(1)).await;
    }
    go(&sandbox).await;
    assert_untouched(&sandbox).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_job_is_waited_for() {
    let (sandbox, group) = settled(&only("payments")).await;
    let (key, unit) = (format!("g{group}-plan"), format!("runner/g{group}-plan"));
    let project = sandbox.world.gitlab.create_project(group, "ledger");
    let job = NewJob {
        tags: vec!["azure-plan".into()],
        script: vec!["sleep 1200".into()],
        ..NewJob::default()
    };
    let job = sandbox.world.gitlab.create_job(project, job);
    sandbox.pass(SignedDuration::from_secs(10)).await;
    let status = |sandbox: &Sandbox| sandbox.world.gitlab.job(job).unwrap().status;
    assert_eq!(status(&sandbox), JobStatus::Running, "{}", sandbox.story());
    sandbox.deploy(&only("nobody")).await;
    assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
    sandbox.pass_minutes(10).await;
    assert!(deleted(&sandbox).is_empty(), "{:#?}", deleted(&sandbox));
    assert!(sandbox.runner(&key).paused && sandbox.ready(&unit).0 == "Leaving");
    assert_eq!(status(&sandbox), JobStatus::Running, "nobody cut it off");
    sandbox.pass_minutes(15).await;
    assert_eq!(status(&sandbox), JobStatus::Success, "{}", sandbox.story());
    sandbox.settle().await;
    assert_eq!(deleted(&sandbox).len(), 1, "the role goes: {:#?}", deleted(&sandbox));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_the_brake_lets_go_stays_and_is_told() {
    let file = plain_fleet_for;
    let sandbox = Sandbox::new(&file("*")).await;
    for name in ["one", "two", "three"] {
        sandbox.world.gitlab.create_group(Some(42), name);
    }
    sandbox.settle().await;
    sandbox.leap_to(&days(2));
    sandbox.deploy(&file("nobody")).await;
    sandbox.sweep().await;
    sandbox.leap_to(&days(20));
    sandbox.sweep().await;
    assert!(deleted(&sandbox).is_empty(), "{:#?}", deleted(&sandbox));
    assert!(sandbox.world.gitlab.runners().iter().all(|runner| !runner.paused));
    let plan = sandbox.world.kubernetes.get("configmaps", "forerunner-nonprod", "parked-plan");
    let plan = plan.expect("the plan is parked")["data"]["record.json"].to_string();
    assert!(plan.contains("unmatched") && plan.contains("runner/g"), "{plan}");
    // Before any unit, wherever the fleet is shown.
    let show = async |json: bool| {
        let arguments = StatusOf { json, ..StatusOf::default() };
        status::answer(&arguments, &sandbox.desk(), Colour::default()).await.out
    };
    let document: Value = serde_json::from_str(&show(true).await).unwrap();
    let (id, wants) = (&document["removals"]["id"], &document["removals"]["wants"]);
    assert_eq!(wants.as_object().map(serde_json::Map::len), Some(3), "{document}");
    let confirm = format!("forerunner send confirm --plan {}", id.as_str().unwrap());
    let shown = show(false).await;
    let held = shown.find("3 unit(s) want removal and the brake lets 2 go in 24 hours");
    assert!(held.is_some() && held < shown.find("runner/g"), "{shown}");
    assert!(shown.contains(&confirm), "{shown}");
    let address = sandbox.world.address("host").unwrap();
    let get = async |accept: &str| {
        let request = client().get(format!("http://{address}/api/fleet")).header("accept", accept);
        let answer = request.header("x-functions-key", FUNCTION_KEY).send().await.unwrap();
        answer.text().await.unwrap()
    };
    let told: Value = serde_json::from_str(&get("application/json").await).unwrap();
    assert_eq!(told["removals"], document["removals"]);
    let page = get("text/html").await;
    let held = page.find(&confirm);
    assert!(held.is_some() && held < page.find("runner/g"), "{page}");
    // One is wanted again: two may go.
    sandbox.deploy(&file("one")).await;
    sandbox.sweep().await;
    let paused = sandbox.world.gitlab.runners().iter().filter(|runner| runner.paused).count();
    assert_eq!(paused, 2, "{}", sandbox.story());
    assert!(
        sandbox.world.kubernetes.get("configmaps", "forerunner-nonprod", "parked-plan").is_none()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_did_not_see_the_whole_fleet_permits_nothing() {
    let (sandbox, group) = settled(&only("payments")).await;
    let (key, unit) = (format!("g{group}-plan"), format!("runner/g{group}-plan"));
    sandbox.deploy(&only("nobody")).await;
    for (service, path) in [
        (Service::Arm, "/roleAssignments"),
        (Service::Arm, "/userAssignedIdentities"),
        (Service::Gitlab, "/api/graphql"),
    ] {
        let what = What::Answer { status: 503, headers: vec![], body: "<html>".into() };
        let fault = Fault { service, method: None, path: path.to_owned(), times: 4, what };
        sandbox.world.wire.add_fault(fault);
        sandbox.sweep().await;
        assert_eq!(sandbox.ready(&unit).0, "NotWanted", "{path}\n{}", sandbox.story());
        sandbox.world.wire.clear_faults();
    }
    assert!(!sandbox.runner(&key).paused);
    sandbox.sweep().await;
    assert_eq!(sandbox.ready(&unit).0, "Leaving", "{}", sandbox.story());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_young_or_lost_permits_nothing_for_a_day() {
    let sandbox = Sandbox::new(&only("payments")).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    let unit = format!("runner/g{group}-plan");
    sandbox.settle().await;
    sandbox.deploy(&only("nobody")).await;
    sandbox.sweep().await;
    let (reason, message) = sandbox.ready(&unit);
    assert_eq!(reason, "NotWanted");
    assert!(message.ends_with("until a sweep permits its removal"), "{message}");
    sandbox.leap_to(&days(2));
    sandbox.world.kubernetes.delete_as_admin("configmaps", "forerunner-nonprod", "ledger");
    sandbox.sweep().await;
    assert_eq!(sandbox.ready(&unit).0, "NotWanted");
    sandbox.leap_to(&days(4));
    sandbox.sweep().await;
    assert_eq!(sandbox.ready(&unit).0, "Leaving", "{}", sandbox.story());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_protected_stays_whatever_the_rules_say() {
    let protect = |file: String| file.replace("  plan: { ", "  plan: { protect: true, ");
    let (sandbox, group) = settled(&protect(only("payments"))).await;
    let unit = format!("runner/g{group}-plan");
    sandbox.deploy(&protect(only("nobody"))).await;
    sandbox.sweep().await;
    sandbox.leap_to(&days(20));
    sandbox.sweep().await;
    assert!(sandbox.ready(&unit).1.contains("`protect: true` keeps it"), "{}", sandbox.story());
    assert!(deleted(&sandbox).is_empty() && !sandbox.runner(&format!("g{group}-plan")).paused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaves_in_a_freeze() {
    let freeze = |file: String| {
        file.replace(
            "guardrails:\n",
            "guardrails:\n  freeze: [{ from: 2026-11-25, to: 2026-11-30, allow: [restore] }]\n",
        )
    };
    let (sandbox, group) = settled(&only("payments")).await;
    let unit = format!("runner/g{group}-plan");
    sandbox.deploy(&freeze(only("nobody"))).await;
    sandbox.sweep().await;
    assert!(sandbox.ready(&unit).1.contains("guardrails.freeze"), "{:?}", sandbox.ready(&unit));
    assert!(!sandbox.runner(&format!("g{group}-plan")).paused);
    sandbox.leap_to("2026-12-01T08:00:00Z");
    sandbox.sweep().await;
    assert_eq!(sandbox.ready(&unit).0, "Leaving", "{}", sandbox.story());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_group_takes_its_runner_along_after_the_grace() {
    let (sandbox, group) = settled(&only("*")).await;
    sandbox.world.gitlab.create_group(Some(42), "other");
    sandbox.settle().await;
    let unit = format!("runner/g{group}-plan");
    let before = sandbox.inventory();
    sandbox.world.gitlab.destroy_group(group);
    sandbox.settle().await;
    assert_eq!(sandbox.ready(&unit).0, "LostSightOf", "one 404 proves nothing");
    assert!(deleted(&sandbox).is_empty());
    sandbox.pass_minutes(10).await;
    sandbox.sweep().await;
    assert_eq!(sandbox.ready(&unit).0, "Leaving", "{}", sandbox.story());
    sandbox.leap_to(&days(12));
    sandbox.sweep().await;
    let after = sandbox.inventory();
    assert!(!after.to_string().contains(&format!("g{group}-plan")), "{after:#}");
    assert!(before["identities"].as_array().unwrap().len() == 2);
    assert_eq!(after["identities"].as_array().unwrap().len(), 1, "the other stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_whose_marker_was_edited_away_goes_with_its_unit_as_our_token_is_its() {
    let (sandbox, group) = settled(&only("*")).await;
    let other = sandbox.world.gitlab.create_group(Some(42), "other");
    sandbox.settle().await;
    let runner = sandbox.runner(&format!("g{group}-plan")).id;
    let edit = RunnerEdit { description: Some("mine".into()), ..RunnerEdit::default() };
    sandbox.deploy(&only("other")).await;
    sandbox.world.gitlab.edit_runner(runner, edit);
    for day in [3, 4, 14, 15] {
        sandbox.leap_to(&days(day));
        sandbox.sweep().await;
    }
    assert_eq!(sandbox.world.gitlab.runners().len(), 1, "{:?}", sandbox.world.gitlab.runners());
    assert_eq!(sandbox.keys().into_iter().collect::<Vec<_>>(), [format!("g{other}-plan")]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_our_token_lost_sight_of_is_kept() {
    // An owner of the anchor that is made a guest elsewhere: 404, and nobody told of an end.
    let sandbox = Sandbox::new(&only("*")).await;
    let gitlab = &sandbox.world.gitlab;
    let owner = gitlab.add_user("fleet-owner", false);
    gitlab.add_group_member(42, owner, 50);
    let (one, _other) =
        (gitlab.create_group(Some(42), "payments"), gitlab.create_group(Some(42), "other"));
    sandbox.settle().await;
    let token = gitlab.create_access_token(owner, &["api", "create_runner", "manage_runner"]);
    sandbox.world.azure.set_secret("kv-fleet", "gitlab-token", &token);
    sandbox.deploy(&only("*")).await;
    sandbox.leap_to(&days(2));
    let unit = format!("runner/g{one}-plan");
    let top = gitlab.create_group(None, "elsewhere");
    sandbox.lose_hooks();
    gitlab.transfer_group(one, Some(top));
    for day in [2, 3, 20] {
        sandbox.leap_to(&days(day));
        sandbox.sweep().await;
        assert_eq!(sandbox.ready(&unit).0, "LostSightOf", "{}", sandbox.story());
    }
    assert!(deleted(&sandbox).is_empty(), "{:#?}", deleted(&sandbox));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_with_a_right_that_we_did_not_give_is_a_persons_to_delete() {
    let (sandbox, group) = settled(&only("payments")).await;
    let unit = format!("runner/g{group}-plan");
    let identity = sandbox.world.azure.identities().remove(0);
    let reader = crate::deeds::READER.parse().unwrap();
    sandbox.world.azure.assign_role(
        "/subscriptions/00000000-0000-4000-8000-00000000f00d",
        reader,
        identity.principal_id,
        None,
    );
    sandbox.deploy(&only("nobody")).await;
    sandbox.sweep().await;
    sandbox.leap_to(&days(14));
    sandbox.sweep().await;
    assert_eq!(sandbox.world.azure.identities().len(), 1, "{}", sandbox.story());
    assert!(sandbox.world.gitlab.runners().is_empty(), "the rest goes");
    assert!(sandbox.world.azure.credentials(&identity.id).is_empty(), "nobody signs in by it");
    let needs = sandbox.condition(&unit, "NeedsAdministrator");
    assert!(needs["message"].is_string(), "{}\n{}", sandbox.status(&unit), sandbox.story());
    assert!(needs["message"].as_str().unwrap().contains("az identity delete --ids"), "{needs}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_existing_identity_loses_our_credential_and_nothing_else() {
    let id = "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-people/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-tf";
    let file = |name: &str| {
        fleet(&format!(
            "rules:\n  - {{ match: {{ groups: 'platform/{name}' }}, profiles: [tf] }}\nprofiles:\n  tf: {{ runner: {{ tags: [tf] }}, identity: {{ existing: [{id}], expect: [{{ role: Reader, scope: {APP} }}] }} }}\n"
        ))
    };
    let (sandbox, group) = settled(&file("payments")).await;
    let truth = Truth { sessions_are_sure: true, deletions: (10, 20), ..Truth::default() };
    let recorder = Recorder::watch(&sandbox, truth);
    let unit = format!("runner/g{group}-tf");
    assert_eq!(sandbox.world.azure.credentials(id).len(), 1, "{}", sandbox.story());
    sandbox.deploy(&file("nobody")).await;
    sandbox.sweep().await;
    sandbox.leap_to(&days(14));
    sandbox.sweep().await;
    assert!(sandbox.world.azure.credentials(id).is_empty(), "{}", sandbox.story());
    assert_eq!(sandbox.world.azure.identities().len(), 1, "the identity is an administrator's");
    let writers = recorder.broken(&sandbox).into_iter();
    let others: Vec<_> = writers.filter(|line| line.starts_with("a unit has one writer")).collect();
    assert_eq!(others, [""; 0], "its own round alone writes its credentials");
    assert!(sandbox.status(&unit).is_null() && sandbox.world.gitlab.runners().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_domain_goes_after_its_last_runner() {
    let shared = |name: &str, profile: &str| {
        fleet(&format!(
            "rules:\n  - {{ match: {{ groups: 'platform/{name}' }}, profiles: [{profile}] }}\nprofiles:\n{PLAIN}{}",
            if profile == "plain" {
                String::new()
            } else {
                plan_profile().replace("  plan: { ", "  plan: { isolation: profile, ")
            }
        ))
    };
    let (sandbox, _) = settled(&shared("payments", "plan")).await;
    assert!(sandbox.is_ready("domain/plan"), "{}", sandbox.story());
    sandbox.deploy(&shared("nobody", "plain")).await;
    sandbox.sweep().await;
    for day in [14, 15, 23] {
        sandbox.leap_to(&days(day));
        sandbox.sweep().await;
    }
    assert_untouched(&sandbox).await;
}
