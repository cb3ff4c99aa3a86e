//! One job in a manager's hands, from the first word about it to the last.

use super::{
    Managers,
    cluster::{Cluster, Refusal},
    config_file::Entry,
    job_pod,
    payload::Payload,
    protocol::{Gitlab, Standing},
    script::{self, Ended},
    trace::Trace,
};
use crate::sandbox::kubernetes::ManagerPod;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

#[derive(Clone)]
pub(super) struct Job {
    pub(super) payload: Payload,
    /// As it was when the job was taken: a reload does not touch jobs in hand.
    pub(super) entry: Arc<Entry>,
    pub(super) phase: Phase,
    /// When it goes on.
    pub(super) next_at: Timestamp,
    pub(super) started_at: Timestamp,
    /// Number among the jobs that the entry runs for this project.
    pub(super) slot: usize,
    pub(super) pod: Option<String>,
    pub(super) outcome: Option<Outcome>,
    trace: Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Take,
    /// Looks for the account and the pull secrets.
    Check {
        tries: i64,
    },
    Create {
        tries: i64,
    },
    /// For the pod to run.
    Wait {
        since: Timestamp,
    },
    Run,
    /// The scripts are over, but not what they slept.
    Hold {
        until: Timestamp,
    },
    CleanUp,
    Report,
    Over,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Failed {
        code: i32,
    },
    /// `runner_system_failure`, with what the log says.
    System(String),
    TimedOut,
    Cancelled,
}

/// What a manager's process works with.
pub(super) struct Hands<'a> {
    pub(super) managers: &'a Managers,
    pub(super) pod: &'a ManagerPod,
    pub(super) cluster: &'a Cluster,
    pub(super) gitlab: Gitlab<'a>,
    pub(super) now: Timestamp,
}

/// What comes next and how long after this; the failure is the text of a system failure.
type Next = Result<(Phase, SignedDuration), Failure>;

enum Failure {
    /// Before the scripts ran.
    Preparing(String),
    Running(String),
}

const AT_ONCE: SignedDuration = SignedDuration::ZERO;
const CHECK_INTERVAL: SignedDuration = SignedDuration::from_secs(5);
/// How often a silent job says that it lives, and learns that it is to end.
const KEEP_ALIVE: SignedDuration = SignedDuration::from_secs(30);
/// Before a report is sent again that nobody heard.
const REPORT_AGAIN: SignedDuration = SignedDuration::from_secs(3);

impl Job {
    pub(super) fn new(payload: Payload, entry: Arc<Entry>, slot: usize, now: Timestamp) -> Self {
        let trace = Trace::new(&payload);
        Self {
            payload,
            entry,
            phase: Phase::Take,
            next_at: now,
            started_at: now,
            slot,
            pod: None,
            outcome: None,
            trace,
        }
    }

    pub(super) async fn step(&mut self, hands: &Hands<'_>) {
        let next = match self.phase {
            Phase::Take => self.take(hands).await,
            Phase::Check { tries } => self.check(hands, tries).await,
            Phase::Create { tries } => self.create(hands, tries).await,
            Phase::Wait { since } => self.wait(hands, since).await,
            Phase::Run => self.run(hands).await,
            Phase::Hold { until } => self.hold(hands, until).await,
            Phase::CleanUp => self.clean_up(hands).await,
            Phase::Report => self.report(hands).await,
            Phase::Over => Ok((Phase::Over, AT_ONCE)),
        };
        let (phase, after) = next.unwrap_or_else(|failure| {
            let text = match failure {
                Failure::Running(text) => text,
                Failure::Preparing(text) => format!(
                    "prepare environment: {text}. Check https://docs.gitlab.com/runner/shells/#shell-profile-loading for more information"
                ),
            };
            self.outcome = Some(Outcome::System(text));
            (Phase::CleanUp, AT_ONCE)
        });
        self.phase = phase;
        self.next_at = hands.now.saturating_add(after).unwrap_or(Timestamp::MAX);
    }

