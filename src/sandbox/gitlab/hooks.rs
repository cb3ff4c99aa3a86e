//! System hooks and their management (gitlab.md §2).

use super::{
    Gitlab, Version,
    call::{Access, Call},
    deliveries::Outgoing,
    errors::Refusal,
    pagination,
    parameters::Parameters,
    signature,
    state::{Kind, State, milliseconds},
};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use secrecy::SecretString;
use serde_json::{Value, json};
use url::Url;

#[derive(Clone, Debug)]
pub(super) struct Hook {
    pub(super) id: u64,
    pub(super) url: String,
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    pub(super) token: Option<SecretString>,
    pub(super) signing_token: Option<SecretString>,
    pub(super) push_events: bool,
    tag_push_events: bool,
    merge_requests_events: bool,
    repository_update_events: bool,
    enable_ssl_verification: bool,
    pub(super) custom_headers: Vec<(String, String)>,
    created_at: Timestamp,
}

impl Gitlab {
    /// Registers a receiver with a secret token, a signing token (`whsec_…`), both or neither.
    pub fn add_system_hook(
        &self,
        url: &str,
        token: Option<&str>,
        signing_token: Option<&str>,
    ) -> u64 {
        let mut state = self.lock();
        let mut hook = state.new_hook(url);
        hook.token = token.map(Into::into);
        hook.signing_token = signing_token.map(Into::into);
        let id = hook.id;
        state.hooks.insert(id, hook);
        id
    }

    pub fn remove_system_hook(&self, hook: u64) {
        self.lock().hooks.remove(&hook);
    }
}

impl State {
    fn new_hook(&mut self, url: &str) -> Hook {
        Hook {
            id: self.next_id(Kind::Hook),
            url: url.to_owned(),
            name: None,
            description: None,
            token: None,
            signing_token: None,
            push_events: false,
            tag_push_events: false,
            merge_requests_events: false,
            repository_update_events: true,
            enable_ssl_verification: true,
            custom_headers: Vec::new(),
            created_at: self.now,
        }
    }

    fn hook_for(&self, call: &Call) -> Result<&Hook, Refusal> {
        self.hooks.get(&call.id("hook_id")?).ok_or_else(|| Refusal::not_found("Hook"))
    }
}

/// `GET /hooks`
pub(super) async fn list(call: Call) -> Result<Response, Refusal> {
    let (state, _) = call.enter_as_admin(Access::Read)?;
    let hooks: Vec<&Hook> = state.hooks.values().collect();
    let version = state.settings.version;
    pagination::page(&call, &state.settings.external_url, &hooks, |hook| show(hook, version))
}

/// `GET /hooks/:hook_id`
pub(super) async fn show_one(call: Call) -> Result<Response, Refusal> {
    let (state, _) = call.enter_as_admin(Access::Read)?;
    let hook = state.hook_for(&call)?;
    Ok(Json(show(hook, state.settings.version)).into_response())
}

