//! Why the cluster gave nothing to use.

use crate::{
    adapters::{
        azure,
        http::{Response, TransportError, chain},
        tokens,
    },
    domain::{class::Class, kubernetes::Kind},
};
use bytes::Bytes;
use http::StatusCode;
use jiff::SignedDuration;
use serde::Deserialize;

/// Why a call to the cluster failed. `what` names the object; the words of answers about Secrets are left out, for they
/// can echo data.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no answer from the cluster about {what}: {reason}")]
    Unreachable { what: String, reason: String, class: Class },
    /// Another CA signed the server's certificate than the one we know; nothing was sent.
    #[error("the cluster is not trusted with {what}: {reason}")]
    Untrusted { what: String, reason: String },
    /// ARM does not say how to reach the cluster.
    #[error("the cluster's address is unknown")]
    Address { source: Box<azure::Error> },
    #[error("no token for the cluster")]
    Token { source: tokens::Error },
    /// The kubeconfig, given by hand or by ARM, is of no use.
    #[error("the kubeconfig cannot be used: {reason}")]
    Kubeconfig { reason: String },
    /// Our own request is none.
    #[error("{what} cannot be asked for: {reason}")]
    NotSent { what: String, reason: String },
    #[error("the cluster does not accept our token for {what}")]
    Unauthorized { what: String },
    #[error("the cluster does not let us at {what}: {reason}")]
    Forbidden { what: String, reason: String },
    /// The namespace is going away: wait until it is gone.
    #[error("{what} cannot be made while its namespace is going away")]
    NamespaceTerminating { what: String },
    /// The object, or the namespace it is to be made in.
    #[error("the cluster knows no {what}")]
    NotFound { what: String },
    #[error("the cluster already has {what}")]
    AlreadyExists { what: String },
    #[error("somebody else wrote {what}: {reason}")]
    Conflict { what: String, reason: String },
    /// A wrong field, an immutable one, or an admission policy that refuses.
    #[error("the cluster refused {what}: {reason}")]
    Invalid { what: String, reason: String },
    /// A list's continuation is too old (410).
    #[error("the list of {what} went on for too long")]
    Expired { what: String },
    #[error("the cluster limits our calls, seen at {what}")]
    Throttled { what: String, after: Option<SignedDuration> },
    #[error("the cluster cannot answer about {what} now ({status})")]
    Unavailable { what: String, status: u16, after: Option<SignedDuration> },
    #[error("the answer about {what} cannot be read: {reason}")]
    Unreadable { what: String, reason: String },
}

impl Error {
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable { class, .. } => *class,
            Self::Address { source } => source.class(),
            Self::Token { source } => source.class(),
            Self::Throttled { after, .. } | Self::Unavailable { after, .. } => {
                Class::Retry { after: *after }
            }
            Self::NamespaceTerminating { .. } | Self::Expired { .. } | Self::Unreadable { .. } => {
                Class::Retry { after: None }
            }
            Self::NotFound { .. } | Self::AlreadyExists { .. } | Self::Conflict { .. } => {
                Class::Conflict
            }
            // Rights given lately take minutes in AKS, but that is the parked unit's slower rhythm.
            Self::Untrusted { .. }
            | Self::Kubeconfig { .. }
            | Self::NotSent { .. }
            | Self::Unauthorized { .. }
            | Self::Forbidden { .. }
            | Self::Invalid { .. } => Class::Permanent,
        }
    }

    pub(super) fn transport(what: &str, source: &TransportError) -> Self {
        if let TransportError::Untrusted { .. } = source {
            return Self::Untrusted { what: what.to_owned(), reason: chain(source) };
        }
        Self::Unreachable { what: what.to_owned(), reason: chain(source), class: source.class() }
    }
}

/// Kubernetes' `Status` object, what we need of it.
#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
    #[serde(default)]
    reason: String,
    #[serde(default)]
    details: Option<Details>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(default)]
    causes: Vec<Cause>,
    retry_after_seconds: Option<u32>,
}

#[derive(Deserialize)]
struct Cause {
    reason: Option<String>,
}

/// The body of an answer of success, or the error it is.
pub(super) fn check(what: &str, kind: Kind, response: Response) -> Result<Bytes, Error> {
    if response.status.is_success() {
        Ok(response.body)
    } else {
        Err(refusal(what, kind, &response))
    }
}

