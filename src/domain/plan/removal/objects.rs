//! The objects of a unit that leaves for good: what is deleted, and what an administrator's own keeps.

use super::{Departing, Draft, Remains, SOON};
use crate::domain::{
    kubernetes::{Kind, Object},
    names,
    step::{Step, StepId},
};
use std::collections::BTreeSet;

/// Deletes what is ours of the objects; says whether any is left to wait for. A Secret stays, and is not waited for, as long
/// as it alone names what a person has to look at.
pub(super) fn draft_objects(
    draft: &mut Draft,
    what: &Departing<'_>,
    remains: &Remains,
    doors: &[StepId],
    orphans: &[StepId],
    keeps_secret: bool,
) -> bool {
    let managers = &what.fleet.cluster.managers_namespace;
    let going: BTreeSet<&str> = remains
        .objects
        .iter()
        .filter(|object| object.name.kind == Kind::Namespace && may_delete(what, object))
        .map(|object| object.name.name.as_str())
        .collect();
    let mut left = false;
    let mut manager = None;
    // The manager before its account and its Secret, or its pod would be left with neither.
    let mut objects: Vec<&Object> = remains.objects.iter().collect();
    objects.sort_by_key(|object| object.name.kind != Kind::Deployment);
    for object in objects {
        let within = object.name.namespace.as_deref();
        if within.is_some_and(|namespace| going.contains(namespace)) {
            continue;
        }
        if keeps_secret && object.name.kind == Kind::Secret {
            continue;
        }
        if !may_delete(what, object) {
            draft_strip(draft, object, doors);
            continue;
        }
        left = true;
        if object.is_terminating() {
            draft.wait_patiently(SOON, format!("{} is going away", object.name));
            continue;
        }
        let beside = within == Some(managers.as_str());
        let named = if object.name.kind == Kind::Secret { orphans } else { &[] };
        let needs = doors.iter().chain(named).copied().chain(manager.filter(|_| beside));
        let uid = object.body["metadata"]["uid"].as_str().map(str::to_owned);
        let step = draft.add(Step::RemoveObject { object: object.name.clone(), uid }, needs);
        if object.name.kind == Kind::Deployment {
            manager = Some(step);
        }
    }
    left
}

/// An administrator's namespace and account are used and never removed.
fn may_delete(what: &Departing<'_>, object: &Object) -> bool {
    let managed = object.label(names::LABEL_MANAGED_BY) == Some(names::MANAGED_BY);
    let in_managers =
        object.name.namespace.as_deref() == Some(&what.fleet.cluster.managers_namespace);
    managed
        && match object.name.kind {
            Kind::Namespace => {
                object.name.name.starts_with(&names::job_namespace_prefix(&what.fleet.name))
            }
            Kind::ServiceAccount => in_managers || object.name.name == names::JOB_ACCOUNT,
            Kind::RoleBinding
            | Kind::ResourceQuota
            | Kind::LimitRange
            | Kind::NetworkPolicy
            | Kind::Secret
            | Kind::Deployment => true,
            Kind::ClusterRole
            | Kind::ConfigMap
            | Kind::Pod
            | Kind::ValidatingAdmissionPolicy
            | Kind::ValidatingAdmissionPolicyBinding
            | Kind::MutatingWebhookConfiguration => false,
        }
}

/// What stays no longer names our identity.
fn draft_strip(draft: &mut Draft, object: &Object, doors: &[StepId]) {
    let all = [
        names::ANNOTATION_IDENTITY,
        names::ANNOTATION_IDENTITY_ANSWER,
        names::ANNOTATION_CLIENT,
        names::ANNOTATION_TENANT,
    ];
    let keys: Vec<&'static str> =
        all.into_iter().filter(|key| object.annotation(key).is_some()).collect();
    if object.name.kind == Kind::ServiceAccount && !keys.is_empty() {
        let object = object.name.clone();
        draft.add(Step::DropAnnotations { object, keys }, doors.iter().copied());
    }
}
