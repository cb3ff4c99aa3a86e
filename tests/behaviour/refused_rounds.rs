//! Whole rounds against services that refuse for a time: nothing is lost, nothing is made twice, and a person is told.

use crate::{
    deeds::{plain_fleet, plan_fleet},
    harness::Sandbox,
};
use forerunner::sandbox::wire::{Fault, Service, What};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn maintenance_of_gitlab_costs_time_and_nothing_else() {
    let sandbox = Sandbox::new(&plain_fleet()).await;
    let gitlab = &sandbox.world.gitlab;
    let first = gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.assert_ready(&format!("runner/g{first}-plain"));
    let secrets = || sandbox.world.kubernetes.list("secrets", "forerunner-nonprod");
    let (entities, kept) = (gitlab.runners().len(), secrets());

    gitlab.set_maintenance(true);
    let second = gitlab.create_group(Some(42), "billing");
    sandbox.wake(&format!("runner/g{first}-plain"));
    sandbox.pass_minutes(20).await;
    let unit = format!("runner/g{second}-plain");
    assert_eq!(gitlab.runners().len(), entities);
    assert_eq!(secrets(), kept, "the token that is there is not doubted");
    assert!(!sandbox.is_parked(&unit), "maintenance is waited for: {}", sandbox.status(&unit));

    gitlab.set_maintenance(false);
    sandbox.pass_minutes(15).await;
    sandbox.assert_ready(&unit);
    sandbox.assert_ready(&format!("runner/g{first}-plain"));
    assert_eq!(gitlab.runners().len(), entities + 1, "{}", sandbox.story());
}

/// What Azure answers while somebody has closed the subscription, the group or a policy on us.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_closes_azure_is_told_at_once_with_its_remedy_and_parked_unless_it_is_a_rule() {
    for (status, code, words, parked) in [
        (403, "RequestDisallowedByPolicy", "an Azure Policy forbids it", false),
        (409, "ScopeLocked", "a resource lock forbids it", false),
        (409, "MissingSubscriptionRegistration", "az provider register", true),
        (409, "ReadOnlyDisabledSubscription", "its owner has to enable it again", true),
    ] {
        let sandbox = Sandbox::new(&plan_fleet()).await;
        let body = json!({"error": {"code": code, "message": "the service's words"}}).to_string();
        sandbox.world.wire.add_fault(Fault {
            service: Service::Arm,
            method: Some("PUT"),
            path: "/userAssignedIdentities/".to_owned(),
            times: 10_000,
            what: What::Answer { status, headers: vec![], body },
        });
        let group = sandbox.world.gitlab.create_group(Some(42), "payments");
        sandbox.settle().await;
        let unit = format!("runner/g{group}-plan");
        assert_eq!(sandbox.is_parked(&unit), parked, "{code}");
        let (_, reason) = sandbox.ready(&unit);
        for part in [code, "the service's words", words] {
            assert!(reason.contains(part), "{code}: {reason}\n{}", sandbox.story());
        }
        let tried = sandbox.own_calls();
        let tried = tried.iter().filter(|call| {
            call.starts_with("Arm PUT") && call.contains("/userAssignedIdentities/")
        });
        assert_eq!(tried.count(), 1, "{code}: a person must act, so that it is asked once");
        sandbox.world.wire.clear_faults();
        sandbox.pass_minutes(25).await;
        sandbox.assert_ready(&unit);
    }
}
