//! Gives what leaves its permits, or parks the plan where the brake holds.

use super::{Clients, Failure, inventory::Inventory, ledger, survey};
use crate::{
    adapters::kubernetes::{DryRun, Force, Preconditions},
    domain::{
        fleet::Fleet,
        gate::{self, Brake},
        ids::{InstallationId, Unit},
        kubernetes::{Kind, Object, ObjectName},
        ledger::{Book, Leave, Ledger, Permit},
        names,
        records::{self, ParkedPlan},
        render::Context,
        status::Status,
    },
    telemetry::{audit, meters},
};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use tracing::{error, info};

/// A permit is renewed at half its life, so that a round never finds it just ended.
const RENEWED: SignedDuration = SignedDuration::from_hours(12);

/// What a sweep's wish comes to, by one reading of the ledger.
struct Judged {
    brake: Brake,
    /// Permits to give, and why; none where the brake or a freeze says no.
    new: BTreeMap<Unit, Leave>,
    /// Operators' words that are to outlast their day.
    renewed: BTreeSet<Unit>,
    /// Which units may go now.
    go: BTreeSet<Unit>,
    /// How many want to leave without an operator's word.
    unsaid: usize,
}

/// Writes the permits that the brake allows, and answers which units may go now.
///
/// The brake is asked of the very ledger that is written: what others permitted since the sweep read it counts, an operator's word
/// stays, and a ledger that is lost meanwhile gives nothing.
pub(super) async fn give(
    clients: &Clients,
    fleet: &Fleet,
    inventory: &Inventory,
    (wants, unread): (&BTreeMap<Unit, Leave>, &BTreeSet<Unit>),
    now: Timestamp,
) -> Result<BTreeSet<Unit>, Failure> {
    let of = |book: &Book| judge(fleet, inventory, (wants, unread), book, now);
    let mut judged = of(&inventory.ledger.book);
    let context = context(fleet, &inventory.installation);
    ledger::write(clients, &context, inventory.ledger.clone(), |book| {
        judged = of(book);
        // The day without permits begins with the first unit that wants to leave.
        let begins = judged.brake == Brake::Unseasoned && book.since.is_none();
        let changes = begins || !judged.new.is_empty() || !judged.renewed.is_empty();
        let next = || book.permitting(&judged.new, now).renewing(&judged.renewed, now);
        Ok(changes.then(next))
    })
    .await?;
    match judged.brake {
        Brake::Free => {
            if !judged.new.is_empty() {
                info!("the sweep permits {} unit(s) to be taken away", judged.new.len());
            }
        }
        Brake::Holds { limit } => {
            meters::brake_holds(judged.unsaid);
            let plan = ParkedPlan::new(wants, limit, now);
            error!(
                "{} units want removal, {} more could not be read, and the brake lets {limit} go in 24 hours: nothing more is removed; look at `forerunner parked list`, then `forerunner send confirm --plan {} --why …` or restore what was lost",
                wants.len(),
                unread.len(),
                plan.id
            );
            park_plan(clients, fleet, &inventory.installation, &plan).await?;
            return Ok(judged.go);
        }
        Brake::Unseasoned => info!(
            "{} unit(s) want removal; the ledger is younger than a day, so none is permitted yet",
            wants.len()
        ),
    }
    meters::brake_holds(0);
    forget_plan(clients, fleet).await?;
    Ok(judged.go)
}

fn judge(
    fleet: &Fleet,
    inventory: &Inventory,
    (wants, unread): (&BTreeMap<Unit, Leave>, &BTreeSet<Unit>),
    book: &Book,
    now: Timestamp,
) -> Judged {
    let guardrails = fleet.guardrails();
    let brake = gate::brake(guardrails, inventory.made.len(), wants, unread, book, now);
    let said = said(fleet, book, wants, now);
    let renewed = to_renew(fleet, &said, inventory, (book, wants), now);
    let unsaid = wants.keys().filter(|unit| !said.contains_key(unit)).count();
    let (mut new, mut go) = (BTreeMap::new(), BTreeSet::new());
    if !gate::is_frozen(guardrails, now) {
        go.extend(said.keys().map(|unit| (*unit).clone()));
        if brake == Brake::Free {
            let is_there = |unit: &Unit, why: Leave| {
                book.permit(unit, now)
                    .is_some_and(|permit| permit.why == why && is_fresh(permit, now))
            };
            let asked = wants
                .iter()
                .filter(|(unit, why)| !said.contains_key(unit) && !is_there(unit, **why));
            new.extend(asked.map(|(unit, why)| (unit.clone(), *why)));
            go.extend(wants.keys().cloned());
        }
    }
    Judged { brake, new, renewed, go, unsaid }
}

