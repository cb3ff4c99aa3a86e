//! Runners as GitLab keeps them, and what can be done to them.

use super::{
    errors::Refusal,
    runner_status::Status,
    state::{Kind, State, digest},
};
use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use serde::Serialize;

#[derive(Clone, Debug)]
pub(super) struct Runner {
    pub(super) id: u64,
    pub(super) kind: RunnerKind,
    pub(super) owner: Owner,
    /// The projects of a project runner; the first is its owner.
    pub(super) projects: Vec<u64>,
    pub(super) description: String,
    pub(super) maintenance_note: String,
    pub(super) paused: bool,
    pub(super) locked: bool,
    pub(super) ref_protected: bool,
    pub(super) run_untagged: bool,
    pub(super) tags: Vec<String>,
    pub(super) maximum_timeout: Option<i64>,
    pub(super) digest: String,
    pub(super) token_expires_at: Option<Timestamp>,
    pub(super) creator: Option<u64>,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) contacted_at: Option<Timestamp>,
    /// What the database has of `contacted_at`: up to 55 minutes old; filters read it.
    pub(super) contacted_at_stored: Option<Timestamp>,
    /// Whether it ever asked for a job.
    pub(super) finished: bool,
    pub(super) managers: Vec<Manager>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RunnerKind {
    Instance,
    Group,
    Project,
}

impl RunnerKind {
    pub(super) const WORDS: [&str; 3] = ["instance_type", "group_type", "project_type"];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Instance => "instance_type",
            Self::Group => "group_type",
            Self::Project => "project_type",
        }
    }
}

/// Whose runner it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Owner {
    Instance,
    Group(u64),
    Project(u64),
    /// Its group or project was destroyed.
    Nobody,
}

/// One `system_id` that used the runner's token.
#[derive(Clone, Debug)]
pub(super) struct Manager {
    pub(super) id: u64,
    pub(super) system_id: String,
    pub(super) info: Info,
    pub(super) created_at: Timestamp,
    pub(super) contacted_at: Timestamp,
}

/// What a manager says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Info {
    pub(super) version: Option<String>,
    pub(super) revision: Option<String>,
    pub(super) platform: Option<String>,
    pub(super) architecture: Option<String>,
}

/// What to change of a runner; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct RunnerEdit {
    pub description: Option<String>,
    pub maintenance_note: Option<String>,
    pub paused: Option<bool>,
    pub locked: Option<bool>,
    pub ref_protected: Option<bool>,
    pub run_untagged: Option<bool>,
    pub tags: Option<Vec<String>>,
    /// `Some(None)` takes the limit away.
    pub maximum_timeout_seconds: Option<Option<i64>>,
}

const TEXT_CHARS_MAX: usize = 1024;
const TAGS_MAX: usize = 50;
const TIMEOUT_SECONDS_MIN: i64 = 600;

impl Runner {
    pub(super) fn status(&self, now: Timestamp) -> Status {
        Status::of(self.created_at, self.contacted_at, now)
    }

    /// What filters go by.
    pub(super) fn stored_status(&self, now: Timestamp) -> Status {
        Status::of(self.created_at, self.contacted_at_stored, now)
    }

    fn is_expired(&self, now: Timestamp) -> bool {
        self.token_expires_at.is_some_and(|expires_at| expires_at <= now)
    }

    /// What GitLab's model would complain about, as field and text.
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let too_long = || format!("is too long (maximum is {TEXT_CHARS_MAX} characters)");
        if self.description.chars().count() > TEXT_CHARS_MAX {
            problems.push(("description", too_long()));
        }
        if self.maintenance_note.chars().count() > TEXT_CHARS_MAX {
            problems.push(("maintenance_note", too_long()));
        }
        if self.tags.is_empty() && !self.run_untagged {
            let text = "can not be empty when runner is not allowed to pick untagged jobs";
            problems.push(("tags_list", text.to_owned()));
        }
        if self.tags.len() > TAGS_MAX {
            let text =
                format!("Too many tags specified. Please limit the number of tags to {TAGS_MAX}");
            problems.push(("tags_list", text));
        }
        if self.maximum_timeout.is_some_and(|seconds| seconds < TIMEOUT_SECONDS_MIN) {
            problems.push(("maximum_timeout", "needs to be at least 10 minutes".to_owned()));
        }
        problems
    }
}

impl State {
    /// The runner that a token lets in: neither an unknown nor an expired one does.
    pub(super) fn runner_of(&self, token: &str) -> Option<u64> {
        let digest = digest(token);
        let found = self.runners.values().find(|runner| runner.digest == digest);
        found.filter(|runner| !runner.is_expired(self.now)).map(|runner| runner.id)
    }

