//! GitLab's rows that a person or a machine makes from outside.

use super::{Settled, runner_id};
use crate::deeds::plan_profile;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_older_than_the_file_allows_is_told() {
    let floor = plan_profile().replace(
        "runner: { tags: [azure-plan] }",
        "runner: { tags: [azure-plan], versionFloor: 19.2.0 }",
    );
    let settled = Settled::with(&floor).await;
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
    sandbox.wake(&settled.unit);
    sandbox.settle().await;
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
    assert_eq!(serde_json::json!(gitlab.runner(copy)), serde_json::json!(before));
    assert_ne!(copy, runner_id(&settled));
    sandbox.assert_ready(&settled.unit);
    gitlab.delete_runner(copy);
    sandbox.sweep().await;
    assert_eq!(sandbox.findings("LookAlike"), vec![]);
}
