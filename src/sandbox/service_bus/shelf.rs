//! Messages that can be received, each locked by at most one receiver: the queue itself, or its dead letters.

use super::{Error, Message, State};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The receiver's hold on one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// The queue, or `NAME/$deadletterqueue`.
    pub source: String,
    pub sequence_number: i64,
    pub token: Uuid,
}

/// A message in the hands of a receiver.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub message: Message,
    pub lock: Lock,
    /// From 1: this delivery included.
    pub delivery_count: u32,
    pub locked_until: Timestamp,
}

/// Ordered by sequence number.
pub(super) struct Shelf {
    source: String,
    entries: BTreeMap<i64, Entry>,
    /// Counts every change of what can be received.
    pub(super) revision: u64,
}

struct Entry {
    message: Message,
    lock: Option<Held>,
}

#[derive(Clone, Copy)]
pub(super) struct Held {
    pub(super) token: Uuid,
    pub(super) until: Timestamp,
    /// The receiver renews the lock by itself up to here.
    pub(super) renewed_until: Timestamp,
}

impl Held {
    pub(super) fn new(
        token: Uuid,
        now: Timestamp,
        lock_for: SignedDuration,
        renewed_for: SignedDuration,
    ) -> Self {
        Self { token, until: after(now, lock_for), renewed_until: after(now, renewed_for) }
    }

    pub(super) fn ends(&self) -> Timestamp {
        self.until.max(self.renewed_until)
    }

    pub(super) fn stop_renewing(&mut self, now: Timestamp, lock_for: SignedDuration) {
        let until = after(now, lock_for).min(self.ends());
        (self.until, self.renewed_until) = (until, until);
    }
}

pub(super) fn after(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

impl Shelf {
    pub(super) fn new(source: String) -> Self {
        Self { source, entries: BTreeMap::new(), revision: 0 }
    }

    pub(super) fn put(&mut self, message: Message) {
        self.revision += 1;
        self.entries.insert(message.sequence_number, Entry { message, lock: None });
    }

    /// Whether a message waits: of one session, or of any.
    pub(super) fn has_waiting(&self, session: Option<&str>) -> bool {
        self.waiting().any(|message| {
            session.is_none_or(|id| message.properties.session_id.as_deref() == Some(id))
        })
    }

    /// What can be received, first things first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &Message> {
        self.entries.values().filter(|entry| entry.lock.is_none()).map(|entry| &entry.message)
    }

    pub(super) fn lock_next(
        &mut self,
        session: Option<&str>,
        token: Uuid,
        now: Timestamp,
        lock_for: SignedDuration,
        renewed_for: SignedDuration,
    ) -> Option<Delivery> {
        let entry = self.entries.values_mut().find(|entry| {
            let id = entry.message.properties.session_id.as_deref();
            entry.lock.is_none() && session.is_none_or(|session| id == Some(session))
        })?;
        let held = Held::new(token, now, lock_for, renewed_for);
        entry.lock = Some(held);
        self.revision += 1;
        let mut message = entry.message.clone();
        message.state = State::Locked(held.until);
        Some(Delivery {
            lock: Lock {
                source: self.source.clone(),
                sequence_number: message.sequence_number,
                token,
            },
            delivery_count: message.deliveries_failed + 1,
            locked_until: held.until,
            message,
        })
    }

    pub(super) fn remove(&mut self, lock: &Lock) -> Result<Message, Error> {
        self.held(lock)?;
        self.revision += 1;
        self.entries.remove(&lock.sequence_number).map(|entry| entry.message).ok_or(Error::LockLost)
    }

    pub(super) fn renew(
        &mut self,
        lock: &Lock,
        now: Timestamp,
        lock_for: SignedDuration,
    ) -> Result<Timestamp, Error> {
        let held = self.held(lock)?;
        held.until = after(now, lock_for);
        Ok(held.until)
    }

    pub(super) fn stop_renewing(
        &mut self,
        lock: &Lock,
        now: Timestamp,
        lock_for: SignedDuration,
    ) -> Result<(), Error> {
        self.held(lock)?.stop_renewing(now, lock_for);
        self.revision += 1;
        Ok(())
    }

    /// Takes away the locks that `ends` names and counts a failed delivery each; answers the messages that
    /// have failed `failures_max` times.
    pub(super) fn unlock(
        &mut self,
        failures_max: Option<u32>,
        ends: impl Fn(&Message, &Held) -> bool,
    ) -> Vec<Message> {
        let mut worn = Vec::new();
        for (number, entry) in &mut self.entries {
            if entry.lock.is_some_and(|held| ends(&entry.message, &held)) {
                entry.lock = None;
                entry.message.deliveries_failed += 1;
                self.revision += 1;
                if failures_max.is_some_and(|most| entry.message.deliveries_failed >= most) {
                    worn.push(*number);
                }
            }
        }
        let take = |number| self.entries.remove(&number).map(|entry| entry.message);
        worn.into_iter().filter_map(take).collect()
    }

    /// Drops what nobody received in its time to live.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let before = self.entries.len();
        self.entries.retain(|_, entry| entry.lock.is_some() || entry.message.expires_at > now);
        self.revision += u64::from(self.entries.len() != before);
    }

    /// The earliest end of a lock.
    pub(super) fn next_unlock(&self) -> Option<Timestamp> {
        self.entries.values().filter_map(|entry| entry.lock).map(|held| held.ends()).min()
    }

    pub(super) fn messages(&self) -> Vec<Message> {
        let each = self.entries.values().map(|entry| {
            let mut message = entry.message.clone();
            message.state = entry.lock.map_or(State::Waiting, |held| State::Locked(held.until));
            message
        });
        each.collect()
    }

    fn held(&mut self, lock: &Lock) -> Result<&mut Held, Error> {
        let entry = self.entries.get_mut(&lock.sequence_number).ok_or(Error::LockLost)?;
        entry.lock.as_mut().filter(|held| held.token == lock.token).ok_or(Error::LockLost)
    }
}
