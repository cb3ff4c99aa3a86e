//! One runner: its entity in GitLab, its manager in the cluster, and the token that ties them.

mod entity;
mod manager;
mod places;
mod polls;
mod revocation;
mod token;

pub use entity::NOTE_NOT_OPEN;
pub(crate) use manager::is_available;
pub(crate) use polls::Polls;
pub(crate) use token::taken;

use super::{
    Draft, Plan,
    domain::{DomainDraft, SOON, draft_domain, identity_finding},
    left::draft_left,
};
use crate::domain::{
    claim::{self, Claim},
    gitlab::Entity,
    ids::{InstallationId, RunnerId, RunnerKey, Unit},
    kubernetes::{Kind, Object, ObjectName},
    names,
    observed::{EntryObserved, Observed, SecretObserved, TokenCheck},
    pause::{self, PausedBy},
    render::Context,
    settling::Settling,
    spec::{FleetSettings, Isolation, RunnerSpec},
    status::{ConditionKind, Finding},
    step::Step,
};
use jiff::{SignedDuration, Timestamp};

/// What `guardrails` allow of creations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceilings {
    /// Runners of the whole fleet.
    pub runners: u32,
    pub creations_per_hour: u32,
}

/// A contact this old no longer shows that a manager polls (GitLab's own *online*, gitlab.md §3.8).
pub const CONTACT_COUNTS: SignedDuration = SignedDuration::from_hours(2);

/// Waiting for a ceiling costs nothing and ends by itself.
const AT_CEILING: SignedDuration = SignedDuration::from_mins(10);

/// Plans one round of a runner that the file wants and that nothing holds.
pub fn plan(
    spec: &RunnerSpec,
    fleet: &FleetSettings,
    observed: &Observed,
    ceilings: Ceilings,
    now: Timestamp,
) -> Plan {
    let mut draft = Draft::default();
    let context = Context {
        fleet,
        installation: &observed.domain.installation,
        api_server: &observed.domain.api_server,
        gitlab_ca: observed.domain.gitlab_ca.as_deref(),
    };
    let ours = Ours::of(observed, spec, fleet);
    if let Some(why) = revocation::due(spec, observed, &ours, now) {
        return revocation::plan(draft, spec, &context, observed, &ours, why, now);
    }
    let domain = match spec.isolation {
        Isolation::Target => draft_domain(&mut draft, spec, &context, &observed.domain),
        Isolation::Profile => await_domain(&mut draft, spec, &context, observed),
    };
    let settled = settle(&mut draft, spec, fleet, &domain, observed, now);
    draft.find(identity_finding(&domain, settled));
    // A job that its manager may not start would fail.
    let bound = observed.binding.as_ref().is_some_and(|live| is_ours(live, fleet));
    let runs = settled && bound;
    if let Some(reason) = ours.refusal() {
        draft.block(reason);
        draft.find(Finding::fails(
            ConditionKind::Registered,
            "Blocked",
            "the runner's entity is not ours to touch",
        ));
        return draft.finish(SOON);
    }
    let mut kept = token::draft_token(&mut draft, spec, &context, observed, &ours, ceilings, now);
    // Until a job can run and sign in where the file says now, a manager that serves goes on where we last told it to.
    let serves = ours.keep.is_some_and(|keep| pause::paused_by(keep) != Some(PausedBy::Us));
    kept.lags = serves && !(runs && domain.stands) && token::is_elsewhere(spec, &context, observed);
    if kept.holds && !kept.lags {
        kept.step = token::draft_rewrite(&mut draft, spec, &context, observed, &ours);
    }
    entity::draft_twins(&mut draft, spec, observed, &ours, now);
    entity::draft_entity(&mut draft, spec, fleet, &ours, runs && kept.holds);
    let turn = manager::draft_manager(&mut draft, spec, &context, observed, &domain, &kept, now);
    manager::draft_return(&mut draft, fleet, observed);
    manager::judge_manager(&mut draft, spec, observed, &ours, &kept, turn, now);
    polls::draft_version(&mut draft, spec, &context, observed, &ours);
    if kept.lags {
        places::draft_lag(&mut draft);
    }
    places::draft_left_places(&mut draft, spec, observed, now);
    draft_left(&mut draft, &context, &spec.key.to_string(), observed.left.as_ref());
    if !kept.lags {
        places::tell_left_namespace(&mut draft, observed);
    }
    draft.finish(SOON)
}

/// The name of the manager's Secret.
pub fn secret_name(fleet: &FleetSettings, key: &RunnerKey) -> ObjectName {
    ObjectName::new(Kind::Secret, &fleet.cluster.managers_namespace, &names::config_secret(key))
}

pub fn deployment_name(fleet: &FleetSettings, spec: &RunnerSpec) -> ObjectName {
    ObjectName::new(Kind::Deployment, &fleet.cluster.managers_namespace, &names::manager(&spec.key))
}

/// Whether an object of our name bears our label. Any other may be a stranger's.
fn is_ours(live: &Object, fleet: &FleetSettings) -> bool {
    live.label(names::LABEL_FLEET) == Some(fleet.name.as_str())
}

