//! Jobs: what a runner has in hand, and why one waits.

use super::{Call, Error, Gitlab};
use crate::domain::{
    gitlab::Entity,
    ids::{ProjectId, RunnerId},
    job::{Job, Switches},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, de::IgnoredAny};

/// While a job has one of these states, its runner has it.
const IN_HAND: [&str; 2] = ["running", "canceling"];

#[derive(Deserialize)]
struct WireJob {
    id: u64,
    name: String,
    status: String,
    #[serde(rename = "ref")]
    reference: Option<String>,
    /// Whether `ref` is a tag.
    #[serde(default)]
    tag: bool,
    #[serde(default)]
    tag_list: Vec<String>,
    runner: Option<WireRunner>,
    runner_manager: Option<WireManager>,
    failure_reason: Option<String>,
}

#[derive(Deserialize)]
struct WireRunner {
    id: RunnerId,
}

#[derive(Deserialize)]
struct WireManager {
    system_id: Option<String>,
}

#[derive(Deserialize)]
struct WireReference {
    protected: bool,
}

#[derive(Deserialize)]
struct WireSwitches {
    shared_runners_enabled: Option<bool>,
    group_runners_enabled: Option<bool>,
}

impl Gitlab {
    /// Whether no job runs on it: what the entity itself says, else, before GitLab 18 told that, what the lists of its jobs
    /// do; `GET /runners/:id/jobs` → 200, one call a state.
    ///
    /// The lists show only jobs of projects that our token may read: without an administrator's or an owner's, an empty one
    /// is no proof.
    pub async fn is_idle(&self, entity: &Entity) -> Result<bool, Error> {
        if let Some(busy) = entity.busy {
            return Ok(!busy);
        }
        let path = format!("/runners/{}/jobs", entity.id);
        for state in IN_HAND {
            let call = Call::get(&path, format!("the {state} jobs of runner {}", entity.id));
            let query = format!("status={state}&per_page=1");
            let jobs: Vec<IgnoredAny> = self.ask(&call.query(&query)).await?;
            if !jobs.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `GET /projects/:id/jobs/:job_id` → 200, or 404 as `None`; then whether its ref is protected, which a job does not
    /// say itself. A ref that is gone, or that our token may not see, leaves that unknown.
    ///
    /// Source: <https://docs.gitlab.com/api/jobs/#get-a-single-job>, <https://docs.gitlab.com/api/branches/>.
    pub async fn job(&self, project: ProjectId, id: u64) -> Result<Option<Job>, Error> {
        let what = format!("job {id} of project {project}");
        let call = Call::get(format!("/projects/{project}/jobs/{id}"), what);
        let Some(job) = self.find::<WireJob>(&call).await? else { return Ok(None) };
        let reference = job.reference.unwrap_or_default();
        let protected = self.is_protected(project, &reference, job.tag).await?;
        Ok(Some(Job {
            id: job.id,
            project,
            name: job.name,
            status: job.status,
            tags: job.tag_list,
            reference,
            protected,
            runner: job.runner.map(|runner| runner.id),
            system_id: job.runner_manager.and_then(|manager| manager.system_id),
            failure: job.failure_reason,
        }))
    }

    async fn is_protected(
        &self,
        project: ProjectId,
        reference: &str,
        is_tag: bool,
    ) -> Result<Option<bool>, Error> {
        let encoded = utf8_percent_encode(reference, NON_ALPHANUMERIC);
        let kind = if is_tag { "tags" } else { "branches" };
        let path = format!("/projects/{project}/repository/{kind}/{encoded}");
        let call = Call::get(path, format!("the ref `{reference}` of project {project}"));
        match self.find::<WireReference>(&call).await {
            Ok(found) => Ok(found.map(|reference| reference.protected)),
            Err(Error::Forbidden { .. } | Error::InsufficientScope { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Which runners of others a project takes; part of `GET /projects/:id`.
    pub async fn switches(&self, project: ProjectId) -> Result<Switches, Error> {
        let call = Call::get(format!("/projects/{project}"), format!("project {project}"));
        let read: WireSwitches = self.ask(&call).await?;
        Ok(Switches {
            instance_runners: read.shared_runners_enabled.unwrap_or(true),
            group_runners: read.group_runners_enabled.unwrap_or(true),
        })
    }
}
