//! Sessions of a queue: one receiver at a time holds one, and with it all its messages in order.

use super::{Delivery, Error, queue::Queue, shelf::Held};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A receiver's hold on a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub queue: String,
    pub id: String,
    pub token: Uuid,
    /// The end of the lock as the receiver is told, renewals apart.
    pub locked_until: Timestamp,
}

/// Which sessions are held.
#[derive(Default)]
pub(super) struct Sessions {
    held: BTreeMap<String, Held>,
    pub(super) revision: u64,
}

impl Sessions {
    pub(super) fn is_held(&self, id: &str) -> bool {
        self.held.contains_key(id)
    }

    /// Ends the locks whose time is over and says whose they were.
    pub(super) fn end(&mut self, now: Timestamp) -> BTreeSet<String> {
        let over: BTreeSet<String> = self
            .held
            .iter()
            .filter(|(_, held)| held.ends() <= now)
            .map(|(id, _)| id.clone())
            .collect();
        self.held.retain(|id, _| !over.contains(id));
        self.revision += u64::from(!over.is_empty());
        over
    }

    pub(super) fn clear(&mut self) {
        self.held.clear();
        self.revision += 1;
    }
}

impl Queue {
    pub(super) fn accept_session(
        &mut self,
        token: Uuid,
        now: Timestamp,
        renewed_for: SignedDuration,
    ) -> Option<Session> {
        let free = self.main.waiting().find_map(|message| {
            let id = message.properties.session_id.as_ref()?;
            (!self.sessions.is_held(id)).then(|| id.clone())
        });
        let id = free?;
        let held = Held::new(token, now, self.settings.lock_duration, renewed_for);
        self.sessions.held.insert(id.clone(), held);
        self.sessions.revision += 1;
        Some(Session { queue: self.name.clone(), id, token, locked_until: held.until })
    }

    pub(super) fn holds(&self, session: &Session) -> bool {
        self.sessions.held.get(&session.id).is_some_and(|held| held.token == session.token)
    }

    pub(super) fn receive_in(
        &mut self,
        session: &Session,
        token: Uuid,
        now: Timestamp,
    ) -> Result<Option<Delivery>, Error> {
        if !self.holds(session) {
            return Err(Error::LockLost);
        }
        // The session's lock is the messages' lock: theirs must not end before it.
        let for_ever = SignedDuration::MAX;
        let lock_for = self.settings.lock_duration;
        Ok(self.main.lock_next(Some(&session.id), token, now, lock_for, for_ever))
    }

    pub(super) fn release_session(&mut self, session: &Session, now: Timestamp) {
        if self.holds(session) {
            self.sessions.held.remove(&session.id);
            self.sessions.revision += 1;
            self.unlock(now, |message, _| {
                message.properties.session_id.as_deref() == Some(session.id.as_str())
            });
        }
    }

    pub(super) fn stop_renewing_session(&mut self, session: &Session, now: Timestamp) {
        let lock_for = self.settings.lock_duration;
        let held = self.sessions.held.get_mut(&session.id);
        if let Some(held) = held.filter(|held| held.token == session.token) {
            held.stop_renewing(now, lock_for);
            self.sessions.revision += 1;
        }
    }

    /// When a held session with work in it ends, so that somebody else may take it.
    pub(super) fn next_session_end(&self) -> Option<Timestamp> {
        let busy = self.sessions.held.iter().filter(|(id, _)| {
            self.main
                .messages()
                .iter()
                .any(|message| message.properties.session_id.as_deref() == Some(id.as_str()))
        });
        busy.map(|(_, held)| held.ends()).min()
    }
}
