//! The rows of docs/drift.md: damage a settled world, let one sweep look at it and the rounds it asks for mend it, and compare
//! with the undamaged world.

mod azure;
mod cluster;
mod file;
mod gitlab;
mod strangers;
mod watched;

use crate::{
    deeds::{APP, client, fleet, plan_profile},
    disturbed::{entries, inventory},
    harness::Sandbox,
};
use forerunner::sandbox::gitlab::RunnerEdit;
use serde_json::{Value, json};

/// What a row touches.
struct Settled {
    sandbox: Sandbox,
    key: String,
    unit: String,
}

const KINDS: [&str; 8] = [
    "namespaces",
    "serviceaccounts",
    "rolebindings",
    "resourcequotas",
    "limitranges",
    "networkpolicies",
    "deployments",
    "secrets",
];

impl Settled {
    async fn new() -> Self {
        Self::with(&plan_profile()).await
    }

    async fn with(profile: &str) -> Self {
        let file = fleet(&format!(
            "rules:\n  - {{ match: {{ groups: 'platform/*' }}, profiles: [plan] }}\nprofiles:\n{profile}"
        ));
        let sandbox = Sandbox::new(&file).await;
        let group = sandbox.world.gitlab.create_group(Some(42), "payments");
        sandbox.settle().await;
        let (key, unit) = (format!("g{group}-plan"), format!("runner/g{group}-plan"));
        sandbox.assert_ready(&unit);
        sandbox.lose_hooks();
        Self { sandbox, key, unit }
    }

    fn jobs(&self) -> String {
        format!("ci-nonprod--{}", self.key)
    }

    /// Everything that a row may damage, without what a server or a second making changes.
    fn whole(&self) -> Value {
        let mut all = inventory(&self.sandbox);
        let ours = |object: &Value| {
            object["metadata"]["labels"]["forerunner.dev/fleet"] == "nonprod"
                || object["metadata"]["namespace"] == *self.jobs()
        };
        for kind in KINDS {
            let found = self.sandbox.world.kubernetes.list(kind, "").into_iter().filter(ours);
            let own = found.map(|mut object| {
                let metadata = object["metadata"].as_object_mut().unwrap();
                let told = ["labels", "name", "namespace", "going"];
                let annotations: Vec<Value> = metadata
                    .get("annotations")
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten()
                    .filter(|(key, _)| !key.contains("settling-since") && !key.contains("revision"))
                    .map(|(key, value)| {
                        // Another identity of the same name has other ids.
                        let stable = !key.ends_with("-id")
                            && !key.contains("applied")
                            && !key.contains("restart");
                        json!([key, if stable { value.clone() } else { json!("…") }])
                    })
                    .collect();
                let going = metadata.contains_key("deletionTimestamp");
                metadata.insert("going".into(), going.into());
                metadata.retain(|key, _| told.contains(&key.as_str()));
                metadata.insert("annotations".into(), json!(annotations));
                object.as_object_mut().unwrap().remove("status");
                if kind == "secrets" {
                    object["data"] = json!("…");
                }
                strip(&mut object);
                object
            });
            all[kind] = own.collect();
        }
        let runners = self.sandbox.world.gitlab.runners();
        all["details"] = runners
            .iter()
            .map(|one| json!([one.run_untagged, one.maximum_timeout_seconds, one.ref_protected]))
            .collect();
        let azure = &self.sandbox.world.azure;
        let identities = azure.identities().into_iter();
        let doors = identities.flat_map(|identity| azure.credentials(&identity.id));
        all["doors"] =
            doors.map(|one| json!([one.name, one.issuer, one.subject, one.audiences])).collect();
        all
    }

    fn edit(&self, kind: &str, namespace: &str, name: &str, change: impl FnOnce(&mut Value)) {
        self.sandbox.world.kubernetes.edit(kind, namespace, name, change);
    }
}

