//! gitlab-runner's own `verify` and `run` against the sandbox's GitLab, with the file that forerunner wrote. Beside a
//! cluster, which `real_node` has: here jobs run as processes of this machine.

use super::{
    front::{Front, Open},
    program::program,
};
use crate::harness::{FLEET, Sandbox};
use base64::{Engine, prelude::BASE64_STANDARD};
use forerunner::sandbox::gitlab::{JobStatus, JobView, NewJob, RunnerEdit};
use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

/// Of the real runner, which has no clock of ours. It sends what a silent job says every 30 s, and looks for news with
/// that.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);

/// What a custom executor owes the runner for a script that failed.
const RUN_JOB: &str = r#"#!/bin/sh
bash "$1" && exit 0
echo "$?" > "$BUILD_EXIT_CODE_FILE"
exit "$BUILD_FAILURE_EXIT_CODE"
"#;

pub(super) struct Scene {
    program: &'static Path,
    pub(super) sandbox: Sandbox,
    /// Where its configuration is, and its log.
    folder: PathBuf,
    proxy: String,
    project: u64,
    runner: u64,
    _front: Open,
}

impl Scene {
    /// A group whose runner forerunner has made; nobody serves it yet.
    pub(super) async fn new() -> Option<Self> {
        let program = program()?;
        let front = Front::at(Ipv4Addr::LOCALHOST).await;
        let folder = std::env::temp_dir().join(format!("forerunner-real-{}", uuid::Uuid::new_v4()));
        fs::create_dir_all(&folder).unwrap();
        let authority = folder.join("root.pem");
        fs::write(&authority, front.certificate()).unwrap();
        let url = "url: https://gitlab.example.com,";
        let fleet = FLEET.replace(url, &format!("{url} caFile: {},", authority.display()));
        let sandbox = Sandbox::new(&fleet).await;
        let gitlab = &sandbox.world.gitlab;
        let group = gitlab.create_group(Some(42), "payments");
        let project = gitlab.create_project(group, "ledger");
        sandbox.settle().await;
        assert!(sandbox.is_ready(&format!("runner/g{group}-plan")), "{}", sandbox.story());
        let runner = gitlab.runners()[0].id;
        // The vendor's description judges us, not gitlab-runner: its `verify` sends `info`, which that does not have.
        sandbox.watched.close();
        let proxy = front.proxy();
        let _front = front.open(sandbox.world.address("gitlab").unwrap());
        let scene = Self { program, sandbox, folder, proxy, project, runner, _front };
        scene.lay_configuration();
        Some(scene)
    }

    /// The files of the manager's Secret, but for where the certificate lies and what would take a port.
    pub(super) fn lay_configuration_of_pods(&self) {
        let secrets = self.sandbox.world.kubernetes.list("secrets", "");
        let secret = secrets.iter().find(|one| one["data"]["config.toml"].is_string()).unwrap();
        for (name, text) in secret["data"].as_object().unwrap() {
            let text = BASE64_STANDARD.decode(text.as_str().unwrap()).unwrap();
            fs::write(self.folder.join(name), text).unwrap();
        }
        let mut config = self.config();
        config.remove("listen_address");
        let runner = config["runners"][0].as_table_mut().unwrap();
        assert_eq!(runner["tls-ca-file"].as_str(), Some("/etc/gitlab-runner/ca.crt"));
        runner.insert("tls-ca-file".into(), self.path("ca.crt"));
        self.write_config(&config);
    }

    /// The same, but for what runs jobs.
    fn lay_configuration(&self) {
        self.lay_configuration_of_pods();
        let script = self.folder.join("run-job");
        fs::write(&script, RUN_JOB).unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        let mut config = self.config();
        let runner = config["runners"][0].as_table_mut().unwrap();
        assert_eq!(runner["executor"].as_str(), Some("kubernetes"));
        runner.insert("executor".into(), "custom".into());
        runner.insert("builds_dir".into(), self.path("builds"));
        runner.insert("cache_dir".into(), self.path("cache"));
        let custom = toml::Table::from_iter([("run_exec".to_owned(), self.path("run-job"))]);
        runner.insert("custom".into(), custom.into());
        self.write_config(&config);
    }

    fn path(&self, name: &str) -> toml::Value {
        self.folder.join(name).to_str().unwrap().into()
    }

    pub(super) fn config(&self) -> toml::Table {
        fs::read_to_string(self.folder.join("config.toml")).unwrap().parse().unwrap()
    }

