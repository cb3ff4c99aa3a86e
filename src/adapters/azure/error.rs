//! The one classifier of Azure's answers (azure.md §1), and the error that carries its verdict.

use crate::{
    adapters::{
        http::{Response, TransportError, chain},
        tokens,
    },
    domain::{azure::ResourceId, class::Class},
};
use http::Method;
use jiff::SignedDuration;
use serde_json::Value;
use uuid::Uuid;

/// Why a call to Azure gave nothing to use. `what` says which thing was asked for, in words.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no answer about {what}: {reason}")]
    Unreachable { what: String, reason: String, class: Class },
    #[error("no token for {what}")]
    Token { what: String, source: tokens::Error },
    #[error(
        "Azure refused {what} ({status}{}): {message}{}",
        code.as_deref().map(|code| format!(" {code}")).unwrap_or_default(),
        advice(code.as_deref()).map(|advice| format!(" – {advice}")).unwrap_or_default()
    )]
    Refused {
        what: String,
        /// Where it was asked, from the first slash on.
        path: String,
        status: u16,
        code: Option<String>,
        message: String,
        class: Class,
    },
    /// Taken and not finished: what came of it is read by the round that looks again.
    #[error("Azure is still busy with {what}")]
    StillRunning { what: String, after: SignedDuration },
    /// Not even asked: Azure told us to wait, and asking earlier makes the wait longer.
    #[error("{what} has to wait, because Azure limits our calls")]
    Paced { what: String, after: SignedDuration },
    #[error("the answer about {what} cannot be read: {reason}")]
    Unreadable { what: String, reason: String },
}

impl Error {
    /// Bounded retries (azure.md §1, rows 3, 8, 10, 13) are the caller's to bound: `Retry` says only *passing*.
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable { class, .. } | Self::Refused { class, .. } => *class,
            Self::Token { source, .. } => source.class(),
            Self::StillRunning { after, .. } => Class::Wait { after: *after },
            Self::Paced { after, .. } => Class::Retry { after: Some(*after) },
            Self::Unreadable { .. } => Class::Retry { after: None },
        }
    }

    /// Azure's own code, such as `PrincipalNotFound`.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => code.as_deref(),
            Self::Unreachable { .. }
            | Self::Token { .. }
            | Self::StillRunning { .. }
            | Self::Paced { .. }
            | Self::Unreadable { .. } => None,
        }
    }

    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Unreachable { .. }
            | Self::Token { .. }
            | Self::StillRunning { .. }
            | Self::Paced { .. }
            | Self::Unreadable { .. } => None,
        }
    }

    /// What only a person with more rights may do, where the refusal is somebody's rule and no lack of ours: a stable
    /// reason, and a command or words that name the rule as Azure named it.
    pub fn administrators_step(&self) -> Option<(&'static str, String)> {
        let Self::Refused { code, message, path, .. } = self else { return None };
        let locked = || quoted_after(message, "are locked: ");
        match code.as_deref()? {
            "RequestDisallowedByPolicy" => Some(("PolicyDenied", exempt(message, path))),
            "ScopeLocked" => Some(("ScopeLocked", unlock(locked(), message))),
            "DenyAssignmentAuthorizationFailed" => Some((
                "DenyAssignment",
                format!(
                    "whoever made the deny assignment excepts forerunner from it, or takes it off: {message}"
                ),
            )),
            _ => None,
        }
    }

    /// The assignment that a `RoleAssignmentExists` names as 32 hex digits (azure.md §5.4); older answers name none.
    pub fn existing_assignment(&self) -> Option<Uuid> {
        let Self::Refused { message, code, .. } = self else { return None };
        code.as_deref().filter(|code| *code == "RoleAssignmentExists")?;
        let words = message.split(|c: char| !c.is_ascii_hexdigit());
        words.filter(|word| word.len() == 32).find_map(|word| Uuid::try_parse(word).ok())
    }

    pub(super) fn transport(what: String, error: &TransportError) -> Self {
        Self::Unreachable { what, reason: chain(error), class: error.class() }
    }

    pub(super) fn refused(what: String, path: &str, answer: Answer, class: Class) -> Self {
        let message = answer.message.unwrap_or_else(|| "no reason given".to_owned());
        let path = path.to_owned();
        Self::Refused { what, path, status: answer.status, code: answer.code, message, class }
    }
}

