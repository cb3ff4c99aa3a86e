//! The handler dies around a call, or an answer is lost: in the end there is what the undisturbed run leaves.

use crate::{
    deeds::client,
    disturbed::{EXISTING, MANAGED, PROJECT, Scenario, calm, check_all, run, same, settle},
    harness::{FLEET, Sandbox},
};
use forerunner::sandbox::wire::{Call, Fault, Moment, Service, What};
use jiff::SignedDuration;
use std::{collections::BTreeSet, fmt};

#[derive(Clone)]
pub(crate) struct Crash {
    pub(crate) call: usize,
    pub(crate) moment: Moment,
    /// What the undisturbed run called at about that time: parallel calls come in any order.
    pub(crate) about: String,
    writes: bool,
}

impl Crash {
    /// Whether the call may change anything.
    pub(crate) fn is_of_a_write(&self) -> bool {
        self.writes
    }
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dies {:?} of call {}, {}", self.moment, self.call, self.about)
    }
}

/// Before and after each write. A read has no effect: to die after it is to die before it, and to die at the same
/// read again, with no other write between, is to die at the first.
pub(crate) fn crashes(calls: &[Call]) -> Vec<Crash> {
    let (mut all, mut read) = (Vec::new(), BTreeSet::new());
    for (at, call) in calls.iter().enumerate() {
        let about = format!("{:?} {} {}", call.service, call.method, call.path);
        // A POST that only asks is a read too.
        let asks = ["/api/graphql", "Microsoft.ResourceGraph"];
        let writes = call.is_write() && !asks.iter().any(|path| call.path.contains(path));
        let before = Crash { call: at, moment: Moment::BeforeEffect, about, writes };
        if writes {
            all.push(Crash { moment: Moment::AfterEffect, ..before.clone() });
            all.push(before);
            // A message to ourselves changes nothing that a read would see.
            if call.service != Service::ServiceBus {
                read.clear();
            }
        } else if read.insert(before.about.clone()) {
            all.push(before);
        }
    }
    all
}

/// Whether this run is the nightly one.
#[expect(clippy::disallowed_methods, reason = "a test that is told how much to do")]
pub(crate) fn takes_its_time() -> bool {
    std::env::var("FORERUNNER_HISTORIES").is_ok()
}

/// Around every third write, or at every call where time is no matter (`FORERUNNER_HISTORIES`): to die at a read is to die
/// before the write that follows it.
pub(crate) fn some_of(mut all: Vec<Crash>) -> Vec<Crash> {
    if takes_its_time() {
        return all;
    }
    all.retain(Crash::is_of_a_write);
    all.into_iter().step_by(3).collect()
}

fn check_crashes(scenario: Scenario) {
    let (inventory, calls) = run(calm(scenario));
    check_all(&crashes(&calls), async |crash| {
        let sandbox = Sandbox::new(scenario.fleet).await;
        sandbox.world.wire.crash_at(crash.call, crash.moment);
        let unit = (scenario.begin)(&sandbox);
        let found = settle(&sandbox, &unit).await?;
        same(&sandbox, &found, &inventory)
    });
}

#[test]
fn a_crash_around_any_call_leaves_no_trace_with_an_identity_of_its_own() {
    check_crashes(MANAGED);
}

#[test]
fn a_crash_around_any_call_leaves_no_trace_with_an_existing_identity() {
    check_crashes(EXISTING);
}

#[test]
fn a_crash_around_any_call_leaves_no_trace_on_a_project_without_identity() {
    check_crashes(PROJECT);
}

/// No history may go on without a handler and fail for what nobody did any more.
#[tokio::test]
async fn a_handler_that_does_not_come_back_is_said() {
    let sandbox = Sandbox::new(FLEET).await;
    let world = &sandbox.world;
    world.host().unwrap().stop().await;
    world.wire.crash_at(0, Moment::BeforeEffect);
    let calls = world.wire.calls().len();
    let url = format!("http://{}/api/v4/version", world.address("gitlab").unwrap());
    let last_call = client().get(url).header("user-agent", "forerunner/test").send();
    let passed = async {
        while world.wire.calls().len() == calls {
            tokio::task::yield_now().await;
        }
        world.pass(SignedDuration::from_mins(1)).await
    };
    let said = tokio::select! {
        answer = last_call => panic!("it died: {answer:?}"),
        passed = passed => passed.unwrap_err().to_string(),
    };
    assert_eq!(said, "the handler did not come back: the host is stopped");
}

