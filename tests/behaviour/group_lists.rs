//! Who owns a group reads its whole tree in lists; what no list shows is looked for by its target, and nothing passes for absent
//! because a list does not show it.

use crate::{
    deeds::{PLAIN, fleet, plain_fleet},
    group_token::{give_owners_token, with_an_owners_token},
    harness::Sandbox,
    look_alikes::runner_at,
};
use forerunner::{
    cli::{
        adopt::{self, Adopt},
        load,
    },
    config,
    reconcile::Outcome,
    sandbox::{
        gitlab::{GroupLists, RunnerEdit, Settings},
        wire::{Fault, Service, What},
    },
};
use jiff::SignedDuration;
use serde_json::json;

/// A sweep without the rounds that it asks for: its first line, and its calls to GitLab.
async fn sweep_alone(sandbox: &Sandbox) -> (String, Vec<String>) {
    let given = sandbox.world.settings(&sandbox.folder.join("fleet.yaml"));
    let settings = config::Settings::read(|name| given.get(name).cloned()).unwrap();
    let rounds = load::load(&settings, sandbox.world.clock.clone()).unwrap().rounds;
    sandbox.world.wire.forget_calls();
    let outcome = rounds.sweep().await;
    let Outcome::Done(lines) = outcome else { panic!("{outcome:?}\n{}", sandbox.story()) };
    (lines[0].clone(), gitlab_calls(sandbox))
}

fn gitlab_calls(sandbox: &Sandbox) -> Vec<String> {
    sandbox.own_calls().into_iter().filter(|call| call.starts_with("Gitlab ")).collect()
}

/// How many of them list the runners of one target, or read one runner.
fn by_target(calls: &[String]) -> usize {
    let of_one = calls.iter().filter(|call| call.contains("/runners"));
    of_one.count()
}

fn in_bulk(calls: &[String]) -> usize {
    calls.iter().filter(|call| call.contains("/api/graphql")).count()
}

fn retag(sandbox: &Sandbox, key: &str) {
    let edit = RunnerEdit { tags: Some(vec!["everything".into()]), ..RunnerEdit::default() };
    sandbox.world.gitlab.edit_runner(sandbox.runner(key).id, edit);
}

/// What `cargo test` has in a few seconds; the nightly form has more than a page.
const FEW: usize = 30;
const ALL: usize = 104;

#[expect(clippy::disallowed_methods, reason = "a test that is told how much to do")]
fn size() -> usize {
    if std::env::var("FORERUNNER_HISTORIES").is_ok() { ALL } else { FEW }
}

/// So many groups below the anchor, each with a settled runner, and a token of the anchor's owner; the runners' keys.
async fn settled(most: usize, gitlab: Settings) -> (Sandbox, Vec<String>) {
    let sandbox = Sandbox::with_gitlab(&plain_fleet(), gitlab).await;
    give_owners_token(&sandbox, &[42]);
    sandbox.world.managers.rest_between(SignedDuration::from_mins(10));
    let gitlab = &sandbox.world.gitlab;
    let groups = (0..most).map(|number| gitlab.create_group(Some(42), &format!("team-{number}")));
    let keys: Vec<String> = groups.map(|group| format!("g{group}-plain")).collect();
    sandbox.settle().await;
    keys.iter().for_each(|key| sandbox.assert_ready(&format!("runner/{key}")));
    (sandbox, keys)
}