/// What of an answer decides its class.
#[derive(Clone, Debug, Default)]
pub(in crate::adapters) struct Answer {
    pub(in crate::adapters) status: u16,
    pub(in crate::adapters) code: Option<String>,
    /// Key Vault's finer code.
    pub(in crate::adapters) inner_code: Option<String>,
    pub(in crate::adapters) message: Option<String>,
    /// Entra's `error_codes`.
    pub(in crate::adapters) entra_codes: Vec<u64>,
    pub(in crate::adapters) retry_after: Option<SignedDuration>,
}

impl Answer {
    /// Reads whatever error shape the body has; a body that is none of them leaves the status to decide.
    pub(in crate::adapters) fn of(response: &Response) -> Self {
        let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
        // ARM and Key Vault wrap an object, Entra gives `error` as a text beside its description.
        let error = if body["error"].is_object() { &body["error"] } else { &body };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let inner = &error["innererror"]["code"];
        let entra_codes = body["error_codes"].as_array().into_iter().flatten();
        Self {
            status: response.status.as_u16(),
            code: text(&error["code"]).or_else(|| text(&body["error"])),
            inner_code: text(inner),
            message: text(&error["message"]).or_else(|| text(&body["error_description"])),
            entra_codes: entra_codes.filter_map(Value::as_u64).collect(),
            retry_after: response.retry_after,
        }
    }

    fn has_code(&self, codes: &[&str]) -> bool {
        let known = |code: &Option<String>| {
            code.as_deref().is_some_and(|code| codes.iter().any(|c| c.eq_ignore_ascii_case(code)))
        };
        known(&self.code) || known(&self.inner_code)
    }

    fn says(&self, words: &str) -> bool {
        self.message.as_deref().is_some_and(|message| message.contains(words))
    }
}

/// What to do with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::adapters) enum Verdict {
    /// The body is the answer.
    Use,
    /// The thing is not there, and for a deletion that is success.
    Absent,
    Failed(Class),
}

/// The table of azure.md §1; the first matching row wins. Where there is no answer at all, [`TransportError::class`] is
/// row 2.
pub(in crate::adapters) fn classify(method: &Method, answer: &Answer) -> Verdict {
    let after = answer.retry_after;
    let retry = Verdict::Failed(Class::Retry { after });
    let (conflict, permanent) =
        (Verdict::Failed(Class::Conflict), Verdict::Failed(Class::Permanent));
    match answer.status {
        200..=299 => Verdict::Use,
        408 | 429 | 500..=599 => retry,
        _ if !answer.entra_codes.is_empty() => {
            if answer.entra_codes.iter().any(|code| UNKNOWN_TO_ENTRA_YET.contains(code)) {
                retry
            } else {
                permanent
            }
        }
        401 => retry,
        404 if method == Method::DELETE => Verdict::Absent,
        404 if method.is_safe() && !answer.has_code(ABSENT_ABOVE) => Verdict::Absent,
        404 if !method.is_safe() && parent_is_absent(answer) => retry,
        404 => permanent,
        409 if answer.has_code(BUSY) => retry,
        409 if answer.has_code(NEEDS_A_PERSON) => permanent,
        409 | 412 => conflict,
        400 if answer.has_code(&["PrincipalNotFound"]) => retry,
        400 if answer.has_code(&["RoleAssignmentUpdateNotPermitted"])
            || answer.says("Issuer and subject combination already exists") =>
        {
            conflict
        }
        _ => permanent,
    }
}

/// A federated credential has not spread yet, or does not fit.
const UNKNOWN_TO_ENTRA_YET: &[u64] = &[70021, 700211, 700213];
const ABSENT_ABOVE: &[&str] = &["ResourceGroupNotFound", "SubscriptionNotFound"];
const BUSY: &[&str] = &[
    "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity",
    "AnotherOperationInProgress",
    "ObjectIsBeingDeleted",
];