    async fn take(&mut self, hands: &Hands<'_>) -> Next {
        let Gitlab { version, system_id, .. } = hands.gitlab;
        let namespace = self.entry.kubernetes.namespace().to_owned();
        let image = job_pod::image(&self.entry.kubernetes, &self.payload);
        self.trace.line(&format!("Running with gitlab-runner {version}"));
        let (name, token) = (&self.entry.name, self.entry.short_token());
        self.trace.line(&format!("  on {name} {token}, system ID: {system_id}"));
        self.trace.line("Preparing the \"kubernetes\" executor");
        self.trace.line(&format!("Using Kubernetes namespace: {namespace}"));
        if image.is_empty() {
            return Err(Failure::Preparing(
                "no image specified and no default set in config".into(),
            ));
        }
        self.trace.line(&format!("Using Kubernetes executor with image {image} ..."));
        if self.say_running(hands).await {
            return Ok((Phase::Report, AT_ONCE));
        }
        self.trace.line("Preparing environment");
        for verb in ["list", "watch"] {
            let why = match hands.cluster.may(&namespace, verb, "pods").await {
                Ok(true) => continue,
                Ok(false) => format!("not allowed: {verb} on pods"),
                Err(refusal) => format!("SelfSubjectAccessReview creation: {}", refusal.message),
            };
            self.trace.line(&format!(
                "WARNING: won't use informers: \"{why}\", see: https://docs.gitlab.com/runner/executors/kubernetes/#informers"
            ));
            break;
        }
        match hands.cluster.get("/version").await {
            Err(refusal) if refusal.status == 403 => {
                Err(Failure::Preparing("setting up build pod: unknown".to_owned()))
            }
            Err(refusal) => Err(setting_up(&refusal)),
            Ok(_) => Ok((Phase::Check { tries: 0 }, AT_ONCE)),
        }
    }

    /// The account and the pull secrets; "missing" and "forbidden" look the same to it.
    async fn check(&mut self, hands: &Hands<'_>, tries: i64) -> Next {
        let section = &self.entry.kubernetes;
        let attempts = section.availability_attempts();
        if attempts <= 0 {
            return Ok((Phase::Create { tries: 0 }, AT_ONCE));
        }
        let account = &section.service_account;
        let accounts =
            (!account.is_empty()).then_some(("ServiceAccount", "serviceaccounts", account));
        let secrets =
            section.image_pull_secrets.iter().map(|name| ("ImagePullSecret", "secrets", name));
        for (kind, plural, name) in accounts.into_iter().chain(secrets) {
            let path = format!("/api/v1/namespaces/{}/{plural}/{name}", section.namespace());
            if hands.cluster.get(&path).await.is_ok() {
                continue;
            }
            if tries > attempts {
                return Err(Failure::Preparing(format!(
                    "setting up build pod: Timed out while waiting for {kind}/{name} to be present in the cluster"
                )));
            }
            return Ok((Phase::Check { tries: tries + 1 }, CHECK_INTERVAL));
        }
        Ok((Phase::Create { tries: 0 }, AT_ONCE))
    }

    async fn create(&mut self, hands: &Hands<'_>, tries: i64) -> Next {
        let section = &self.entry.kubernetes;
        let family = self.family();
        let name = format!("{family}-{}", suffix(hands, &self.payload));
        let version = hands.gitlab.version;
        let naming = job_pod::Naming { pod_name: &name, family: &family, slot: self.slot, version };
        let wanted = job_pod::shape(&self.entry, &self.payload, &naming);
        let pods = format!("/api/v1/namespaces/{}/pods", section.namespace());
        let made = match hands.cluster.post(&pods, &wanted).await {
            // The answer to an earlier try was lost.
            Err(refusal) if refusal.status == 409 && tries > 0 => {
                hands.cluster.get(&format!("{pods}/{name}")).await
            }
            made => made,
        };
        let pod = match made {
            Ok(pod) => pod,
            Err(refusal) if tries + 1 < section.tries(&refusal.message) => {
                return Ok((Phase::Create { tries: tries + 1 }, section.backoff(tries + 1)));
            }
            Err(refusal) => {
                // It holds no pod then, and asks for the events of all namespaces; nobody reads the answer.
                let _for_a_debug_message = hands.cluster.get("/api/v1/events").await;
                self.trace.line("ERROR: Error cleaning up pod: resource name may not be empty");
                return Err(setting_up(&refusal));
            }
        };
        self.pod = Some(name);
        if section.pod_disruption_budget {
            let budget = job_pod::disruption_budget(&pod, &family);
            let path =
                format!("/apis/policy/v1/namespaces/{}/poddisruptionbudgets", section.namespace());
            if let Err(refusal) = hands.cluster.post(&path, &budget).await {
                let text = format!("error creating PodDisruptionBudget: {}", refusal.message);
                return Err(Failure::Preparing(format!("setting up build pod: {text}")));
            }
        }
        if self.entry.flag("FF_PRINT_POD_EVENTS", false) {
            let path = format!("/api/v1/namespaces/{}/events?watch=true", section.namespace());
            if let Err(refusal) = hands.cluster.watch(&path).await
                && refusal.status == 403
            {
                return Err(Failure::Preparing(refusal.message));
            }
        }
        Ok((Phase::Wait { since: hands.now }, AT_ONCE))
    }

