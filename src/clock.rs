//! The only place that asks what time it is. Everything that decides takes `now` as an argument.

use jiff::{SignedDuration, Timestamp};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

/// Tells the time: the system's, or the sandbox's, which can be turned.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    /// Stands still at this many milliseconds since 1970 until somebody turns it.
    Frozen(Arc<AtomicI64>),
    /// Runs with the system's clock, this many milliseconds ahead of it.
    Ahead(Arc<AtomicI64>),
    /// The same for another process: the file holds the milliseconds as decimal text.
    AheadByFile(PathBuf),
}

impl Clock {
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that only [`Clock::turn_to`] moves, for tests.
    pub fn frozen(start: Timestamp) -> Self {
        Self(Source::Frozen(Arc::new(AtomicI64::new(start.as_millisecond()))))
    }

    /// The system's clock, which [`Clock::turn_to`] can put ahead.
    pub fn running() -> Self {
        Self(Source::Ahead(Arc::new(AtomicI64::new(0))))
    }

    /// Follows a clock of another process by the file that it writes with [`Clock::publish`].
    pub fn following(path: PathBuf) -> Self {
        Self(Source::AheadByFile(path))
    }

    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Source::System => system_now(),
            Source::Frozen(at) => milliseconds(at.load(Ordering::SeqCst)),
            Source::Ahead(by) => ahead(by.load(Ordering::SeqCst)),
            Source::AheadByFile(path) => ahead(read_offset(path)),
        }
    }

    /// Whether only [`Clock::turn_to`] lets time pass.
    pub fn stands_still(&self) -> bool {
        match &self.0 {
            Source::Frozen(_) => true,
            Source::System | Source::Ahead(_) | Source::AheadByFile(_) => false,
        }
    }

    /// Puts the clock forward to `then`; never back. The system's own clock cannot be turned.
    pub fn turn_to(&self, then: Timestamp) {
        let missing = then.duration_since(self.now()).as_millis();
        let Ok(missing) = i64::try_from(missing.max(0)) else { return };
        match &self.0 {
            Source::Frozen(offset) | Source::Ahead(offset) => {
                offset.fetch_add(missing, Ordering::SeqCst);
            }
            Source::System | Source::AheadByFile(_) => {}
        }
    }

    /// Writes how far this clock is ahead, for a process that [follows](Clock::following) it.
    pub fn publish(&self, path: &std::path::Path) -> std::io::Result<()> {
        let by = self.now().duration_since(system_now()).as_millis();
        let next = path.with_extension("next");
        std::fs::write(&next, by.to_string())?;
        std::fs::rename(next, path)
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the clock")]
fn system_now() -> Timestamp {
    Timestamp::now()
}

fn milliseconds(since_epoch: i64) -> Timestamp {
    Timestamp::from_millisecond(since_epoch).unwrap_or(Timestamp::MAX)
}

fn ahead(by: i64) -> Timestamp {
    system_now().saturating_add(SignedDuration::from_millis(by)).unwrap_or(Timestamp::MAX)
}

fn read_offset(path: &std::path::Path) -> i64 {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}
