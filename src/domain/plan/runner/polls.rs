//! Who polls with the token, as GitLab tells it: our manager, a stranger, nobody.

use super::{CONTACT_COUNTS, Ours, deployment_name, manager::is_available};
use crate::domain::{
    gitlab::Manager,
    ids::{InstallationId, RunnerKey, Unit},
    kubernetes::Object,
    ledger::Book,
    names,
    observed::Observed,
    plan::Draft,
    render::Context,
    spec::RunnerSpec,
    status::{ConditionKind, Finding},
    step::Step,
    version::Version,
};
use jiff::{SignedDuration, Timestamp};

/// From then on GitLab calls a runner stale (gitlab.md §3.8).
const STALE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How soon a manager that still does not poll begins anew once more.
const RESTART_AGAIN: SignedDuration = SignedDuration::from_hours(6);

/// How long a stranger's poll is an alarm.
const STRANGER_COUNTS: SignedDuration = SignedDuration::from_hours(24);

/// Everybody who polled with the tokens of one entity of a runner: a round and a sweep judge them by the same words.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Polls<'a> {
    pub(crate) key: &'a RunnerKey,
    pub(crate) installation: &'a InstallationId,
    pub(crate) managers: &'a [Manager],
}

impl<'a> Polls<'a> {
    /// Our manager, if it ever polled.
    fn own(self) -> Option<&'a Manager> {
        let system_id = names::system_id(self.installation, self.key);
        self.managers.iter().find(|manager| manager.system_id == system_id)
    }

    /// Whether our manager polled lately.
    pub(crate) fn has_own(self, now: Timestamp) -> bool {
        let last = self.own().and_then(|manager| manager.contacted_at);
        last.is_some_and(|at| now.duration_since(at) < CONTACT_COUNTS)
    }

    /// Whether somebody polls now, and our manager does not. It may be ours all the same: what it is called it reads once, when it
    /// begins (runner-on-kubernetes.md §2.3).
    fn are_under_another_name(self, now: Timestamp) -> bool {
        let verifier = names::verifier_system_id(self.installation, self.key);
        let polls = |one: &Manager| {
            let lately = one.contacted_at.is_some_and(|at| now.duration_since(at) < CONTACT_COUNTS);
            lately && one.system_id != verifier
        };
        !self.has_own(now) && self.managers.iter().any(polls)
    }

    /// Whoever else polled within a day holds the token too, unless it was replaced since.
    pub(crate) fn strangers(self, book: &Book, now: Timestamp) -> Vec<&'a str> {
        let known = [
            names::system_id(self.installation, self.key),
            names::verifier_system_id(self.installation, self.key),
        ];
        let replaced = book.replaced(&Unit::Runner(self.key.clone()));
        let counts = |at: Timestamp| {
            now.duration_since(at) < STRANGER_COUNTS && replaced.is_none_or(|done| done < at)
        };
        let polls = self.managers.iter();
        let polls = polls.filter(|manager| manager.contacted_at.is_some_and(counts));
        let ids = polls.map(|manager| manager.system_id.as_str());
        ids.filter(|id| !known.iter().any(|ours| ours == id)).collect()
    }

    /// The version of our manager, where it is older than this.
    pub(crate) fn older_than(self, floor: Version) -> Option<&'a str> {
        let version = self.own()?.version.as_deref()?;
        version.parse::<Version>().is_ok_and(|version| version < floor).then_some(version)
    }
}

/// Who polled with the entity that we keep; nobody where there is none.
pub(super) fn of_kept<'a>(
    spec: &'a RunnerSpec,
    observed: &'a Observed,
    ours: &Ours<'a>,
) -> Polls<'a> {
    let managers = ours.keep.and_then(|keep| observed.managers.get(&keep.id));
    let managers = managers.map_or(&[][..], Vec::as_slice);
    Polls { key: &spec.key, installation: ours.installation, managers }
}

