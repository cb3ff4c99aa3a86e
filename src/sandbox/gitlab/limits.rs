//! How often one user may call the endpoints of groups and projects (gitlab.md §7.1 b).

use super::{call::Caller, errors::Refusal, state::State};

/// Calls that are allowed in one period.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub calls: u32,
    pub period_seconds: i64,
}

/// The limits of one instance, each per user.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub groups: Limit,
    pub group: Limit,
    pub group_projects: Limit,
    pub projects: Limit,
    pub project: Limit,
}

impl Default for Limits {
    fn default() -> Self {
        let minute = |calls| Limit { calls, period_seconds: 60 };
        Self {
            groups: minute(200),
            group: minute(400),
            group_projects: minute(600),
            projects: Limit { calls: 2000, period_seconds: 600 },
            project: minute(400),
        }
    }
}

/// Which limit a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Counted {
    Groups,
    Group,
    GroupProjects,
    Projects,
    Project,
}

impl State {
    /// Counts a call of this user and refuses one too many. The period is a fixed window.
    pub(super) fn count(&mut self, caller: &Caller, counted: Counted) -> Result<(), Refusal> {
        let limits = &self.settings.limits;
        let limit = match counted {
            Counted::Groups => limits.groups,
            Counted::Group => limits.group,
            Counted::GroupProjects => limits.group_projects,
            Counted::Projects => limits.projects,
            Counted::Project => limits.project,
        };
        let active = self.settings.version.is_from(18, 1) || counted == Counted::Projects;
        if !active {
            return Ok(());
        }
        let window = self.now.as_second() / limit.period_seconds.max(1);
        let usage = self.usage.entry((caller.user, counted)).or_insert((window, 0));
        if usage.0 != window {
            *usage = (window, 0);
        }
        usage.1 += 1;
        if usage.1 > limit.calls { Err(Refusal::too_many_requests()) } else { Ok(()) }
    }
}
