//! A runner that must not serve for now: paused in GitLab, scaled to zero, kept whole, and undone when the reason goes.

use super::{Draft, Plan, runner};
use crate::domain::{
    claim::{self, Claim},
    gitlab::EntitySettings,
    names,
    observed::Observed,
    render::{self, Context},
    spec::{FleetSettings, RunnerSpec},
    status::{ConditionKind, Finding},
    step::Step,
};
use jiff::SignedDuration;

/// Why a runner is held. Each is a state to wait in, never a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The target or an ancestor of it is archived.
    Archived,
    /// The target or an ancestor of it is scheduled for deletion.
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
            Self::ExceptionEnded(name) => format!("exception `{name}` has ended"),
        }
    }
}

/// Pauses every entity of ours and scales the manager to zero; creates nothing, deletes nothing.
pub fn plan(spec: &RunnerSpec, fleet: &FleetSettings, observed: &Observed, hold: &Hold) -> Plan {
    let mut draft = Draft::default();
    let installation = &observed.domain.installation;
    for entity in &observed.entities {
        let ours = matches!(
            claim::judge(entity, &fleet.name, &spec.key, installation),
            Some(Claim::Ours { .. })
        );
        // Nothing can be written under an archived target but what an administrator writes: the scaling stands for it.
        if !ours || entity.paused || *hold == Hold::Archived {
            continue;
        }
        let settings = EntitySettings {
            description: entity.description.clone(),
            tags: entity.tags.clone(),
            run_untagged: entity.run_untagged,
            locked: entity.locked,
            protected: entity.protected,
            maximum_timeout: entity.maximum_timeout,
            maintenance_note: Some(format!("forerunner: paused, {}", hold.message())),
            paused: true,
        };
        draft.add(Step::UpdateRunner { runner: entity.id, settings, why: "pause" }, []);
    }
    if let Some(live) = &observed.deployment {
        let context = Context {
            fleet,
            installation,
            api_server: &observed.domain.api_server,
            gitlab_ca: observed.domain.gitlab_ca.as_deref(),
        };
        let mut object = render::deployment(spec, &context, 0);
        render::stamp(&mut object);
        let ours = live.label(names::LABEL_FLEET) == Some(fleet.name.as_str());
        if ours
            && live.name == runner::deployment_name(fleet, spec)
            && render::differs(&object, live).is_some()
        {
            draft.add(Step::Apply { object, client: None }, []);
        }
    }
    let mut plan = draft.finish(SignedDuration::from_secs(30));
    plan.findings.retain(|finding| finding.kind != ConditionKind::Ready);
    plan.findings.push(Finding::fails(ConditionKind::Ready, hold.reason(), hold.message()));
    plan
}
