//! `forerunner explain`: rules, decisions and remedies of a target; who may take a job, and who had it.

use crate::{
    deeds::{APP, fleet, plan_fleet, plan_profile},
    harness::Sandbox,
};
use forerunner::{
    cli::{
        answer::{Answer, Colour},
        explain::{Explain, answer},
    },
    sandbox::{
        gitlab::{NewJob, RunnerEdit},
        wire::{Fault, Service, What},
    },
};
use serde_json::{Value, json};

async fn explain(sandbox: &Sandbox, what: &str, json: bool) -> Answer {
    let arguments = Explain { what: what.to_owned(), json, place: Default::default() };
    answer(&arguments, &sandbox.desk(), Colour::default()).await
}

fn assert_parts(shown: &Answer, parts: &[&str]) {
    assert_eq!(shown.code, 0, "{}", shown.talk);
    for part in parts {
        assert!(shown.out.contains(part), "no `{part}` in\n{}", shown.out);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_says_which_rules_took_it_and_what_would_change_each_decision() {
    let profiles = format!(
        "{}  waits: {{ runner: {{ tags: ['w-{{zone}}'] }}, identity: none }}\n  outside: {{ runner: {{ tags: [o] }}, identity: {{ managed: {{ roles: [{{ role: Reader, scope: /subscriptions/00000000-0000-4000-8000-00000000aaaa }}] }} }} }}\n",
        plan_profile()
    );
    let file = fleet(&format!(
        "rules:\n  - {{ match: {{ groups: 'platform/*', except: platform/sandbox }}, profiles: [plan, waits] }}\n  - {{ match: {{ groups: 'infra/*' }}, profiles: [plan] }}\n  - {{ match: {{ groups: 'platform/payments' }}, profiles: [outside] }}\n  - {{ match: {{ projects: 'platform/**' }}, profiles: [waits] }}\nprofiles:\n{profiles}"
    ));
    let sandbox = Sandbox::new(&file).await;
    let payments = sandbox.world.gitlab.create_group(Some(42), "payments");
    let excepted = sandbox.world.gitlab.create_group(Some(42), "sandbox");
    sandbox.settle().await;
    sandbox.world.wire.forget_calls();
    let shown = explain(&sandbox, "platform/payments", false).await;
    assert_parts(
        &shown,
        &[
            &format!("platform/payments (g{payments})\n"),
            "    yes rule 1 → plan, waits: `platform/*` fits, under the anchor `platform` (group 42)\n",
            "    no  rule 2 → plan: none of its patterns fits the path\n",
            "    yes rule 3 → outside: ",
            "    no  rule 4 → waits: it says nothing of groups\n",
            "    plan: gets a runner\n",
            "    waits: waits: it needs `zone`; give it under `groups:` or `projects:` of fleet.yaml\n",
            "    outside: paused: the scope /subscriptions/00000000-0000-4000-8000-00000000aaaa is not within guardrails.scopes; lower the profile",
            &format!("runner/g{payments}-plan\n  yes Ready: as fleet.yaml says (Settled, "),
            "step(s), done, in ",
        ],
    );
    assert_eq!(sandbox.written(), Vec::<String>::new());
    let by_id = explain(&sandbox, &format!("g{payments}"), false).await;
    assert_eq!(by_id, shown);
    let document: Value =
        serde_json::from_str(&explain(&sandbox, "platform/payments", true).await.out).unwrap();
    let is: Vec<&str> = document["profiles"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["is"].as_str().unwrap())
        .collect();
    assert_eq!(is, ["outside-guardrails", "runner", "needs-value"]);
    // The delivery that a round names leads back to it.
    let unit = &document["units"]
        .as_array()
        .unwrap()
        .iter()
        .find(|unit| unit["unit"] == format!("runner/g{payments}-plan"))
        .unwrap()["rounds"];
    let delivery = unit.as_array().unwrap().last().unwrap()["cause"].as_str().unwrap();
    let caused = explain(&sandbox, delivery, false).await;
    assert_parts(
        &caused,
        &[&format!("runner/g{payments}-plan, "), "  create identity id-nonprod--g"],
    );
    let unknown = explain(&sandbox, "sweep-1", false).await;
    assert!(
        unknown.code == 1 && unknown.talk.contains("the cause of no round"),
        "{}",
        unknown.talk
    );
    let out = explain(&sandbox, "platform/sandbox", false).await;
    assert_parts(&out, &["`except: platform/sandbox` takes it out", "  profiles\n    none\n"]);
    sandbox.world.gitlab.archive_group(excepted);
    assert_parts(
        &explain(&sandbox, &format!("g{excepted}"), false).await,
        &["  held: the target or a group above it is archived"],
    );
    for (what, code, words) in [
        ("platform/nobody", 1, "no group and no project"),
        ("g9999", 1, "no g9999"),
        ("platform/*", 1, "name one target"),
        ("runner/g9999-plan", 1, "no g9999"),
        ("what is this", 2, "no path"),
    ] {
        let refused = explain(&sandbox, what, false).await;
        assert!(refused.code == code && refused.talk.contains(words), "{what}: {refused:?}");
    }
}

/// A settled runner for `payments`, and a project below it.
async fn with_project() -> (Sandbox, String, u64) {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    let project = sandbox.world.gitlab.create_project(group, "web");
    sandbox.settle().await;
    let key = format!("g{group}-plan");
    sandbox.assert_ready(&format!("runner/{key}"));
    (sandbox, key, project)
}

fn url(job: u64) -> String {
    format!("https://gitlab.example.com/platform/payments/web/-/jobs/{job}")
}

fn job(tags: &[&str], protected: bool) -> NewJob {
    let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
    NewJob {
        name: "build".to_owned(),
        tags,
        protected,
        script: vec!["true".to_owned()],
        ..NewJob::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_job_says_of_every_runner_why_it_does_not_take_it() {
    let (sandbox, key, project) = with_project().await;
    let id = sandbox.runner(&key).id;
    let check = async |new: NewJob, edit: RunnerEdit, words: &[&str]| {
        sandbox.world.gitlab.edit_runner(id, edit);
        let id = sandbox.world.gitlab.create_job(project, new);
        sandbox.world.wire.forget_calls();
        let shown = explain(&sandbox, &url(id), false).await;
        let may = if words.is_empty() { "yes" } else { "no " };
        assert_parts(&shown, &[&format!("job {id} `build` of platform/payments/web: pending\n")]);
        assert_parts(&shown, &[&format!("    {may} runner/{key} (GitLab's runner ")]);
        assert_parts(&shown, words);
        assert_eq!(sandbox.written(), Vec::<String>::new());
        sandbox.world.gitlab.cancel_job(id);
    };
    let none = RunnerEdit::default;
    check(job(&["azure-plan"], false), none(), &[]).await;
    check(job(&["azure-plan", "gpu"], false), none(), &["it lacks the tag(s) gpu\n"]).await;
    check(job(&[], false), none(), &["the job has no tags"]).await;
    let protected = RunnerEdit { ref_protected: Some(true), ..none() };
    check(job(&["azure-plan"], false), protected.clone(), &["and `topic` is not protected\n"])
        .await;
    check(job(&["azure-plan"], true), protected, &[]).await;
    let open = RunnerEdit { ref_protected: Some(false), paused: Some(true), ..none() };
    check(job(&["azure-plan"], false), open, &["it is paused\n"]).await;
    sandbox.world.gitlab.set_project_runners(project, false, false);
    let resumed = RunnerEdit { paused: Some(false), ..none() };
    check(job(&["azure-plan"], false), resumed, &["group runners switched off\n"]).await;
    let document: Value = {
        let id = sandbox.world.gitlab.create_job(project, job(&["azure-plan"], false));
        serde_json::from_str(&explain(&sandbox, &url(id), true).await.out).unwrap()
    };
    assert_eq!(document["runners"][0]["unit"], format!("runner/{key}"), "{document}");
    assert_eq!(document["runners"][0]["mayTake"], false);
    for (what, words) in [
        (
            "https://elsewhere.example.com/a/b/-/jobs/1",
            "this fleet's GitLab is `gitlab.example.com`",
        ),
        ("https://gitlab.example.com/platform/payments/web/-/pipelines/1", "is no job's page"),
        ("https://gitlab.example.com/platform/payments/web/-/jobs/999", "no job 999"),
        ("https://gitlab.example.com/platform/none/-/jobs/1", "no project `platform/none`"),
    ] {
        let refused = explain(&sandbox, what, false).await;
        assert!(refused.code == 1 && refused.talk.contains(words), "{what}: {}", refused.talk);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_ran_says_on_which_runner_where_and_as_whom() {
    let (sandbox, key, project) = with_project().await;
    let id = sandbox.world.gitlab.create_job(project, job(&["azure-plan"], false));
    sandbox.pass_minutes(5).await;
    let status = sandbox.world.gitlab.job(id).unwrap();
    assert!(status.runner.is_some(), "{status:?}");
    let shown = explain(&sandbox, &url(id), false).await;
    let client = sandbox.world.azure.identities().remove(0).client_id;
    assert_parts(
        &shown,
        &[
            &format!("  it ran on runner/{key} (GitLab's runner "),
            "    taken by our manager\n",
            &format!("    namespace ci-nonprod--{key}, service account job\n"),
            &format!("    identity id-nonprod--{key} (client id {client})\n"),
        ],
    );
    let document: Value =
        serde_json::from_str(&explain(&sandbox, &url(id), true).await.out).unwrap();
    assert_eq!(document["had"]["ourManager"], json!(true), "{document}");
    assert!(!shown.out.contains("glrt-") && !shown.out.contains(APP), "{}", shown.out);
}

/// What was stays told as long as anything shows it, whatever the file and the tree say since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_had_a_job_is_told_whatever_became_of_the_rule_and_the_project() {
    let (sandbox, key, project) = with_project().await;
    let (gitlab, kubernetes) = (&sandbox.world.gitlab, &sandbox.world.kubernetes);
    let id = gitlab.create_job(project, job(&["azure-plan"], false));
    sandbox.pass_minutes(5).await;
    let (runner, client) =
        (sandbox.runner(&key).id, sandbox.world.azure.identities().remove(0).client_id);
    let ran =
        format!("  it ran on runner/{key} (GitLab's runner {runner})\n    taken by our manager\n");
    let place = format!(
        "    namespace ci-nonprod--{key}, service account job\n    identity id-nonprod--{key} (client id {client})\n"
    );
    sandbox.lose_hooks();
    let group = key.trim_start_matches('g').trim_end_matches("-plan");
    let withdrawn =
        format!("withdrawn: [{{ group: {group}, path: platform/payments, reason: SEC-1182 }}]\n");
    let unmatched = plan_fleet().replace("platform/*", "platform/nobody");
    for file in [plan_fleet() + &withdrawn, unmatched.clone()] {
        sandbox.deploy(&file).await;
        assert_parts(&explain(&sandbox, &url(id), false).await, &[&ran, &place]);
    }
    // It lies elsewhere since, where that runner serves nothing.
    let elsewhere = gitlab.create_group(Some(77), "elsewhere");
    gitlab.transfer_project(project, elsewhere);
    let moved = url(id).replace("platform/payments", "infra/elsewhere");
    assert_parts(&explain(&sandbox, &moved, false).await, &[&ran, &place]);
    // Its namespace went.
    assert!(kubernetes.delete_as_admin(
        "rolebindings",
        &format!("ci-nonprod--{key}"),
        &format!("runner-{key}")
    ));
    let shown = explain(&sandbox, &moved, false).await;
    let unknown = "    where it ran and as whom is not known any more: nothing of it is left in the cluster\n";
    assert_parts(&shown, &[&ran, unknown]);
    assert!(!shown.out.contains("identity none"), "{}", shown.out);
    // Nobody shows us the runner.
    sandbox.world.wire.add_fault(Fault {
        service: Service::Gitlab,
        method: Some("GET"),
        path: format!("/api/v4/runners/{runner}"),
        times: 1000,
        what: What::Answer { status: 403, headers: vec![], body: "{}".to_owned() },
    });
    let shown = explain(&sandbox, &moved, false).await;
    let hidden = format!("  it ran on GitLab's runner {runner}; whose that is could not be read: ");
    assert_parts(&shown, &[&hidden]);
    assert!(!shown.out.contains("none of ours"), "{}", shown.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cause_of_a_round_leads_back_to_it_whoever_it_was() {
    let (sandbox, key, _) = with_project().await;
    sandbox.lose_hooks();
    let body = json!({ "command": "pause", "targets": [format!("runner/{key}")], "by": "jane", "why": "SEC-1: look" });
    sandbox.order("commands", &body);
    sandbox.settle().await;
    let shown = explain(&sandbox, "pause by jane: SEC-1: look", false).await;
    assert_parts(&shown, &[&format!("runner/{key}, "), "  pause runner"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_our_token_may_not_list_is_named_and_the_rest_is_told() {
    let (sandbox, key, project) = with_project().await;
    let gitlab = &sandbox.world.gitlab;
    let owner = gitlab.add_user("group-owner", false);
    gitlab.add_group_member(42, owner, 50);
    let token = gitlab.create_access_token(owner, &["create_runner", "manage_runner", "read_api"]);
    sandbox.world.azure.set_secret("kv-fleet", "gitlab-token", &token);
    let id = gitlab.create_job(project, job(&["azure-plan"], false));
    let shown = explain(&sandbox, &url(id), false).await;
    assert_parts(
        &shown,
        &[&format!("    yes runner/{key} "), "  not looked at: the runners of i: "],
    );
}
