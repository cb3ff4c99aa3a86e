//! Looking at queues without touching them.

use super::{Message, ServiceBus, Session, State, queue::Queue};
use jiff::Timestamp;
use serde_json::{Value, json};

impl ServiceBus {
    /// How many messages a queue holds: waiting, locked and scheduled, dead letters apart.
    pub fn depth(&self, queue: &str) -> usize {
        self.messages(queue).len()
    }

    /// The messages of a queue by sequence number, the scheduled ones last.
    pub fn messages(&self, queue: &str) -> Vec<Message> {
        self.on_shelf(queue, |queue, _, _| queue.messages()).unwrap_or_default()
    }

    /// The dead letters of a queue.
    pub fn dead_letters(&self, queue: &str) -> Vec<Message> {
        self.on_shelf(queue, |queue, _, _| queue.dead.messages()).unwrap_or_default()
    }

    /// The sessions of a queue of which somebody works on a message now.
    pub fn busy_sessions(&self, queue: &str) -> Vec<String> {
        let messages = self.messages(queue).into_iter();
        let busy = messages.filter(|message| matches!(message.state, State::Locked(_)));
        busy.filter_map(|message| message.properties.session_id).collect()
    }

    /// When something becomes deliverable from `source` without anybody sending: a scheduled message is due
    /// or a lock ends.
    pub fn next_change(&self, source: &str) -> Option<Timestamp> {
        self.on_shelf(source, |queue, dead, _| queue.next_change(dead)).ok().flatten()
    }

    /// Whether a message can be received now; on a queue with sessions, outside the sessions that are held.
    pub fn has_waiting(&self, source: &str) -> bool {
        self.on_shelf(source, |queue, dead, _| queue.has_waiting(dead)).unwrap_or(false)
    }

    /// Whether a held session has a message to receive.
    pub fn has_waiting_in(&self, session: &Session) -> bool {
        let waits = |queue: &mut Queue, _, _| queue.main.has_waiting(Some(&session.id));
        self.on_shelf(&session.queue, waits).unwrap_or(false)
    }

    /// All queues with their messages, as JSON.
    pub fn dump(&self) -> Value {
        let names: Vec<String> =
            self.world().queues.values().map(|queue| queue.name.clone()).collect();
        let queues: serde_json::Map<String, Value> = names
            .into_iter()
            .map(|name| {
                let value = json!({
                    "messages": self.messages(&name),
                    "deadLetters": self.dead_letters(&name),
                });
                (name, value)
            })
            .collect();
        json!({ "namespace": self.namespace(), "queues": queues })
    }
}
