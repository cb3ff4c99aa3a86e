//! What stands in the way of a call to ARM although its caller has every right: policies, locks, tokens that are no
//! longer taken, and writes that go on for a while.

use super::{
    ARM_HOST, Azure,
    answer::Answer,
    arm::{self, Work},
    call::Call,
    scope,
    state::{State, later},
    token::Caller,
};
use axum::http::Method;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::json;
use std::time::Duration;

/// How a scope is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    CannotDelete,
    ReadOnly,
}

#[derive(Debug, Default)]
pub(super) struct Obstacles {
    /// Lower-case scope, and the policy's name.
    denials: Vec<(String, String)>,
    /// Lower-case scope, and the deny assignment's name.
    denied: Vec<(String, String)>,
    /// Lower-case scope.
    locks: Vec<(String, Lock)>,
    /// Writes of this resource type take that long.
    slow: Vec<(String, Duration)>,
    running: Vec<Running>,
    /// Only tokens of this or a later epoch are taken by ARM.
    epoch: u64,
}

/// A write that was taken and has had no effect yet.
#[derive(Debug)]
struct Running {
    call: Call,
    caller: Caller,
    ends_at: Timestamp,
}

impl Azure {
    /// An Azure Policy with this name denies every write at or below the scope.
    pub fn deny_by_policy(&self, scope: &str, policy: &str) {
        self.state().obstacles.denials.push((scope::lower(scope), policy.to_owned()));
    }

    /// A deny assignment with this name keeps everybody from writing at or below the scope, whatever roles they have.
    pub fn deny_by_assignment(&self, scope: &str, name: &str) {
        self.state().obstacles.denied.push((scope::lower(scope), name.to_owned()));
    }

    /// Locks a scope and all below it.
    pub fn lock(&self, scope: &str, lock: Lock) {
        self.state().obstacles.locks.push((scope::lower(scope), lock));
    }

    /// Ends every policy, every deny assignment and every lock.
    pub fn clear_obstacles(&self) {
        let mut state = self.state();
        state.obstacles.denied.clear();
        state.obstacles.denials.clear();
        state.obstacles.locks.clear();
    }

    /// Writes of a resource type, such as `Microsoft.ManagedIdentity/userAssignedIdentities`, are taken with 202 and have
    /// their effect this much later.
    pub fn slow_down(&self, resource_type: &str, duration: Duration) {
        self.state().obstacles.slow.push((resource_type.to_owned(), duration));
    }

    /// ARM takes no token issued so far: it answers 401 and says which claims the next one has to have. The app service
    /// forgets its stored ones.
    pub fn challenge_tokens(&self) {
        let mut state = self.state();
        state.obstacles.epoch += 1;
        state.stored_tokens.clear();
    }
}

impl Obstacles {
    /// What tokens issued from now on carry.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) fn check_token(&self, caller: &Caller, now: Timestamp) -> Result<(), Answer> {
        if caller.epoch >= self.epoch {
            return Ok(());
        }
        let claims = json!({"access_token": {"nbf": {"essential": true, "value": now.as_second().to_string()}}});
        let challenge = format!(
            "Bearer realm=\"\", authorization_uri=\"https://login.microsoftonline.com/common/oauth2/authorize\", error=\"insufficient_claims\", claims=\"{}\"",
            STANDARD.encode(claims.to_string())
        );
        let message =
            "The access token has been revoked; another one with further claims is needed.";
        let refusal = Answer::refusal(401, "InvalidAuthenticationToken", message);
        Err(refusal.with_header("www-authenticate", challenge))
    }

    /// Whether a policy or a lock refuses the call. Locks come first: nothing is evaluated where nothing may change.
    fn refusal(&self, call: &Call) -> Option<Answer> {
        let path = scope::lower(&call.path);
        let (deletes, writes) =
            (call.method == Method::DELETE, [Method::PUT, Method::PATCH].contains(&call.method));
        let locked = self.locks.iter().find(|(scope, lock)| {
            let stops = match lock {
                Lock::CannotDelete => deletes,
                Lock::ReadOnly => deletes || writes,
            };
            stops && scope::contains(scope, &path)
        });
        if let Some((scope, _)) = locked {
            let verb = if deletes { "delete" } else { "write" };
            let message = format!(
                "The scope '{}' cannot perform {verb} operation because following scope(s) are locked: '{scope}'. Please remove the lock and try again.",
                call.path
            );
            return Some(Answer::refusal(409, "ScopeLocked", message));
        }
        let denied = self
            .denied
            .iter()
            .find(|(scope, _)| (writes || deletes) && scope::contains(scope, &path));
        if let Some((scope, name)) = denied {
            let message = format!(
                "The client has permission to perform the action on scope '{}'; however, the access is denied because of the deny assignment with name '{name}' and Id '{name}' at scope '{scope}'.",
                call.path
            );
            return Some(Answer::refusal(403, "DenyAssignmentAuthorizationFailed", message));
        }
        let (_, policy) =
            self.denials.iter().find(|(scope, _)| writes && scope::contains(scope, &path))?;
        let name = scope::name(&call.path);
        let message = format!(
            "Resource '{name}' was disallowed by policy. Policy identifiers: '[{{\"policyAssignment\":{{\"name\":\"{policy}\"}}}}]'."
        );
        let info = json!({"policyAssignmentName": policy, "policyDefinitionEffect": "deny"});
        let error = json!({
            "code": "RequestDisallowedByPolicy", "target": name, "message": message,
            "additionalInfo": [{"type": "PolicyViolation", "info": info}],
        });
        Some(Answer::json(403, json!({"error": error})))
    }
}

/// What an obstacle makes of a call, where there is one. The same write asked for twice is one operation.
pub(super) fn meet(
    state: &mut State,
    call: &Call,
    caller: &Caller,
    now: Timestamp,
) -> Option<Answer> {
    if let Some(refusal) = state.obstacles.refusal(call) {
        return Some(refusal);
    }
    let path = scope::lower(&call.path);
    let obstacles = &mut state.obstacles;
    let is_write = ![Method::GET, Method::HEAD, Method::POST].contains(&call.method);
    let of = scope::resource_type(&call.path).filter(|_| is_write)?;
    let (_, duration) = obstacles.slow.iter().find(|(slow, _)| slow.eq_ignore_ascii_case(&of))?;
    let same = |running: &Running| {
        running.call.method == call.method && scope::lower(&running.call.path) == path
    };
    if !obstacles.running.iter().any(same) {
        let ends_at = later(now, *duration);
        obstacles.running.push(Running { call: call.clone(), caller: caller.clone(), ends_at });
    }
    let location =
        format!("https://{ARM_HOST}{}/operationresults/1?api-version=2024-11-30", call.path);
    let taken = Answer::empty(202).with_header("location", location);
    Some(taken.with_header("retry-after", RETRY_AFTER_SECONDS.to_string()))
}

const RETRY_AFTER_SECONDS: u32 = 20;

/// Gives every write that is over its effect.
pub(super) fn finish_due(azure: &Azure, state: &mut State, now: Timestamp) {
    while let Some(at) = state.obstacles.running.iter().position(|one| one.ends_at <= now) {
        let Running { call, caller, .. } = state.obstacles.running.remove(at);
        let settings = &azure.0.settings;
        let mut work = Work { settings, state, call: &call, caller: &caller, now };
        // Whoever asked has long hung up: a refusal is seen in what is not there.
        let _unheard = arm::dispatch(&mut work);
    }
}