/// How long our manager has not been heard of.
pub(super) fn silence(polls: Polls<'_>, now: Timestamp) -> Finding {
    let (reason, message) = match polls.own().and_then(|manager| manager.contacted_at) {
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

/// Lets a manager that runs and polls under another name begin anew, now that nothing is left to mend in what it reads, by us or by a
/// person: a Deployment that lacks our label may be a stranger's. Where the poll is somebody else's, it does no harm.
pub(super) fn draft_restart(
    draft: &mut Draft,
    deployment: &Object,
    polls: Polls<'_>,
    now: Timestamp,
) {
    let template = &deployment.body["spec"]["template"]["metadata"]["annotations"];
    let at = template[names::ANNOTATION_RESTARTED_AT].as_str().and_then(|at| at.parse().ok());
    let is_due = at.is_none_or(|at: Timestamp| now.duration_since(at) >= RESTART_AGAIN);
    let is_mended = !draft.mends() && !draft.is_blocked();
    if is_due && polls.are_under_another_name(now) && is_mended {
        draft.add(Step::RestartManager { deployment: deployment.name.clone(), at: now }, []);
    }
}

/// Tells of strangers, with the command that makes the token worthless.
pub(super) fn draft_strangers(
    draft: &mut Draft,
    spec: &RunnerSpec,
    observed: &Observed,
    ours: &Ours<'_>,
    now: Timestamp,
) {
    let Some(keep) = ours.keep else { return };
    let strangers = of_kept(spec, observed, ours).strangers(&observed.ledger.book, now);
    if !strangers.is_empty() {
        draft.find(Finding::holds(
            ConditionKind::NeedsAdministrator,
            "ForeignManager",
            format!(
                "runner {} is polled by {}, which is not our manager: its token is in other hands. Find out whose they are, or \
                 make the token worthless now; forerunner send revoke {} --why 'its token is in other hands'",
                keep.id,
                strangers.join(" and "),
                spec.key
            ),
        ));
    }
}

/// The manager is older than the file allows although the file runs a newer one: what the image's tag names is not what it
/// holds. While anything is under way that may still change.
pub(super) fn draft_version(
    draft: &mut Draft,
    spec: &RunnerSpec,
    context: &Context<'_>,
    observed: &Observed,
    ours: &Ours<'_>,
) {
    let (Some(floor), false) = (spec.version_floor, draft.mends()) else { return };
    let Some(version) = of_kept(spec, observed, ours).older_than(floor) else { return };
    if observed.deployment.as_ref().is_some_and(is_available) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::kubernetes::{Kind, ObjectName};
    use serde_json::json;

    #[test]
    fn a_manager_begins_anew_where_others_poll_and_ours_is_silent_and_not_too_often() {
        let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let ago = |minutes| now - SignedDuration::from_mins(minutes);
        let (key, installation) = ("g42-apply".parse().unwrap(), InstallationId("uid-1".into()));
        let own = names::system_id(&installation, &key);
        let verifier = names::verifier_system_id(&installation, &key);
        let idle: fn(&mut Draft) = |_| {};
        let blocked = |draft: &mut Draft| draft.block("it is not ours".into());
        let busy = |draft: &mut Draft| {
            let deployment = ObjectName::new(Kind::Deployment, "managers", "runner-g42-apply");
            draft.add(Step::ScaleToZero { deployment }, []);
        };
        let check =
            |polls: &[(&str, i64)], restarted: Option<i64>, before: fn(&mut Draft), expected| {
                let managers: Vec<Manager> = polls
                    .iter()
                    .map(|(id, minutes)| Manager {
                        system_id: (*id).to_owned(),
                        contacted_at: Some(ago(*minutes)),
                        version: None,
                    })
                    .collect();
                let mut body = json!({});
                if let Some(minutes) = restarted {
                    body["spec"]["template"]["metadata"]["annotations"]
                        [names::ANNOTATION_RESTARTED_AT] = ago(minutes).to_string().into();
                }
                let name = ObjectName::new(Kind::Deployment, "managers", "runner-g42-apply");
                let live = Object { name, body };
                let mut draft = Draft::default();
                before(&mut draft);
                let polls = Polls { key: &key, installation: &installation, managers: &managers };
                draft_restart(&mut draft, &live, polls, now);
                let steps = draft.finish(SignedDuration::ZERO).steps;
                let drafted =
                    steps.iter().any(|node| matches!(node.step, Step::RestartManager { .. }));
                assert_eq!(drafted, expected, "{polls:?} {restarted:?}");
            };
        check(&[(&own, 121), ("s_other", 5)], None, idle, true);
        check(&[("s_other", 5)], None, idle, true);
        check(&[(&own, 119), ("s_other", 5)], None, idle, false);
        // Nobody polls, or nobody but our own questions.
        check(&[(&own, 121)], None, idle, false);
        check(&[(&own, 121), ("s_other", 121)], None, idle, false);
        check(&[(&own, 121), (&verifier, 5)], None, idle, false);
        check(&[(&own, 500), ("s_other", 5)], Some(359), idle, false);
        check(&[(&own, 500), ("s_other", 5)], Some(360), idle, true);
        check(&[(&own, 500), ("s_other", 5)], None, busy, false);
        check(&[(&own, 500), ("s_other", 5)], None, blocked, false);
    }
}
