//! Whether an entry is asked for jobs: after three refusals in a row it rests (runner-observed.md §6).

use super::config_file::Entry;
use jiff::Timestamp;

#[derive(Clone, Copy, Debug)]
pub(super) struct Health {
    pub(super) failures: usize,
    /// The last answer that was none of a refusal, or the last time it was forced to ask.
    last_check: Timestamp,
}

impl Health {
    pub(super) fn new(now: Timestamp) -> Self {
        Self { failures: 0, last_check: now }
    }

    pub(super) fn is_good(&self, entry: &Entry) -> bool {
        self.failures < entry.unhealthy_requests_limit()
    }

    /// Whether to ask now; one that has rested long enough asks again as if nothing had been.
    pub(super) fn may_ask(&mut self, entry: &Entry, now: Timestamp) -> bool {
        if self.is_good(entry) {
            return true;
        }
        let rested = now.duration_since(self.last_check) > entry.unhealthy_interval();
        if rested {
            *self = Self::new(now);
        }
        rested
    }

    /// What an answer means; whether the entry rests from now on.
    pub(super) fn record(&mut self, healthy: bool, entry: &Entry, now: Timestamp) -> bool {
        if healthy {
            *self = Self::new(now);
            return false;
        }
        self.failures += 1;
        self.failures == entry.unhealthy_requests_limit()
    }
}
