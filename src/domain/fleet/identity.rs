//! Who a profile's jobs are in Azure, and who answers for what the defaults forbid.

use super::{
    amount, guardrails, placeholder,
    problem::{At, Findings},
    raw::{RawAllow, RawGrant, RawIdentity, RawProfile},
    roles::{self, Power},
};
use crate::domain::azure::ResourceId;
use jiff::{Timestamp, civil::Date};
use std::collections::BTreeMap;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityTemplate {
    None,
    Managed { tags: BTreeMap<String, String>, roles: Vec<GrantTemplate> },
    Existing { candidates: Vec<ResourceId>, expect: Vec<GrantTemplate> },
}

/// A role at a scope that may hold placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantTemplate {
    pub role: Uuid,
    pub role_name: String,
    pub scope: String,
}

/// Somebody answers, until a day, for what the defaults forbid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Such as a change number.
    pub name: String,
    pub allows: Allowance,
    /// Its last day, in UTC.
    pub until: Date,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowance {
    IdentityOnInstance,
    IdentityOnUntagged,
    IdentityOnPrivileged,
    UnprotectedWriter,
    /// A writing role on a whole subscription or more.
    WideWriter {
        role_name: String,
        scope: String,
    },
}

impl Exception {
    pub fn ended(&self, now: Timestamp) -> bool {
        now >= amount::end_of(self.until)
    }
}

pub(super) fn strongest(grants: &[GrantTemplate]) -> Option<Power> {
    grants.iter().map(|grant| roles::power(grant.role)).max()
}

pub(super) fn exceptions(raw: &RawProfile, at: &At, findings: &mut Findings<'_>) -> Vec<Exception> {
    let mut exceptions = Vec::new();
    for (index, raw) in raw.exceptions.iter().enumerate() {
        let at = at.key("exceptions").index(index);
        let allows = match raw.allow {
            RawAllow::IdentityOnInstance => Allowance::IdentityOnInstance,
            RawAllow::IdentityOnUntagged => Allowance::IdentityOnUntagged,
            RawAllow::IdentityOnPrivileged => Allowance::IdentityOnPrivileged,
            RawAllow::UnprotectedWriter => Allowance::UnprotectedWriter,
        };
        if raw.exception.trim().is_empty() {
            findings.error(
                &at.key("exception"),
                "is empty",
                "name who allowed it, such as a change number",
            );
        }
        if let Some(until) = findings.accept(&at.key("until"), amount::date(&raw.until), "") {
            exceptions.push(Exception { name: raw.exception.clone(), allows, until });
        }
    }
    exceptions
}

pub(super) fn identity(
    raw: &RawIdentity,
    fleet_tags: &BTreeMap<String, String>,
    exceptions: &mut Vec<Exception>,
    at: &At,
    findings: &mut Findings<'_>,
) -> Option<IdentityTemplate> {
    let at = at.key("identity");
    let raw = match raw {
        RawIdentity::None(_) => return Some(IdentityTemplate::None),
        RawIdentity::Some(raw) => raw,
    };
    match (&raw.managed, &raw.existing) {
        (Some(managed), None) => {
            if raw.expect.is_some() {
                let remedy = "give a managed identity its rights by `managed.roles`";
                findings.error(&at.key("expect"), "belongs to `existing`", remedy);
            }
            let below = at.key("managed");
            let mut tags = fleet_tags.clone();
            tags.extend(managed.tags.clone());
            azure_tags(&managed.tags, &below.key("tags"), findings);
            let roles = grants(&managed.roles, exceptions, &below.key("roles"), findings);
            Some(IdentityTemplate::Managed { tags, roles })
        }
        (None, Some(existing)) => {
            let below = at.key("existing");
            let mut candidates = Vec::new();
            for (index, text) in existing.iter().enumerate() {
                if let Some(id) = findings.accept(&below.index(index), identity_id(text), "") {
                    if candidates.contains(&id) {
                        findings.error(&below.index(index), format!("{id} stands twice"), "");
                    }
                    candidates.push(id);
                }
            }
            if existing.is_empty() {
                findings.error(
                    &below,
                    "is empty",
                    "name the identities, or write `identity: none`",
                );
            }
            let expect = raw.expect.as_deref().unwrap_or_default();
            let expect = grants(expect, exceptions, &at.key("expect"), findings);
            Some(IdentityTemplate::Existing { candidates, expect })
        }
        (Some(_), Some(_)) => {
            findings.error(
                &at,
                "has both `managed` and `existing`",
                "an identity is one or the other",
            );
            None
        }
        (None, None) => {
            findings.error(
                &at,
                "has neither `managed` nor `existing`",
                "or write `identity: none`",
            );
            None
        }
    }
}

