//! The sweep makes the promise true that hooks make fast.

use crate::{
    deeds::{READER, fleet, plain_fleet, plan_fleet},
    harness::Sandbox,
};
use forerunner::{
    cli::{
        admin_steps::{self, AdminSteps},
        answer::Colour,
        status::{self, StatusOf},
    },
    sandbox::wire::{Fault, Service, What},
};
use serde_json::json;

const NO: fn() -> What =
    || What::Answer { status: 500, headers: vec![], body: "{\"message\":\"500\"}".into() };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_no_hook_announced_gets_its_runner() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    sandbox.lose_hooks();
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    assert!(sandbox.own_calls().iter().all(|call| !call.contains("/groups/")));
    // The timer's own time: ten minutes at most.
    sandbox.pass_minutes(15).await;
    sandbox.assert_ready(&format!("runner/g{group}-plan"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthy_runner_is_not_woken_and_a_round_of_it_writes_nothing() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let unit = format!("runner/g{group}-plan");
    sandbox.assert_ready(&unit);
    sandbox.world.wire.forget_calls();
    sandbox.sweep().await;
    let calls = sandbox.own_calls();
    assert!(calls.iter().any(|call| call.contains("/groups")), "it did look: {calls:#?}");
    assert!(!calls.iter().any(|call| call.starts_with("ServiceBus")), "{calls:#?}");
    assert_eq!(sandbox.own_writes(), Vec::<String>::new());
    sandbox.wake(&format!("target/g{group}"));
    sandbox.wake(&unit);
    sandbox.settle().await;
    let calls = sandbox.own_calls();
    assert!(calls.iter().any(|call| call.contains("/deployments/")), "a round ran: {calls:#?}");
    assert_eq!(sandbox.own_writes(), Vec::<String>::new(), "verify is one too");
    sandbox.assert_ready(&unit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_file_reaches_a_settled_runner_and_a_changed_comment_does_not() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.world.wire.forget_calls();
    sandbox.deploy(&format!("# reviewed\n{}", plan_fleet())).await;
    sandbox.sweep().await;
    let calls = sandbox.own_calls();
    assert!(!calls.iter().any(|call| call.starts_with("ServiceBus")), "{calls:#?}");
    sandbox.deploy(&plan_fleet().replace("tags: [azure-plan]", "tags: [azure-read]")).await;
    sandbox.sweep().await;
    let key = format!("g{group}-plan");
    assert_eq!(sandbox.runner(&key).tags, ["azure-read"]);
    sandbox.assert_ready(&format!("runner/{key}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_fails_half_way_wakes_nothing() {
    let sandbox = Sandbox::new(&plain_fleet()).await;
    let settled = sandbox.world.gitlab.create_group(Some(42), "settled");
    sandbox.settle().await;
    sandbox.lose_hooks();
    for number in 0..110 {
        sandbox.world.gitlab.create_group(None, &format!("elsewhere-{number}"));
    }
    let late = sandbox.world.gitlab.create_group(Some(42), "on-the-second-page");
    sandbox.world.wire.forget_calls();
    let fault = |service, path: &str| Fault {
        service,
        method: Some("GET"),
        path: path.into(),
        times: 1000,
        what: NO(),
    };
    for broken in [
        fault(Service::Gitlab, "page=2"),
        fault(Service::Gitlab, "/api/v4/groups?"),
        fault(Service::Kubernetes, "/configmaps?"),
    ] {
        let path = broken.path.clone();
        sandbox.world.wire.add_fault(broken);
        sandbox.sweep().await;
        sandbox.world.wire.clear_faults();
        let calls = sandbox.own_calls();
        assert!(!calls.iter().any(|call| call.starts_with("ServiceBus")), "{path}: {calls:#?}");
        assert_eq!(sandbox.own_writes(), Vec::<String>::new(), "{path}");
    }
    sandbox.assert_ready(&format!("runner/g{settled}-plain"));
    sandbox.sweep().await;
    sandbox.assert_ready(&format!("runner/g{late}-plain"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_moved_without_a_hook_is_found() {
    let sandbox = Sandbox::new(&plain_fleet()).await;
    let (inside, outside) = (
        sandbox.world.gitlab.create_group(Some(42), "leaves"),
        sandbox.world.gitlab.create_group(None, "comes"),
    );
    sandbox.settle().await;
    let inventory = sandbox.inventory();
    sandbox.world.gitlab.transfer_group(inside, None);
    sandbox.world.gitlab.transfer_group(outside, Some(42));
    sandbox.settle().await;
    assert_eq!(sandbox.inventory(), inventory, "GitLab has no hook for it");
    sandbox.sweep().await;
    sandbox.assert_ready(&format!("runner/g{outside}-plain"));
    // No longer matched: said, and kept until removal is asked for.
    assert_eq!(sandbox.ready(&format!("runner/g{inside}-plain")).0, "NotWanted");
    assert_eq!(sandbox.replicas(&format!("g{inside}-plain")), json!(1));
    let looked = sandbox.own_calls().len();
    sandbox.world.wire.forget_calls();
    sandbox.sweep().await;
    let calls = sandbox.own_calls();
    assert!(!calls.iter().any(|call| call.starts_with("ServiceBus")), "{looked} {calls:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renamed_parent_wakes_what_lies_below_it() {
    let file = fleet(
        "rules:\n  - { match: { groups: 'tools/**', projects: 'tools/**' }, profiles: [plain] }\nprofiles:\n  plain: { runner: { tags: [plain] }, identity: none }",
    );
    let sandbox = Sandbox::new(&file).await;
    let parent = sandbox.world.gitlab.create_group(None, "outils");
    let child = sandbox.world.gitlab.create_group(Some(parent), "linters");
    let grandchild = sandbox.world.gitlab.create_group(Some(child), "rust");
    let project = sandbox.world.gitlab.create_project(child, "clippy");
    sandbox.settle().await;
    assert!(sandbox.keys().is_empty());
    sandbox.world.gitlab.rename_group(parent, "tools");
    sandbox.settle().await;
    let expected =
        [format!("g{child}-plain"), format!("g{grandchild}-plain"), format!("p{project}-plain")];
    assert_eq!(sandbox.keys(), expected.into_iter().collect(), "{}", sandbox.story());
    let now = sandbox.world.clock.now();
    assert!(now < "2026-11-24T08:10:00Z".parse().unwrap(), "before any sweep: {now}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identities_that_another_resource_group_left_behind_are_told_and_not_touched() {
    let file = plan_fleet();
    let sandbox = Sandbox::new(&file).await;
    sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let left = sandbox.world.azure.identities().remove(0);
    let subscription = "00000000-0000-4000-8000-00000000f00d";
    let other = sandbox.world.azure.add_resource_group(subscription, "rg-other");
    let app = sandbox.world.azure.assignments();
    // What keeps identities, and not what only looks.
    let keeps = |role: &str| !role.starts_with(&READER[..8]);
    let mut own = app.iter().filter(|one| one.scope.ends_with("rg-runner-identities"));
    let ours = own.find(|one| keeps(&one.role.to_string())).unwrap();
    sandbox.world.azure.assign_role(&other, ours.role, ours.principal_id, None);
    sandbox.deploy(&file.replace("rg-runner-identities", "rg-other")).await;
    sandbox.sweep().await;
    let story = sandbox.whole_story();
    let command = format!("az identity delete --ids {}", left.id).to_lowercase();
    assert!(story.to_lowercase().contains(&command), "{story}");
    assert_eq!(sandbox.world.azure.identities().len(), 2, "{story}");

    // Written down once, and read wherever a person looks.
    let [(_, remedy)] = &sandbox.findings("StrayIdentity")[..] else { panic!("{story}") };
    let shown = status::answer(&StatusOf::default(), &sandbox.desk(), Colour::default()).await;
    assert!(shown.out.contains("  the whole fleet         StrayIdentity"), "{}", shown.out);
    assert!(shown.out.contains(remedy), "{}", shown.out);
    let steps = AdminSteps { now: true, ..AdminSteps::default() };
    let steps = admin_steps::answer(&steps, &sandbox.desk(), Colour::default()).await;
    let heading = "# What the fleet as a whole waits for\n# StrayIdentity: ";
    assert!(steps.out.contains(heading) && steps.out.contains(&format!("\n{remedy}\n")));
    let json = sandbox.fetch("/api/fleet").await;
    assert_eq!(json["fleet_status"]["findings"][0]["remedy"], json!(remedy));
    let writes = sandbox.own_writes().len();
    sandbox.sweep().await;
    assert_eq!(sandbox.own_writes().split_off(writes), Vec::<String>::new());
    // Still so an hour later is said once; over is said once.
    sandbox.leap_to("2026-11-24T12:00:00Z");
    sandbox.sweep().await;
    let again = sandbox.fleet_status();
    assert!(again["swept_at"].as_str().unwrap() >= "2026-11-24T12:00:00Z", "{again}");
    assert!(again["findings"][0]["since"].as_str().unwrap() < "2026-11-24T12:00:00Z", "{again}");
    assert!(sandbox.world.azure.remove_identity(&left.id));
    for role in sandbox.world.azure.assignments() {
        if role.principal_id == left.principal_id {
            assert!(sandbox.world.azure.remove_assignment(role.name));
        }
    }
    sandbox.sweep().await;
    assert_eq!(sandbox.findings("StrayIdentity"), vec![], "{}", sandbox.fleet_status());
    let writes = sandbox.own_writes().len();
    sandbox.leap_to("2026-11-24T16:00:00Z");
    sandbox.sweep().await;
    let further = sandbox.own_writes().split_off(writes);
    assert_eq!(further, Vec::<String>::new(), "a healthy fleet is not written down");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_sweep_could_not_see_is_written_down_until_it_is_seen() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let break_down = |status: u16, code: &str| {
        let body = json!({ "error": { "code": code, "message": "no" } }).to_string();
        sandbox.world.wire.clear_faults();
        sandbox.world.wire.add_fault(Fault {
            service: Service::Arm,
            method: Some("GET"),
            path: "/userAssignedIdentities?".into(),
            times: 1000,
            what: What::Answer { status, headers: vec![], body },
        });
    };
    break_down(500, "InternalServerError");
    sandbox.sweep().await;
    let told = sandbox.fleet_status();
    assert_eq!(told["whole"], false, "{told}");
    assert_eq!(told["unseen"].as_array().map(Vec::len), Some(1), "{told}");
    let since = told["unseen_since"].clone();
    assert!(since["the managed identities"].is_string(), "{told}");
    // Not seen for another reason: since the same time.
    sandbox.pass_minutes(90).await;
    break_down(403, "AuthorizationFailed");
    sandbox.sweep().await;
    sandbox.world.wire.clear_faults();
    let later = sandbox.fleet_status();
    assert_ne!(later["unseen"], told["unseen"]);
    assert_eq!(later["unseen_since"], since, "{later}");
    let shown = status::answer(&StatusOf::default(), &sandbox.desk(), Colour::default()).await;
    assert!(shown.out.contains("so it permits nothing\n"), "{}", shown.out);
    assert!(shown.out.contains("for the first time 1 h ago"), "{}", shown.out);
    sandbox.sweep().await;
    let told = sandbox.fleet_status();
    assert!(told["whole"] == true && told["unseen_since"].is_null(), "{told}");
}

/// Seed 4033 of the histories.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_domain_of_which_nothing_is_told_any_more_is_looked_at() {
    let file = plan_fleet().replace("  plan: { ", "  plan: { isolation: profile, ");
    let sandbox = Sandbox::new(&file).await;
    sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.assert_ready("domain/plan");
    let maps = sandbox.world.kubernetes.list("configmaps", "forerunner-nonprod");
    let names = maps.iter().filter_map(|map| map["metadata"]["name"].as_str());
    let told = names.filter(|name| name.starts_with("status-domain")).collect::<Vec<_>>();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(sandbox.world.kubernetes.delete_as_admin("configmaps", "forerunner-nonprod", told[0]));
    sandbox.sweep().await;
    sandbox.assert_ready("domain/plan");
}