const NONE: &str = "woke 0 unit(s)";
const ONE: &str = "woke 1 unit(s)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runners_below_an_anchor_are_a_list_for_each_hundred_of_them() {
    let (sandbox, keys) = settled(size(), Settings::default()).await;
    let pages = keys.len().div_ceil(100);
    let (said, calls) = sweep_alone(&sandbox).await;
    assert_eq!((said.as_str(), by_target(&calls)), (NONE, 0), "{calls:#?}");
    // Everywhere in vain, then the pages; and the same for how many take jobs, which is one answer.
    assert_eq!(in_bulk(&calls), 1 + pages + 1 + 1, "{calls:#?}");
    // The groups, the other anchor, our token: nothing for each runner.
    assert!(calls.len() - in_bulk(&calls) <= pages + 3, "{calls:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_refused_empty_or_cut_short_makes_no_runner_disappear() {
    // So complex a query may have 25 rows.
    let complexity_max = 60;
    let (sandbox, keys) = settled(30, Settings { complexity_max, ..Settings::default() }).await;
    let gitlab = &sandbox.world.gitlab;
    let (said, calls) = sweep_alone(&sandbox).await;
    assert_eq!((said.as_str(), by_target(&calls)), (NONE, 0), "{calls:#?}");

    // None of these shows that a runner is gone: the target of each that was not shown is asked, and nobody woken.
    let shown = [(GroupLists::FirstPageOnly, 25), (GroupLists::Empty, 0), (GroupLists::Refused, 0)];
    for (lists, shown) in shown {
        gitlab.set_group_lists(lists);
        let (said, calls) = sweep_alone(&sandbox).await;
        let asked = 3 * (keys.len() - shown);
        assert_eq!((said.as_str(), by_target(&calls)), (NONE, asked), "{lists:?}");
    }
    for lists in [GroupLists::Empty, GroupLists::Shown] {
        gitlab.set_group_lists(lists);
        gitlab.delete_runner(sandbox.runner(&keys[3]).id);
        assert_eq!(sweep_alone(&sandbox).await.0, ONE, "{lists:?}: it is gone");
        sandbox.settle().await;
        sandbox.assert_ready(&format!("runner/{}", keys[3]));
    }

    // A list that breaks off says nothing at all, and holds up permits.
    sandbox.world.wire.add_fault(Fault {
        service: Service::Gitlab,
        method: Some("POST"),
        path: "/api/graphql".into(),
        times: usize::MAX,
        what: What::Answer { status: 503, body: "later".into(), headers: vec![] },
    });
    retag(&sandbox, &keys[5]);
    assert_eq!(sweep_alone(&sandbox).await.0, NONE);
    assert_eq!(sandbox.fleet_status()["whole"], false);
    sandbox.world.wire.clear_faults();
    assert_eq!(sweep_alone(&sandbox).await.0, ONE);
    assert_eq!(sandbox.fleet_status()["whole"], true);
}