/// Digests of a pod template that hold the restart annotation.
fn strip(object: &mut Value) {
    match object {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                if key.contains("forerunner.dev/restart") || key.contains("forerunner.dev/applied")
                {
                    *value = json!("…");
                } else {
                    strip(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Damages, sweeps once, compares.
async fn mended(row: &str, damage: impl FnOnce(&Settled)) {
    let settled = Settled::new().await;
    let before = settled.whole();
    damage(&settled);
    assert_ne!(settled.whole(), before, "{row}: the damage shows");
    settled.sandbox.sweep().await;
    let after = settled.whole();
    for (part, value) in before.as_object().unwrap() {
        assert_eq!(after[part], *value, "{row}: {part}\n{}", settled.sandbox.status(&settled.unit));
    }
    settled.sandbox.assert_ready(&settled.unit);
    let writes = settled.sandbox.own_writes().len();
    settled.sandbox.sweep().await;
    let further = settled.sandbox.own_writes().split_off(writes);
    assert!(further.is_empty(), "{row}: and then nothing more: {further:#?}");
}

fn runner_id(settled: &Settled) -> u64 {
    settled.sandbox.runner(&settled.key).id
}

fn edit_runner(settled: &Settled, edit: RunnerEdit) {
    settled.sandbox.world.gitlab.edit_runner(runner_id(settled), edit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_the_entity_are_mended() {
    let row = |name, edit: RunnerEdit| mended(name, |settled| edit_runner(settled, edit));
    row("tags", RunnerEdit { tags: Some(vec!["other".into()]), ..RunnerEdit::default() }).await;
    row("untagged", RunnerEdit { run_untagged: Some(true), ..RunnerEdit::default() }).await;
    row("protected", RunnerEdit { ref_protected: Some(true), ..RunnerEdit::default() }).await;
    row(
        "timeout",
        RunnerEdit { maximum_timeout_seconds: Some(Some(700)), ..RunnerEdit::default() },
    )
    .await;
    row("marker", RunnerEdit { description: Some("mine now".into()), ..RunnerEdit::default() })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_that_is_gone_is_made_anew() {
    mended("gone", |settled| {
        settled.sandbox.world.gitlab.delete_runner(runner_id(settled));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_identity_and_what_it_can_do_come_back() {
    let azure = |settled: &Settled| settled.sandbox.world.azure.identities().remove(0);
    mended("tags", |settled| {
        let mut tags = azure(settled).tags;
        tags.insert("costCenter".into(), "0000".into());
        settled.sandbox.world.azure.edit_identity_tags(&azure(settled).id, tags);
    })
    .await;
    mended("credential gone", |settled| {
        let id = azure(settled).id;
        let name = settled.sandbox.world.azure.credentials(&id).remove(0).name;
        assert!(settled.sandbox.world.azure.remove_credential(&id, &name));
    })
    .await;
    for wrong in ["issuer", "subject"] {
        mended(wrong, |settled| {
            let id = azure(settled).id;
            let mut credential = settled.sandbox.world.azure.credentials(&id).remove(0);
            match wrong {
                "issuer" => credential.issuer = "https://elsewhere.example.com/".into(),
                _ => credential.subject = "system:serviceaccount:default:default".into(),
            }
            settled.sandbox.world.azure.edit_credential(&id, credential);
        })
        .await;
    }
    mended("role gone", |settled| {
        let principal = azure(settled).principal_id;
        let all = settled.sandbox.world.azure.assignments();
        let own = all.iter().find(|one| one.principal_id == principal).unwrap();
        assert!(settled.sandbox.world.azure.remove_assignment(own.name));
    })
    .await;
    mended("identity gone", |settled| {
        let id = azure(settled).id;
        for one in settled.sandbox.world.azure.assignments() {
            if one.principal_id == azure(settled).principal_id {
                settled.sandbox.world.azure.remove_assignment(one.name);
            }
        }
        assert!(settled.sandbox.world.azure.remove_identity(&id));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_in_the_cluster_come_back_as_they_were() {
    let gone = |kind: &'static str, in_jobs: bool, name: fn(&Settled) -> String| {
        mended(kind, move |settled| {
            let namespace = if in_jobs { settled.jobs() } else { "forerunner-nonprod".into() };
            let kubernetes = &settled.sandbox.world.kubernetes;
            assert!(kubernetes.delete_as_admin(kind, &namespace, &name(settled)), "{kind}");
        })
    };
    let manager = |settled: &Settled| format!("runner-{}", settled.key);
    let bounds = |settled: &Settled| format!("jobs-{}", settled.key);
    gone("deployments", false, manager).await;
    gone("networkpolicies", false, manager).await;
    gone("networkpolicies", true, bounds).await;
    gone("rolebindings", true, manager).await;
    gone("resourcequotas", true, bounds).await;
    gone("limitranges", true, bounds).await;
    gone("serviceaccounts", true, |_| "job".into()).await;
    mended("namespaces", |settled| {
        assert!(settled.sandbox.world.kubernetes.delete_as_admin(
            "namespaces",
            "",
            &settled.jobs()
        ));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_of_objects_are_undone() {
    let managers = "forerunner-nonprod";
    mended("scaled", |settled| {
        settled.edit("deployments", managers, &format!("runner-{}", settled.key), |object| {
            object["spec"]["replicas"] = 3.into();
        });
    })
    .await;
    mended("image", |settled| {
        settled.edit("deployments", managers, &format!("runner-{}", settled.key), |object| {
            object["spec"]["template"]["spec"]["containers"][0]["image"] = "evil".into();
        });
    })
    .await;
    mended("Pod Security", |settled| {
        settled.edit("namespaces", "", &settled.jobs(), |object| {
            object["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] =
                "privileged".into();
        });
    })
    .await;
    mended("client id", |settled| {
        settled.edit("serviceaccounts", &settled.jobs(), "job", |object| {
            object["automountServiceAccountToken"] = true.into();
        });
    })
    .await;
    mended("policy loosened", |settled| {
        settled.edit(
            "networkpolicies",
            &settled.jobs(),
            &format!("jobs-{}", settled.key),
            |object| {
                object["spec"]["egress"] = json!([{}]);
            },
        );
    })
    .await;
    mended("quota", |settled| {
        settled.edit(
            "resourcequotas",
            &settled.jobs(),
            &format!("jobs-{}", settled.key),
            |object| {
                object["spec"]["hard"]["pods"] = "500".into();
            },
        );
    })
    .await;
    mended("binding", |settled| {
        settled.edit(
            "rolebindings",
            &settled.jobs(),
            &format!("runner-{}", settled.key),
            |object| {
                object["subjects"][0]["name"] = "somebody".into();
            },
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_or_credential_that_others_gave_is_told_or_taken_away() {
    for remove in [false, true] {
        let profile = match remove {
            true => {
                plan_profile().replace("  plan: { ", "  plan: { drift: { foreignRights: remove }, ")
            }
            false => plan_profile(),
        };
        let settled = Settled::with(&profile).await;
        let before = settled.whole();
        let azure = &settled.sandbox.world.azure;
        let identity = azure.identities().remove(0);
        let contributor = "b24988ac-6180-42a0-ab88-20f7382dd24c".parse().unwrap();
        azure.assign_role(APP, contributor, identity.principal_id, None);
        let mut door = azure.credentials(&identity.id).remove(0);
        door.name = "by-a-person".into();
        door.subject = "system:serviceaccount:elsewhere:builder".into();
        azure.edit_credential(&identity.id, door);
        settled.sandbox.sweep().await;
        if remove {
            assert_eq!(settled.whole(), before, "{}", settled.sandbox.story());
            settled.sandbox.assert_ready(&settled.unit);
            continue;
        }
        let told = settled.sandbox.condition(&settled.unit, "NeedsAdministrator");
        let message = told["message"].as_str().unwrap_or_default();
        for part in ["az role assignment delete --ids", "federatedIdentityCredentials/by-a-person"]
        {
            assert!(message.contains(part), "{part}: {told}\n{}", settled.sandbox.story());
        }
        assert_eq!(azure.credentials(&identity.id).len(), 2, "nothing of theirs is touched");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persons_pause_is_kept_or_undone_as_the_profile_says() {
    for (words, stays) in [("", true), ("drift: { paused: resume }, ", false)] {
        let profile = plan_profile().replace("  plan: { ", &format!("  plan: {{ {words}"));
        let settled = Settled::with(&profile).await;
        edit_runner(&settled, RunnerEdit { paused: Some(true), ..RunnerEdit::default() });
        settled.sandbox.sweep().await;
        assert_eq!(settled.sandbox.runner(&settled.key).paused, stays, "{words}");
        let reason = settled.sandbox.ready(&settled.unit).0;
        assert_eq!(reason, if stays { "PausedByPerson" } else { "Settled" });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_token_that_somebody_polled_with_waits_for_a_persons_word() {
    let settled = Settled::new().await;
    let name = format!("runner-{}-config", settled.key);
    assert!(settled.sandbox.world.kubernetes.delete_as_admin(
        "secrets",
        "forerunner-nonprod",
        &name
    ));
    settled.sandbox.sweep().await;
    let (reason, message) = settled.sandbox.ready(&settled.unit);
    assert_eq!(reason, "Parked", "{message}");
    assert!(message.contains("somebody has polled with it"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_a_manager_from_running_is_told_apart() {
    for (reason, words) in [
        ("ImagePullBackOff", "cannot be pulled"),
        ("CrashLoopBackOff", "again and again"),
        ("Unschedulable", "no node takes"),
    ] {
        let settled = Settled::new().await;
        let kubernetes = &settled.sandbox.world.kubernetes;
        match reason {
            "ImagePullBackOff" => kubernetes.fail_image_pulls(Some("gitlab-runner")),
            "CrashLoopBackOff" => kubernetes.crash_containers(Some("gitlab-runner")),
            _ => kubernetes.set_unschedulable(true),
        }
        let manager = format!("runner-{}", settled.key);
        assert!(kubernetes.delete_as_admin("deployments", "forerunner-nonprod", &manager));
        assert!(settled.sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
        settled.sandbox.pass_minutes(8).await;
        let told = settled.sandbox.condition(&settled.unit, "Deployed");
        assert_eq!(told["reason"], reason, "{told}\n{}", settled.sandbox.story());
        assert!(told["message"].as_str().unwrap().contains(words), "{told}");
        kubernetes.fail_image_pulls(None);
        kubernetes.crash_containers(None);
        kubernetes.set_unschedulable(false);
        settled.sandbox.settle().await;
        settled.sandbox.assert_ready(&settled.unit);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_who_polls_with_our_token_is_an_alarm() {
    let settled = Settled::new().await;
    let name = format!("runner-{}-config", settled.key);
    let secret = settled.sandbox.world.kubernetes.get("secrets", "forerunner-nonprod", &name);
    let (_, token) = entries(&secret.unwrap()).remove(0);
    let gitlab = settled.sandbox.world.address("gitlab").unwrap();
    let body = json!({"token": token, "system_id": "s_somebodyelse", "info": {}});
    let url = format!("http://{gitlab}/api/v4/jobs/request");
    client().post(url).json(&body).send().await.unwrap();
    settled.sandbox.wake(&settled.unit);
    settled.sandbox.settle().await;
    let told = settled.sandbox.condition(&settled.unit, "NeedsAdministrator");
    assert_eq!(told["reason"], "ForeignManager", "{told}\n{}", settled.sandbox.story());
    assert!(told["message"].as_str().unwrap().contains("s_somebodyelse"), "{told}");
    settled.sandbox.leap_to("2026-11-26T08:00:00Z");
    settled.sandbox.sweep().await;
    assert!(settled.sandbox.condition(&settled.unit, "NeedsAdministrator").is_null());
}
