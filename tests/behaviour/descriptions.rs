//! Every exchange that a test sees is checked against the vendors' own descriptions (Swagger 2.0 files, not ours to ship).
//!
//! `FORERUNNER_DESCRIPTIONS` names the folder that holds them; without it nothing is checked. A violation fails the test that
//! saw it. What the suite checked is left in a file for `tests/descriptions.rs`, which runs after it, prints and judges it.

pub(crate) mod check;
mod description;
mod exceptions;
mod faults;
mod find;
mod suite;
#[path = "descriptions/tally.rs"]
mod tally;
mod translate;
mod violation;

use check::{Asked, Content};
use forerunner::sandbox::wire::{Exchange, Service, Wire};
use serde_json::Value;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};
use suite::Suite;

/// The services that somebody has described.
const DESCRIBED: [Service; 3] = [Service::Gitlab, Service::Arm, Service::KeyVault];

/// Held by a test for as long as it lasts: fails it if anything it saw is not as described.
#[derive(Default)]
pub(crate) struct Watched(Findings);

/// What a server of the test has to tell to whoever holds the [`Watched`].
#[derive(Clone, Default)]
pub(crate) struct Findings(Arc<Mutex<Found>>);

#[derive(Default)]
struct Found {
    violations: Vec<String>,
    /// What comes now is not ours to judge.
    is_closed: bool,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(suite) = Suite::get() {
            suite.record();
        }
        let found = self.0.found().violations.join("\n  ");
        if !found.is_empty() && !thread::panicking() {
            panic!("not as the vendors describe it:\n  {found}");
        }
    }
}

impl Watched {
    pub(crate) fn findings(&self) -> Findings {
        self.0.clone()
    }

    /// Holds nothing against what is said from now on: somebody else's program speaks.
    pub(crate) fn close(&self) {
        self.0.found().is_closed = true;
    }
}

impl Findings {
    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, violations: Vec<String>) {
        let mut found = self.found();
        for violation in violations {
            if !found.violations.contains(&violation) {
                found.violations.push(violation);
            }
        }
    }

    /// Checks a request that a stand-in was asked, if it was ours and to a described service.
    pub(crate) fn asked(&self, host: &str, caller: &str, asked: &Asked<'_>) {
        let suite = Suite::get().filter(|_| is_actors(caller));
        if let (Some(suite), Some(service)) = (suite, service_of(host)) {
            self.add(suite.check_request(service, asked));
        }
    }
}

/// Which described service a host is.
fn service_of(host: &str) -> Option<Service> {
    match host {
        "gitlab.example.com" => Some(Service::Gitlab),
        "management.azure.com" => Some(Service::Arm),
        _ if host.ends_with(".vault.azure.net") => Some(Service::KeyVault),
        _ => None,
    }
}

/// Checks all that passes this wire from now on.
pub(crate) fn watch(wire: &Wire) -> Watched {
    let watched = Watched::default();
    if let Some(suite) = Suite::get() {
        let findings = watched.findings();
        // The suite counts what it checks, so what is not ours to judge must not get there.
        let observer = move |exchange: &Exchange| {
            if !findings.found().is_closed {
                findings.add(suite.check(exchange));
            }
        };
        wire.observe(&DESCRIBED, Arc::new(observer));
    }
    watched
}

/// Whether a call was forerunner's or a manager's. Tests call too, with whatever they want to see refused or ignored.
fn is_actors(caller: &str) -> bool {
    caller.starts_with("forerunner/") || caller.starts_with("gitlab-runner")
}

/// What was recorded of the real services, request and answer, is as they describe themselves.
#[test]
fn recorded_exchanges_are_as_described() {
    let Some(suite) = Suite::get() else { return };
    let watched = Watched::default();
    for vector in super::fakes::vectors("azure") {
        let (request, response) = (&vector["request"], &vector["response"]);
        let url: url::Url = request["url"].as_str().unwrap().parse().unwrap();
        let Some(service) = url.host_str().and_then(service_of) else { continue };
        let text = |body: &Value| if body.is_null() { String::new() } else { body.to_string() };
        let (sent, got) = (text(&request["body"]), text(&response["body"]));
        let kind = response["headers"]["Content-Type"].as_str().unwrap_or_default();
        let asked = Asked {
            method: request["method"].as_str().unwrap(),
            path: &url[url::Position::BeforePath..],
            body: Content { kind: "application/json", bytes: sent.as_bytes() },
        };
        let status = response["status"].as_u64().unwrap() as u16;
        let answer = Content { kind, bytes: got.as_bytes() };
        watched.findings().add(suite.check_both(service, true, &asked, status, answer));
    }
}