/// The entities of this runner, sorted by what they are to us.
struct Ours<'a> {
    /// The one that stays: the Secret's token verifies to it, else the lowest id.
    keep: Option<&'a Entity>,
    /// Others of ours that nobody but our verifier has used.
    twins: Vec<&'a Entity>,
    /// Others of ours that somebody polls with: only a permit removes them.
    used_twins: Vec<&'a Entity>,
    other_installation: bool,
    look_alikes: usize,
    installation: &'a InstallationId,
}

impl<'a> Ours<'a> {
    fn of(observed: &'a Observed, spec: &RunnerSpec, fleet: &FleetSettings) -> Self {
        let installation = &observed.domain.installation;
        let proven = observed.proven();
        let mut other_installation = false;
        let mut look_alikes = 0;
        let mut ours: Vec<&Entity> = Vec::new();
        for entity in &observed.entities {
            match claim::judge(entity, &fleet.name, &spec.key, installation) {
                Some(Claim::Ours { .. }) => ours.push(entity),
                Some(Claim::OtherInstallation) => other_installation = true,
                Some(Claim::LookAlike) => look_alikes += 1,
                // Its marker was edited away, but our Secret's token is this very entity's.
                None if proven == Some(entity.id) && claim::belongs_to(entity, spec.key.target) => {
                    ours.push(entity)
                }
                None => {}
            }
        }
        ours.sort_by_key(|entity| entity.id);
        let keep =
            ours.iter().copied().find(|entity| proven == Some(entity.id)).or(ours.first().copied());
        let verifier = names::verifier_system_id(installation, &spec.key);
        let others = ours.into_iter().filter(|entity| Some(entity.id) != keep.map(|keep| keep.id));
        let (twins, used_twins) =
            others.partition(|entity| observed.is_unused(entity.id, &verifier));
        Self { keep, twins, used_twins, other_installation, look_alikes, installation }
    }

    fn refusal(&self) -> Option<String> {
        self.other_installation.then(|| {
            "a runner of this key bears our fleet's name and another installation's id: if the cluster was rebuilt, \
             run `forerunner adopt --fleet`; if another cluster runs the same fleet, rename one"
                .to_owned()
        })
    }
}

impl Observed {
    /// The entity that the Secret's token was proven to be of.
    fn proven(&self) -> Option<RunnerId> {
        self.entries().iter().find_map(|entry| match entry.check {
            TokenCheck::BelongsTo(runner) => Some(runner),
            TokenCheck::NotAsked => Some(entry.runner),
            TokenCheck::Refused => None,
        })
    }

    fn entries(&self) -> &[EntryObserved] {
        match &self.secret {
            SecretObserved::Present { entries, .. } => entries,
            SecretObserved::Absent | SecretObserved::Foreign => &[],
        }
    }

    /// Whether GitLab lists no manager of the entity but our verifier.
    fn is_unused(&self, runner: RunnerId, verifier: &str) -> bool {
        self.managers
            .get(&runner)
            .is_some_and(|seen| seen.iter().all(|manager| manager.system_id == verifier))
    }
}

/// A shared domain is another unit's: this round only asks whether it stands. What is only to be taken away there is no runner's
/// concern.
fn await_domain(
    draft: &mut Draft,
    spec: &RunnerSpec,
    context: &Context<'_>,
    observed: &Observed,
) -> DomainDraft {
    let mut own = Draft::default();
    let domain = draft_domain(&mut own, spec, context, &observed.domain);
    let usable = domain.usable && domain.stands;
    if !own.is_settled() {
        draft.wake(Unit::Domain(spec.key.profile.clone()));
        draft.wait_with(&own, SOON, format!("the domain of profile `{}`", spec.key.profile));
    }
    DomainDraft { namespace: None, usable, ..domain }
}

/// Whether a job can sign in by now; begins the wait where a round sees everything for the first time.
fn settle(
    draft: &mut Draft,
    spec: &RunnerSpec,
    fleet: &FleetSettings,
    domain: &DomainDraft,
    observed: &Observed,
    now: Timestamp,
) -> bool {
    if !domain.has_identity {
        return domain.usable;
    }
    let ours = observed.deployment.as_ref().filter(|live| is_ours(live, fleet));
    let (Some(of), Some(deployment)) = (domain.seen, ours) else {
        return false;
    };
    let mark = deployment.annotation(names::ANNOTATION_SETTLING_SINCE);
    let mark = mark.and_then(|mark| mark.parse::<Settling>().ok()).filter(|mark| mark.of == of);
    let Some(Settling { since, .. }) = mark else {
        let mark = Settling { since: now, of };
        draft.add(Step::MarkSettling { deployment: deployment_name(fleet, spec), mark }, []);
        draft
            .wait(spec.identity_settle.max(SignedDuration::from_secs(1)), "the identity to settle");
        return false;
    };
    let left = spec.identity_settle - now.duration_since(since);
    if left.is_positive() {
        draft.wait(left, "the identity to settle");
    }
    !left.is_positive()
}
