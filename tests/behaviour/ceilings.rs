//! Creations have a ceiling: what does not fit waits, and comes when there is room.

use crate::{
    disturbed::{NO_IDENTITY, run},
    harness::Sandbox,
};
use jiff::{SignedDuration, Timestamp};

/// Two projects appear at once under these guardrails; answers their runners' units.
async fn two_at_once(guardrails: &str) -> (Sandbox, [String; 2]) {
    let sandbox = Sandbox::new(&format!("{NO_IDENTITY}guardrails: {guardrails}\n")).await;
    let gitlab = &sandbox.world.gitlab;
    let projects = ["one", "two"].map(|path| gitlab.create_project(42, path));
    (sandbox, projects.map(|id| format!("runner/p{id}-plan")))
}

#[test]
fn what_the_hour_has_no_room_for_comes_after_the_hour() {
    run(async {
        let (sandbox, units) = two_at_once("{ runners: 500, creations: { perHour: 1 } }").await;
        sandbox.pass(SignedDuration::from_mins(50)).await;
        assert_eq!(sandbox.world.gitlab.runners().len(), 1, "{}", sandbox.story());
        sandbox.settle().await;
        let made: Vec<Timestamp> =
            sandbox.world.gitlab.runners().iter().map(|runner| runner.created_at).collect();
        assert_eq!(made.len(), 2, "{}", sandbox.story());
        let between = made[1].duration_since(made[0]);
        assert!(between >= SignedDuration::from_hours(1), "{between:#}");
        assert!(units.iter().all(|unit| sandbox.is_ready(unit)), "{}", sandbox.story());
    });
}

#[test]
fn what_the_fleet_has_no_room_for_waits_and_is_not_parked() {
    run(async {
        let (sandbox, units) = two_at_once("{ runners: 1, creations: { perHour: 50 } }").await;
        sandbox.pass(SignedDuration::from_hours(3)).await;
        assert_eq!(sandbox.world.gitlab.runners().len(), 1, "{}", sandbox.story());
        let ready = units.iter().filter(|unit| sandbox.is_ready(unit)).count();
        assert_eq!(ready, 1, "{}", sandbox.story());
        let parked = units.iter().filter(|unit| !sandbox.status(unit)["parked"].is_null()).count();
        assert_eq!(parked, 0, "{}", sandbox.story());
        // One manager, too: what waits has nothing that polls in vain.
        let managers = sandbox.world.kubernetes.list("deployments", "");
        assert_eq!(managers.len(), 1, "{managers:?}");
    });
}
