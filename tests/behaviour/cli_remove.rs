//! `forerunner remove`: takes away what is named, or the whole fleet, and lists what stays and why.

use crate::{
    cli_apply::{at_desk, without_sweeps},
    crashes::{crashes, some_of},
    deeds::{APP, fleet},
    disturbed::{check_all, run, same},
    harness::Sandbox,
};
use forerunner::sandbox::{
    azure::Lock,
    gitlab::{JobStatus, NewJob},
    wire::{Call, Wire},
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::time::Duration;

const IDENTITIES: &str =
    "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-runner-identities";

/// One profile of each kind: an identity of its own, none at all, and one that nobody may remove.
fn three_profiles() -> String {
    fleet(&format!(
        "rules:
  - {{ match: {{ groups: 'platform/*' }}, profiles: [plan, plain] }}
  - {{ match: {{ groups: 'infra/*' }}, profiles: [kept] }}
profiles:
  plan: {{ runner: {{ tags: [azure-plan] }}, identity: {{ managed: {{ roles: [{{ role: Reader, scope: {APP} }}] }} }} }}
  plain: {{ runner: {{ tags: [plain] }}, identity: none }}
  kept: {{ runner: {{ tags: [kept] }}, identity: none, protect: true }}
"
    ))
}

/// What is there of these keys, in every service.
fn of(sandbox: &Sandbox, keys: &[String]) -> Vec<String> {
    let inventory = sandbox.inventory().to_string();
    keys.iter().filter(|key| inventory.contains(key.as_str())).cloned().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_fleet_goes_but_for_what_is_protected() {
    for has_queue in [false, true] {
        let sandbox = without_sweeps(&three_profiles()).await;
        let gitlab = &sandbox.world.gitlab;
        let [one, two] = ["one", "two"].map(|name| gitlab.create_group(Some(42), name));
        let kept = gitlab.create_group(Some(77), "vault");
        sandbox.settle().await;
        let all: Vec<String> = [one, two]
            .iter()
            .flat_map(|group| [format!("g{group}-plan"), format!("g{group}-plain")])
            .collect();
        let safe = format!("g{kept}-kept");
        assert_eq!(of(&sandbox, &all), all);
        let writes = sandbox.own_writes().len();
        let base = ["remove", "--all", "--why", "the installation ends"];
        let local = if has_queue { &[][..] } else { &["--local"] };

        let (code, out, err) =
            at_desk(&sandbox, has_queue, &[&base[..], &["--dry-run"]].concat()).await;
        assert_eq!(code, Some(0), "{out}\n{err}");
        assert!(out.contains("4 unit(s) to take away for good, 1 kept"), "{out}");
        assert!(out.contains(&format!("- runner/g{one}-plan  platform/one")), "{out}");
        let (code, _, err) = at_desk(&sandbox, has_queue, &[&base[..], local].concat()).await;
        assert!(code == Some(2) && err.contains("say --yes"), "{err}");
        assert_eq!(sandbox.own_writes().len(), writes, "nobody said yes");

        let (code, out, err) =
            at_desk(&sandbox, has_queue, &[&base[..], local, &["--yes"]].concat()).await;
        assert_eq!(code, Some(1), "one stays: {out}\n{err}");
        assert!(out.contains("4 unit(s) are gone, 1 stay"), "{out}\n{err}");
        let stays = format!("`runner/{safe}` stays: `protect: true` keeps it");
        assert!(err.contains(&stays), "{err}");
        assert_eq!(of(&sandbox, &all), Vec::<String>::new());
        assert!(sandbox.world.azure.identities().is_empty(), "no identity is left behind");
        sandbox.assert_ready(&format!("runner/{safe}"));
        assert!(!err.contains("glrt-") && !out.contains("glrt-"), "{out}{err}");

        // Once more: there is nothing to take, and the same stays.
        let json = [&base[..], local, &["--yes", "--json"]].concat();
        let (code, out, _) = at_desk(&sandbox, has_queue, &json).await;
        let told: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &told["removed"]), (Some(1), &json!([])), "{out}");
        assert_eq!(told["stays"][0]["unit"], format!("runner/{safe}"), "{out}");
        // What the file still gives stays away for a day.
        sandbox.sweep().await;
        sandbox.settle().await;
        assert_eq!(of(&sandbox, &all), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_go_is_told_with_its_reason() {
    for has_queue in [false, true] {
        let sandbox = without_sweeps(&three_profiles()).await;
        let gitlab = &sandbox.world.gitlab;
        let [busy, idle] = ["busy", "idle"].map(|name| gitlab.create_group(Some(42), name));
        sandbox.settle().await;
        let project = gitlab.create_project(busy, "ledger");
        let job = NewJob {
            tags: vec!["plain".into()],
            script: vec!["sleep 80000".into()],
            ..NewJob::default()
        };
        let job = gitlab.create_job(project, job);
        sandbox.pass(SignedDuration::from_secs(10)).await;
        assert_eq!(gitlab.job(job).unwrap().status, JobStatus::Running);
        sandbox.world.azure.lock(IDENTITIES, Lock::CannotDelete);
        let local = if has_queue { &[][..] } else { &["--local"] };
        let base = ["remove", "--yes", "--why", "x"];
        // Less than the hour that a job may run.
        let stuck = format!("runner/g{idle}-plan");
        let some = ["platform/busy", &stuck, "--timeout", "40"];
        let run = [&base[..], &some, local].concat();
        let (code, out, err) = at_desk(&sandbox, has_queue, &run).await;
        assert_eq!(code, Some(1), "{out}\n{err}");
        assert!(out.contains("0 unit(s) are gone, 3 stay"), "{out}\n{err}");
        assert_eq!(gitlab.job(job).unwrap().status, JobStatus::Running, "nobody cut it off");
        let reason = |key: String| {
            let begins = format!("error: `runner/{key}` stays: ");
            let line = err.lines().find_map(|line| line.strip_prefix(&begins));
            line.unwrap_or_else(|| panic!("nothing of {key}: {err}")).to_owned()
        };
        assert!(reason(format!("g{busy}-plain")).contains("job"), "{err}");
        for group in [busy, idle] {
            let why = reason(format!("g{group}-plan"));
            assert!(why.contains("lock"), "{why}");
        }
        let plain = format!("runner/g{idle}-plain");
        let run = [&base[..], &[&plain], local].concat();
        let (code, out, err) = at_desk(&sandbox, has_queue, &run).await;
        assert_eq!(code, Some(0), "{out}\n{err}");
        assert_eq!(of(&sandbox, &[format!("g{idle}-plain")]), Vec::<String>::new());
    }
    let sandbox = without_sweeps(&three_profiles()).await;
    let (code, _, err) = at_desk(&sandbox, false, &["remove", "--why", "x", "g1"]).await;
    assert!(code == Some(2) && err.contains("--local"), "who would do it: {err}");
    let nobody = ["remove", "--local", "--why", "x", "--profile", "nosuch", "g1"];
    let (code, _, err) = at_desk(&sandbox, false, &nobody).await;
    assert!(code == Some(2) && err.contains("`profile` is none of fleet.yaml"), "{err}");
    let nobody = ["remove", "--local", "--yes", "--why", "x", "platform/nosuch"];
    let (code, _, err) = at_desk(&sandbox, false, &nobody).await;
    assert!(code == Some(2) && err.contains("word 1 of `targets`"), "{err}");
}

const ALL_FROM_HERE: [&str; 6] =
    ["remove", "--all", "--local", "--yes", "--why", "the installation ends"];

/// A fleet of three, one of them protected, that only the desk looks at.
async fn made() -> Sandbox {
    let sandbox = without_sweeps(&three_profiles()).await;
    sandbox.world.gitlab.create_group(Some(42), "one");
    sandbox.world.gitlab.create_group(Some(77), "vault");
    sandbox.settle().await;
    sandbox.lose_hooks();
    sandbox
}

/// Waits for the call that the desk is to die around, and for its effect if it is to have one.
#[expect(clippy::disallowed_methods, reason = "another process calls at its own pace")]
async fn died(wire: &Wire) {
    while wire.awaits_crash() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
}

/// The desk dies around a call; who says it again has the rest taken away.
#[test]
fn a_desk_that_dies_leaves_the_rest_to_the_next() {
    let (expected, calls) = run(async {
        let sandbox = made().await;
        let before = sandbox.world.wire.calls().len();
        let (code, out, err) = at_desk(&sandbox, false, &ALL_FROM_HERE).await;
        assert_eq!(code, Some(1), "one stays: {out}\n{err}");
        let calls = sandbox.world.wire.calls().into_iter().skip(before);
        (sandbox.inventory(), calls.filter(Call::is_ours).collect::<Vec<_>>())
    });
    check_all(&some_of(crashes(&calls)), async |crash| {
        let sandbox = made().await;
        let wire = &sandbox.world.wire;
        wire.crash_at(crash.call, crash.moment);
        tokio::select! {
            () = died(wire) => {}
            // Parallel calls come in any order, and there may be one less.
            _ = at_desk(&sandbox, false, &ALL_FROM_HERE) => {}
        }
        wire.crash_at(usize::MAX, crash.moment);
        let (code, out, err) = at_desk(&sandbox, false, &ALL_FROM_HERE).await;
        let told = format!("{out}\n{err}");
        if code != Some(1) || !out.contains("1 stay") {
            return Err(format!("{code:?} {told}"));
        }
        same(&sandbox, &sandbox.inventory(), &expected).map_err(|why| format!("{why}\n{told}"))
    });
}
