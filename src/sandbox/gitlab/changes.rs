//! What a person does to groups and projects, without HTTP; for tests and the demo.

use super::{Gitlab, errors::Refusal};

impl Gitlab {
    /// The next group gets this id, or the next that is free: a policy file may know its anchors by id.
    pub fn number_groups_from(&self, id: u64) {
        self.lock().skip_ids(super::state::Kind::Namespace, id.saturating_sub(1));
    }

    /// A private group below `parent`, named after its path. Sends `group_create`.
    ///
    /// # Panics
    /// Where GitLab would refuse: the path is taken or none, or the parent is not there.
    pub fn create_group(&self, parent: Option<u64>, path: &str) -> u64 {
        allowed(self.lock().add_group(parent, path, path, "private"))
    }

    /// A private project of a group. Sends `project_create`.
    ///
    /// # Panics
    /// As [`Gitlab::create_group`].
    pub fn create_project(&self, group: u64, path: &str) -> u64 {
        allowed(self.lock().add_project(group, path, path, "private"))
    }

    /// Gives the group another path. Sends `group_rename`, and nothing for what lies below.
    ///
    /// # Panics
    /// As [`Gitlab::create_group`].
    pub fn rename_group(&self, group: u64, path: &str) {
        allowed(self.lock().set_group_path(group, path));
    }

    /// Sends `project_rename`.
    ///
    /// # Panics
    /// As [`Gitlab::create_group`].
    pub fn rename_project(&self, project: u64, path: &str) {
        allowed(self.lock().set_project_path(project, path));
    }

    /// Moves the group, silently: GitLab has no hook for it.
    ///
    /// # Panics
    /// Where the place is taken or lies below the group.
    pub fn transfer_group(&self, group: u64, parent: Option<u64>) {
        let mut state = self.lock();
        allowed(state.check_move(group, parent));
        state.move_group(group, parent);
    }

    /// Moves one project. Sends `project_transfer`.
    ///
    /// # Panics
    /// As [`Gitlab::create_group`].
    pub fn transfer_project(&self, project: u64, namespace: u64) {
        allowed(self.lock().move_project(project, namespace));
    }

    /// Sends `group_update`.
    ///
    /// # Panics
    /// Where it or an ancestor is archived or doomed already.
    pub fn archive_group(&self, group: u64) {
        allowed(self.lock().set_group_archived(group, true));
    }

    /// Sends `group_update`.
    ///
    /// # Panics
    /// Where it is not archived.
    pub fn unarchive_group(&self, group: u64) {
        allowed(self.lock().set_group_archived(group, false));
    }

    /// Sends `project_update`.
    pub fn set_project_archived(&self, project: u64, archived: bool) {
        self.lock().set_project_archived(project, archived);
    }

    /// Says whether instance and group runners may serve the project. Sends `project_update`.
    pub fn set_project_runners(&self, project: u64, shared: bool, group: bool) {
        let mut state = self.lock();
        if let Some(project) = state.projects.get_mut(&project) {
            project.shared_runners_enabled = shared;
            project.group_runners_enabled = group;
        }
        state.wake_runners();
        state.emit_project("project_update", project, None);
    }

    /// Puts images into a project's container registry, or takes them out.
    pub fn set_registry_images(&self, project: u64, present: bool) {
        if let Some(project) = self.lock().projects.get_mut(&project) {
            project.has_images = present;
        }
    }
}

/// The helpers stand for a person who does what is possible.
pub(super) fn allowed<T>(result: Result<T, Refusal>) -> T {
    result.unwrap_or_else(|refusal| panic!("the sandbox's GitLab refused: {refusal}"))
}
