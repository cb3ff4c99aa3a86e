//! A service that does not answer ends no process: the sweep ends in its time, says what it did not reach, permits nothing
//! there, and the next one goes on.

use crate::{deeds::plan_fleet, harness::Sandbox};
use forerunner::{
    cli::load,
    config::Settings,
    functions::app::DEADLINE,
    reconcile::{Outcome, Rounds, SWEEP_READS},
    sandbox::{
        gitlab::RunnerEdit,
        wire::{Fault, Service, What},
    },
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Far more than a sweep of three runners takes, and far less than a call may.
const TIME: Duration = Duration::from_secs(4);

/// Three groups with a settled runner each, and rounds whose sweeps have little time.
async fn settled() -> (Sandbox, Vec<String>, Rounds) {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    let keys = ["ash", "birch", "cedar"]
        .map(|name| format!("g{}-plan", sandbox.world.gitlab.create_group(Some(42), name)));
    sandbox.settle().await;
    keys.iter().for_each(|key| sandbox.assert_ready(&format!("runner/{key}")));
    let given = sandbox.world.settings(&sandbox.folder.join("fleet.yaml"));
    let settings = Settings::read(|name| given.get(name).cloned()).unwrap();
    let rounds = load::load(&settings, sandbox.world.clock.clone()).unwrap().rounds;
    sandbox.world.wire.forget_calls();
    (sandbox, keys.into(), rounds.with_sweep_reads(TIME))
}

fn hang(sandbox: &Sandbox, service: Service, path: &str) {
    let path = path.to_owned();
    let fault = Fault { service, method: Some("GET"), path, times: usize::MAX, what: What::Hang };
    sandbox.world.wire.add_fault(fault);
}

async fn sweep_in_time(rounds: &Rounds) -> Outcome {
    let began = Instant::now();
    let outcome = rounds.sweep().await;
    assert!(began.elapsed() < 3 * TIME, "{:?}: {outcome:?}", began.elapsed());
    outcome
}

fn slice(sandbox: &Sandbox) -> Value {
    sandbox.fleet_status()["slices"]["FederatedCredentials"].clone()
}

#[test]
fn a_sweep_has_less_time_than_its_invocation() {
    assert!(SWEEP_READS + Duration::from_secs(180) < DEADLINE, "what it found is to be sent, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slice_ends_with_the_time_and_the_next_sweep_goes_on_behind_it() {
    let (sandbox, keys, rounds) = settled().await;
    let azure = &sandbox.world.azure;
    let id = |key: &str| {
        let all = azure.identities().into_iter().map(|identity| identity.id);
        all.into_iter().find(|id| id.ends_with(key)).unwrap()
    };
    // Seen by the first sweep, before the one that hangs.
    let mut credential = azure.credentials(&id(&keys[0])).remove(0);
    credential.subject = "system:serviceaccount:elsewhere:job".into();
    azure.edit_credential(&id(&keys[0]), credential);
    let name = id(&keys[1]).rsplit('/').next().unwrap().to_owned();
    hang(&sandbox, Service::Arm, &format!("{name}/federatedIdentityCredentials"));
    let outcome = sweep_in_time(&rounds).await;
    let Outcome::Done(lines) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(lines[0], "woke 1 unit(s)", "what was seen is judged: {lines:?}");
    let ended = slice(&sandbox);
    assert_eq!(
        (&ended["after"], &ended["looked"], &ended["of"]),
        (&json!(keys[0]), &json!(1), &json!(3))
    );
    assert_eq!(ended["all_since"], Value::Null, "{ended}");

    // While it hangs, the next ones come no further, and say so.
    sweep_in_time(&rounds).await;
    assert_eq!(
        (&slice(&sandbox)["after"], &slice(&sandbox)["looked"]),
        (&json!(keys[0]), &json!(0))
    );
    sandbox.world.wire.clear_faults();
    sandbox.world.wire.forget_calls();
    sweep_in_time(&rounds).await;
    let calls = sandbox.own_calls();
    let looked = |key: &str| calls.iter().any(|call| call.contains(&format!("{key}/federated")));
    assert_eq!([0, 1, 2].map(|at| looked(&keys[at])), [false, true, true], "{calls:#?}");
    assert!(slice(&sandbox)["all_since"].is_string(), "{}", slice(&sandbox));
    sweep_in_time(&rounds).await;
    assert_eq!(slice(&sandbox), Value::Null, "it sees all again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_does_not_come_is_told_and_hides_nothing_else() {
    for (service, path, told) in [
        (Service::Arm, "/roleAssignments", "the role assignments"),
        (Service::Kubernetes, "/validatingadmissionpolicies/", "what an administrator applied"),
    ] {
        let (sandbox, keys, rounds) = settled().await;
        let edit = RunnerEdit { tags: Some(vec!["everything".into()]), ..RunnerEdit::default() };
        sandbox.world.gitlab.edit_runner(sandbox.runner(&keys[2]).id, edit);
        hang(&sandbox, service, path);
        let outcome = sweep_in_time(&rounds).await;
        let Outcome::Done(lines) = &outcome else { panic!("{outcome:?}") };
        assert_eq!(lines[0], "woke 1 unit(s)", "drift elsewhere is found: {lines:?}");
        let status = sandbox.fleet_status();
        let unseen = status["unseen"].to_string();
        assert!(unseen.contains(told) && status["whole"] == false, "{status}");
        sandbox.world.wire.clear_faults();
        sweep_in_time(&rounds).await;
        assert_eq!(sandbox.fleet_status()["whole"], true, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_core_a_sweep_fails_in_time_and_changes_nothing() {
    for (service, path) in [
        (Service::Gitlab, "/api/v4/groups?"),
        (Service::Kubernetes, "/deployments?"),
        (Service::Kubernetes, "/configmaps?"),
    ] {
        let (sandbox, _, rounds) = settled().await;
        hang(&sandbox, service, path);
        let outcome = sweep_in_time(&rounds).await;
        let Outcome::Failed(text) = &outcome else { panic!("{path}: {outcome:?}") };
        assert!(text.contains("not read within the 4 s that a sweep may read"), "{text}");
        assert_eq!(sandbox.own_writes(), Vec::<String>::new(), "{path}");
        sandbox.world.wire.clear_faults();
        let outcome = sweep_in_time(&rounds).await;
        assert!(
            matches!(&outcome, Outcome::Done(lines) if lines[0] == "woke 0 unit(s)"),
            "{outcome:?}"
        );
    }
}
