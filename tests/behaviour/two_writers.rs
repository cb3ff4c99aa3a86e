//! Two processes run a round of one unit at once: one stands still before a call, the other runs to its end.

use crate::{
    disturbed::{EXISTING, MANAGED, PROJECT, Scenario, calm, check_all, run, same, settle},
    harness::Sandbox,
};
use forerunner::{
    cli::load,
    config::Settings,
    domain::message::{Message, Reason},
    reconcile::{Outcome, Rounds},
    sandbox::wire::{Call, Fault, Service, What},
};
use std::{fmt, pin::pin};

/// What the world looks like when both begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    /// An entity without a Secret: a third process died with its token.
    TokenLost,
    /// The runner's round is done, and the existing identity is asked for a place.
    Asked,
}

#[derive(Clone)]
struct Interleaving {
    before: Before,
    call: usize,
    about: String,
}

impl fmt::Display for Interleaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, held before call {}, {}", self.before, self.call, self.about)
    }
}

/// What a process of its own has: nothing shared but the world.
pub(crate) fn process(sandbox: &Sandbox) -> Rounds {
    let mut given = sandbox.world.settings(&sandbox.folder.join("fleet.yaml"));
    given.remove("FORERUNNER_CLOCK");
    let settings = Settings::read(|name| given.get(name).cloned()).unwrap();
    load::load(&settings, sandbox.world.clock.clone()).unwrap().rounds
}

fn wake(unit: &str) -> Message {
    Message::wake(unit.parse().unwrap(), Reason::Command, "two-writers".to_owned())
}

/// Makes the world as it is before both begin; answers the unit they run, and the runner's.
async fn prepare(sandbox: &Sandbox, scenario: Scenario, before: Before) -> (String, String) {
    let runner = (scenario.begin)(sandbox);
    match before {
        Before::Nothing => return (runner.clone(), runner),
        Before::TokenLost => sandbox.world.wire.add_fault(Fault {
            service: Service::Gitlab,
            method: Some("POST"),
            path: "/api/v4/user/runners".to_owned(),
            times: 1,
            what: What::DropAfterEffect,
        }),
        Before::Asked => {}
    }
    let outcome = process(sandbox).round(&wake(&runner)).await;
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    if before == Before::TokenLost {
        assert_eq!(sandbox.world.gitlab.runners().len(), 1, "{}", sandbox.story());
        return (runner.clone(), runner);
    }
    let messages = sandbox.world.service_bus.messages("rounds");
    let mut sessions = messages.iter().filter_map(|one| one.properties.session_id.clone());
    let asked = sessions.find(|session| session.starts_with("identity/"));
    let unit = asked.unwrap_or_else(|| panic!("no identity is asked: {}", sandbox.story()));
    (unit, runner)
}

/// The calls of one round alone.
async fn alone(scenario: Scenario, before: Before) -> Vec<Call> {
    let sandbox = Sandbox::new(scenario.fleet).await;
    let (unit, _) = prepare(&sandbox, scenario, before).await;
    sandbox.world.wire.forget_calls();
    process(&sandbox).round(&wake(&unit)).await;
    sandbox.world.wire.calls().into_iter().filter(Call::is_ours).collect()
}

async fn interleave(
    scenario: Scenario,
    Interleaving { before, call, .. }: Interleaving,
) -> Result<(Sandbox, String), String> {
    let sandbox = Sandbox::new(scenario.fleet).await;
    let (unit, runner) = prepare(&sandbox, scenario, before).await;
    let (first, second) = (process(&sandbox), process(&sandbox));
    let message = wake(&unit);
    let mut held = sandbox.world.wire.hold_at(call);
    {
        let mut round = pin!(first.round(&message));
        tokio::select! {
            biased;
            () = held.reached() => {
                // The first is not polled meanwhile: it stands still wherever it is.
                second.round(&message).await;
                drop(held);
                round.await;
            }
            // Parallel calls come in any order, and a round may need one less.
            _ = &mut round => {}
        }
    }
    Ok((sandbox, runner))
}

fn check_both(scenario: Scenario, before: Before) {
    let (inventory, _) = run(calm(scenario));
    let calls = run(alone(scenario, before));
    let case = |(call, about): (usize, &Call)| Interleaving {
        before,
        call,
        about: format!("{:?} {} {}", about.service, about.method, about.path),
    };
    let cases: Vec<Interleaving> = calls.iter().enumerate().map(case).collect();
    check_all(&cases, async |case| {
        let (sandbox, runner) = interleave(scenario, case).await?;
        let found = settle(&sandbox, &runner).await?;
        same(&sandbox, &found, &inventory)
    });
}

#[test]
fn two_processes_with_a_new_runner_make_one() {
    check_both(MANAGED, Before::Nothing);
}

#[test]
fn two_processes_with_a_new_projects_runner_make_one() {
    check_both(PROJECT, Before::Nothing);
}

#[test]
fn two_processes_with_a_lost_token_leave_one_that_lives() {
    check_both(PROJECT, Before::TokenLost);
}

#[test]
fn two_processes_with_an_existing_identity_give_one_place() {
    check_both(EXISTING, Before::Asked);
}
