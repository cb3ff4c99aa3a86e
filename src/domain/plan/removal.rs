//! A unit that leaves for good: stopped, stripped of its rights, and after the grace taken away whole (DESIGN, *Removal,
//! grace and the brake*). Deletes nothing without a [`Pass`].
//!
//! Every stage is read off the world, so any round can die anywhere: since when it leaves stands in the entity's
//! note, unless somebody else paused it, and on the Deployment (either is enough), and the entity goes last, so that a
//! dead round is found again.

mod entities;
mod lent;
mod objects;

pub use entities::own;

use super::{Draft, Plan, Verdict, domain::SOON, identity, rights};
use crate::domain::{
    azure::{FederatedCredential, Identity, ResourceId, RoleAssignment},
    gate::Pass,
    gitlab::Entity,
    ids::{InstallationId, ProfileName, RunnerId, RunnerKey, Unit},
    kubernetes::{Kind, Object, ObjectName},
    ledger::Leave,
    names,
    pause::{self, PausedBy},
    spec::{FleetSettings, Isolation},
    status::{ConditionKind, Finding, Leaving, Status},
    step::{Step, StepId},
};
use entities::{entities, only_secret_knows, unproven, unproven_finding};
use jiff::{SignedDuration, Timestamp};
use lent::{give_back, is_stuck, stuck_finding};
use objects::draft_objects;
use std::collections::BTreeSet;

/// How our note on an entity begins that leaves; a time and a reason follow.
const NOTE: &str = "forerunner: leaving since ";
/// How soon to look again whether a job has ended.
const JOBS: SignedDuration = SignedDuration::from_mins(1);
/// How soon to look again for what others bring about: the runners of a domain, of whom the last one's round wakes it unless it
/// dies, and runners that are hidden from us.
const SELDOM: SignedDuration = SignedDuration::from_mins(10);

/// Which unit leaves, and how.
#[derive(Clone, Copy, Debug)]
pub struct Departing<'a> {
    /// A runner's key, or a shared domain's `domain-PROFILE`: what its parts are labelled with.
    pub key: &'a str,
    /// `None`: a domain, which has no manager and no entity.
    pub runner: Option<&'a RunnerKey>,
    pub fleet: &'a FleetSettings,
    pub grace: SignedDuration,
}

/// What is left of a unit. Every list is complete, whatever the file says of the unit now.
#[derive(Clone, Debug)]
pub struct Remains {
    pub installation: InstallationId,
    pub entities: Vec<Entity>,
    /// Ids of the entries in our Secret, and that of the unit's status: how an entity is known that lost its owner with the target
    /// or its marker.
    pub entries: BTreeSet<RunnerId>,
    /// Entities without a marker that our Secret's token verified to: somebody edited it away.
    pub proven: BTreeSet<RunnerId>,
    /// Entities with a job that runs or is being cancelled.
    pub busy: BTreeSet<RunnerId>,
    /// Runners that still live in a shared domain, and may run jobs there.
    pub tenants: usize,
    /// Entities that GitLab does not let us read: orphans of a target that is gone, or hidden from us like their target.
    pub hidden: BTreeSet<RunnerId>,
    /// Pods of jobs that these entities' entries took; of a shared domain, all jobs' there.
    pub job_pods: usize,
    /// Every object with the fleet's label and this key, in whatever namespace; the status is none of them.
    pub objects: Vec<Object>,
    pub identity: Option<Owned>,
    /// Credentials of ours on existing identities that the job account named.
    pub lent: Vec<(ResourceId, FederatedCredential)>,
    /// Who issues the tokens of the cluster's accounts, where something is lent.
    pub issuer: Option<String>,
    pub status: Option<Status>,
}

/// An identity of the unit's own, with everything it can do.
#[derive(Clone, Debug)]
pub struct Owned {
    pub identity: Identity,
    pub credentials: Vec<FederatedCredential>,
    pub assignments: Vec<RoleAssignment>,
}

impl Remains {
    /// Whether something may be left that we cannot see: only of a target that is known to be gone it is nobody's.
    fn is_unsure(&self, pass: Pass) -> bool {
        let missing = self.status.as_ref().and_then(|status| status.missing.as_ref());
        let is_gone =
            pass.why() == Leave::Gone || missing.is_some_and(|one| one.destroyed.is_some());
        !self.hidden.is_empty() && !is_gone
    }

    fn is_nothing(&self) -> bool {
        self.entities.is_empty()
            && self.objects.is_empty()
            && self.identity.is_none()
            && self.lent.is_empty()
    }
}

