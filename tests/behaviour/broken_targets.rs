//! What GitLab does not answer for one target, or what keeps a sweep from permitting, holds up nobody else.

use crate::{
    deeds::{fleet, plan_profile},
    harness::Sandbox,
    removal::{days, deleted, only},
};
use forerunner::sandbox::{
    gitlab::RunnerEdit,
    wire::{Fault, Service, What},
};
use serde_json::json;

/// The reading profile for all groups and projects below `platform`.
fn both() -> String {
    fleet(&format!(
        "rules:\n  - {{ match: {{ groups: 'platform/*', projects: 'platform/*' }}, profiles: [plan] }}\nprofiles:\n{}",
        plan_profile()
    ))
}

fn answer(sandbox: &Sandbox, service: Service, method: &'static str, path: &str, status: u16) {
    let body = json!({ "message": status.to_string() }).to_string();
    let what = What::Answer { status, headers: vec![], body };
    let (path, method) = (path.to_owned(), Some(method));
    sandbox.world.wire.add_fault(Fault { service, method, path, times: usize::MAX, what });
}

/// Groups of these names and a project, each with a runner two days old, and their keys, the project's last.
async fn settled<const N: usize>(names: [&str; N]) -> (Sandbox, Vec<String>) {
    let sandbox = Sandbox::new(&both()).await;
    let gitlab = &sandbox.world.gitlab;
    let mut keys: Vec<String> =
        names.iter().map(|name| format!("g{}-plan", gitlab.create_group(Some(42), name))).collect();
    keys.push(format!("p{}-plan", gitlab.create_project(42, "tools")));
    sandbox.settle().await;
    sandbox.leap_to(&days(2));
    sandbox.sweep().await;
    keys.iter().for_each(|key| sandbox.assert_ready(&format!("runner/{key}")));
    (sandbox, keys)
}

/// Somebody edits the runner's tags.
fn edit(sandbox: &Sandbox, key: &str) {
    let edit = RunnerEdit { tags: Some(vec!["everything".into()]), ..RunnerEdit::default() };
    sandbox.world.gitlab.edit_runner(sandbox.runner(key).id, edit);
}

fn assert_mended(sandbox: &Sandbox, key: &str) {
    assert_eq!(sandbox.runner(key).tags, ["azure-plan"], "{}", sandbox.story());
}

