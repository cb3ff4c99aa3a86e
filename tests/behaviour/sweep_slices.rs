//! What has no list of many is looked at in turn: within its calls, from where the last sweep ended, and said so.

use crate::{
    deeds::{plain_fleet, plan_fleet},
    group_token::with_an_owners_token,
    harness::Sandbox,
};
use forerunner::sandbox::{
    gitlab::{GroupLists, RunnerEdit},
    wire::{Fault, Service, What},
};
use serde_json::{Value, json};

const ONE_CALL: &str = "sweep: { calls: { azure: 1, gitlab: 1 } }\n";

/// Three groups with a settled runner each, in a fleet that has one call for each kind of slice.
async fn settle_three(sandbox: &Sandbox, fleet: &str, profile: &str) -> Vec<String> {
    let groups = ["ash", "birch", "cedar"].map(|name| {
        let group = sandbox.world.gitlab.create_group(Some(42), name);
        format!("g{group}-{profile}")
    });
    sandbox.settle().await;
    groups.iter().for_each(|key| sandbox.assert_ready(&format!("runner/{key}")));
    sandbox.deploy(&format!("{fleet}{ONE_CALL}")).await;
    groups.into()
}

fn slice(sandbox: &Sandbox, kind: &str) -> Value {
    sandbox.fleet_status()["slices"][kind].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_identitys_credentials_have_their_turn() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    settle_three(&sandbox, &plan_fleet(), "plan").await;
    let azure = &sandbox.world.azure;
    let identities: Vec<String> =
        azure.identities().into_iter().map(|identity| identity.id).collect();
    assert_eq!(identities.len(), 3);
    let subjects = || -> Vec<String> {
        identities.iter().map(|id| azure.credentials(id)[0].subject.clone()).collect()
    };
    let whole = subjects();
    for id in &identities {
        let mut credential = azure.credentials(id).remove(0);
        credential.subject = "system:serviceaccount:elsewhere:job".into();
        azure.edit_credential(id, credential);
    }
    let mut seen = Vec::new();
    for mended in 1..=3 {
        sandbox.sweep().await;
        let now = slice(&sandbox, "FederatedCredentials");
        assert_eq!((&now["looked"], &now["of"]), (&json!(1), &json!(3)), "{now}");
        seen.push(now["after"].clone());
        let same = subjects().iter().zip(&whole).filter(|(now, then)| now == then).count();
        assert_eq!(same, mended, "one call a sweep finds one: {now}");
    }
    assert!(seen[0].as_str() < seen[1].as_str() && seen[2].is_null(), "{seen:?}");
    let all_since = slice(&sandbox, "FederatedCredentials")["all_since"].clone();
    assert!(all_since.is_string(), "the whole cycle is told");

    // A fleet that one sweep can look at has no cursor, and writes nothing.
    sandbox.deploy(&plan_fleet()).await;
    sandbox.sweep().await;
    assert!(slice(&sandbox, "FederatedCredentials").is_null());
    sandbox.world.wire.forget_calls();
    sandbox.sweep().await;
    assert_eq!(sandbox.own_writes(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_targets_runners_have_their_turn_where_nothing_may_be_read_in_bulk() {
    let sandbox = with_an_owners_token().await;
    sandbox.world.gitlab.set_group_lists(GroupLists::Refused);
    let keys = settle_three(&sandbox, &plain_fleet(), "plain").await;
    for key in &keys {
        let edit = RunnerEdit { tags: Some(vec!["everything".into()]), ..RunnerEdit::default() };
        sandbox.world.gitlab.edit_runner(sandbox.runner(key).id, edit);
    }
    let mended = || keys.iter().filter(|key| sandbox.runner(key).tags == ["plain"]).count();
    for sweep in 1..=3 {
        assert_eq!(mended(), sweep - 1);
        sandbox.sweep().await;
    }
    assert_eq!(mended(), 3, "{}", slice(&sandbox, "Runners"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_cannot_be_looked_into_does_not_hide_the_next() {
    for (status, code) in [(403, "AuthorizationFailed"), (500, "InternalServerError")] {
        let sandbox = Sandbox::new(&plan_fleet()).await;
        let keys = settle_three(&sandbox, &plan_fleet(), "plan").await;
        sandbox.world.wire.add_fault(Fault {
            service: Service::Arm,
            method: Some("GET"),
            path: format!("{}/federatedIdentityCredentials", keys[0]),
            times: 20,
            what: What::Answer {
                status,
                headers: vec![],
                body: json!({"error": {"code": code, "message": "no"}}).to_string(),
            },
        });
        sandbox.sweep().await;
        let told = sandbox.fleet_status();
        assert!(told["unseen"][0].is_string() && told["whole"] == false, "{status}: {told}");
        let first = slice(&sandbox, "FederatedCredentials")["after"].clone();
        sandbox.sweep().await;
        let second = slice(&sandbox, "FederatedCredentials")["after"].clone();
        assert!(first.as_str() < second.as_str(), "{status}: {first} {second}");
        assert_eq!(sandbox.fleet_status()["whole"], true);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_wants_a_pause_moves_no_cursor() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    settle_three(&sandbox, &plan_fleet(), "plan").await;
    sandbox.sweep().await;
    let before = slice(&sandbox, "FederatedCredentials")["after"].clone();
    assert!(before.is_string());
    sandbox.world.wire.add_fault(Fault {
        service: Service::Arm,
        method: Some("GET"),
        path: "/federatedIdentityCredentials".to_owned(),
        times: 1,
        what: What::Answer {
            status: 429,
            headers: vec![("retry-after", "17".to_owned())],
            body: json!({"error": {"code": "TooManyRequests", "message": "no"}}).to_string(),
        },
    });
    sandbox.sweep().await;
    assert_eq!(slice(&sandbox, "FederatedCredentials")["after"], before);
    assert_eq!(sandbox.fleet_status()["whole"], false);
}