    async fn wait(&mut self, hands: &Hands<'_>, since: Timestamp) -> Next {
        let section = &self.entry.kubernetes;
        let path = self.pod_path();
        let waiting = |text: &str| Failure::Preparing(format!("waiting for pod running: {text}"));
        let pod = hands.cluster.get(&path).await.map_err(|refusal| waiting(&refusal.message))?;
        let phase = pod["status"]["phase"].as_str().unwrap_or("Pending").to_owned();
        if phase == "Running" && container_runs(&pod) {
            return Ok((Phase::Run, AT_ONCE));
        }
        let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
        for status in statuses {
            let blocked = &status["state"]["waiting"];
            let reason = blocked["reason"].as_str().unwrap_or_default();
            if ["ErrImagePull", "ImagePullBackOff", "InvalidImageName"].contains(&reason) {
                let image = status["image"].as_str().unwrap_or_default();
                let message = blocked["message"].as_str().unwrap_or(reason);
                return Err(waiting(&format!(
                    "pulling image \"{image}\": image pull failed: {message}"
                )));
            }
        }
        if hands.now.duration_since(since) >= section.poll_timeout() {
            return Err(waiting("timed out waiting for pod to start"));
        }
        let namespace = section.namespace();
        if section.print_pod_warning_events.unwrap_or(true) {
            let name = self.pod.as_deref().unwrap_or_default();
            let events = format!(
                "/api/v1/namespaces/{namespace}/events?fieldSelector=involvedObject.name%3D{name}"
            );
            let found = hands.cluster.get(&events).await.unwrap_or_default();
            let warnings = found["items"].as_array().into_iter().flatten();
            for event in warnings.filter(|event| event["involvedObject"]["name"] == name) {
                let message = event["message"].as_str().unwrap_or_default();
                self.trace.line(&format!("WARNING: Event retrieved from the cluster: {message}"));
            }
        }
        self.trace.line(&format!(
            "Waiting for pod {namespace}/{} to be running, status is {phase}",
            self.pod.as_deref().unwrap_or_default()
        ));
        match self.trace.flush(&hands.gitlab, &self.payload).await {
            Standing::GoOn | Standing::Unheard => {
                Ok((Phase::Wait { since }, self.entry.kubernetes.poll_interval()))
            }
            Standing::Cancelling | Standing::Gone => Ok(self.cancel()),
        }
    }

    async fn run(&mut self, hands: &Hands<'_>) -> Next {
        let path = self.pod_path();
        let attach = !self.entry.flag("FF_USE_LEGACY_KUBERNETES_EXECUTION_STRATEGY", false);
        let trapping = if attach { "setting up trapping scripts on emptyDir: " } else { "" };
        hands.cluster.connect(&path, "exec").await.map_err(|refusal| {
            let text = format!("unable to upgrade connection: {}", refusal.message);
            Failure::Preparing(format!("{trapping}{text}"))
        })?;
        if attach {
            hands.cluster.connect(&path, "attach").await.map_err(|refusal| {
                Failure::Preparing(format!("unable to upgrade connection: {}", refusal.message))
            })?;
        }
        let pod = hands.cluster.get(&path).await;
        let pod = pod.map_err(|refusal| Failure::Preparing(refusal.message))?;
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        self.trace.line(&format!("Running on {name} via {}...", hands.pod.name));
        let ended =
            script::run(hands.managers, &hands.gitlab, &self.payload, &pod, &mut self.trace).await;
        let (code, slept_seconds) = match ended {
            Ended::Exited { code, slept_seconds } => (code, slept_seconds),
            Ended::Cancelled => return Ok(self.cancel()),
            Ended::TimedOut => {
                self.outcome = Some(Outcome::TimedOut);
                return Ok((Phase::CleanUp, AT_ONCE));
            }
            Ended::Broken(text) => return Err(Failure::Running(text)),
        };
        self.outcome = Some(if code == 0 { Outcome::Success } else { Outcome::Failed { code } });
        let slept = SignedDuration::try_from_secs_f64(slept_seconds).unwrap_or(SignedDuration::MAX);
        let ends = hands.now.saturating_add(slept).unwrap_or(Timestamp::MAX);
        let timeout = SignedDuration::from_secs(self.payload.timeout_seconds());
        let latest = self.started_at.saturating_add(timeout).unwrap_or(Timestamp::MAX);
        if ends > latest {
            self.outcome = Some(Outcome::TimedOut);
        }
        let until = ends.min(latest);
        Ok((Phase::Hold { until }, AT_ONCE))
    }

    async fn hold(&mut self, hands: &Hands<'_>, until: Timestamp) -> Next {
        let flushed = self.trace.flush(&hands.gitlab, &self.payload).await;
        if matches!(flushed, Standing::Cancelling | Standing::Gone) {
            return Ok(self.cancel());
        }
        if hands.now >= until {
            return Ok((Phase::CleanUp, AT_ONCE));
        }
        match hands.cluster.get(&self.pod_path()).await {
            Err(refusal) if refusal.status == 404 => return Err(Failure::Running(refusal.message)),
            Err(refusal) => {
                let text = refusal.message;
                self.trace.line(&format!("WARNING: Getting job pod status {text}"));
            }
            Ok(_) => {}
        }
        if self.say_running(hands).await {
            return Ok(self.cancel());
        }
        Ok((Phase::Hold { until }, KEEP_ALIVE.min(until.duration_since(hands.now))))
    }

