//! Random histories: whatever befalls a fleet, it comes to rest as if nothing had, and what must never happen does not.
//!
//! `FORERUNNER_SEED=n` runs the one history of that seed (with `FORERUNNER_EVENTS=0,3,7`, those events of it alone);
//! `FORERUNNER_HISTORIES=n` runs so many from a seed that is printed
//! (or that `FORERUNNER_FIRST_SEED` names). A history that fails is made shorter by leaving events out, as long as it fails.
//! The same seed gives the same fleet and events; jitter and the order of parallel calls are forerunner's own.

mod apply;
mod disturb;
mod event;
mod failure;
mod fleet;
mod orders;
mod rest;
mod secrets;

use crate::{disturbed::run, harness::Sandbox, invariants::record::Recorder};
use apply::Facts;
use event::{Event, SERVICES};
use failure::Failure;
use fleet::Fleet;
use forerunner::sandbox::azure::{self, Lag, Lags};
use jiff::SignedDuration;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    io::Write,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// How many `cargo test` runs: some twenty seconds of two cores.
const FEW: u64 = 16;
/// Histories run at once; each has a runtime of its own. One more than a small machine has cores: now and then each waits for
/// its own handler.
const AT_ONCE: usize = 3;
/// The last seeds that `cargo test` runs are the same each day; the nightly form draws its own.
const FIRST: u64 = 1000;

/// Managers poll this seldom: much time passes in a history.
const REST: SignedDuration = SignedDuration::from_secs(45);

/// A fleet, what befalls it, and how slow its Azure is.
#[derive(Clone, Debug)]
struct History {
    seed: u64,
    fleet: Fleet,
    lags: Lags,
    /// With their numbers, which a shorter history keeps.
    events: Vec<(usize, Event)>,
}

impl History {
    fn draw(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let fleet = Fleet::draw(&mut random);
        let mut lag = |most: u64| {
            let seconds = if random.random_bool(0.5) { random.random_range(0..most) } else { 0 };
            Lag { least: Duration::ZERO, most: Duration::from_secs(seconds) }
        };
        let lags = Lags {
            identity_read: lag(20),
            principal: lag(60),
            credential: lag(15),
            graph: lag(120),
        };
        let mut events = vec![Event::NewGroup; random.random_range(1..=3)];
        let length = random.random_range(4..=26);
        events.extend((0..length).map(|_| Event::draw(&mut random)));
        let events = events.into_iter().enumerate().collect();
        Self { seed, fleet, lags, events }
    }

    fn azure(&self) -> azure::Settings {
        azure::Settings { lags: self.lags, seed: self.seed, ..azure::Settings::default() }
    }

    /// Lets it happen; answers how many sweeps the world needed to come to rest.
    async fn happen(&self) -> Result<usize, Failure> {
        let sandbox = Sandbox::with(&self.fleet.text(), self.azure()).await;
        sandbox.world.managers.rest_between(REST);
        let outside = sandbox.world.gitlab.create_group(None, "elsewhere");
        let mut facts = Facts::new(self.fleet.clone(), outside);
        let recorder = Recorder::watch(&sandbox, facts.truth(&sandbox));
        // The ledger is a day old before anything may leave.
        sandbox.sweep().await;
        let mut random = StdRng::seed_from_u64(self.seed ^ 0xbeef);
        for (_, event) in &self.events {
            facts.happen(&sandbox, event).await;
            recorder.tell(facts.truth(&sandbox));
            let pause = SignedDuration::from_secs(if random.random_bool(0.3) {
                0
            } else {
                random.random_range(1..40)
            });
            sandbox.pass(pause).await;
        }
        rest::calm_down(&mut facts, &sandbox).await;
        recorder.tell(facts.truth(&sandbox));
        let fresh = Sandbox::with(&facts.fleet.text(), self.azure()).await;
        fresh.world.managers.rest_between(REST);
        let calm = async {
            let same = fresh.world.gitlab.create_group(None, "elsewhere");
            assert_eq!(same, outside);
            rest::undisturbed(&facts, &fresh).await
        };
        let calm = calm.await?;
        let rested = rest::come_to_rest(&mut facts, &sandbox, &calm, &recorder).await;
        if let Some(broken) = Failure::of_invariants(&recorder.broken(&sandbox)) {
            return Err(broken);
        }
        all_services_are_disturbed(&sandbox)?;
        rested
    }

