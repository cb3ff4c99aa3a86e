//! GitLab's rows that a person or a machine makes from outside.

use super::{Settled, edit_runner, plan_for, runner_id};
use crate::{
    deeds::{PLAIN, fleet, plain_fleet, plan_profile},
    harness::Sandbox,
};
use forerunner::sandbox::gitlab::{GroupLists, RunnerEdit};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_older_than_the_file_allows_is_told() {
    let floor = plan_profile().replace(
        "runner: { tags: [azure-plan] }",
        "runner: { tags: [azure-plan], versionFloor: 19.2.0 }",
    );
    // An administrator reads in bulk, an owner below the anchors, and where that is refused runner by runner.
    for (owned, lists) in [
        (&[][..], GroupLists::Shown),
        (&[42][..], GroupLists::Shown),
        (&[42][..], GroupLists::Refused),
    ] {
        let settled = Settled::of(&plan_for("platform/*", &floor), owned).await;
        settled.sandbox.world.gitlab.set_group_lists(lists);
        an_old_manager_is_told(&settled).await;
    }
}

async fn an_old_manager_is_told(settled: &Settled) {
    let sandbox = &settled.sandbox;
    assert!(sandbox.condition(&settled.unit, "NeedsAdministrator").is_null());
    // The mirror's tag names what it does not hold.
    let restart = |version: Option<&str>| {
        sandbox.world.managers.set_held_version(version);
        for pod in sandbox.world.kubernetes.list("pods", "forerunner-nonprod") {
            let name = pod["metadata"]["name"].as_str().unwrap();
            assert!(sandbox.world.kubernetes.delete_as_admin("pods", "forerunner-nonprod", name));
        }
    };
    restart(Some("19.1.9"));
    sandbox.pass_minutes(5).await;
    assert!(sandbox.condition(&settled.unit, "NeedsAdministrator").is_null(), "nobody looked yet");
    sandbox.sweep().await;
    let told = sandbox.condition(&settled.unit, "NeedsAdministrator");
    assert_eq!(told["reason"], "VersionFloor", "{told}\n{}", sandbox.status(&settled.unit));
    let message = told["message"].as_str().unwrap();
    let command = format!("kubectl rollout restart deployment runner-{} --namespace", settled.key);
    for part in ["gitlab-runner 19.1.9", "older than 19.2.0", &command] {
        assert!(message.contains(part), "{part}: {message}");
    }
    let writes = sandbox.own_writes().len();
    sandbox.sweep().await;
    assert_eq!(sandbox.own_writes().split_off(writes), Vec::<String>::new());
    restart(None);
    sandbox.pass_minutes(5).await;
    sandbox.sweep().await;
    assert!(sandbox.condition(&settled.unit, "NeedsAdministrator").is_null());
    sandbox.assert_ready(&settled.unit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_that_bears_our_marker_elsewhere_is_told_and_left() {
    let settled = Settled::new().await;
    let (sandbox, gitlab) = (&settled.sandbox, &settled.sandbox.world.gitlab);
    let elsewhere = gitlab.create_group(None, "elsewhere");
    let copy = crate::look_alikes::runner_of(
        sandbox,
        elsewhere,
        &sandbox.runner(&settled.key).description,
    )
    .await;
    let before = gitlab.runner(copy);
    sandbox.sweep().await;
    let found = sandbox.findings("LookAlike");
    let [(message, remedy)] = &found[..] else { panic!("{}", sandbox.fleet_status()) };
    assert!(
        message.contains(&format!("runner {copy} ")) && remedy.contains("delete it"),
        "{message}"
    );
    assert_eq!(json!(gitlab.runner(copy)), json!(before));
    assert_ne!(copy, runner_id(&settled));
    sandbox.assert_ready(&settled.unit);
    gitlab.delete_runner(copy);
    sandbox.sweep().await;
    assert_eq!(sandbox.findings("LookAlike"), vec![]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_as_full_as_its_plan_allows_waits_and_is_never_parked() {
    let sandbox = Sandbox::new(&plain_fleet()).await;
    sandbox.world.gitlab.limit_group_runners(Some(0));
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let unit = format!("runner/g{group}-plain");
    let told = sandbox.condition(&unit, "NeedsAdministrator");
    assert_eq!(told["reason"], "RunnerQuota", "{}", sandbox.status(&unit));
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("Maximum number") && message.contains("plan_limits"), "{message}");
    sandbox.pass_minutes(120).await;
    assert!(!sandbox.is_parked(&unit), "{}", sandbox.status(&unit));
    sandbox.world.gitlab.limit_group_runners(Some(1));
    sandbox.pass_minutes(15).await;
    sandbox.assert_ready(&unit);
    assert_eq!(sandbox.world.gitlab.runners().len(), 1);
}

/// A second entity with our marker on our own group, as two rounds at once or a lost answer leave it.
async fn twin(settled: &Settled) -> u64 {
    let sandbox = &settled.sandbox;
    let group = settled.key.trim_start_matches('g').split('-').next().unwrap().parse().unwrap();
    let description = sandbox.runner(&settled.key).description;
    crate::look_alikes::runner_of(sandbox, group, &description).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_twin_that_nobody_uses_goes_and_ours_stays() {
    let settled = Settled::new().await;
    let (sandbox, gitlab) = (&settled.sandbox, &settled.sandbox.world.gitlab);
    let (own, whole) = (runner_id(&settled), settled.whole());
    let twin = twin(&settled).await;
    sandbox.sweep().await;
    assert!(gitlab.runner(twin).is_none() && gitlab.runner(own).is_some());
    assert_eq!(settled.whole(), whole);
    sandbox.assert_ready(&settled.unit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persons_note_stays_and_a_locked_project_runner_is_locked_again() {
    let settled = Settled::new().await;
    let note = RunnerEdit { maintenance_note: Some("ask jane".into()), ..RunnerEdit::default() };
    edit_runner(&settled, note);
    settled.sandbox.sweep().await;
    assert_eq!(settled.sandbox.runner(&settled.key).maintenance_note, "ask jane");
    settled.sandbox.assert_ready(&settled.unit);

    let file = fleet(&format!(
        "rules:\n  - {{ match: {{ projects: 'platform/*' }}, profiles: [plain] }}\nprofiles:\n{PLAIN}"
    ));
    let sandbox = Sandbox::new(&file).await;
    let project = sandbox.world.gitlab.create_project(42, "images");
    sandbox.settle().await;
    let key = format!("p{project}-plain");
    let entity = sandbox.runner(&key);
    assert!(entity.locked);
    let edit = RunnerEdit { locked: Some(false), ..RunnerEdit::default() };
    sandbox.world.gitlab.edit_runner(entity.id, edit);
    sandbox.sweep().await;
    assert!(sandbox.runner(&key).locked, "{}", sandbox.status(&format!("runner/{key}")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_is_told_apart_by_how_long_it_lasts() {
    let settled = Settled::new().await;
    let sandbox = &settled.sandbox;
    sandbox.world.kubernetes.set_unschedulable(true);
    for pod in sandbox.world.kubernetes.list("pods", "forerunner-nonprod") {
        let name = pod["metadata"]["name"].as_str().unwrap();
        assert!(sandbox.world.kubernetes.delete_as_admin("pods", "forerunner-nonprod", name));
    }
    for (time, reason) in [("2026-11-24T12:00:00Z", "Offline"), ("2026-12-04T08:00:00Z", "Stale")] {
        sandbox.leap_to(time);
        sandbox.wake(&settled.unit);
        sandbox.pass_minutes(1).await;
        let told = sandbox.condition(&settled.unit, "Online");
        assert_eq!(told["reason"], reason, "{time}: {told}");
        assert!(told["message"].as_str().unwrap().contains("2026-11-24T08:"), "{told}");
    }
    sandbox.world.kubernetes.set_unschedulable(false);
    sandbox.settle().await;
    sandbox.sweep().await;
    sandbox.assert_ready(&settled.unit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_goes_to_rest_is_held_whole_and_undone_when_it_is_back() {
    for row in ["archived", "scheduled"] {
        let settled = Settled::new().await;
        let (sandbox, gitlab) = (&settled.sandbox, &settled.sandbox.world.gitlab);
        let group = settled.key.trim_start_matches('g').split('-').next().unwrap().parse().unwrap();
        let whole = settled.whole();
        match row {
            "archived" => gitlab.archive_group(group),
            _ => gitlab.schedule_group_deletion(group),
        }
        sandbox.sweep().await;
        assert_eq!(sandbox.replicas(&settled.key), json!(0), "{row}");
        assert_eq!(sandbox.world.azure.identities().len(), 1, "{row}");
        match row {
            "archived" => gitlab.unarchive_group(group),
            _ => gitlab.restore_group(group),
        }
        sandbox.sweep().await;
        sandbox.assert_ready(&settled.unit);
        assert_eq!(settled.whole(), whole, "{row}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rejected_token_that_somebody_polled_with_waits_for_a_persons_word() {
    let settled = Settled::new().await;
    let sandbox = &settled.sandbox;
    assert!(sandbox.world.gitlab.reset_runner_token(runner_id(&settled)).is_some());
    sandbox.leap_to("2026-11-24T12:00:00Z");
    sandbox.sweep().await;
    let (reason, message) = sandbox.ready(&settled.unit);
    assert_eq!(reason, "Parked", "{message}");
    assert!(message.contains("is lost and somebody has polled with it"), "{message}");
}
