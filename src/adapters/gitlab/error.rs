//! Why GitLab gave nothing to use, from the many shapes its refusals have (gitlab.md §5.5 and §7.3).

use super::{Call, quota};
use crate::{
    adapters::{
        azure,
        http::{Response, TransportError, chain},
    },
    domain::class::Class,
};
use http::{StatusCode, header};
use jiff::SignedDuration;
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;

/// Why a call to GitLab failed. `what` says which thing was asked for, in words. Holds no token and no body.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no answer from GitLab about {what}: {reason}")]
    Unreachable { what: String, reason: String, class: Class },
    #[error("forerunner's GitLab token cannot be read, so nothing is known about {what}")]
    NoToken { what: String, source: Box<azure::Error> },
    #[error("the vault holds no secret `{secret}` with forerunner's GitLab token")]
    TokenMissing { secret: String },
    /// 401: the credential itself is bad, expired or revoked.
    #[error("GitLab does not accept our token for {what}: {reason}")]
    Unauthorized { what: String, reason: String },
    /// 403 of the token layer, whatever rights our user has.
    #[error("our GitLab token lacks the scope `{needed}` for {what}{}", others(scopes))]
    InsufficientScope {
        what: String,
        /// The narrowest that will do.
        needed: &'static str,
        /// All that GitLab names, separated by spaces; it may name none.
        scopes: String,
    },
    /// A redirect, which is never followed: our token goes to the configured address alone.
    #[error("GitLab sends us elsewhere for {what}, to {to}: {remedy}")]
    Redirected { what: String, to: String, remedy: String },
    /// Reads go on, every write is refused.
    #[error("GitLab is read-only now, so that {what} has to wait: {reason}")]
    Maintenance { what: String, reason: String, after: Option<SignedDuration> },
    #[error("GitLab does not let us at {what}: {reason}")]
    Forbidden { what: String, reason: String },
    /// Gone, or hidden from us.
    #[error("GitLab knows no {what}")]
    NotFound { what: String },
    #[error("GitLab refused {what} ({status}): {reason}")]
    Refused { what: String, status: u16, reason: String },
    /// A limit of the plan: as many runners as the group or project may have are registered.
    #[error("GitLab has no room for {what}: {reason}")]
    Full { what: String, reason: String },
    #[error("GitLab is busy with {what}: {reason}")]
    Conflict { what: String, reason: String },
    #[error("GitLab limits our calls, seen at {what}")]
    RateLimited { what: String, after: SignedDuration },
    /// A server error or maintenance, as JSON or HTML.
    #[error("GitLab cannot answer about {what} now ({status})")]
    Unavailable { what: String, status: u16, after: Option<SignedDuration> },
    /// Also an answer to a bulk query that GitLab itself calls faulty: it proves nothing.
    #[error("GitLab's answer about {what} cannot be read: {reason}")]
    Unreadable { what: String, reason: String },
}

/// What GitLab's own limits ask for where an answer does not say (gitlab.md §7.1).
const RATE_LIMIT_PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// Maintenance lasts minutes to hours, and nobody says how long.
const MAINTENANCE_PAUSE: SignedDuration = SignedDuration::from_mins(5);

impl Error {
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable { class, .. } => *class,
            Self::NoToken { source, .. } => source.class(),
            Self::RateLimited { after, .. } => Class::Retry { after: Some(*after) },
            Self::Unavailable { after, .. } => Class::Retry { after: *after },
            Self::Maintenance { after, .. } => {
                Class::Retry { after: Some(after.unwrap_or(MAINTENANCE_PAUSE)) }
            }
            Self::Unreadable { .. } => Class::Retry { after: None },
            // Vanished between two calls of one round, or locked by another writer: look again.
            Self::NotFound { .. } | Self::Conflict { .. } => Class::Conflict,
            Self::TokenMissing { .. }
            | Self::Unauthorized { .. }
            | Self::InsufficientScope { .. }
            | Self::Redirected { .. }
            | Self::Forbidden { .. }
            | Self::Full { .. }
            | Self::Refused { .. } => Class::Permanent,
        }
    }

    /// What only a person may do, where GitLab's refusal is a limit that an administrator set: a stable reason, and words.
    pub fn administrators_step(&self) -> Option<(&'static str, String)> {
        let Self::Full { reason, .. } = self else { return None };
        let step = format!(
            "delete runners there that nobody uses, or have a GitLab administrator raise the plan limit (PUT /application/plan_limits, ci_registered_group_runners or ci_registered_project_runners): {reason}"
        );
        Some(("RunnerQuota", step))
    }

    pub(super) fn transport(what: &str, source: &TransportError) -> Self {
        Self::Unreachable { what: what.to_owned(), reason: chain(source), class: source.class() }
    }

    pub(super) fn unreadable(what: &str, reason: impl Into<String>) -> Self {
        Self::Unreadable { what: what.to_owned(), reason: reason.into() }
    }
}

