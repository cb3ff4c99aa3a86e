//! What only an operator's word lets go: a used twin, a token that somebody polled with, what the brake holds, and what
//! another installation of the fleet made.

use crate::{
    cli_apply::{apply, as_told},
    cli_plan::make_twin,
    crashes::{crashes, some_of},
    deeds::{client, plain_fleet, plain_fleet_for, plan_fleet},
    disturbed::{check_all, run, same},
    harness::Sandbox,
};
use forerunner::{
    cli::adopt::{self, Adopt},
    sandbox::{
        gitlab::{NewJob, RunnerEdit},
        service_bus::Properties,
        wire::{Call, Fault, Service, What},
    },
};
use serde_json::{Value, json};

fn confirm(sandbox: &Sandbox, targets: &str) {
    let body = json!({ "command": "confirm", "targets": [targets], "by": "jane", "why": "SEC-1" });
    sandbox
        .world
        .service_bus
        .send_as_operator("approvals", body.to_string().as_str(), Properties::default())
        .unwrap();
}

async fn settled(file: &str) -> (Sandbox, String) {
    let sandbox = Sandbox::new(file).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let profile = if file == plain_fleet() { "plain" } else { "plan" };
    let key = format!("g{group}-{profile}");
    sandbox.assert_ready(&format!("runner/{key}"));
    (sandbox, key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_somebody_polled_with_is_made_anew_on_an_operators_word_alone() {
    let (sandbox, key) = settled(&plain_fleet()).await;
    let (unit, secret) = (format!("runner/{key}"), format!("runner-{key}-config"));
    let before = sandbox.runner(&key).id;
    assert!(sandbox.world.kubernetes.delete_as_admin("secrets", "forerunner-nonprod", &secret));
    sandbox.sweep().await;
    assert!(sandbox.is_parked(&unit), "{}", sandbox.story());
    let reason = sandbox.status(&unit)["parked"]["reason"].to_string();
    assert!(reason.contains(&format!("forerunner send confirm {key}")), "{reason}");
    // Another unit's confirmation is none.
    let other = sandbox.world.gitlab.create_group(Some(42), "other");
    sandbox.settle().await;
    confirm(&sandbox, &format!("runner/g{other}-plain"));
    sandbox.settle().await;
    assert!(sandbox.is_parked(&unit));
    let (code, _, err) = as_told(&sandbox, &reason, &[]).await;
    assert_eq!(code, Some(0), "{err}");
    sandbox.settle().await;
    sandbox.assert_ready(&unit);
    assert_eq!(sandbox.runner(&key).id, before, "the entity stays");
    let ledger =
        sandbox.world.kubernetes.get("configmaps", "forerunner-nonprod", "ledger").unwrap();
    assert!(ledger.to_string().contains("partings"), "{ledger}");
}

/// One that cannot be read is told; where none can be, the order is tried again, and then kept.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_cannot_be_read_holds_up_no_other_ones_confirmation() {
    let (sandbox, key) = settled(&plain_fleet()).await;
    let broken = sandbox.world.gitlab.create_group(Some(42), "broken");
    sandbox.settle().await;
    let units = [format!("runner/{key}"), format!("runner/g{broken}-plain")];
    for unit in &units {
        let secret = unit.replace('/', "-") + "-config";
        assert!(sandbox.world.kubernetes.delete_as_admin("secrets", "forerunner-nonprod", &secret));
    }
    sandbox.sweep().await;
    assert!(units.iter().all(|unit| sandbox.is_parked(unit)), "{}", sandbox.story());
    sandbox.world.wire.add_fault(Fault {
        service: Service::Gitlab,
        method: Some("GET"),
        path: format!("/api/v4/groups/{broken}"),
        times: 10_000,
        what: What::Answer { status: 500, headers: vec![], body: "{}".into() },
    });
    confirm(&sandbox, "all");
    sandbox.pass_minutes(2).await;
    sandbox.assert_ready(&units[0]);
    assert!(sandbox.is_parked(&units[1]));
    let told = format!("`{}` could not be read, so nothing of it is confirmed", units[1]);
    assert!(sandbox.whole_story().contains(&told), "{}", sandbox.story());
    assert_eq!(sandbox.kept(), 0);
    confirm(&sandbox, &units[1]);
    sandbox.pass_minutes(20).await;
    assert_eq!(sandbox.kept(), 1, "{}", sandbox.story());
    sandbox.world.wire.clear_faults();
    confirm(&sandbox, "all");
    sandbox.settle().await;
    sandbox.assert_ready(&units[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_desk_without_a_queue_confirms_and_mends_in_one_go() {
    let (sandbox, key) = settled(&plain_fleet()).await;
    let (unit, secret) = (format!("runner/{key}"), format!("runner-{key}-config"));
    assert!(sandbox.world.kubernetes.delete_as_admin("secrets", "forerunner-nonprod", &secret));
    let (_, out, err) = apply(&sandbox, &["--local", "--yes", &key]).await;
    assert!(out.contains("blocked: the token of runner"), "{out}\n{err}");
    let (code, _, err) = apply(&sandbox, &["--local", "--yes", "--confirm"]).await;
    assert!(code == Some(2) && err.contains("TARGET"), "no target is named: {err}");
    let (code, out, err) = apply(&sandbox, &["--local", "--yes", "--confirm", &key]).await;
    assert_eq!(code, Some(0), "{out}\n{err}\n{}", sandbox.story());
    sandbox.assert_ready(&unit);
}

/// Asks GitLab for a job as somebody who has the token; answers the job's id and token, if there is one.
async fn poll(sandbox: &Sandbox, token: &str) -> Option<(u64, String)> {
    let gitlab = sandbox.world.address("gitlab").unwrap();
    let body = json!({ "token": token, "system_id": "r_somebody", "info": {} });
    let url = format!("http://{gitlab}/api/v4/jobs/request");
    let answer = client().post(url).json(&body).send().await.unwrap();
    if answer.status() != 201 {
        return None;
    }
    let job: Value = answer.json().await.unwrap();
    Some((job["id"].as_u64().unwrap(), job["token"].as_str().unwrap().to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_twin_that_somebody_polls_with_is_paused_and_goes_when_its_job_is_done() {
    let (sandbox, key) = settled(&plain_fleet()).await;
    let unit = format!("runner/{key}");
    let ours = sandbox.runner(&key);
    let (twin, token) = make_twin(&sandbox, &key).await;
    let tags = Some(vec!["only-the-twin".to_owned()]);
    sandbox.world.gitlab.edit_runner(twin, RunnerEdit { tags, ..RunnerEdit::default() });
    let group = key["g".len()..].split('-').next().unwrap().parse().unwrap();
    let project = sandbox.world.gitlab.create_project(group, "ledger");
    let job = NewJob { tags: vec!["only-the-twin".into()], ..NewJob::default() };
    sandbox.world.gitlab.create_job(project, job);
    let (job, job_token) = poll(&sandbox, &token).await.expect("the twin takes the job");
    sandbox.sweep().await;
    assert!(sandbox.is_parked(&unit), "{}", sandbox.story());
    let reason = sandbox.status(&unit)["parked"]["reason"].to_string();
    assert!(reason.contains(&format!("runner {twin} is a twin")), "{reason}");
    let (code, _, err) = as_told(&sandbox, &reason, &[]).await;
    assert_eq!(code, Some(0), "{err}");
    sandbox.pass_minutes(15).await;
    let paused = sandbox.world.gitlab.runner(twin).expect("a job runs on it").paused;
    assert!(paused, "{}", sandbox.story());
    let gitlab = sandbox.world.address("gitlab").unwrap();
    let done = json!({ "token": job_token, "state": "success" });
    let url = format!("http://{gitlab}/api/v4/jobs/{job}");
    client().put(url).json(&done).send().await.unwrap();
    sandbox.pass_minutes(11).await;
    sandbox.settle().await;
    sandbox.assert_ready(&unit);
    let left: Vec<u64> = sandbox.world.gitlab.runners().iter().map(|one| one.id).collect();
    assert!(left.contains(&ours.id) && !left.contains(&twin), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_brake_holds_goes_unit_by_unit_on_an_operators_word() {
    let sandbox = Sandbox::new(&plain_fleet()).await;
    let groups: Vec<u64> =
        (0..4).map(|at| sandbox.world.gitlab.create_group(Some(42), &format!("g-{at}"))).collect();
    sandbox.settle().await;
    sandbox.leap_to("2026-11-26T08:00:00Z");
    sandbox.deploy(&plain_fleet_for("g-0")).await;
    sandbox.sweep().await;
    let paused = |group: u64| sandbox.runner(&format!("g{group}-plain")).paused;
    assert!(!groups.iter().any(|group| paused(*group)), "the brake holds: {}", sandbox.story());
    confirm(&sandbox, &format!("g{}", groups[1]));
    sandbox.settle().await;
    let found: Vec<bool> = groups.iter().map(|group| paused(*group)).collect();
    assert_eq!(found, [false, true, false, false], "{}", sandbox.story());
    confirm(&sandbox, &format!("g{}", groups[0]));
    sandbox.settle().await;
    assert!(!paused(groups[0]), "nothing of it waits for a word");
}

const OLD: &str = "00000000-0000-4000-8000-0000000000ff";

/// A settled fleet as a rebuilt cluster finds it: GitLab and Azure bear the old id, and the cluster knows nothing.
async fn rebuilt() -> (Sandbox, String) {
    let (sandbox, key) = settled(&plan_fleet()).await;
    let runner = sandbox.runner(&key);
    let here = sandbox.world.kubernetes.get("namespaces", "", "forerunner-nonprod").unwrap();
    let here = here["metadata"]["uid"].as_str().unwrap().to_owned();
    let description = Some(runner.description.replace(&here, OLD));
    sandbox
        .world
        .gitlab
        .edit_runner(runner.id, RunnerEdit { description, ..RunnerEdit::default() });
    for identity in sandbox.world.azure.identities() {
        let mut tags = identity.tags.clone();
        tags.insert("forerunner-installation".to_owned(), OLD.to_owned());
        sandbox.world.azure.edit_identity_tags(&identity.id, tags);
    }
    let kubernetes = &sandbox.world.kubernetes;
    for (plural, namespace, name) in [
        ("deployments", "forerunner-nonprod", format!("runner-{key}")),
        ("secrets", "forerunner-nonprod", format!("runner-{key}-config")),
        ("namespaces", "", format!("ci-nonprod--{key}")),
        ("configmaps", "forerunner-nonprod", "ledger".to_owned()),
    ] {
        assert!(kubernetes.delete_as_admin(plural, namespace, &name), "{plural} {name}");
    }
    (sandbox, key)
}

fn units(sandbox: &Sandbox) -> Vec<String> {
    sandbox.keys().iter().map(|key| format!("runner/{key}")).collect()
}

fn arguments(yes: bool, dry_run: bool) -> Adopt {
    Adopt { fleet: true, dry_run, yes, json: false, env_file: None, policy: None, audit: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuilt_cluster_takes_its_fleet_over_after_asking() {
    let (sandbox, key) = rebuilt().await;
    let unit = format!("runner/{key}");
    let (runner, identities) =
        (sandbox.world.gitlab.runners()[0].id, sandbox.world.azure.identities());
    sandbox.sweep().await;
    assert!(sandbox.is_parked(&unit), "{}", sandbox.story());
    let desk = sandbox.desk_without(&[]);
    let writes = sandbox.own_writes().len();
    let listed = adopt::answer(&arguments(false, true), &desk, |_| panic!("asks")).await;
    assert!(listed.code == 0 && listed.out.contains(&format!("GitLab runner {runner}, `{key}`")));
    assert!(listed.out.contains(OLD) && listed.out.contains("POLLED WITH"), "{}", listed.out);
    let no = adopt::answer(&arguments(false, false), &desk, |_| Some(false)).await;
    let nobody = adopt::answer(&arguments(false, false), &desk, |_| None).await;
    assert_eq!((no.code, nobody.code), (2, 2));
    let json = adopt::Adopt { json: true, ..arguments(false, false) };
    let unasked = adopt::answer(&json, &desk, |_| panic!("asks")).await;
    assert!(unasked.code == 2 && unasked.talk.contains("--yes"), "{}", unasked.talk);
    assert_eq!(sandbox.own_writes().len(), writes, "nobody said yes");
    let done = adopt::answer(&arguments(true, false), &desk, |_| panic!("asks")).await;
    assert_eq!(done.code, 0, "{}{}", done.out, done.talk);
    sandbox.settle().await;
    sandbox.assert_ready(&unit);
    let runners = sandbox.world.gitlab.runners();
    assert_eq!((runners.len(), runners[0].id), (1, runner), "no twin");
    let kept = sandbox.world.azure.identities();
    assert_eq!((kept.len(), &kept[0].id), (1, &identities[0].id));
    let again = adopt::answer(&arguments(true, false), &desk, |_| panic!("asks")).await;
    assert!(again.out.starts_with("0 runner(s) and 0 identities"), "{}", again.out);
}

/// It dies around each of its writes, and is run again.
#[test]
fn an_adoption_that_died_is_run_again() {
    let adopt = async |sandbox: &Sandbox| {
        let desk = sandbox.desk_without(&[]);
        adopt::answer(&arguments(true, false), &desk, |_| None).await.code
    };
    let (expected, calls) = run(async {
        let (sandbox, _) = rebuilt().await;
        let before = sandbox.world.wire.calls().iter().filter(|call| call.is_ours()).count();
        assert_eq!(adopt(&sandbox).await, 0);
        let calls: Vec<Call> =
            sandbox.world.wire.calls().into_iter().filter(Call::is_ours).skip(before).collect();
        sandbox.settle().await;
        units(&sandbox).iter().for_each(|unit| sandbox.assert_ready(unit));
        (sandbox.inventory(), calls)
    });
    check_all(&some_of(crashes(&calls)), async |crash| {
        let (sandbox, _) = rebuilt().await;
        sandbox.world.wire.crash_at(crash.call, crash.moment);
        // Whatever became of the first.
        let _died = adopt(&sandbox).await;
        assert_eq!(adopt(&sandbox).await, 0, "{}", sandbox.story());
        // A wake-up may have died with the first run: the sweep finds it.
        sandbox.sweep().await;
        same(&sandbox, &sandbox.inventory(), &expected)
    });
}
