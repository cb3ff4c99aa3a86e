//! Why a job waits: every runner that its project can have, and what stands between them. Or who had it.

use super::View;
use crate::{
    domain::{
        claim::{self, Claim},
        fleet::TargetFacts,
        gitlab::Entity,
        ids::{FleetName, RunnerId, RunnerKey, TargetId},
        job::{Job, refusals},
        kubernetes::{Kind, Object},
        marker::Marker,
        names,
        spec::Isolation,
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
#[derive(Clone, Debug)]
pub struct Had {
    pub runner: RunnerId,
    /// If it is one of ours.
    pub key: Option<RunnerKey>,
    /// Why it is not known whose it is.
    pub hidden: Option<String>,
    pub system_id: Option<String>,
    /// Whether that is our manager's: another polls with a token in foreign hands.
    pub our_manager: bool,
    /// Where its pod ran, and as whom, as long as the cluster shows it.
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
            Some(runner) => Some(self.had(&job, runner, &candidates).await?),
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
    ) -> Result<Had, Failure> {
        let had = Had { system_id: job.system_id.clone(), ..Had::of(runner) };
        // The project may have moved since, and a list may have been too long or hidden.
        let found = candidates.iter().find(|candidate| candidate.entity.id == runner);
        let read = match found {
            Some(found) => Ok(Some(found.entity.clone())),
            None => self.clients.gitlab().entity(runner).await,
        };
        let entity = match read {
            Ok(Some(entity)) => entity,
            Ok(None) => return Ok(had.hidden("GitLab shows it no more".to_owned())),
            Err(error) => return Ok(had.hidden(Failure::from(error).text)),
        };
        let Some(key) = self.key_of(&entity) else { return Ok(had) };
        let installation = observe::installation(&self.clients, self.fleet.settings()).await?;
        let our_manager = job.system_id.as_ref() == Some(&names::system_id(&installation, &key));
        let had = Had { our_manager, ..had };
        let account = self.job_account(&key).await?;
        let had = Had { key: Some(key), ..had };
        Ok(match account {
            Some(account) => had.on(&account, &self.fleet.settings().name),
            None => had,
        })
    }

    /// The account of the runner's jobs in the namespace where its manager is bound, whatever the file says of it now.
    async fn job_account(&self, key: &RunnerKey) -> Result<Option<Object>, Failure> {
        let (kubernetes, of_fleet) = (
            self.clients.kubernetes(),
            format!("{}={}", names::LABEL_FLEET, self.fleet.settings().name),
        );
        let selector = format!("{of_fleet},{}={key}", names::LABEL_KEY);
        let bindings = kubernetes.list(Kind::RoleBinding, None, Some(&selector)).await?;
        let manager = names::manager(key);
        let binding = bindings.into_iter().find(|one| one.name.name == manager);
        let Some(namespace) = binding.and_then(|one| one.name.namespace) else { return Ok(None) };
        let accounts =
            kubernetes.list(Kind::ServiceAccount, Some(&namespace), Some(&of_fleet)).await?;
        let keys = [Isolation::Target, Isolation::Profile].map(|one| names::domain_key(key, one));
        let is_jobs = |account: &Object| {
            let of = account.label(names::LABEL_KEY).unwrap_or_default();
            account.name.name != "default" && keys.iter().any(|key| key == of)
        };
        Ok(accounts.into_iter().find(is_jobs))
    }
}

impl Had {
    fn of(runner: RunnerId) -> Self {
        Self {
            runner,
            key: None,
            hidden: None,
            system_id: None,
            our_manager: false,
            namespace: None,
            account: None,
            identity: None,
            client_id: None,
        }
    }

    fn hidden(self, reason: String) -> Self {
        Self { hidden: Some(reason), ..self }
    }

    /// What the account says: the existing identity that it asks for, or else the managed one of its domain.
    fn on(self, account: &Object, fleet: &FleetName) -> Self {
        let says = |key: &str| account.annotation(key).map(str::to_owned);
        let client_id = says(names::ANNOTATION_CLIENT);
        let domain = account.label(names::LABEL_KEY).unwrap_or_default();
        let managed = client_id.as_ref().map(|_| names::identity(fleet, domain));
        Self {
            namespace: account.name.namespace.clone(),
            account: Some(account.name.name.clone()),
            identity: says(names::ANNOTATION_IDENTITY).or(managed),
            client_id,
            ..self
        }
    }
}
