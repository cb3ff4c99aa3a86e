//! A large fleet of which five units fail for ever: the others do not wait for them.

use crate::{deeds::HEAD, harness::Sandbox};
use forerunner::sandbox::wire::{Fault, Service, What};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// What `cargo test` does in about half a minute; the nightly form has all five hundred.
const FEW: u64 = 40;
const ALL: u64 = 500;
/// `maxConcurrentSessions` of host.json.
const SESSIONS: usize = 8;

const GOOD: &str = "/subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/app";
const REFUSED: &str = "/subscriptions/00000000-0000-4000-8000-000000003333/resourceGroups/app";

/// Plain runners for all, and identities for two of the groups that fail.
fn file() -> String {
    format!(
        "{HEAD}rules:
  - {{ match: {{ groups: 'platform/teams/*' }}, profiles: [plain] }}
  - {{ match: {{ groups: 'platform/denied' }}, profiles: [plan] }}
  - {{ match: {{ groups: 'platform/refused' }}, profiles: [other] }}
profiles:
  plain: {{ runner: {{ tags: [plain] }}, identity: none }}
  plan: {{ runner: {{ tags: [plan] }}, identity: {{ managed: {{ roles: [{{ role: Reader, scope: {GOOD} }}] }} }} }}
  other: {{ runner: {{ tags: [other] }}, identity: {{ managed: {{ roles: [{{ role: Reader, scope: {REFUSED} }}] }} }} }}
guardrails: {{ roles: [Reader], scopes: [{GOOD}, {REFUSED}], runners: 1000, creations: {{ perHour: 1000 }} }}
"
    )
}

#[expect(clippy::disallowed_methods, reason = "a test that is told how much to do")]
fn size() -> u64 {
    if std::env::var("FORERUNNER_HISTORIES").is_ok() { ALL } else { FEW }
}

fn for_ever(sandbox: &Sandbox, service: Service, path: String, status: u16) {
    let body = json!({ "message": status.to_string() }).to_string();
    let headers = vec![("content-type", "application/json".to_owned())];
    let what = What::Answer { status, headers, body };
    sandbox.world.wire.add_fault(Fault { service, method: None, path, times: usize::MAX, what });
}

