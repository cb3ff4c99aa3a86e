//! One delivery, from the lock to its settlement, and what hangs (functions-host.md §3.3, §3.6).

use super::{
    Function, Inner, Trigger, Verdict,
    invoke::{About, Envelope},
    logs::Level,
    message_data::{self, Shape},
    outputs,
    verdict::Said,
    worker,
};
use crate::sandbox::service_bus::{Delivery, Session};
use jiff::Timestamp;
use std::sync::Arc;

/// Messages that are locked and given to the handler together.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) function: String,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) session: Option<Session>,
    pub(super) shape: Shape,
}

/// An invocation that was answered 2xx without a body.
pub(super) struct Hung {
    pub(super) function: String,
    /// When `functionTimeout` kills the handler.
    pub(super) until: Option<Timestamp>,
    /// None where no message was delivered.
    pub(super) job: Option<Job>,
}

/// Counts an invocation that `act` waits for, until it is dropped.
pub(super) struct Flight(Arc<Inner>);

impl Flight {
    /// The count itself goes up where the invocation is taken.
    pub(super) fn new(inner: &Arc<Inner>) -> Self {
        Self(Arc::clone(inner))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.state().in_flight -= 1;
        self.0.changed();
    }
}

impl Inner {
    /// Gives the messages to the handler and settles them by its answer.
    pub(super) async fn deliver(self: Arc<Self>, job: Job) {
        let _flight = Flight::new(&self);
        let function = self.function(&job.function);
        let (data, metadata) = message_data::of(
            &job.deliveries,
            job.session.as_ref(),
            job.shape,
            self.bus.namespace(),
            &self.bus_client,
        );
        let ids =
            job.deliveries.iter().filter_map(|each| each.message.properties.message_id.clone());
        let about = About {
            message_ids: ids.collect(),
            delivery_count: job.deliveries.first().map(|delivery| delivery.delivery_count),
        };
        let envelope = Envelope { data, metadata };
        let bind = |said: &Said| outputs::bind(function, said, &self.bus);
        match self.invoke(function, envelope, about, bind).await {
            Verdict::Success => self.settle(function, &job, true),
            Verdict::Failure(_) => self.settle(function, &job, false),
            Verdict::Hang => self.hang(function, Some(job)),
        }
    }

    /// Keeps an invocation that never ends, its lock and its place with it.
    pub(super) fn hang(&self, function: &Function, job: Option<Job>) {
        let limit = self.root.host.function_timeout;
        let until = limit.and_then(|limit| self.clock.now().checked_add(limit).ok());
        let text = match until {
            Some(until) => format!(
                "answered 2xx without a body: the invocation stays pending, and the handler is killed at {until}"
            ),
            None => "answered 2xx without a body: the invocation stays pending for ever".to_owned(),
        };
        self.say(Level::Error, &function.name, text);
        let name = function.name.clone();
        self.state().hung.push(Hung { function: name, until, job });
    }

    /// Kills the handlers whose invocations hang beyond `functionTimeout`, and starts them anew.
    pub(super) async fn end_hung(self: &Arc<Self>, now: Timestamp) -> bool {
        let late: Vec<String> = {
            let state = self.state();
            let late =
                state.hung.iter().filter(|hung| hung.until.is_some_and(|until| until <= now));
            late.map(|hung| hung.function.clone()).collect()
        };
        for name in &late {
            self.time_out(self.function(name)).await;
        }
        !late.is_empty()
    }

    /// `functionTimeout`: everything that runs in the function's process fails with it.
    pub(super) async fn time_out(self: &Arc<Self>, function: &Function) {
        let text = "FunctionTimeoutException: the handler is killed and started again";
        self.say(Level::Error, &function.name, text);
        let group = Arc::clone(self.group(function));
        group.replace();
        self.fail_hung(|hung| Arc::ptr_eq(self.group(self.function(&hung.function)), &group));
        if let Err(error) = worker::start(self, &group).await {
            self.logs.say(Level::Error, super::GENERAL, error.to_string());
        }
    }

    /// Fails hanging invocations, because their process is gone.
    pub(super) fn fail_hung(&self, which: impl Fn(&Hung) -> bool) {
        let gone: Vec<Hung> = self.state().hung.extract_if(.., |hung| which(hung)).collect();
        for hung in gone {
            match &hung.job {
                Some(job) => self.settle(self.function(&hung.function), job, false),
                None => self.finish_timer(&hung.function),
            }
        }
    }

    fn settle(&self, function: &Function, job: &Job, success: bool) {
        let complete = matches!(function.trigger, Trigger::ServiceBus { auto_complete: true, .. });
        let unplugged = self.state().unplugged;
        for delivery in &job.deliveries {
            let settled = match (success, complete) {
                (_, _) if unplugged => self.bus.stop_renewing(&delivery.lock),
                (true, true) => self.bus.complete(&delivery.lock),
                (true, false) => self.bus.stop_renewing(&delivery.lock),
                (false, _) => self.bus.abandon(&delivery.lock),
            };
            if let Err(error) = settled {
                let text = format!("a message could not be settled: {error}");
                self.say(Level::Warning, &function.name, text);
            }
        }
        let now = self.clock.now();
        let mut state = self.state();
        let mut listeners = state.listeners.iter_mut();
        if let Some(listener) = listeners.find(|listener| listener.function == function.name) {
            listener.finish(job, now);
        }
    }

    /// Lets go of every session; of an unplugged host they run out.
    pub(super) fn release_sessions(&self) {
        let mut state = self.state();
        let unplugged = state.unplugged;
        for session in state.listeners.iter_mut().flat_map(|listener| listener.all_sessions()) {
            let released = if unplugged {
                self.bus.stop_renewing_session(&session)
            } else {
                self.bus.release_session(&session)
            };
            if let Err(error) = released {
                tracing::debug!(%error, "a session could not be let go");
            }
        }
    }
}
