//! Why a job waits: every runner that its project can have, and what stands between them. Or who had it.

use super::{View, lineage};
use crate::{
    domain::{
        claim::{self, Claim},
        fleet::{TargetFacts, WantedState},
        gitlab::Entity,
        ids::{RunnerId, RunnerKey, TargetId},
        job::{Job, refusals},
        kubernetes::{Kind, ObjectName},
        marker::Marker,
        names,
        spec::{IdentitySpec, RunnerSpec},
    },
    reconcile::{Failure, observe, target},
};
use futures::{StreamExt, stream, try_join};
use std::collections::BTreeSet;
use url::Url;

/// Runners that are read whole; GitLab.com's instance has more than anybody wants to read.
const RUNNERS_MAX: usize = 200;
const AT_ONCE: usize = 8;

#[derive(Clone, Debug)]
pub struct JobExplained {
    pub job: Job,
    /// The project's path.
    pub path: String,
    pub candidates: Vec<Candidate>,
    /// Lists that our token could not read, and what was left out.
    pub unread: Vec<String>,
    pub had: Option<Had>,
}

/// A runner of the project, of a group above it, or of the instance.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub entity: Entity,
    /// If it is one of ours.
    pub key: Option<RunnerKey>,
    /// Why it does not take the job; empty where it may.
    pub refusals: Vec<String>,
}

/// Who ran the job.
#[derive(Clone, Debug, Default)]
pub struct Had {
    pub runner: Option<RunnerId>,
    /// If it is one of ours.
    pub key: Option<RunnerKey>,
    pub system_id: Option<String>,
    /// Whether that is our manager's: another polls with a token in foreign hands.
    pub our_manager: bool,
    /// Where its pod ran, and as whom, as the file has it now.
    pub namespace: Option<String>,
    pub account: Option<String>,
    /// What its job account names.
    pub identity: Option<String>,
    pub client_id: Option<String>,
}

impl View {
    /// Explains a job by its page's address, `https://gitlab.example.com/group/project/-/jobs/7`.
    pub async fn explain_job(&self, url: &str) -> Result<JobExplained, Failure> {
        let (path, id) = self.job_of(url)?;
        let gitlab = self.clients.gitlab();
        let project = gitlab.project_by_path(&path).await?;
        let project = project.ok_or_else(|| {
            Failure::permanent(format!("GitLab shows our token no project `{path}`"))
        })?;
        let read = target::read(&self.clients, TargetId::Project(project.id));
        let (read, switches, job) =
            try_join!(read, async { Ok(gitlab.switches(project.id).await?) }, async {
                Ok(gitlab.job(project.id, id).await?)
            },)?;
        let read =
            read.ok_or_else(|| Failure::retry("the project came or went while it was read"))?;
        let job = job.ok_or_else(|| {
            Failure::permanent(format!("GitLab shows our token no job {id} of `{path}`"))
        })?;
        let (entities, unread) = self.entities_around(&read.facts).await;
        let now = self.clock.now();
        let candidates = entities.into_iter().map(|entity| Candidate {
            refusals: refusals(&job, switches, &entity, now),
            key: self.key_of(&entity),
            entity,
        });
        let candidates: Vec<Candidate> = candidates.collect();
        let had = match job.runner {
            Some(runner) => Some(self.had(&job, runner, &candidates, &read.facts).await?),
            None => None,
        };
        Ok(JobExplained { job, path, candidates, unread, had })
    }

    fn job_of(&self, url: &str) -> Result<(String, u64), Failure> {
        let not_a_job = || {
            Failure::permanent(format!(
                "`{url}` is no job's page, such as {}/GROUP/PROJECT/-/jobs/7",
                self.fleet.settings().gitlab.url.as_str().trim_end_matches('/')
            ))
        };
        let (ours, given) =
            (&self.fleet.settings().gitlab.url, Url::parse(url).map_err(|_| not_a_job())?);
        if given.host_str() != ours.host_str() {
            return Err(Failure::permanent(format!(
                "the job is on `{}`, and this fleet's GitLab is `{}`",
                given.host_str().unwrap_or_default(),
                ours.host_str().unwrap_or_default()
            )));
        }
        let root = ours.path().trim_end_matches('/');
        let path = given.path().strip_prefix(root).unwrap_or(given.path());
        let (project, id) = path.trim_matches('/').split_once("/-/jobs/").ok_or_else(not_a_job)?;
        let id = id.split('/').next().and_then(|id| id.parse().ok()).ok_or_else(not_a_job)?;
        Ok((project.to_owned(), id))
    }

