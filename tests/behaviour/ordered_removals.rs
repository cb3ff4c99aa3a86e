//! What an operator told to remove goes at once, however long it takes, and nothing of it is given back meanwhile.

use crate::{
    azure_obstacles::IDENTITIES,
    commands::{settled, settled_with, shared_fleet},
    deeds::plan_fleet,
    harness::START,
};
use forerunner::sandbox::{azure::Lock, gitlab::RunnerEdit};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_by_command_goes_at_once_and_is_not_made_again_that_day() {
    let (sandbox, key, unit) = settled().await;
    let other = sandbox.world.gitlab.create_group(Some(42), "other");
    sandbox.settle().await;
    let mut order = json!({"command": "remove", "targets": ["platform/pay*"], "by": "jane", "why": "SEC-1", "dryRun": true});
    sandbox.order("approvals", &order);
    sandbox.settle().await;
    assert_eq!(sandbox.kept(), 1, "`pay*` is no pattern");
    order["targets"] = json!(["platform/payments"]);
    sandbox.order("approvals", &order);
    sandbox.settle().await;
    assert!(!sandbox.runner(&key).paused, "a dry run does nothing");
    order["dryRun"] = json!(false);
    sandbox.order("commands", &order);
    sandbox.settle().await;
    assert!(!sandbox.runner(&key).paused, "it came by the wrong door");
    assert_eq!(sandbox.kept(), 2);
    sandbox.order("approvals", &order);
    sandbox.settle().await;
    assert_eq!(sandbox.keys().into_iter().collect::<Vec<_>>(), [format!("g{other}-plan")]);
    assert!(sandbox.status(&unit).is_null(), "{}", sandbox.status(&unit));
    assert_eq!(sandbox.world.azure.identities().len(), 1);
    sandbox.sweep().await;
    assert_eq!(sandbox.keys().len(), 1, "the file still gives it, and it is gone for a day");
    sandbox.leap_to("2026-11-25T20:00:00Z");
    sandbox.sweep().await;
    assert_eq!(sandbox.keys().len(), 2, "then it is made anew");
}

/// Whatever keeps it from being done today: a job that runs for longer than a day, an administrator's lock, another's hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_by_command_holds_until_it_is_done() {
    let (sandbox, key, unit) = settled().await;
    sandbox.world.managers.rest_between(SignedDuration::from_hours(1));
    sandbox.world.azure.lock(IDENTITIES, Lock::CannotDelete);
    let order = json!({"command": "remove", "targets": ["platform/payments"], "by": "jane", "why": "SEC-1"});
    sandbox.order("approvals", &order);
    sandbox.settle().await;
    let start: Timestamp = START.parse().unwrap();
    let sweep_after = async |hours| {
        sandbox.leap_to(&(start + SignedDuration::from_hours(hours)).to_string());
        sandbox.sweep().await;
    };
    for hours in [13, 26, 39, 52] {
        sweep_after(hours).await;
        assert_eq!(sandbox.ready(&unit).0, "ScopeLocked", "{hours} h: {}", sandbox.status(&unit));
        assert!(sandbox.runner(&key).paused, "{hours} h: it stays closed");
    }
    let until = start + SignedDuration::from_hours(85);
    let hold = json!({"command": "hold", "targets": ["all"], "by": "joe", "why": "SEC-2", "until": until.to_string()});
    sandbox.order("approvals", &hold);
    sandbox.settle().await;
    for hours in [62, 72, 82] {
        sweep_after(hours).await;
        assert_eq!(sandbox.ready(&unit).0, "Held", "{hours} h: {}", sandbox.status(&unit));
    }
    sandbox.world.azure.clear_obstacles();
    sweep_after(86).await;
    assert!(sandbox.status(&unit).is_null(), "{}", sandbox.status(&unit));
    assert!(sandbox.world.azure.identities().is_empty());
    sweep_after(120).await;
    sandbox.assert_ready(&unit);
}

/// Nobody waits for the next sweep, or for the domain's own next look.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_domain_goes_when_its_last_runner_does() {
    let (sandbox, key, _) = settled_with(&shared_fleet()).await;
    let order = json!({"command": "remove", "targets": ["all"], "by": "jane", "why": "SEC-1"});
    sandbox.order("approvals", &order);
    sandbox.settle().await;
    let deleted = |part: &str| sandbox.first_call("DELETE", part).unwrap();
    let manager = deleted(&format!("/deployments/runner-{key}"));
    let domain = deleted("/userAssignedIdentities/id-nonprod--domain-plan");
    assert!(domain.duration_since(manager) < SignedDuration::from_mins(1), "{}", sandbox.story());
}

