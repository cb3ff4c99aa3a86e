//! Profiles that ask for more than the guardrails allow: their units rest, and what was given out there goes with a permit.

use crate::{
    deeds::{APP, plan_fleet},
    harness::Sandbox,
};
use forerunner::sandbox::wire::{Fault, Service, What};
use jiff::SignedDuration;
use std::collections::BTreeSet;

/// The domain is one unit for many runners: their pause alone would leave it to give what the guardrails refuse.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_domain_gives_nothing_beyond_the_guardrails() {
    let reader =
        plan_fleet().replace("identity: { managed", "isolation: profile, identity: { managed");
    let writer = reader.replace("role: Reader", "role: Contributor");
    for (case, wider) in [
        ("a role", writer.replace("[Reader, Contributor, AcrPush]", "[Reader, AcrPush]")),
        ("a scope", writer.replace("guardrails:\n", &format!("guardrails:\n  never: [{APP}]\n"))),
    ] {
        let sandbox = Sandbox::new(&reader).await;
        let group = sandbox.world.gitlab.create_group(Some(42), "payments");
        sandbox.settle().await;
        let (key, domain) = (format!("g{group}-plan"), "domain/plan");
        sandbox.assert_ready(domain);
        let given = || {
            sandbox
                .world
                .azure
                .assignments()
                .into_iter()
                .map(|one| one.name)
                .collect::<BTreeSet<_>>()
        };
        let before = given();
        sandbox.deploy(&wider).await;
        sandbox.sweep().await;
        assert_eq!(given(), before, "{case}: {}", sandbox.story());
        assert_eq!(sandbox.ready(domain).0, "OutsideGuardrails", "{case}");
        assert!(sandbox.runner(&key).paused, "{case}");
        sandbox.world.wire.forget_calls();
        sandbox.sweep().await;
        let writes = sandbox.own_writes();
        assert!(writes.is_empty(), "{case}: {writes:?}");
        sandbox.deploy(&reader).await;
        sandbox.sweep().await;
        sandbox.assert_ready(domain);
        assert!(!sandbox.runner(&key).paused, "{case}");
    }
}

/// What was given within the guardrails of then: it goes with a sweep's permit, past no freeze, and comes back with them. So does what
/// an identity has that the file has no use for any more, as long as runners that rest do not move out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_outside_the_guardrails_go_with_a_permit() {
    let own = plan_fleet();
    let shared = own.replace("identity: { managed", "isolation: profile, identity: { managed");
    for (case, file, next) in [
        ("its own", &own, &own),
        ("shared", &shared, &shared),
        ("its own before", &own, &shared),
        ("shared before", &shared, &own),
    ] {
        let sandbox = Sandbox::new(file).await;
        let group = sandbox.world.gitlab.create_group(Some(42), "payments");
        sandbox.settle().await;
        let key = format!("g{group}-plan");
        let unit = match case.starts_with("shared") {
            true => "domain/plan".to_owned(),
            false => format!("runner/{key}"),
        };
        let principal = sandbox.world.azure.identities()[0].principal_id;
        let given = || {
            let all = sandbox.world.azure.assignments().into_iter();
            all.filter(|one| one.principal_id == principal).count()
        };
        assert_eq!(given(), 1);
        sandbox.leap_to("2026-11-26T08:00:00Z");
        let lower = next.replace("[Reader, Contributor, AcrPush]", "[AcrPush]");
        let frozen = "  freeze: [{ from: 2026-11-26, to: 2026-11-26, allow: [revoke] }]\n";
        sandbox.deploy(&format!("{lower}{frozen}")).await;
        sandbox.sweep().await;
        sandbox.sweep().await;
        let reason = if case == "shared before" { "NotWanted" } else { "OutsideGuardrails" };
        assert_eq!(sandbox.ready(&unit).0, reason, "{case}: {}", sandbox.status(&unit));
        assert_eq!(given(), 1, "{case}: nothing goes in a freeze");
        let told = sandbox.condition(&unit, "NeedsAdministrator");
        let message = told["message"].as_str().unwrap_or_default();
        assert!(
            told["reason"] == "RightsOutsideGuardrails"
                && message.contains("az role assignment delete"),
            "{case}: {told}"
        );
        sandbox.leap_to("2026-11-28T08:00:00Z");
        sandbox.deploy(&lower).await;
        sandbox.sweep().await;
        sandbox.sweep().await;
        sandbox.sweep().await;
        assert_eq!(given(), 0, "{case}: {}", sandbox.story());
        assert!(sandbox.condition(&unit, "NeedsAdministrator").is_null(), "{case}");
        assert_eq!(sandbox.world.azure.identities().len(), 1, "{case}: the unit stays");
        sandbox.world.wire.forget_calls();
        sandbox.sweep().await;
        let writes = sandbox.own_writes();
        assert!(writes.is_empty(), "{case}: {writes:?}");
        sandbox.deploy(file).await;
        sandbox.sweep().await;
        sandbox.assert_ready(&unit);
        assert_eq!(given(), 1, "{case}");
        // What a job may do spreads anew before one can begin.
        let again = sandbox.first_call("PUT", "/roleAssignments/").unwrap();
        let runner = sandbox.runner(&key);
        assert!(!runner.paused, "{case}: {}", sandbox.status(&unit));
        let opened = sandbox.first_call("PUT", &format!("/runners/{}", runner.id)).unwrap();
        let spread = opened.duration_since(again);
        assert!(spread >= SignedDuration::from_mins(2), "{case}: {spread}");
    }
}

/// What it may do out there is told and taken once Azure answers again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_outside_the_guardrails_rests_whatever_azure_says() {
    let own = plan_fleet();
    let shared = own.replace("identity: { managed", "isolation: profile, identity: { managed");
    for next in [&own, &shared] {
        let sandbox = Sandbox::new(&own).await;
        let group = sandbox.world.gitlab.create_group(Some(42), "payments");
        sandbox.settle().await;
        let (key, unit) = (format!("g{group}-plan"), format!("runner/g{group}-plan"));
        let identity = sandbox.world.azure.identities().remove(0);
        sandbox.leap_to("2026-11-26T08:00:00Z");
        sandbox.deploy(&next.replace("[Reader, Contributor, AcrPush]", "[AcrPush]")).await;
        let what = What::Answer { status: 503, headers: vec![], body: "<html>".into() };
        sandbox.world.wire.add_fault(Fault {
            service: Service::Arm,
            method: Some("GET"),
            path: "/userAssignedIdentities/".to_owned(),
            times: usize::MAX,
            what,
        });
        sandbox.wake(&unit);
        sandbox.settle().await;
        assert!(sandbox.runner(&key).paused, "{next}: {}", sandbox.story());
        assert_eq!(sandbox.replicas(&key), 0, "{next}");
        sandbox.world.wire.clear_faults();
        sandbox.sweep().await;
        sandbox.sweep().await;
        sandbox.sweep().await;
        let all = sandbox.world.azure.assignments();
        let has = all.iter().any(|one| one.principal_id == identity.principal_id);
        assert!(!has, "{next}: {}", sandbox.story());
    }
}
