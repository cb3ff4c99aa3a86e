//! Access tokens of users (gitlab.md §5).

use super::{
    Gitlab,
    call::{Access, Call, Caller},
    errors::Refusal,
    state::{Kind, State, date, digest, milliseconds},
};
use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

#[derive(Clone, Debug)]
pub(super) struct AccessToken {
    pub(super) id: u64,
    pub(super) user: u64,
    pub(super) name: String,
    pub(super) digest: String,
    pub(super) scopes: Vec<String>,
    pub(super) expires_at: Option<Date>,
    pub(super) revoked: bool,
    /// The id of the first token of a chain of rotations.
    pub(super) family: u64,
    pub(super) previous: Option<u64>,
    pub(super) created_at: Timestamp,
    pub(super) last_used_at: Option<Timestamp>,
}

const LIFETIME_DAYS_MAX: i64 = 365;

impl Gitlab {
    /// The token of the administrator `svc-forerunner`, with the scopes `api` and `admin_mode`, without expiry.
    pub fn admin_token(&self) -> String {
        self.lock().admin_token.expose_secret().to_owned()
    }

    /// A personal access token that is good for a year.
    pub fn create_access_token(&self, user: u64, scopes: &[&str]) -> String {
        let mut state = self.lock();
        let expires_at = days_ahead(state.now, LIFETIME_DAYS_MAX);
        state.add_token(user, "made by hand", scopes, Some(expires_at)).1
    }

    /// The same with a chosen expiry, or none.
    pub fn create_access_token_until(
        &self,
        user: u64,
        scopes: &[&str],
        expires_at: Option<Date>,
    ) -> String {
        self.lock().add_token(user, "made by hand", scopes, expires_at).1
    }

    /// Revokes a token as a person would in the web interface.
    pub fn revoke_access_token(&self, token: &str) {
        let digest = digest(token);
        let mut state = self.lock();
        for token in state.tokens.values_mut().filter(|token| token.digest == digest) {
            token.revoked = true;
        }
    }

    /// Whether the API would take this access token now.
    pub fn access_token_is_valid(&self, token: &str) -> bool {
        let state = self.lock();
        let digest = digest(token);
        state.tokens.values().any(|token| token.digest == digest && token.is_active(state.now))
    }
}

impl AccessToken {
    /// Over at the beginning of the day of `expires_at`, in UTC.
    fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|expires_at| expires_at <= date(now))
    }

    fn is_active(&self, now: Timestamp) -> bool {
        !self.revoked && !self.is_expired(now)
    }

    fn show(&self, now: Timestamp) -> Value {
        json!({
            "id": self.id,
            "name": self.name,
            "revoked": self.revoked,
            "created_at": milliseconds(self.created_at),
            "description": null,
            "scopes": self.scopes,
            "user_id": self.user,
            "last_used_at": self.last_used_at.map(milliseconds),
            "active": self.is_active(now),
            "expires_at": self.expires_at.map(|date| date.to_string()),
        })
    }
}

impl State {
    /// The id and the value, which is not kept.
    pub(super) fn add_token(
        &mut self,
        user: u64,
        name: &str,
        scopes: &[&str],
        expires_at: Option<Date>,
    ) -> (u64, String) {
        let value = self.secret("glpat-");
        let id = self.next_id(Kind::Token);
        let token = AccessToken {
            id,
            user,
            name: name.to_owned(),
            digest: digest(&value),
            scopes: scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            expires_at,
            revoked: false,
            family: id,
            previous: None,
            created_at: self.now,
            last_used_at: None,
        };
        self.tokens.insert(id, token);
        (id, value)
    }

    /// Revokes one token and makes its successor, in one go.
    fn rotate(&mut self, old: u64, expires_at: Date) -> Option<(u64, String)> {
        let before = self.tokens.get(&old)?.clone();
        let scopes: Vec<&str> = before.scopes.iter().map(String::as_str).collect();
        let (id, value) = self.add_token(before.user, &before.name, &scopes, Some(expires_at));
        if let Some(new) = self.tokens.get_mut(&id) {
            new.family = before.family;
            new.previous = Some(old);
        }
        if let Some(old) = self.tokens.get_mut(&old) {
            old.revoked = true;
        }
        Some((id, value))
    }

    /// A revoked token that asks to be rotated takes its whole family with it.
    fn revoke_family_of(&mut self, value: &str) {
        let digest = digest(value);
        let reused = self.tokens.values().find(|token| token.digest == digest && token.revoked);
        let Some(family) = reused.map(|token| token.family) else { return };
        for token in self.tokens.values_mut().filter(|token| token.family == family) {
            token.revoked = true;
        }
    }
}

