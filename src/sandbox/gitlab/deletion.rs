//! Deleting groups and projects: scheduled, undone, or done (gitlab.md §4.3).

use super::{
    Gitlab,
    changes::allowed,
    errors::Refusal,
    runners::Owner,
    state::{Chore, State, Task, date},
    tree::Doom,
    users::Membership,
};
use axum::http::StatusCode;
use jiff::Timestamp;

impl Gitlab {
    /// Marks the group and renames it, which sends `group_rename`; before version 18 destroys it at once.
    pub fn schedule_group_deletion(&self, group: u64) {
        self.lock().schedule_group_deletion(group);
    }

    /// The same for a project, which sends `project_rename`.
    pub fn schedule_project_deletion(&self, project: u64) {
        self.lock().schedule_project_deletion(project);
    }

    /// Takes the mark away and renames it back. Sends `group_rename` where it had been renamed.
    ///
    /// # Panics
    /// Where the group is not scheduled for deletion.
    pub fn restore_group(&self, group: u64) {
        allowed(self.lock().restore_group(group));
    }

    /// Takes a project back out of its retention.
    ///
    /// # Panics
    /// Where it is not scheduled for deletion.
    pub fn restore_project(&self, project: u64) {
        allowed(self.lock().restore_project(project));
    }

    /// The end of the retention, now: `project_destroy` for the projects of each group, then
    /// `group_destroy` for the children, then for the group itself.
    pub fn destroy_group(&self, group: u64) {
        self.lock().destroy_group(group);
    }

    /// Sends `project_destroy`.
    pub fn destroy_project(&self, project: u64) {
        self.lock().destroy_project(project);
    }
}

impl State {
    /// Under an ancestor that is scheduled already, nothing happens.
    pub(super) fn schedule_group_deletion(&mut self, id: u64) {
        if !self.settings.version.is_from(18, 0) {
            self.destroy_group(id);
            return;
        }
        if self.is_doomed(id) || !self.groups.contains_key(&id) {
            return;
        }
        let rename = !self.has_images(id);
        let (marked_on, at) = (date(self.now), self.end_of_retention());
        self.tasks.push(Task { at, what: Chore::DestroyGroup { group: id } });
        let Some(group) = self.groups.get_mut(&id) else { return };
        let (name, path) = (group.name.clone(), group.path.clone());
        let suffixed = |text: &str| format!("{text}-deletion_scheduled-{id}");
        let new_path = suffixed(&path);
        if rename {
            group.name = suffixed(&name);
        }
        group.doom = Some(Doom { marked_on, before: rename.then_some((name, path)) });
        if rename && let Err(refusal) = self.set_group_path(id, &new_path) {
            tracing::warn!(group.id = id, "group {id} keeps its path: {refusal}");
        }
    }

    pub(super) fn schedule_project_deletion(&mut self, id: u64) {
        if !self.settings.version.is_from(18, 0) {
            self.destroy_project(id);
            return;
        }
        let (marked_on, at) = (date(self.now), self.end_of_retention());
        let Some(project) = self.projects.get_mut(&id).filter(|project| project.doom.is_none())
        else {
            return;
        };
        let (name, path) = (project.name.clone(), project.path.clone());
        let new_path = format!("{path}-deletion_scheduled-{id}");
        project.name = format!("{name}-deletion_scheduled-{id}");
        project.doom = Some(Doom { marked_on, before: Some((name, path)) });
        self.tasks.push(Task { at, what: Chore::DestroyProject { project: id } });
        if let Err(refusal) = self.set_project_path(id, &new_path) {
            tracing::warn!(project.id = id, "project {id} keeps its path: {refusal}");
        }
    }

    pub(super) fn restore_group(&mut self, id: u64) -> Result<(), Refusal> {
        let group = self.groups.get_mut(&id).ok_or_else(|| Refusal::not_found("Group"))?;
        let parent = group.parent;
        let doom = group.doom.take().ok_or_else(not_scheduled)?;
        self.tasks.retain(|task| task.what != Chore::DestroyGroup { group: id });
        let Some((name, path)) = doom.before else { return Ok(()) };
        let suffix = self.suffix_if_taken(parent, &path);
        if let Some(group) = self.groups.get_mut(&id) {
            group.name = format!("{name}{suffix}");
        }
        self.set_group_path(id, &format!("{path}{suffix}"))
    }

    pub(super) fn restore_project(&mut self, id: u64) -> Result<(), Refusal> {
        let project = self.projects.get_mut(&id).ok_or_else(|| Refusal::not_found("Project"))?;
        let namespace = project.namespace;
        let doom = project.doom.take().ok_or_else(not_scheduled)?;
        self.tasks.retain(|task| task.what != Chore::DestroyProject { project: id });
        let Some((name, path)) = doom.before else { return Ok(()) };
        let suffix = self.suffix_if_taken(Some(namespace), &path);
        if let Some(project) = self.projects.get_mut(&id) {
            project.name = format!("{name}{suffix}");
        }
        self.set_project_path(id, &format!("{path}{suffix}")).map(|_| ())
    }

    pub(super) fn destroy_group(&mut self, id: u64) {
        for project in self.projects_of(id) {
            self.destroy_project(project);
        }
        for child in self.children(Some(id)) {
            self.destroy_group(child);
        }
        // The row is still there when its last hook is built, and so the path is whole.
        self.emit_group("group_destroy", id);
        self.groups.remove(&id);
        self.members.retain(|member| member.of != Membership::Group(id));
        self.tasks.retain(|task| task.what != Chore::DestroyGroup { group: id });
        for runner in self.runners.values_mut() {
            if runner.owner == Owner::Group(id) {
                runner.owner = Owner::Nobody;
            }
        }
    }

    pub(super) fn destroy_project(&mut self, id: u64) {
        self.emit_project("project_destroy", id, None);
        self.projects.remove(&id);
        self.jobs.retain(|_, job| job.project != id);
        self.members.retain(|member| member.of != Membership::Project(id));
        self.old_project_paths.retain(|_, project| *project != id);
        self.tasks.retain(|task| task.what != Chore::DestroyProject { project: id });
        for runner in self.runners.values_mut() {
            runner.projects.retain(|project| *project != id);
            if runner.owner == Owner::Project(id) {
                runner.owner =
                    runner.projects.first().copied().map_or(Owner::Nobody, Owner::Project);
            }
        }
    }

    /// Images cannot be renamed along, so such a tree keeps its path.
    fn has_images(&self, group: u64) -> bool {
        let inside = |namespace: u64| namespace == group || self.is_below(namespace, group);
        self.projects.values().any(|project| project.has_images && inside(project.namespace))
    }

    fn suffix_if_taken(&mut self, namespace: Option<u64>, path: &str) -> String {
        if self.is_taken(namespace, path, None) {
            format!("-{}", self.letters(5).to_lowercase())
        } else {
            String::new()
        }
    }

    fn end_of_retention(&self) -> Timestamp {
        self.now.saturating_add(self.settings.retention).unwrap_or(Timestamp::MAX)
    }
}

fn not_scheduled() -> Refusal {
    Refusal::message(StatusCode::BAD_REQUEST, "Group has not been marked for deletion")
}
