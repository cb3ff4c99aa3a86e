//! Runners of others that take a job meant for ours: told, and never touched.

use super::{Settled, plan_for, watched};
use crate::{
    deeds::{fleet, plan_profile},
    group_token::give_owners_token,
    harness::Sandbox,
    look_alikes::{runner_at, runner_of},
};
use forerunner::sandbox::{
    gitlab::{GroupLists, RunnerEdit},
    wire::{Exchange, Fault, Service, What},
};
use serde_json::json;
use std::sync::{Arc, Mutex};

const KIND: &str = "ForeignRunner";

fn group(settled: &Settled) -> u64 {
    settled.key.trim_start_matches('g').split('-').next().unwrap().parse().unwrap()
}

/// Where others' runner is, as its creation says it.
async fn rival(settled: &Settled, place: &str) -> u64 {
    let (sandbox, gitlab) = (&settled.sandbox, &settled.sandbox.world.gitlab);
    let ours = group(settled);
    let of_group = |id: u64| json!({ "runner_type": "group_type", "group_id": id });
    let scope = match place {
        "instance" => json!({ "runner_type": "instance_type" }),
        "above" => of_group(42),
        "above the anchor" => {
            // Only who may see a project that it serves sees it.
            gitlab.create_project(ours, "app");
            of_group(parent_of(sandbox, 42))
        }
        "here" => of_group(ours),
        "group below" => of_group(gitlab.create_group(Some(ours), "below")),
        "project below" => {
            let project = gitlab.create_project(ours, "app");
            json!({ "runner_type": "project_type", "project_id": project })
        }
        // The path of one is the beginning of the other's.
        "beside" => of_group(gitlab.create_group(Some(42), "payments-2")),
        "elsewhere" => of_group(gitlab.create_group(None, "elsewhere")),
        other => panic!("no place {other}"),
    };
    runner_at(sandbox, scope, "made by hand").await
}

fn parent_of(sandbox: &Sandbox, group: u64) -> u64 {
    let dump = sandbox.world.gitlab.dump();
    let groups = dump["groups"].as_array().unwrap();
    let found = groups.iter().find(|one| one["id"] == group).unwrap();
    found["parent_id"].as_u64().unwrap()
}

