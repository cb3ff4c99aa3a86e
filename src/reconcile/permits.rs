//! Gives what leaves its permits, or parks the plan where the brake holds.

use super::{Clients, Failure, inventory::Inventory, ledger, survey};
use crate::{
    adapters::kubernetes::{DryRun, Force, Preconditions},
    domain::{
        fleet::Fleet,
        gate::{self, Brake},
        ids::{InstallationId, Unit},
        kubernetes::{Kind, Object, ObjectName},
        ledger::{Book, Leave, Ledger},
        names,
        records::{self, ParkedPlan},
        render::Context,
    },
};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use tracing::{error, info};

/// A permit is renewed at half its life, so that a round never finds it just ended.
const RENEWED: SignedDuration = SignedDuration::from_hours(12);

/// Writes the permits that the brake allows, and answers which units may go now.
pub(super) async fn give(
    clients: &Clients,
    fleet: &Fleet,
    inventory: &Inventory,
    wants: &BTreeMap<Unit, Leave>,
    now: Timestamp,
) -> Result<BTreeSet<Unit>, Failure> {
    let guardrails = fleet.guardrails();
    let book = &inventory.ledger.book;
    let by_command = |permit: &&crate::domain::ledger::Permit| {
        permit.why == Leave::Command && !survey::is_protected(fleet, &permit.unit)
    };
    let commanded = book.permits_of_the_day(now).filter(by_command);
    let commanded: BTreeSet<Unit> = commanded.map(|permit| permit.unit.clone()).collect();
    if gate::is_frozen(guardrails, now) {
        return Ok(BTreeSet::new());
    }
    let size = inventory.made.len();
    match gate::brake(guardrails, size, wants, book, now) {
        Brake::Free => {
            forget_plan(clients, fleet).await?;
            let fresh = |unit: &Unit, why: &Leave| {
                let permit = book.permit(unit, now);
                permit.is_some_and(|permit| {
                    permit.why == *why && now.duration_since(permit.at) < RENEWED
                })
            };
            let new: BTreeMap<Unit, Leave> = wants
                .iter()
                .filter(|(unit, why)| !commanded.contains(*unit) && !fresh(unit, why))
                .map(|(unit, why)| (unit.clone(), *why))
                .collect();
            if !new.is_empty() {
                info!("the sweep permits {} unit(s) to be taken away", new.len());
                let with = |book: &Book| book.permitting(&new, now);
                write(clients, fleet, &inventory.installation, inventory.ledger.clone(), with)
                    .await?;
            }
            Ok(wants.keys().cloned().chain(commanded).collect())
        }
        Brake::Holds { limit } => {
            let plan = ParkedPlan::new(wants, limit, now);
            error!(
                "{} units want removal and the brake lets {limit} go in 24 hours: nothing is removed; look at `forerunner parked list`, then `forerunner send confirm --plan {}` or restore what was lost",
                wants.len(),
                plan.id
            );
            park_plan(clients, fleet, &inventory.installation, &plan).await?;
            Ok(commanded)
        }
        Brake::Unseasoned => {
            if wants.is_empty() {
                return Ok(commanded);
            }
            info!(
                "{} unit(s) want removal; the ledger is younger than a day, so none is permitted yet",
                wants.len()
            );
            if book.since.is_none() {
                let begin = |book: &Book| book.permitting(&BTreeMap::new(), now);
                write(clients, fleet, &inventory.installation, inventory.ledger.clone(), begin)
                    .await?;
            }
            Ok(commanded)
        }
    }
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
    clients.kubernetes().apply(&object, names::FIELD_MANAGER, Force::Yes, DryRun::No).await?;
    Ok(())
}

async fn forget_plan(clients: &Clients, fleet: &Fleet) -> Result<(), Failure> {
    let name = plan_name(fleet);
    if clients.kubernetes().get(&name).await?.is_some() {
        clients.kubernetes().delete(&name, &Preconditions::default()).await?;
    }
    Ok(())
}