/// Plans one round of a unit that leaves.
pub fn plan(what: &Departing<'_>, remains: &Remains, pass: Pass, now: Timestamp) -> Plan {
    let mut draft = Draft::default();
    let unsure = remains.is_unsure(pass);
    if !unsure && remains.is_nothing() {
        return forget(draft, what, remains);
    }
    if remains.tenants > 0 {
        let message =
            format!("it goes after the last runner that shares it: {} left", remains.tenants);
        draft.find(Finding::fails(ConditionKind::Ready, "Leaving", message.clone()));
        draft.wait_patiently(SELDOM, message);
        return draft.finish(SOON);
    }
    let Some(ours) = entities(what, remains) else {
        draft.block(
            "a runner of this key bears another installation's id: `forerunner adopt --fleet` takes it over, or \
             remove it by hand"
                .to_owned(),
        );
        return draft.finish(SOON);
    };
    let since = leaving_since(&ours, remains).unwrap_or(now);
    let stopped = draft_stop(&mut draft, what, remains, &ours, pass.why(), since);
    let idle = remains.job_pods == 0 && ours.iter().all(|one| !remains.busy.contains(&one.id));
    let grace = if pass.why() == Leave::Command { SignedDuration::ZERO } else { what.grace };
    let until = since.saturating_add(grace).unwrap_or(Timestamp::MAX);
    let mut kept = unproven_finding(what, remains);
    if !stopped {
        draft.wait_patiently(SOON, "the manager to finish its jobs and go");
    } else if !idle {
        draft.wait_patiently(JOBS, "a job to end");
    } else if unsure {
        draft_rights(&mut draft, what, remains);
        let ids = remains.hidden.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        draft.wait_patiently(
            SELDOM,
            format!("GitLab to show runner {ids} again, or word of its target's end"),
        );
    } else if now < until {
        draft_rights(&mut draft, what, remains);
    } else {
        kept = draft_end(&mut draft, what, remains, &ours).or(kept);
    }
    let message = match (now < until, stopped && idle) {
        _ if unsure => format!(
            "GitLab hides its runner from our token: nothing but its rights is taken away until it shows it, or tells of its target's end, or `forerunner send confirm {} --why …` says that it is destroyed",
            what.key
        ),
        (true, _) => format!("leaving until {until}: {}", pass.why().as_str()),
        (false, true) => format!("being taken away: {}", pass.why().as_str()),
        (false, false) => format!("leaves when its jobs have ended: {}", pass.why().as_str()),
    };
    if let Some(kept) = kept {
        draft.find(kept);
    }
    let mut plan = draft.finish(SOON);
    plan.findings.retain(|finding| finding.kind != ConditionKind::Ready);
    plan.findings.push(Finding::fails(ConditionKind::Ready, "Leaving", message));
    plan.leaving = Some(Leaving { since, until, drained: stopped && idle && !unsure });
    plan
}

/// Nothing is left but what is told of it.
fn forget(mut draft: Draft, what: &Departing<'_>, remains: &Remains) -> Plan {
    if let Some(status) = &remains.status {
        let name = names::status_map(&status.unit);
        let namespace = &what.fleet.cluster.managers_namespace;
        let object = ObjectName::new(Kind::ConfigMap, namespace, &name);
        draft.add(Step::RemoveObject { object, uid: None }, []);
    }
    Plan { is_gone: true, verdict: Verdict::Settled, ..draft.finish(SOON) }
}

fn deployment(remains: &Remains) -> Option<&Object> {
    remains.objects.iter().find(|object| object.name.kind == Kind::Deployment)
}

/// Since when it leaves, by whichever of the two places still says so.
fn leaving_since(ours: &[&Entity], remains: &Remains) -> Option<Timestamp> {
    let noted = ours.iter().filter_map(|entity| {
        let note = entity.maintenance_note.as_deref()?.strip_prefix(NOTE)?;
        note.split(',').next()?.parse::<Timestamp>().ok()
    });
    let annotated = deployment(remains)
        .and_then(|live| live.annotation(names::ANNOTATION_LEAVING_SINCE)?.parse().ok());
    // A domain has neither, and in the end nor has a runner: then what was told of it is all there is.
    let told = remains.status.as_ref().and_then(|status| Some(status.leaving.as_ref()?.since));
    noted.chain(annotated).min().or(told)
}

/// Pauses the entities and lets the manager drain; says whether both are done.
fn draft_stop(
    draft: &mut Draft,
    what: &Departing<'_>,
    remains: &Remains,
    ours: &[&Entity],
    why: Leave,
    since: Timestamp,
) -> bool {
    let may_be_refused = why == Leave::Gone;
    let live = deployment(remains);
    let running = live.filter(|live| live.body["spec"]["replicas"] != 0);
    let mut stopped = true;
    for entity in ours {
        let note = entity.maintenance_note.as_deref().unwrap_or_default();
        let rests = match pause::paused_by(entity) {
            // Who else paused it finds it so when it returns.
            Some(PausedBy::Person | PausedBy::Operator) => true,
            Some(PausedBy::Us) => note.starts_with(NOTE),
            None => false,
        };
        let refused = may_be_refused && running.is_none();
        if rests || refused {
            continue;
        }
        stopped &= entity.paused;
        let note = format!("{NOTE}{since}, {}", why.as_str());
        draft.add(Step::PauseRunner { runner: entity.id, note, may_be_refused }, []);
    }
    let Some(live) = live else { return stopped };
    if live.annotation(names::ANNOTATION_LEAVING_SINCE).is_none() && what.runner.is_some() {
        draft.add(Step::MarkLeaving { object: live.name.clone(), at: Some(since) }, []);
    }
    if running.is_some() {
        draft.add(Step::ScaleToZero { deployment: live.name.clone() }, []);
    }
    let pods = live.body["status"]["replicas"].as_u64().unwrap_or(0);
    stopped && running.is_none() && pods == 0
}

