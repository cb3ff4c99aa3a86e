//! The handler dies around a call of a healing, or of a removal that an operator asked for: in the end there is what the
//! undisturbed one leaves, with no twin, no lost token and nothing left over.

use crate::{
    crashes::{Crash, crashes, some_of, takes_its_time},
    deeds::plan_fleet,
    disturbed::{check_all, inventory, run},
    drift_table::{Row, Settled, rows},
    harness::Sandbox,
};
use forerunner::sandbox::wire::Call;
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::fmt;

/// A row of the drift table, and where its healing dies.
#[derive(Clone)]
struct Case {
    row: Row,
    crash: Crash,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.row.name, self.crash)
    }
}

/// A sweep that the crash hits is not run again by itself, and what is parked comes back after ten minutes.
const SWEEPS: usize = 4;

/// Sweeps until it is as it was; says what differs after the last.
async fn heal(settled: &Settled, before: &Value) -> Result<(), String> {
    let mut differs = String::new();
    for _ in 0..SWEEPS {
        let sandbox = &settled.sandbox;
        assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
        let rested = sandbox.world.settle(SignedDuration::from_hours(3)).await;
        rested.map_err(|error| error.to_string())?;
        let after = settled.whole();
        let parts = before.as_object().into_iter().flatten();
        let mut unlike = parts.filter(|(part, value)| after[part.as_str()] != **value);
        match unlike.next() {
            None if sandbox.is_ready(&settled.unit) => return Ok(()),
            None => differs = sandbox.status(&settled.unit).to_string(),
            Some((part, value)) => {
                differs = format!("{part}: {} not {value}", after[part.as_str()])
            }
        }
        let then = sandbox.world.clock.now() + SignedDuration::from_mins(11);
        sandbox.leap_to(&then.to_string());
    }
    Err(differs)
}

/// forerunner's own calls of an undisturbed healing.
async fn calm(row: &Row) -> Vec<Call> {
    let settled = Settled::new().await;
    let before = settled.whole();
    (row.damage)(&settled);
    settled.sandbox.world.wire.forget_calls();
    heal(&settled, &before).await.unwrap_or_else(|why| panic!("{}: {why}", row.name));
    settled.sandbox.world.wire.calls().into_iter().filter(Call::is_ours).collect()
}

/// Where the healing of these rows dies, one after the other.
fn check_rows(names: &[&str], choose: fn(Vec<Crash>) -> Vec<Crash>) {
    let rows: Vec<Row> = rows().into_iter().filter(|row| names.contains(&row.name)).collect();
    assert_eq!(rows.len(), names.len(), "each is a row: {names:?}");
    let of = |row: &Row| {
        let calls = run(calm(row));
        assert!(calls.iter().any(Call::is_write), "{}: something is mended", row.name);
        choose(crashes(&calls))
            .into_iter()
            .map(|crash| Case { row: row.clone(), crash })
            .collect::<Vec<_>>()
    };
    let cases: Vec<Case> = rows.iter().flat_map(of).collect();
    check_all(&cases, async |Case { row, crash }| {
        let settled = Settled::new().await;
        let before = settled.whole();
        (row.damage)(&settled);
        settled.sandbox.world.wire.crash_at(crash.call, crash.moment);
        heal(&settled, &before).await
    });
}

const ENTITY: [&str; 3] = ["tags", "marker", "entity gone"];
const IDENTITY: [&str; 6] = [
    "credential gone",
    "issuer",
    "condition",
    "role gone",
    "identity gone",
    "tags of the identity",
];
const GONE: [&str; 5] = ["deployment", "binding", "account", "namespace", "policy of the jobs"];
/// Together a mending of each kind of object.
const EDITED: [&str; 4] = ["scaled", "Pod Security", "binding edited", "another role"];

#[test]
fn a_crash_while_an_entity_is_mended_leaves_no_trace() {
    check_rows(&ENTITY, some_of);
}

#[test]
fn a_crash_while_an_identity_is_mended_leaves_no_trace() {
    check_rows(&IDENTITY, some_of);
}

#[test]
fn a_crash_while_what_is_gone_from_the_cluster_is_made_anew_leaves_no_trace() {
    check_rows(&GONE, some_of);
}

#[test]
fn a_crash_while_edits_are_undone_leaves_no_trace() {
    check_rows(&EDITED, some_of);
}

/// They differ from those above by a field or a kind alone.
fn around_the_first_write(mut all: Vec<Crash>) -> Vec<Crash> {
    let outside =
        |crash: &Crash| !["ServiceBus", "Entra"].iter().any(|of| crash.about.starts_with(of));
    all.retain(|crash| crash.is_of_a_write() && outside(crash));
    match takes_its_time() {
        true => all,
        false => all.into_iter().take(2).collect(),
    }
}

#[test]
fn a_crash_around_the_first_write_of_any_other_mending_leaves_no_trace() {
    let known = [&ENTITY[..], &IDENTITY, &GONE, &EDITED].concat();
    let all = rows().into_iter().map(|row| row.name);
    let others: Vec<&str> = all.filter(|name| !known.contains(name)).collect();
    assert!(others.len() >= 10, "{others:?}");
    check_rows(&others, around_the_first_write);
}

async fn ordered() -> Sandbox {
    let sandbox = Sandbox::new(&plan_fleet()).await;
    for name in ["payments", "other"] {
        sandbox.world.gitlab.create_group(Some(42), name);
    }
    sandbox.settle().await;
    sandbox.lose_hooks();
    let order = json!({ "command": "remove", "targets": ["platform/payments"], "by": "jane", "why": "SEC-1" });
    sandbox.order("approvals", &order);
    sandbox
}

/// What is told of units and in the ledger may say more or less of what went on.
pub(crate) fn left(sandbox: &Sandbox) -> Value {
    let mut all = inventory(sandbox);
    let objects = all["objects"].as_array_mut().unwrap();
    objects.retain(|line| !line.as_str().unwrap_or_default().contains("status-target"));
    all
}

pub(crate) async fn go(sandbox: &Sandbox) -> Result<(), String> {
    for _ in 0..SWEEPS {
        let rested = sandbox.world.settle(SignedDuration::from_hours(3)).await;
        rested.map_err(|error| error.to_string())?;
        let then = sandbox.world.clock.now() + SignedDuration::from_mins(11);
        sandbox.leap_to(&then.to_string());
        assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
    }
    Ok(())
}

#[test]
fn a_crash_in_a_removal_by_command_leaves_nothing_behind() {
    let (expected, calls) = run(async {
        let sandbox = ordered().await;
        sandbox.world.wire.forget_calls();
        go(&sandbox).await.unwrap();
        assert_eq!(sandbox.keys().len(), 1, "one went, the other stays");
        let calls =
            sandbox.world.wire.calls().into_iter().filter(Call::is_ours).collect::<Vec<_>>();
        (left(&sandbox), calls)
    });
    assert!(calls.iter().filter(|call| call.method == "DELETE").count() >= 6, "{calls:#?}");
    check_all(&some_of(crashes(&calls)), async |crash| {
        let sandbox = ordered().await;
        sandbox.world.wire.crash_at(crash.call, crash.moment);
        go(&sandbox).await?;
        crate::disturbed::same(&sandbox, &left(&sandbox), &expected)
    });
}
