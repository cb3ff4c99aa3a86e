//! What can be judged only once the whole file is read.

use super::{
    Fleet, TargetKind, amount,
    compile::given,
    identity::{Allowance, IdentityTemplate},
    problem::{At, Findings},
    profile::Profile,
    rule::Rule,
    wanted,
};
use crate::domain::{
    ids::{ProfileName, TargetId},
    spec::Isolation,
};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

const CREDENTIALS_MAX: usize = 20;

pub(super) fn check_instance(
    rules: &[Rule],
    profiles: &BTreeMap<ProfileName, Profile>,
    findings: &mut Findings<'_>,
) {
    for rule in rules.iter().filter(|rule| rule.instance) {
        for profile in rule.profiles.iter().filter_map(|name| profiles.get(name)) {
            if profile.has_identity() && !profile.allows(&Allowance::IdentityOnInstance) {
                findings.error(
                    &rule.at.key("match").key("instance"),
                    format!("every project of GitLab would reach the identity of `{}`", profile.name),
                    "match groups or projects, or name who allows it: `exceptions: [{ allow: identityOnInstance, \
                     exception: CHG…, until: 2027-03-31 }]`",
                );
            }
        }
    }
}

fn profile_at(at: &At, profile: &Profile) -> At {
    at.key("profiles").key(profile.name.as_str())
}

pub(super) fn check_azure(fleet: &Fleet, at: &At, findings: &mut Findings<'_>) {
    for profile in fleet.profiles.values() {
        let managed = matches!(profile.identity, IdentityTemplate::Managed { .. });
        if managed && fleet.settings.azure.is_none() {
            let at = profile_at(at, profile).key("identity").key("managed");
            findings.error(
                &at,
                "has nowhere to be made",
                "add `azure: { subscription, resourceGroup, location }`",
            );
        }
    }
}

/// A profile that nobody has, and namespaces of administrators that several would share.
pub(super) fn check_use(fleet: &Fleet, at: &At, findings: &mut Findings<'_>) {
    let mut taken: BTreeMap<&str, &Profile> = BTreeMap::new();
    for profile in fleet.profiles.values() {
        let at = profile_at(at, profile);
        let rules = || fleet.rules.iter().filter(|rule| rule.profiles.contains(&profile.name));
        if rules().next().is_none() {
            findings.warning(&at, "no rule gives it to anyone", "");
        }
        check_room(fleet, profile, &at, findings);
        let Some(namespace) = &profile.kubernetes.namespace else { continue };
        let at = at.key("kubernetes").key("namespace");
        if let Some(other) = taken.insert(namespace, profile) {
            let reason = format!(
                "is the namespace of `{}` too: jobs of both would share their identities",
                other.name
            );
            findings.error(
                &at,
                reason,
                "the namespace is the boundary of a trust domain: give each its own",
            );
        }
        let patterns: Vec<_> =
            rules().flat_map(|rule| rule.groups.iter().chain(&rule.projects)).collect();
        let one = patterns.windows(2).all(|pair| pair[0] == pair[1])
            && patterns.iter().all(|pattern| pattern.is_literal())
            && (patterns.is_empty() || !rules().any(|rule| rule.instance));
        if profile.isolation == Isolation::Target && !namespace.contains('{') && !one {
            let reason = "several targets would share this namespace, and so their identities";
            findings.error(
                &at,
                reason,
                "put a placeholder into the name, or use `isolation: profile`",
            );
        }
    }
}

