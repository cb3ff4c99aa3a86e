//! One runner: its entity in GitLab, its manager in the cluster, and the token that ties them.

use super::{
    Draft, Plan,
    domain::{DomainDraft, SOON, draft_domain, identity_finding},
    rollout, trouble,
};
use crate::domain::{
    claim::{self, Claim},
    gitlab::{Entity, EntityChange, EntitySettings},
    ids::{FleetName, InstallationId, RunnerId, RunnerKey, Unit},
    kubernetes::{Kind, Object, ObjectName},
    marker::Marker,
    names,
    observed::{EntryObserved, Observed, SecretObserved, TokenCheck},
    render::{self, Context},
    spec::{FleetSettings, Isolation, RunnerSpec},
    status::{ConditionKind, Finding},
    step::{Step, StepId},
    version::Version,
};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;

/// What `guardrails` allow of creations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ceilings {
    /// Runners of the whole fleet.
    pub runners: u32,
    pub creations_per_hour: u32,
}

/// What every maintenance note of ours starts with: who paused, and why.
const NOTE: &str = "forerunner:";
/// The note of an entity that we made and have not opened yet.
pub const NOTE_NOT_OPEN: &str = "forerunner: paused until a job can sign in";
/// A contact this old no longer shows that a manager polls (GitLab's own *online*, gitlab.md §3.8).
pub const CONTACT_COUNTS: SignedDuration = SignedDuration::from_hours(2);
/// From then on GitLab calls a runner stale (gitlab.md §3.8).
const STALE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long a stranger's poll is an alarm.
const STRANGER_COUNTS: SignedDuration = SignedDuration::from_hours(24);
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
    let domain = match spec.isolation {
        Isolation::Target => draft_domain(&mut draft, spec, &context, &observed.domain),
        Isolation::Profile => await_domain(&mut draft, spec, &context, observed),
    };
    let settled = settle(&mut draft, spec, fleet, &domain, observed, now);
    draft.find(identity_finding(&domain, settled));
    let ours = Ours::of(observed, spec, fleet);
    if let Some(reason) = ours.refusal() {
        draft.block(reason);
        draft.find(Finding::fails(
            ConditionKind::Registered,
            "Blocked",
            "the runner's entity is not ours to touch",
        ));
        return draft.finish(SOON);
    }
    let kept = draft_token(&mut draft, spec, &context, observed, &ours, ceilings, now);
    draft_twins(&mut draft, spec, observed, &ours, now);
    draft_entity(&mut draft, spec, fleet, &ours, settled && kept.holds);
    let turn = draft_manager(&mut draft, spec, &context, observed, &domain, &kept, now);
    draft_return(&mut draft, observed);
    judge_manager(&mut draft, spec, observed, &ours, &kept, turn, now);
    draft_version(&mut draft, spec, &context, observed, &ours);
    draft.finish(SOON)
}

/// The name of the manager's Secret.
pub fn secret_name(fleet: &FleetSettings, key: &RunnerKey) -> ObjectName {
    ObjectName::new(Kind::Secret, &fleet.cluster.managers_namespace, &names::config_secret(key))
}

