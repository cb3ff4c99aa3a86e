//! A Service Bus namespace: queues with sessions, locks, duplicate detection, scheduled messages and dead letters.
//!
//! Senders speak REST to [`ServiceBus::router`] as azure.md §9 has it; the miniature Functions host takes its
//! messages in process, as the real one does over AMQP.

mod broker_properties;
mod message;
mod queue;
mod receive;
mod router;
mod send;
mod session;
mod shelf;
mod wire_error;

pub use message::{Message, Properties, State};
pub use queue::{QueueSettings, Sent};
pub use session::Session;
pub use shelf::{Delivery, Lock};

use crate::clock::Clock;
use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use queue::Queue;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use shelf::Shelf;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;
use uuid::Uuid;

/// What a queue name ends in where its dead letters are meant; case does not matter.
const DEAD_LETTERS: &str = "/$deadletterqueue";

/// Says whether a bearer token may use this namespace.
pub type TokenCheck = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// One namespace; a clone is the same namespace.
#[derive(Clone)]
pub struct ServiceBus(Arc<Inner>);

struct Inner {
    clock: Clock,
    namespace: String,
    world: Mutex<World>,
    changes: watch::Sender<u64>,
}

struct World {
    queues: BTreeMap<String, Queue>,
    accepts: TokenCheck,
    throttle: Throttle,
    lost_completions: usize,
    random: StdRng,
}

/// How many sends are still to be refused with the broker's code 50009, and by which HTTP status.
struct Throttle {
    times: usize,
    status: StatusCode,
}

/// Why the namespace refuses a call made in process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("there is no queue `{queue}`")]
    QueueMissing { queue: String },
    #[error("queue `{queue}` takes only messages with a SessionId")]
    SessionIdMissing { queue: String },
    #[error("queue `{queue}` has sessions and is read by session only")]
    NeedsSession { queue: String },
    #[error("queue `{queue}` has no sessions")]
    HasNoSessions { queue: String },
    #[error("{0}")]
    BadMessage(String),
    #[error("the message has {size} bytes, the queue takes {size_max}")]
    TooLarge { size: usize, size_max: usize },
    #[error("the lock is lost")]
    LockLost,
}

impl ServiceBus {
    /// A namespace without queues, such as `sb-x.servicebus.windows.net`, that takes any bearer token.
    /// Lock tokens and made-up message ids come from `seed`.
    pub fn new(clock: Clock, namespace: &str, seed: u64) -> Self {
        let world = World {
            queues: BTreeMap::new(),
            accepts: Arc::new(|_| true),
            throttle: Throttle { times: 0, status: StatusCode::SERVICE_UNAVAILABLE },
            lost_completions: 0,
            random: StdRng::seed_from_u64(seed),
        };
        Self(Arc::new(Inner {
            clock,
            namespace: namespace.to_owned(),
            world: Mutex::new(world),
            changes: watch::Sender::new(0),
        }))
    }

    /// The host name of the namespace.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// Makes a queue; one of that name is replaced, its messages with it. Case does not matter in names.
    pub fn create_queue(&self, name: &str, settings: QueueSettings) {
        self.world().queues.insert(name.to_lowercase(), Queue::new(name, settings));
        self.changed();
    }

    /// The settings of a queue or of the queue that owns `NAME/$deadletterqueue`, where it exists.
    pub fn settings(&self, source: &str) -> Option<QueueSettings> {
        let (queue, _) = split(source);
        self.world().queues.get(&queue).map(|queue| queue.settings.clone())
    }

    /// Replaces the rule by which bearer tokens are accepted.
    pub fn accept_tokens(&self, check: TokenCheck) {
        self.world().accepts = check;
    }

    /// Refuses the next `times` sends as throttled (code 50009) with `status`: 503 or 429, the source does
    /// not say which.
    pub fn throttle(&self, times: usize, status: StatusCode) {
        self.world().throttle = Throttle { times, status };
    }

    /// Lets the next `times` completions fail after the work was done: the lock is lost and the message
    /// comes again.
    pub fn lose_completions(&self, times: usize) {
        self.world().lost_completions = times;
    }

    /// Ends every message and session lock of a queue now, as a broker failing over does: what is being
    /// worked on is delivered a second time while the first run goes on.
    pub fn lose_locks(&self, source: &str) -> Result<(), Error> {
        self.on_shelf(source, |queue, dead, now| queue.lose_locks(dead, now))
    }

    /// Sends without the wire, as a person does from the portal.
    pub fn send_as_operator(
        &self,
        queue: &str,
        body: impl Into<Vec<u8>>,
        properties: Properties,
    ) -> Result<Sent, Error> {
        let sent = self.send_all(queue, vec![(body.into(), properties)])?;
        Ok(sent.into_iter().next().unwrap_or(Sent::Duplicate))
    }

    /// All or none of `messages`; each is checked before the first is kept.
    pub(super) fn send_all(
        &self,
        name: &str,
        messages: Vec<(Vec<u8>, Properties)>,
    ) -> Result<Vec<Sent>, Error> {
        let now = self.0.clock.now();
        let sent = {
            let mut world = self.world();
            let World { queues, random, .. } = &mut *world;
            let queue = find(queues, name)?;
            queue.pass_time(now);
            for (body, properties) in &messages {
                queue.check(body, properties)?;
            }
            let keep = messages.into_iter().map(|(body, mut properties)| {
                properties.message_id.get_or_insert_with(|| guid(random).simple().to_string());
                queue.send(body, properties, now)
            });
            keep.collect()
        };
        self.changed();
        Ok(sent)
    }

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

    /// Counts up with every change, so that a receiver can wait for one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
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

    /// Lets time pass in the queue of `source`, then does something with it.
    fn on_shelf<T>(
        &self,
        source: &str,
        act: impl FnOnce(&mut Queue, bool, Timestamp) -> T,
    ) -> Result<T, Error> {
        let now = self.0.clock.now();
        let (name, dead) = split(source);
        let (before, after, answer) = {
            let mut world = self.world();
            let queue = find(&mut world.queues, &name)?;
            let before = queue.revision();
            queue.pass_time(now);
            let answer = act(queue, dead, now);
            (before, queue.revision(), answer)
        };
        if before != after {
            self.changed();
        }
        Ok(answer)
    }

    fn token(&self) -> Uuid {
        guid(&mut self.world().random)
    }

    fn changed(&self) {
        self.0.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A random id of version 4 that the same seed gives again.
fn guid(random: &mut StdRng) -> Uuid {
    uuid::Builder::from_random_bytes(random.random()).into_uuid()
}

/// The name of the queue in lower case, and whether its dead letters are meant.
fn split(source: &str) -> (String, bool) {
    let source = source.to_lowercase();
    match source.strip_suffix(DEAD_LETTERS) {
        Some(queue) => (queue.to_owned(), true),
        None => (source, false),
    }
}

fn find<'a>(queues: &'a mut BTreeMap<String, Queue>, name: &str) -> Result<&'a mut Queue, Error> {
    let missing = || Error::QueueMissing { queue: name.to_owned() };
    queues.get_mut(&name.to_lowercase()).ok_or_else(missing)
}