/// One kind of call, and what happens to the first of it.
#[derive(Clone)]
struct Trouble {
    service: Service,
    method: &'static str,
    path: String,
    what: What,
    /// Two of it also meet the repeat in place.
    times: usize,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, method, path, what, times } = self;
        let what = match what {
            What::DropBeforeEffect | What::DropAfterEffect | What::Hang => format!("{what:?}"),
            What::Answer { status, .. } => status.to_string(),
        };
        write!(f, "{what} {times} times to {service:?} {method} {path}")
    }
}

/// Each different call once, as service, method and path.
fn kinds(calls: &[Call]) -> Vec<(Service, &'static str, String)> {
    let method = |method: &str| {
        ["GET", "POST", "PUT", "PATCH", "DELETE"].into_iter().find(|known| *known == method)
    };
    let kinds: BTreeSet<_> = calls
        .iter()
        .filter_map(|call| Some((call.service, method(&call.method)?, stable(&call.path))))
        .collect();
    kinds.into_iter().collect()
}

/// The part of a path that does not depend on a principal's id, which another run may have otherwise.
fn stable(path: &str) -> String {
    let of_principal = path.find("/roleAssignments").map(|at| at + "/roleAssignments".len());
    path[..of_principal.unwrap_or(path.len())].to_owned()
}

/// Whether the trouble met a call at all.
fn is_met(calls: &[Call], trouble: &Trouble) -> bool {
    let status = match trouble.what {
        What::DropBeforeEffect | What::DropAfterEffect | What::Hang => None,
        What::Answer { status, .. } => Some(status),
    };
    calls.iter().any(|call| {
        call.service == trouble.service
            && call.method == trouble.method
            && call.path.contains(&trouble.path)
            && call.status == status
    })
}

fn check_trouble(scenario: Scenario, whats: &[(What, usize)], concerns: fn(&Call) -> bool) {
    let (inventory, calls) = run(calm(scenario));
    let calls: Vec<Call> = calls.into_iter().filter(concerns).collect();
    let of = |(service, method, path): (Service, &'static str, String)| {
        let trouble = move |(what, times): &(What, usize)| Trouble {
            service,
            method,
            path: path.clone(),
            what: what.clone(),
            times: *times,
        };
        whats.iter().map(trouble).collect::<Vec<_>>()
    };
    let cases: Vec<Trouble> = kinds(&calls).into_iter().flat_map(of).collect();
    check_all(&cases, async |trouble| {
        let sandbox = Sandbox::new(scenario.fleet).await;
        let Trouble { service, method, path, what, times } = trouble.clone();
        sandbox.world.wire.add_fault(Fault { service, method: Some(method), path, times, what });
        let unit = (scenario.begin)(&sandbox);
        let found = settle(&sandbox, &unit).await?;
        if !is_met(&sandbox.world.wire.calls(), &trouble) {
            return Err("no call met it".to_owned());
        }
        same(&sandbox, &found, &inventory)
    });
}

fn lost_answers() -> [(What, usize); 3] {
    [(What::DropBeforeEffect, 1), (What::DropAfterEffect, 1), (What::DropAfterEffect, 2)]
}

fn answers() -> [(What, usize); 3] {
    let answer = |status, headers, body: &str| What::Answer { status, headers, body: body.into() };
    let html = "<html><head><title>502 Bad Gateway</title></head><body>proxy</body></html>";
    let soon = vec![("retry-after", "2".to_owned())];
    [
        (answer(500, vec![], r#"{"message":"500 Internal Server Error"}"#), 1),
        (answer(502, vec![("content-type", "text/html".to_owned())], html), 2),
        (answer(429, soon, r#"{"message":"Too many requests"}"#), 2),
    ]
}

#[test]
fn a_lost_answer_to_a_write_leaves_no_trace_with_an_identity_of_its_own() {
    check_trouble(MANAGED, &lost_answers(), Call::is_write);
}

#[test]
fn a_lost_answer_to_a_write_leaves_no_trace_with_an_existing_identity() {
    check_trouble(EXISTING, &lost_answers(), Call::is_write);
}

#[test]
fn a_refusal_of_a_write_for_a_while_leaves_no_trace() {
    check_trouble(MANAGED, &answers(), Call::is_write);
}

#[test]
fn a_refusal_of_a_read_for_a_while_leaves_no_trace() {
    check_trouble(MANAGED, &answers()[1..2], |call| !call.is_write());
}
