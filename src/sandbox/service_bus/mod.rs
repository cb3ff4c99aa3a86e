//! A Service Bus namespace: queues with sessions, locks, duplicate detection, scheduled messages and dead letters.
//!
//! Senders speak REST to [`ServiceBus::router`] as azure.md §9 has it; the miniature Functions host takes its
//! messages in process, as the real one does over AMQP.

mod broker_properties;
mod inspect;
mod message;
mod queue;
mod receive;
mod receiver;
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
use jiff::Timestamp;
use queue::Queue;
use rand::{Rng, SeedableRng, rngs::StdRng};
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

    /// Counts up with every change, so that a receiver can wait for one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
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
