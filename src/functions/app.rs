//! What every function can reach.

use super::{queue::Queue, work::Work};
use crate::{clock::Clock, config::Settings, telemetry::Telemetry};
use std::{sync::Arc, time::Duration};

/// Ends an invocation well before the host's `functionTimeout` of 30 minutes, which would kill the process and
/// every other invocation with it (functions-host.md §1.8).
pub const DEADLINE: Duration = Duration::from_secs(25 * 60);

/// Answers a hook before GitLab gives up on it, which it does after 10 s (gitlab.md §1.1).
pub const QUEUE_DEADLINE: Duration = Duration::from_secs(8);

/// The handler's state, one for the process.
pub struct App {
    pub settings: Settings,
    pub clock: Clock,
    pub queue: Arc<dyn Queue>,
    pub work: Arc<dyn Work>,
    pub telemetry: Telemetry,
    /// How long one invocation may take.
    pub deadline: Duration,
    /// How long a hook waits for the queue.
    pub queue_deadline: Duration,
}

impl App {
    pub fn new(
        settings: Settings,
        clock: Clock,
        queue: Arc<dyn Queue>,
        work: Arc<dyn Work>,
        telemetry: Telemetry,
    ) -> Self {
        Self {
            settings,
            clock,
            queue,
            work,
            telemetry,
            deadline: DEADLINE,
            queue_deadline: QUEUE_DEADLINE,
        }
    }
}
