//! GitLab's rows about whose runner an entity is, and where its target is.

use super::{Settled, edit_runner, runner_id};
use crate::{
    deeds::{PLAIN, client, fleet},
    harness::Sandbox,
    look_alikes::runner_at,
};
use forerunner::sandbox::gitlab::RunnerEdit;
use serde_json::json;

/// A settled runner of one project, and its group.
async fn of_project() -> (Settled, u64) {
    let file = fleet(&format!(
        "rules:\n  - {{ match: {{ projects: 'platform/*' }}, profiles: [plain] }}\nprofiles:\n{PLAIN}"
    ));
    let sandbox = Sandbox::new(&file).await;
    let project = sandbox.world.gitlab.create_project(42, "images");
    sandbox.settle().await;
    let (key, unit) = (format!("p{project}-plain"), format!("runner/p{project}-plain"));
    sandbox.assert_ready(&unit);
    sandbox.lose_hooks();
    (Settled { sandbox, key, unit }, project)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_never_polls_is_told_and_comes_back_by_itself() {
    let sandbox = Sandbox::new(&crate::deeds::plain_fleet()).await;
    sandbox.world.kubernetes.set_unschedulable(true);
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    let unit = format!("runner/g{group}-plain");
    sandbox.pass_minutes(10).await;
    sandbox.lose_hooks();
    sandbox.leap_to("2026-11-24T11:00:00Z");
    sandbox.pass_minutes(1).await;
    let told = sandbox.condition(&unit, "Online");
    assert_eq!((&told["status"], &told["reason"]), (&json!(false), &json!("NeverContacted")));
    assert!(!sandbox.is_ready(&unit));
    assert_eq!(sandbox.world.gitlab.runners().len(), 1, "it is not made a second time");
    sandbox.world.kubernetes.set_unschedulable(false);
    sandbox.pass_minutes(30).await;
    sandbox.assert_ready(&unit);
    assert_eq!(sandbox.condition(&unit, "Online")["reason"], "Polling");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_marker_on_a_runner_of_another_type_is_told_and_left() {
    for kind in ["instance_type", "project_type"] {
        let settled = Settled::new().await;
        let (sandbox, gitlab) = (&settled.sandbox, &settled.sandbox.world.gitlab);
        let ours = sandbox.runner(&settled.key);
        let group = settled.key.trim_start_matches('g').split('-').next().unwrap().parse().unwrap();
        let mut scope = json!({ "runner_type": kind });
        if kind == "project_type" {
            scope["project_id"] = gitlab.create_project(group, "app").into();
        }
        let copy = runner_at(sandbox, scope, &ours.description).await;
        let before = gitlab.runner(copy);
        sandbox.sweep().await;
        assert_eq!(json!(gitlab.runner(copy)), json!(before), "{kind}");
        assert_eq!(gitlab.runner(ours.id).map(|one| one.id), Some(ours.id), "{kind}: ours stays");
        let found = sandbox.findings("LookAlike");
        let [(message, remedy)] = &found[..] else { panic!("{kind}: {}", sandbox.fleet_status()) };
        let runner = format!("runner {copy} in GitLab bears the marker of {} ", settled.unit);
        assert!(message.starts_with(&runner), "{kind}: {message}");
        assert!(remedy.contains("take the marker out"), "{kind}: {remedy}");
        sandbox.assert_ready(&settled.unit);
        gitlab.delete_runner(copy);
        sandbox.sweep().await;
        assert_eq!(sandbox.findings("LookAlike"), vec![], "{kind}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_lent_to_a_second_project_is_replaced_and_no_longer_polled_with() {
    let (settled, _) = of_project().await;
    let (sandbox, gitlab) = (&settled.sandbox, &settled.sandbox.world.gitlab);
    let old = sandbox.runner(&settled.key);
    gitlab.assign_runner(old.id, gitlab.create_project(77, "tools"));
    sandbox.sweep().await;
    sandbox.assert_ready(&settled.unit);
    let all = gitlab.runners();
    let [lent, new] = &all[..] else { panic!("{all:#?}") };
    assert_eq!((lent.id, &lent.token_sha256), (old.id, &old.token_sha256), "not touched");
    assert!(!new.paused && new.owner == old.owner && new.tags == old.tags, "{new:?}");
    // Jobs of the second project would have run as those of the first do.
    sandbox.pass_minutes(5).await;
    let last = gitlab.runner(lent.id).and_then(|one| one.contacted_at);
    sandbox.pass_minutes(30).await;
    assert_eq!(gitlab.runner(lent.id).and_then(|one| one.contacted_at), last, "nobody polls");
    sandbox.sweep().await;
    let found = sandbox.findings("LookAlike");
    let [(message, remedy)] = &found[..] else { panic!("{}", sandbox.fleet_status()) };
    let runner = format!("runner {} ", lent.id);
    for part in [&runner, &settled.unit, "serves further projects"] {
        assert!(message.contains(part), "{part}: {message}");
    }
    assert_eq!(remedy, "delete it in GitLab");
    assert_eq!(sandbox.findings("ForeignRunner"), vec![], "told once");
    let writes = sandbox.own_writes().len();
    sandbox.sweep().await;
    let further = sandbox.own_writes().split_off(writes).into_iter();
    // While two entities bear its marker, its round asks each time whose the token is.
    let further: Vec<_> = further.filter(|call| !call.contains("/runners/verify")).collect();
    assert_eq!(further, Vec::<String>::new());
    gitlab.delete_runner(lent.id);
    sandbox.sweep().await;
    assert_eq!(sandbox.findings("LookAlike"), vec![]);
}

/// Takes the runner away from a project, as its maintainer may; GitLab's answer.
async fn disable(sandbox: &Sandbox, project: u64, runner: u64) -> u16 {
    let gitlab = sandbox.world.address("gitlab").unwrap();
    let url = format!("http://{gitlab}/api/v4/projects/{project}/runners/{runner}");
    let token = sandbox.world.gitlab.admin_token();
    let request = client().delete(url).header("Private-Token", token);
    request.send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_keeps_its_runner_and_what_it_was_lent_to_in_between_changes_nothing() {
    let (settled, project) = of_project().await;
    let (sandbox, gitlab) = (&settled.sandbox, &settled.sandbox.world.gitlab);
    let (entity, whole) = (json!(sandbox.runner(&settled.key)), settled.whole());
    assert_eq!(disable(sandbox, project, runner_id(&settled)).await, 403, "its owner's");
    let other = gitlab.create_project(77, "tools");
    gitlab.assign_runner(runner_id(&settled), other);
    assert_eq!(disable(sandbox, other, runner_id(&settled)).await, 204);
    sandbox.world.wire.forget_calls();
    sandbox.sweep().await;
    let calls = sandbox.own_calls();
    assert!(!calls.iter().any(|call| call.starts_with("ServiceBus")), "{calls:#?}");
    assert_eq!(settled.whole(), whole);
    assert_eq!(json!(sandbox.runner(&settled.key))["token_sha256"], entity["token_sha256"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lent_runner_that_comes_back_after_it_was_replaced_is_a_twin_for_a_person_to_let_go() {
    let (settled, _) = of_project().await;
    let (sandbox, gitlab) = (&settled.sandbox, &settled.sandbox.world.gitlab);
    let (old, other) = (runner_id(&settled), gitlab.create_project(77, "tools"));
    gitlab.assign_runner(old, other);
    sandbox.sweep().await;
    sandbox.assert_ready(&settled.unit);
    gitlab.unassign_runner(old, other);
    sandbox.sweep().await;
    assert_eq!(sandbox.findings("LookAlike"), vec![]);
    let reason = sandbox.status(&settled.unit)["parked"]["reason"].to_string();
    let words = format!("runner {old} is a twin of ours that somebody polls with");
    assert!(reason.contains(&words), "{}", sandbox.status(&settled.unit));
    assert_eq!(gitlab.runners().len(), 2, "none is deleted unasked");
    let order =
        json!({"command": "confirm", "targets": [settled.unit], "by": "jane", "why": "SEC-1"});
    sandbox.order("approvals", &order);
    sandbox.settle().await;
    sandbox.assert_ready(&settled.unit);
    assert!(gitlab.runner(old).is_none(), "{}", sandbox.story());
    assert_eq!(gitlab.runners().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_that_moves_without_a_word_keeps_its_runner_where_the_rules_still_give_it() {
    let (settled, project) = of_project().await;
    let (sandbox, gitlab) = (&settled.sandbox, &settled.sandbox.world.gitlab);
    let (entity, whole) = (sandbox.runner(&settled.key).id, settled.whole());
    gitlab.rename_project(project, "pictures");
    sandbox.sweep().await;
    assert_eq!(settled.whole(), whole, "another name below the same group");
    // No rule is for where it goes.
    gitlab.transfer_project(project, 77);
    sandbox.sweep().await;
    assert_eq!(sandbox.ready(&settled.unit).0, "NotWanted");
    assert_eq!(settled.whole(), whole, "said, and kept until a permit");
    gitlab.transfer_project(project, 42);
    sandbox.sweep().await;
    sandbox.assert_ready(&settled.unit);
    assert_eq!(sandbox.runner(&settled.key).id, entity);
    assert_eq!(settled.whole(), whole);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_writes_over_the_note_of_our_pause_takes_the_pause_over() {
    let settled = Settled::new().await;
    let (sandbox, gitlab) = (&settled.sandbox, &settled.sandbox.world.gitlab);
    let group = settled.key.trim_start_matches('g').split('-').next().unwrap().parse().unwrap();
    gitlab.schedule_group_deletion(group);
    sandbox.sweep().await;
    let held = sandbox.runner(&settled.key);
    assert!(held.paused && held.maintenance_note.starts_with("forerunner:"), "{held:?}");
    let note = RunnerEdit { maintenance_note: Some("ask jane".into()), ..RunnerEdit::default() };
    edit_runner(&settled, note);
    gitlab.restore_group(group);
    sandbox.sweep().await;
    let kept = sandbox.runner(&settled.key);
    assert!(kept.paused && kept.maintenance_note == "ask jane", "{kept:?}");
    assert_eq!(sandbox.ready(&settled.unit).0, "PausedByPerson");
    let opened = RunnerEdit { paused: Some(false), ..RunnerEdit::default() };
    edit_runner(&settled, opened);
    sandbox.sweep().await;
    sandbox.assert_ready(&settled.unit);
    assert_eq!(sandbox.runner(&settled.key).maintenance_note, "ask jane");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_that_goes_to_rest_is_held_whole_and_undone_when_it_is_back() {
    for row in ["archived", "scheduled"] {
        let (settled, project) = of_project().await;
        let (sandbox, gitlab) = (&settled.sandbox, &settled.sandbox.world.gitlab);
        let whole = settled.whole();
        match row {
            "archived" => gitlab.set_project_archived(project, true),
            _ => gitlab.schedule_project_deletion(project),
        }
        sandbox.sweep().await;
        assert_eq!(sandbox.replicas(&settled.key), json!(0), "{row}");
        match row {
            "archived" => gitlab.set_project_archived(project, false),
            _ => gitlab.restore_project(project),
        }
        sandbox.sweep().await;
        sandbox.assert_ready(&settled.unit);
        assert_eq!(settled.whole(), whole, "{row}");
    }
}
