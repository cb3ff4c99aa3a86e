//! Until when a sweep may read. The host kills a process whose function takes too long, and with it every other round.

use super::Failure;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What a sweep reads, it reads by then; afterwards it only tells, sends and permits.
pub const SWEEP_READS: Duration = Duration::from_secs(20 * 60);

/// The end of one sweep's reading.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    at: Instant,
    within: Duration,
}

impl Deadline {
    pub(super) fn within(time: Duration) -> Self {
        Self { at: Instant::now() + time, within: time }
    }

    /// The answer, if it comes in time.
    pub(super) async fn wait<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.at, answer).await.ok()
    }

    /// The same for a whole part, which its failure names: too late is one like any other, and proves nothing.
    pub(super) async fn hold<T>(
        &self,
        what: &str,
        read: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        match self.wait(read).await {
            Some(answer) => answer.map_err(|failure| failure.during(what)),
            None => Err(self.late(what)),
        }
    }

    /// What came too late.
    pub(super) fn late(&self, what: &str) -> Failure {
        let seconds = self.within.as_secs();
        Failure::retry(format!("{what}: not read within the {seconds} s that a sweep may read"))
    }
}
