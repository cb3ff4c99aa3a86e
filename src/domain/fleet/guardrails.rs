//! The ceiling: which roles, where, how many, and when not.

use super::{
    amount,
    problem::{At, Findings},
    raw::{RawFreezeAllow, RawGuardrails},
    roles::{self, Power},
};
use crate::domain::{
    azure::ResourceId,
    spec::{Grant, Reach},
};
use jiff::{SignedDuration, civil::Date};
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guardrails {
    /// Name as written, and GUID. The only roles that forerunner assigns.
    pub roles: Vec<(String, Uuid)>,
    /// Each admits itself and what lies below.
    pub scopes: Vec<ResourceId>,
    /// No writing role reaches these. The identities' group and the cluster are always among them.
    pub never: Vec<ResourceId>,
    pub runners: u32,
    pub creations_per_hour: u32,
    pub deletions: Deletions,
    pub grace: SignedDuration,
    pub freeze: Vec<Freeze>,
}

/// The brake: min(`max`, max(2, ⌊`percent` of the fleet⌋)) in any 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deletions {
    pub max: u32,
    pub percent: u32,
}

/// Days, both included, on which nothing changes but what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freeze {
    pub from: Date,
    pub to: Date,
    pub restore: bool,
    pub revoke: bool,
}

impl Default for Guardrails {
    fn default() -> Self {
        Self {
            roles: Vec::new(),
            scopes: Vec::new(),
            never: Vec::new(),
            runners: 500,
            creations_per_hour: 50,
            deletions: Deletions { max: 10, percent: 20 },
            grace: SignedDuration::from_hours(7 * 24),
            freeze: Vec::new(),
        }
    }
}

impl Guardrails {
    /// Says why a role that forerunner should assign lies outside, or nothing.
    pub fn refuses(&self, grant: &Grant) -> Option<String> {
        let Grant { role, role_name, scope } = grant;
        if roles::power(*role) == Power::Authorizes {
            return Some(format!(
                "{role_name} can give rights on, and forerunner never assigns such a role"
            ));
        }
        if !self.roles.iter().any(|(_, allowed)| allowed == role) {
            return Some(format!("the role {role_name} is not among guardrails.roles"));
        }
        if !self.scopes.iter().any(|allowed| allowed.contains(scope)) {
            return Some(format!("the scope {scope} is not within guardrails.scopes"));
        }
        self.endangers(grant)
    }

    /// The same for who holds no more than the settings.
    pub(super) fn reach(&self) -> Reach {
        let outermost = self.scopes.iter().enumerate().filter(|(at, scope)| {
            !self.scopes.iter().enumerate().any(|(other, outer)| {
                outer.contains(scope) && (!scope.contains(outer) || other < *at)
            })
        });
        Reach {
            roles: self.roles.iter().map(|(_, role)| *role).collect(),
            scopes: outermost.map(|(_, scope)| scope.clone()).collect(),
        }
    }

    /// Says which entry of `never` a writing role would reach: it holds the entry, or lies within it.
    pub fn endangers(&self, grant: &Grant) -> Option<String> {
        if roles::power(grant.role) == Power::Reads {
            return None;
        }
        let (name, scope) = (&grant.role_name, &grant.scope);
        self.never.iter().find_map(|never| {
            let reached = scope.contains(never) || never.contains(scope);
            reached.then(|| {
                format!("{name} on {scope} reaches {never}, which guardrails.never keeps out")
            })
        })
    }
}

