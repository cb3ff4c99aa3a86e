//! Making, renaming, moving and archiving groups and projects, with the hooks each of it sends.

use super::{
    errors::Refusal,
    state::{Kind, State},
    tree::{Group, Project, is_path},
};
use axum::http::StatusCode;

impl State {
    pub(super) fn add_group(
        &mut self,
        parent: Option<u64>,
        path: &str,
        name: &str,
        visibility: &str,
    ) -> Result<u64, Refusal> {
        if parent.is_some_and(|parent| !self.groups.contains_key(&parent)) {
            return Err(Refusal::not_found("Group"));
        }
        if let Some(problem) = self.path_problem(parent, path, None) {
            let text = format!("Failed to save group {{:path=>[\"{problem}\"]}}");
            return Err(Refusal::message(StatusCode::BAD_REQUEST, text));
        }
        let id = self.next_id(Kind::Namespace);
        let group = Group {
            id,
            parent,
            path: path.to_owned(),
            name: name.to_owned(),
            description: String::new(),
            visibility: visibility.to_owned(),
            shared_runners_setting: "enabled".to_owned(),
            archived: false,
            doom: None,
            created_at: self.now,
            updated_at: self.now,
        };
        self.groups.insert(id, group);
        self.emit_group("group_create", id);
        Ok(id)
    }

    pub(super) fn add_project(
        &mut self,
        namespace: u64,
        path: &str,
        name: &str,
        visibility: &str,
    ) -> Result<u64, Refusal> {
        let is_user = self.users.values().any(|user| user.namespace == namespace);
        if !is_user && !self.groups.contains_key(&namespace) {
            return Err(Refusal::invalid(&[("namespace", "is not valid".to_owned())]));
        }
        if let Some(problem) = self.path_problem(Some(namespace), path, None) {
            return Err(Refusal::invalid(&[("path", problem.to_owned())]));
        }
        let id = self.next_id(Kind::Project);
        let project = Project {
            id,
            namespace,
            path: path.to_owned(),
            name: name.to_owned(),
            description: String::new(),
            visibility: visibility.to_owned(),
            shared_runners_enabled: true,
            group_runners_enabled: true,
            has_images: false,
            archived: false,
            doom: None,
            created_at: self.now,
            updated_at: self.now,
        };
        self.projects.insert(id, project);
        self.emit_project("project_create", id, None);
        Ok(id)
    }

    /// Only another path of the group itself is a rename; the same path sends nothing.
    pub(super) fn set_group_path(&mut self, id: u64, path: &str) -> Result<(), Refusal> {
        let group = self.groups.get(&id).ok_or_else(|| Refusal::not_found("Group"))?;
        if group.path == path {
            return Ok(());
        }
        if let Some(problem) = self.path_problem(group.parent, path, Some(id)) {
            return Err(Refusal::invalid(&[("path", problem.to_owned())]));
        }
        let (old_path, old_full_path) = (group.path.clone(), self.namespace_path(id));
        self.remember_project_paths(id);
        let now = self.now;
        if let Some(group) = self.groups.get_mut(&id) {
            group.path = path.to_owned();
            group.updated_at = now;
        }
        self.emit_group_rename(id, &old_path, &old_full_path);
        Ok(())
    }

    /// Whether the path was another.
    pub(super) fn set_project_path(&mut self, id: u64, path: &str) -> Result<bool, Refusal> {
        let project = self.projects.get(&id).ok_or_else(|| Refusal::not_found("Project"))?;
        if project.path == path {
            return Ok(false);
        }
        if let Some(problem) = self.path_problem(Some(project.namespace), path, None) {
            return Err(Refusal::invalid(&[("path", problem.to_owned())]));
        }
        let old_path = self.project_path(project);
        self.old_project_paths.insert(old_path.to_lowercase(), id);
        let now = self.now;
        if let Some(project) = self.projects.get_mut(&id) {
            project.path = path.to_owned();
            project.updated_at = now;
        }
        self.emit_project("project_rename", id, Some(&old_path));
        Ok(true)
    }

