//! What acts by itself in the sandbox, and the loop that lets it: a small discrete-event simulation.

use crate::clock::Clock;
use futures::future::BoxFuture;
use jiff::Timestamp;

/// Something that acts when its time has come: a controller, a queue, a runner manager, a timer.
pub trait Actor: Send + Sync {
    /// Does all that is due at `now`; answers whether anything was done.
    fn act(&self, now: Timestamp) -> BoxFuture<'_, bool>;

    /// When it has something to do next, if ever.
    fn due(&self) -> Option<Due>;
}

/// When an actor acts next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// The world has not settled before this was done: a scheduled message, a pod that starts.
    Work(Timestamp),
    /// Goes on for ever and keeps nobody waiting: a poll, a timer.
    Background(Timestamp),
}

impl Due {
    pub fn at(self) -> Timestamp {
        match self {
            Self::Work(at) | Self::Background(at) => at,
        }
    }
}

/// Lets all actors act at the clock's present time until none has anything left to do now.
pub async fn exhaust(actors: &[Box<dyn Actor>], clock: &Clock) {
    loop {
        let mut busy = false;
        for actor in actors {
            busy |= actor.act(clock.now()).await;
        }
        if !busy {
            return;
        }
    }
}

/// The earliest time at which any actor has something to do, and the earliest at which there is work.
pub fn next(actors: &[Box<dyn Actor>]) -> (Option<Timestamp>, Option<Timestamp>) {
    let due: Vec<Due> = actors.iter().filter_map(|actor| actor.due()).collect();
    let work = due.iter().filter(|due| matches!(due, Due::Work(_))).map(|due| due.at()).min();
    (due.iter().map(|due| due.at()).min(), work)
}
