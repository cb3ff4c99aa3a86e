//! A runner that must not serve for now: paused in GitLab, scaled to zero, kept whole, and undone when the reason goes.

use super::{Draft, Plan, Verdict, domain::SOON};
use crate::domain::{
    claim::{self, Claim},
    gitlab::{Entity, EntityChange},
    ids::{InstallationId, RunnerId, RunnerKey},
    kubernetes::Object,
    names,
    pause::{self, PausedBy},
    spec::FleetSettings,
    status::{ConditionKind, Finding, Status},
    step::Step,
};

/// Why a runner is held. Each is a state to wait in, never a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The target or a group above it is archived.
    Archived,
    /// The target or a group above it is scheduled for deletion.
    Scheduled,
    /// `fleet.yaml` withdraws it, with this reason.
    Withdrawn(String),
    /// The profile asks for more than `guardrails` allow.
    OutsideGuardrails(String),
    /// An exception that the profile stands on has ended.
    ExceptionEnded(String),
    /// An operator told to remove it, and a freeze lets nothing be removed.
    PutOff,
}

impl Hold {
    /// CamelCase, for the condition.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Archived => "Archived",
            Self::Scheduled => "ScheduledForDeletion",
            Self::Withdrawn(_) => "Withdrawn",
            Self::OutsideGuardrails(_) => "OutsideGuardrails",
            Self::ExceptionEnded(_) => "ExceptionEnded",
            Self::PutOff => "RemovalPutOff",
        }
    }

    /// For people.
    pub fn message(&self) -> String {
        match self {
            Self::Archived => "the target or a group above it is archived".to_owned(),
            Self::Scheduled => {
                "the target or a group above it is scheduled for deletion".to_owned()
            }
            Self::Withdrawn(reason) => format!("withdrawn: {reason}"),
            Self::OutsideGuardrails(problem) => format!("outside the guardrails: {problem}"),
            Self::ExceptionEnded(exception) => format!("its exception has ended: {exception}"),
            Self::PutOff => {
                "an operator asked for its removal; `guardrails.freeze` keeps it for now".to_owned()
            }
        }
    }
}

/// What holding a runner looks at; no specification, because the file may no longer give one.
#[derive(Clone, Debug)]
pub struct HeldObserved {
    pub installation: InstallationId,
    pub entities: Vec<Entity>,
    /// Those that our Secret has an entry of.
    pub entries: Vec<RunnerId>,
    pub deployment: Option<Object>,
    pub status: Option<Status>,
}

/// Pauses every entity of ours and scales the manager to zero; creates nothing, deletes nothing.
pub fn plan(key: &RunnerKey, fleet: &FleetSettings, observed: &HeldObserved, hold: &Hold) -> Plan {
    let mut draft = Draft::default();
    let running = observed.deployment.as_ref().filter(|live| {
        live.label(names::LABEL_FLEET) == Some(fleet.name.as_str())
            && live.body["spec"]["replicas"] != 0
    });
    for entity in &observed.entities {
        let claim = claim::judge(entity, &fleet.name, key, &observed.installation);
        let ours = matches!(claim, Some(Claim::Ours { .. }));
        // Under an archived target GitLab may refuse the pause. Scaling to zero stands for it, so it is tried together
        // with that and never again.
        let may_be_refused = *hold == Hold::Archived;
        if !ours || entity.paused || (may_be_refused && running.is_none()) {
            continue;
        }
        let note = format!("forerunner: paused, {}", hold.message());
        draft.add(Step::PauseRunner { runner: entity.id, note, may_be_refused }, []);
    }
    if let Some(live) = running {
        draft.add(Step::ScaleToZero { deployment: live.name.clone() }, []);
    }
    let mut plan = draft.finish(SOON);
    plan.findings.retain(|finding| finding.kind != ConditionKind::Ready);
    plan.findings.push(Finding::fails(ConditionKind::Ready, hold.reason(), hold.message()));
    plan
}

/// Whether there is an entity that a word of an operator's can be about.
pub fn is_ours_there(key: &RunnerKey, fleet: &FleetSettings, observed: &HeldObserved) -> bool {
    ours(key, fleet, observed).next().is_some()
}

fn ours<'a>(
    key: &RunnerKey,
    fleet: &FleetSettings,
    observed: &'a HeldObserved,
) -> impl Iterator<Item = &'a Entity> {
    observed.entities.iter().filter(move |entity| {
        let claim = claim::judge(entity, &fleet.name, key, &observed.installation);
        matches!(claim, Some(Claim::Ours { .. }))
    })
}

/// Gives GitLab an operator's word about every entity of ours: no more jobs, or jobs again. What a round paused is a
/// round's to open; where it is the only one, a pause outlasts the round's reason.
pub fn by_command(
    key: &RunnerKey,
    fleet: &FleetSettings,
    observed: &HeldObserved,
    pause: bool,
    cause: &str,
) -> Plan {
    let mut draft = Draft::default();
    let ours: Vec<&Entity> = ours(key, fleet, observed).collect();
    for entity in &ours {
        let stays = match pause::paused_by(entity) {
            Some(PausedBy::Us) => !pause || ours.len() > 1,
            Some(PausedBy::Person | PausedBy::Operator) => pause,
            None => !pause,
        };
        if stays {
            continue;
        }
        let note = if pause { pause::ordered(cause) } else { String::new() };
        let change = EntityChange {
            paused: Some(pause),
            maintenance_note: Some(note),
            ..EntityChange::default()
        };
        let why = if pause { "pause" } else { "open" };
        draft.add(Step::UpdateRunner { runner: entity.id, change, why }, []);
    }
    let mut plan = draft.finish(SOON);
    plan.findings.retain(|finding| finding.kind != ConditionKind::Ready);
    plan.findings.push(Finding::fails(ConditionKind::Ready, "Progressing", cause));
    // The ordinary round that follows says how it stands.
    plan.verdict = Verdict::FollowUp { after: SOON, waits: cause.to_owned(), patient: true };
    plan
}
