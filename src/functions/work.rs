//! What the functions wake: the seam between the host's deliveries and the rounds.

use crate::domain::{
    command::{Order, Refused},
    fleet_status::FleetStatus,
    ids::TargetId,
    message::Message,
    records::ParkedPlan,
    status::Status,
};
use async_trait::async_trait;
use serde::Serialize;
use std::fmt;

/// The work behind the functions. Dropping a future ends the work at its next wait, as the end of the process
/// would; the next round finishes it.
#[async_trait]
pub trait Work: Send + Sync {
    /// One round for the message's unit. Whatever the round itself can deal with (a retry, a follow-up, parking)
    /// is [`Outcome::Done`].
    async fn round(&self, message: Message) -> Outcome;

    /// Carries an operator's order out.
    ///
    /// Errors: it asks for what nobody of this fleet can do.
    async fn command(&self, order: Order) -> Result<Outcome, Refused>;

    /// Looks over the whole fleet and wakes what drifts.
    async fn sweep(&self) -> Outcome;

    /// Records a message that ten deliveries could not deal with.
    async fn dead_letter(&self, letter: DeadLetter) -> Outcome;

    /// Keeps what is on our queue and no message of ours, with its reason.
    async fn park_foreign(&self, what: NotAMessage) -> Outcome;

    /// Whether any rule can match a target of this path, or what lies below it. Must be true while the fleet's
    /// file cannot be read: a bad file never loses a hook.
    fn could_match(&self, target: TargetId, path: &str) -> bool;

    fn health(&self) -> Health;

    /// What is told of every unit, for people with the `function` key; or why that cannot be read.
    async fn fleet(&self) -> Result<Told, String>;
}

/// The fleet as its rounds told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Told {
    /// Missing while the fleet's file is bad.
    pub fleet: Option<String>,
    pub units: Vec<Status>,
    /// What sweeps found of the fleet as a whole.
    pub fleet_status: Option<FleetStatus>,
    /// Removals that the brake holds.
    pub removals: Option<ParkedPlan>,
}

/// How an invocation ended, as far as the host is to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message is dealt with. The lines go into the function's own log, one each, and hold no secret.
    Done { logs: Vec<String> },
    /// Nothing could be recorded: the broker is to deliver again, at once. One sentence for a log.
    Failed { text: String },
}

impl Outcome {
    pub fn done(line: impl Into<String>) -> Self {
        Self::Done { logs: vec![line.into()] }
    }

    pub fn failed(text: impl Into<String>) -> Self {
        Self::Failed { text: text.into() }
    }
}

/// A message of ours that the broker gave up on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub message: Message,
    pub message_id: Option<String>,
    pub delivery_count: Option<u64>,
    /// The broker's own, such as `MaxDeliveryCountExceeded`.
    pub reason: Option<String>,
    pub description: Option<String>,
}

/// Something on our queue that [`Message::decode`] refused.
#[derive(Clone, PartialEq, Eq)]
pub struct NotAMessage {
    /// The function that received it.
    pub function: &'static str,
    pub message_id: Option<String>,
    pub session_id: Option<String>,
    pub delivery_count: Option<u64>,
    /// Why it is none of ours, without any of its text.
    pub reason: String,
    /// What it held. Unknown text: it belongs in no log.
    pub body: Vec<u8>,
}

impl fmt::Debug for NotAMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { function, message_id, reason, body, .. } = self;
        write!(f, "{function}: {message_id:?} of {} bytes: {reason}", body.len())
    }
}

/// What anybody may know: three fields, no names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// Whether rounds can run: false while the fleet's file is bad.
    pub ready: bool,
    pub version: String,
    /// Digest of the configuration in force.
    pub configuration: String,
}
