//! Targets that GitLab no longer has: what forerunner made for them goes, as far as it can prove that they are gone.

use crate::{
    cli_apply::as_told,
    group_token::with_an_owners_token,
    harness::Sandbox,
    removal::{days, deleted, only, settled},
};
use serde_json::json;

/// Two groups, each with a settled runner two days old, and their units.
async fn two_groups() -> (Sandbox, [u64; 2], [String; 2]) {
    let (sandbox, one) = settled(&only("*")).await;
    let other = sandbox.world.gitlab.create_group(Some(42), "other");
    sandbox.settle().await;
    (sandbox, [one, other], [one, other].map(|group| format!("runner/g{group}-plan")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_groups_of_a_fleet_go_where_their_anchor_is_still_there() {
    let (sandbox, groups, units) = two_groups().await;
    groups.iter().for_each(|group| sandbox.world.gitlab.destroy_group(*group));
    sandbox.settle().await;
    for unit in &units {
        assert_eq!(sandbox.ready(unit).0, "LostSightOf", "one 404 proves nothing");
    }
    sandbox.pass_minutes(10).await;
    sandbox.sweep().await;
    for unit in &units {
        assert_eq!(sandbox.ready(unit).0, "Leaving", "{}", sandbox.status(unit));
    }
    sandbox.leap_to(&days(12));
    sandbox.sweep().await;
    assert!(sandbox.world.gitlab.runners().is_empty(), "{:?}", sandbox.world.gitlab.runners());
    assert!(sandbox.world.azure.identities().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_all_groups_and_their_anchors_are_lost_from_sight_nothing_goes() {
    let (sandbox, _, units) = two_groups().await;
    for anchor in [42, 77] {
        sandbox.world.gitlab.destroy_group(anchor);
    }
    sandbox.settle().await;
    for day in [3, 4, 20] {
        sandbox.leap_to(&days(day));
        sandbox.sweep().await;
        for unit in &units {
            assert_eq!(sandbox.ready(unit).0, "LostSightOf", "{}", sandbox.status(unit));
        }
    }
    assert!(deleted(&sandbox).is_empty(), "{:#?}", deleted(&sandbox));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_orphan_that_nothing_proves_to_be_ours_is_told_with_the_command_and_left() {
    let (sandbox, [group, other], [unit, _]) = two_groups().await;
    let runner = sandbox.runner(&format!("g{group}-plan")).id;
    for group in [group, other] {
        sandbox.world.gitlab.destroy_group(group);
    }
    sandbox.settle().await;
    sandbox.pass_minutes(10).await;
    sandbox.sweep().await;
    assert_eq!(sandbox.findings("LookAlike"), vec![], "it goes with its unit");
    let secret = format!("runner-g{group}-plan-config");
    sandbox.world.kubernetes.delete_as_admin("secrets", "forerunner-nonprod", &secret);
    for day in [12, 13] {
        sandbox.leap_to(&days(day));
        sandbox.sweep().await;
    }
    assert!(sandbox.status(&unit).is_null(), "{}", sandbox.status(&unit));
    let left: Vec<u64> = sandbox.world.gitlab.runners().iter().map(|runner| runner.id).collect();
    assert_eq!(left, [runner], "no manager is left, and still");
    let found = sandbox.findings("LookAlike");
    let [(message, remedy)] = &found[..] else { panic!("{}", sandbox.fleet_status()) };
    assert!(message.contains(&format!("runner {runner} ")), "{message}");
    assert!(message.contains("belongs to nobody"), "{message}");
    assert_eq!(*remedy, format!("glab api --method DELETE runners/{runner}"));
    assert!(sandbox.world.gitlab.runner(runner).is_some());
    // Seed 100826 of the histories: a fleet that has no rule any more is told of it as well.
    let file = only("*");
    let rules = file.lines().filter(|line| !line.contains("match:")).collect::<Vec<_>>();
    sandbox.deploy(&rules.join("\n").replace("rules:", "rules: []")).await;
    sandbox.sweep().await;
    assert_eq!(sandbox.findings("LookAlike"), found);
    sandbox.world.gitlab.delete_runner(runner);
    sandbox.sweep().await;
    assert_eq!(sandbox.findings("LookAlike"), vec![]);
}

/// A unit that no rule wants any more, said and kept because the ledger is young; its manager is deleted by somebody.
async fn unwanted_and_without_manager() -> (Sandbox, u64, String) {
    let sandbox = Sandbox::new(&only("payments")).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.deploy(&only("nobody")).await;
    sandbox.sweep().await;
    let unit = format!("runner/g{group}-plan");
    assert_eq!(sandbox.ready(&unit).0, "NotWanted");
    let manager = format!("runner-g{group}-plan");
    sandbox.world.kubernetes.delete_as_admin("deployments", "forerunner-nonprod", &manager);
    (sandbox, group, unit)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unit_that_was_unwanted_before_its_target_was_destroyed_goes_too() {
    let (sandbox, group, unit) = unwanted_and_without_manager().await;
    sandbox.lose_hooks();
    sandbox.world.gitlab.destroy_group(group);
    for day in [2, 3] {
        sandbox.leap_to(&days(day));
        sandbox.sweep().await;
    }
    assert_eq!(sandbox.ready(&unit).0, "Leaving", "{}", sandbox.status(&unit));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroy_hook_is_remembered_of_a_unit_whose_manager_is_gone() {
    let (sandbox, group, unit) = unwanted_and_without_manager().await;
    sandbox.world.gitlab.destroy_group(group);
    sandbox.settle().await;
    let missing = &sandbox.status(&unit)["missing"];
    assert!(missing["destroyed"].is_string(), "{}", sandbox.status(&unit));
}

/// Two groups with a settled runner each, of which one is lost from the sight of an owner's token without a word: destroyed, or moved
/// away. Its id, key and unit.
async fn lost_from_an_owners_sight(destroyed: bool) -> (Sandbox, u64, String, String) {
    let sandbox = with_an_owners_token().await;
    let gitlab = &sandbox.world.gitlab;
    let [group, _] = ["payments", "other"].map(|name| gitlab.create_group(Some(42), name));
    sandbox.settle().await;
    sandbox.leap_to(&days(2));
    sandbox.sweep().await;
    let (key, unit) = (format!("g{group}-plain"), format!("runner/g{group}-plain"));
    sandbox.assert_ready(&unit);
    sandbox.lose_hooks();
    match destroyed {
        true => gitlab.destroy_group(group),
        false => gitlab.transfer_group(group, Some(gitlab.create_group(None, "elsewhere"))),
    }
    sandbox.sweep().await;
    (sandbox, group, key, unit)
}

fn order(sandbox: &Sandbox, command: &str, target: &str) {
    let body = json!({"command": command, "targets": [target], "by": "jane", "why": "SEC-1"});
    sandbox.order("approvals", &body);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_word_proves_the_end_that_no_hook_told_of() {
    let (sandbox, group, key, unit) = lost_from_an_owners_sight(true).await;
    sandbox.pass_minutes(10).await;
    sandbox.sweep().await;
    let (reason, message) = sandbox.ready(&unit);
    assert_eq!(reason, "LostSightOf", "an owner's token proves nothing");
    assert!(message.contains(&format!("`forerunner send confirm {key} --why …`")), "{message}");
    // Who confirms whatever waits says nothing of this one.
    order(&sandbox, "confirm", "all");
    sandbox.settle().await;
    assert_eq!(sandbox.ready(&unit).0, "LostSightOf");
    assert!(sandbox.status(&unit)["missing"]["destroyed"].is_null());
    order(&sandbox, "confirm", &format!("g{group}"));
    sandbox.settle().await;
    assert_eq!(sandbox.ready(&unit).0, "Leaving", "{}", sandbox.status(&unit));
    for day in [3, 5, 7, 10, 12] {
        sandbox.leap_to(&days(day));
        sandbox.sweep().await;
    }
    assert!(sandbox.status(&unit).is_null(), "{}", sandbox.status(&unit));
    assert!(!sandbox.inventory()["objects"].to_string().contains(&key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_word_counts_once_the_target_was_looked_for_twice() {
    let (sandbox, _, _, unit) = lost_from_an_owners_sight(true).await;
    order(&sandbox, "confirm", &unit);
    sandbox.settle().await;
    assert_eq!(sandbox.ready(&unit).0, "LostSightOf", "one 404 proves nothing");
    assert!(sandbox.status(&unit)["missing"]["destroyed"].is_string());
    sandbox.pass_minutes(10).await;
    sandbox.sweep().await;
    assert_eq!(sandbox.ready(&unit).0, "Leaving", "{}", sandbox.status(&unit));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_to_remove_goes_on_when_an_operator_says_that_the_target_is_destroyed() {
    let (sandbox, _, key, unit) = lost_from_an_owners_sight(true).await;
    order(&sandbox, "remove", &unit);
    sandbox.pass_minutes(15).await;
    let (reason, message) = sandbox.ready(&unit);
    assert!(reason == "Leaving" && message.contains("GitLab hides"), "{reason}: {message}");
    assert!(message.contains(&format!("`forerunner send confirm {key} --why …`")), "{message}");
    let (code, _, err) = as_told(&sandbox, &message, &[]).await;
    assert_eq!(code, Some(0), "{err}");
    sandbox.pass_minutes(15).await;
    assert!(sandbox.status(&unit).is_null(), "{}", sandbox.status(&unit));
    assert!(!sandbox.inventory()["objects"].to_string().contains(&key));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_who_was_wrong_has_the_grace_to_see_it() {
    let (sandbox, group, key, unit) = lost_from_an_owners_sight(false).await;
    let before = sandbox.runner(&key).id;
    sandbox.pass_minutes(10).await;
    order(&sandbox, "confirm", &unit);
    sandbox.settle().await;
    assert_eq!(sandbox.ready(&unit).0, "Leaving", "{}", sandbox.status(&unit));
    sandbox.world.gitlab.transfer_group(group, Some(42));
    sandbox.sweep().await;
    sandbox.assert_ready(&unit);
    assert_eq!((sandbox.runner(&key).id, sandbox.runner(&key).paused), (before, false));
    assert!(sandbox.status(&unit)["missing"].is_null(), "{}", sandbox.status(&unit));
}
