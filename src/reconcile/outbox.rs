//! Sends messages to `rounds`.

use super::Failure;
use crate::{
    adapters::service_bus::{Letter, ServiceBus},
    domain::message::Outgoing,
};

/// The one queue of units.
pub(super) const ROUNDS: &str = "rounds";

/// Sends all of them, or says why not; a repeat is safe, because the ids are the same.
pub(super) async fn send(bus: &ServiceBus, outgoing: &[Outgoing]) -> Result<(), Failure> {
    if outgoing.is_empty() {
        return Ok(());
    }
    let letters: Vec<Letter> = outgoing.iter().map(letter).collect();
    bus.send(ROUNDS, &letters).await?;
    Ok(())
}

pub fn letter(outgoing: &Outgoing) -> Letter {
    Letter {
        body: String::from_utf8_lossy(&outgoing.message.encode()).into_owned(),
        message_id: outgoing.message_id.clone(),
        session_id: Some(outgoing.session_id.clone()),
        scheduled_for: outgoing.scheduled_for,
    }
}
