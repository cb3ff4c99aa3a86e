//! Woken by GitLab. Proves the delivery, puts one message on the queue and answers; touches nothing else.

use super::{
    answer::Reply,
    app::App,
    http::Call,
    queue::{QueueError, ROUNDS},
};
use crate::{
    domain::{
        class::Class,
        hook::{
            self, Event, Verdict,
            proof::{self, Proof},
        },
        ids::{TargetId, Unit},
        message::{Message, Reason},
    },
    telemetry::{self, meters, words::HookEnd},
};
use axum::http::{HeaderMap, StatusCode};
use serde_json::json;
use tracing::{debug, error, info, warn};

/// 2xx: dealt with. 401: not proven. 400: no event. 503: the queue did not take it; GitLab shows the delivery as failed.
/// Of what was sent, only ids reach the log.
pub(super) async fn reply(app: &App, call: Call<'_>) -> Reply {
    let now = app.clock.now();
    let delivery = delivery_id(&call);
    if let Err(refused) =
        proof::verify(&app.settings.hook_secrets, headers_of_proof(call.headers), call.body, now)
    {
        warn!(hook.delivery = delivery, hook.check = ?refused, "refused a delivery that does not prove itself");
        meters::hook(HookEnd::Refused);
        return Reply::error(StatusCode::UNAUTHORIZED, "the delivery does not prove itself");
    }
    let could_match = |target, path: &str| app.work.could_match(target, path);
    match hook::judge(bytes(call.headers, "x-gitlab-event"), call.body, could_match) {
        Verdict::Wake { target, event, full_path: _ } => wake(app, &delivery, target, event).await,
        Verdict::Ignore => {
            meters::hook(HookEnd::Ignored);
            debug!(hook.delivery = delivery, "dropped a delivery that concerns no runner");
            Reply::ok(json!({ "queued": null }))
        }
        Verdict::Malformed => {
            meters::hook(HookEnd::Malformed);
            warn!(hook.delivery = delivery, "refused a delivery that is no event");
            Reply::error(StatusCode::BAD_REQUEST, "the body is no event")
        }
    }
}

async fn wake(app: &App, delivery: &str, target: TargetId, event: Event) -> Reply {
    let unit = Unit::Target(target);
    let message = Message {
        event: Some(event.as_str().to_owned()),
        traceparent: telemetry::traceparent(),
        since: Some(app.clock.now()),
        ..Message::wake(unit.clone(), Reason::Hook, delivery.to_owned())
    };
    let event = event.as_str();
    let refusal = match tokio::time::timeout(app.queue_deadline, send(app, message)).await {
        Ok(Ok(())) => {
            meters::hook(HookEnd::Woke);
            info!(hook.delivery = delivery, unit = %unit, event, "`{event}` wakes `{unit}`");
            return Reply::ok(json!({ "queued": unit }));
        }
        Ok(Err(refusal)) => refusal,
        Err(_) => QueueError {
            class: Class::Retry { after: None },
            text: "the queue did not answer in time".to_owned(),
        },
    };
    meters::hook(HookEnd::Unqueued);
    // Whoever loses a hook to a passing failure has the sweep; what does not pass needs a person.
    match refusal.class {
        Class::Retry { .. } | Class::Wait { .. } | Class::Conflict => {
            warn!(hook.delivery = delivery, unit = %unit, event, "`{event}` for `{unit}` was not queued: {refusal}");
        }
        Class::Permanent => {
            error!(hook.delivery = delivery, unit = %unit, event, "`{event}` for `{unit}` cannot be queued: {refusal}");
        }
    }
    Reply::error(StatusCode::SERVICE_UNAVAILABLE, "the queue does not take messages now")
}

/// Sends again what the broker had only after the time it was scheduled for: it may have been dropped as the twin of a
/// message whose round had begun, and did not see what this one tells.
async fn send(app: &App, message: Message) -> Result<(), QueueError> {
    loop {
        let outgoing = message.clone().send(app.clock.now());
        app.queue.send(ROUNDS, std::slice::from_ref(&outgoing)).await?;
        if outgoing.scheduled_for.is_none_or(|then| app.clock.now() < then) {
            return Ok(());
        }
    }
}

fn headers_of_proof(headers: &HeaderMap) -> Proof<'_> {
    Proof {
        token: bytes(headers, "x-gitlab-token"),
        id: bytes(headers, "webhook-id"),
        timestamp: bytes(headers, "webhook-timestamp"),
        signature: bytes(headers, "webhook-signature"),
    }
}

/// What a repeated delivery shares with its first; before GitLab 17.4 there is no such thing, and the attempt's own id
/// has to do.
fn delivery_id(call: &Call<'_>) -> String {
    const IDS: [&str; 3] = ["webhook-id", "idempotency-key", "x-gitlab-webhook-uuid"];
    let plain = |id: &&str| {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        (1..=128).contains(&id.len()) && id.chars().all(known)
    };
    let given = IDS.iter().filter_map(|name| call.headers.get(*name)?.to_str().ok());
    let id = given.chain([call.invocation]).find(plain);
    id.unwrap_or("unnamed").to_owned()
}

fn bytes<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers.get(name).map(|value| value.as_bytes())
}
