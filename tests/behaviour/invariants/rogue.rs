//! Each invariant is shown to fail: a settled world, and somebody who calls as forerunner does and does what it must never do.

use super::{
    INVARIANTS,
    record::{Recorder, Truth},
    snapshot::MANAGERS,
};
use crate::{
    deeds::{APP, READER, client, plan_fleet},
    disturbed::check_all,
    harness::{START, Sandbox},
};
use forerunner::sandbox::{
    stage::CLIENT_ID,
    wire::{Fault, Service, What},
};
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use reqwest::Method;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fmt};

const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";
const ARM: &str = "https://management.azure.com";
const API_SERVER: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";

/// Has forerunner's rights, and none of its scruples.
struct Rogue<'a> {
    sandbox: &'a Sandbox,
    recorder: &'a Recorder,
    keys: Vec<String>,
}

impl Rogue<'_> {
    async fn call(&self, service: &str, method: Method, path: &str, body: Value) {
        let world = &self.sandbox.world;
        let url = format!("http://{}{path}", world.address(service).unwrap());
        let mut request = client().request(method, &url).header("User-Agent", "forerunner/rogue");
        request = match service {
            "gitlab" => request
                .header("Host", "gitlab.example.com")
                .header("Private-Token", world.gitlab.admin_token()),
            "arm" => request.bearer_auth(self.token(ARM).await),
            _ => request.bearer_auth(self.token(API_SERVER).await),
        };
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
    }

    async fn token(&self, resource: &str) -> String {
        let endpoint = self.sandbox.world.address("identity").unwrap();
        let url = format!(
            "http://{endpoint}/msi/token?api-version=2019-08-01&resource={resource}&client_id={CLIENT_ID}"
        );
        let header = self.sandbox.world.azure.identity_header();
        let request = client().get(url).header("x-identity-header", header);
        let answer: Value = request.send().await.unwrap().json().await.unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }

    fn runner(&self) -> u64 {
        self.sandbox.runner(&self.keys[0]).id
    }

    async fn remove_namespace(&self, key: &str) {
        let path = format!("/api/v1/namespaces/ci-nonprod--{key}");
        self.call("kubernetes", Method::DELETE, &path, Value::Null).await;
    }
}

async fn make_a_twin(rogue: &Rogue<'_>) {
    make_another(rogue, false).await;
}

async fn leave_a_twin(rogue: &Rogue<'_>) {
    make_another(rogue, true).await;
    let sweep = rogue.recorder.begin_sweep();
    rogue.recorder.end_sweep(sweep);
}

async fn make_another(rogue: &Rogue<'_>, paused: bool) {
    let runner = rogue.sandbox.runner(&rogue.keys[0]);
    let forerunner::sandbox::gitlab::Owner::Group(group) = runner.owner else {
        panic!("a group's")
    };
    let body = json!({ "runner_type": "group_type", "group_id": group,
        "description": runner.description, "tag_list": ["azure-plan"], "paused": paused });
    rogue.call("gitlab", Method::POST, "/api/v4/user/runners", body).await;
}

async fn edit_a_strangers_runner(rogue: &Rogue<'_>) {
    let world = &rogue.sandbox.world;
    let body = json!({ "runner_type": "instance_type", "description": "theirs" });
    let url = format!("http://{}/api/v4/user/runners", world.address("gitlab").unwrap());
    let request = client().post(url).header("Host", "gitlab.example.com");
    let answer = request.header("Private-Token", world.gitlab.admin_token()).json(&body).send();
    let answer: Value = answer.await.unwrap().json().await.unwrap();
    let path = format!("/api/v4/runners/{}", answer["id"]);
    rogue.call("gitlab", Method::PUT, &path, json!({ "description": "ours" })).await;
}

async fn remove_one(rogue: &Rogue<'_>) {
    rogue.remove_namespace(&rogue.keys[0]).await;
}

async fn remove_all(rogue: &Rogue<'_>) {
    for key in &rogue.keys {
        rogue.remove_namespace(key).await;
    }
}

async fn give_more(rogue: &Rogue<'_>) {
    let principal = rogue.sandbox.world.azure.identities().remove(0).principal_id;
    let path = format!(
        "{APP}/providers/Microsoft.Authorization/roleAssignments/00000000-0000-4000-8000-00000000beef?api-version=2022-04-01"
    );
    let role = format!(
        "/subscriptions/00000000-0000-4000-8000-000000002222/providers/Microsoft.Authorization/roleDefinitions/{CONTRIBUTOR}"
    );
    let properties = json!({ "roleDefinitionId": role, "principalId": principal, "principalType": "ServicePrincipal" });
    rogue.call("arm", Method::PUT, &path, json!({ "properties": properties })).await;
}

async fn write_without_the_session(rogue: &Rogue<'_>) {
    let path = format!("/api/v4/runners/{}", rogue.runner());
    rogue.call("gitlab", Method::PUT, &path, json!({ "paused": true })).await;
}

async fn write_to_what_is_held(rogue: &Rogue<'_>) {
    let now = rogue.sandbox.world.clock.now();
    let until = now + SignedDuration::from_hours(9);
    let order = json!({ "command": "hold", "targets": ["all"], "until": until.to_string(), "by": "jane", "why": "incident 7" });
    rogue.sandbox.order("approvals", &order);
    rogue.sandbox.settle().await;
    rogue.sandbox.leap_to(&(now + SignedDuration::from_hours(1)).to_string());
    write_without_the_session(rogue).await;
}