pub fn deployment_name(fleet: &FleetSettings, spec: &RunnerSpec) -> ObjectName {
    ObjectName::new(Kind::Deployment, &fleet.cluster.managers_namespace, &names::manager(&spec.key))
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

/// A shared domain is another unit's: this round only asks whether it stands.
fn await_domain(
    draft: &mut Draft,
    spec: &RunnerSpec,
    context: &Context<'_>,
    observed: &Observed,
) -> DomainDraft {
    let mut own = Draft::default();
    let domain = draft_domain(&mut own, spec, context, &observed.domain);
    if own.has_steps() || own.is_blocked() {
        draft.wake(Unit::Domain(spec.key.profile.clone()));
        draft.wait(SOON, format!("the domain of profile `{}`", spec.key.profile));
    }
    let usable = domain.usable && !own.has_steps();
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
    let ours = |one: &&Object| one.label(names::LABEL_FLEET) == Some(fleet.name.as_str());
    let (true, Some(deployment)) = (domain.seen, observed.deployment.as_ref().filter(ours)) else {
        return false;
    };
    let since = deployment
        .annotation(names::ANNOTATION_SETTLING_SINCE)
        .and_then(|at| at.parse::<Timestamp>().ok());
    let Some(since) = since else {
        draft.add(Step::MarkSettling { deployment: deployment_name(fleet, spec), at: now }, []);
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

/// What became of the only copy of the token.
struct Kept {
    /// The step that writes it, if one does.
    step: Option<StepId>,
    /// Whether the Secret already holds a token that is not known to be dead.
    holds: bool,
}

fn draft_token(
    draft: &mut Draft,
    spec: &RunnerSpec,
    context: &Context<'_>,
    observed: &Observed,
    ours: &Ours<'_>,
    ceilings: Ceilings,
    now: Timestamp,
) -> Kept {
    let nothing = Kept { step: None, holds: false };
    let secret = secret_name(context.fleet, &spec.key);
    if matches!(observed.secret, SecretObserved::Foreign) {
        draft.block(format!("{secret} exists and is not ours: remove or rename it"));
        draft.find(Finding::fails(
            ConditionKind::Registered,
            "Blocked",
            "its Secret is somebody else's",
        ));
        return nothing;
    }
    let live = ours.keep.and_then(|keep| {
        let entries = observed.entries().iter();
        entries.into_iter().find(|entry| match entry.check {
            TokenCheck::NotAsked => entry.runner == keep.id,
            TokenCheck::BelongsTo(runner) => entry.runner == keep.id && runner == keep.id,
            TokenCheck::Refused => false,
        })
    });
    if let (Some(keep), Some(entry)) = (ours.keep, live) {
        draft.find(Finding::holds(
            ConditionKind::Registered,
            "Registered",
            format!("runner {}", keep.id),
        ));
        let step = draft_rewrite(draft, spec, context, observed, entry);
        return Kept { step, holds: true };
    }
    draft.find(Finding::fails(
        ConditionKind::Registered,
        "Progressing",
        "no entity with a token that we keep",
    ));
    let rehearsed = Step::RehearseSecret { object: rehearsal(spec, context) };
    let from = match ours.keep {
        Some(keep) => {
            let verifier = names::verifier_system_id(ours.installation, &spec.key);
            let unit = Unit::Runner(spec.key.clone());
            let may_part = observed.ledger.book.may_part(&unit, keep.id, now);
            if !observed.is_unused(keep.id, &verifier) && !may_part {
                let reason = format!(
                    "the token of runner {} is lost and somebody has polled with it: `forerunner send confirm {}` \
                     permits a new one",
                    keep.id, spec.key
                );
                draft.block_until_parting(keep.id, reason);
                return nothing;
            }
            let rehearsal = draft.add(rehearsed, []);
            draft.add(Step::ReplaceToken { runner: keep.id }, [rehearsal])
        }
        None => {
            let unit = Unit::Runner(spec.key.clone());
            let Some(booking) = draft_booking(draft, &unit, observed, ceilings, now) else {
                return nothing;
            };
            let rehearsal = draft.add(rehearsed, []);
            let step = Step::CreateRunner {
                target: spec.key.target,
                settings: settings(spec, &context.fleet.name, ours.installation, true),
            };
            draft.add(step, booking.into_iter().chain([rehearsal]))
        }
    };
    let version = match &observed.secret {
        SecretObserved::Present { object, .. } => object.resource_version().map(str::to_owned),
        SecretObserved::Absent | SecretObserved::Foreign => None,
    };
    let verifier = names::verifier_system_id(ours.installation, &spec.key);
    let step = Step::KeepToken { from, secret, beside: vec![], version, verifier };
    Kept { step: Some(draft.add(step, [from])), holds: false }
}

/// The step that books a creation (none if a dead round did); `None` where a ceiling says wait.
fn draft_booking(
    draft: &mut Draft,
    unit: &Unit,
    observed: &Observed,
    ceilings: Ceilings,
    now: Timestamp,
) -> Option<Option<StepId>> {
    let book = &observed.ledger.book;
    if book.has(unit, 1, now) {
        return Some(None);
    }
    let per_hour = ceilings.creations_per_hour;
    let waits = if !book.has_place(unit, ceilings.runners, &observed.runners, now) {
        Some(format!("guardrails.runners ({}) to leave room", ceilings.runners))
    } else if !book.has_room(per_hour, now) {
        Some(format!("guardrails.creations.perHour ({per_hour}) to leave room"))
    } else {
        None
    };
    if let Some(waits) = waits {
        draft.wait_patiently(AT_CEILING, waits);
        return None;
    }
    let step = Step::BookCreation {
        unit: unit.clone(),
        generation: 1,
        at: now,
        per_hour,
        runners_max: ceilings.runners,
        made: observed.runners.clone(),
        ledger: observed.ledger.clone(),
    };
    Some(Some(draft.add(step, [])))
}

/// The Secret as it would be written, with a token that is none.
fn rehearsal(spec: &RunnerSpec, context: &Context<'_>) -> Object {
    let token = SecretString::from("rehearsal");
    render::config_secret(spec, context, &[render::Entry { runner: RunnerId(0), token: &token }])
}

fn draft_rewrite(
    draft: &mut Draft,
    spec: &RunnerSpec,
    context: &Context<'_>,
    observed: &Observed,
    entry: &EntryObserved,
) -> Option<StepId> {
    let SecretObserved::Present { object, entries } = &observed.secret else { return None };
    if entries.len() == 1 && render::expected_config_matches(spec, context, object) {
        return None;
    }
    let version = object.resource_version()?.to_owned();
    let entries = vec![(entry.runner, entry.token.clone())];
    let secret = secret_name(context.fleet, &spec.key);
    Some(draft.add(Step::RewriteSecret { secret, entries, version }, []))
}

/// What GitLab should hold of the entity.
fn settings(
    spec: &RunnerSpec,
    fleet: &FleetName,
    installation: &InstallationId,
    paused: bool,
) -> EntitySettings {
    let marker = Marker {
        fleet: fleet.clone(),
        installation: installation.clone(),
        key: spec.key.clone(),
        generation: 1,
    };
    EntitySettings {
        description: marker.description(),
        tags: spec.runner.tags.clone(),
        run_untagged: spec.runner.run_untagged,
        locked: spec.runner.locked,
        protected: spec.runner.protected,
        maximum_timeout: Some(spec.runner.maximum_timeout),
        maintenance_note: Some(if paused { NOTE_NOT_OPEN.to_owned() } else { String::new() }),
        paused,
    }
}

fn draft_twins(
    draft: &mut Draft,
    spec: &RunnerSpec,
    observed: &Observed,
    ours: &Ours<'_>,
    now: Timestamp,
) {
    for twin in &ours.twins {
        draft.add(Step::DeleteTwin { runner: twin.id }, []);
    }
    for twin in &ours.used_twins {
        draft_used_twin(draft, spec, observed, twin, now);
    }
}

/// A twin that somebody polls with goes once an operator lets it, and its last job is done.
fn draft_used_twin(
    draft: &mut Draft,
    spec: &RunnerSpec,
    observed: &Observed,
    twin: &Entity,
    now: Timestamp,
) {
    let unit = Unit::Runner(spec.key.clone());
    if !observed.ledger.book.may_part(&unit, twin.id, now) {
        let reason = format!(
            "runner {} is a twin of ours that somebody polls with: `forerunner send confirm {}` permits its removal",
            twin.id, spec.key
        );
        draft.block_until_parting(twin.id, reason);
    } else if !twin.paused {
        let note = format!("{NOTE} paused, a twin that goes when its last job is done");
        draft.add(Step::PauseRunner { runner: twin.id, note, may_be_refused: false }, []);
    } else if observed.busy.contains(&twin.id) {
        draft.wait_patiently(AT_CEILING, format!("the last job of twin {}", twin.id));
    } else {
        draft.add(Step::DeleteTwin { runner: twin.id }, []);
    }
}

/// Opens the entity when a job can sign in, mends its settings.
fn draft_entity(
    draft: &mut Draft,
    spec: &RunnerSpec,
    fleet: &FleetSettings,
    ours: &Ours<'_>,
    may_open: bool,
) {
    let Some(keep) = ours.keep else { return };
    let note = keep.maintenance_note.as_deref().unwrap_or_default();
    let paused_by_us = keep.paused && note.starts_with(NOTE);
    let may_resume = paused_by_us || spec.resume_paused;
    let stays_paused = keep.paused && !(may_resume && may_open);
    let wanted = settings(spec, &fleet.name, ours.installation, stays_paused);
    let opens = keep.paused && !stays_paused;
    if !opens && !differs(keep, &wanted) {
        return;
    }
    // Only what we wrote is ours to clear: a person's note stays, and so does a person's pause.
    let change = EntityChange {
        paused: opens.then_some(false),
        maintenance_note: opens.then(String::new),
        ..EntityChange::from(&wanted)
    };
    let why = if opens { "open" } else { "mend the settings of" };
    draft.add(Step::UpdateRunner { runner: keep.id, change, why }, []);
}

fn differs(entity: &Entity, wanted: &EntitySettings) -> bool {
    let sorted = |tags: &[String]| {
        let mut tags: Vec<String> = tags.to_vec();
        tags.sort();
        tags.dedup();
        tags
    };
    entity.description != wanted.description
        || sorted(&entity.tags) != sorted(&wanted.tags)
        || entity.run_untagged != wanted.run_untagged
        || entity.locked != wanted.locked
        || entity.protected != wanted.protected
        || entity.maximum_timeout != wanted.maximum_timeout
}

/// Every object of the manager beside its Secret.
fn manager_objects(spec: &RunnerSpec, context: &Context<'_>) -> Vec<Object> {
    let mut objects = vec![
        render::manager_account(spec, context),
        render::manager_network_policy(spec, context),
        render::binding(spec, context),
        render::deployment(spec, context, 1),
    ];
    objects.iter_mut().for_each(render::stamp);
    objects
}

/// What a round does with the Deployment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rolling {
    Stands,
    /// It is made or changed.
    Now,
    /// It is to change, and is not yet its turn.
    Waits,
}

fn draft_manager(
    draft: &mut Draft,
    spec: &RunnerSpec,
    context: &Context<'_>,
    observed: &Observed,
    domain: &DomainDraft,
    kept: &Kept,
    now: Timestamp,
) -> Rolling {
    let unit = Unit::Runner(spec.key.clone());
    let mut rolling = Rolling::Stands;
    let mut applied = Vec::new();
    let mut account_is_ours = true;
    for object in manager_objects(spec, context) {
        let live = match object.name.kind {
            Kind::ServiceAccount => &observed.manager_account,
            Kind::NetworkPolicy => &observed.manager_policy,
            Kind::RoleBinding => &observed.binding,
            Kind::Deployment => &observed.deployment,
            kind @ (Kind::Namespace
            | Kind::ClusterRole
            | Kind::ResourceQuota
            | Kind::LimitRange
            | Kind::Secret
            | Kind::ConfigMap
            | Kind::Pod
            | Kind::ValidatingAdmissionPolicy
            | Kind::ValidatingAdmissionPolicyBinding
            | Kind::MutatingWebhookConfiguration) => unreachable!("a manager has no {kind:?}"),
        };
        if let Some(live) = live {
            if live.label(names::LABEL_FLEET) != Some(context.fleet.name.as_str()) {
                draft.block(format!("{} exists and is not ours: remove or rename it", object.name));
                account_is_ours &= object.name.kind != Kind::ServiceAccount;
                continue;
            }
            if render::differs(&object, live).is_none() {
                continue;
            }
        }
        let has_all = match object.name.kind {
            // Where jobs cannot be yet, there is nothing to bind; the domain's own finding or wait says why.
            Kind::RoleBinding => domain.usable,
            // A pod without a token would poll for nobody, and one with somebody else's account or Secret as them.
            Kind::Deployment => account_is_ours && (kept.holds || kept.step.is_some()),
            Kind::Namespace
            | Kind::ServiceAccount
            | Kind::ClusterRole
            | Kind::ResourceQuota
            | Kind::LimitRange
            | Kind::NetworkPolicy
            | Kind::Secret
            | Kind::ConfigMap
            | Kind::Pod
            | Kind::ValidatingAdmissionPolicy
            | Kind::ValidatingAdmissionPolicyBinding
            | Kind::MutatingWebhookConfiguration => true,
        };
        if !has_all {
            continue;
        }
        let rolls = object.name.kind == Kind::Deployment
            && live.as_ref().is_some_and(|live| render::rolls(&object, live));
        let turn = if rolls {
            let in_flight = context.fleet.rollout_in_flight;
            match rollout::ask(
                draft,
                &unit,
                &observed.ledger,
                observed.status.as_ref(),
                in_flight,
                now,
            ) {
                rollout::May::Roll(turn) => turn,
                rollout::May::Wait => {
                    rolling = Rolling::Waits;
                    continue;
                }
            }
        } else {
            None
        };
        let needs: Vec<StepId> = match object.name.kind {
            Kind::RoleBinding => domain.namespace.into_iter().collect(),
            // The pod mounts the Secret and runs as the account: both first.
            Kind::Deployment => {
                kept.step.into_iter().chain(turn).chain(applied.iter().copied()).collect()
            }
            Kind::Namespace
            | Kind::ServiceAccount
            | Kind::ClusterRole
            | Kind::ResourceQuota
            | Kind::LimitRange
            | Kind::NetworkPolicy
            | Kind::Secret
            | Kind::ConfigMap
            | Kind::Pod
            | Kind::ValidatingAdmissionPolicy
            | Kind::ValidatingAdmissionPolicyBinding
            | Kind::MutatingWebhookConfiguration => vec![],
        };
        let kind = object.name.kind;
        let step = draft.add(Step::Apply { object, client: None }, needs);
        if kind == Kind::ServiceAccount {
            applied.push(step);
        }
        if kind == Kind::Deployment {
            rolling = Rolling::Now;
        }
    }
    rolling
}

/// It was leaving and is wanted again: what went meanwhile settles anew.
fn draft_return(draft: &mut Draft, observed: &Observed) {
    let leaving = |live: &&Object| live.annotation(names::ANNOTATION_LEAVING_SINCE).is_some();
    if let Some(live) = observed.deployment.as_ref().filter(leaving) {
        draft.add(Step::MarkLeaving { deployment: live.name.clone(), at: None }, []);
    }
}

/// Says how the manager stands: applied, running, polling.
fn judge_manager(
    draft: &mut Draft,
    spec: &RunnerSpec,
    observed: &Observed,
    ours: &Ours<'_>,
    kept: &Kept,
    rolling: Rolling,
    now: Timestamp,
) {
    let running = observed.deployment.as_ref().is_some_and(is_available);
    let trouble = trouble::of(&observed.pods);
    // What waits for its turn has said so.
    if rolling != Rolling::Waits {
        draft.find(match (running, &trouble) {
            (true, _) => Finding::holds(ConditionKind::Deployed, "Available", "the manager runs"),
            (false, Some(trouble)) => {
                Finding::fails(ConditionKind::Deployed, trouble.reason, trouble.message.clone())
            }
            (false, None) => Finding::fails(
                ConditionKind::Deployed,
                "Progressing",
                "the manager does not run yet",
            ),
        });
    }
    // Without a token there is no manager to wait for, but something else.
    let has_token = kept.holds || kept.step.is_some();
    if !running && has_token {
        draft.wait(SOON, "the manager to run");
    }
    let online = ours
        .keep
        .filter(|_| running)
        .map(|keep| contact(observed, keep, ours.installation, spec, now));
    let manager = match online {
        Some(true) => rollout::Manager::Polls,
        Some(false) | None => rollout::Manager::IsAway(trouble.map(|trouble| trouble.message)),
    };
    let unit = Unit::Runner(spec.key.clone());
    if rolling == Rolling::Stands {
        rollout::judge(draft, &unit, &observed.ledger, manager, &observed.waiting, now);
    }
    let finding = match (ours.keep, online) {
        (Some(keep), Some(true)) if keep.paused && !is_pause_ours(keep) => Finding::fails(
            ConditionKind::Online,
            "PausedByPerson",
            "a person paused the runner; forerunner leaves it so",
        ),
        (Some(keep), Some(true)) if keep.paused => Finding::fails(
            ConditionKind::Online,
            "NotOpen",
            "the runner opens when a job can sign in",
        ),
        (Some(_), Some(true)) => {
            Finding::holds(ConditionKind::Online, "Polling", "the manager polls GitLab")
        }
        (None, _) | (Some(_), Some(false) | None) => {
            if has_token {
                draft.wait(SOON, "the manager to poll GitLab");
            }
            silence(observed, ours, spec, now)
        }
    };
    draft.find(finding);
    draft_strangers(draft, spec, observed, ours, now);
    if ours.look_alikes > 0 {
        draft.find(Finding::holds(
            ConditionKind::NeedsAdministrator,
            "LookAlike",
            format!("{} runner(s) of other owners bear this runner's marker; nothing of theirs was touched", ours.look_alikes),
        ));
    }
}

/// How long our manager has not been heard of.
fn silence(observed: &Observed, ours: &Ours<'_>, spec: &RunnerSpec, now: Timestamp) -> Finding {
    let system_id = names::system_id(ours.installation, &spec.key);
    let managers = ours.keep.and_then(|keep| observed.managers.get(&keep.id));
    let own = managers.into_iter().flatten().filter(|manager| manager.system_id == system_id);
    let (reason, message) = match own.filter_map(|manager| manager.contacted_at).max() {
        None => ("NeverContacted", "no poll by our manager has been seen".to_owned()),
        // No time of day: a status is not written anew for every hour.
        Some(at) if now.duration_since(at) < CONTACT_COUNTS => {
            ("Offline", "our manager polled, and does not run".to_owned())
        }
        Some(at) if now.duration_since(at) < STALE => {
            ("Offline", format!("our manager has not polled since {at:.0}"))
        }
        Some(at) => {
            ("Stale", format!("our manager has not polled since {at:.0}: GitLab calls it stale"))
        }
    };
    Finding::fails(ConditionKind::Online, reason, message)
}

/// Whoever polls with our token and is not our manager holds it too.
fn draft_strangers(
    draft: &mut Draft,
    spec: &RunnerSpec,
    observed: &Observed,
    ours: &Ours<'_>,
    now: Timestamp,
) {
    let Some(keep) = ours.keep else { return };
    let known = [
        names::system_id(ours.installation, &spec.key),
        names::verifier_system_id(ours.installation, &spec.key),
    ];
    let recent = |at: Timestamp| now.duration_since(at) < STRANGER_COUNTS;
    let strangers: Vec<&str> = observed
        .managers
        .get(&keep.id)
        .into_iter()
        .flatten()
        .filter(|manager| manager.contacted_at.is_some_and(recent))
        .map(|manager| manager.system_id.as_str())
        .filter(|id| !known.iter().any(|ours| ours == id))
        .collect();
    if !strangers.is_empty() {
        draft.find(Finding::holds(
            ConditionKind::NeedsAdministrator,
            "ForeignManager",
            format!(
                "runner {} is polled by {}, which is not our manager: its token is in other hands. Find out whose they are; to \
                 make the token worthless now, delete the runner in GitLab, and forerunner makes it anew with another",
                keep.id,
                strangers.join(" and ")
            ),
        ));
    }
}

/// The manager is older than the file allows although the file runs a newer one: what the image's tag names is not what it
/// holds. While anything is under way that may still change.
fn draft_version(
    draft: &mut Draft,
    spec: &RunnerSpec,
    context: &Context<'_>,
    observed: &Observed,
    ours: &Ours<'_>,
) {
    let (Some(keep), Some(floor), false) = (ours.keep, spec.version_floor, draft.has_steps())
    else {
        return;
    };
    let system_id = names::system_id(ours.installation, &spec.key);
    let mut managers = observed.managers.get(&keep.id).into_iter().flatten();
    let manager = managers.find(|manager| manager.system_id == system_id);
    let Some(version) = manager.and_then(|manager| manager.version.as_deref()) else { return };
    let is_older = version.parse::<Version>().is_ok_and(|version| version < floor);
    if is_older && observed.deployment.as_ref().is_some_and(is_available) {
        let deployment = deployment_name(context.fleet, spec);
        draft.find(Finding::holds(
            ConditionKind::NeedsAdministrator,
            "VersionFloor",
            format!(
                "the manager is gitlab-runner {version}, and the file allows nothing older than {floor}: correct what the tag {} names in the registry; kubectl rollout restart deployment {} --namespace {}",
                context.fleet.cluster.images.runner,
                deployment.name,
                deployment.namespace.as_deref().unwrap_or_default()
            ),
        ));
    }
}

fn is_pause_ours(entity: &Entity) -> bool {
    entity.maintenance_note.as_deref().unwrap_or_default().starts_with(NOTE)
}

fn contact(
    observed: &Observed,
    keep: &Entity,
    installation: &InstallationId,
    spec: &RunnerSpec,
    now: Timestamp,
) -> bool {
    let system_id = names::system_id(installation, &spec.key);
    let seen = observed.managers.get(&keep.id).into_iter().flatten();
    seen.filter(|manager| manager.system_id == system_id)
        .filter_map(|manager| manager.contacted_at)
        .any(|at| now.duration_since(at) < CONTACT_COUNTS)
}

/// Whether the one pod of the present template is ready, and no other one is left (runner-on-kubernetes.md §7.1): while
/// managers roll, the pod that is ready may be the old one.
pub(crate) fn is_available(deployment: &Object) -> bool {
    let (status, wanted) = (&deployment.body["status"], &deployment.body["metadata"]["generation"]);
    let condition = |kind: &str| {
        let all = status["conditions"].as_array().into_iter().flatten();
        all.filter(|condition| condition["type"] == kind)
            .any(|condition| condition["status"] == "True")
    };
    status["observedGeneration"] == *wanted
        && status["replicas"] == 1
        && status["updatedReplicas"] == 1
        && status["readyReplicas"] == 1
        && condition("Available")
}