/// Nothing is given back meanwhile, though the file still gives it and the freeze allows to restore.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_by_command_goes_on_when_a_freeze_ends() {
    for (file, shared) in [(plan_fleet(), None), (shared_fleet(), Some("domain/plan"))] {
        let (sandbox, key, unit) = settled_with(&file).await;
        sandbox.world.managers.rest_between(SignedDuration::from_hours(1));
        sandbox.world.azure.lock(IDENTITIES, Lock::CannotDelete);
        let order = json!({"command": "remove", "targets": ["all"], "by": "jane", "why": "SEC-1"});
        sandbox.order("approvals", &order);
        sandbox.settle().await;
        let (runners, rights) = (sandbox.keys(), sandbox.world.azure.assignments());
        let freeze = "  freeze: [{ from: 2026-11-24, to: 2026-11-26, allow: [restore, revoke] }]\n";
        sandbox.deploy(&format!("{file}{freeze}")).await;
        let start: Timestamp = START.parse().unwrap();
        for hours in [13, 26, 39, 52] {
            sandbox.leap_to(&(start + SignedDuration::from_hours(hours)).to_string());
            sandbox.wake(&unit);
            sandbox.sweep().await;
            assert_eq!(sandbox.world.azure.identities().len(), 1, "{hours} h");
            assert_eq!(sandbox.world.azure.assignments(), rights, "{hours} h");
            assert_eq!(sandbox.keys(), runners, "{hours} h");
            assert!(runners.is_empty() || sandbox.runner(&key).paused, "{hours} h");
            let last = shared.unwrap_or(&unit);
            assert_eq!(sandbox.ready(last).0, "RemovalPutOff", "{hours} h");
        }
        sandbox.world.azure.clear_obstacles();
        sandbox.leap_to("2026-11-27T00:10:00Z");
        sandbox.sweep().await;
        for unit in shared.into_iter().chain([unit.as_str()]) {
            assert!(sandbox.status(unit).is_null(), "{}", sandbox.status(unit));
        }
        assert!(sandbox.world.azure.identities().is_empty());
    }
}

/// A permit counts for a day, and nobody renewed it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_no_sweep_renewed_in_a_freeze_is_forgotten() {
    let (sandbox, key, unit) = settled_with(&shared_fleet()).await;
    let freeze = "  freeze: [{ from: 2026-11-24, to: 2026-11-26, allow: [restore, revoke] }]\n";
    sandbox.deploy(&format!("{}{freeze}", shared_fleet())).await;
    let order = json!({"command": "remove", "targets": ["all"], "by": "jane", "why": "SEC-1"});
    sandbox.order("approvals", &order);
    sandbox.settle().await;
    assert!(sandbox.runner(&key).paused);
    for unit in [&unit, "domain/plan"] {
        assert_eq!(sandbox.ready(unit).0, "RemovalPutOff");
    }
    sandbox.leap_to("2026-11-27T00:10:00Z");
    sandbox.sweep().await;
    sandbox.assert_ready(&unit);
    sandbox.assert_ready("domain/plan");
}

/// The target may be destroyed, or only hidden: then its runner is still there, and soon nothing would name it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_by_command_waits_for_a_runner_that_gitlab_hides() {
    let (sandbox, key, unit) = settled().await;
    let (gitlab, runner) = (&sandbox.world.gitlab, sandbox.runner(&key).id);
    let edit = RunnerEdit { description: Some("mine".into()), ..RunnerEdit::default() };
    gitlab.edit_runner(runner, edit);
    sandbox.lose_hooks();
    let outside = gitlab.create_group(None, "elsewhere");
    gitlab.transfer_group(key[1..].split('-').next().unwrap().parse().unwrap(), Some(outside));
    gitlab.set_admin(gitlab.admin_user(), false);
    let order = json!({"command": "remove", "targets": ["all"], "by": "jane", "why": "SEC-1"});
    sandbox.order("approvals", &order);
    sandbox.pass(SignedDuration::from_hours(1)).await;
    let (reason, message) = sandbox.ready(&unit);
    assert!(reason == "Leaving" && message.contains("GitLab hides"), "{reason}: {message}");
    assert_eq!(sandbox.replicas(&key), 0);
    gitlab.set_admin(gitlab.admin_user(), true);
    sandbox.settle().await;
    assert!(gitlab.runner(runner).is_none(), "{}", sandbox.story());
    assert!(sandbox.status(&unit).is_null(), "{}", sandbox.status(&unit));
    assert!(sandbox.world.azure.identities().is_empty());
}
