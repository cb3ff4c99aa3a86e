//! What one Service Bus function holds: calls under way, and sessions until they fall idle.

use super::{Function, Trigger, delivery::Job, host_json::ServiceBusOptions, message_data::Shape};
use crate::sandbox::service_bus::{Delivery, Error, ServiceBus, Session};
use jiff::Timestamp;

pub(super) struct Listener {
    pub(super) function: String,
    pub(super) source: String,
    pub(super) sessions: bool,
    shape: Shape,
    running: usize,
    held: Vec<Held>,
}

struct Held {
    session: Session,
    busy: bool,
    last_message: Timestamp,
}

impl Listener {
    pub(super) fn new(function: &Function) -> Option<Self> {
        let Trigger::ServiceBus { source, sessions, many, binary, .. } = &function.trigger else {
            return None;
        };
        Some(Self {
            function: function.name.clone(),
            source: source.clone(),
            sessions: *sessions,
            shape: Shape { many: *many, binary: *binary },
            running: 0,
            held: Vec::new(),
        })
    }

    /// Whether [`Listener::take`] would find something.
    pub(super) fn can_take(&self, bus: &ServiceBus, options: &ServiceBusOptions) -> bool {
        if !self.sessions {
            return self.running < self.calls_max(options) && bus.has_waiting(&self.source);
        }
        let mut held = self.held.iter();
        held.any(|held| !held.busy && bus.has_waiting_in(&held.session))
            || self.held.len() < options.max_concurrent_sessions && bus.has_waiting(&self.source)
    }

    /// Locks all that may be worked on now: one message, or batch, for each session and each free call.
    pub(super) fn take(
        &mut self,
        bus: &ServiceBus,
        options: &ServiceBusOptions,
        now: Timestamp,
        jobs: &mut Vec<Job>,
    ) -> Result<(), Error> {
        let renewed = options.max_auto_lock_renewal;
        let most = if self.shape.many { options.max_message_batch_size } else { 1 };
        if !self.sessions {
            while self.running < self.calls_max(options) {
                let deliveries = collect(most, || bus.receive(&self.source, renewed))?;
                if deliveries.is_empty() {
                    return Ok(());
                }
                self.running += 1;
                jobs.push(self.job(deliveries, None));
            }
            return Ok(());
        }
        self.held.retain(|held| held.busy || bus.holds_session(&held.session));
        for index in 0..self.held.len() {
            if !self.held[index].busy {
                self.work_on(index, most, bus, now, jobs)?;
            }
        }
        while self.held.len() < options.max_concurrent_sessions {
            let Some(session) = bus.accept_session(&self.source, renewed)? else { return Ok(()) };
            self.held.push(Held { session, busy: false, last_message: now });
            self.work_on(self.held.len() - 1, most, bus, now, jobs)?;
        }
        Ok(())
    }

    fn work_on(
        &mut self,
        index: usize,
        most: usize,
        bus: &ServiceBus,
        now: Timestamp,
        jobs: &mut Vec<Job>,
    ) -> Result<(), Error> {
        let session = self.held[index].session.clone();
        let deliveries = collect(most, || bus.receive_in(&session))?;
        if !deliveries.is_empty() {
            (self.held[index].busy, self.held[index].last_message) = (true, now);
            jobs.push(self.job(deliveries, Some(session)));
        }
        Ok(())
    }

    /// Frees what a job occupied.
    pub(super) fn finish(&mut self, job: &Job, now: Timestamp) {
        match &job.session {
            None => self.running = self.running.saturating_sub(1),
            Some(session) => {
                let mut all = self.held.iter_mut();
                if let Some(held) = all.find(|held| held.session == *session) {
                    (held.busy, held.last_message) = (false, now);
                }
            }
        }
    }

    /// Takes out the sessions that no message came for in `idle`.
    pub(super) fn idle(
        &mut self,
        bus: &ServiceBus,
        options: &ServiceBusOptions,
        now: Timestamp,
    ) -> Vec<Session> {
        let over = |held: &mut Held| {
            !held.busy && ends(held, options) <= now && !bus.has_waiting_in(&held.session)
        };
        self.held.extract_if(.., over).map(|held| held.session).collect()
    }

    /// Takes out all sessions.
    pub(super) fn all_sessions(&mut self) -> Vec<Session> {
        self.held.drain(..).map(|held| held.session).collect()
    }

    /// When the next session falls idle, and whether messages wait for its place.
    pub(super) fn next_idle(
        &self,
        bus: &ServiceBus,
        options: &ServiceBusOptions,
    ) -> Option<(Timestamp, bool)> {
        let idle = self.held.iter().filter(|held| !held.busy);
        let next = idle.map(|held| ends(held, options)).min()?;
        Some((next, bus.has_waiting(&self.source)))
    }

    fn calls_max(&self, options: &ServiceBusOptions) -> usize {
        // One batch after the other.
        if self.shape.many { 1 } else { options.max_concurrent_calls }
    }

    fn job(&self, deliveries: Vec<Delivery>, session: Option<Session>) -> Job {
        Job { function: self.function.clone(), deliveries, session, shape: self.shape }
    }
}

fn ends(held: &Held, options: &ServiceBusOptions) -> Timestamp {
    held.last_message.saturating_add(options.session_idle_timeout).unwrap_or(Timestamp::MAX)
}

fn collect(
    most: usize,
    receive: impl Fn() -> Result<Option<Delivery>, Error>,
) -> Result<Vec<Delivery>, Error> {
    let mut deliveries = Vec::new();
    while deliveries.len() < most {
        let Some(delivery) = receive()? else { break };
        deliveries.push(delivery);
    }
    Ok(deliveries)
}
