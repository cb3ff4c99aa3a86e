//! Timers: one run at a time, missed runs merged into one, failures not repeated (functions-host.md §2.7).

use super::{
    Error, Function, Inner, Trigger, Verdict,
    delivery::Flight,
    invoke::{About, Envelope},
    schedule::Schedule,
    values::{Members, precise},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// What an app's timers remember beyond the life of a host; a clone is the same memory.
#[derive(Clone, Default)]
pub struct TimerStore(Arc<Mutex<BTreeMap<String, Status>>>);

/// What is stored of one timer.
#[derive(Clone, Copy)]
struct Status {
    /// None before the first run.
    last: Option<Timestamp>,
    next: Timestamp,
    last_updated: Timestamp,
}

pub(super) struct Timer {
    pub(super) function: String,
    schedule: Schedule,
    store: Option<TimerStore>,
    next: Option<Timestamp>,
    past_due: bool,
    running: bool,
    pub(super) forced: bool,
    pub(super) awaited: bool,
}

/// Reads the schedules and looks up what was missed while no host ran.
pub(super) fn load(
    functions: &[Function],
    store: &TimerStore,
    now: Timestamp,
) -> Result<Vec<Timer>, Error> {
    let mut timers = Vec::new();
    for function in functions {
        let Trigger::Timer { schedule, use_monitor, run_on_startup } = &function.trigger else {
            continue;
        };
        let wrong = |what| Error::Function { function: function.name.clone(), what };
        let schedule = Schedule::parse(schedule).map_err(wrong)?;
        let store = (*use_monitor && !schedule.is_close(now)).then(|| store.clone());
        let stored = store.as_ref().and_then(|store| store.get(&function.name));
        let past_due = stored.is_some_and(|status| status.next <= now);
        let next = schedule.next(now);
        if let (Some(store), None, Some(next)) = (&store, stored, next) {
            store.set(&function.name, Status { last: None, next, last_updated: now });
        }
        timers.push(Timer {
            function: function.name.clone(),
            schedule,
            store,
            next: if past_due || *run_on_startup { Some(now) } else { next },
            past_due,
            running: false,
            forced: false,
            awaited: false,
        });
    }
    Ok(timers)
}

impl TimerStore {
    fn get(&self, function: &str) -> Option<Status> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(function).copied()
    }

    fn set(&self, function: &str, status: Status) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(function.to_owned(), status);
    }
}

impl Timer {
    /// When it runs next, and whether a settling world waits for that.
    pub(super) fn due(&self, now: Timestamp) -> Option<(Timestamp, bool)> {
        if self.running {
            return None;
        }
        if self.forced {
            return Some((now, true));
        }
        self.next.map(|next| (next, self.awaited))
    }

    /// Begins a run if it is time for one, and says what the handler is told.
    pub(super) fn take(&mut self, now: Timestamp) -> Option<Value> {
        let due = self.forced || self.next.is_some_and(|next| next <= now);
        if self.running || !due {
            return None;
        }
        let status = self.store.as_ref().and_then(|store| store.get(&self.function));
        let data = data(self.schedule.is_cron(), status, self.past_due);
        (self.running, self.past_due, self.forced, self.awaited) = (true, false, false, false);
        Some(data)
    }

    fn finish(&mut self, now: Timestamp) {
        self.running = false;
        self.next = self.schedule.next(now);
        if let (Some(store), Some(next)) = (&self.store, self.next) {
            store.set(&self.function, Status { last: Some(now), next, last_updated: now });
        }
    }
}

fn data(adjust_for_dst: bool, status: Option<Status>, past_due: bool) -> Value {
    let offset = |at: Timestamp| format!("{}+00:00", precise(at));
    let status = status.map(|status| {
        json!({
            "Last": status.last.map_or_else(|| "0001-01-01T00:00:00+00:00".to_owned(), offset),
            "Next": offset(status.next),
            "LastUpdated": offset(status.last_updated),
        })
    });
    json!({
        "Schedule": { "AdjustForDST": adjust_for_dst },
        "ScheduleStatus": status,
        "IsPastDue": past_due,
    })
}

impl Inner {
    /// Runs one occurrence. The next one is counted from when it ends, so runs never overlap.
    pub(super) async fn run_timer(self: Arc<Self>, name: String, data: Value) {
        let _flight = Flight::new(&self);
        let function = self.function(&name);
        let envelope = Envelope { data, metadata: Members::default() };
        match self.invoke(function, envelope, About::default(), |_| Ok(())).await {
            Verdict::Success | Verdict::Failure(_) => self.finish_timer(&name),
            Verdict::Hang => self.hang(function, None),
        }
    }

    pub(super) fn finish_timer(&self, name: &str) {
        let now = self.clock.now();
        self.with_timer(name, |timer| timer.finish(now));
    }
}
