//! `protect: true` of a target, by its id, against every way of leaving; and what runners share, which goes after the last of them.

use crate::{
    cli_apply::{at_desk, without_sweeps},
    deeds::{APP, fleet},
    harness::Sandbox,
    removal::days,
};
use forerunner::sandbox::gitlab::{JobStatus, NewJob};
use jiff::SignedDuration;
use serde_json::json;

/// A shared domain for what lies below `platform`, and one more entry under `groups:`.
fn shared(entry: &str) -> String {
    fleet(&format!(
        "groups: {{ {entry} }}
rules:
  - {{ match: {{ groups: 'platform/*' }}, profiles: [plan] }}
profiles:
  plan: {{ runner: {{ tags: [azure-plan] }}, isolation: profile, identity: {{ managed: {{ roles: [{{ role: Reader, scope: {APP} }}] }} }} }}
"
    ))
}

fn is_there(sandbox: &Sandbox, key: &str) -> bool {
    sandbox.inventory().to_string().contains(key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_protected_target_keeps_its_runner_under_any_path_and_what_that_shares() {
    let sandbox = without_sweeps(&shared("")).await;
    let gitlab = &sandbox.world.gitlab;
    let [safe, other] = ["safe", "other"].map(|name| gitlab.create_group(Some(42), name));
    sandbox.settle().await;
    sandbox.deploy(&shared(&format!("platform/safe: {{ id: {safe}, protect: true }}"))).await;
    let unit = format!("runner/g{safe}-plan");
    // No rule gives it the runner any more, and no path of the file is its own.
    gitlab.transfer_group(safe, Some(77));
    sandbox.settle().await;
    for day in [2, 12, 20] {
        sandbox.leap_to(&days(day));
        sandbox.sweep().await;
    }
    assert!(
        sandbox.ready(&unit).1.contains("`protect: true` keeps it"),
        "{:?}",
        sandbox.ready(&unit)
    );

    let base = ["remove", "--local", "--yes", "--why", "x"];
    let (code, out, err) =
        at_desk(&sandbox, false, &[&base[..], &["platform/other"]].concat()).await;
    assert_eq!(code, Some(0), "{out}\n{err}");
    // What waits for the protected one waits for ever, so this meets its end.
    let order = [&base[..], &["--all", "--timeout", "20"]].concat();
    let (code, out, err) = at_desk(&sandbox, false, &order).await;
    assert_eq!(code, Some(1), "{out}\n{err}");
    assert!(out.contains("0 unit(s) are gone, 2 stay"), "{out}\n{err}");
    assert!(err.contains(&format!("`{unit}` stays: `protect: true` keeps it")), "{err}");
    assert!(
        err.contains("`domain/plan` stays: it goes after the last runner that shares it: 1 left"),
        "{err}"
    );
    assert!(!is_there(&sandbox, &format!("g{other}-plan")));
    assert!(!sandbox.runner(&format!("g{safe}-plan")).paused);
    assert_eq!(sandbox.world.azure.identities().len(), 1, "its jobs sign in as before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_domain_is_not_taken_from_under_a_running_job() {
    let sandbox = without_sweeps(&shared("")).await;
    let gitlab = &sandbox.world.gitlab;
    let busy = gitlab.create_group(Some(42), "busy");
    sandbox.settle().await;
    let project = gitlab.create_project(busy, "ledger");
    let job = NewJob {
        tags: vec!["azure-plan".into()],
        script: vec!["sleep 1200".into()],
        ..NewJob::default()
    };
    let job = gitlab.create_job(project, job);
    sandbox.pass(SignedDuration::from_secs(10)).await;
    assert_eq!(gitlab.job(job).unwrap().status, JobStatus::Running);
    let order = json!({"command": "remove", "targets": ["all"], "by": "jane", "why": "it ends"});
    let bus = &sandbox.world.service_bus;
    bus.send_as_operator("approvals", order.to_string(), Default::default()).unwrap();
    sandbox.pass_minutes(10).await;
    assert_eq!(gitlab.job(job).unwrap().status, JobStatus::Running);
    assert_eq!(sandbox.world.azure.identities().len(), 1, "the job still signs in");
    let scope = sandbox.world.azure.assignments().len();
    assert!(scope > 0 && is_there(&sandbox, "ci-nonprod--domain-plan"));
    sandbox.pass_minutes(60).await;
    assert_eq!(gitlab.job(job).unwrap().status, JobStatus::Success);
    assert!(
        sandbox.world.azure.identities().is_empty(),
        "nothing is left: {}",
        sandbox.status("domain/plan")
    );
    assert!(!is_there(&sandbox, "ci-nonprod--domain-plan"));
}