    async fn clean_up(&mut self, hands: &Hands<'_>) -> Next {
        if self.pod.is_some() {
            let options = json!({"kind": "DeleteOptions", "apiVersion": "v1"});
            match hands.cluster.delete(&self.pod_path(), &options).await {
                Err(refusal) if refusal.status != 404 => {
                    let text = refusal.message;
                    self.trace.line(&format!("ERROR: Error cleaning up pod: {text}"));
                }
                Ok(_) | Err(_) => {}
            }
        }
        match self.outcome.as_ref() {
            Some(Outcome::Success) => self.trace.line("Job succeeded"),
            Some(Outcome::Failed { code }) => {
                let text = format!("ERROR: Job failed: command terminated with exit code {code}");
                self.trace.line(&text);
            }
            Some(Outcome::System(text)) => {
                let text = format!("ERROR: Job failed (system failure): {text}");
                self.trace.line(&text);
            }
            Some(Outcome::TimedOut) => {
                let timeout = super::go_duration::print(self.payload.timeout_seconds());
                let text =
                    format!("ERROR: Job failed: execution took longer than {timeout} seconds");
                self.trace.line(&text);
            }
            Some(Outcome::Cancelled) | None => self.trace.line("ERROR: Job failed: canceled"),
        }
        Ok((Phase::Report, AT_ONCE))
    }

    async fn report(&mut self, hands: &Hands<'_>) -> Next {
        if self.trace.flush(&hands.gitlab, &self.payload).await == Standing::Unheard {
            return Ok((Phase::Report, REPORT_AGAIN));
        }
        let failed = |reason: &str| json!({"state": "failed", "failure_reason": reason});
        let mut fields = match self.outcome.as_ref() {
            Some(Outcome::Success) => json!({"state": "success"}),
            // Only a script has an exit code.
            Some(Outcome::Failed { code }) => {
                let mut fields = failed("script_failure");
                fields["exit_code"] = (*code).into();
                fields
            }
            Some(Outcome::System(_)) => failed("runner_system_failure"),
            Some(Outcome::TimedOut) => failed("job_execution_timeout"),
            Some(Outcome::Cancelled) | None => failed("job_canceled"),
        };
        fields["output"] = self.trace.output();
        fields["checksum"] = fields["output"]["checksum"].clone();
        let (id, token) = (self.payload.id, &self.payload.token);
        match hands.gitlab.update(id, token, fields).await {
            Standing::Unheard => Ok((Phase::Report, REPORT_AGAIN)),
            Standing::GoOn | Standing::Cancelling | Standing::Gone => Ok((Phase::Over, AT_ONCE)),
        }
    }

    /// Whether it is to end instead.
    async fn say_running(&mut self, hands: &Hands<'_>) -> bool {
        let (id, token) = (self.payload.id, &self.payload.token);
        match hands.gitlab.update(id, token, json!({"state": "running"})).await {
            Standing::GoOn | Standing::Unheard => false,
            Standing::Cancelling | Standing::Gone => {
                self.outcome = Some(Outcome::Cancelled);
                true
            }
        }
    }

    fn cancel(&mut self) -> (Phase, SignedDuration) {
        self.outcome = Some(Outcome::Cancelled);
        (Phase::CleanUp, AT_ONCE)
    }

    fn family(&self) -> String {
        let short = self.entry.short_token().to_ascii_lowercase();
        let short: String =
            short.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        format!("runner-{short}-project-{}-concurrent-{}", self.payload.project_id(), self.slot)
    }

    fn pod_path(&self) -> String {
        let namespace = self.entry.kubernetes.namespace();
        format!("/api/v1/namespaces/{namespace}/pods/{}", self.pod.as_deref().unwrap_or_default())
    }
}

fn setting_up(refusal: &Refusal) -> Failure {
    Failure::Preparing(format!("setting up build pod: {}", refusal.message))
}

fn container_runs(pod: &Value) -> bool {
    let mut statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    statuses.any(|status| status["state"]["running"].is_object())
}

/// Eight letters that are the same in the next run of the same world.
fn suffix(hands: &Hands<'_>, payload: &Payload) -> String {
    let seed = hands.managers.0.settings.seed;
    let identity = format!("{seed}/{}/{}", hands.pod.uid, payload.id);
    let digest = Sha256::digest(identity);
    digest[..8].iter().map(|byte| char::from(b'a' + byte % 26)).collect()
}