fn identity_id(text: &str) -> Result<ResourceId, String> {
    let wrong = || {
        format!(
            "`{text}` is no id of a user-assigned identity; write such as /subscriptions/ID/resourceGroups/NAME/\
             providers/Microsoft.ManagedIdentity/userAssignedIdentities/NAME"
        )
    };
    let id = guardrails::scope(text).map_err(|_| wrong())?;
    let lower = id.lower();
    let fits = lower.contains("/providers/microsoft.managedidentity/userassignedidentities/")
        && lower.matches('/').count() == 8;
    if fits { Ok(id) } else { Err(wrong()) }
}

fn grants(
    raw: &[RawGrant],
    exceptions: &mut Vec<Exception>,
    at: &At,
    findings: &mut Findings<'_>,
) -> Vec<GrantTemplate> {
    let mut grants = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let at = at.index(index);
        let role = roles::find(&raw.role);
        if role.is_none() {
            let remedy = guardrails::role_remedy(&raw.role);
            findings.error(&at.key("role"), format!("`{}` is no role we know", raw.role), remedy);
        }
        let braces = findings.accept(&at.key("scope"), placeholder::names(&raw.scope), "");
        // Its shape is judged with every placeholder filled, and told as it is written.
        let shape = guardrails::scope(&placeholder::sample(&raw.scope));
        let shape = shape.map_err(|_| guardrails::no_scope(&raw.scope));
        let scope = braces.and_then(|_| findings.accept(&at.key("scope"), shape, ""));
        let until = grant_exception(raw, &at, findings);
        let (Some((role, role_name)), Some(scope)) = (role, scope) else { continue };
        let wide = guardrails::is_wide(&scope) && roles::power(role) > Power::Reads;
        let grant =
            GrantTemplate { role, role_name, scope: raw.scope.trim_end_matches('/').to_owned() };
        let (role_name, scope) = (grant.role_name.clone(), grant.scope.clone());
        match until {
            Some((name, until)) => {
                let allows = Allowance::WideWriter { role_name, scope };
                exceptions.push(Exception { name, allows, until });
                if !wide {
                    findings.warning(&at.key("exception"), "is not needed: the role only reads, or its scope is narrow", "");
                }
            }
            None if wide && raw.exception.is_none() => findings.error(
                &at,
                format!("{role_name} writes, on all of {scope}"),
                "name a narrower scope, or who allows it and until when: `exception: CHG…, until: 2027-03-31`",
            ),
            None => {}
        }
        if grants.contains(&grant) {
            findings.error(&at, "stands twice", "");
        }
        grants.push(grant);
    }
    grants
}

fn grant_exception(raw: &RawGrant, at: &At, findings: &mut Findings<'_>) -> Option<(String, Date)> {
    match (&raw.exception, &raw.until) {
        (Some(name), Some(until)) => {
            if name.trim().is_empty() {
                findings.error(
                    &at.key("exception"),
                    "is empty",
                    "name who allowed it, such as a change number",
                );
            }
            let until = findings.accept(&at.key("until"), amount::date(until), "")?;
            Some((name.clone(), until))
        }
        (Some(_), None) => {
            findings.error(
                &at.key("exception"),
                "has no end",
                "say until when: `until: 2027-03-31`",
            );
            None
        }
        (None, Some(_)) => {
            findings.error(
                &at.key("until"),
                "ends nothing",
                "say who allowed it: `exception: CHG…`",
            );
            None
        }
        (None, None) => None,
    }
}

/// Tags of Azure resources: 512 characters a name, 256 a value, and none of ours.
pub(super) fn azure_tags(tags: &BTreeMap<String, String>, at: &At, findings: &mut Findings<'_>) {
    for (name, value) in tags {
        let known = |c: char| !matches!(c, '<' | '>' | '%' | '&' | '\\' | '?' | '/');
        if name.is_empty() || name.len() > 512 || value.len() > 256 || !name.chars().all(known) {
            findings.error(&at.key(name), "is no tag that Azure takes", "");
        }
        if name.to_ascii_lowercase().starts_with("forerunner-") {
            findings.error(
                &at.key(name),
                "begins like the tags that forerunner knows its own by",
                "",
            );
        }
    }
}
