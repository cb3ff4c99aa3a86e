//! The host as an actor: takes what can be delivered, and says when there is more.

use super::{Host, Inner, delivery::Job, logs::Level, worker::Status};
use crate::sandbox::actor::{Actor, Due};
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value;
use std::sync::Arc;

impl Actor for Host {
    /// Delivers all messages and runs all timers that are due, whatever comes up meanwhile included, and
    /// waits for the answers. Where this future is dropped the invocations go on, and the next `act` waits
    /// for them.
    fn act(&self, now: Timestamp) -> BoxFuture<'_, bool> {
        Box::pin(self.0.pump(now))
    }

    /// Work is what a message waits for; a timer, and a session that may fall idle, are background. Where
    /// there is work, what comes before it counts as work too, or it would come late.
    fn due(&self) -> Option<Due> {
        self.0.due()
    }
}

impl Inner {
    async fn pump(self: &Arc<Self>, now: Timestamp) -> bool {
        let mut busy = self.end_hung(now).await;
        busy |= self.release_idle(now);
        let (mut own, mut bus) = (self.changes.subscribe(), self.bus.changes());
        loop {
            own.borrow_and_update();
            bus.borrow_and_update();
            busy |= self.start_what_is_due(now);
            let flying = self.state().in_flight > 0;
            let starting = self.groups.iter().any(|group| group.status() == Status::Starting);
            if !flying && !starting {
                return busy;
            }
            busy |= flying;
            tokio::select! {
                changed = own.changed() => drop(changed),
                changed = bus.changed() => drop(changed),
            }
        }
    }

    fn start_what_is_due(self: &Arc<Self>, now: Timestamp) -> bool {
        let (jobs, timers) = self.take(now);
        let busy = !jobs.is_empty() || !timers.is_empty();
        for job in jobs {
            tokio::spawn(Arc::clone(self).deliver(job));
        }
        for (function, data) in timers {
            tokio::spawn(Arc::clone(self).run_timer(function, data));
        }
        busy
    }

    fn take(&self, now: Timestamp) -> (Vec<Job>, Vec<(String, Value)>) {
        let options = &self.root.host.service_bus;
        let mut jobs = Vec::new();
        let mut runs = Vec::new();
        let mut state = self.state();
        for listener in &mut state.listeners {
            if self.is_up(&listener.function)
                && let Err(error) = listener.take(&self.bus, options, now, &mut jobs)
            {
                self.say(Level::Error, &listener.function, format!("receiving failed: {error}"));
            }
        }
        for timer in &mut state.timers {
            if self.is_up(&timer.function)
                && let Some(data) = timer.take(now)
            {
                runs.push((timer.function.clone(), data));
            }
        }
        state.in_flight += jobs.len() + runs.len();
        (jobs, runs)
    }

    fn release_idle(&self, now: Timestamp) -> bool {
        let options = &self.root.host.service_bus;
        let mut idle = Vec::new();
        for listener in &mut self.state().listeners {
            idle.extend(listener.idle(&self.bus, options, now));
        }
        for session in &idle {
            if let Err(error) = self.bus.release_session(session) {
                tracing::debug!(%error, "an idle session could not be let go");
            }
        }
        !idle.is_empty()
    }

    fn due(&self) -> Option<Due> {
        let now = self.clock.now();
        let options = &self.root.host.service_bus;
        let state = self.state();
        let mut work: Vec<Timestamp> = state.hung.iter().filter_map(|hung| hung.until).collect();
        let mut background = Vec::new();
        if state.in_flight > 0 {
            work.push(now);
        }
        for listener in state.listeners.iter().filter(|listener| self.is_ready(&listener.function))
        {
            if listener.can_take(&self.bus, options) {
                work.push(now);
            }
            work.extend(self.bus.next_change(&listener.source));
            match listener.next_idle(&self.bus, options) {
                Some((at, true)) => work.push(at),
                Some((at, false)) => background.push(at),
                None => {}
            }
        }
        for timer in state.timers.iter().filter(|timer| self.is_ready(&timer.function)) {
            match timer.due(now) {
                Some((at, true)) => work.push(at),
                Some((at, false)) => background.push(at),
                None => {}
            }
        }
        let first_work = work.into_iter().min();
        let first = background.into_iter().chain(first_work).min()?;
        Some(if first_work.is_some() { Due::Work(first) } else { Due::Background(first) })
    }

    /// Whether the function's process takes invocations now.
    fn is_up(&self, function: &str) -> bool {
        matches!(self.group(self.function(function)).status(), Status::Ready { .. })
    }

    /// Whether it does, or soon will.
    fn is_ready(&self, function: &str) -> bool {
        match self.group(self.function(function)).status() {
            Status::Ready { .. } | Status::Starting => true,
            Status::Down | Status::Stopped => false,
        }
    }
}
