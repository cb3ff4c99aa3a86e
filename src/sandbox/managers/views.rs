//! What tests and the demo see of the managers.

use super::{
    Managers,
    job::{Job, Outcome, Phase},
    process::Process,
};
use crate::sandbox::kubernetes::ManagerPod;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

/// A running `gitlab-runner`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProcessView {
    pub namespace: String,
    pub pod: String,
    pub deployment: String,
    pub system_id: String,
    /// Of gitlab-runner, as the image's tag says.
    pub version: String,
    /// Whether it was told to stop and takes no more jobs.
    pub draining: bool,
    /// Why it ended, if it did; it comes up again with another file.
    pub fatal: Option<String>,
    /// Those with a token.
    pub entries: Vec<EntryView>,
    pub jobs_in_hand: usize,
    /// The last lines of its log.
    pub log: Vec<String>,
}

/// One `[[runners]]` of a process.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EntryView {
    pub name: String,
    /// The part of the token that is no secret.
    pub short_token: String,
    /// Whether it asks for jobs; one that was refused three times in a row rests.
    pub healthy: bool,
    pub last_poll: Option<Timestamp>,
    /// Missing where it never asked or nobody answered.
    pub last_status: Option<u16>,
}

/// A job that a manager has or had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobRun {
    /// Of the job in GitLab.
    pub id: u64,
    /// Pod of the manager.
    pub manager: String,
    /// Where the job's pod is or was.
    pub namespace: String,
    /// Missing until there is one.
    pub pod: Option<String>,
    pub state: RunState,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    /// No pod yet.
    Preparing,
    /// Until its pod runs.
    Waiting,
    Running,
    Success,
    /// Its scripts failed.
    Failed {
        exit_code: i32,
    },
    /// The runner failed, for this reason.
    SystemFailure {
        reason: String,
    },
    TimedOut,
    Cancelled,
}

impl Managers {
    /// All running managers, by namespace and name of their pods.
    pub fn processes(&self) -> Vec<ProcessView> {
        self.state().processes.values().map(process).collect()
    }

    /// Jobs that are over, in the order of their ends, then those in hand.
    pub fn jobs(&self) -> Vec<JobRun> {
        let state = self.state();
        let in_hand = state
            .processes
            .values()
            .flat_map(|process| process.jobs.iter().map(|job| run(&process.pod, job, None)));
        state.finished.iter().cloned().chain(in_hand).collect()
    }

    /// Everything there is to see, without secrets.
    pub fn dump(&self) -> Value {
        json!({"processes": self.processes(), "jobs": self.jobs()})
    }
}

fn process(process: &Process) -> ProcessView {
    let entries = process.entries.iter().map(|entry| {
        let contact = process.contacts.get(&entry.token);
        let last_poll = contact.and_then(|contact| contact.last_poll);
        EntryView {
            name: entry.name.clone(),
            short_token: entry.short_token(),
            healthy: contact.is_none_or(|contact| contact.health.is_good(entry)),
            last_poll: last_poll.map(|(at, _)| at),
            last_status: last_poll.and_then(|(_, status)| status),
        }
    });
    ProcessView {
        namespace: process.pod.namespace.clone(),
        pod: process.pod.name.clone(),
        deployment: process.pod.deployment.clone(),
        system_id: process.system_id.clone(),
        version: process.version.clone(),
        draining: process.is_draining(),
        fatal: process.fatal.clone(),
        entries: entries.collect(),
        jobs_in_hand: process.jobs.len(),
        log: process.log.clone(),
    }
}

pub(super) fn run(manager: &ManagerPod, job: &Job, ended_at: Option<Timestamp>) -> JobRun {
    let state = match (job.phase, &job.outcome) {
        (Phase::Take | Phase::Check { .. } | Phase::Create { .. }, _) => RunState::Preparing,
        (Phase::Wait { .. }, _) => RunState::Waiting,
        (Phase::Run | Phase::Hold { .. }, _) => RunState::Running,
        (Phase::CleanUp | Phase::Report | Phase::Over, outcome) => match outcome {
            Some(Outcome::Success) => RunState::Success,
            Some(Outcome::Failed { code }) => RunState::Failed { exit_code: *code },
            Some(Outcome::System(reason)) => RunState::SystemFailure { reason: reason.clone() },
            Some(Outcome::TimedOut) => RunState::TimedOut,
            Some(Outcome::Cancelled) | None => RunState::Cancelled,
        },
    };
    JobRun {
        id: job.payload.id,
        manager: manager.name.clone(),
        namespace: job.entry.kubernetes.namespace().to_owned(),
        pod: job.pod.clone(),
        state,
        started_at: job.started_at,
        ended_at,
    }
}
