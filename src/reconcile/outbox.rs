//! Where a round's messages go: to the queue `rounds`, or, for who applies from a desk, to a list in this process.

use super::Failure;
use crate::{
    adapters::service_bus::{Letter, ServiceBus},
    domain::message::{Message, Outgoing},
};
use jiff::Timestamp;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// The one queue of units.
const ROUNDS: &str = "rounds";

/// Takes messages, now or for later.
#[derive(Clone)]
pub enum Outbox {
    Queue(ServiceBus),
    Here(Arc<Here>),
}

impl Outbox {
    /// Sends all of them, or says why not; a repeat is safe, because the ids are the same.
    pub(super) async fn send(&self, outgoing: &[Outgoing]) -> Result<(), Failure> {
        if outgoing.is_empty() {
            return Ok(());
        }
        match self {
            Self::Queue(bus) => {
                let letters: Vec<Letter> = outgoing.iter().map(letter).collect();
                bus.send(ROUNDS, &letters).await?;
            }
            Self::Here(here) => here.put(outgoing),
        }
        Ok(())
    }
}

pub fn letter(outgoing: &Outgoing) -> Letter {
    Letter {
        body: String::from_utf8_lossy(&outgoing.message.encode()).into_owned(),
        message_id: outgoing.message_id.clone(),
        session_id: Some(outgoing.session_id.clone()),
        scheduled_for: outgoing.scheduled_for,
    }
}

/// A queue of one process: its messages end with it, which loses nothing, because the world tells the next round all.
#[derive(Default)]
pub struct Here(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    messages: Vec<Outgoing>,
    /// Ids ever taken: the second of two is dropped.
    known: BTreeSet<String>,
}

impl Here {
    fn put(&self, outgoing: &[Outgoing]) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for one in outgoing {
            if waiting.known.insert(one.message_id.clone()) {
                waiting.messages.push(one.clone());
            }
        }
    }

    /// Takes what is due, at most one message a unit.
    pub fn due(&self, now: Timestamp) -> Vec<Message> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut units, mut due) = (BTreeSet::new(), Vec::new());
        waiting.messages.retain(|one| {
            let is_due = one.scheduled_for.is_none_or(|at| at <= now)
                && units.insert(one.message.unit.clone());
            if is_due {
                due.push(one.message.clone());
            }
            !is_due
        });
        due
    }

    /// When the next message is due; `None`: there is none.
    pub fn next_at(&self) -> Option<Timestamp> {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.messages.iter().map(|one| one.scheduled_for.unwrap_or(Timestamp::MIN)).min()
    }
}