    /// Every runner that the project can have, whole.
    async fn entities_around(&self, facts: &TargetFacts) -> (Vec<Entity>, Vec<String>) {
        let gitlab = self.clients.gitlab();
        // The list of the nearest group has those of the groups above it too.
        let group = facts.ancestors.last().map(|(id, _)| TargetId::Group(*id));
        let places = [Some(facts.id), group, Some(TargetId::Instance)];
        let (mut ids, mut unread) = (BTreeSet::new(), Vec::new());
        for place in places.into_iter().flatten() {
            match gitlab.runners_of(place).await {
                Ok(listed) => ids.extend(listed.into_iter().map(|one| one.id)),
                Err(error) => {
                    unread.push(format!("the runners of {place}: {}", Failure::from(error).text));
                }
            }
        }
        if ids.len() > RUNNERS_MAX {
            unread.push(format!("{} of {} runners", ids.len() - RUNNERS_MAX, ids.len()));
        }
        let reads = ids
            .into_iter()
            .take(RUNNERS_MAX)
            .map(|id| async move { (id, gitlab.entity(id).await) });
        let read: Vec<_> = stream::iter(reads).buffered(AT_ONCE).collect().await;
        let mut entities = Vec::new();
        for (id, entity) in read {
            match entity {
                Ok(entity) => entities.extend(entity),
                Err(error) => unread.push(format!("runner {id}: {}", Failure::from(error).text)),
            }
        }
        (entities, unread)
    }

    /// By its marker, where that stands on the target's own runner.
    fn key_of(&self, entity: &Entity) -> Option<RunnerKey> {
        let marker = Marker::find(&entity.description)?;
        let fleet = &self.fleet.settings().name;
        match claim::judge(entity, fleet, &marker.key, &marker.installation)? {
            Claim::Ours { .. } => Some(marker.key),
            Claim::OtherInstallation | Claim::LookAlike => None,
        }
    }

    async fn had(
        &self,
        job: &Job,
        runner: RunnerId,
        candidates: &[Candidate],
        facts: &TargetFacts,
    ) -> Result<Had, Failure> {
        let found = candidates.iter().find(|candidate| candidate.entity.id == runner);
        let key = found.and_then(|candidate| candidate.key.clone());
        let had = Had {
            runner: Some(runner),
            key: key.clone(),
            system_id: job.system_id.clone(),
            ..Had::default()
        };
        let Some(key) = key else { return Ok(had) };
        let settings = self.fleet.settings();
        let installation = observe::installation(&self.clients, settings).await?;
        let ours = names::system_id(&installation, &key);
        let had = Had { our_manager: job.system_id.as_ref() == Some(&ours), ..had };
        let Some(spec) = self.spec_of(&key, facts) else { return Ok(had) };
        let namespace = names::job_namespace(&settings.name, &spec);
        let account = names::job_account(&spec);
        let name = ObjectName::new(Kind::ServiceAccount, &namespace, &account);
        let live = self.clients.kubernetes().get(&name).await?;
        let annotation =
            |key: &str| live.as_ref().and_then(|live| live.annotation(key)).map(str::to_owned);
        let managed = match &spec.identity {
            IdentitySpec::Managed { name, .. } => Some(name.clone()),
            IdentitySpec::None | IdentitySpec::Existing { .. } => None,
        };
        Ok(Had {
            namespace: Some(namespace),
            account: Some(account),
            identity: managed.or_else(|| annotation(names::ANNOTATION_IDENTITY)),
            client_id: annotation("azure.workload.identity/client-id"),
            ..had
        })
    }

    /// What the file gives the runner now.
    fn spec_of(&self, key: &RunnerKey, below: &TargetFacts) -> Option<RunnerSpec> {
        let facts = lineage(below).into_iter().find(|facts| facts.id == key.target)?;
        let wanted = self.fleet.wanted_at(&facts, self.clock.now()).into_iter();
        let mut states = wanted.filter(|wanted| wanted.profile == key.profile);
        match states.next()?.state {
            WantedState::Runner(spec) => Some(*spec),
            WantedState::NeedsValue { .. }
            | WantedState::Withdrawn { .. }
            | WantedState::OutsideGuardrails { .. }
            | WantedState::ExceptionEnded { .. }
            | WantedState::AnchorMoved { .. } => None,
        }
    }
}