/// Reads the section or file at `at`.
pub(super) fn compile(raw: &RawGuardrails, at: &At, findings: &mut Findings<'_>) -> Guardrails {
    let mut guardrails = Guardrails::default();
    for (index, name) in raw.roles.iter().enumerate() {
        let at = at.key("roles").index(index);
        match roles::find(name) {
            Some((id, known)) if roles::power(id) == Power::Authorizes => findings.error(
                &at,
                format!("{known} can give rights on: a job that holds it is above every guardrail"),
                "leave it out; an administrator gives it to an `existing` identity, and the profile says `expect`",
            ),
            Some((id, known)) => guardrails.roles.push((known, id)),
            None => findings.error(&at, format!("`{name}` is no role we know"), role_remedy(name)),
        }
    }
    guardrails.scopes = scopes(&raw.scopes, &at.key("scopes"), findings);
    guardrails.never = scopes(&raw.never, &at.key("never"), findings);
    if let Some(runners) = raw.runners {
        guardrails.runners = runners;
    }
    if let Some(creations) = &raw.creations {
        guardrails.creations_per_hour = creations.per_hour;
    }
    if let Some(deletions) = &raw.deletions {
        let default = guardrails.deletions;
        guardrails.deletions = Deletions {
            max: deletions.max.unwrap_or(default.max),
            percent: deletions.percent.unwrap_or(default.percent),
        };
        if guardrails.deletions.percent > 100 {
            findings.error(&at.key("deletions").key("percent"), "is more than 100", "");
        }
    }
    if let Some(grace) = &raw.grace
        && let Some(grace) = findings.accept(&at.key("grace"), amount::duration(grace), "")
    {
        guardrails.grace = grace;
    }
    for (index, freeze) in raw.freeze.iter().enumerate() {
        let at = at.key("freeze").index(index);
        let from = findings.accept(&at.key("from"), amount::date(&freeze.from), "");
        let to = findings.accept(&at.key("to"), amount::date(&freeze.to), "");
        let (Some(from), Some(to)) = (from, to) else { continue };
        if to < from {
            findings.error(&at.key("to"), format!("{to} lies before {from}"), "");
        }
        let allows = |wanted: fn(&RawFreezeAllow) -> bool| freeze.allow.iter().any(wanted);
        guardrails.freeze.push(Freeze {
            from,
            to,
            restore: allows(|allowed| matches!(allowed, RawFreezeAllow::Restore)),
            revoke: allows(|allowed| matches!(allowed, RawFreezeAllow::Revoke)),
        });
    }
    guardrails
}

pub(super) fn role_remedy(name: &str) -> String {
    let near = super::problem::nearest(name, roles::BUILT_IN.iter().map(|role| role.name));
    match near {
        Some(near) => format!("did you mean `{near}`? Any other role is written as its GUID"),
        None => "write the GUID of its definition".to_owned(),
    }
}

fn scopes(texts: &[String], at: &At, findings: &mut Findings<'_>) -> Vec<ResourceId> {
    let read = texts
        .iter()
        .enumerate()
        .filter_map(|(index, text)| findings.accept(&at.index(index), scope(text), ""));
    read.collect()
}

/// A scope that role assignments can have: a management group, a subscription, or what lies below one.
pub(super) fn scope(text: &str) -> Result<ResourceId, String> {
    let wrong = || no_scope(text);
    let id = ResourceId::new(text).ok_or_else(wrong)?;
    let segments: Vec<&str> = id.as_str()[1..].split('/').collect();
    if segments.iter().any(|part| part.is_empty() || *part == "." || *part == "..") {
        return Err(wrong());
    }
    let is = |at: usize, word: &str| {
        segments.get(at).is_some_and(|part| part.eq_ignore_ascii_case(word))
    };
    let subscription = is(0, "subscriptions") && segments.len() >= 2;
    let below = segments.len() == 2
        || is(2, "resourceGroups") && segments.len() >= 4
        || is(2, "providers") && segments.len() >= 6;
    let management_group = is(0, "providers") && is(2, "managementGroups") && segments.len() == 4;
    if subscription && below || management_group { Ok(id) } else { Err(wrong()) }
}

pub(super) fn no_scope(text: &str) -> String {
    format!("`{text}` is no Azure scope; write such as /subscriptions/ID/resourceGroups/NAME")
}