fn is_fresh(permit: &Permit, now: Timestamp) -> bool {
    now.duration_since(permit.at) < RENEWED
}

/// What operators asked for or confirmed, as far as it is of today. What is held wants nothing; whether it still does shows when
/// the hold ends.
fn said<'a>(
    fleet: &Fleet,
    book: &'a Book,
    wants: &BTreeMap<Unit, Leave>,
    now: Timestamp,
) -> BTreeMap<&'a Unit, &'a Permit> {
    let counts = |permit: &&Permit| {
        let unit = &permit.unit;
        let is_held = permit.confirmed && book.held(unit, now).is_some();
        (permit.is_said(wants.get(unit).copied()) || is_held) && !survey::is_protected(fleet, unit)
    };
    let said = book.permits_of_the_day(now).filter(counts);
    said.map(|permit| (&permit.unit, permit)).collect()
}

/// An operator's word holds until all is gone, however long a job, a hold, a freeze or the grace lasts.
fn to_renew(
    fleet: &Fleet,
    said: &BTreeMap<&Unit, &Permit>,
    inventory: &Inventory,
    (book, wants): (&Book, &BTreeMap<Unit, Leave>),
    now: Timestamp,
) -> BTreeSet<Unit> {
    let leaves = |status: &Status| status.leaving.is_some();
    let is_frozen = gate::is_frozen(fleet.guardrails(), now);
    let is_under_way = |unit: &Unit| {
        is_frozen
            || wants.contains_key(unit)
            || book.held(unit, now).is_some()
            || inventory.statuses.get(unit).is_some_and(leaves)
    };
    let old = said.iter().filter(|(unit, permit)| is_under_way(unit) && !is_fresh(permit, now));
    old.map(|(unit, _)| (*unit).clone()).collect()
}

fn context<'a>(fleet: &'a Fleet, installation: &'a InstallationId) -> Context<'a> {
    Context { fleet: fleet.settings(), installation, api_server: &[], gitlab_ca: None }
}

/// Writes what `change` makes of the book.
pub(super) async fn write(
    clients: &Clients,
    fleet: &Fleet,
    installation: &InstallationId,
    read: Ledger,
    change: impl Fn(&Book) -> Book,
) -> Result<(), Failure> {
    let context = context(fleet, installation);
    ledger::write(clients, &context, read, |book| Ok(Some(change(book)))).await
}

pub(super) fn plan_name(fleet: &Fleet) -> ObjectName {
    let namespace = &fleet.settings().cluster.managers_namespace;
    ObjectName::new(Kind::ConfigMap, namespace, names::PARKED_PLAN)
}

/// Kept under one name; written only where it is another plan.
async fn park_plan(
    clients: &Clients,
    fleet: &Fleet,
    installation: &InstallationId,
    plan: &ParkedPlan,
) -> Result<(), Failure> {
    let before = clients.kubernetes().get(&plan_name(fleet)).await?;
    if before.as_ref().and_then(records::read_plan).is_some_and(|before| before.id == plan.id) {
        return Ok(());
    }
    let object: Object = records::plan(&context(fleet, installation), plan);
    let kubernetes = clients.kubernetes();
    let applied = kubernetes.apply(&object, names::FIELD_MANAGER, Force::Yes, DryRun::No);
    audit::recording(applied).await?;
    Ok(())
}

async fn forget_plan(clients: &Clients, fleet: &Fleet) -> Result<(), Failure> {
    let name = plan_name(fleet);
    if clients.kubernetes().get(&name).await?.is_some() {
        let preconditions = Preconditions::default();
        audit::recording(clients.kubernetes().delete(&name, &preconditions)).await?;
    }
    Ok(())
}
