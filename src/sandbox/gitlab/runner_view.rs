//! Runners as tests look at them, and what they do to them without HTTP.

use super::{
    Gitlab,
    changes::allowed,
    runners::{Owner, Runner, RunnerEdit, RunnerKind},
};
use jiff::Timestamp;
use serde::Serialize;

/// A runner as tests look at it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunnerView {
    pub id: u64,
    pub owner: Owner,
    pub description: String,
    pub maintenance_note: String,
    pub paused: bool,
    pub locked: bool,
    /// Takes jobs of protected refs only.
    pub ref_protected: bool,
    pub run_untagged: bool,
    pub tags: Vec<String>,
    pub maximum_timeout_seconds: Option<i64>,
    pub created_at: Timestamp,
    pub contacted_at: Option<Timestamp>,
    pub token_expires_at: Option<Timestamp>,
    /// The SHA-256 of its token in hexadecimal.
    pub token_sha256: String,
    /// The system ids that used it.
    pub managers: Vec<String>,
}

impl Gitlab {
    /// Every runner, by id.
    pub fn runners(&self) -> Vec<RunnerView> {
        self.lock().runners.values().map(view).collect()
    }

    pub fn runner(&self, id: u64) -> Option<RunnerView> {
        self.lock().runners.get(&id).map(view)
    }

    /// Whether a runner would be let in with this token now.
    pub fn token_is_valid(&self, token: &str) -> bool {
        self.lock().runner_of(token).is_some()
    }

    /// Changes a runner behind forerunner's back.
    ///
    /// # Panics
    /// Where GitLab would not take the values.
    pub fn edit_runner(&self, id: u64, edit: RunnerEdit) {
        allowed(self.lock().edit_runner(id, edit));
    }

    pub fn delete_runner(&self, id: u64) {
        self.lock().delete_runner(id);
    }

    /// Lets a project's runner serve another project too, as an administrator may though it is locked.
    ///
    /// # Panics
    /// Where it is no project's runner.
    pub fn assign_runner(&self, id: u64, project: u64) {
        let mut state = self.lock();
        let runner = state.runners.get_mut(&id).filter(|one| one.kind == RunnerKind::Project);
        let runner = runner.expect("only a project's runner serves further projects");
        if !runner.projects.contains(&project) {
            runner.projects.push(project);
        }
        state.wake_runners();
    }

    /// Takes a further project away again; its owner's, which is the first, it keeps as long as it lives.
    pub fn unassign_runner(&self, id: u64, project: u64) {
        if let Some(runner) = self.lock().runners.get_mut(&id) {
            let owner = runner.projects.first().copied();
            runner.projects.retain(|one| *one != project || Some(*one) == owner);
        }
    }

    /// A new token; the old one is dead.
    pub fn reset_runner_token(&self, id: u64) -> Option<String> {
        self.lock().reset_runner_token(id)
    }

    /// Makes the runner's token end at `at`.
    pub fn expire_runner_token(&self, id: u64, at: Timestamp) {
        if let Some(runner) = self.lock().runners.get_mut(&id) {
            runner.token_expires_at = Some(at);
        }
    }
}

pub(super) fn view(runner: &Runner) -> RunnerView {
    RunnerView {
        id: runner.id,
        owner: runner.owner,
        description: runner.description.clone(),
        maintenance_note: runner.maintenance_note.clone(),
        paused: runner.paused,
        locked: runner.locked,
        ref_protected: runner.ref_protected,
        run_untagged: runner.run_untagged,
        tags: runner.tags.clone(),
        maximum_timeout_seconds: runner.maximum_timeout,
        created_at: runner.created_at,
        contacted_at: runner.contacted_at,
        token_expires_at: runner.token_expires_at,
        token_sha256: runner.digest.clone(),
        managers: runner.managers.iter().map(|manager| manager.system_id.clone()).collect(),
    }
}
