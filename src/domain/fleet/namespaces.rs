//! Namespaces and service accounts of administrators: no name that is somebody else's, also once placeholders are filled.

use super::{
    Fleet, TargetKind,
    compile::given,
    placeholder,
    problem::{At, Findings},
    profile::{Profile, is_label},
};
use crate::domain::names;
use std::collections::BTreeMap;

const LABEL: &str = "lower-case letters, digits and inner hyphens, 63 at most";

/// Judges the names of all profiles, for every target whose values the file has.
pub(super) fn check(fleet: &Fleet, at: &At, findings: &mut Findings<'_>) {
    for profile in fleet.profiles.values() {
        let Some(namespace) = &profile.kubernetes.namespace else { continue };
        let at = at.key("profiles").key(profile.name.as_str()).key("kubernetes").key("namespace");
        if let Some((reason, remedy)) = taken(fleet, namespace) {
            findings.error(&at, reason, remedy);
        }
    }
    let mut owners: BTreeMap<String, (&Profile, &str)> = BTreeMap::new();
    for ((kind, _), entry) in &fleet.targets {
        let key = match kind {
            TargetKind::Group => "groups",
            TargetKind::Project => "projects",
        };
        let at = at.key(key).key(&entry.path).key("values");
        for profile in
            given(*kind, &entry.path, &fleet.rules).filter_map(|name| fleet.profiles.get(name))
        {
            let filled = |text: &Option<String>| {
                let text = text.as_ref().filter(|text| text.contains('{'))?;
                placeholder::fill(text, &entry.values).ok()
            };
            let (space, account) =
                (&profile.kubernetes.namespace, &profile.kubernetes.service_account);
            for name in [filled(space), filled(account)].into_iter().flatten() {
                if !is_label(&name) {
                    let reason = format!(
                        "with these, `{}` has `{name}`, no name that Kubernetes takes",
                        profile.name
                    );
                    findings.error(&at, reason, LABEL);
                }
            }
            let Some(name) = filled(space) else { continue };
            if let Some((reason, remedy)) = taken(fleet, &name) {
                findings.error(&at, format!("with these, `{name}` {reason}"), remedy);
            }
            let (other, path) = *owners.entry(name.clone()).or_insert((profile, &entry.path));
            if (&other.name, path) != (&profile.name, &entry.path) {
                let reason = format!(
                    "with these, `{name}` is the namespace of `{}` for `{path}` too: jobs of both would share their identities",
                    other.name
                );
                let remedy = "the namespace is the boundary of a trust domain: give each its own";
                findings.error(&at, reason, remedy);
            }
        }
    }
}

/// Why a namespace cannot be an administrator's for jobs: it is the managers', or one that forerunner would make.
fn taken(fleet: &Fleet, namespace: &str) -> Option<(&'static str, String)> {
    if namespace == fleet.settings.cluster.managers_namespace {
        let remedy = "jobs there could read runner tokens: give them a namespace of their own";
        return Some(("is the namespace of the managers", remedy.to_owned()));
    }
    let ours = names::job_namespace_prefix(&fleet.settings.name);
    let remedy = format!("names that begin with `{ours}` are for what forerunner makes");
    namespace.starts_with(&ours).then_some(("may be the namespace of another trust domain", remedy))
}