    pub(super) fn write_config(&self, config: &toml::Table) {
        fs::write(self.folder.join("config.toml"), config.to_string()).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    pub(super) fn start(&self, command: &str) -> Child {
        let log = fs::File::create(self.folder.join("log")).unwrap();
        Command::new(self.program)
            .arg(command)
            .arg("--config")
            .arg(self.folder.join("config.toml"))
            .env("HTTPS_PROXY", &self.proxy)
            .env("HOME", &self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    pub(super) fn add_job(&self, script: &str) -> u64 {
        let new = NewJob {
            tags: vec!["azure-plan".to_owned()],
            script: vec![script.to_owned()],
            ..NewJob::default()
        };
        self.sandbox.world.gitlab.create_job(self.project, new)
    }

    pub(super) fn job(&self, id: u64) -> JobView {
        self.sandbox.world.gitlab.job(id).unwrap()
    }

    /// Answers to the runner's question for a job, oldest first. forerunner itself asks for none.
    pub(super) fn polls(&self) -> Vec<Option<u16>> {
        let calls = self.sandbox.world.wire.calls().into_iter();
        let polls = calls
            .filter(|call| call.path == "/api/v4/jobs/request" && call.caller == "gitlab-runner");
        polls.map(|call| call.status).collect()
    }

    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            let jobs = self.sandbox.world.gitlab.jobs();
            assert!(start.elapsed() < PATIENCE, "no {what}:\n{}\n{jobs:?}", self.log());
            #[expect(clippy::disallowed_methods, reason = "gitlab-runner takes its time")]
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn the_real_client_verifies_our_token_and_no_other() {
    let Some(scene) = Scene::new().await else { return };
    let verified = scene.start("verify").wait().await.unwrap();
    assert!(verified.success() && scene.log().contains("is valid"), "{}", scene.log());
    let mut config = scene.config();
    config["runners"][0]["token"] = "glrt-made-up".into();
    scene.write_config(&config);
    let refused = scene.start("verify").wait().await.unwrap();
    assert!(!refused.success() && scene.log().contains("is not valid"), "{}", scene.log());
}

#[tokio::test]
async fn the_real_client_takes_a_job_and_brings_its_log_and_its_end() {
    let Some(scene) = Scene::new().await else { return };
    let [good, bad] = ["echo it is $CI_JOB_ID", "exit 7"].map(|script| scene.add_job(script));
    let _run = scene.start("run");
    scene
        .until("end of both jobs", |scene| {
            [good, bad].map(|id| scene.job(id).status) == [JobStatus::Success, JobStatus::Failed]
        })
        .await;
    let [good, bad] = [good, bad].map(|id| scene.job(id));
    assert!(good.trace.contains("Running with gitlab-runner 19.4.0 (fc1f1862)"), "{}", good.trace);
    assert!(good.trace.contains(&format!("it is {}\n", good.id)), "{}", good.trace);
    assert!(good.trace.contains("Job succeeded"), "{}", good.trace);
    let own = fs::read_to_string(scene.folder.join(".runner_system_id")).unwrap();
    assert_eq!(good.system_id.as_deref(), Some(own.trim()), "the one that forerunner chose");
    assert_eq!(good.runner, Some(scene.runner));
    assert_eq!(bad.exit_code, Some(7), "{}", bad.trace);
    assert_eq!(bad.failure_reason.as_deref(), Some("script_failure"), "{}", bad.trace);
    assert!(bad.trace.contains("Job failed: exit status 7"), "{}", bad.trace);
    // Nothing more to do, and nothing wrong: asked again in its own rhythm.
    let asked = scene.polls().len();
    scene.until("further poll", |scene| scene.polls().len() > asked + 1).await;
    assert_eq!(scene.polls().last(), Some(&Some(204)));
    assert!(!scene.log().contains("\"level\":\"error\""), "{}", scene.log());
}

#[tokio::test]
async fn a_paused_runner_gets_no_job_and_goes_on_asking() {
    let Some(scene) = Scene::new().await else { return };
    let pause = RunnerEdit { paused: Some(true), ..RunnerEdit::default() };
    scene.sandbox.world.gitlab.edit_runner(scene.runner, pause);
    let job = scene.add_job("true");
    let _run = scene.start("run");
    scene.until("second poll", |scene| scene.polls().len() > 1).await;
    assert_eq!(scene.job(job).status, JobStatus::Pending);
    let open = RunnerEdit { paused: Some(false), ..RunnerEdit::default() };
    scene.sandbox.world.gitlab.edit_runner(scene.runner, open);
    scene.until("end of the job", |scene| scene.job(job).status == JobStatus::Success).await;
}

#[tokio::test]
async fn the_real_client_ends_a_job_that_is_cancelled() {
    let Some(scene) = Scene::new().await else { return };
    let job = scene.add_job("while true; do echo still here; sleep 1; done");
    let _run = scene.start("run");
    scene.until("sign of the job", |scene| scene.job(job).trace.contains("still here")).await;
    scene.sandbox.world.gitlab.cancel_job(job);
    scene.until("end of the job", |scene| scene.job(job).status == JobStatus::Canceled).await;
    assert!(scene.log().contains("canceled"), "{}", scene.log());
}

#[tokio::test]
async fn a_token_that_was_reset_stops_the_real_client_until_its_file_has_the_new_one() {
    let Some(scene) = Scene::new().await else { return };
    let _run = scene.start("run");
    scene.until("first poll", |scene| !scene.polls().is_empty()).await;
    let token = scene.sandbox.world.gitlab.reset_runner_token(scene.runner).unwrap();
    scene
        .until("word of its ill health", |scene| {
            scene.log().contains("is unhealthy and will be disabled for 10m0s")
        })
        .await;
    let asked = scene.polls();
    assert_eq!(asked[asked.len() - 3..], [Some(403); 3], "{asked:?}");
    let mut config = scene.config();
    config["runners"][0]["token"] = token.into();
    scene.write_config(&config);
    scene.until("poll with the new token", |scene| scene.polls().last() == Some(&Some(204))).await;
    let asked = scene.polls();
    assert_eq!(asked.iter().filter(|status| **status == Some(403)).count(), 3, "{asked:?}");
}

#[tokio::test]
async fn the_real_client_drains_on_sigquit() {
    let Some(scene) = Scene::new().await else { return };
    let first = scene.add_job("echo begun; sleep 8");
    let mut run = scene.start("run");
    scene.until("start of the job", |scene| scene.job(first).status == JobStatus::Running).await;
    let pid = run.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-QUIT", &pid]).status().await.unwrap().success());
    let second = scene.add_job("true");
    let ended = run.wait().await.unwrap();
    assert!(ended.success(), "{ended}: {}", scene.log());
    assert_eq!(scene.job(first).status, JobStatus::Success);
    assert_eq!(scene.job(second).status, JobStatus::Pending);
}
