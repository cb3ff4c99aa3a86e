//! One queue: what it takes, what it drops as a duplicate, and what time does to it.

use super::{
    Error, Lock, Message, Properties, Shelf, State,
    session::Sessions,
    shelf::{Held, after},
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// Ids may have this many characters (azure.md §9.4).
const ID_LENGTH_MAX: usize = 128;

/// What is fixed when a queue is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueSettings {
    pub requires_session: bool,
    /// How long a `MessageId` is remembered; none means that copies are kept.
    pub duplicate_detection: Option<SignedDuration>,
    /// After this many failed deliveries a message becomes a dead letter.
    pub max_delivery_count: u32,
    pub lock_duration: SignedDuration,
    /// The largest message in bytes, properties included.
    pub message_size_max: usize,
    /// How long a message lives that says nothing about it.
    pub time_to_live: SignedDuration,
}

impl Default for QueueSettings {
    /// A plain queue of the Standard tier with the portal's defaults.
    fn default() -> Self {
        Self {
            requires_session: false,
            duplicate_detection: None,
            max_delivery_count: 10,
            lock_duration: SignedDuration::from_secs(60),
            message_size_max: 256 * 1024,
            time_to_live: SignedDuration::from_hours(14 * 24),
        }
    }
}

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Sent {
    /// It waits under this sequence number.
    Enqueued(i64),
    /// It will wait at its scheduled time; until then it has this sequence number.
    Scheduled(i64),
    /// A message with its id was sent before: the sender is told that all is well and this one is dropped.
    Duplicate,
}

pub(super) struct Queue {
    pub(super) name: String,
    pub(super) settings: QueueSettings,
    pub(super) main: Shelf,
    pub(super) dead: Shelf,
    pub(super) sessions: Sessions,
    scheduled: Vec<Message>,
    /// When each message id was first sent.
    seen: BTreeMap<String, Timestamp>,
    sequence: i64,
}

impl Queue {
    pub(super) fn new(name: &str, settings: QueueSettings) -> Self {
        Self {
            name: name.to_owned(),
            settings,
            main: Shelf::new(name.to_owned()),
            dead: Shelf::new(format!("{name}{}", super::DEAD_LETTERS)),
            sessions: Sessions::default(),
            scheduled: Vec::new(),
            seen: BTreeMap::new(),
            sequence: 0,
        }
    }

    /// Counts every change of what can be received.
    pub(super) fn revision(&self) -> (u64, u64, u64) {
        (self.main.revision, self.dead.revision, self.sessions.revision)
    }

    pub(super) fn shelf(&mut self, dead: bool) -> &mut Shelf {
        if dead { &mut self.dead } else { &mut self.main }
    }

    /// Why the queue does not take a message, if so.
    pub(super) fn check(&self, body: &[u8], properties: &Properties) -> Result<(), Error> {
        let size = body.len()
            + properties
                .application_properties
                .iter()
                .map(|(name, value)| name.len() + value.to_string().len())
                .sum::<usize>();
        if size > self.settings.message_size_max {
            return Err(Error::TooLarge { size, size_max: self.settings.message_size_max });
        }
        let ids = [("MessageId", &properties.message_id), ("SessionId", &properties.session_id)];
        for (what, id) in ids {
            if id.as_ref().is_some_and(|id| id.chars().count() > ID_LENGTH_MAX) {
                return Err(Error::BadMessage(format!("{what} has more than 128 characters")));
            }
        }
        match (&properties.session_id, &properties.partition_key) {
            (None, _) if self.settings.requires_session => {
                Err(Error::SessionIdMissing { queue: self.name.clone() })
            }
            (Some(session), Some(partition)) if session != partition => {
                Err(Error::BadMessage("SessionId and PartitionKey differ".to_owned()))
            }
            (None | Some(_), _) => Ok(()),
        }
    }

    /// Keeps a message that [`Queue::check`] has let pass.
    pub(super) fn send(&mut self, body: Vec<u8>, properties: Properties, now: Timestamp) -> Sent {
        if let (Some(_), Some(id)) = (self.settings.duplicate_detection, &properties.message_id) {
            if self.seen.contains_key(id) {
                return Sent::Duplicate;
            }
            self.seen.insert(id.clone(), now);
        }
        self.sequence += 1;
        let scheduled = properties.scheduled_enqueue_time.filter(|at| *at > now);
        let live = properties.time_to_live.unwrap_or(self.settings.time_to_live);
        let enqueued_at = scheduled.unwrap_or(now);
        let message = Message {
            sequence_number: self.sequence,
            body,
            enqueued_at,
            expires_at: after(enqueued_at, live.min(self.settings.time_to_live)),
            deliveries_failed: 0,
            state: scheduled.map_or(State::Waiting, State::Scheduled),
            properties,
            dead_letter_reason: None,
            dead_letter_description: None,
            dead_letter_source: None,
        };
        self.main.revision += 1;
        if scheduled.is_some() {
            self.scheduled.push(message);
            return Sent::Scheduled(self.sequence);
        }
        self.main.put(message);
        Sent::Enqueued(self.sequence)
    }