/// `POST /hooks`; the same URL twice makes two hooks.
pub(super) async fn create(call: Call) -> Result<Response, Refusal> {
    let (mut state, _) = call.enter_as_admin(Access::Write)?;
    let url = call.parameters.required("url")?;
    let changes = changes(&call.parameters, state.settings.version)?;
    let mut hook = state.new_hook(&url);
    changes(&mut hook);
    let body = show(&hook, state.settings.version);
    state.hooks.insert(hook.id, hook);
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// `PUT /hooks/:hook_id`. Another URL without a token clears the tokens, and the custom headers.
pub(super) async fn update(call: Call) -> Result<Response, Refusal> {
    let (mut state, _) = call.enter_as_admin(Access::Write)?;
    let changes = changes(&call.parameters, state.settings.version)?;
    let mut hook = state.hook_for(&call)?.clone();
    if let Some(url) = call.parameters.text("url").filter(|url| *url != hook.url) {
        hook.url = url;
        hook.token = None;
        hook.signing_token = None;
        hook.custom_headers.clear();
    }
    changes(&mut hook);
    let body = show(&hook, state.settings.version);
    state.hooks.insert(hook.id, hook);
    Ok(Json(body).into_response())
}

/// `DELETE /hooks/:hook_id`
pub(super) async fn delete(call: Call) -> Result<StatusCode, Refusal> {
    let (mut state, _) = call.enter_as_admin(Access::Write)?;
    let id = state.hook_for(&call)?.id;
    state.hooks.remove(&id);
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /hooks/:hook_id`: a real delivery of made-up data, at once.
pub(super) async fn test(call: Call) -> Result<Response, Refusal> {
    let mock = json!({
        "event_name": "project_create",
        "name": "Ruby",
        "path": "ruby",
        "project_id": 1,
        "owner_name": "Someone",
        "owner_email": "example@gitlabhq.com",
    });
    let (outgoing, attempt) = {
        let (mut state, _) = call.enter_as_admin(Access::Write)?;
        let hook = state.hook_for(&call)?.clone();
        let outgoing = Outgoing {
            at: state.now,
            hook: hook.id,
            event: "project_create".to_owned(),
            body: mock.to_string(),
            idempotency_key: state.uuid(),
            chain: state.uuid(),
        };
        let attempt = state.attempt(&hook, &outgoing);
        (outgoing, attempt)
    };
    let outcome = call.gitlab.send(attempt).await;
    call.state().log(outgoing, outcome);
    Ok((StatusCode::CREATED, Json(mock)).into_response())
}

/// `PUT /hooks/:hook_id/custom_headers/:key`
pub(super) async fn put_header(call: Call) -> Result<StatusCode, Refusal> {
    let (mut state, _) = call.enter_as_admin(Access::Write)?;
    let value = call.parameters.required("value")?;
    let id = state.hook_for(&call)?.id;
    let key = call.segment("key").to_owned();
    if let Some(hook) = state.hooks.get_mut(&id) {
        hook.custom_headers.retain(|(name, _)| *name != key);
        hook.custom_headers.push((key, value));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /hooks/:hook_id/custom_headers/:key`
pub(super) async fn delete_header(call: Call) -> Result<StatusCode, Refusal> {
    let (mut state, _) = call.enter_as_admin(Access::Write)?;
    let id = state.hook_for(&call)?.id;
    let key = call.segment("key");
    let hook = state.hooks.get_mut(&id);
    let Some(headers) = hook.map(|hook| &mut hook.custom_headers) else {
        return Err(Refusal::not_found("Hook"));
    };
    let before = headers.len();
    headers.retain(|(name, _)| name != key);
    if headers.len() == before {
        return Err(Refusal::not_found("Custom header"));
    }
    Ok(StatusCode::NO_CONTENT)
}

/// What the call wants to change, checked before anything is.
fn changes(
    parameters: &Parameters,
    version: Version,
) -> Result<impl FnOnce(&mut Hook) + use<>, Refusal> {
    if let Some(url) = parameters.text("url") {
        let fine = Url::parse(&url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !fine {
            return Err(Refusal::unprocessable("Invalid url given"));
        }
    }
    let token = parameters.text("token");
    if token.as_ref().is_some_and(|token| token.contains(['\n', '\r'])) {
        return Err(Refusal::invalid(&[("token", "is invalid".to_owned())]));
    }
    let signing_token = parameters.text("signing_token").filter(|_| version.is_from(19, 0));
    let bad = signing_token.as_ref().is_some_and(|token| signature::key(token).is_none());
    if bad {
        let text = "must be a whsec_ prefixed base64-encoded 32-byte key";
        return Err(Refusal::invalid(&[("signing_token", text.to_owned())]));
    }
    let named = version.is_from(17, 1);
    let name = parameters.text("name").filter(|_| named);
    let description = parameters.text("description").filter(|_| named);
    let push = parameters.flag("push_events")?;
    let tag_push = parameters.flag("tag_push_events")?;
    let merge_requests = parameters.flag("merge_requests_events")?;
    let repository_update = parameters.flag("repository_update_events")?;
    let ssl = parameters.flag("enable_ssl_verification")?;
    let custom_headers = parameters.entries("custom_headers").filter(|_| named);
    if custom_headers.as_ref().is_some_and(|headers| headers.len() > 20) {
        let text = "number of entries must be up to 20".to_owned();
        return Err(Refusal::invalid(&[("custom_headers", text)]));
    }
    Ok(move |hook: &mut Hook| {
        hook.token = token.map(Into::into).or(hook.token.take());
        hook.signing_token = signing_token.map(Into::into).or(hook.signing_token.take());
        hook.name = name.or(hook.name.take());
        hook.description = description.or(hook.description.take());
        hook.push_events = push.unwrap_or(hook.push_events);
        hook.tag_push_events = tag_push.unwrap_or(hook.tag_push_events);
        hook.merge_requests_events = merge_requests.unwrap_or(hook.merge_requests_events);
        hook.repository_update_events = repository_update.unwrap_or(hook.repository_update_events);
        hook.enable_ssl_verification = ssl.unwrap_or(hook.enable_ssl_verification);
        if let Some(headers) = custom_headers {
            hook.custom_headers = headers;
        }
    })
}

pub(super) fn show(hook: &Hook, version: Version) -> Value {
    let keys: Vec<Value> =
        hook.custom_headers.iter().map(|(key, _)| json!({ "key": key })).collect();
    let mut body = json!({
        "id": hook.id,
        "url": hook.url,
        "created_at": milliseconds(hook.created_at),
        "push_events": hook.push_events,
        "tag_push_events": hook.tag_push_events,
        "merge_requests_events": hook.merge_requests_events,
        "repository_update_events": hook.repository_update_events,
        "enable_ssl_verification": hook.enable_ssl_verification,
        "alert_status": "executable",
        "disabled_until": null,
        "url_variables": [],
        "push_events_branch_filter": null,
        "branch_filter_strategy": "wildcard",
    });
    if version.is_from(17, 1) {
        body["name"] = json!(hook.name);
        body["description"] = json!(hook.description);
        body["custom_webhook_template"] = Value::Null;
        body["custom_headers"] = json!(keys);
    }
    if version.is_from(19, 0) {
        body["token_present"] = json!(hook.token.is_some());
        body["signing_token_present"] = json!(hook.signing_token.is_some());
    }
    body
}
