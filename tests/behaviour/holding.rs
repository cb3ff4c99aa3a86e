//! Runners that must not serve for now are paused and scaled to zero, kept whole, and brought back.

use crate::{
    deeds::{APP, PLAIN, fleet, plain_fleet, plan_fleet, plan_profile},
    harness::Sandbox,
    removal::{days, only, settled},
};
use forerunner::sandbox::gitlab::RunnerEdit;
use serde_json::{Value, json};

/// What there is, whether or not it is paused.
fn kept(sandbox: &Sandbox) -> Value {
    let mut all = sandbox.inventory();
    let unpaused = |line: &Value| {
        json!(line.as_str().unwrap().replace("paused=true", "").replace("paused=false", ""))
    };
    let runners = all["runners"].as_array().unwrap().iter().map(unpaused).collect();
    all["runners"] = Value::Array(runners);
    all
}

struct Case {
    name: &'static str,
    reason: &'static str,
    fleet: String,
    /// Gets the group and the one above it.
    hold: fn(&Sandbox, u64, u64),
    /// What the file says meanwhile, where it is the file that holds.
    held: Option<String>,
    release: fn(&Sandbox, u64, u64),
}

async fn check(case: Case) {
    let Case { name, reason, fleet, hold, held, release } = case;
    let sandbox = Sandbox::new(&fleet).await;
    let parent = sandbox.world.gitlab.create_group(Some(42), "team");
    let group = sandbox.world.gitlab.create_group(Some(parent), "payments");
    sandbox.settle().await;
    let keys = sandbox.keys();
    let [key] = keys.iter().collect::<Vec<_>>()[..] else { panic!("{name}: {keys:?}") };
    let unit = format!("runner/{key}");
    sandbox.assert_ready(&unit);
    let before = kept(&sandbox);
    let writes = sandbox.own_writes().len();
    hold(&sandbox, group, parent);
    if let Some(held) = &held {
        sandbox.deploy(held).await;
        sandbox.sweep().await;
    }
    sandbox.settle().await;
    let runner = sandbox.runner(key);
    assert!(runner.paused, "{name}: {runner:?}\n{}", sandbox.story());
    assert!(runner.maintenance_note.starts_with("forerunner: paused, "), "{name}: {runner:?}");
    assert_eq!(sandbox.replicas(key), json!(0), "{name}");
    assert_eq!(sandbox.ready(&unit).0, reason, "{name}");
    assert!(!sandbox.is_parked(&unit), "{name}: a state to wait in");
    assert_eq!(kept(&sandbox), before, "{name}: nothing is deleted, nothing made");
    let held_writes = sandbox.own_writes();
    // Pause, scale to zero, and the status: why it is held, and that there is nothing left to do.
    assert_eq!(held_writes.len() - writes, 4, "{name}: {held_writes:#?}");
    // It stays so, without another write.
    sandbox.sweep().await;
    assert_eq!(sandbox.own_writes().len(), held_writes.len(), "{name}");
    release(&sandbox, group, parent);
    if held.is_some() {
        sandbox.deploy(&fleet).await;
        sandbox.sweep().await;
    }
    sandbox.settle().await;
    sandbox.assert_ready(&unit);
    let runner = sandbox.runner(key);
    assert!(!runner.paused && runner.maintenance_note.is_empty(), "{name}: {runner:?}");
    assert_eq!(sandbox.replicas(key), json!(1), "{name}");
    assert_eq!(kept(&sandbox), before, "{name}");
}

/// The only group two levels below `platform` gets the profile.
fn below(profile: &str) -> String {
    let name = profile.trim_start().split(':').next().unwrap();
    format!(
        "rules:\n  - {{ match: {{ groups: 'platform/*/*' }}, profiles: [{name}] }}\nprofiles:\n{profile}"
    )
}