/// Takes forerunner's right to give roles at a scope.
fn take_delegation(sandbox: &Sandbox, scope: &str) {
    let (azure, own) = (&sandbox.world.azure, sandbox.world.forerunner_user().to_owned());
    let all = azure.assignments().into_iter();
    for one in all.filter(|one| one.scope == scope && one.principal_id.to_string() == own) {
        assert!(azure.remove_assignment(one.name));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_that_fail_for_ever_hold_up_nobody_else() {
    let sandbox = Sandbox::new(&file()).await;
    sandbox.world.managers.rest_between(SignedDuration::from_mins(10));
    let most = Arc::new(AtomicUsize::new(0));
    let (bus, seen) = (sandbox.world.service_bus.clone(), most.clone());
    let count = move |_: &forerunner::sandbox::wire::Exchange| {
        seen.fetch_max(bus.busy_sessions("rounds").len(), Ordering::Relaxed);
    };
    sandbox.world.wire.observe(&[Service::Gitlab], Arc::new(count));
    let gitlab = &sandbox.world.gitlab;
    let teams = gitlab.create_group(Some(42), "teams");
    let new = |name: &str| gitlab.create_group(Some(teams), name);
    let size = size();
    let good: Vec<u64> = (0..size - 5).map(|number| new(&format!("team-{number}"))).collect();
    // A policy denies its identity, its role is refused, GitLab throttles it, GitLab hides it, its message is poisoned.
    let (denied, refused) =
        (gitlab.create_group(Some(42), "denied"), gitlab.create_group(Some(42), "refused"));
    let (throttled, hidden, poisoned) =
        (new("team-throttled"), new("team-hidden"), new("team-poisoned"));
    let group =
        "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-runner-identities";
    let identity = format!(
        "{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-nonprod--g{denied}-plan"
    );
    sandbox.world.azure.deny_by_policy(&identity, "no-identities-here");
    take_delegation(&sandbox, REFUSED);
    for_ever(&sandbox, Service::Gitlab, format!("/api/v4/groups/{throttled}/runners"), 429);
    for_ever(&sandbox, Service::Gitlab, format!("/api/v4/groups/{hidden}"), 404);
    let session = format!("runner/g{poisoned}-plain");
    sandbox.put_on_queue("{\"v\":1,\"unit\":\"pod/secret\"}", &session);
    let began = sandbox.world.clock.now();
    for minute in 0..60 {
        sandbox.pass(SignedDuration::from_mins(1)).await;
        if minute % 10 == 9 {
            assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
        }
        let ready = good.iter().filter(|id| sandbox.is_ready(&format!("runner/g{id}-plain")));
        if ready.count() == good.len() {
            break;
        }
    }
    let unready: Vec<&u64> =
        good.iter().filter(|id| !sandbox.is_ready(&format!("runner/g{id}-plain"))).collect();
    assert!(
        unready.is_empty(),
        "{unready:?} {}",
        sandbox.status(&format!("runner/g{}-plain", unready[0]))
    );
    let took = sandbox.world.clock.now().duration_since(began);
    assert!(took < SignedDuration::from_mins(20), "{took:#}");
    let most = most.load(Ordering::Relaxed);
    assert!((2..=SESSIONS).contains(&most), "{most} sessions at once");
    // The five: what is parked says why, what waits is told too, and the queue holds nothing but what waits.
    for _ in 0..12 {
        sandbox.pass_minutes(15).await;
    }
    let told = |unit: &str| sandbox.status(unit).to_string();
    let parked = |unit: &str| sandbox.status(unit)["parked"]["reason"].as_str().map(str::to_owned);
    let reason = |unit: &str| parked(unit).unwrap_or_else(|| panic!("{unit}: {}", told(unit)));
    // Somebody's rule is a step for an administrator, and no failure.
    let waits = told(&format!("runner/g{denied}-plan"));
    assert!(
        waits.contains("NeedsAdministrator") && waits.contains("no-identities-here"),
        "{waits}"
    );
    let refusal = format!("runner/g{refused}-other");
    assert!(told(&refusal).contains("role"), "{}", told(&refusal));
    assert!(!sandbox.is_ready(&refusal));
    assert!(
        reason(&format!("target/g{throttled}")).contains("limits our calls"),
        "{}",
        told(&format!("target/g{throttled}"))
    );
    sandbox.assert_ready(&format!("runner/g{poisoned}-plain"));
    let kept = sandbox.world.kubernetes.list("secrets", "forerunner-nonprod");
    let foreign: Vec<&Value> = kept
        .iter()
        .filter(|one| one["metadata"]["labels"]["forerunner.dev/record"] == "foreign")
        .collect();
    assert_eq!(foreign.len(), 1, "the poisoned message is kept for a person");
    assert!(
        sandbox.status(&format!("runner/g{hidden}-plain")).is_null()
            || !sandbox.is_ready(&format!("runner/g{hidden}-plain"))
    );
    assert_eq!(sandbox.world.service_bus.dead_letters("rounds").len(), 0);
    let waiting = sandbox.world.service_bus.messages("rounds");
    let of_good = waiting.iter().filter(|message| {
        let session = message.properties.session_id.clone().unwrap_or_default();
        good.iter().any(|id| session == format!("runner/g{id}-plain"))
    });
    assert_eq!(of_good.count(), 0, "{waiting:#?}");
}

/// Azure as a whole takes no calls for forty minutes: what needs none of it settles, and the rest once it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_throttled_holds_up_nobody_who_does_not_need_it() {
    let all = file().replace("'platform/denied'", "'platform/signed/*'");
    let sandbox = Sandbox::new(&all).await;
    sandbox.world.managers.rest_between(SignedDuration::from_mins(1));
    let gitlab = &sandbox.world.gitlab;
    let [teams, signed] = ["teams", "signed"].map(|name| gitlab.create_group(Some(42), name));
    let new = |parent: u64, name: &str, profile: &str| {
        format!("runner/g{}-{profile}", gitlab.create_group(Some(parent), name))
    };
    // A process that has reached its cluster.
    let first = new(teams, "first", "plain");
    sandbox.settle().await;
    sandbox.assert_ready(&first);
    sandbox.world.wire.add_fault(Fault {
        service: Service::Arm,
        method: None,
        path: String::new(),
        times: usize::MAX,
        what: What::Answer {
            status: 429,
            headers: vec![("retry-after", "60".to_owned())],
            body: r#"{"error":{"code":"SubscriptionRequestsThrottled","message":"words"}}"#.into(),
        },
    });
    sandbox.world.wire.forget_calls();
    // In turns, so that neither kind is first in the queue.
    let units: Vec<(String, String)> = (0..5)
        .map(|n| (new(signed, &format!("s{n}"), "plan"), new(teams, &format!("t{n}"), "plain")))
        .collect();
    sandbox.pass_minutes(10).await;
    for (waits, settles) in &units {
        sandbox.assert_ready(settles);
        assert!(!sandbox.is_ready(waits), "{}", sandbox.status(waits));
    }
    sandbox.pass_minutes(30).await;
    let asked = sandbox.own_calls().iter().filter(|call| call.starts_with("Arm ")).count();
    assert!(asked <= units.len() * 40, "{asked} calls where each unit was told to pause a minute");
    sandbox.world.wire.clear_faults();
    for _ in 0..6 {
        sandbox.pass_minutes(10).await;
    }
    for (waited, settled) in &units {
        sandbox.assert_ready(waited);
        sandbox.assert_ready(settled);
        assert!(!sandbox.is_parked(waited), "{}", sandbox.status(waited));
    }
    assert_eq!(sandbox.world.service_bus.dead_letters("rounds").len(), 0);
}