/// Who a token stands for, if it is good and has one of the accepted scopes.
pub(super) fn authenticate(
    state: &mut State,
    value: &str,
    accepted: Option<&[&str]>,
) -> Result<Caller, Refusal> {
    let (digest, now) = (digest(value), state.now);
    let token = state.tokens.values_mut().find(|token| token.digest == digest);
    let token = token.ok_or_else(Refusal::unauthorized)?;
    if token.revoked {
        let text = "Token was revoked. You have to re-authorize from the user.";
        return Err(Refusal::invalid_token(text));
    }
    if token.is_expired(now) {
        let text = "Token is expired. You can either do re-authorization or token refresh.";
        return Err(Refusal::invalid_token(text));
    }
    if let Some(accepted) = accepted {
        let fits = token.scopes.iter().any(|scope| accepted.contains(&scope.as_str()));
        if !fits {
            return Err(Refusal::insufficient_scope(accepted));
        }
    }
    token.last_used_at = Some(now);
    let (id, user) = (token.id, token.user);
    let user = state.users.get(&user).ok_or_else(Refusal::unauthorized)?;
    if user.blocked {
        return Err(Refusal::forbidden_because("Your account has been blocked."));
    }
    Ok(Caller { user: Some(user.id), admin: user.admin, token: Some(id) })
}

/// `GET /personal_access_tokens/self`
pub(super) async fn show_self(call: Call) -> Result<Response, Refusal> {
    let (state, caller) = call.enter(Access::Any)?;
    let token = caller.token.and_then(|id| state.tokens.get(&id));
    let token = token.ok_or_else(Refusal::unauthorized)?;
    Ok(Json(token.show(state.now)).into_response())
}

/// `DELETE /personal_access_tokens/self`
pub(super) async fn revoke_self(call: Call) -> Result<StatusCode, Refusal> {
    let (mut state, caller) = call.enter(Access::Any)?;
    if let Some(token) = caller.token.and_then(|id| state.tokens.get_mut(&id)) {
        token.revoked = true;
    }
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /personal_access_tokens/self/rotate`
pub(super) async fn rotate_self(call: Call) -> Result<Response, Refusal> {
    watch_for_reuse(&call);
    let (mut state, caller) = call.enter(Access::RotateSelf)?;
    let id = caller.token.ok_or_else(Refusal::unauthorized)?;
    answer_rotation(&call, &mut state, id)
}

/// `POST /personal_access_tokens/:id/rotate`, for an administrator or the same user.
pub(super) async fn rotate(call: Call) -> Result<Response, Refusal> {
    watch_for_reuse(&call);
    let (mut state, caller) = call.enter(Access::Write)?;
    let id = call.id("id")?;
    let token = state.tokens.get(&id);
    let token = token.filter(|token| caller.admin || Some(token.user) == caller.user);
    if token.ok_or_else(|| Refusal::message(StatusCode::NOT_FOUND, "404 Not Found"))?.revoked {
        return Err(Refusal::bad_request("Token already revoked"));
    }
    answer_rotation(&call, &mut state, id)
}

fn watch_for_reuse(call: &Call) {
    if let Some(token) = call.token() {
        call.state().revoke_family_of(&token);
    }
}

fn answer_rotation(call: &Call, state: &mut State, id: u64) -> Result<Response, Refusal> {
    let expires_at = match call.parameters.text("expires_at") {
        None => days_ahead(state.now, 7),
        Some(text) => text.parse().map_err(|_| Refusal::parameter("expires_at is invalid"))?,
    };
    if expires_at > days_ahead(state.now, LIFETIME_DAYS_MAX) {
        let latest = days_ahead(state.now, LIFETIME_DAYS_MAX);
        let text = format!("Expiration date must be before {latest}");
        return Err(Refusal::bad_request(&text));
    }
    if expires_at <= date(state.now) {
        return Err(Refusal::bad_request("Expiration date can't be in the past"));
    }
    let (id, value) = state.rotate(id, expires_at).ok_or_else(Refusal::unauthorized)?;
    let mut body = state.tokens.get(&id).map(|token| token.show(state.now)).unwrap_or_default();
    body["token"] = json!(value);
    Ok(Json(body).into_response())
}

fn days_ahead(now: Timestamp, days: i64) -> Date {
    let then = now.saturating_add(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MAX);
    then.to_zoned(TimeZone::UTC).date()
}
