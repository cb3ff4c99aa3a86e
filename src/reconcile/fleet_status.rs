//! Keeps what sweeps found of the fleet as a whole, and reads it back together with the units' statuses, in one list.

use super::{Clients, Failure, inventory::Inventory};
use crate::{
    adapters::kubernetes::{DryRun, Force},
    domain::{
        fleet::Fleet,
        fleet_status::{self, Finding, FleetStatus},
        kubernetes::{Kind, Object},
        names,
        records::{self, ParkedPlan},
        render::Context,
        status::{Status, Tally},
    },
    telemetry::meters,
};
use jiff::Timestamp;
use tracing::{error, warn};

/// What is told of every unit, and of the fleet as a whole.
#[derive(Clone, Debug, Default)]
pub struct Told {
    pub units: Vec<Status>,
    pub fleet: Option<FleetStatus>,
    /// Removals that the brake holds.
    pub removals: Option<ParkedPlan>,
    /// Of the units.
    pub tally: Tally,
}

/// Everything told, in one list.
pub(super) async fn told(clients: &Clients, fleet: &Fleet) -> Result<Told, Failure> {
    read(clients, fleet, |status| status).await
}

/// The same, of each unit what a sweep judges by: ten thousand histories are more than all else that it holds.
pub(super) async fn told_in_brief(clients: &Clients, fleet: &Fleet) -> Result<Told, Failure> {
    read(clients, fleet, Status::brief).await
}

async fn read(
    clients: &Clients,
    fleet: &Fleet,
    shape: impl Fn(Status) -> Status,
) -> Result<Told, Failure> {
    let settings = fleet.settings();
    let selector = format!(
        "{}={},{} in ({},{},{})",
        names::LABEL_FLEET,
        settings.name,
        records::LABEL_RECORD,
        records::RECORD_STATUS,
        records::RECORD_FLEET,
        records::RECORD_PLAN
    );
    let namespace = Some(settings.cluster.managers_namespace.as_str());
    let take = |told: &mut Told, object: Object| match object.name.name.as_str() {
        names::FLEET_STATUS => told.fleet = records::read_fleet_status(&object),
        names::PARKED_PLAN => told.removals = records::read_plan(&object),
        _ => {
            if let Some(status) = records::read_status(&object) {
                told.tally.add(&status);
                told.units.push(shape(status));
            }
        }
    };
    Ok(clients.kubernetes().fold(Kind::ConfigMap, namespace, Some(&selector), take).await?)
}

/// Logs what is new, and writes down what changed. Answers every line that a person should know.
pub(super) async fn keep(
    clients: &Clients,
    fleet: &Fleet,
    inventory: &Inventory,
    findings: Vec<Finding>,
    now: Timestamp,
) -> Vec<String> {
    let before = inventory.told.as_ref();
    meters::findings(&fleet_status::count(&findings), inventory.unseen.is_empty());
    let next =
        FleetStatus::of(before, inventory.unseen.clone(), findings, inventory.slices.clone(), now);
    let unseen = next.unseen.iter().map(|reason| {
        format!("the sweep did not see the whole fleet, so it permits nothing: {reason}")
    });
    let unseen: Vec<String> = unseen.collect();
    unseen.iter().for_each(|line| error!("{line}"));
    next.new_findings().for_each(|finding| error!("{finding}"));
    if next.is_news(before) {
        let context = Context {
            fleet: fleet.settings(),
            installation: &inventory.installation,
            api_server: &[],
            gitlab_ca: None,
        };
        let object = records::fleet_status(&context, &next);
        let force = (names::FIELD_MANAGER, Force::Yes, DryRun::No);
        let written = clients.kubernetes().apply(&object, force.0, force.1, force.2).await;
        if let Err(error) = written {
            warn!("what the sweep found could not be written down: {}", Failure::from(error).text);
        }
    }
    unseen.into_iter().chain(next.findings.iter().map(ToString::to_string)).collect()
}