async fn told_and_let_alone(place: &str, settled: &Settled) {
    let gitlab = &settled.sandbox.world.gitlab;
    let id = rival(settled, place).await;
    let before = json!(gitlab.runner(id));
    let (number, unit) = (format!("runner {id} "), settled.unit.clone());
    let parts = [number.as_str(), "is not ours", "the tag `azure-plan`", &unit, "other tags"];
    watched::told_once(place, settled, KIND, &parts).await;
    assert_eq!(json!(gitlab.runner(id)), before, "{place}: never touched");
    settled.sandbox.assert_ready(&settled.unit);
    let paused = RunnerEdit { paused: Some(true), ..RunnerEdit::default() };
    gitlab.edit_runner(id, paused);
    watched::over(place, settled, KIND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_takes_our_jobs_is_told_wherever_it_is_and_let_alone() {
    for place in ["instance", "above", "here", "group below", "project below"] {
        told_and_let_alone(place, &Settled::new().await).await;
    }
}

/// The anchor has a group above it, whose runners its owner does not own.
async fn below_a_company() -> Settled {
    let file = plan_for("company/platform/*", &plan_profile());
    let file = file.replace("platform: 42, infra: 77", "company/platform: 42");
    Settled::of(&file, &[42]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_is_told_of_every_one_that_may_take_its_groups_jobs() {
    let places = ["instance", "above the anchor", "above", "here", "group below", "project below"];
    for place in places {
        told_and_let_alone(place, &below_a_company().await).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_is_told_of_what_its_lists_still_show() {
    for (lists, shows) in [(GroupLists::OwnTreeOnly, 1), (GroupLists::Refused, 0)] {
        let settled = below_a_company().await;
        settled.sandbox.world.gitlab.set_group_lists(lists);
        rival(&settled, "instance").await;
        let here = rival(&settled, "here").await;
        settled.sandbox.sweep().await;
        let found = settled.sandbox.findings(KIND);
        let expected = format!("runner {here} ");
        let are_here = found.iter().all(|(message, _)| message.contains(&expected));
        assert!(found.len() == shows && are_here, "{lists:?}: {found:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rival_that_two_anchors_show_is_told_once() {
    let file = plan_for("platform/*", &plan_profile())
        .replace("rules:", "rules:\n  - { match: { groups: 'infra/*' }, profiles: [plan] }");
    let sandbox = Sandbox::new(&file).await;
    give_owners_token(&sandbox, &[42, 77]);
    for anchor in [42, 77] {
        sandbox.world.gitlab.create_group(Some(anchor), "payments");
    }
    sandbox.settle().await;
    let instance = json!({ "runner_type": "instance_type" });
    let id = runner_at(&sandbox, instance, "made by hand").await;
    sandbox.sweep().await;
    let found = sandbox.findings(KIND);
    let [(message, _)] = &found[..] else { panic!("{}", sandbox.fleet_status()) };
    for part in [&format!("runner {id} of the instance"), "and 1 more of ours"] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_can_take_none_of_our_jobs_is_nobodys_business() {
    let settled = Settled::under("platform/payments", &plan_profile()).await;
    for place in ["beside", "elsewhere"] {
        rival(&settled, place).await;
    }
    let other = rival(&settled, "here").await;
    let tags = Some(vec!["azure-plan-2".into()]);
    settled.sandbox.world.gitlab.edit_runner(other, RunnerEdit { tags, ..RunnerEdit::default() });
    settled.sandbox.sweep().await;
    assert_eq!(settled.sandbox.findings(KIND), vec![]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_without_tags_has_rivals_too() {
    let file = fleet(
        "rules:\n  - { match: { groups: 'platform/*' }, profiles: [any] }\nprofiles:\n  any: { runner: { tags: [any], runUntagged: true }, identity: none }\n",
    );
    let sandbox = Sandbox::new(&file).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    let id = runner_of(&sandbox, 42, "made by hand").await;
    let untagged = |on| {
        let edit = RunnerEdit { run_untagged: Some(on), ..RunnerEdit::default() };
        sandbox.world.gitlab.edit_runner(id, edit);
    };
    untagged(false);
    sandbox.sweep().await;
    assert_eq!(sandbox.findings(KIND), vec![], "it takes jobs with its tag alone");
    untagged(true);
    sandbox.sweep().await;
    let found = sandbox.findings(KIND);
    let [(message, _)] = &found[..] else { panic!("{}", sandbox.fleet_status()) };
    for part in ["jobs without tags", &format!("runner/g{group}-any")] {
        assert!(message.contains(part), "{part}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_rival_of_many_is_told_once_and_stays_told_while_nobody_can_look() {
    let file = fleet(&format!(
        "rules:\n  - {{ match: {{ groups: 'platform/*' }}, profiles: [plan] }}\nprofiles:\n{}",
        plan_profile()
    ));
    let sandbox = Sandbox::new(&file).await;
    for name in ["one", "two", "three"] {
        sandbox.world.gitlab.create_group(Some(42), name);
    }
    sandbox.settle().await;
    let id = runner_of(&sandbox, 42, "made by hand").await;
    sandbox.sweep().await;
    let told = sandbox.findings(KIND);
    let [(message, _)] = &told[..] else { panic!("{}", sandbox.fleet_status()) };
    assert!(message.contains(&format!("runner {id} of `platform`")), "{message}");
    assert!(message.contains("and 2 more of ours"), "{message}");
    sandbox.world.wire.add_fault(Fault {
        service: Service::Gitlab,
        method: Some("POST"),
        path: "/api/graphql".into(),
        times: 1000,
        what: What::Answer { status: 503, body: "later".into(), headers: vec![] },
    });
    sandbox.sweep().await;
    assert_eq!(sandbox.findings(KIND), told, "what could not be read is not over");
}

/// How often a sweep asks who takes jobs, and how often only how many do.
async fn asked(settled: &Settled) -> (usize, usize) {
    let queries = Arc::new(Mutex::new(Vec::new()));
    let kept = queries.clone();
    let keep = move |exchange: &Exchange| {
        kept.lock().unwrap().push(String::from_utf8_lossy(&exchange.request).into_owned());
    };
    settled.sandbox.world.wire.observe(&[Service::Gitlab], Arc::new(keep));
    settled.sandbox.sweep().await;
    let queries = std::mem::take(&mut *queries.lock().unwrap());
    let open = || queries.iter().filter(|query| query.contains("paused: false"));
    let who = open().filter(|query| query.contains("nodes")).count();
    (who, open().filter(|query| query.contains("{ count }")).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_listed_where_as_many_take_jobs_as_are_ours() {
    for settled in [Settled::new().await, below_a_company().await] {
        let sandbox = &settled.sandbox;
        let (who, how_many) = asked(&settled).await;
        assert!(who == 0 && how_many > 0, "{who} {how_many}");
        // One comes, and one of ours takes no job: as many as before.
        let id = rival(&settled, "here").await;
        let ours = sandbox.runner(&settled.key).id;
        let paused = RunnerEdit { paused: Some(true), ..RunnerEdit::default() };
        sandbox.world.gitlab.edit_runner(ours, paused);
        assert!(asked(&settled).await.0 > 0);
        let found = sandbox.findings(KIND);
        let is_told = |(message, _): &(String, String)| message.contains(&format!("runner {id} "));
        assert!(found.len() == 1 && is_told(&found[0]), "{found:?}");
    }
}
