//! `mode: observe` writes nothing but status, wherever it is said.

use crate::{
    deeds::{PLAIN, plan_fleet, plan_profile},
    harness::Sandbox,
};
use forerunner::sandbox::azure;
use serde_json::json;

async fn check(name: &str, fleet: &str, settings: &[(&str, &str)]) {
    let sandbox = Sandbox::with_settings(fleet, azure::Settings::default(), settings).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.sweep().await;
    let writes = sandbox.own_writes();
    let status = "/configmaps/status-";
    assert!(writes.iter().all(|call| call.contains(status)), "{name}: {writes:#?}");
    assert!(!writes.is_empty(), "{name}: it says what it would do");
    assert!(
        sandbox.world.gitlab.runners().is_empty() && sandbox.world.azure.identities().is_empty()
    );
    let unit = format!("runner/g{group}-plan");
    let (reason, message) = sandbox.ready(&unit);
    assert_eq!(reason, "Observing", "{name}: {}", sandbox.story());
    assert!(message.contains("would be taken"), "{name}: {message}");
    let did = sandbox.status(&unit)["rounds"][0]["did"].to_string();
    assert!(
        did.contains("would create identity") && did.contains("would create runner"),
        "{name}: {did}"
    );
    assert_eq!(sandbox.world.service_bus.depth("rounds"), 0, "{name}: nothing to follow up");
    let text = std::fs::read_to_string(sandbox.folder.join("fleet.yaml")).unwrap();
    if settings.is_empty() {
        // Enforced, all of it happens.
        sandbox.deploy(&text.replace("mode: observe", "mode: enforce")).await;
        sandbox.sweep().await;
        sandbox.assert_ready(&unit);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn observing_writes_nothing_but_status() {
    let file = plan_fleet().replace("version: 1\n", "version: 1\nmode: observe\n");
    let profile = plan_fleet().replace("plan: { runner:", "plan: { mode: observe, runner:");
    let shared = plan_fleet()
        .replace("plan: { runner:", "plan: { mode: observe, isolation: profile, runner:");
    check("file", &file, &[]).await;
    check("profile", &profile, &[]).await;
    check("setting", &plan_fleet(), &[("FORERUNNER_MODE", "observe")]).await;
    let sandbox = Sandbox::new(&shared).await;
    sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let writes = sandbox.own_writes();
    assert!(writes.iter().all(|call| call.contains("/configmaps/status-")), "{writes:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observed_profile_does_not_keep_its_neighbour_from_acting() {
    let fleet = plan_fleet().replace("profiles: [plan]", "profiles: [plan, plain]").replace(
        &plan_profile(),
        &format!(
            "{}{PLAIN}",
            plan_profile().replace("plan: { runner:", "plan: { mode: observe, runner:")
        ),
    );
    let sandbox = Sandbox::new(&fleet).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    assert_eq!(sandbox.keys().into_iter().collect::<Vec<_>>(), [format!("g{group}-plain")]);
    sandbox.assert_ready(&format!("runner/g{group}-plain"));
    // What observes neither pauses: the group is archived, and a runner made before is left alone.
    sandbox.deploy(&fleet.replace("plain: { runner:", "plain: { mode: observe, runner:")).await;
    sandbox.world.gitlab.archive_group(group);
    sandbox.settle().await;
    assert!(!sandbox.runner(&format!("g{group}-plain")).paused);
    assert_eq!(sandbox.replicas(&format!("g{group}-plain")), json!(1));
}
