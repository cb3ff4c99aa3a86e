//! A sweep reads the ledger when it begins and writes its permits at its end: what others wrote there meanwhile counts.

use crate::{
    deeds::plain_fleet_for,
    harness::Sandbox,
    removal::{days, deleted, only, settled},
};
use forerunner::{
    domain::{
        ids::Unit,
        ledger::{Book, Leave},
    },
    sandbox::{
        kubernetes::Kubernetes,
        wire::{Exchange, Service},
    },
};
use jiff::Timestamp;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

const NAMESPACE: &str = "forerunner-nonprod";

/// Sweeps; `change` comes right after the sweep has read the ledger.
async fn sweep_while(sandbox: &Sandbox, change: impl Fn(&Kubernetes) + Send + Sync + 'static) {
    let (kubernetes, done) = (sandbox.world.kubernetes.clone(), AtomicBool::new(false));
    let observer = move |exchange: &Exchange| {
        let reads = exchange.method == "GET" && exchange.path.ends_with("/configmaps/ledger");
        if reads && !done.swap(true, Ordering::SeqCst) {
            change(&kubernetes);
        }
    };
    sandbox.world.wire.observe(&[Service::Kubernetes], Arc::new(observer));
    sandbox.sweep().await;
}

fn book(kubernetes: &Kubernetes) -> Book {
    let ledger = kubernetes.get("configmaps", NAMESPACE, "ledger").unwrap();
    serde_json::from_str(ledger["data"]["record.json"].as_str().unwrap()).unwrap()
}

/// Why each unit may leave.
fn permits(kubernetes: &Kubernetes) -> BTreeMap<String, Leave> {
    let permits = book(kubernetes).permits.into_iter();
    permits.map(|permit| (permit.unit.to_string(), permit.why)).collect()
}

/// Permits units as another process does, on an operator's word or not.
fn permit(kubernetes: &Kubernetes, units: &[&str], why: Leave, now: Timestamp) {
    let units = units.iter().map(|unit| (unit.parse::<Unit>().unwrap(), why)).collect();
    let text = serde_json::to_string(&book(kubernetes).permitting(&units, now)).unwrap();
    let change = |ledger: &mut Value| ledger["data"]["record.json"] = text.into();
    assert!(kubernetes.edit("configmaps", NAMESPACE, "ledger", change));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operators_order_is_not_undone_by_a_sweep_that_began_before_it() {
    let (sandbox, group) = settled(&only("payments")).await;
    let unit = format!("runner/g{group}-plan");
    sandbox.deploy(&only("nobody")).await;
    let (ordered, now) = (unit.clone(), sandbox.world.clock.now());
    let order = move |kubernetes: &Kubernetes| permit(kubernetes, &[&ordered], Leave::Command, now);
    sweep_while(&sandbox, order).await;
    let [(left, why)] = &permits(&sandbox.world.kubernetes).into_iter().collect::<Vec<_>>()[..]
    else {
        panic!("one permit: {}", sandbox.story())
    };
    assert_eq!((left, *why), (&unit, Leave::Command));
    sandbox.pass_minutes(5).await;
    sandbox.sweep().await;
    assert!(!deleted(&sandbox).is_empty(), "an order has no grace\n{}", sandbox.story());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_permit_during_a_sweep_counts_for_the_brake() {
    let sandbox = Sandbox::new(&plain_fleet_for("*")).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    for name in ["one", "two", "three"] {
        sandbox.world.gitlab.create_group(Some(42), name);
    }
    sandbox.settle().await;
    sandbox.leap_to(&days(2));
    let file = plain_fleet_for("*");
    let without = file.replace(
        "rules:\n",
        &format!("withdrawn: [{{ group: {group}, reason: SEC-2 }}]\nrules:\n"),
    );
    sandbox.deploy(&without).await;
    let now = sandbox.world.clock.now();
    let others = ["runner/g900-plain", "runner/g901-plain"];
    let permit_others =
        move |kubernetes: &Kubernetes| permit(kubernetes, &others, Leave::Unmatched, now);
    sweep_while(&sandbox, permit_others).await;
    let permitted = permits(&sandbox.world.kubernetes);
    assert_eq!(permitted.keys().collect::<Vec<_>>(), others, "{}", sandbox.story());
    let plan = || sandbox.world.kubernetes.get("configmaps", NAMESPACE, "parked-plan");
    assert!(plan().is_some(), "the brake tells what it holds");
    // Nothing is held any more where nobody may give a permit at all.
    sandbox.world.kubernetes.delete_as_admin("configmaps", NAMESPACE, "ledger");
    sandbox.sweep().await;
    assert!(plan().is_none() && permits(&sandbox.world.kubernetes).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ledger_that_is_lost_during_a_sweep_permits_nothing_for_a_day() {
    let (sandbox, group) = settled(&only("payments")).await;
    let unit = format!("runner/g{group}-plan");
    sandbox.deploy(&only("nobody")).await;
    sweep_while(&sandbox, |kubernetes| {
        assert!(kubernetes.delete_as_admin("configmaps", NAMESPACE, "ledger"));
    })
    .await;
    assert!(permits(&sandbox.world.kubernetes).is_empty(), "{}", sandbox.story());
    assert_eq!(sandbox.ready(&unit).0, "NotWanted");
    sandbox.leap_to(&days(4));
    sandbox.sweep().await;
    assert_eq!(sandbox.ready(&unit).0, "Leaving", "{}", sandbox.story());
}
