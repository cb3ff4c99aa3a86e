//! Azure Resource Manager: who calls, in which version, how often, and which handler it is for.

pub(super) mod assignments;
pub(super) mod clusters;
mod credentials;
mod definitions;
pub(super) mod identities;
mod resources;
pub(super) mod subscriptions;
mod versions;
mod work;

pub(super) use work::Work;

use super::{
    Azure,
    answer::{Answer, Answered},
    call::Call,
    graph, obstacles, scope, throttle,
    token::{self, Caller},
};
use axum::{body::Body, http::Request};
use jiff::Timestamp;

const AUDIENCE: &str = "https://management.azure.com";

pub(super) async fn answer(azure: &Azure, request: Request<Body>) -> Answer {
    let call = Call::read(request).await;
    if call.lacks_length() {
        return Answer::empty(411);
    }
    let answer = answer_at_once(azure, &call);
    if let Some(identity) = &answer.holds {
        let _held = Held { azure, identity };
        #[expect(
            clippy::disallowed_methods,
            reason = "a credential's write takes time, and refuses others meanwhile"
        )]
        tokio::time::sleep(azure.0.settings.credential_write).await;
    }
    answer
}

/// Lets go of an identity even where the caller hung up.
struct Held<'work> {
    azure: &'work Azure,
    identity: &'work str,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(record) = self.azure.state().identity_mut(self.identity) {
            record.busy = false;
        }
    }
}

fn answer_at_once(azure: &Azure, call: &Call) -> Answer {
    let now = azure.0.clock.now();
    let mut state = azure.state();
    let (request, correlation) = (state.random_guid(), state.random_guid());
    obstacles::finish_due(azure, &mut state, now);
    let answered = authenticate(&state.signing_key, call, now).and_then(|caller| {
        state.obstacles.check_token(&caller, now)?;
        versions::check(call)?;
        let left = throttle::admit(&mut state, &azure.0.settings, call, &caller, now)?;
        let met = obstacles::meet(&mut state, call, &caller, now);
        let mut work =
            Work { settings: &azure.0.settings, state: &mut state, call, caller: &caller, now };
        let answer = match met {
            Some(answer) => answer,
            None => dispatch(&mut work).unwrap_or_else(|refusal| refusal),
        };
        Ok(answer.with_header(left.header, left.calls.to_string()))
    });
    answered
        .unwrap_or_else(|refusal| refusal)
        .with_header("x-ms-request-id", request.to_string())
        .with_header("x-ms-correlation-request-id", correlation.to_string())
}

fn authenticate(key: &[u8], call: &Call, now: Timestamp) -> Result<Caller, Answer> {
    let refuse = |code: &str, message: String| {
        let challenge = "Bearer authorization_uri=\"https://login.microsoftonline.com/\", error=\"invalid_token\"";
        Answer::refusal(401, code, message).with_header("www-authenticate", challenge)
    };
    let Some(text) = call.bearer() else {
        let message = "Authentication failed. The 'Authorization' header is missing.";
        return Err(refuse("AuthenticationFailed", message.to_owned()));
    };
    let Some(caller) = token::read(key, text) else {
        return Err(refuse(
            "InvalidAuthenticationToken",
            "The access token is invalid.".to_owned(),
        ));
    };
    if !token::is_for(&caller.audience, AUDIENCE) {
        let message = format!(
            "The access token has been obtained for wrong audience or resource '{}'. It should exactly match with one of the allowed audiences '{AUDIENCE}/'.",
            caller.audience
        );
        return Err(refuse("InvalidAuthenticationTokenAudience", message));
    }
    if caller.expires_at <= now {
        let message = format!(
            "The access token expiry UTC time '{}' is earlier than current UTC time '{now}'.",
            caller.expires_at
        );
        return Err(refuse("ExpiredAuthenticationToken", message));
    }
    Ok(caller)
}

pub(super) fn dispatch(work: &mut Work<'_>) -> Answered {
    let path = work.call.path.clone();
    if let Some((scope, tail)) = scope::split_last_provider(&path) {
        let tail: Vec<&str> = tail.split('/').collect();
        let is = |at: usize, word: &str| {
            tail.get(at).is_some_and(|segment| segment.eq_ignore_ascii_case(word))
        };
        if is(0, "Microsoft.Authorization") && is(1, "roleAssignments") {
            return assignments::answer(work, scope, &tail[2..]);
        }
        if is(0, "Microsoft.Authorization") && is(1, "roleDefinitions") {
            return definitions::answer(work, scope, &tail[2..]);
        }
        if scope.is_empty() && is(0, "Microsoft.ResourceGraph") && is(1, "resources") {
            return graph::answer(work);
        }
    }
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    if !segments.first().is_some_and(|first| first.eq_ignore_ascii_case("subscriptions")) {
        return Err(work.not_routed());
    }
    let Some(subscription) = segments.get(1) else { return subscriptions::list(work) };
    if !work.state.subscriptions.contains_key(&subscription.to_ascii_lowercase()) {
        let message = format!("The subscription '{subscription}' could not be found.");
        return Err(Answer::refusal(404, "SubscriptionNotFound", message));
    }
    let key = |at: usize| segments.get(at).map(|segment| segment.to_ascii_lowercase());
    match (key(2).as_deref(), key(4).as_deref()) {
        (None, _) => subscriptions::get(work, subscription),
        (Some("resourcegroups"), None) => subscriptions::groups(work, segments.get(3).copied()),
        (Some("resourcegroups"), Some("resources")) => resources::list_group(work),
        (Some("resourcegroups"), Some("providers")) if segments.len() > 6 => {
            let group = segments[..4].join("/");
            in_group(work, &format!("/{group}"), &segments[5..])
        }
        (Some("providers"), _) if segments.len() == 5 => {
            resources::list_type(work, &format!("/subscriptions/{subscription}"), &segments[3..])
        }
        (Some(_), _) => Err(work.not_routed()),
    }
}

/// What lies under a provider in a resource group: `tail` is namespace, type, name and so on.
fn in_group(work: &mut Work<'_>, group: &str, tail: &[&str]) -> Answered {
    let of = format!("{}/{}", tail[0], tail[1]).to_ascii_lowercase();
    let child = tail.get(3).map(|segment| segment.to_ascii_lowercase());
    match (of.as_str(), child.as_deref()) {
        ("microsoft.managedidentity/userassignedidentities", None) => {
            identities::answer(work, group, tail.get(2).copied())
        }
        (
            "microsoft.managedidentity/userassignedidentities",
            Some("federatedidentitycredentials"),
        ) => credentials::answer(work, group, tail[2], tail.get(4).copied()),
        ("microsoft.containerservice/managedclusters", Some(action))
            if work.call.method == "POST" =>
        {
            clusters::act(work, group, tail[2], action)
        }
        _ if tail.len().is_multiple_of(2) => resources::list_type(work, group, tail),
        _ => resources::answer(work, group, tail),
    }
}
