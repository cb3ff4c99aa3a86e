//! Every recorded hook, from the front of the host through the real program to the queue.

use crate::{
    deeds::{client, fleet},
    harness::{START, Sandbox},
};
use forerunner::{clock::Clock, sandbox::world::HOOK_TOKEN};
use serde_json::{Value, json};
use std::{fs, path::Path};

fn vectors() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/gitlab-hooks");
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap())
    };
    files
        .iter()
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .map(read)
        .collect()
}

/// Plain runners for whatever matches.
fn rules(matches: &str) -> String {
    fleet(&format!(
        "rules:\n  - {{ match: {{ {matches} }}, profiles: [plain] }}\nprofiles:\n  plain: {{ runner: {{ tags: [plain] }}, identity: none }}"
    ))
}

/// Posts a vector as GitLab would, with another token if told so; answers the status.
async fn post(sandbox: &Sandbox, vector: &Value, token: &str) -> u16 {
    let address = sandbox.world.address("host").unwrap();
    let mut request = client().post(format!("http://{address}/api/gitlab_hook"));
    for (name, value) in vector["headers"].as_object().unwrap() {
        if name != "X-Gitlab-Token" {
            request = request.header(name, value.as_str().unwrap());
        }
    }
    let request = request.header("X-Gitlab-Token", token).body(vector["body"].to_string());
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_recorded_hook_queues_its_unit_or_nothing() {
    let everywhere = rules("groups: ['*', '*/**'], projects: ['*/**']");
    let nowhere = rules("groups: elsewhere/x");
    let vectors = vectors();
    assert!(vectors.len() >= 8);
    for (file, can_match) in [(everywhere, true), (nowhere, false)] {
        for (name, vector) in &vectors {
            let sandbox =
                Sandbox::with_child_at(&file, Clock::frozen(START.parse().unwrap())).await;
            let queued = || {
                let messages = sandbox.world.service_bus.messages("rounds");
                messages
                    .iter()
                    .map(|message| {
                        let body = message.json().unwrap();
                        assert_eq!(message.properties.session_id.as_deref(), body["unit"].as_str());
                        (body["unit"].clone(), body["event"].clone())
                    })
                    .collect::<Vec<_>>()
            };
            assert_eq!(post(&sandbox, vector, "some-other-token-of-16").await, 401, "{name}");
            assert_eq!(queued(), [], "{name}: not proven");
            let expect = &vector["expect"];
            let event = expect["event"].as_str().unwrap_or_default();
            // A destroyed, renamed or moved target may have runners under its old path.
            let by_path = event.ends_with("_create") || event.ends_with("_update");
            let relevant = expect["relevant"] == true && (can_match || !by_path);
            let target = &expect["target"];
            let letter = target["kind"].as_str().and_then(|kind| kind.get(..1)).unwrap_or_default();
            let unit = json!(format!("target/{letter}{}", target["id"]));
            let expected: Vec<(Value, Value)> =
                relevant.then(|| (unit, expect["event"].clone())).into_iter().collect();
            for attempt in ["first", "repeated"] {
                assert_eq!(post(&sandbox, vector, HOOK_TOKEN).await, 200, "{name} {attempt}");
                assert_eq!(queued(), expected, "{name} {attempt}, could match: {can_match}");
            }
            let before = sandbox.own_calls();
            assert!(
                before
                    .iter()
                    .all(|call| !call.starts_with("Gitlab") && !call.starts_with("Kubernetes")),
                "{name}: a hook touches nothing else"
            );
            assert!(
                !sandbox.whole_story().contains("johnsmith@example.com"),
                "{name}: nothing of the body is logged"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_that_arrive_twice_late_and_out_of_order_do_no_harm() {
    use forerunner::sandbox::gitlab::Mischief;
    use jiff::SignedDuration;
    let sandbox = Sandbox::new(&rules("groups: 'tools/*'")).await;
    let tools = sandbox.world.gitlab.create_group(None, "tools");
    sandbox.settle().await;
    let disorder = SignedDuration::from_secs(30);
    sandbox.world.gitlab.set_mischief(Mischief {
        disorder,
        duplicate_percent: 100,
        ..Mischief::default()
    });
    let groups = ["a", "b", "c"].map(|name| sandbox.world.gitlab.create_group(Some(tools), name));
    sandbox.world.gitlab.rename_group(groups[0], "z");
    sandbox.pass_minutes(1).await;
    sandbox.settle().await;
    assert_eq!(sandbox.world.gitlab.runners().len(), 3, "{}", sandbox.story());
    for group in groups {
        sandbox.assert_ready(&format!("runner/g{group}-plain"));
    }
}