/// No list shows the project any more, for no rule is for projects.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_cannot_be_read_is_told_and_kept_and_holds_up_nobody() {
    for status in [403, 500] {
        let (sandbox, keys) = settled(["payments", "other"]).await;
        let (payments, other, broken) = (&keys[0], &keys[1], &keys[2]);
        let target = broken.strip_suffix("-plan").unwrap();
        let path = format!("/api/v4/projects/{}", &target[1..]);
        answer(&sandbox, Service::Gitlab, "GET", &path, status);
        sandbox.deploy(&only("payments")).await;
        edit(&sandbox, payments);
        sandbox.sweep().await;
        assert_mended(&sandbox, payments);
        assert_eq!(sandbox.ready(&format!("runner/{other}")).0, "Leaving", "it has its permit");

        let told = || sandbox.findings("Unwatched");
        let [(message, _)] = &told()[..] else { panic!("{}", sandbox.fleet_status()) };
        assert!(message.contains(target), "{message}");
        let since = sandbox.fleet_status()["findings"][0]["since"].clone();
        sandbox.leap_to(&days(12));
        sandbox.sweep().await;
        assert_eq!(sandbox.fleet_status()["findings"][0]["since"], since);
        assert!(!sandbox.keys().contains(other), "it has gone");
        assert_eq!((sandbox.runner(broken).paused, sandbox.replicas(broken)), (false, json!(1)));
        let of_it = deleted(&sandbox).into_iter().filter(|call| call.contains(target));
        assert_eq!(of_it.collect::<Vec<_>>(), Vec::<String>::new());

        sandbox.world.wire.clear_faults();
        sandbox.sweep().await;
        assert_eq!(sandbox.ready(&format!("runner/{broken}")).0, "Leaving");
        assert_eq!(told(), vec![]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_counts_with_what_wants_to_leave() {
    let (sandbox, keys) = settled(["payments", "ash", "birch"]).await;
    let path = format!("/api/v4/projects/{}", &keys[3][1..].strip_suffix("-plan").unwrap());
    answer(&sandbox, Service::Gitlab, "GET", &path, 500);
    sandbox.deploy(&only("payments")).await;
    sandbox.sweep().await;
    for key in &keys[1..3] {
        assert_eq!(sandbox.ready(&format!("runner/{key}")).0, "NotWanted", "two of four may");
    }
    assert_eq!(deleted(&sandbox), Vec::<String>::new());
    sandbox.world.wire.clear_faults();
    // What could be read again is there, and two may go.
    sandbox.deploy(&both().replace("groups: 'platform/*'", "groups: 'platform/payments'")).await;
    sandbox.sweep().await;
    for key in &keys[1..3] {
        assert_eq!(sandbox.ready(&format!("runner/{key}")).0, "Leaving");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_read_of_one_target_ends_what_is_permitted_and_nothing_else() {
    let (sandbox, keys) = settled(["payments", "other"]).await;
    let path = format!("/api/v4/projects/{}", &keys[2][1..].strip_suffix("-plan").unwrap());
    let what = What::Answer {
        status: 429,
        headers: vec![("retry-after", "60".into())],
        body: "{\"message\":\"429\"}".into(),
    };
    let (service, method) = (Service::Gitlab, Some("GET"));
    sandbox.world.wire.add_fault(Fault { service, method, path, times: usize::MAX, what });
    sandbox.deploy(&only("payments")).await;
    edit(&sandbox, &keys[0]);
    sandbox.sweep().await;
    assert_mended(&sandbox, &keys[0]);
    assert_eq!(sandbox.ready(&format!("runner/{}", keys[1])).0, "NotWanted");
    assert_eq!(sandbox.fleet_status()["whole"], false);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_cannot_permit_wakes_what_drifts() {
    let (sandbox, keys) = settled(["payments", "other"]).await;
    sandbox.deploy(&only("payments")).await;
    edit(&sandbox, &keys[0]);
    answer(&sandbox, Service::Kubernetes, "PUT", "/configmaps/ledger", 500);
    sandbox.sweep().await;
    assert_mended(&sandbox, &keys[0]);
    assert_eq!(sandbox.ready(&format!("runner/{}", keys[1])).0, "NotWanted");
    let status = sandbox.fleet_status();
    assert!(status["unseen"].to_string().contains("no permit"), "{status}");
    sandbox.world.wire.clear_faults();
    sandbox.sweep().await;
    assert_eq!(sandbox.ready(&format!("runner/{}", keys[1])).0, "Leaving");
    assert_eq!(sandbox.fleet_status()["whole"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_that_cannot_tell_what_is_destroyed_wakes_what_drifts() {
    let (sandbox, keys) = settled(["payments", "other"]).await;
    sandbox.lose_hooks();
    let lost = keys[1][1..].strip_suffix("-plan").unwrap().parse().unwrap();
    sandbox.world.gitlab.destroy_group(lost);
    sandbox.sweep().await;
    sandbox.pass_minutes(6).await;
    edit(&sandbox, &keys[0]);
    answer(&sandbox, Service::Gitlab, "GET", "/api/v4/runners/all", 500);
    sandbox.sweep().await;
    assert_mended(&sandbox, &keys[0]);
    assert_eq!(sandbox.ready(&format!("runner/{}", keys[1])).0, "LostSightOf");
    assert_eq!(sandbox.fleet_status()["whole"], false);
    sandbox.world.wire.clear_faults();
    sandbox.sweep().await;
    assert_eq!(sandbox.ready(&format!("runner/{}", keys[1])).0, "Leaving");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_existing_identity_that_cannot_be_read_is_told_and_holds_up_no_permit() {
    let (sandbox, keys) = settled(["payments", "other"]).await;
    let lends = |id: &str| {
        let file = only("payments");
        let more = format!(
            "  tf: {{ runner: {{ tags: [tf] }}, identity: {{ existing: [{id}] }} }}\nguardrails:"
        );
        file.replacen("guardrails:", &more, 1)
    };
    let id = format!(
        "{}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-tf",
        crate::deeds::APP
    );
    answer(&sandbox, Service::Arm, "GET", "/userAssignedIdentities/id-tf", 403);
    sandbox.deploy(&lends(&id)).await;
    sandbox.sweep().await;
    let told = sandbox.findings("Unwatched");
    assert!(
        told.iter().any(|(message, _)| message.contains("id-tf")),
        "{}",
        sandbox.fleet_status()
    );
    assert_eq!(sandbox.ready(&format!("runner/{}", keys[1])).0, "Leaving");
}