fn refusal(what: &str, kind: Kind, response: &Response) -> Error {
    let what = what.to_owned();
    let status: Status = response.json().unwrap_or_default();
    let details = status.details.unwrap_or_default();
    let terminating = || {
        let reasons = details.causes.iter().filter_map(|cause| cause.reason.as_deref());
        reasons.into_iter().any(|reason| reason == "NamespaceTerminating")
    };
    let asked_to_wait = details.retry_after_seconds.filter(|seconds| *seconds > 0);
    let after = response
        .retry_after
        .or(asked_to_wait.map(|seconds| SignedDuration::from_secs(seconds.into())));
    let reason = match kind {
        Kind::Secret => "its reason is withheld, because it may echo the Secret".to_owned(),
        Kind::Namespace
        | Kind::ServiceAccount
        | Kind::RoleBinding
        | Kind::ClusterRole
        | Kind::ResourceQuota
        | Kind::LimitRange
        | Kind::NetworkPolicy
        | Kind::ConfigMap
        | Kind::Deployment
        | Kind::Pod
        | Kind::ValidatingAdmissionPolicy
        | Kind::ValidatingAdmissionPolicyBinding
        | Kind::MutatingWebhookConfiguration => status.message.clone(),
    };
    match response.status {
        StatusCode::UNAUTHORIZED => Error::Unauthorized { what },
        StatusCode::FORBIDDEN if terminating() => Error::NamespaceTerminating { what },
        StatusCode::FORBIDDEN => Error::Forbidden { what, reason },
        StatusCode::NOT_FOUND => Error::NotFound { what },
        StatusCode::CONFLICT if status.reason == "AlreadyExists" => Error::AlreadyExists { what },
        StatusCode::CONFLICT => Error::Conflict { what, reason },
        StatusCode::GONE => Error::Expired { what },
        StatusCode::TOO_MANY_REQUESTS => Error::Throttled { what, after },
        // An apply with a field that this server's version does not have: its own fault, it says, and stays it.
        StatusCode::INTERNAL_SERVER_ERROR
            if status.message.starts_with("failed to create typed patch object") =>
        {
            Error::Invalid { what, reason }
        }
        code if code.is_server_error() || code == StatusCode::REQUEST_TIMEOUT => {
            Error::Unavailable { what, status: code.as_u16(), after }
        }
        _ => Error::Invalid { what, reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;
    use serde_json::{Value, json};

    fn refused(kind: Kind, status: u16, body: &Value) -> Error {
        let response = Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: body.to_string().into(),
            retry_after: None,
        };
        check("it", kind, response).unwrap_err()
    }

    fn status(reason: &str) -> Value {
        json!({"kind": "Status", "reason": reason, "message": "the server's words", "details": {}})
    }

    #[test]
    fn each_refusal_has_its_class() {
        let check = |code, body: Value, class: Class| {
            assert_eq!(refused(Kind::ConfigMap, code, &body).class(), class, "{code} {body}");
        };
        let retry = Class::Retry { after: None };
        let terminating = json!({"reason": "Forbidden",
            "details": {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}});
        check(403, terminating, retry);
        check(403, status("Forbidden"), Class::Permanent);
        check(401, status("Unauthorized"), Class::Permanent);
        check(404, status("NotFound"), Class::Conflict);
        check(409, status("AlreadyExists"), Class::Conflict);
        check(409, status("Conflict"), Class::Conflict);
        check(410, status("Expired"), retry);
        check(422, status("Invalid"), Class::Permanent);
        check(400, status("BadRequest"), Class::Permanent);
        check(500, Value::Null, retry);
        let busy = json!({"reason": "TooManyRequests", "details": {"retryAfterSeconds": 2}});
        check(429, busy, Class::Retry { after: Some(SignedDuration::from_secs(2)) });
    }

    #[test]
    fn what_the_server_says_of_a_secret_is_not_repeated() {
        let error = refused(Kind::Secret, 422, &status("Invalid")).to_string();
        assert!(!error.contains("the server's words"), "{error}");
        let error = refused(Kind::ConfigMap, 422, &status("Invalid")).to_string();
        assert_eq!(error, "the cluster refused it: the server's words");
    }
}
