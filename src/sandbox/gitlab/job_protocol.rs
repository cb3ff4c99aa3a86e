//! A job between GitLab and the runner that has it (runner-observed.md §8).

use super::{
    call::Call,
    errors::Refusal,
    jobs::{Job, JobStatus},
    runners::Runner,
    state::{State, digest, milliseconds},
};
use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use std::sync::MutexGuard;

const TIMEOUT_SECONDS: i64 = 3600;
/// What runners wait between two patches of the trace.
const TRACE_INTERVAL_SECONDS: &str = "60";

/// Gives a pending job to a runner: its body, with a token of its own.
pub(super) fn hand_over(state: &mut State, id: u64, runner: &Runner, system_id: &str) -> Value {
    let token = state.secret("glcbt-");
    let now = state.now;
    if let Some(job) = state.jobs.get_mut(&id) {
        job.status = JobStatus::Running;
        job.runner = Some(runner.id);
        job.system_id = Some(system_id.to_owned());
        job.digest = Some(digest(&token));
        job.started_at = Some(now);
    }
    state.jobs.get(&id).map(|job| job_body(state, job, runner, &token)).unwrap_or_default()
}

/// `PUT /jobs/:id`: how it goes, or how it went.
pub(super) async fn update(call: Call) -> Result<Response, Refusal> {
    let (mut state, id) = enter(&call)?;
    let now = state.now;
    let word = call.parameters.word("state", &["running", "success", "failed"])?;
    let exit_code = call.parameters.integer("exit_code")?;
    let failure_reason = call.parameters.text("failure_reason");
    let job = state.jobs.get_mut(&id).ok_or_else(Refusal::forbidden)?;
    let outcome = match (word.as_deref(), job.status) {
        (Some("success" | "failed"), JobStatus::Canceling) => Some(JobStatus::Canceled),
        (Some("success"), _) => Some(JobStatus::Success),
        (Some("failed"), _) => Some(JobStatus::Failed),
        (Some(_) | None, _) => None,
    };
    if let Some(outcome) = outcome {
        job.status = outcome;
        job.finished_at = Some(now);
        job.exit_code = exit_code;
        let failed = outcome == JobStatus::Failed;
        let reason = failure_reason.unwrap_or_else(|| "unknown_failure".to_owned());
        job.failure_reason = failed.then_some(reason);
    }
    let headers = headers(&[("job-status", job.status.word())]);
    beat(&mut state, id);
    Ok((StatusCode::OK, headers, "200").into_response())
}

/// `PATCH /jobs/:id/trace`: appends, where it begins at the end of what is there.
pub(super) async fn append_trace(call: Call) -> Result<Response, Refusal> {
    let (mut state, id) = enter(&call)?;
    let range = call.header("content-range").ok_or_else(|| {
        Refusal::error(StatusCode::BAD_REQUEST, "400 Missing header Content-Range")
    })?;
    let start: Option<usize> = range.split('-').next().and_then(|start| start.trim().parse().ok());
    let job = state.jobs.get_mut(&id).ok_or_else(Refusal::forbidden)?;
    if start != Some(job.trace.len()) {
        let held = format!("0-{}", job.trace.len());
        let text = "416 Range Not Satisfiable";
        return Err(
            Refusal::error(StatusCode::RANGE_NOT_SATISFIABLE, text).with_header("range", held)
        );
    }
    job.trace.extend_from_slice(&call.body);
    let held = format!("0-{}", job.trace.len());
    let headers = headers(&[
        ("job-status", job.status.word()),
        ("range", &held),
        ("x-gitlab-trace-update-interval", TRACE_INTERVAL_SECONDS),
    ]);
    beat(&mut state, id);
    Ok((StatusCode::ACCEPTED, headers, held).into_response())
}

/// The job of `:id`, for whoever has its token, as long as it runs.
fn enter(call: &Call) -> Result<(MutexGuard<'_, State>, u64), Refusal> {
    let id = call.id("id")?;
    let header = || call.header("job-token").map(ToOwned::to_owned);
    let token = header().or_else(|| call.parameters.text("token"));
    let state = call.state();
    let job = state.jobs.get(&id);
    let job = job.ok_or_else(|| Refusal::message(StatusCode::NOT_FOUND, "404 Not Found"))?;
    if token.is_none() || token.map(|token| digest(&token)) != job.digest {
        return Err(Refusal::forbidden());
    }
    if !job.status.is_on_runner() {
        return Err(Refusal::forbidden_because("Job is not running")
            .with_header("job-status", job.status.word()));
    }
    Ok((state, id))
}

/// A job's call shows that its manager lives; a runner that is gone is no obstacle.
fn beat(state: &mut State, job: u64) {
    let Some(job) = state.jobs.get(&job) else { return };
    if let (Some(runner), Some(system_id)) = (job.runner, job.system_id.clone()) {
        state.contact(runner, &system_id, super::runners::Info::default());
    }
}

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let value = |text: &str| HeaderValue::from_str(text).ok();
    pairs
        .iter()
        .filter_map(|(name, text)| Some((HeaderName::from_static(name), value(text)?)))
        .collect()
}