/// An identity has room for 20 federated credentials (azure.md §4.2), and each trust domain takes one. The file shows only
/// the targets that it names; patterns may add more.
fn check_room(fleet: &Fleet, profile: &Profile, at: &At, findings: &mut Findings<'_>) {
    let IdentityTemplate::Existing { candidates, .. } = &profile.identity else { return };
    if profile.isolation == Isolation::Profile {
        return;
    }
    let rules = fleet.rules.iter().filter(|rule| rule.profiles.contains(&profile.name));
    let mut known: BTreeSet<(TargetKind, String)> = BTreeSet::new();
    for rule in rules {
        let groups = rule.groups.iter().map(|pattern| (TargetKind::Group, pattern));
        let projects = rule.projects.iter().map(|pattern| (TargetKind::Project, pattern));
        let literal = groups.chain(projects).filter(|(_, pattern)| pattern.is_literal());
        known.extend(literal.map(|(kind, pattern)| (kind, pattern.as_str().to_lowercase())));
    }
    for (kind, path) in fleet.targets.keys() {
        if given(*kind, path, &fleet.rules).any(|name| *name == profile.name) {
            known.insert((*kind, path.clone()));
        }
    }
    if known.len() > candidates.len() * CREDENTIALS_MAX {
        findings.warning(
            &at.key("identity").key("existing"),
            format!(
                "the file names {} targets, and {} identities have room for {CREDENTIALS_MAX} each",
                known.len(),
                candidates.len()
            ),
            "name more identities, or use `isolation: profile`",
        );
    }
}

/// A role or scope outside concerns its profile alone. Scopes with placeholders are judged for every target whose values
/// the file has.
pub(super) fn check_guardrails(fleet: &Fleet, at: &At, findings: &mut Findings<'_>) {
    let remedy = "stay within guardrails, or have their owner widen them";
    for profile in fleet.profiles.values() {
        let place = profile_at(at, profile).key("identity");
        let (list, assigned) = match profile.identity {
            IdentityTemplate::None => continue,
            IdentityTemplate::Managed { .. } => (place.key("managed").key("roles"), true),
            IdentityTemplate::Existing { .. } => (place.key("expect"), false),
        };
        for (index, template) in profile.grants().iter().enumerate() {
            let Ok(grant) = wanted::grant(template, &BTreeMap::new()) else { continue };
            if assigned && let Some(reason) = fleet.guardrails.refuses(&grant) {
                findings.blocked(&list.index(index), reason, remedy);
            }
            if !assigned && let Some(reason) = fleet.guardrails.endangers(&grant) {
                findings.warning(&list.index(index), reason, "");
            }
        }
    }
    for ((kind, _), entry) in &fleet.targets {
        let key = match kind {
            TargetKind::Group => "groups",
            TargetKind::Project => "projects",
        };
        let place = at.key(key).key(&entry.path).key("values");
        for profile in
            given(*kind, &entry.path, &fleet.rules).filter_map(|name| fleet.profiles.get(name))
        {
            if !profile.grants().iter().any(|grant| grant.scope.contains('{')) {
                continue; // judged above
            }
            let Ok(spec) = fleet.spec(profile, TargetId::Instance, &entry.values) else { continue };
            for reason in fleet.outside(&spec.identity) {
                findings.blocked(
                    &place,
                    format!("with these, `{}` is outside: {reason}", profile.name),
                    remedy,
                );
            }
        }
    }
}

/// The end of an exception is announced, and then parks its profile; it never stops the rest.
pub(super) fn check_exceptions(
    fleet: &Fleet,
    at: &At,
    now: Timestamp,
    findings: &mut Findings<'_>,
) {
    for profile in fleet.profiles.values() {
        let place = profile_at(at, profile);
        for exception in &profile.exceptions {
            let left = amount::end_of(exception.until).duration_since(now);
            let days = left.as_secs().div_euclid(86_400);
            let (name, until) = (&exception.name, exception.until);
            if left <= SignedDuration::ZERO {
                let reason =
                    format!("the exception {name} ended on {until}: `{}` is parked", profile.name);
                findings.warning(&place, reason, "renew it, or do without what it allows");
            } else if let Some(stage) = [1, 7, 30].into_iter().find(|stage| days <= *stage) {
                let unit = if stage == 1 { "day" } else { "days" };
                let reason = format!(
                    "the exception {name} ends on {until}, within {stage} {unit}; then `{}` is parked",
                    profile.name
                );
                findings.warning(&place, reason, "renew it, or do without what it allows");
            }
        }
    }
}
