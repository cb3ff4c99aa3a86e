//! Puts the rounds behind the functions.

use super::{
    queue::{Queue, QueueError},
    work::{DeadLetter, Health, NotAMessage, Outcome, Told, Work},
};
use crate::{
    adapters::service_bus::{Letter, ServiceBus},
    domain::{
        command::{Order, Refused},
        fleet::Fleet,
        ids::TargetId,
        message::{Message, Outgoing},
    },
    reconcile::{self, Foreign, Rounds},
    telemetry::meters,
};
use async_trait::async_trait;
use tracing::{error, warn};

/// The rounds, as the functions call them.
pub struct Engine {
    rounds: Rounds,
}

impl Engine {
    pub fn new(rounds: Rounds) -> Self {
        Self { rounds }
    }

    fn fleet(&self) -> Option<&Fleet> {
        self.rounds.fleet().ok().map(|fleet| &**fleet)
    }
}

impl From<reconcile::Outcome> for Outcome {
    fn from(outcome: reconcile::Outcome) -> Self {
        match outcome {
            reconcile::Outcome::Done(logs) => Self::Done { logs },
            reconcile::Outcome::Failed(text) => Self::Failed { text },
        }
    }
}

#[async_trait]
impl Work for Engine {
    async fn round(&self, message: Message) -> Outcome {
        self.rounds.round(&message).await.into()
    }

    async fn command(&self, order: Order) -> Result<Outcome, Refused> {
        self.rounds.command(&order).await.map(Into::into)
    }

    async fn sweep(&self) -> Outcome {
        self.rounds.sweep().await.into()
    }

    async fn dead_letter(&self, letter: DeadLetter) -> Outcome {
        meters::dead_letter();
        let reason = letter.reason.as_deref().unwrap_or("the broker gave no reason");
        self.rounds.dead_letter(&letter.message, reason).await.into()
    }

    async fn park_foreign(&self, what: NotAMessage) -> Outcome {
        meters::foreign_message(what.function);
        let foreign = Foreign {
            function: what.function,
            message_id: what.message_id.as_deref(),
            reason: &what.reason,
            body: &what.body,
        };
        match self.rounds.keep_foreign(&foreign).await {
            Ok(place) => {
                warn!("a message is kept in {place}: {}", what.reason);
                Outcome::done(format!("kept in {place}: {}", what.reason))
            }
            // The broker delivers again, and in the end keeps it among the dead letters.
            Err(failure) => {
                error!("a message could not be kept: {}", failure.text);
                Outcome::failed(failure.text)
            }
        }
    }

    fn could_match(&self, target: TargetId, path: &str) -> bool {
        self.fleet().is_none_or(|fleet| fleet.could_match(target, path))
    }

    fn health(&self) -> Health {
        let digest = self.fleet().map(|fleet| fleet.settings().digest.clone());
        Health {
            ready: digest.is_some(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            configuration: digest.unwrap_or_else(|| "fleet.yaml is not valid".to_owned()),
        }
    }

    async fn fleet(&self) -> Result<Told, String> {
        let told = self.rounds.told().await.map_err(|failure| failure.text)?;
        let name = self.fleet().map(|fleet| fleet.settings().name.to_string());
        let reconcile::Told { units, fleet: fleet_status, removals, .. } = told;
        Ok(Told { fleet: name, units, fleet_status, removals })
    }
}

#[async_trait]
impl Queue for ServiceBus {
    async fn send(&self, queue: &str, messages: &[Outgoing]) -> Result<(), QueueError> {
        let letters: Vec<Letter> = messages.iter().map(reconcile::letter).collect();
        Self::send(self, queue, &letters).await.map_err(|error| {
            let class = error.class();
            QueueError { class, text: reconcile::Failure::from(error).text }
        })
    }
}
