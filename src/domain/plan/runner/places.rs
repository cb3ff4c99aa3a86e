//! Where the runner's jobs ran before the file gave them another namespace: nothing of it is taken from under a job.

use crate::domain::{
    ids::Unit,
    kubernetes::Object,
    names,
    observed::{LeftPlace, Observed},
    plan::Draft,
    spec::RunnerSpec,
    status::{ConditionKind, Finding},
    step::Step,
};
use jiff::{SignedDuration, Timestamp};

/// By then a manager has the `config.toml` that was there: the kubelet takes up to two minutes to bring it.
const TAKEN_UP: SignedDuration = SignedDuration::from_mins(3);
/// How soon to look again for what others bring about.
const SELDOM: SignedDuration = SignedDuration::from_mins(10);
/// How soon to look again whether a job has ended.
const JOBS: SignedDuration = SignedDuration::from_mins(1);

/// Where no round of the runner's own brings the new place about, such as where an administrator has to, it is looked at again, and the
/// old one is not left meanwhile.
pub(super) fn draft_lag(draft: &mut Draft) {
    if draft.is_settled() {
        draft.wait_patiently(SELDOM, "jobs to be able to run where the file says");
    }
}

/// Once all else is as it should be and no job of it runs there any more, the manager loses its right there: only then is it
/// certain that none ever will.
pub(super) fn draft_left_places(
    draft: &mut Draft,
    spec: &RunnerSpec,
    observed: &Observed,
    now: Timestamp,
) {
    let settled = draft.is_settled();
    for place in &observed.left_places {
        if let Some(binding) = place.binding.as_ref().filter(|_| settled) {
            draft_unbinding(draft, spec, place, binding, now);
        }
    }
}

/// A namespace of the runner's own goes by a permit alone, and those are for units that leave: told with the command.
pub(super) fn tell_left_namespace(draft: &mut Draft, observed: &Observed) {
    let unbound = observed.left_places.iter().filter(|place| place.binding.is_none());
    let left = unbound.filter_map(|place| place.namespace.as_ref());
    left.filter(|one| !one.is_terminating()).for_each(|one| draft.find(left_finding(one)));
}

fn draft_unbinding(
    draft: &mut Draft,
    spec: &RunnerSpec,
    place: &LeftPlace,
    binding: &Object,
    now: Timestamp,
) {
    let since = binding.annotation(names::ANNOTATION_LEAVING_SINCE);
    let Some(since) = since.and_then(|at| at.parse::<Timestamp>().ok()) else {
        draft.add(Step::MarkLeaving { object: binding.name.clone(), at: Some(now) }, []);
        draft.wait_patiently(TAKEN_UP, TAKING_UP);
        return;
    };
    let left = TAKEN_UP - now.duration_since(since);
    if left.is_positive() {
        draft.wait_patiently(left, TAKING_UP);
        return;
    }
    if place.job_pods > 0 {
        draft.wait_patiently(JOBS, "a job to end where its jobs ran before");
        return;
    }
    let uid = binding.body["metadata"]["uid"].as_str().map(str::to_owned);
    draft.add(Step::RemoveObject { object: binding.name.clone(), uid }, []);
    if place.namespace.is_none() {
        // That may wait for the last to go.
        draft.wake(Unit::Domain(spec.key.profile.clone()));
    }
}

const TAKING_UP: &str = "the manager to take up where its jobs run now";

fn left_finding(namespace: &Object) -> Finding {
    let name = &namespace.name.name;
    Finding::holds(
        ConditionKind::NeedsAdministrator,
        "NamespaceLeft",
        format!(
            "namespace `{name}` was this unit's and no job runs there any more; to delete it: kubectl delete namespace {name}"
        ),
    )
}