/// During the grace: what a job could do in Azure goes, the rest can come back.
fn draft_rights(draft: &mut Draft, what: &Departing<'_>, remains: &Remains) -> Vec<StepId> {
    let Some(owned) = &remains.identity else { return vec![] };
    let description =
        names::assignment_description(&what.fleet.name, &remains.installation, what.key);
    let ours = owned.assignments.iter().filter(|one| is_ours(one, &description));
    let steps = ours.map(|one| Step::RemoveRole { assignment: one.clone(), may_be_refused: true });
    steps.map(|step| draft.add(step, [])).collect()
}

/// The name is made of scope, principal and role, which nobody chooses by accident.
fn is_ours(assignment: &RoleAssignment, description: &str) -> bool {
    let RoleAssignment { name, scope, principal_id, role, .. } = assignment;
    *name == names::role_assignment(scope, *principal_id, *role)
        || assignment.description.as_deref() == Some(description)
}

/// After the grace: the door first, then both branches at once, the entity last. Answers why the identity stays, if it does.
fn draft_end(
    draft: &mut Draft,
    what: &Departing<'_>,
    remains: &Remains,
    ours: &[&Entity],
) -> Option<Finding> {
    let (stuck, lent): (Vec<_>, Vec<_>) =
        remains.lent.iter().partition(|one| is_stuck(remains, one));
    if !lent.is_empty() {
        give_back(draft, remains, &lent);
        return None;
    }
    stuck.into_iter().for_each(|one| draft.find(stuck_finding(one)));
    let mut doors = Vec::new();
    let mut kept = None;
    if let Some(owned) = &remains.identity {
        let id = &owned.identity.id;
        // Entra refuses concurrent writes under one identity (azure.md §4.3).
        let mut last = None;
        let (own, foreign): (Vec<_>, Vec<_>) = owned
            .credentials
            .iter()
            .partition(|one| names::is_credential_of(&what.fleet.name, what.key, &one.name));
        for credential in own {
            let name = credential.name.clone();
            last = Some(draft.add(Step::RemoveCredential { identity: id.clone(), name }, last));
        }
        doors.extend(last);
        let roles = draft_rights(draft, what, remains);
        kept = foreign_rights(what, remains, owned, &foreign);
        if kept.is_none() {
            let needs = doors.iter().copied().chain(roles);
            draft.add(Step::RemoveIdentity { id: id.clone() }, needs);
        }
    }
    // Only the Secret names these: it stays until they are gone.
    let orphans = ours.iter().filter(|entity| only_secret_knows(remains, entity));
    let orphans: Vec<StepId> = orphans
        .map(|entity| draft.add(Step::RemoveRunner { runner: entity.id }, doors.iter().copied()))
        .collect();
    let keeps_secret = unproven(what, remains).next().is_some();
    let objects_left = draft_objects(draft, what, remains, &doors, &orphans, keeps_secret);
    if let Some(profile) = shared_profile(what, remains) {
        draft.wake(Unit::Domain(profile.clone()));
    }
    let identity_left = remains.identity.is_some() && kept.is_none();
    if !objects_left && !identity_left {
        for entity in ours.iter().filter(|entity| !only_secret_knows(remains, entity)) {
            draft.add(Step::RemoveRunner { runner: entity.id }, []);
        }
    }
    kept
}

/// The profile whose shared domain the runner is about to leave: that may wait for the last to go.
fn shared_profile<'a>(what: &Departing<'a>, remains: &Remains) -> Option<&'a ProfileName> {
    let key = what.runner?;
    let domain = names::namespace_of(&what.fleet.name, key, Isolation::Profile, None);
    let is_bound = |object: &Object| {
        object.name.kind == Kind::RoleBinding && object.name.namespace.as_ref() == Some(&domain)
    };
    remains.objects.iter().any(is_bound).then_some(&key.profile)
}

/// What we did not give, and who would lose it: such an identity is a person's to delete.
fn foreign_rights(
    what: &Departing<'_>,
    remains: &Remains,
    owned: &Owned,
    foreign: &[&FederatedCredential],
) -> Option<Finding> {
    let description =
        names::assignment_description(&what.fleet.name, &remains.installation, what.key);
    let rights = owned.assignments.iter().filter(|one| !is_ours(one, &description));
    let rights = rights.map(|one| format!("role assignment {} on {}", one.name, one.scope));
    let doors = foreign.iter().map(|one| format!("federated credential `{}`", one.name));
    let all: Vec<String> = rights.chain(doors).collect();
    (!all.is_empty()).then(|| {
        let message = format!(
            "identity `{}` carries what forerunner did not give: {}. Look at it first; az identity delete --ids {}",
            owned.identity.id.name(),
            all.join(", "),
            owned.identity.id
        );
        Finding::holds(ConditionKind::NeedsAdministrator, "ForeignRights", message)
    })
}
