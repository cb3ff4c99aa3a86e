//! Jobs: who may take one, and what passes between GitLab and the runner that has it.

use super::{Answer, World};
use forerunner::sandbox::gitlab::{JobStatus, NewJob, RunnerEdit, Settings};
use serde_json::{Value, json};

fn job(tags: &[&str], protected: bool) -> NewJob {
    NewJob {
        name: "build".to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        before_script: vec!["set -e".to_owned()],
        script: vec!["echo hello".to_owned()],
        protected,
        variables: vec![("COLOUR".to_owned(), "blue".to_owned())],
        ..NewJob::default()
    }
}

/// Whether a runner made with `settings` for `target` takes the job of `acme/team/app`.
async fn check(target: Value, settings: Value, job: NewJob, taken: bool) {
    let world = World::new().await;
    let top = world.gitlab.create_group(None, "acme");
    let team = world.gitlab.create_group(Some(top), "team");
    let other = world.gitlab.create_group(Some(top), "other");
    let project = world.gitlab.create_project(team, "app");
    let sibling = world.gitlab.create_project(team, "sibling");
    let mut body = settings.clone();
    let names =
        [("top", top), ("team", team), ("other", other), ("app", project), ("sibling", sibling)];
    let id = names.iter().find(|(name, _)| target == *name).map(|(_, id)| *id);
    match target.as_str().unwrap() {
        "instance" => body["runner_type"] = json!("instance_type"),
        "app" | "sibling" => {
            body["runner_type"] = json!("project_type");
            body["project_id"] = json!(id);
        }
        _ => {
            body["runner_type"] = json!("group_type");
            body["group_id"] = json!(id);
        }
    }
    let made = world.send("POST", "user/runners", body).await.expect(201);
    let what = format!("{target} {settings} {job:?}");
    let id = world.gitlab.create_job(project, job);
    let answer = world.poll(made["token"].as_str().unwrap(), "r_1").await;
    assert_eq!(answer.status, if taken { 201 } else { 204 }, "{what}");
    let expected = if taken { made["id"].as_u64() } else { None };
    assert_eq!(world.gitlab.job(id).unwrap().runner, expected, "{what}");
}

#[tokio::test]
async fn a_runner_takes_what_is_in_its_reach_and_fits() {
    let plain = || json!({});
    for (target, taken) in [
        ("instance", true),
        ("top", true),
        ("team", true),
        ("other", false),
        ("app", true),
        ("sibling", false),
    ] {
        check(json!(target), plain(), job(&[], false), taken).await;
    }
    let group = || json!("team");
    check(group(), json!({ "paused": true }), job(&[], false), false).await;
    check(group(), json!({ "tag_list": "a,b" }), job(&["a"], false), true).await;
    check(group(), json!({ "tag_list": "a" }), job(&["a", "b"], false), false).await;
    check(group(), json!({ "tag_list": "a" }), job(&[], false), true).await;
    check(group(), json!({ "tag_list": "a", "run_untagged": false }), job(&[], false), false).await;
    check(group(), json!({ "access_level": "ref_protected" }), job(&[], false), false).await;
    check(group(), json!({ "access_level": "ref_protected" }), job(&[], true), true).await;
    check(group(), plain(), job(&[], true), true).await;
}

#[tokio::test]
async fn a_projects_switches_keep_runners_out() {
    let world = World::new().await;
    let group = world.gitlab.create_group(None, "acme");
    let project = world.gitlab.create_project(group, "app");
    let (_, token) = world.create_group_runner(group).await;
    world.gitlab.create_job(project, job(&[], false));
    world.gitlab.set_project_runners(project, true, false);
    assert_eq!(world.poll(&token, "r_1").await.status, 204);
    world.gitlab.set_project_runners(project, true, true);
    world.gitlab.archive_group(group);
    assert_eq!(world.poll(&token, "r_1").await.status, 204);
    world.gitlab.unarchive_group(group);
    assert_eq!(world.poll(&token, "r_1").await.status, 201);
}

/// A group runner with a job in hand.
async fn taken() -> (World, u64, u64, Value) {
    let world = World::with(Settings::default()).await;
    let group = world.gitlab.create_group(None, "acme");
    let project = world.gitlab.create_project(group, "app");
    let (runner, token) = world.create_group_runner(group).await;
    let id = world.gitlab.create_job(project, job(&["a"], false));
    let edit = RunnerEdit {
        tags: Some(vec!["a".to_owned()]),
        maximum_timeout_seconds: Some(Some(600)),
        ..RunnerEdit::default()
    };
    world.gitlab.edit_runner(runner, edit);
    let body = world.poll(&token, "r_1").await.expect(201);
    assert_eq!(world.poll(&token, "r_1").await.status, 204, "a job is given away once");
    (world, runner, id, body)
}

async fn patch(world: &World, id: u64, token: &str, range: Option<&str>, text: &str) -> Answer {
    let url = format!("http://{}/api/v4/jobs/{id}/trace?debug_trace=false", world.server.address);
    let mut request = world.client.patch(url).header("JOB-TOKEN", token);
    if let Some(range) = range {
        request = request.header("Content-Range", range);
    }
    World::read(request.header("Content-Type", "text/plain").body(text.to_owned())).await
}

