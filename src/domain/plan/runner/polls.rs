//! Who polls with the token, as GitLab tells it: our manager, a stranger, nobody.

use super::{CONTACT_COUNTS, Ours, deployment_name, manager::is_available};
use crate::domain::{
    gitlab::Entity,
    ids::{InstallationId, Unit},
    names,
    observed::Observed,
    plan::Draft,
    render::Context,
    spec::RunnerSpec,
    status::{ConditionKind, Finding},
    version::Version,
};
use jiff::{SignedDuration, Timestamp};

/// From then on GitLab calls a runner stale (gitlab.md §3.8).
const STALE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How long a stranger's poll is an alarm.
const STRANGER_COUNTS: SignedDuration = SignedDuration::from_hours(24);

/// How long our manager has not been heard of.
pub(super) fn silence(
    observed: &Observed,
    ours: &Ours<'_>,
    spec: &RunnerSpec,
    now: Timestamp,
) -> Finding {
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

/// Whoever polls with our token and is not our manager holds it too, unless it was replaced since.
pub(super) fn strangers<'a>(
    spec: &RunnerSpec,
    observed: &'a Observed,
    ours: &Ours<'_>,
    now: Timestamp,
) -> Vec<&'a str> {
    let known = [
        names::system_id(ours.installation, &spec.key),
        names::verifier_system_id(ours.installation, &spec.key),
    ];
    let replaced = observed.ledger.book.replaced(&Unit::Runner(spec.key.clone()));
    let counts = |at: Timestamp| {
        now.duration_since(at) < STRANGER_COUNTS && replaced.is_none_or(|done| done < at)
    };
    let managers = ours.keep.and_then(|keep| observed.managers.get(&keep.id));
    let polls = managers.into_iter().flatten();
    let polls = polls.filter(|manager| manager.contacted_at.is_some_and(counts));
    let ids = polls.map(|manager| manager.system_id.as_str());
    ids.filter(|id| !known.iter().any(|ours| ours == id)).collect()
}

/// Tells of them, with the command that makes the token worthless.
pub(super) fn draft_strangers(
    draft: &mut Draft,
    spec: &RunnerSpec,
    observed: &Observed,
    ours: &Ours<'_>,
    now: Timestamp,
) {
    let Some(keep) = ours.keep else { return };
    let strangers = strangers(spec, observed, ours, now);
    if !strangers.is_empty() {
        draft.find(Finding::holds(
            ConditionKind::NeedsAdministrator,
            "ForeignManager",
            format!(
                "runner {} is polled by {}, which is not our manager: its token is in other hands. Find out whose they are; to \
                 make the token worthless now: forerunner send revoke {} --why 'its token is in other hands'",
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

pub(super) fn contact(
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
