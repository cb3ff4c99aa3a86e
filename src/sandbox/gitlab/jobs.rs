//! Jobs: made by tests and the demo, taken by runners.

use super::{
    Gitlab,
    runners::{Owner, Runner},
    state::{Kind, State},
    tree::Project,
};
use jiff::Timestamp;
use serde::Serialize;

/// A job to be run.
#[derive(Clone, Debug, Default)]
pub struct NewJob {
    pub name: String,
    pub tags: Vec<String>,
    pub image: Option<String>,
    pub before_script: Vec<String>,
    pub script: Vec<String>,
    pub after_script: Vec<String>,
    /// Whether its ref is protected: runners for protected refs take no other.
    pub protected: bool,
    /// Public variables beside the predefined ones.
    pub variables: Vec<(String, String)>,
    /// One hour where it is missing.
    pub timeout_seconds: Option<i64>,
}

#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: u64,
    pub(super) project: u64,
    pub(super) new: NewJob,
    pub(super) status: JobStatus,
    pub(super) runner: Option<u64>,
    pub(super) system_id: Option<String>,
    /// The job's own token, known once a runner has it.
    pub(super) digest: Option<String>,
    pub(super) trace: Vec<u8>,
    pub(super) failure_reason: Option<String>,
    pub(super) exit_code: Option<i64>,
    pub(super) created_at: Timestamp,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum JobStatus {
    Pending,
    Running,
    /// Asked to stop; the runner has not said yet that it did.
    Canceling,
    Canceled,
    Success,
    Failed,
}

/// A job as tests look at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JobView {
    pub id: u64,
    pub project: u64,
    pub name: String,
    pub status: JobStatus,
    /// Who took it.
    pub runner: Option<u64>,
    pub system_id: Option<String>,
    pub trace: String,
    pub failure_reason: Option<String>,
    pub exit_code: Option<i64>,
}

impl Gitlab {
    /// A pending job of the project; nothing takes it until a runner that may asks.
    pub fn create_job(&self, project: u64, new: NewJob) -> u64 {
        let mut state = self.lock();
        let id = state.next_id(Kind::Job);
        let job = Job {
            id,
            project,
            new,
            status: JobStatus::Pending,
            runner: None,
            system_id: None,
            digest: None,
            trace: Vec::new(),
            failure_reason: None,
            exit_code: None,
            created_at: state.now,
            started_at: None,
            finished_at: None,
        };
        state.jobs.insert(id, job);
        state.wake_runners();
        id
    }

    pub fn job(&self, id: u64) -> Option<JobView> {
        self.lock().jobs.get(&id).map(view)
    }

    /// Every job, by id.
    pub fn jobs(&self) -> Vec<JobView> {
        self.lock().jobs.values().map(view).collect()
    }

    /// Asks for the job's end: at once where nobody has it, else the runner learns it with its next call.
    pub fn cancel_job(&self, id: u64) {
        let mut state = self.lock();
        let now = state.now;
        let Some(job) = state.jobs.get_mut(&id) else { return };
        match job.status {
            JobStatus::Pending => {
                job.status = JobStatus::Canceled;
                job.finished_at = Some(now);
            }
            JobStatus::Running => job.status = JobStatus::Canceling,
            JobStatus::Canceling | JobStatus::Canceled | JobStatus::Success | JobStatus::Failed => {
            }
        }
    }
}

impl JobStatus {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Canceling => "canceling",
            Self::Canceled => "canceled",
            Self::Success => "success",
            Self::Failed => "failed",
        }
    }

    pub(super) fn is_on_runner(self) -> bool {
        match self {
            Self::Running | Self::Canceling => true,
            Self::Pending | Self::Canceled | Self::Success | Self::Failed => false,
        }
    }
}

impl State {
    /// The oldest job that this runner may take.
    pub(super) fn next_job_for(&self, runner: &Runner) -> Option<u64> {
        if runner.paused {
            return None;
        }
        let mut pending = self.jobs.values().filter(|job| job.status == JobStatus::Pending);
        pending.find(|job| self.may_take(runner, job)).map(|job| job.id)
    }

    fn may_take(&self, runner: &Runner, job: &Job) -> bool {
        let Some(project) = self.projects.get(&job.project) else { return false };
        self.serves(runner, project)
            && !self.is_project_archived(project)
            && (job.new.protected || !runner.ref_protected)
            && (runner.run_untagged || !job.new.tags.is_empty())
            && job.new.tags.iter().all(|tag| runner.tags.contains(tag))
    }

    /// Whether the project is in the runner's reach and wants its kind.
    fn serves(&self, runner: &Runner, project: &Project) -> bool {
        match runner.owner {
            Owner::Instance => project.shared_runners_enabled,
            Owner::Group(owner) => {
                let chain = self.chain(project.namespace);
                project.group_runners_enabled && chain.iter().any(|group| group.id == owner)
            }
            Owner::Project(_) => runner.projects.contains(&project.id),
            Owner::Nobody => false,
        }
    }
}

fn view(job: &Job) -> JobView {
    JobView {
        id: job.id,
        project: job.project,
        name: job.new.name.clone(),
        status: job.status,
        runner: job.runner,
        system_id: job.system_id.clone(),
        trace: String::from_utf8_lossy(&job.trace).into_owned(),
        failure_reason: job.failure_reason.clone(),
        exit_code: job.exit_code,
    }
}
