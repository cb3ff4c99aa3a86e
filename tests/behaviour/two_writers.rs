//! Two processes run a round of one unit at once, as functions do that lost a lock, or a desk beside a function: one stands
//! still before a call, the other runs to its end.

use crate::{
    crashes::takes_its_time,
    disturbed::{EXISTING, MANAGED, PROJECT, Scenario, calm, check_all, run, same, settle},
    harness::Sandbox,
};
use forerunner::{
    cli::load,
    config::Settings,
    domain::message::{Message, Reason},
    reconcile::{Here, Outbox, Outcome, Rounds},
    sandbox::wire::{Call, Fault, Service, What},
};
use std::{fmt, pin::pin, sync::Arc};

/// What the world looks like when both begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    /// An entity without a Secret: a third process died with its token.
    TokenLost,
    /// The runner's round is done, and the existing identity is asked for a place.
    Asked,
    /// It was settled; then somebody deleted its entity and its role, and scaled its manager.
    Drifted,
}

/// Where a round comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    /// The function: what comes next goes to the queue.
    Queue,
    /// `apply --local`: a lock is nobody's, and what comes next ends with the process.
    Desk,
}

#[derive(Clone)]
struct Interleaving {
    before: Before,
    /// Who stands still, and who runs meanwhile.
    sides: (Side, Side),
    call: usize,
    about: String,
}

impl fmt::Display for Interleaving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, sides: (held, runs), call, about } = self;
        write!(f, "{before:?}, {held:?} held before call {call}, {about}, while {runs:?} runs")
    }
}

/// What a process of its own has: nothing shared but the world.
pub(crate) fn process(sandbox: &Sandbox) -> Rounds {
    let mut given = sandbox.world.settings(&sandbox.folder.join("fleet.yaml"));
    given.remove("FORERUNNER_CLOCK");
    let settings = Settings::read(|name| given.get(name).cloned()).unwrap();
    load::load(&settings, sandbox.world.clock.clone()).unwrap().rounds
}

fn side(sandbox: &Sandbox, side: Side) -> Rounds {
    match side {
        Side::Queue => process(sandbox),
        Side::Desk => {
            let mut given = sandbox.world.settings(&sandbox.folder.join("fleet.yaml"));
            given.remove("FORERUNNER_CLOCK");
            given.remove("ServiceBus__fullyQualifiedNamespace");
            let settings = Settings::read(|name| given.get(name).cloned()).unwrap();
            let here = Outbox::Here(Arc::new(Here::default()));
            load::rounds_here(&settings, sandbox.world.clock.clone(), here).unwrap()
        }
    }
}

/// What people did to a settled runner while no hook told of it.
async fn drift(sandbox: &Sandbox, runner: &str) {
    settle(sandbox, runner).await.unwrap_or_else(|error| panic!("{error}"));
    sandbox.lose_hooks();
    let key = runner.trim_start_matches("runner/");
    sandbox.world.gitlab.delete_runner(sandbox.runner(key).id);
    let azure = &sandbox.world.azure;
    if let Some(identity) = azure.identities().first() {
        let all = azure.assignments();
        let own = all.iter().find(|one| one.principal_id == identity.principal_id).unwrap();
        assert!(azure.remove_assignment(own.name));
    }
    let scale = |object: &mut serde_json::Value| object["spec"]["replicas"] = 3.into();
    let manager = format!("runner-{key}");
    sandbox.world.kubernetes.edit("deployments", "forerunner-nonprod", &manager, scale);
}

fn wake(unit: &str) -> Message {
    Message::wake(unit.parse().unwrap(), Reason::Command, "two-writers".to_owned())
}

/// Makes the world as it is before both begin; answers the unit they run, and the runner's.
async fn prepare(sandbox: &Sandbox, scenario: Scenario, before: Before) -> (String, String) {
    let runner = (scenario.begin)(sandbox);
    match before {
        Before::Nothing => return (runner.clone(), runner),
        Before::Drifted => {
            drift(sandbox, &runner).await;
            return (runner.clone(), runner);
        }
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
    Interleaving { before, sides: (held_side, runs), call, .. }: Interleaving,
) -> Result<(Sandbox, String), String> {
    let sandbox = Sandbox::new(scenario.fleet).await;
    let (unit, runner) = prepare(&sandbox, scenario, before).await;
    let (first, second) = (side(&sandbox, held_side), side(&sandbox, runs));
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
    check_sides(scenario, before, &[(Side::Queue, Side::Queue)]);
}

fn check_sides(scenario: Scenario, before: Before, sides: &[(Side, Side)]) {
    let (inventory, _) = run(calm(scenario));
    let calls = run(alone(scenario, before));
    let case = |(call, about): (usize, &Call), sides: (Side, Side)| Interleaving {
        before,
        sides,
        call,
        about: format!("{:?} {} {}", about.service, about.method, about.path),
    };
    let of_call = |numbered| sides.iter().map(move |sides| case(numbered, *sides));
    // Healing, and a desk beside a queue: every third call stands for those beside it.
    let stands_for_three = sides.len() > 1 || before == Before::Drifted;
    let step = if stands_for_three && !takes_its_time() { 3 } else { 1 };
    let numbered = calls.iter().enumerate().step_by(step);
    let cases: Vec<Interleaving> = numbered.flat_map(of_call).collect();
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

#[test]
fn two_processes_that_heal_one_runner_heal_it_once() {
    check_both(MANAGED, Before::Drifted);
}

/// One of them is `apply --local`, which has no session: whoever stands still.
const BESIDE: [(Side, Side); 2] = [(Side::Desk, Side::Queue), (Side::Queue, Side::Desk)];

#[test]
fn a_desk_beside_a_round_makes_one_runner() {
    check_sides(MANAGED, Before::Nothing, &BESIDE);
}

#[test]
fn a_desk_beside_a_round_gives_one_place_of_an_existing_identity() {
    check_sides(EXISTING, Before::Asked, &BESIDE);
}

#[test]
fn a_desk_beside_a_round_heals_once() {
    check_sides(PROJECT, Before::Drifted, &BESIDE);
}