    /// Does what time does: scheduled messages arrive, locks end, old messages and remembered ids go.
    pub(super) fn pass_time(&mut self, now: Timestamp) {
        if let Some(window) = self.settings.duplicate_detection {
            self.seen.retain(|_, sent| after(*sent, window) > now);
        }
        self.scheduled.sort_by_key(|message| (message.enqueued_at, message.sequence_number));
        let due = self.scheduled.partition_point(|message| message.enqueued_at <= now);
        for mut message in self.scheduled.drain(..due).collect::<Vec<_>>() {
            self.sequence += 1;
            message.sequence_number = self.sequence;
            message.state = State::Waiting;
            self.main.put(message);
        }
        let sessions = self.sessions.end(now);
        self.unlock(now, |message, held| {
            let id = message.properties.session_id.as_ref();
            id.is_some_and(|id| sessions.contains(id)) || held.ends() <= now
        });
        self.dead.unlock(None, |_, held| held.ends() <= now);
        self.main.expire(now);
    }

    /// Ends locks on messages that are no dead letters, and buries those that have failed too often.
    pub(super) fn unlock(&mut self, now: Timestamp, ends: impl Fn(&Message, &Held) -> bool) {
        let most = self.settings.max_delivery_count;
        for message in self.main.unlock(Some(most), ends) {
            let description =
                format!("Message could not be consumed after {most} delivery attempts.");
            self.bury(message, "MaxDeliveryCountExceeded", &description, now);
        }
    }

    pub(super) fn abandon(&mut self, dead: bool, lock: &Lock, now: Timestamp) -> Result<(), Error> {
        let mine = |message: &Message, held: &Held| {
            message.sequence_number == lock.sequence_number && held.token == lock.token
        };
        let before = self.revision();
        if dead {
            self.dead.unlock(None, mine);
        } else {
            self.unlock(now, mine);
        }
        if before == self.revision() { Err(Error::LockLost) } else { Ok(()) }
    }

    /// Makes a message a dead letter.
    pub(super) fn bury(
        &mut self,
        mut message: Message,
        reason: &str,
        description: &str,
        now: Timestamp,
    ) {
        message.dead_letter_reason = Some(reason.to_owned());
        message.dead_letter_description = Some(description.to_owned());
        message.dead_letter_source = Some(self.name.clone());
        message.state = State::Waiting;
        // A dead letter does not expire.
        message.expires_at = Timestamp::MAX;
        let properties = &mut message.properties.application_properties;
        properties.insert("DeadLetterReason".to_owned(), reason.into());
        properties.insert("DeadLetterErrorDescription".to_owned(), description.into());
        tracing::debug!(queue = %self.name, at = %now, "a message became a dead letter");
        self.dead.put(message);
    }

    pub(super) fn lose_locks(&mut self, dead: bool, now: Timestamp) {
        self.sessions.clear();
        if dead {
            self.dead.unlock(None, |_, _| true);
        } else {
            self.unlock(now, |_, _| true);
        }
    }

    pub(super) fn has_waiting(&self, dead: bool) -> bool {
        if dead {
            return self.dead.has_waiting(None);
        }
        self.main.waiting().any(|message| {
            let id = message.properties.session_id.as_ref();
            !self.settings.requires_session || id.is_some_and(|id| !self.sessions.is_held(id))
        })
    }

    pub(super) fn next_change(&self, dead: bool) -> Option<Timestamp> {
        if dead {
            return self.dead.next_unlock();
        }
        let scheduled = self.scheduled.iter().map(|message| message.enqueued_at).min();
        let ends = self.main.next_unlock().into_iter().chain(self.next_session_end());
        // A lock that is renewed without limit never ends.
        let ends = ends.filter(|end| *end < Timestamp::MAX);
        scheduled.into_iter().chain(ends).min()
    }

    pub(super) fn messages(&self) -> Vec<Message> {
        self.main.messages().into_iter().chain(self.scheduled.iter().cloned()).collect()
    }
}
