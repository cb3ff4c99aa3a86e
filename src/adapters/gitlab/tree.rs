//! Groups and projects (gitlab.md §4).

use super::{Call, Error, Gitlab, Pages, wire};
use crate::domain::{
    gitlab::{Group, Project},
    ids::{GroupId, ProjectId},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

const PAGE: &str = "order_by=id&sort=asc&per_page=100";

impl Gitlab {
    /// `GET /groups/:id` → 200, or 404 as `None`: gone, or hidden from us.
    pub async fn group(&self, id: GroupId) -> Result<Option<Group>, Error> {
        let call =
            Call::get(format!("/groups/{id}"), format!("group {id}")).query("with_projects=false");
        Ok(self.find::<wire::Group>(&call).await?.map(Into::into))
    }

    /// The same by its full path, for what a person typed; ids are what we keep.
    pub async fn group_by_path(&self, path: &str) -> Result<Option<Group>, Error> {
        let encoded = utf8_percent_encode(path, NON_ALPHANUMERIC);
        let call = Call::get(format!("/groups/{encoded}"), format!("group `{path}`"))
            .query("with_projects=false");
        Ok(self.find::<wire::Group>(&call).await?.map(Into::into))
    }

    /// `GET /projects/:id` → 200, or 404 as `None`.
    pub async fn project(&self, id: ProjectId) -> Result<Option<Project>, Error> {
        let call = Call::get(format!("/projects/{id}"), format!("project {id}"));
        Ok(self.find::<wire::Project>(&call).await?.map(Into::into))
    }

    /// The same by its full path, for what a person typed. A renamed project's old path is a redirect, which is refused.
    pub async fn project_by_path(&self, path: &str) -> Result<Option<Project>, Error> {
        let encoded = utf8_percent_encode(path, NON_ALPHANUMERIC);
        let call = Call::get(format!("/projects/{encoded}"), format!("project `{path}`"));
        Ok(self.find::<wire::Project>(&call).await?.map(Into::into))
    }

    /// All groups that we may see, 100 a page. A deletion meanwhile can make a page skip one: absence here is no proof.
    pub fn groups(&self) -> Pages<Group> {
        let call = Call::get("/groups", "all groups").query(PAGE);
        Pages::new::<wire::Group>(self, call)
    }

    /// All projects that we may see, by keyset: a deletion meanwhile makes no page skip one.
    pub fn projects(&self) -> Pages<Project> {
        let call = Call::get("/projects", "all projects");
        let query = "pagination=keyset&order_by=id&sort=asc&per_page=100";
        Pages::new::<wire::Project>(self, call.query(query))
    }

    /// The groups below a group, at any depth; the group itself is not among them.
    pub fn descendant_groups(&self, id: GroupId) -> Pages<Group> {
        let call = Call::get(
            format!("/groups/{id}/descendant_groups"),
            format!("the groups below group {id}"),
        );
        Pages::new::<wire::Group>(self, call.query(PAGE))
    }

    /// The projects below a group, at any depth, without those merely shared with it.
    pub fn group_projects(&self, id: GroupId) -> Pages<Project> {
        let call =
            Call::get(format!("/groups/{id}/projects"), format!("the projects below group {id}"));
        let query = format!("include_subgroups=true&with_shared=false&{PAGE}");
        Pages::new::<wire::Project>(self, call.query(&query))
    }
}