    pub(super) fn edit_runner(&mut self, id: u64, edit: RunnerEdit) -> Result<(), Refusal> {
        let runner = self.runners.get(&id).ok_or_else(|| self.no_runner())?;
        let mut changed = runner.clone();
        changed.description = edit.description.unwrap_or(changed.description);
        changed.maintenance_note = edit.maintenance_note.unwrap_or(changed.maintenance_note);
        changed.paused = edit.paused.unwrap_or(changed.paused);
        changed.locked = edit.locked.unwrap_or(changed.locked);
        changed.ref_protected = edit.ref_protected.unwrap_or(changed.ref_protected);
        changed.run_untagged = edit.run_untagged.unwrap_or(changed.run_untagged);
        changed.tags = edit.tags.unwrap_or(changed.tags);
        changed.maximum_timeout = edit.maximum_timeout_seconds.unwrap_or(changed.maximum_timeout);
        changed.updated_at = self.now;
        let problems = changed.problems();
        if !problems.is_empty() {
            return Err(Refusal::invalid(&problems));
        }
        self.runners.insert(id, changed);
        self.wake_runners();
        Ok(())
    }

    /// Jobs it has begun go on: they have tokens of their own.
    pub(super) fn delete_runner(&mut self, id: u64) {
        self.runners.remove(&id);
    }

    pub(super) fn reset_runner_token(&mut self, id: u64) -> Option<String> {
        let kind = self.runners.get(&id)?.kind;
        let token = self.runner_token(kind);
        let expires_at = self.runner_token_expiry();
        let now = self.now;
        let runner = self.runners.get_mut(&id)?;
        runner.digest = digest(&token);
        runner.token_expires_at = expires_at;
        runner.updated_at = now;
        Some(token)
    }

    pub(super) fn runner_token(&mut self, kind: RunnerKind) -> String {
        let version = self.settings.version;
        // Before 17 a token told nothing, and since 18 its payload does.
        let tells_kind = version.is_from(17, 0) && !version.is_from(18, 0);
        let prefix = match kind {
            _ if !tells_kind => "glrt-",
            RunnerKind::Instance => "glrt-t1_",
            RunnerKind::Group => "glrt-t2_",
            RunnerKind::Project => "glrt-t3_",
        };
        self.secret(prefix)
    }

    pub(super) fn runner_token_expiry(&self) -> Option<Timestamp> {
        let lifetime = self.settings.runner_token_lifetime?;
        self.now.saturating_add(lifetime).ok()
    }

    /// Notes that a runner was there, and which manager it was.
    pub(super) fn contact(&mut self, id: u64, system_id: &str, info: Info) {
        let now = self.now;
        let stale_after = SignedDuration::from_mins(self.chance.random_range(40..=55));
        let new_id = match self.runners.get(&id) {
            Some(runner) if runner.managers.iter().all(|known| known.system_id != system_id) => {
                Some(self.next_id(Kind::Manager))
            }
            Some(_) | None => None,
        };
        let Some(runner) = self.runners.get_mut(&id) else { return };
        runner.contacted_at = Some(now);
        if runner.contacted_at_stored.is_none_or(|stored| now.duration_since(stored) > stale_after)
        {
            runner.contacted_at_stored = Some(now);
        }
        if let Some(id) = new_id {
            let system_id = system_id.to_owned();
            let manager = Manager { id, system_id, info, created_at: now, contacted_at: now };
            runner.managers.push(manager);
            return;
        }
        let known = runner.managers.iter_mut().find(|manager| manager.system_id == system_id);
        if let Some(manager) = known {
            manager.contacted_at = now;
            manager.info.version = info.version.or(manager.info.version.take());
            manager.info.revision = info.revision.or(manager.info.revision.take());
            manager.info.platform = info.platform.or(manager.info.platform.take());
            manager.info.architecture = info.architecture.or(manager.info.architecture.take());
        }
    }

    /// Whether it has a job in hand.
    pub(super) fn is_busy(&self, runner: u64) -> bool {
        self.jobs.values().any(|job| job.runner == Some(runner) && job.status.is_on_runner())
    }

    /// The 404 of a runner, which versions word differently.
    pub(super) fn no_runner(&self) -> Refusal {
        if self.settings.version.is_from(19, 0) {
            return Refusal::not_found("Runner");
        }
        Refusal::message(axum::http::StatusCode::NOT_FOUND, "404 Not found")
    }
}
