//! Rows about who polls for a runner, and what keeps its manager from it.

use super::{MANAGERS, Settled, plan_for, runner_id};
use crate::{
    deeds::{client, plan_profile},
    disturbed::entries,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use forerunner::{
    domain::{fleet_status::is_command, ids::InstallationId, names},
    sandbox::gitlab::GroupLists,
};
use jiff::SignedDuration;
use serde_json::json;

/// Who may read in bulk everywhere, below the anchors, and nothing but runner by runner.
const READERS: [(&[u64], GroupLists); 3] =
    [(&[], GroupLists::Shown), (&[42], GroupLists::Shown), (&[42], GroupLists::Refused)];

async fn read_by((owned, lists): (&[u64], GroupLists)) -> Settled {
    let settled = Settled::of(&plan_for("platform/*", &plan_profile()), owned).await;
    settled.sandbox.world.gitlab.set_group_lists(lists);
    settled
}

async fn wakes_nobody(settled: &Settled) {
    settled.sandbox.world.wire.forget_calls();
    settled.sandbox.sweep().await;
    let calls = settled.sandbox.own_calls();
    assert!(!calls.iter().any(|call| call.starts_with("ServiceBus")), "{calls:#?}");
}

/// Whoever holds the runner's token calls GitLab with it.
async fn call(settled: &Settled, path: &str, system_id: &str) {
    let name = format!("runner-{}-config", settled.key);
    let secret = settled.sandbox.world.kubernetes.get("secrets", MANAGERS, &name);
    let (_, token) = entries(&secret.unwrap()).remove(0);
    let gitlab = settled.sandbox.world.address("gitlab").unwrap();
    let body = json!({"token": token, "system_id": system_id, "info": {}});
    let url = format!("http://{gitlab}/api/v4/{path}");
    let answer = client().post(url).json(&body).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_who_polls_with_our_token_is_an_alarm() {
    for reader in READERS {
        let settled = read_by(reader).await;
        let sandbox = &settled.sandbox;
        sandbox.sweep().await;
        call(&settled, "jobs/request", "s_somebodyelse").await;
        sandbox.sweep().await;
        let told = sandbox.condition(&settled.unit, "NeedsAdministrator");
        assert_eq!(told["reason"], "ForeignManager", "{told}\n{}", sandbox.story());
        let message = told["message"].as_str().unwrap();
        assert!(message.contains("s_somebodyelse"), "{told}");
        let command = message.split("; ").find(|step| is_command(step));
        let revoke = format!("forerunner send revoke {} --why ", settled.key);
        assert!(command.is_some_and(|command| command.starts_with(&revoke)), "{told}");
        sandbox.assert_ready(&settled.unit);
        let writes = sandbox.own_writes().len();
        sandbox.sweep().await;
        assert_eq!(sandbox.own_writes().split_off(writes), Vec::<String>::new());
        sandbox.leap_to("2026-11-26T08:00:00Z");
        sandbox.sweep().await;
        assert!(sandbox.condition(&settled.unit, "NeedsAdministrator").is_null());
        wakes_nobody(&settled).await;
    }
}

/// GitLab counts each of our own verifications as a contact of the runner.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_we_asked_whose_a_token_is_hides_no_silence_of_the_manager() {
    for reader in READERS {
        let settled = read_by(reader).await;
        let sandbox = &settled.sandbox;
        sandbox.world.managers.rest_between(SignedDuration::from_hours(24));
        // What it had in mind to ask it still asks.
        sandbox.pass_minutes(5).await;
        sandbox.leap_to("2026-11-24T11:00:00Z");
        let namespace = sandbox.world.kubernetes.get("namespaces", "", MANAGERS);
        let uid = namespace.unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
        let key = settled.key.parse().unwrap();
        let verifier = names::verifier_system_id(&InstallationId(uid), &key);
        call(&settled, "runners/verify", &verifier).await;
        let contacted = sandbox.world.gitlab.runner(runner_id(&settled)).unwrap().contacted_at;
        assert_eq!(contacted, Some(sandbox.world.clock.now()));
        assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
        sandbox.pass_minutes(1).await;
        let told = sandbox.condition(&settled.unit, "Online");
        assert_eq!(told["reason"], "Offline", "{told}\n{}", sandbox.story());
    }
}

/// The manager's pod has to start again; nothing else is touched.
async fn restart(settled: &Settled) {
    let kubernetes = &settled.sandbox.world.kubernetes;
    for pod in kubernetes.list("pods", MANAGERS) {
        let name = pod["metadata"]["name"].as_str().unwrap();
        assert!(kubernetes.delete_as_admin("pods", MANAGERS, name));
    }
    settled.sandbox.pass_minutes(2).await;
}

/// It reads what it is called once: its Secret is mended, and it polls on as somebody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_began_under_another_name_begins_anew() {
    let settled = Settled::new().await;
    let sandbox = &settled.sandbox;
    let secret = format!("runner-{}-config", settled.key);
    settled.edit("secrets", MANAGERS, &secret, |secret| {
        secret["data"][".runner_system_id"] = BASE64_STANDARD.encode("s_0123456789ab").into();
    });
    restart(&settled).await;
    sandbox.sweep().await;
    let told = sandbox.condition(&settled.unit, "NeedsAdministrator");
    assert_eq!(told["reason"], "ForeignManager", "{told}");
    let template = || {
        let manager = settled.manager();
        let live = sandbox.world.kubernetes.get("deployments", MANAGERS, &manager).unwrap();
        live["spec"]["template"]["metadata"]["annotations"].clone()
    };
    let before = template();
    for _ in 0..3 {
        sandbox.pass(SignedDuration::from_hours(1)).await;
    }
    sandbox.sweep().await;
    assert_ne!(template(), before, "{}", sandbox.status(&settled.unit));
    assert_eq!(sandbox.condition(&settled.unit, "Online")["reason"], "Polling");
    sandbox.assert_ready(&settled.unit);
    let once = template();
    sandbox.leap_to("2026-11-26T08:00:00Z");
    sandbox.sweep().await;
    assert_eq!(template(), once, "once");
    assert!(sandbox.condition(&settled.unit, "NeedsAdministrator").is_null());
    wakes_nobody(&settled).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_a_manager_from_running_is_told_apart() {
    for (reason, words) in [
        ("ImagePullBackOff", "cannot be pulled"),
        // The last line of its log, and no other.
        ("CrashLoopBackOff", "ends with 1 again and again: FATAL: the container ended at once"),
        ("Unschedulable", "no node takes the manager's pod: 0/3 nodes are available"),
    ] {
        let settled = Settled::new().await;
        let (sandbox, kubernetes) = (&settled.sandbox, &settled.sandbox.world.kubernetes);
        match reason {
            "ImagePullBackOff" => kubernetes.fail_image_pulls(Some("gitlab-runner")),
            "CrashLoopBackOff" => kubernetes.crash_containers(Some("gitlab-runner")),
            _ => kubernetes.set_unschedulable(true),
        }
        restart(&settled).await;
        sandbox.assert_ready(&settled.unit);
        assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
        sandbox.pass_minutes(1).await;
        let told = sandbox.condition(&settled.unit, "Deployed");
        assert_eq!(told["reason"], reason, "{told}\n{}", sandbox.story());
        let message = told["message"].as_str().unwrap();
        assert!(message.contains(words) && !message.contains('\n'), "{message}");
        assert!(!sandbox.is_ready(&settled.unit));
        kubernetes.fail_image_pulls(None);
        kubernetes.crash_containers(None);
        kubernetes.set_unschedulable(false);
        sandbox.settle().await;
        sandbox.assert_ready(&settled.unit);
        wakes_nobody(&settled).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_is_scaled_to_zero_for_good_reason_wakes_nobody() {
    let settled = Settled::new().await;
    let group = settled.key.trim_start_matches('g').split('-').next().unwrap().parse().unwrap();
    settled.sandbox.world.gitlab.archive_group(group);
    settled.sandbox.sweep().await;
    assert_eq!(settled.sandbox.replicas(&settled.key), json!(0));
    wakes_nobody(&settled).await;
}
