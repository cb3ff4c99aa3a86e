//! Woken by the queue `rounds`: one round for one unit. 2xx ends the message. Anything else makes the broker deliver it
//! again at once, ten times, and is kept for what could not even be recorded.

use super::{
    answer::Answer,
    app::App,
    envelope::{Delivery, Envelope, Undecodable},
    invocation::settle,
    work::{NotAMessage, Outcome},
};
use crate::{
    domain::message::Message,
    telemetry::{self, meters},
};
use tracing::{Instrument, Span, field::Empty, info_span, warn};

pub(super) const NAME: &str = "round";

pub(super) async fn answer(app: &App, envelope: Envelope) -> Result<Answer, Undecodable> {
    let mut outcomes = Vec::new();
    for delivery in envelope.deliveries()? {
        outcomes.push(deal(app, delivery).await);
    }
    Ok(settle(outcomes))
}

async fn deal(app: &App, delivery: Delivery) -> Outcome {
    let read = Message::decode(&delivery.body).map_err(|refusal| refusal.to_string());
    match read.and_then(|message| in_its_session(message, delivery.session_id.as_deref())) {
        Ok(message) => {
            tell_age(app, "rounds", &delivery);
            let span = span(&message, &delivery);
            app.work.round(message).instrument(span).await
        }
        Err(reason) => park(app, NAME, delivery, reason).await,
    }
}

/// Tells how long a message was due before its work began.
pub(super) fn tell_age(app: &App, queue: &'static str, delivery: &Delivery) {
    if let Some(due) = delivery.enqueued_at {
        meters::queue_age(queue, app.clock.now().duration_since(due));
    }
}

/// A message in another session could run beside a round of its unit.
fn in_its_session(message: Message, session: Option<&str>) -> Result<Message, String> {
    match session {
        Some(session) if session != message.unit.to_string() => {
            Err("its session is not its unit".to_owned())
        }
        Some(_) | None => Ok(message),
    }
}

/// Hands on what nobody can act on, so that it is kept and not delivered for ever.
pub(super) async fn park(
    app: &App,
    function: &'static str,
    delivery: Delivery,
    reason: String,
) -> Outcome {
    let message_id = delivery.message_id;
    warn!(message.id = message_id, "keeps what nobody can act on: {reason}");
    let what = NotAMessage {
        function,
        message_id,
        session_id: delivery.session_id,
        delivery_count: delivery.delivery_count,
        reason,
        body: delivery.body,
    };
    app.work.park_foreign(what).await
}

/// Carries the message's own trace on, from the hook to the settled runner, and points at the invocation's.
pub(super) fn span(message: &Message, delivery: &Delivery) -> Span {
    let span = info_span!(
        "message",
        unit = %message.unit,
        reason = message.reason.as_str(),
        event = message.event,
        attempt = message.attempt,
        cause = message.cause,
        delivery.count = delivery.delivery_count,
        message.id = delivery.message_id,
        sequence_number = delivery.sequence_number,
        trace.id = Empty,
    );
    if message.traceparent.is_some() {
        telemetry::continue_trace(&span, message.traceparent.as_deref());
        telemetry::link_current(&span);
    }
    if let Some(id) = telemetry::trace_id(&span) {
        span.record("trace.id", id);
    }
    span
}