/// Plain runners for groups below the anchor and below a group that no anchor pins; both are the token's.
async fn with_guests() -> (Sandbox, u64) {
    let file = fleet(&format!(
        "rules:\n  - {{ match: {{ groups: ['platform/*', 'guests/*'] }}, profiles: [plain] }}\nprofiles:\n{PLAIN}"
    ));
    let sandbox = Sandbox::new(&file).await;
    let guests = sandbox.world.gitlab.create_group(None, "guests");
    give_owners_token(&sandbox, &[42, guests]);
    (sandbox, guests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_outside_of_the_anchors_is_looked_for_by_its_target() {
    let (sandbox, guests) = with_guests().await;
    let gitlab = &sandbox.world.gitlab;
    let groups = ["ash", "birch", "cedar"].map(|name| gitlab.create_group(Some(42), name));
    let keys = groups.map(|group| format!("g{group}-plain"));
    sandbox.settle().await;
    sandbox.lose_hooks();
    let ids = || keys.clone().map(|key| sandbox.runner(&key).id);
    let before = ids();
    assert_eq!(by_target(&sweep_alone(&sandbox).await.1), 0);
    groups[1..].iter().for_each(|group| gitlab.transfer_group(*group, Some(guests)));
    sandbox.sweep().await;
    let (said, calls) = sweep_alone(&sandbox).await;
    assert_eq!(said, NONE, "{}", sandbox.story());
    // A list, an entity and who polls with it for each that moved away.
    assert_eq!(by_target(&calls), 6, "{calls:#?}");
    assert_eq!(ids(), before, "none is made anew");
    retag(&sandbox, &keys[2]);
    sandbox.sweep().await;
    assert_eq!(sandbox.runner(&keys[2]).tags, ["plain"], "{}", sandbox.story());

    // That none of them can be asked hides nothing of what the lists show.
    for group in &groups[1..] {
        sandbox.world.wire.add_fault(Fault {
            service: Service::Gitlab,
            method: Some("GET"),
            path: format!("/groups/{group}/runners"),
            times: usize::MAX,
            what: What::Answer { status: 500, body: "no".into(), headers: vec![] },
        });
    }
    retag(&sandbox, &keys[0]);
    assert_eq!(sweep_alone(&sandbox).await.0, ONE);
    assert_eq!(sandbox.fleet_status()["whole"], false, "and what was not seen is told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_anchors_id_counts_whatever_it_is_called_now() {
    let sandbox = with_an_owners_token().await;
    let gitlab = &sandbox.world.gitlab;
    let group = gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.lose_hooks();
    gitlab.rename_group(42, "platform-2");
    // Somebody else's group has the old path.
    gitlab.create_group(None, "platform");
    let (_, calls) = sweep_alone(&sandbox).await;
    assert_eq!(by_target(&calls), 0, "{calls:#?}");
    let _ = sandbox.runner(&format!("g{group}-plain"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entity_that_bears_our_marker_elsewhere_below_the_anchor_is_told() {
    let sandbox = with_an_owners_token().await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let unit = format!("runner/g{group}-plain");
    let other = sandbox.world.gitlab.create_group(Some(group), "below");
    let scope = json!({ "runner_type": "group_type", "group_id": other });
    let text = sandbox.runner(&format!("g{group}-plain")).description;
    let copy = runner_at(&sandbox, scope, &text).await;
    let before = json!(sandbox.world.gitlab.runner(copy));
    sandbox.sweep().await;
    let found = sandbox.findings("LookAlike");
    let [(message, _)] = &found[..] else { panic!("{}", sandbox.fleet_status()) };
    assert!(message.contains(&format!("runner {copy} ")), "{message}");
    assert_eq!(json!(sandbox.world.gitlab.runner(copy)), before);
    sandbox.assert_ready(&unit);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_takes_over_what_lies_below_the_anchors_and_outside_of_them() {
    let (sandbox, guests) = with_guests().await;
    let gitlab = &sandbox.world.gitlab;
    let below = gitlab.create_group(Some(42), "payments");
    let outside = gitlab.create_group(Some(guests), "visitors");
    let mut orphans: Vec<u64> = Vec::new();
    for group in [below, outside] {
        let text = format!(
            "plain [forerunner:nonprod:00000000-0000-4000-8000-0000000000ff:g{group}-plain:1]"
        );
        let scope = json!({ "runner_type": "group_type", "group_id": group });
        orphans.push(runner_at(&sandbox, scope, &text).await);
    }
    let lists_of = |group: u64| {
        let calls = gitlab_calls(&sandbox);
        calls.iter().filter(|call| call.contains(&format!("/groups/{group}/runners"))).count()
    };
    for (lists, asked) in [(GroupLists::Shown, 0), (GroupLists::Empty, 1), (GroupLists::Refused, 1)]
    {
        gitlab.set_group_lists(lists);
        sandbox.world.wire.forget_calls();
        let look = Adopt {
            fleet: true,
            dry_run: true,
            yes: false,
            json: false,
            env_file: None,
            policy: None,
            audit: None,
        };
        let told = adopt::answer(&look, &sandbox.desk_without(&[]), |_| panic!("asks")).await;
        for id in &orphans {
            assert!(told.out.contains(&format!("GitLab runner {id}, ")), "{lists:?}: {}", told.out);
        }
        assert_eq!((lists_of(below), lists_of(outside)), (asked, 1), "{lists:?}");
    }
}
