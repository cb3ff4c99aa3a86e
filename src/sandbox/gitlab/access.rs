//! Who may see and change what (gitlab.md §3, §9.5).

use super::{
    call::{Call, Caller},
    errors::Refusal,
    runners::{Owner, Runner},
    state::State,
    tree::{Group, Project},
    users::{MAINTAINER, Membership, OWNER},
};

impl State {
    /// The level that membership in the group or an ancestor gives.
    pub(super) fn group_level(&self, caller: &Caller, group: u64) -> u8 {
        let chain: Vec<u64> = self.chain(group).iter().map(|group| group.id).collect();
        let here = self.members.iter().filter(|member| {
            Some(member.user) == caller.user
                && matches!(member.of, Membership::Group(of) if chain.contains(&of))
        });
        here.map(|member| member.level).max().unwrap_or(0)
    }

    pub(super) fn project_level(&self, caller: &Caller, project: &Project) -> u8 {
        let user = caller.user.and_then(|user| self.users.get(&user));
        if user.is_some_and(|user| user.namespace == project.namespace) {
            return OWNER;
        }
        let here = self.members.iter().filter(|member| {
            Some(member.user) == caller.user && member.of == Membership::Project(project.id)
        });
        let direct = here.map(|member| member.level).max().unwrap_or(0);
        direct.max(self.group_level(caller, project.namespace))
    }

    pub(super) fn owns_group(&self, caller: &Caller, group: u64) -> bool {
        caller.admin || self.group_level(caller, group) >= OWNER
    }

    pub(super) fn maintains_project(&self, caller: &Caller, project: &Project) -> bool {
        caller.admin || self.project_level(caller, project) >= MAINTAINER
    }

    pub(super) fn sees_group(&self, caller: &Caller, group: &Group) -> bool {
        caller.admin
            || is_open(&group.visibility, caller)
            || self.group_level(caller, group.id) > 0
            || self.is_member_below(caller, group.id)
    }

    pub(super) fn sees_project(&self, caller: &Caller, project: &Project) -> bool {
        caller.admin
            || is_open(&project.visibility, caller)
            || self.project_level(caller, project) > 0
    }

    /// A member of something below sees the way to it.
    fn is_member_below(&self, caller: &Caller, group: u64) -> bool {
        let mine = self.members.iter().filter(|member| Some(member.user) == caller.user);
        mine.map(|member| member.of).any(|of| match of {
            Membership::Group(below) => self.is_below(below, group),
            Membership::Project(project) => self.projects.get(&project).is_some_and(|project| {
                project.namespace == group || self.is_below(project.namespace, group)
            }),
        })
    }

    /// The group of `:id`, or the 404 that also hides.
    pub(super) fn group_for(&self, call: &Call, caller: &Caller) -> Result<Group, Refusal> {
        self.find_group(call.segment("id"))
            .filter(|group| self.sees_group(caller, group))
            .cloned()
            .ok_or_else(|| Refusal::not_found("Group"))
    }

    pub(super) fn project_for(&self, call: &Call, caller: &Caller) -> Result<Project, Refusal> {
        self.find_project(call.segment("id"))
            .filter(|project| self.sees_project(caller, project))
            .cloned()
            .ok_or_else(|| Refusal::not_found("Project"))
    }

    /// The group of `:id`, for somebody who may change it.
    pub(super) fn own_group_for(&self, call: &Call, caller: &Caller) -> Result<Group, Refusal> {
        let group = self.group_for(call, caller)?;
        if self.owns_group(caller, group.id) { Ok(group) } else { Err(Refusal::forbidden()) }
    }

    pub(super) fn own_project_for(&self, call: &Call, caller: &Caller) -> Result<Project, Refusal> {
        let project = self.project_for(call, caller)?;
        let owns = caller.admin || self.project_level(caller, &project) >= OWNER;
        if owns { Ok(project) } else { Err(Refusal::forbidden()) }
    }

    pub(super) fn may_read_runner(&self, caller: &Caller, runner: &Runner) -> bool {
        if caller.admin {
            return true;
        }
        match runner.owner {
            Owner::Instance => caller.user.is_some(),
            Owner::Group(group) => self.group_level(caller, group) >= OWNER,
            Owner::Project(_) => self.maintains_any(caller, runner),
            Owner::Nobody => false,
        }
    }

    /// Whether a list of GraphQL's has a row for it: a group's runner shows to its maintainers, and to those of a project that may
    /// use it. Source: `app/policies/ci/runner_policy.rb` of GitLab.
    pub(super) fn lists_runner(&self, caller: &Caller, runner: &Runner) -> bool {
        let Owner::Group(group) = runner.owner else {
            return self.may_read_runner(caller, runner);
        };
        let mut below = self.projects.values().filter(|project| {
            project.namespace == group || self.is_below(project.namespace, group)
        });
        caller.admin
            || self.group_level(caller, group) >= MAINTAINER
            || below.any(|project| {
                project.group_runners_enabled && self.project_level(caller, project) >= MAINTAINER
            })
    }

    /// Administrators always; others not while the owner is archived.
    pub(super) fn may_change_runner(&self, caller: &Caller, runner: &Runner) -> bool {
        if caller.admin {
            return true;
        }
        let archived = match runner.owner {
            Owner::Instance | Owner::Nobody => return false,
            Owner::Group(group) => self.is_archived(group),
            Owner::Project(project) => {
                self.projects.get(&project).is_some_and(|project| self.is_project_archived(project))
            }
        };
        !archived && self.may_read_runner(caller, runner)
    }

    fn maintains_any(&self, caller: &Caller, runner: &Runner) -> bool {
        let projects = runner.projects.iter().filter_map(|id| self.projects.get(id));
        projects.into_iter().any(|project| self.project_level(caller, project) >= MAINTAINER)
    }
}

fn is_open(visibility: &str, caller: &Caller) -> bool {
    visibility == "public" || (visibility == "internal" && caller.user.is_some())
}
