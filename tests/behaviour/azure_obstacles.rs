//! Whole rounds where a policy, a lock, a revoked token or a slow write stands in the way.

use crate::{
    deeds::{fleet, plan_fleet, plan_profile},
    harness::Sandbox,
};
use forerunner::sandbox::{azure::Lock, wire::Service};
use std::time::Duration;

const IDENTITY: &str = "Microsoft.ManagedIdentity/userAssignedIdentities";
pub(crate) const IDENTITIES: &str =
    "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-runner-identities";

/// How often forerunner tried the write, and what the messages that woke it said of its attempts.
fn tries(sandbox: &Sandbox, method: &str, path: &str) -> usize {
    let calls = sandbox.world.wire.calls();
    let ours = calls.iter().filter(|call| call.is_ours() && call.service == Service::Arm);
    ours.filter(|call| call.method == method && call.path.contains(path)).count()
}

/// Twice: it is made, and tagged later. Together that is less than a unit may wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_goes_on_for_long_is_waited_for_and_counts_as_no_attempt() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    sandbox.world.azure.slow_down(IDENTITY, Duration::from_mins(25));
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    let unit = format!("runner/g{group}-plan");
    sandbox.pass_minutes(20).await;
    assert!(!sandbox.is_parked(&unit), "{}\n{}", sandbox.status(&unit), sandbox.story());
    assert_eq!(sandbox.ready(&unit).0, "Progressing", "{}", sandbox.status(&unit));
    let failure = sandbox.status(&unit)["rounds"].to_string();
    assert!(!failure.contains("still busy"), "a wait is no failure: {failure}");
    let asked = tries(&sandbox, "PUT", "/userAssignedIdentities/");
    assert!(asked > 8, "it looked again and again: {asked}");
    sandbox.settle().await;
    sandbox.assert_ready(&unit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_never_ends_is_parked_at_the_deadline_of_waits() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    sandbox.world.azure.slow_down(IDENTITY, Duration::from_hours(1000));
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    let unit = format!("runner/g{group}-plan");
    sandbox.pass_minutes(75).await;
    assert!(sandbox.is_parked(&unit), "{}\n{}", sandbox.status(&unit), sandbox.story());
    let (_, message) = sandbox.ready(&unit);
    let parked = sandbox.status(&unit)["parked"].to_string();
    for words in ["waited until", "Azure is still busy with identity"] {
        assert!(parked.contains(words), "no `{words}` in {parked} ({message})");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_a_lock_or_a_deny_assignment_is_an_administrators_step_and_never_parked() {
    let check = async |hinder: fn(&Sandbox), reason: &str, words: &[&str]| {
        let sandbox = Sandbox::new(&plan_fleet()).await;
        hinder(&sandbox);
        let group = sandbox.world.gitlab.create_group(Some(42), "payments");
        sandbox.settle().await;
        let unit = format!("runner/g{group}-plan");
        assert!(!sandbox.is_parked(&unit), "{reason}: {}", sandbox.status(&unit));
        assert_eq!(sandbox.ready(&unit).0, reason, "{}", sandbox.status(&unit));
        let told = sandbox.condition(&unit, "NeedsAdministrator");
        assert_eq!((&told["reason"], &told["status"]), (&reason.into(), &true.into()), "{told}");
        for words in words {
            let message = told["message"].as_str().unwrap();
            assert!(message.contains(words), "no `{words}` in {message}");
        }
        assert_eq!(tries(&sandbox, "PUT", "/userAssignedIdentities/"), 1, "asking again is idle");
        assert_eq!(sandbox.world.azure.identities(), []);
        // Followed up by each sweep, and no more than once.
        sandbox.sweep().await;
        assert_eq!(tries(&sandbox, "PUT", "/userAssignedIdentities/"), 2);
        let status = sandbox.status(&unit);
        sandbox.sweep().await;
        assert_eq!(sandbox.status(&unit), status, "nothing new is said");
        sandbox.world.azure.clear_obstacles();
        sandbox.pass_minutes(15).await;
        sandbox.assert_ready(&unit);
        assert!(sandbox.condition(&unit, "NeedsAdministrator").is_null());
    };
    check(
        |sandbox| sandbox.world.azure.deny_by_policy(IDENTITIES, "require-cost-center"),
        "PolicyDenied",
        &["az policy exemption create", "require-cost-center", IDENTITIES],
    )
    .await;
    check(
        |sandbox| sandbox.world.azure.lock(IDENTITIES, Lock::ReadOnly),
        "ScopeLocked",
        &[
            "az lock delete --ids",
            "/resourcegroups/rg-runner-identities/providers/Microsoft.Authorization/locks",
        ],
    )
    .await;
    check(
        |sandbox| sandbox.world.azure.deny_by_assignment(IDENTITIES, "of-the-blueprint"),
        "DenyAssignment",
        &["of-the-blueprint"],
    )
    .await;
}

/// Of a lock that only keeps things from being deleted, a runner that is made meets nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_against_deletion_keeps_nothing_from_being_made() {
    let sandbox = Sandbox::new(&fleet(&format!(
        "rules:\n  - {{ match: {{ groups: 'platform/*' }}, profiles: [plan] }}\nprofiles:\n{}",
        plan_profile()
    )))
    .await;
    sandbox.world.azure.lock(IDENTITIES, Lock::CannotDelete);
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.assert_ready(&format!("runner/g{group}-plan"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_arm_no_longer_takes_is_replaced_within_the_call() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    let first = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.assert_ready(&format!("runner/g{first}-plan"));
    sandbox.world.azure.challenge_tokens();
    sandbox.world.wire.forget_calls();
    let second = sandbox.world.gitlab.create_group(Some(42), "network");
    sandbox.settle().await;
    sandbox.assert_ready(&format!("runner/g{second}-plan"));
    let calls = sandbox.world.wire.calls();
    let refused = calls
        .iter()
        .filter(|call| call.is_ours() && call.service == Service::Arm && call.status == Some(401));
    let refused = refused.count();
    assert!((1..=4).contains(&refused), "once for each call that was under way: {refused}");
}
