//! A runner that must not serve for now: paused in GitLab, scaled to zero, kept whole, and undone when the reason goes.

use super::{Draft, Plan, domain::SOON};
use crate::domain::{
    claim::{self, Claim},
    gitlab::{Entity, EntityChange},
    ids::{InstallationId, RunnerKey},
    kubernetes::Object,
    names,
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
        }
    }
}

/// What holding a runner looks at; no specification, because the file may no longer give one.
#[derive(Clone, Debug)]
pub struct HeldObserved {
    pub installation: InstallationId,
    pub entities: Vec<Entity>,
    pub deployment: Option<Object>,
    pub status: Option<Status>,
}

/// Pauses every entity of ours and scales the manager to zero; creates nothing, deletes nothing.
pub fn plan(key: &RunnerKey, fleet: &FleetSettings, observed: &HeldObserved, hold: &Hold) -> Plan {
    let mut draft = Draft::default();
    for entity in &observed.entities {
        let claim = claim::judge(entity, &fleet.name, key, &observed.installation);
        let ours = matches!(claim, Some(Claim::Ours { .. }));
        // Under an archived target GitLab may refuse the pause; scaling to zero stands for it.
        if !ours || entity.paused || *hold == Hold::Archived {
            continue;
        }
        let change = EntityChange {
            paused: Some(true),
            maintenance_note: Some(format!("forerunner: paused, {}", hold.message())),
            ..EntityChange::default()
        };
        draft.add(Step::UpdateRunner { runner: entity.id, change, why: "pause" }, []);
    }
    if let Some(live) = &observed.deployment
        && live.label(names::LABEL_FLEET) == Some(fleet.name.as_str())
        && live.body["spec"]["replicas"] != 0
    {
        draft.add(Step::ScaleToZero { deployment: live.name.clone() }, []);
    }
    let mut plan = draft.finish(SOON);
    plan.findings.retain(|finding| finding.kind != ConditionKind::Ready);
    plan.findings.push(Finding::fails(ConditionKind::Ready, hold.reason(), hold.message()));
    plan
}