#[tokio::test]
async fn a_job_has_all_that_a_runner_needs() {
    let (world, runner, id, body) = taken().await;
    assert_eq!(body["id"], id);
    assert_eq!(body["job_info"]["name"], "build");
    assert_eq!(body["runner_info"]["timeout"], 600, "the shorter of the two");
    let script = json!(["set -e", "echo hello"]);
    assert_eq!(body["steps"][0]["script"], script);
    let variables = body["variables"].as_array().unwrap();
    let variable = |key: &str| variables.iter().find(|variable| variable["key"] == key).unwrap();
    assert_eq!(variable("COLOUR")["value"], "blue");
    assert_eq!(variable("GIT_STRATEGY")["value"], "none");
    assert_eq!(variable("CI_JOB_TOKEN")["public"], false);
    assert_eq!(variable("CI_PROJECT_PATH")["value"], "acme/app");
    for name in [
        "token",
        "allow_git_fetch",
        "git_info",
        "image",
        "services",
        "artifacts",
        "cache",
        "credentials",
        "dependencies",
        "features",
        "hooks",
    ] {
        assert!(body.get(name).is_some(), "{name}");
    }
    let running = world.get(&format!("runners/{runner}/jobs?status=running")).await.expect(200);
    assert_eq!(super::ids(&running), [id]);
    let shown = world.get(&format!("runners/{runner}")).await.expect(200);
    assert_eq!(shown["job_execution_status"], "active");
    let managers = world.get(&format!("runners/{runner}/managers")).await.expect(200);
    assert_eq!(managers[0]["job_execution_status"], "active");
}

#[tokio::test]
async fn a_job_runs_to_its_end() {
    let (world, runner, id, body) = taken().await;
    let token = body["token"].as_str().unwrap().to_owned();
    let put = async |token: &str, state: &str| {
        let body = json!({ "token": token, "state": state, "exit_code": 3,
            "failure_reason": "script_failure" });
        world.bare("PUT", &format!("jobs/{id}"), body).await
    };
    assert_eq!(put("wrong", "running").await.status, 403);
    let answer = put(&token, "running").await;
    assert_eq!((answer.status, answer.header("job-status")), (200, Some("running")));

    let missing = patch(&world, id, &token, None, "x").await;
    missing.refuses(400, json!({ "error": "400 Missing header Content-Range" }));
    let first = patch(&world, id, &token, Some("0-5"), "hello ").await;
    assert_eq!((first.status, first.header("range")), (202, Some("0-6")));
    assert!(first.header("x-gitlab-trace-update-interval").is_some());
    let gap = patch(&world, id, &token, Some("9-11"), "abc").await;
    assert_eq!((gap.status, gap.header("range")), (416, Some("0-6")));
    assert_eq!(patch(&world, id, &token, Some("6-10"), "world").await.status, 202);

    world.gitlab.delete_runner(runner);
    assert_eq!(put(&token, "failed").await.status, 200, "a job outlives its runner");
    let view = world.gitlab.job(id).unwrap();
    assert_eq!(view.status, JobStatus::Failed);
    assert_eq!(view.trace, "hello world");
    assert_eq!(view.failure_reason.as_deref(), Some("script_failure"));
    assert_eq!((view.exit_code, view.runner), (Some(3), Some(runner)));
    let late = put(&token, "success").await;
    assert_eq!((late.status, late.header("job-status")), (403, Some("failed")));
}

#[tokio::test]
async fn a_cancelled_job_learns_it_with_its_next_call() {
    let (world, _, id, body) = taken().await;
    let token = body["token"].as_str().unwrap();
    world.gitlab.cancel_job(id);
    let answer = patch(&world, id, token, Some("0-0"), "x").await;
    assert_eq!((answer.status, answer.header("job-status")), (202, Some("canceling")));
    let body = json!({ "token": token, "state": "failed" });
    world.bare("PUT", &format!("jobs/{id}"), body).await;
    assert_eq!(world.gitlab.job(id).unwrap().status, JobStatus::Canceled);
}

#[tokio::test]
async fn a_runner_that_knows_the_queue_is_woken_by_what_changes_it() {
    let world = World::new().await;
    let group = world.gitlab.create_group(None, "acme");
    let project = world.gitlab.create_project(group, "app");
    let (runner, token) = world.create_group_runner(group).await;
    let poll = async |last_update: Option<String>| {
        let body = json!({ "token": token, "system_id": "r_1", "last_update": last_update });
        let answer = world.bare("POST", "jobs/request", body).await;
        (answer.status, answer.header("x-gitlab-last-update").map(ToOwned::to_owned))
    };
    let (status, queue) = poll(None).await;
    assert_eq!(status, 204);
    assert_eq!(poll(queue.clone()).await, (204, queue.clone()));
    world.gitlab.create_job(project, job(&["a"], false));
    let (status, queue) = poll(queue).await;
    assert_eq!(status, 204, "it lacks the tag");
    let tags = Some(vec!["a".to_owned()]);
    world.gitlab.edit_runner(runner, RunnerEdit { tags, ..RunnerEdit::default() });
    assert_eq!(poll(queue).await.0, 201);
}
