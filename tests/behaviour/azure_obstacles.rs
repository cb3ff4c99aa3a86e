//! Whole rounds where a policy, a lock, a revoked token or a slow write stands in the way.

use crate::{
    deeds::{fleet, plan_fleet, plan_profile},
    harness::Sandbox,
};
use forerunner::sandbox::{azure::Lock, wire::Service};
use std::time::Duration;

const IDENTITY: &str = "Microsoft.ManagedIdentity/userAssignedIdentities";
const IDENTITIES: &str =
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
async fn a_policy_or_a_lock_parks_with_its_remedy_and_is_over_when_it_goes() {
    let check = async |hinder: fn(&Sandbox), words: &[&str]| {
        let sandbox = Sandbox::new(&plan_fleet()).await;
        hinder(&sandbox);
        let group = sandbox.world.gitlab.create_group(Some(42), "payments");
        sandbox.settle().await;
        let unit = format!("runner/g{group}-plan");
        assert!(sandbox.is_parked(&unit), "{words:?}: {}", sandbox.status(&unit));
        let parked = sandbox.status(&unit)["parked"].to_string();
        for words in words {
            assert!(parked.contains(words), "no `{words}` in {parked}");
        }
        assert_eq!(tries(&sandbox, "PUT", "/userAssignedIdentities/"), 1, "asking again is idle");
        assert_eq!(sandbox.world.azure.identities(), []);
        sandbox.world.azure.clear_obstacles();
        sandbox.pass_minutes(45).await;
        sandbox.assert_ready(&unit);
    };
    check(
        |sandbox| sandbox.world.azure.deny_by_policy(IDENTITIES, "require-cost-center"),
        &["RequestDisallowedByPolicy", "require-cost-center", "az policy exemption create"],
    )
    .await;
    check(
        |sandbox| sandbox.world.azure.lock(IDENTITIES, Lock::ReadOnly),
        &["ScopeLocked", "resource lock", "az lock delete"],
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
