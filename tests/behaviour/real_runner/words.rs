//! The sandbox's manager says to GitLab what gitlab-runner says, member by member.

use super::protocol::Scene;
use forerunner::sandbox::{gitlab::JobStatus, wire::Service};
use jiff::SignedDuration;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

/// Of each call, such as `POST jobs/request` or `PUT jobs/:id success`, the bodies it was made with.
type Said = BTreeMap<String, Vec<Value>>;

#[tokio::test]
async fn the_sandboxs_manager_speaks_as_the_real_one_does() {
    let Some(scene) = Scene::new().await else { return };
    let heard: Arc<Mutex<Said>> = Arc::default();
    let hear = heard.clone();
    let observer = move |exchange: &forerunner::sandbox::wire::Exchange| {
        let Some(path) = exchange.path.strip_prefix("/api/v4/jobs/") else { return };
        let Ok(body) = serde_json::from_slice::<Value>(&exchange.request) else { return };
        let state = body["state"].as_str().unwrap_or_default();
        let what = if path == "request" { "request" } else { ":id" };
        let call = format!("{} jobs/{what} {state}", exchange.method);
        hear.lock().unwrap().entry(call).or_default().push(body);
    };
    scene.sandbox.world.wire.observe(&[Service::Gitlab], Arc::new(observer));
    let take = || std::mem::take(&mut *heard.lock().unwrap());

    let jobs = ["echo it is done", "exit 7"].map(|script| scene.add_job(script));
    let run = scene.start("run");
    let ends = [JobStatus::Success, JobStatus::Failed];
    scene.until("end of both jobs", |scene| jobs.map(|id| scene.job(id).status) == ends).await;
    drop(run);
    let mut real = take();
    // With what is said of the executor that jobs really have.
    scene.lay_configuration_of_pods();
    let run = scene.start("run");
    let asked = scene.polls().len();
    scene.until("polls", |scene| scene.polls().len() > asked + 1).await;
    drop(run);
    let polls = "POST jobs/request ";
    real.insert(polls.to_owned(), take().remove(polls).unwrap());

    let jobs = ["echo it is done", "exit 7"].map(|script| scene.add_job(script));
    scene.sandbox.pass(SignedDuration::from_secs(120)).await;
    assert_eq!(jobs.map(|id| scene.job(id).status), ends, "{}", scene.sandbox.story());
    let played = take();

    let mut different = Vec::new();
    assert_eq!(
        real.keys().collect::<Vec<_>>(),
        played.keys().collect::<Vec<_>>(),
        "the real calls on the left"
    );
    for (call, bodies) in &real {
        let [real, played] = [bodies, &played[call]].map(|bodies| members(bodies));
        let only_real: Vec<_> = real.difference(&played).collect();
        let only_played: Vec<_> = played.difference(&real).collect();
        different
            .extend(only_real.iter().map(|member| format!("{call}: only the real one: {member}")));
        different.extend(
            only_played.iter().map(|member| format!("{call}: only the played one: {member}")),
        );
    }
    let info = |said: &Said| said[polls].last().unwrap()["info"].clone();
    let [real, played] = [info(&real), info(&played)];
    for part in [
        "/name",
        "/version",
        "/platform",
        "/architecture",
        "/executor",
        "/shell",
        "/features",
        "/config",
    ] {
        let [real, played] = [real.pointer(part), played.pointer(part)];
        if real != played {
            different.push(format!(
                "{part}: the real one says {}, the played one {}",
                real.unwrap(),
                played.unwrap()
            ));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// The members that any of them has, with the type of each.
fn members(bodies: &[Value]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for body in bodies {
        collect("", body, &mut found);
    }
    found
}

fn collect(path: &str, value: &Value, found: &mut BTreeSet<String>) {
    let kind = match value {
        Value::Object(members) => {
            for (name, value) in members {
                collect(&format!("{path}.{name}"), value, found);
            }
            "object"
        }
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
    };
    found.insert(format!("{path}: {kind}"));
}
