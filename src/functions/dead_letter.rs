//! Woken by what the broker gave up on. Its queue has no dead letters of its own: a failure here would come back at once
//! and for ever, so one is logged and the message ends. The sweep finds the unit again.

use super::{
    answer::Answer,
    app::App,
    envelope::{Delivery, Envelope, Undecodable},
    invocation::settle,
    round,
    work::{DeadLetter, Outcome},
};
use crate::domain::message::Message;
use axum::{
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::Value;
use tracing::{Instrument, error};

pub(super) const NAME: &str = "dead_letter";

pub(super) async fn answer(app: &App, envelope: Envelope) -> Result<Answer, Undecodable> {
    let mut outcomes = Vec::new();
    for delivery in envelope.deliveries()? {
        outcomes.push(deal(app, delivery).await);
    }
    Ok(settle(outcomes))
}

/// Ends the message whatever became of it: failed, panicked, too late or too large. Only what the host would never send
/// stays refused.
pub(super) fn end(response: Response) -> Response {
    let status = response.status();
    if status.is_success() || status == StatusCode::BAD_REQUEST {
        return response;
    }
    let what = "a dead letter could not be recorded, and is dropped";
    error!(http.response.status_code = status.as_u16(), "{what}");
    Answer::done(&[what.to_owned()]).into_response()
}

async fn deal(app: &App, delivery: Delivery) -> Outcome {
    let property =
        |key: &str| delivery.properties.get(key).and_then(Value::as_str).map(str::to_owned);
    match Message::decode(&delivery.body) {
        Ok(message) => {
            let span = round::span(&message, &delivery);
            let letter = DeadLetter {
                message,
                message_id: delivery.message_id.clone(),
                delivery_count: delivery.delivery_count,
                reason: property("DeadLetterReason"),
                description: property("DeadLetterErrorDescription"),
            };
            app.work.dead_letter(letter).instrument(span).await
        }
        Err(refusal) => round::park(app, NAME, delivery, refusal.to_string()).await,
    }
}