    /// Leaves out events as long as it still fails about the same. Answers the shortest that was found, and why it fails.
    fn shrink(mut self, mut failure: Failure) -> (Self, Failure) {
        let mut size = self.events.len().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < self.events.len() {
                let mut shorter = self.clone();
                shorter.events.drain(at..(at + size).min(self.events.len()));
                match shorter.try_it() {
                    Err(same) if same.part == failure.part => (self, failure) = (shorter, same),
                    Ok(_) | Err(_) => at += size,
                }
            }
            size /= 2;
        }
        (self, failure)
    }

    /// A panic is a failure like another.
    fn try_it(&self) -> Result<usize, Failure> {
        let attempt = std::panic::catch_unwind(|| run(self.happen()));
        attempt.unwrap_or_else(|panic| Err(Failure::of_panic(&*panic)))
    }
}

/// Whatever forerunner calls may refuse or lose a call in some history.
fn all_services_are_disturbed(sandbox: &Sandbox) -> Result<(), Failure> {
    let calls = sandbox.world.wire.calls().into_iter();
    let mut spared = calls.filter(|call| call.is_ours() && !SERVICES.contains(&call.service));
    match spared.next() {
        Some(call) => Err(Failure::new("services", format!("nothing befalls {call:?}"))),
        None => Ok(()),
    }
}

#[expect(clippy::disallowed_methods, reason = "a test that is told how much to do")]
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// The events that a replay is told to keep.
#[expect(clippy::disallowed_methods, reason = "a test that is told what to do")]
fn kept() -> Option<Vec<usize>> {
    let text = std::env::var("FORERUNNER_EVENTS").ok()?;
    Some(text.split(',').map(|number| number.parse().unwrap()).collect())
}

/// Past what the test harness keeps of a test that passes: the seeds of every run are to be found again.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[test]
fn a_fleet_comes_to_rest_whatever_befalls_it() {
    let one = number("FORERUNNER_SEED");
    let many = number("FORERUNNER_HISTORIES");
    let first = match (one, many) {
        (Some(seed), _) => seed,
        (None, Some(_)) => {
            number("FORERUNNER_FIRST_SEED").unwrap_or_else(|| rand::random_range(0..1 << 32))
        }
        (None, None) => FIRST,
    };
    let count = if one.is_some() { 1 } else { many.unwrap_or(FEW) };
    say(&format!("histories {first} to {}", first + count - 1));
    let only = kept();
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let (failed, sweeps) = (Mutex::new(Vec::new()), Mutex::new(BTreeMap::<usize, u64>::new()));
    let work = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed) as u64;
            if number >= count {
                return;
            }
            let mut history = History::draw(first + number);
            if let Some(only) = &only {
                history.events.retain(|(number, _)| only.contains(number));
            }
            if one.is_some() {
                eprintln!("{:#?}", history.events);
            }
            match history.try_it() {
                Ok(needed) => *sweeps.lock().unwrap().entry(needed).or_default() += 1,
                Err(failure) => {
                    eprintln!("seed {} fails about {failure}", history.seed);
                    failed.lock().unwrap().push((history, failure));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        (0..AT_ONCE).for_each(|_| _ = scope.spawn(work));
    });
    let took = began.elapsed().as_secs_f64();
    let rate = count as f64 / took;
    say(&format!(
        "{count} histories in {took:.0} s, {rate:.1} a second; sweeps to rest: {:?}",
        sweeps.into_inner().unwrap()
    ));
    let mut failed = failed.into_inner().unwrap();
    let seeds: Vec<u64> = failed.iter().map(|(history, _)| history.seed).collect();
    let Some((history, failure)) = failed.pop() else { return };
    let (short, Failure { why, .. }) = history.shrink(failure);
    panic!("seeds {seeds:?} fail; the last with no more than {:#?}\n{why}", short);
}