/// An answer of success, or the error it is.
pub(super) fn check(gitlab: &Url, call: &Call, response: Response) -> Result<Response, Error> {
    if response.status.is_success() {
        Ok(response)
    } else if response.status.is_redirection() {
        Err(redirected(gitlab, call, &response))
    } else {
        Err(refusal(call, &response))
    }
}

/// GitLab's own answer of success to a call has one status; another one came from something in between.
pub(super) fn expect(call: &Call, response: &Response, status: StatusCode) -> Result<(), Error> {
    if response.status == status {
        return Ok(());
    }
    let got = response.status.as_u16();
    Err(Error::unreadable(
        &call.what,
        format!("GitLab says {} to this, and not {got}", status.as_u16()),
    ))
}

/// Whether GitLab's words say that it takes no writes at all: a 403 by its read-only check, a 503 where the end of it is
/// near (gitlab.md §7.3; an answer of this kind says nothing about the call itself).
pub(super) fn is_maintenance(response: &Response) -> bool {
    let refused =
        matches!(response.status, StatusCode::FORBIDDEN | StatusCode::SERVICE_UNAVAILABLE);
    let reason = reason(&response.json().unwrap_or_default()).to_lowercase();
    refused && (reason.contains("read-only") || reason.contains("maintenance"))
}

/// Says where GitLab really is, as far as its redirect tells; without query, which may hold anything.
fn redirected(gitlab: &Url, call: &Call, response: &Response) -> Error {
    let what = call.what.clone();
    let place = response.header(header::LOCATION.as_str()).and_then(|to| {
        let mut to = gitlab.join(to.trim()).ok()?;
        to.set_query(None);
        to.set_fragment(None);
        let _ = (to.set_username(""), to.set_password(None));
        Some(to)
    });
    let Some(to) = place else {
        let remedy = "check `gitlab.url`".to_owned();
        return Error::Redirected { what, to: "nowhere".to_owned(), remedy };
    };
    let root = ["/api/v4/", "/api/graphql"]
        .iter()
        .find_map(|api| to.as_str().find(api).map(|at| to.as_str()[..at].to_owned()));
    let remedy = match root {
        Some(root) if root == gitlab.as_str().trim_end_matches('/') => {
            "it was renamed or moved; name it as it is called now".to_owned()
        }
        Some(root) => format!("if that is your GitLab, set `gitlab.url` to {root}"),
        None => "`gitlab.url` is not the root of a GitLab; is a relative root such as `/gitlab` missing?"
            .to_owned(),
    };
    Error::Redirected { what, to: to.to_string(), remedy }
}

/// The narrowest scope for a call (gitlab.md §5.1).
fn needed_scope(call: &Call) -> &'static str {
    let one_runner = call.path.strip_prefix("/api/v4/runners/");
    let one_runner = one_runner.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if call.path == "/api/v4/user/runners" {
        "create_runner"
    } else if one_runner {
        "manage_runner"
    } else if call.path.ends_with("/self/rotate") {
        "self_rotate"
    } else if call.method.is_safe() || call.path == "/api/graphql" {
        "read_api"
    } else {
        "api"
    }
}

fn others(scopes: &str) -> String {
    if scopes.is_empty() { String::new() } else { format!(" (GitLab takes any of `{scopes}`)") }
}

pub(super) fn read<T: DeserializeOwned>(what: &str, response: &Response) -> Result<T, Error> {
    response.json().map_err(|error| Error::unreadable(what, response.unreadable(&error)))
}

fn refusal(call: &Call, response: &Response) -> Error {
    let what = call.what.clone();
    let body: Value = response.json().unwrap_or_default();
    let reason = reason(&body);
    let status = response.status.as_u16();
    match response.status {
        _ if is_maintenance(response) => {
            Error::Maintenance { what, reason, after: response.retry_after }
        }
        StatusCode::UNAUTHORIZED => Error::Unauthorized { what, reason },
        StatusCode::FORBIDDEN
            if body["scope"].is_string() || body["error"] == "insufficient_scope" =>
        {
            let scopes = body["scope"].as_str().unwrap_or_default().to_owned();
            Error::InsufficientScope { what, needed: needed_scope(call), scopes }
        }
        StatusCode::FORBIDDEN => Error::Forbidden { what, reason },
        StatusCode::NOT_FOUND => Error::NotFound { what },
        StatusCode::BAD_REQUEST if reason.contains("Missing/invalid") => Error::NotFound { what },
        StatusCode::BAD_REQUEST if reason.contains(FULL) => Error::Full { what, reason },
        StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => Error::Conflict { what, reason },
        StatusCode::TOO_MANY_REQUESTS => Error::RateLimited {
            what,
            after: quota::retry_after(response).unwrap_or(RATE_LIMIT_PAUSE),
        },
        code if code.is_server_error() || code == StatusCode::REQUEST_TIMEOUT => {
            Error::Unavailable { what, status, after: response.retry_after }
        }
        _ => Error::Refused { what, status, reason },
    }
}

