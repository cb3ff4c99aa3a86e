//! The runner's manager in the cluster: its objects, whose turn it is to roll, and how it stands.

use super::{Ours, is_ours, polls, token::Kept};
use crate::domain::{
    ids::Unit,
    kubernetes::{Kind, Object},
    names,
    observed::Observed,
    pause::{self, PausedBy},
    plan::{
        Draft,
        domain::{DomainDraft, SOON},
        rollout, trouble, unlabelled,
    },
    render::{self, Context},
    spec::{FleetSettings, RunnerSpec},
    status::{ConditionKind, Finding},
    step::{Step, StepId},
};
use jiff::Timestamp;

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
pub(super) enum Rolling {
    Stands,
    /// It is made or changed.
    Now,
    /// It is to change, and is not yet its turn.
    Waits,
}

pub(super) fn draft_manager(
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
            if !is_ours(live, context.fleet) {
                draft.block(unlabelled(&object.name, &context.fleet.name));
                account_is_ours &= object.name.kind != Kind::ServiceAccount;
                continue;
            }
            if render::differs(&object, live).is_none() {
                continue;
            }
            // A process that begins would read the old file once and for all.
            if kept.lags && render::reads_anew(&object, live) {
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
            Kind::RoleBinding => {
                let before = live.as_ref().and_then(|live| draft_rebinding(draft, &object, live));
                domain.namespace.into_iter().chain(before).collect()
            }
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

/// A binding of ours that gives another role: no server lets the role of a binding change, so it has to go first.
fn draft_rebinding(draft: &mut Draft, wanted: &Object, live: &Object) -> Option<StepId> {
    if live.body["roleRef"] == wanted.body["roleRef"] {
        return None;
    }
    let uid = live.body["metadata"]["uid"].as_str()?.to_owned();
    Some(draft.add(Step::RemoveObject { object: live.name.clone(), uid: Some(uid) }, []))
}

/// It was leaving and is wanted again: what went meanwhile settles anew.
pub(super) fn draft_return(draft: &mut Draft, fleet: &FleetSettings, observed: &Observed) {
    let leaving = |live: &&Object| live.annotation(names::ANNOTATION_LEAVING_SINCE).is_some();
    let ours = [&observed.deployment, &observed.binding].into_iter().flatten();
    for live in ours.filter(|live| is_ours(live, fleet)).filter(leaving) {
        draft.add(Step::MarkLeaving { object: live.name.clone(), at: None }, []);
    }
}

/// Says how the manager stands: applied, running, polling.
pub(super) fn judge_manager(
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
    let polls = polls::of_kept(spec, observed, ours);
    let online = ours.keep.filter(|_| running).map(|_| polls.has_own(now));
    let manager = match online {
        Some(true) => rollout::Manager::Polls,
        Some(false) | None => rollout::Manager::IsAway(trouble.map(|trouble| trouble.message)),
    };
    let unit = Unit::Runner(spec.key.clone());
    if rolling == Rolling::Stands {
        rollout::judge(draft, &unit, &observed.ledger, manager, &observed.waiting, now);
    }
    let finding = match (ours.keep, online) {
        (Some(keep), Some(true)) => match pause::paused_by(keep) {
            Some(PausedBy::Person) => Finding::fails(
                ConditionKind::Online,
                "PausedByPerson",
                "a person paused the runner; forerunner leaves it so",
            ),
            Some(PausedBy::Operator) => Finding::fails(
                ConditionKind::Online,
                "PausedByPerson",
                format!(
                    "an operator paused the runner; `forerunner send resume {unit} --why …` opens it"
                ),
            ),
            Some(PausedBy::Us) => Finding::fails(
                ConditionKind::Online,
                "NotOpen",
                "the runner opens when a job can sign in",
            ),
            None => Finding::holds(ConditionKind::Online, "Polling", "the manager polls GitLab"),
        },
        (None, _) | (Some(_), Some(false) | None) => {
            if let (Some(live), true) = (&observed.deployment, running && kept.holds) {
                polls::draft_restart(draft, live, polls, now);
            }
            if has_token {
                draft.wait(SOON, "the manager to poll GitLab");
            }
            polls::silence(polls, now)
        }
    };
    draft.find(finding);
    polls::draft_strangers(draft, spec, observed, ours, now);
    if ours.look_alikes > 0 {
        draft.find(Finding::holds(
            ConditionKind::NeedsAdministrator,
            "LookAlike",
            format!("{} runner(s) of other owners bear this runner's marker; nothing of theirs was touched", ours.look_alikes),
        ));
    }
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