/// Nothing to look at again: the state in the way is no object of ours.
const NEEDS_A_PERSON: &[&str] = &[
    "ScopeLocked",
    "MissingSubscriptionRegistration",
    "SubscriptionNotRegistered",
    "DisabledSubscription",
    "ReadOnlyDisabledSubscription",
];

/// What a person can do about a refusal that none of our rounds can mend.
fn advice(code: Option<&str>) -> Option<&'static str> {
    let known: [(&[&str], &str); 7] = [
        (
            &["RequestDisallowedByPolicy", "RequestDisallowedByAzure"],
            "an Azure Policy forbids it: change `azure.tags` or `azure.location` as the policy wants, or have its owner exempt \
             the resource group (az policy exemption create)",
        ),
        (
            &["ScopeLocked"],
            "a resource lock forbids it: have it taken off (az lock list, az lock delete); forerunner goes on by itself",
        ),
        (
            &["MissingSubscriptionRegistration", "SubscriptionNotRegistered"],
            "the subscription does not have the resource provider: az provider register --namespace, with the namespace named \
             above",
        ),
        (
            &["DisabledSubscription", "ReadOnlyDisabledSubscription"],
            "the subscription is disabled: its owner has to enable it again; until then nothing in it can change",
        ),
        (
            &["SubscriptionNotFound"],
            "the subscription is gone, or our identity has no right in it or is of another tenant",
        ),
        (
            &["AuthorizationFailed", "LinkedAuthorizationFailed"],
            "our identity lacks the right named above; one that was given just now takes up to 10 minutes",
        ),
        (
            &["RoleAssignmentLimitExceeded"],
            "the subscription holds all the role assignments that it may: remove those of identities that are gone",
        ),
    ];
    let code = code?;
    let told =
        known.iter().find(|(codes, _)| codes.iter().any(|one| one.eq_ignore_ascii_case(code)));
    told.map(|(_, advice)| *advice)
}

/// A policy is exempted by its assignment's id, where Azure says it; some answers have its name alone.
fn exempt(message: &str, path: &str) -> String {
    let scope = ResourceId::new(path).and_then(|id| id.group_scope());
    let scope = scope.map_or_else(|| path.to_owned(), |scope| scope.to_string());
    const SEGMENT: &str = "/providers/microsoft.authorization/policyassignments/";
    let ids = message.split(['"', '\'']).filter(|text| text.to_ascii_lowercase().contains(SEGMENT));
    let id = ids.into_iter().next();
    let name = message
        .split_once("\"policyAssignment\":{\"name\":\"")
        .and_then(|(_, rest)| rest.split('"').next());
    let assignment = match (id, name) {
        (Some(id), _) => id.to_owned(),
        (None, Some(name)) => format!(
            "$(az policy assignment list --disable-scope-strict-match --query \"[?name=='{name}' || displayName=='{name}'].id | [0]\" --output tsv)"
        ),
        (None, None) => return format!("have the policy's owner exempt it: {message}"),
    };
    format!(
        "az policy exemption create --name forerunner --exemption-category Waiver --policy-assignment \"{assignment}\" --scope \"{scope}\""
    )
}

/// A lock is deleted by its own id, which Azure's refusal does not name: all locks of the scope are looked up.
fn unlock(scope: Option<&str>, message: &str) -> String {
    let Some(scope) = scope else { return format!("have the resource lock taken off: {message}") };
    format!(
        "az lock delete --ids $(az rest --method get --url \"https://management.azure.com{scope}/providers/Microsoft.Authorization/locks?api-version=2020-05-01\" --query \"value[].id\" --output tsv)"
    )
}

/// What stands between quotes behind these words.
fn quoted_after<'a>(message: &'a str, words: &str) -> Option<&'a str> {
    let (_, rest) = message.split_once(words)?;
    rest.trim_start_matches('\'').split('\'').next()
}

/// The managed-identity provider has its own sentence for it and no known code (azure.md §4.3).
fn parent_is_absent(answer: &Answer) -> bool {
    answer.has_code(&["ParentResourceNotFound"])
        || answer.says("parent user-assigned identity doesn't exist")
}

#[cfg(test)]
mod tests;