/// How GitLab's own words of a plan limit on runners begin.
/// Source: <https://docs.gitlab.com/administration/instance_limits/#number-of-registered-runners-for-each-scope>
const FULL: &str = "Maximum number of ci registered";

/// GitLab's own words: a text, an object of lists of texts, or what the token layer says.
fn reason(body: &Value) -> String {
    let first = [&body["message"], &body["error_description"], &body["error"]];
    match first.into_iter().find(|value| !value.is_null()) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => texts(value).join(", "),
        None => "it gave no reason".to_owned(),
    }
}

fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(field, value)| {
                texts(value).into_iter().map(move |text| match field.as_str() {
                    "error" | "base" => text,
                    _ => format!("{field} {text}"),
                })
            })
            .collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => vec![value.to_string()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::HeaderMap;

    fn refused(status: u16, body: &'static str, after: Option<i64>) -> Error {
        let response = Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
            retry_after: after.map(SignedDuration::from_secs),
        };
        let call = Call::get("/runners/8", "runner 8");
        check(&"https://gitlab.example.com/".parse().unwrap(), &call, response).unwrap_err()
    }

    #[test]
    fn each_shape_of_refusal_is_told_in_words() {
        let check = |status, body, words: &str| {
            assert_eq!(refused(status, body, None).to_string(), words);
        };
        check(
            401,
            r#"{"error":"invalid_token","error_description":"Token was revoked. You have to re-authorize from the user."}"#,
            "GitLab does not accept our token for runner 8: Token was revoked. You have to re-authorize from the user.",
        );
        check(
            401,
            r#"{"message":"401 Unauthorized"}"#,
            "GitLab does not accept our token for runner 8: 401 Unauthorized",
        );
        check(
            403,
            r#"{"error":"insufficient_scope","error_description":"words","scope":"api read_api"}"#,
            "our GitLab token lacks the scope `manage_runner` for runner 8 (GitLab takes any of `api read_api`)",
        );
        check(
            403,
            r#"{"message":"403 Forbidden - No access granted"}"#,
            "GitLab does not let us at runner 8: 403 Forbidden - No access granted",
        );
        check(404, r#"{"message":"404 Runner Not Found"}"#, "GitLab knows no runner 8");
        check(
            400,
            r#"{"message":"400 Bad request - Missing/invalid group"}"#,
            "GitLab knows no runner 8",
        );
        check(
            400,
            r#"{"message":{"tags_list":["can not be empty"]}}"#,
            "GitLab refused runner 8 (400): tags_list can not be empty",
        );
        check(
            400,
            r#"{"error":"runner_type is missing"}"#,
            "GitLab refused runner 8 (400): runner_type is missing",
        );
        check(
            403,
            r#"{"message":"You cannot perform write operations on a read-only instance"}"#,
            "GitLab is read-only now, so that runner 8 has to wait: You cannot perform write operations on a read-only instance",
        );
        check(301, "", "GitLab sends us elsewhere for runner 8, to nowhere: check `gitlab.url`");
        check(502, "<html>Bad Gateway</html>", "GitLab cannot answer about runner 8 now (502)");
        check(
            409,
            r#"{"message":"409 Conflict: Resource lock"}"#,
            "GitLab is busy with runner 8: 409 Conflict: Resource lock",
        );
    }

    #[test]
    fn each_refusal_has_its_class() {
        let check = |status, body, after, expected: Class| {
            assert_eq!(refused(status, body, after).class(), expected, "{status} {body}");
        };
        let after = |seconds| Class::Retry { after: Some(SignedDuration::from_secs(seconds)) };
        check(401, "{}", None, Class::Permanent);
        check(403, "{}", None, Class::Permanent);
        check(404, "{}", None, Class::Conflict);
        check(409, "{}", None, Class::Conflict);
        check(422, "{}", None, Class::Permanent);
        check(429, "Retry later", Some(7), after(7));
        let endpoint = r#"{"message":{"error":"This endpoint has been requested too many times. Try again later."}}"#;
        check(429, endpoint, None, after(60));
        check(503, "<html>maintenance</html>", None, Class::Retry { after: None });
        check(503, "{}", Some(5), after(5));
    }
}