async fn reset_a_live_token(rogue: &Rogue<'_>) {
    let path = format!("/api/v4/runners/{}/reset_authentication_token", rogue.runner());
    rogue.call("gitlab", Method::POST, &path, Value::Null).await;
}

async fn tell_a_secret(rogue: &Rogue<'_>) {
    let path = format!("/api/v1/namespaces/{MANAGERS}/configmaps");
    let labels =
        json!({ "app.kubernetes.io/managed-by": "forerunner", "forerunner.dev/fleet": "nonprod" });
    let body = json!({ "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "status-told", "labels": labels },
        "data": { "record.json": rogue.sandbox.world.gitlab.admin_token() } });
    rogue.call("kubernetes", Method::POST, &path, body).await;
}

#[derive(Clone)]
struct Misdeed {
    /// What of the list it breaks.
    breaks: &'static str,
    deed: for<'a> fn(&'a Rogue<'a>) -> BoxFuture<'a, ()>,
}

impl fmt::Display for Misdeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.breaks)
    }
}

const MISDEEDS: [Misdeed; 12] = [
    Misdeed { breaks: INVARIANTS[0].0, deed: |rogue| Box::pin(make_a_twin(rogue)) },
    Misdeed { breaks: INVARIANTS[1].0, deed: |rogue| Box::pin(edit_a_strangers_runner(rogue)) },
    Misdeed { breaks: INVARIANTS[2].0, deed: |rogue| Box::pin(remove_one(rogue)) },
    Misdeed { breaks: INVARIANTS[3].0, deed: |rogue| Box::pin(remove_one(rogue)) },
    Misdeed { breaks: INVARIANTS[4].0, deed: |rogue| Box::pin(remove_all(rogue)) },
    Misdeed { breaks: INVARIANTS[5].0, deed: |rogue| Box::pin(give_more(rogue)) },
    Misdeed { breaks: INVARIANTS[6].0, deed: |rogue| Box::pin(write_without_the_session(rogue)) },
    Misdeed { breaks: INVARIANTS[7].0, deed: |rogue| Box::pin(reset_a_live_token(rogue)) },
    Misdeed { breaks: INVARIANTS[8].0, deed: |rogue| Box::pin(write_to_what_is_held(rogue)) },
    Misdeed { breaks: INVARIANTS[9].0, deed: |rogue| Box::pin(remove_one(rogue)) },
    Misdeed { breaks: INVARIANTS[10].0, deed: |rogue| Box::pin(leave_a_twin(rogue)) },
    Misdeed { breaks: "a secret", deed: |rogue| Box::pin(tell_a_secret(rogue)) },
];

fn truth(sandbox: &Sandbox) -> Truth {
    Truth {
        roles: vec![READER.to_owned()],
        scopes: vec![APP.to_owned()],
        issuer: sandbox.world.kubernetes.issuer(),
        deletions: (10, 20),
        sessions_are_sure: true,
        ..Truth::default()
    }
}

/// Seed 618854: the round that made the namespace got no further, and the cluster was first.
#[tokio::test]
async fn the_account_that_the_cluster_makes_in_our_namespace_is_ours_to_close() {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    let recorder = Recorder::watch(&sandbox, truth(&sandbox));
    let body = json!({ "kind": "Status", "code": 503 }).to_string();
    sandbox.world.wire.add_fault(Fault {
        service: Service::Kubernetes,
        method: Some("PATCH"),
        path: "/serviceaccounts/default".to_owned(),
        times: 3,
        what: What::Answer { status: 503, headers: vec![], body },
    });
    let group = sandbox.world.gitlab.create_group(Some(42), "one");
    sandbox.settle().await;
    sandbox.assert_ready(&format!("runner/g{group}-plan"));
    assert_eq!(recorder.broken(&sandbox), [""; 0]);
}

#[test]
fn each_invariant_breaks_where_forerunner_does_what_it_must_not() {
    check_all(&MISDEEDS, async |misdeed| {
        let sandbox = Sandbox::new(&plan_fleet()).await;
        let truth = truth(&sandbox);
        let recorder = Recorder::watch(&sandbox, truth.clone());
        let groups =
            ["one", "two", "three"].map(|name| sandbox.world.gitlab.create_group(Some(42), name));
        let keys: Vec<String> = groups.iter().map(|id| format!("g{id}-plan")).collect();
        sandbox.settle().await;
        let wanted: BTreeSet<String> = keys.iter().map(|key| format!("runner/{key}")).collect();
        assert_eq!(recorder.broken(&sandbox), [""; 0], "a provisioning breaks none");
        let day = START.parse::<Timestamp>().unwrap().to_zoned(TimeZone::UTC).date();
        recorder.tell(Truth { wanted, freeze: Some(day..=day), ..truth });
        (misdeed.deed)(&Rogue { sandbox: &sandbox, recorder: &recorder, keys }).await;
        let broken = recorder.broken(&sandbox);
        match broken.iter().any(|line| line.starts_with(misdeed.breaks)) {
            true => Ok(()),
            false => Err(format!("it broke {broken:#?}")),
        }
    });
}
