//! Waiting for what a person has to say (a value, an anchor) and for ceilings: never a failure.

use crate::{
    deeds::{fleet, plain_fleet, plan_fleet},
    harness::Sandbox,
};

/// Reads in a subscription that only the file knows.
fn valued(values: &str) -> String {
    let plan = plan_fleet().replace(
        "/subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/app }",
        "'/subscriptions/{subscription}/resourceGroups/app' }",
    );
    plan.replace("rules:", &format!("{values}\nrules:"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_without_its_value_waits_until_the_file_has_it() {
    let subscription = "00000000-0000-4000-8000-000000002222";
    // The value of another group, so that the file is one that `check` accepts.
    let other =
        format!("groups: {{ platform/network: {{ values: {{ subscription: {subscription} }} }} }}");
    let sandbox = Sandbox::new(&valued(&other)).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let unit = format!("runner/g{group}-plan");
    let (reason, message) = sandbox.ready(&unit);
    assert_eq!(reason, "NeedsValue", "{}", sandbox.story());
    assert!(message.starts_with("needs subscription"), "{message}");
    assert!(!sandbox.is_parked(&unit));
    assert!(sandbox.keys().is_empty() && sandbox.world.azure.identities().is_empty());
    // As long as nothing changes, nobody looks again.
    sandbox.world.wire.forget_calls();
    sandbox.sweep().await;
    let calls = sandbox.own_calls();
    assert!(!calls.iter().any(|call| call.starts_with("ServiceBus")), "{calls:#?}");
    let both = format!(
        "groups: {{ platform/network: {{ values: {{ subscription: {subscription} }} }}, platform/payments: {{ values: {{ subscription: {subscription} }} }} }}"
    );
    sandbox.deploy(&valued(&both)).await;
    sandbox.sweep().await;
    sandbox.assert_ready(&unit);
    let scopes: Vec<String> =
        sandbox.world.azure.assignments().into_iter().map(|one| one.scope).collect();
    assert!(scopes.contains(&format!("/subscriptions/{subscription}/resourceGroups/app")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_anchor_gives_nothing_and_takes_nothing() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    let before = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let unit = format!("runner/g{before}-plan");
    sandbox.assert_ready(&unit);
    let (inventory, writes) = (sandbox.inventory(), sandbox.own_writes().len());
    sandbox.world.gitlab.rename_group(42, "plattform");
    let after = sandbox.world.gitlab.create_group(Some(42), "network");
    sandbox.settle().await;
    sandbox.sweep().await;
    for unit in [&unit, &format!("runner/g{after}-plan")] {
        let (reason, message) = sandbox.ready(unit);
        assert_eq!(reason, "AnchorMoved", "{unit} {}", sandbox.story());
        assert!(message.contains("`plattform`") && message.contains("`platform`"), "{message}");
    }
    assert_eq!(sandbox.inventory()["runners"], inventory["runners"]);
    assert_eq!(sandbox.inventory()["identities"], inventory["identities"]);
    assert_eq!(sandbox.own_writes().len() - writes, 2, "two statuses: {:#?}", sandbox.own_writes());
    // Another group that takes the name matches nothing.
    let impostor = sandbox.world.gitlab.create_group(None, "platform");
    let trap = sandbox.world.gitlab.create_group(Some(impostor), "trap");
    sandbox.settle().await;
    sandbox.sweep().await;
    assert!(sandbox.status(&format!("runner/g{trap}-plan")).is_null());
    assert_eq!(sandbox.inventory()["runners"], inventory["runners"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creations_beyond_the_hours_ceiling_wait_for_the_next_hour() {
    let file = plain_fleet().replace("perHour: 50", "perHour: 2");
    let sandbox = Sandbox::new(&file).await;
    let groups = ["a", "b", "c"].map(|name| sandbox.world.gitlab.create_group(Some(42), name));
    sandbox.pass_minutes(20).await;
    let units = groups.map(|group| format!("runner/g{group}-plain"));
    assert_eq!(sandbox.keys().len(), 2, "{}", sandbox.story());
    let waits = units.iter().find(|unit| !sandbox.is_ready(unit)).unwrap();
    assert!(!sandbox.is_parked(waits), "{}", sandbox.status(waits));
    assert_eq!(sandbox.ready(waits).0, "Progressing");
    sandbox.pass_minutes(60).await;
    units.iter().for_each(|unit| sandbox.assert_ready(unit));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_beyond_the_fleets_ceiling_wait_for_ever_without_a_failure() {
    let file = plain_fleet().replace("runners: 500", "runners: 1");
    let sandbox = Sandbox::new(&file).await;
    sandbox.world.gitlab.create_group(Some(42), "a");
    sandbox.pass_minutes(3).await;
    let second = sandbox.world.gitlab.create_group(Some(42), "b");
    sandbox.pass_minutes(90).await;
    let unit = format!("runner/g{second}-plain");
    assert_eq!(sandbox.keys().len(), 1, "{}", sandbox.story());
    assert!(!sandbox.is_parked(&unit), "{}", sandbox.status(&unit));
    assert!(sandbox.world.azure.identities().is_empty());
    sandbox.deploy(&plain_fleet()).await;
    sandbox.sweep().await;
    sandbox.assert_ready(&unit);
}

#[test]
fn these_files_are_accepted() {
    for file in [
        valued(
            "groups: { platform/x: { values: { subscription: 00000000-0000-4000-8000-000000002222 } } }",
        ),
        fleet("rules: []\nprofiles: {}"),
    ] {
        let now = crate::harness::START.parse().unwrap();
        if let Err(problems) = forerunner::domain::fleet::Fleet::parse(&file, None, now) {
            panic!(
                "{}\n{file}",
                problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
            );
        }
    }
}