    /// Whether a group may go below `parent`.
    pub(super) fn check_move(&self, id: u64, parent: Option<u64>) -> Result<(), Refusal> {
        let group = self.groups.get(&id).ok_or_else(|| Refusal::not_found("Group"))?;
        let failed = |reason: &str| {
            let text = format!("Transfer failed: {reason}");
            Err(Refusal::message(StatusCode::BAD_REQUEST, text))
        };
        if group.parent == parent {
            return failed("Group is already associated to the parent group.");
        }
        if parent.is_some_and(|parent| !self.groups.contains_key(&parent)) {
            return Err(Refusal::not_found("Group"));
        }
        if parent.is_some_and(|parent| parent == id || self.is_below(parent, id)) {
            return failed("Cannot transfer group to one of its subgroup.");
        }
        if self.is_taken(parent, &group.path, Some(id)) {
            let text = "The parent group already has a subgroup or a project with the same path.";
            return failed(text);
        }
        Ok(())
    }

    /// Changes the parent; nobody is told.
    pub(super) fn move_group(&mut self, id: u64, parent: Option<u64>) {
        self.remember_project_paths(id);
        let now = self.now;
        if let Some(group) = self.groups.get_mut(&id) {
            group.parent = parent;
            group.updated_at = now;
        }
        self.wake_runners();
    }

    pub(super) fn move_project(&mut self, id: u64, namespace: u64) -> Result<(), Refusal> {
        let project = self.projects.get(&id).ok_or_else(|| Refusal::not_found("Project"))?;
        if project.namespace == namespace {
            let text = "Project is already in this namespace.".to_owned();
            return Err(Refusal::invalid(&[("new_namespace", text)]));
        }
        if self.is_taken(Some(namespace), &project.path, None) {
            let text = "Project with same name or path in target namespace already exists";
            return Err(Refusal::invalid(&[("new_namespace", text.to_owned())]));
        }
        let old_path = self.project_path(project);
        self.old_project_paths.insert(old_path.to_lowercase(), id);
        let now = self.now;
        if let Some(project) = self.projects.get_mut(&id) {
            project.namespace = namespace;
            project.updated_at = now;
        }
        self.wake_runners();
        self.emit_project("project_transfer", id, Some(&old_path));
        Ok(())
    }

    pub(super) fn set_group_archived(&mut self, id: u64, archived: bool) -> Result<(), Refusal> {
        if !self.settings.version.is_from(18, 0) {
            return Err(Refusal::error(StatusCode::NOT_FOUND, "404 Not Found"));
        }
        let group = self.groups.get(&id).ok_or_else(|| Refusal::not_found("Group"))?;
        let refused = match (archived, group.archived) {
            (true, true) => Some("Group is already archived!"),
            (true, false) if self.is_archived(id) => {
                Some("Cannot archive group since one of the ancestors is already archived!")
            }
            (true, false) if self.is_doomed(id) => {
                Some("Cannot archive group since it is scheduled for deletion.")
            }
            (true, false) | (false, true) => None,
            (false, false) => Some("Group is already unarchived!"),
        };
        if let Some(reason) = refused {
            return Err(Refusal::unprocessable(reason));
        }
        let now = self.now;
        if let Some(group) = self.groups.get_mut(&id) {
            group.archived = archived;
            group.updated_at = now;
        }
        self.wake_runners();
        self.emit_group("group_update", id);
        Ok(())
    }

    pub(super) fn set_project_archived(&mut self, id: u64, archived: bool) {
        let now = self.now;
        if let Some(project) = self.projects.get_mut(&id) {
            project.archived = archived;
            project.updated_at = now;
        }
        self.wake_runners();
        self.emit_project("project_update", id, None);
    }

    fn path_problem(
        &self,
        namespace: Option<u64>,
        path: &str,
        but: Option<u64>,
    ) -> Option<&'static str> {
        if !is_path(path) {
            let text = "can contain only letters, digits, '_', '-' and '.'. Cannot start with '-' or '.', end in '.', '.git' or '.atom'";
            return Some(text);
        }
        self.is_taken(namespace, path, but).then_some("has already been taken")
    }

    /// Keeps the present paths of all projects of a tree: they lead on to where the projects will be.
    fn remember_project_paths(&mut self, group: u64) {
        let inside = |namespace: u64| namespace == group || self.is_below(namespace, group);
        let paths: Vec<(String, u64)> = self
            .projects
            .values()
            .filter(|project| inside(project.namespace))
            .map(|project| (self.project_path(project).to_lowercase(), project.id))
            .collect();
        self.old_project_paths.extend(paths);
    }
}
