//! What a receiver asks of the broker, as the Functions host does over AMQP.

use super::{Delivery, Error, Lock, ServiceBus, Session};
use jiff::{SignedDuration, Timestamp};

impl ServiceBus {
    /// Locks the next message of a queue without sessions, or of `NAME/$deadletterqueue` of any queue.
    /// `renewed_for` is how long the receiver keeps renewing the lock.
    pub fn receive(
        &self,
        source: &str,
        renewed_for: SignedDuration,
    ) -> Result<Option<Delivery>, Error> {
        let token = self.token();
        self.on_shelf(source, |queue, dead, now| {
            if queue.settings.requires_session && !dead {
                return Err(Error::NeedsSession { queue: queue.name.clone() });
            }
            let lock_for = queue.settings.lock_duration;
            Ok(queue.shelf(dead).lock_next(None, token, now, lock_for, renewed_for))
        })?
    }

    /// Locks the session that has waited longest, if one has messages and nobody holds it.
    pub fn accept_session(
        &self,
        queue: &str,
        renewed_for: SignedDuration,
    ) -> Result<Option<Session>, Error> {
        let token = self.token();
        self.on_shelf(queue, |queue, dead, now| {
            if dead || !queue.settings.requires_session {
                return Err(Error::HasNoSessions { queue: queue.name.clone() });
            }
            Ok(queue.accept_session(token, now, renewed_for))
        })?
    }

    /// Locks the next message of a held session, in the order of sequence numbers.
    pub fn receive_in(&self, session: &Session) -> Result<Option<Delivery>, Error> {
        let token = self.token();
        self.on_shelf(&session.queue, |queue, _, now| queue.receive_in(session, token, now))?
    }

    /// Lets go of a session; its locked messages are delivered again.
    pub fn release_session(&self, session: &Session) -> Result<(), Error> {
        self.on_shelf(&session.queue, |queue, _, now| queue.release_session(session, now))
    }

    /// Whether the session's lock still stands.
    pub fn holds_session(&self, session: &Session) -> bool {
        self.on_shelf(&session.queue, |queue, _, _| queue.holds(session)).unwrap_or(false)
    }

    /// Removes a message that was worked on.
    pub fn complete(&self, lock: &Lock) -> Result<(), Error> {
        let lost = {
            let mut world = self.world();
            let lost = world.lost_completions > 0;
            world.lost_completions = world.lost_completions.saturating_sub(1);
            lost
        };
        self.on_shelf(&lock.source, |queue, dead, now| {
            if lost {
                queue.abandon(dead, lock, now)?;
                return Err(Error::LockLost);
            }
            queue.shelf(dead).remove(lock).map(drop)
        })?
    }

    /// Gives a message back: it can be received again at once, its delivery count one higher; after the
    /// queue's last delivery it becomes a dead letter.
    pub fn abandon(&self, lock: &Lock) -> Result<(), Error> {
        self.on_shelf(&lock.source, |queue, dead, now| queue.abandon(dead, lock, now))?
    }

    /// Puts a message among the dead letters by the receiver's own wish.
    pub fn dead_letter(&self, lock: &Lock, reason: &str, description: &str) -> Result<(), Error> {
        self.on_shelf(&lock.source, |queue, dead, now| {
            let message = queue.shelf(dead).remove(lock)?;
            queue.bury(message, reason, description, now);
            Ok(())
        })?
    }

    /// Starts the lock's duration anew.
    pub fn renew(&self, lock: &Lock) -> Result<Timestamp, Error> {
        self.on_shelf(&lock.source, |queue, dead, now| {
            let lock_for = queue.settings.lock_duration;
            queue.shelf(dead).renew(lock, now, lock_for)
        })?
    }

    /// The receiver is gone and renews nothing any more: the lock ends one lock duration from now.
    pub fn stop_renewing(&self, lock: &Lock) -> Result<(), Error> {
        self.on_shelf(&lock.source, |queue, dead, now| {
            let lock_for = queue.settings.lock_duration;
            queue.shelf(dead).stop_renewing(lock, now, lock_for)
        })?
    }

    /// The same for a session.
    pub fn stop_renewing_session(&self, session: &Session) -> Result<(), Error> {
        self.on_shelf(&session.queue, |queue, _, now| queue.stop_renewing_session(session, now))
    }
}