/// Whether a scope is a subscription or wider.
pub(super) fn is_wide(scope: &ResourceId) -> bool {
    scope.as_str().matches('/').count() <= 2
        || scope.lower().starts_with("/providers/microsoft.management/managementgroups/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grant(role: &str, scope: &str) -> Grant {
        let (role, role_name) = roles::find(role).unwrap();
        Grant { role, role_name, scope: ResourceId::new(scope).unwrap() }
    }

    fn guardrails() -> Guardrails {
        let ids =
            |texts: &[&str]| texts.iter().map(|text| ResourceId::new(text).unwrap()).collect();
        Guardrails {
            roles: ["Reader", "Contributor", "AcrPush"]
                .map(|name| (name.to_owned(), roles::find(name).unwrap().0))
                .to_vec(),
            scopes: ids(&["/subscriptions/1111-net", "/subscriptions/2222-pay/resourceGroups/rg"]),
            never: ids(&["/subscriptions/1111-net/resourceGroups/rg-aks"]),
            ..Guardrails::default()
        }
    }

    #[test]
    fn a_scope_admits_itself_and_what_lies_below() {
        for (role, scope, part) in [
            ("Reader", "/subscriptions/1111-net", None),
            ("Reader", "/SUBSCRIPTIONS/1111-NET/resourcegroups/x", None),
            ("Contributor", "/subscriptions/1111-net/resourceGroups/app", None),
            ("Reader", "/subscriptions/1111-network", Some("not within")),
            ("Reader", "/subscriptions/2222-pay", Some("not within")),
            ("Reader", "/subscriptions/2222-pay/resourceGroups/rg2", Some("not within")),
            ("AcrPull", "/subscriptions/1111-net", Some("not among")),
            ("Owner", "/subscriptions/1111-net", Some("never assigns")),
            ("Contributor", "/subscriptions/1111-net", Some("reaches")),
            ("Contributor", "/subscriptions/1111-net/resourceGroups/RG-AKS", Some("reaches")),
            (
                "Contributor",
                "/subscriptions/1111-net/resourceGroups/rg-aks/providers/a/b/c",
                Some("reaches"),
            ),
            ("Contributor", "/subscriptions/1111-net/resourceGroups/rg-aks2", None),
        ] {
            let refusal = guardrails().refuses(&grant(role, scope));
            match part {
                None => assert_eq!(refusal, None, "{role} on {scope}"),
                Some(part) => assert!(
                    refusal.as_deref().is_some_and(|text| text.contains(part)),
                    "{role} on {scope}: {refusal:?}"
                ),
            }
        }
    }

    #[test]
    fn what_is_no_scope_is_refused() {
        for text in [
            "",
            "/",
            "subscriptions/x",
            "/subscriptions",
            "/subscriptions//x",
            "/subscriptions/a/../b",
            "/subscriptions/a/resourceGroups",
        ] {
            assert!(scope(text).is_err(), "{text}");
        }
        for (text, wide) in [
            ("/subscriptions/a", true),
            ("/subscriptions/a/", true),
            ("/providers/Microsoft.Management/managementGroups/root", true),
            ("/subscriptions/a/resourceGroups/b", false),
        ] {
            assert_eq!(scope(text).map(|scope| is_wide(&scope)), Ok(wide), "{text}");
        }
    }

    proptest! {
        /// Whatever the guardrails let pass lies, segment by segment, within an allowed scope and away from `never`.
        #[test]
        fn what_passes_is_inside(
            allowed in proptest::collection::vec(proptest::sample::select(&["a", "ab", "b"][..]), 1..3),
            never in proptest::collection::vec(proptest::sample::select(&["a", "ab", "b"][..]), 1..4),
            asked in proptest::collection::vec(proptest::sample::select(&["a", "A", "ab", "b", "c"][..]), 1..4),
        ) {
            let id = |parts: &[&str]| ResourceId::new(&format!("/{}", parts.join("/"))).unwrap();
            let (role, role_name) = roles::find("Contributor").unwrap();
            let guardrails = Guardrails {
                roles: vec![(role_name.clone(), role)],
                scopes: vec![id(&allowed)],
                never: vec![id(&never)],
                ..Guardrails::default()
            };
            let passes = guardrails.refuses(&Grant { role, role_name, scope: id(&asked) }).is_none();
            let lower = |parts: &[&str]| parts.iter().map(|part| part.to_lowercase()).collect::<Vec<_>>();
            let starts = |long: &[&str], short: &[&str]| lower(long).starts_with(&lower(short));
            let expected = starts(&asked, &allowed) && !starts(&asked, &never) && !starts(&never, &asked);
            prop_assert_eq!(passes, expected);
        }
    }
}
