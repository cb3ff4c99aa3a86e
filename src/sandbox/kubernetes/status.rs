//! The `Status` objects this server answers with when it refuses.
//! Source: <https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/>

use super::kinds::Kind;
use axum::{
    Json,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

/// A refusal.
#[derive(Clone, Debug)]
pub(super) struct Status {
    code: u16,
    /// Empty where the real server gives none.
    reason: &'static str,
    message: String,
    details: Value,
    /// With what an expired list goes on.
    continued: Option<String>,
}

/// One field that is wrong, for [`Status::invalid`].
#[derive(Debug)]
pub(super) struct Cause {
    pub(super) reason: &'static str,
    pub(super) field: String,
    pub(super) message: String,
}

impl Cause {
    pub(super) fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: "FieldValueInvalid", field: field.into(), message: message.into() }
    }

    pub(super) fn required(field: impl Into<String>) -> Self {
        Self {
            reason: "FieldValueRequired",
            field: field.into(),
            message: "Required value".to_owned(),
        }
    }

    pub(super) fn forbidden(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: message.into() }
    }

    /// Of the data of a Secret or a ConfigMap.
    pub(super) fn too_long(field: &str) -> Self {
        Self {
            reason: "FieldValueTooLong",
            field: field.to_owned(),
            message: "Too long: may not be more than 1048576 bytes".to_owned(),
        }
    }

    fn json(&self) -> Value {
        json!({"reason": self.reason, "message": self.message, "field": self.field})
    }
}

impl Status {
    fn new(code: u16, reason: &'static str, message: String, details: Value) -> Self {
        Self { code, reason, message, details, continued: None }
    }

    pub(super) fn not_found(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" not found", kind.resource());
        Self::new(404, "NotFound", message, about(kind, name))
    }

    /// For paths that are no resource of this server.
    pub(super) fn no_such_path() -> Self {
        let message = "the server could not find the requested resource".to_owned();
        Self::new(404, "NotFound", message, json!({}))
    }

    pub(super) fn already_exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} \"{name}\" already exists", kind.resource());
        Self::new(409, "AlreadyExists", message, about(kind, name))
    }

    pub(super) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let message =
            format!("Operation cannot be fulfilled on {} \"{name}\": {why}", kind.resource());
        Self::new(409, "Conflict", message, about(kind, name))
    }

    /// Fields of an apply that others own: one cause each, with the manager in its message.
    pub(super) fn apply_conflict(message: String, causes: &[(String, String)]) -> Self {
        let causes: Vec<Value> = causes
            .iter()
            .map(|(manager, field)| {
                json!({"reason": "FieldManagerConflict", "field": field,
                    "message": format!("conflict with {manager}")})
            })
            .collect();
        Self::new(409, "Conflict", message, json!({ "causes": causes }))
    }

    pub(super) fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Self {
        let texts: Vec<String> =
            causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
        let text = match texts.as_slice() {
            [one] => one.clone(),
            several => format!("[{}]", several.join(", ")),
        };
        let message = format!("{} \"{name}\" is invalid: {text}", kind.qualified_kind());
        let mut details = json!({"name": name, "group": kind.group, "kind": kind.kind});
        details["causes"] = causes.iter().map(Cause::json).collect();
        Self::new(422, "Invalid", message, details)
    }

    /// What a ValidatingAdmissionPolicy denies without a reason of its own (runner-on-kubernetes.md §12).
    pub(super) fn denied_by_policy(kind: &Kind, name: &str, why: &str) -> Self {
        let mut refusal = Self::forbidden(kind, name, why);
        refusal.code = 422;
        refusal.reason = "Invalid";
        refusal.details["causes"] = json!([{ "message": why }]);
        refusal
    }

    /// `why` comes after `… is forbidden: `; without a name the resource alone is named.
    pub(super) fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let subject = match name {
            "" => kind.resource(),
            name => format!("{} \"{name}\"", kind.resource()),
        };
        let message = format!("{subject} is forbidden: {why}");
        Self::new(403, "Forbidden", message, about(kind, name))
    }

    pub(super) fn forbidden_path(user: &str, verb: &str, path: &str) -> Self {
        let message = format!("forbidden: User \"{user}\" cannot {verb} path \"{path}\"");
        Self::new(403, "Forbidden", message, json!({}))
    }

    pub(super) fn namespace_terminating(kind: &Kind, name: &str, namespace: &str) -> Self {
        let why = format!(
            "unable to create new content in namespace {namespace} because it is being terminated"
        );
        let mut refusal = Self::forbidden(kind, name, &why);
        refusal.details["causes"] = json!([{
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        }]);
        refusal
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized".to_owned(), Value::Null)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message.into(), Value::Null)
    }

    /// Objects that do not fit the schema of an apply: the real server gives no reason.
    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit}");
        Self::new(413, "RequestEntityTooLarge", message, Value::Null)
    }

    pub(super) fn untyped(message: String) -> Self {
        Self::new(500, "", message, Value::Null)
    }

    pub(super) fn missing_manager() -> Self {
        let message = "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is \
                       required for apply patch";
        let details = json!({"group": "meta.k8s.io", "kind": "PatchOptions", "causes": [{
            "reason": "FieldValueRequired", "field": "fieldManager",
            "message": "Required value: is required for apply patch",
        }]});
        Self::new(422, "Invalid", message.to_owned(), details)
    }

    /// `continued` goes on with the list as it is now.
    pub(super) fn expired(continued: String) -> Self {
        let message = "The provided continue parameter is too old to display a consistent list \
                       result.";
        let refusal = Self::new(410, "Expired", message.to_owned(), Value::Null);
        Self { continued: Some(continued), ..refusal }
    }

    /// Flow control, before anybody looks at rights or reads the request; not a `Status`, but a text.
    pub(super) fn too_many_requests() -> Self {
        let message = "Too many requests, please try again later.";
        Self::new(429, "TooManyRequests", message.to_owned(), Value::Null)
    }

    pub(super) fn unsupported_media_type(given: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: \
             application/json, application/yaml; got {given}"
        );
        Self::new(415, "UnsupportedMediaType", message, Value::Null)
    }

    pub(super) fn method_not_allowed() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::new(405, "MethodNotAllowed", message.to_owned(), json!({}))
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn body(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            body["reason"] = self.reason.into();
        }
        if !self.details.is_null() {
            body["details"] = self.details.clone();
        }
        if let Some(token) = &self.continued {
            body["metadata"]["continue"] = token.as_str().into();
        }
        body
    }
}

fn about(kind: &Kind, name: &str) -> Value {
    let mut details = json!({"kind": kind.plural});
    if !name.is_empty() {
        details["name"] = name.into();
    }
    if !kind.group.is_empty() {
        details["group"] = kind.group.into();
    }
    details
}

impl IntoResponse for Status {
    fn into_response(self) -> Response {
        let code = StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if code == StatusCode::TOO_MANY_REQUESTS {
            return (code, [(header::RETRY_AFTER, "1")], self.message).into_response();
        }
        (code, Json(self.body())).into_response()
    }
}
