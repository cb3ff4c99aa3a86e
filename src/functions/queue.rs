//! Where messages go out: Service Bus, behind a trait because its client library is to be replaced.

use crate::domain::{class::Class, message::Outgoing};
use async_trait::async_trait;

/// The queue of rounds; `rounds` everywhere: in the namespace, in function.json and here.
pub const ROUNDS: &str = "rounds";

/// Sends messages. Sending the same message twice is safe: its id makes the broker drop the second.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Ends when the broker has all of them, in order.
    async fn send(&self, queue: &str, messages: &[Outgoing]) -> Result<(), QueueError>;
}

/// A queue that did not take a message.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub struct QueueError {
    pub class: Class,
    /// One sentence for a log, without secrets.
    pub text: String,
}