fn job_body(state: &State, job: &Job, runner: &Runner, token: &str) -> Value {
    let Some(project) = state.projects.get(&job.project) else { return Value::Null };
    let path = state.project_path(project);
    let url = &state.settings.external_url;
    let asked = job.new.timeout_seconds.unwrap_or(TIMEOUT_SECONDS);
    let timeout = runner.maximum_timeout.map_or(asked, |most| most.min(asked));
    let host = url.split_once("://").map_or(url.as_str(), |(_, host)| host);
    let repo_url = format!("https://gitlab-ci-token:{token}@{host}/{path}.git");
    let reference = if job.new.protected { "main" } else { "topic" };
    let script: Vec<&String> = job.new.before_script.iter().chain(&job.new.script).collect();
    let mut steps = vec![step("script", json!(script), timeout, "on_success", false)];
    if !job.new.after_script.is_empty() {
        steps.push(step("after_script", json!(job.new.after_script), timeout, "always", true));
    }
    json!({
        "id": job.id,
        "token": token,
        "allow_git_fetch": true,
        "job_info": {
            "id": job.id,
            "name": job.new.name,
            "stage": "test",
            "project_id": project.id,
            "project_name": project.name,
            "project_full_path": path,
            "namespace_id": project.namespace,
            "root_namespace_id": root_namespace(state, project.namespace),
            "timestamp": milliseconds(job.created_at),
        },
        "git_info": {
            "repo_url": repo_url,
            "ref": reference,
            "sha": "a".repeat(40),
            "before_sha": "0".repeat(40),
            "ref_type": "branch",
            "refspecs": [format!("+refs/heads/{reference}:refs/remotes/origin/{reference}")],
            "depth": 20,
            "protected": job.new.protected,
        },
        "runner_info": { "timeout": timeout, "runner_session_url": null },
        "variables": variables(state, job, runner, token, &path),
        "steps": steps,
        "image": job.new.image.as_ref().map(|name| json!({ "name": name })),
        "services": [],
        "artifacts": null,
        "cache": [],
        "credentials": [],
        "dependencies": [],
        "features": { "trace_sections": true, "failure_reasons": FAILURE_REASONS },
        "hooks": [],
    })
}

/// The topmost group, or the user's own namespace.
fn root_namespace(state: &State, namespace: u64) -> u64 {
    state.chain(namespace).last().map_or(namespace, |root| root.id)
}

const FAILURE_REASONS: [&str; 4] =
    ["script_failure", "runner_system_failure", "job_execution_timeout", "unknown_failure"];

fn step(name: &str, script: Value, timeout: i64, when: &str, allow_failure: bool) -> Value {
    json!({
        "name": name,
        "script": script,
        "timeout": timeout,
        "when": when,
        "allow_failure": allow_failure,
    })
}

/// The predefined ones that jobs use, then the job's own. The job's token is the only secret.
fn variables(state: &State, job: &Job, runner: &Runner, token: &str, path: &str) -> Vec<Value> {
    let url = &state.settings.external_url;
    let (job_id, project_id) = (job.id.to_string(), job.project.to_string());
    let runner_id = runner.id.to_string();
    let host = url.split_once("://").map_or(url.as_str(), |(_, host)| host);
    let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
    let root = path.split('/').next().unwrap_or_default();
    let project = state.projects.get(&job.project);
    let namespace_id = project.map(|project| project.namespace.to_string()).unwrap_or_default();
    let reference = if job.new.protected { "main" } else { "topic" };
    let protected = if job.new.protected { "true" } else { "false" };
    let api_url = format!("{url}/api/v4");
    let job_url = format!("{url}/{path}/-/jobs/{job_id}");
    let public = [
        ("CI", "true"),
        ("GITLAB_CI", "true"),
        ("CI_JOB_ID", &job_id),
        ("CI_JOB_NAME", &job.new.name),
        ("CI_JOB_STAGE", "test"),
        ("CI_JOB_URL", &job_url),
        ("CI_PIPELINE_ID", &job_id),
        ("CI_PROJECT_ID", &project_id),
        ("CI_PROJECT_NAME", name),
        ("CI_PROJECT_PATH", path),
        ("CI_PROJECT_NAMESPACE", namespace),
        ("CI_PROJECT_NAMESPACE_ID", &namespace_id),
        ("CI_PROJECT_ROOT_NAMESPACE", root),
        ("CI_COMMIT_REF_NAME", reference),
        ("CI_COMMIT_REF_PROTECTED", protected),
        ("CI_RUNNER_ID", &runner_id),
        ("CI_SERVER_URL", url),
        ("CI_SERVER_HOST", host),
        ("CI_API_V4_URL", &api_url),
        ("GIT_STRATEGY", "none"),
    ];
    let variable = |key: &str, value: &str, public: bool| json!({ "key": key, "value": value, "public": public, "masked": !public, "file": false });
    let mut all: Vec<Value> =
        public.iter().map(|(key, value)| variable(key, value, true)).collect();
    all.push(variable("CI_JOB_TOKEN", token, false));
    all.extend(job.new.variables.iter().map(|(key, value)| variable(key, value, true)));
    all
}

/// A job as `GET /runners/:id/jobs` has it.
pub(super) fn show_job(state: &State, job: &Job) -> Value {
    let project = state.projects.get(&job.project);
    let path = project.map(|project| state.project_path(project)).unwrap_or_default();
    let duration = job.started_at.map(|started| {
        let end = job.finished_at.unwrap_or(state.now);
        end.duration_since(started).as_secs_f64()
    });
    json!({
        "id": job.id,
        "status": job.status,
        "stage": "test",
        "name": job.new.name,
        "ref": if job.new.protected { "main" } else { "topic" },
        "tag": false,
        "coverage": null,
        "allow_failure": false,
        "created_at": milliseconds(job.created_at),
        "started_at": job.started_at.map(milliseconds),
        "finished_at": job.finished_at.map(milliseconds),
        "duration": duration,
        "failure_reason": job.failure_reason,
        "web_url": format!("{}/{path}/-/jobs/{}", state.settings.external_url, job.id),
        "project": project.map(|project| json!({
            "id": project.id,
            "name": project.name,
            "path": project.path,
            "path_with_namespace": path,
            "created_at": milliseconds(project.created_at),
        })),
    })
}