fn nothing(_: &Sandbox, _: u64, _: u64) {}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archived_groups_rest_until_they_are_back() {
    check(Case {
        name: "archived",
        reason: "Archived",
        fleet: fleet(&below(&plan_profile())),
        hold: |sandbox, group, _| sandbox.world.gitlab.archive_group(group),
        held: None,
        release: |sandbox, group, _| sandbox.world.gitlab.unarchive_group(group),
    })
    .await;
    check(Case {
        name: "below an archived group",
        reason: "Archived",
        fleet: fleet(&below(PLAIN)),
        hold: |sandbox, _, parent| sandbox.world.gitlab.archive_group(parent),
        held: None,
        release: |sandbox, _, parent| sandbox.world.gitlab.unarchive_group(parent),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_scheduled_for_deletion_rest_until_they_are_restored() {
    check(Case {
        name: "scheduled",
        reason: "ScheduledForDeletion",
        fleet: fleet(&below(PLAIN)),
        hold: |sandbox, group, _| sandbox.world.gitlab.schedule_group_deletion(group),
        held: None,
        release: |sandbox, group, _| sandbox.world.gitlab.restore_group(group),
    })
    .await;
    check(Case {
        name: "scheduled, and moved where no rule matches",
        reason: "ScheduledForDeletion",
        fleet: fleet(&below(PLAIN)),
        hold: |sandbox, group, _| {
            sandbox.world.gitlab.schedule_group_deletion(group);
            sandbox.world.gitlab.transfer_group(group, None);
        },
        held: None,
        release: |sandbox, group, parent| {
            sandbox.world.gitlab.transfer_group(group, Some(parent));
            sandbox.world.gitlab.restore_group(group);
        },
    })
    .await;
    check(Case {
        name: "below a scheduled group",
        reason: "ScheduledForDeletion",
        fleet: fleet(&below(&plan_profile())),
        hold: |sandbox, _, parent| sandbox.world.gitlab.schedule_group_deletion(parent),
        held: None,
        release: |sandbox, _, parent| sandbox.world.gitlab.restore_group(parent),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_file_takes_back_rests_until_it_gives_it_again() {
    let (plain, plan) = (fleet(&below(PLAIN)), fleet(&below(&plan_profile())));
    check(Case {
        name: "withdrawn",
        reason: "Withdrawn",
        held: Some(plain.replace("rules:", "withdrawn: [{ group: 79, reason: SEC-1182 }]\nrules:")),
        fleet: plain,
        hold: nothing,
        release: nothing,
    })
    .await;
    // Whatever the rules say of the present path, and long before anything may be removed.
    let elsewhere = plan.replace("platform/*/*", "platform/nobody");
    let gone = plan.replace("platform/*/*", "platform/nobody").replace("plan: {", "other: {");
    for (name, file) in [
        ("withdrawn, and no rule matches it", elsewhere),
        ("withdrawn, and its profile is gone", gone.replace("[plan]", "[other]")),
    ] {
        check(Case {
            name,
            reason: "Withdrawn",
            held: Some(
                file.replace("rules:", "withdrawn: [{ group: 79, reason: SEC-1182 }]\nrules:"),
            ),
            fleet: plan.clone(),
            hold: nothing,
            release: nothing,
        })
        .await;
    }
    check(Case {
        name: "guardrails lowered",
        reason: "OutsideGuardrails",
        held: Some(plan.replace("roles: [Reader, Contributor, AcrPush]", "roles: [AcrPush]")),
        fleet: plan,
        hold: nothing,
        release: nothing,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_rests_when_its_exception_has_ended() {
    let file = |until: &str| {
        fleet(&format!(
            "rules:\n  - {{ match: {{ groups: 'platform/*/*' }}, profiles: [risky] }}\nprofiles:\n  risky: {{ runner: {{ tags: [x], protected: false }}, identity: {{ managed: {{ roles: [{{ role: Contributor, scope: {APP} }}] }} }}, exceptions: [{{ allow: unprotectedWriter, exception: CHG0012345, until: {until} }}] }}"
        ))
    };
    let sandbox = Sandbox::new(&file("2026-11-25")).await;
    let team = sandbox.world.gitlab.create_group(Some(42), "team");
    let group = sandbox.world.gitlab.create_group(Some(team), "payments");
    sandbox.settle().await;
    let (key, unit) = (format!("g{group}-risky"), format!("runner/g{group}-risky"));
    sandbox.assert_ready(&unit);
    sandbox.leap_to("2026-11-25T20:00:00Z");
    sandbox.sweep().await;
    sandbox.assert_ready(&unit);
    sandbox.leap_to("2026-11-26T20:00:00Z");
    sandbox.sweep().await;
    assert!(sandbox.runner(&key).paused, "{}", sandbox.story());
    assert_eq!(sandbox.replicas(&key), json!(0));
    assert_eq!(sandbox.ready(&unit).0, "ExceptionEnded");
    sandbox.deploy(&file("2026-12-31")).await;
    sandbox.sweep().await;
    sandbox.assert_ready(&unit);
    assert!(!sandbox.runner(&key).paused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persons_pause_is_kept_and_shown_through_a_hold_and_after_it() {
    let sandbox = Sandbox::new(&plain_fleet()).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let (key, unit) = (format!("g{group}-plain"), format!("runner/g{group}-plain"));
    let id = sandbox.runner(&key).id;
    let pause = RunnerEdit {
        paused: Some(true),
        maintenance_note: Some("on call knows".into()),
        ..RunnerEdit::default()
    };
    sandbox.world.gitlab.edit_runner(id, pause);
    sandbox.wake(&unit);
    sandbox.settle().await;
    assert_eq!(sandbox.condition(&unit, "Online")["reason"], json!("PausedByPerson"));
    assert_eq!(sandbox.ready(&unit).0, "PausedByPerson");
    sandbox.world.gitlab.archive_group(group);
    sandbox.settle().await;
    assert_eq!(sandbox.replicas(&key), json!(0));
    sandbox.world.gitlab.unarchive_group(group);
    sandbox.settle().await;
    let runner = sandbox.runner(&key);
    assert!(runner.paused && runner.maintenance_note == "on call knows", "{runner:?}");
    assert_eq!(sandbox.condition(&unit, "Online")["reason"], json!("PausedByPerson"));
    assert_eq!(sandbox.replicas(&key), json!(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_that_no_hook_announced_is_found_by_the_sweep() {
    let sandbox = Sandbox::new(&plain_fleet()).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let (key, unit) = (format!("g{group}-plain"), format!("runner/g{group}-plain"));
    sandbox.assert_ready(&unit);
    sandbox.lose_hooks();
    sandbox.world.gitlab.schedule_group_deletion(42);
    sandbox.sweep().await;
    assert!(sandbox.runner(&key).paused, "{}", sandbox.story());
    assert_eq!(sandbox.replicas(&key), json!(0));
    assert_eq!(sandbox.ready(&unit).0, "ScheduledForDeletion");
    sandbox.world.gitlab.restore_group(42);
    sandbox.sweep().await;
    sandbox.assert_ready(&unit);
    assert!(!sandbox.runner(&key).paused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_made_for_a_target_that_is_on_its_way_out() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    sandbox.lose_hooks();
    let groups =
        ["archived", "scheduled"].map(|name| sandbox.world.gitlab.create_group(Some(42), name));
    sandbox.world.gitlab.archive_group(groups[0]);
    sandbox.world.gitlab.schedule_group_deletion(groups[1]);
    sandbox.sweep().await;
    assert!(sandbox.keys().is_empty());
    assert!(sandbox.world.azure.identities().is_empty());
    assert_eq!(sandbox.ready(&format!("runner/g{}-plan", groups[0])).0, "Archived");
    assert_eq!(sandbox.ready(&format!("runner/g{}-plan", groups[1])).0, "ScheduledForDeletion");
}

/// The rules still give it: nothing is made again, and nothing is left to look at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_withdrawn_goes_whole_after_the_grace_and_is_let_alone_then() {
    let (sandbox, group) = settled(&only("payments")).await;
    let (key, unit) = (format!("g{group}-plan"), format!("runner/g{group}-plan"));
    let withdrawn = format!("withdrawn: [{{ group: {group}, reason: SEC-1182 }}]\nrules:");
    sandbox.deploy(&only("payments").replace("rules:", &withdrawn)).await;
    sandbox.sweep().await;
    assert_eq!(sandbox.ready(&unit).0, "Leaving", "{}", sandbox.status(&unit));
    sandbox.leap_to(&days(8));
    sandbox.sweep().await;
    assert!(sandbox.runner(&key).paused, "it rests for the grace");
    for day in [10, 11, 12, 13] {
        sandbox.leap_to(&days(day));
        sandbox.sweep().await;
    }
    assert!(sandbox.keys().is_empty() && sandbox.world.azure.identities().is_empty());
    sandbox.world.wire.forget_calls();
    sandbox.sweep().await;
    let calls = sandbox.own_calls();
    assert!(!calls.iter().any(|call| call.starts_with("ServiceBus")), "{calls:#?}");
    assert_eq!(sandbox.own_writes(), Vec::<String>::new());
    sandbox.deploy(&only("payments")).await;
    sandbox.sweep().await;
    sandbox.assert_ready(&unit);
}
