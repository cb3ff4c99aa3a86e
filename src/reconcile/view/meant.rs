//! What an order means on the real fleet, for somebody to read before and after.

use super::View;
use crate::{
    domain::{
        command::{Order, Refused},
        fleet_status::{Finding, FindingKind},
        ids::Unit,
    },
    reconcile::{
        Failure, command,
        deadline::{Deadline, SWEEP_READS},
        inventory, survey, watch,
    },
};
use std::collections::BTreeSet;

/// What an order means.
#[derive(Debug, Default)]
pub struct Meant {
    /// A word of it that means nothing.
    pub mistake: Option<Refused>,
    /// Those of which something is there.
    pub units: BTreeSet<Unit>,
    /// Those that no path removes.
    pub protected: BTreeSet<Unit>,
    /// What is there of the fleet and belongs to no unit.
    pub leftovers: Vec<Finding>,
    /// What could not be read, and why: there may be more.
    pub unseen: Vec<String>,
}

impl View {
    /// Reads the whole fleet in lists, as a sweep does.
    pub async fn meant(&self, order: &Order) -> Result<Meant, Failure> {
        let (fleet, now) = (&self.fleet, self.now());
        let deadline = Deadline::within(SWEEP_READS);
        let inventory = Box::pin(inventory::take(&self.clients, fleet, deadline)).await?;
        let mistake = command::mistake(fleet, &inventory, order, now);
        let mut units = command::meant(fleet, &inventory, order, now);
        units.retain(|unit| inventory.known.contains(unit));
        let (protected, units) =
            units.into_iter().partition(|unit| survey::is_protected(fleet, unit));
        let survey = survey::survey(fleet, &inventory, now);
        let orphans = watch::orphans(&self.clients, fleet, &inventory, now).await;
        let found = watch::findings(fleet, &inventory, &survey, now).into_iter().chain(orphans);
        let leftovers = found.filter(|finding| match finding.kind {
            FindingKind::LookAlike
            | FindingKind::StrayIdentity
            | FindingKind::OrphanedRole
            | FindingKind::RoleBeyondReach => true,
            FindingKind::ReachesNever
            | FindingKind::AdmissionPolicy
            | FindingKind::ManagerRole
            | FindingKind::Overlap
            | FindingKind::ForeignRunner
            | FindingKind::IdentityWebhook
            | FindingKind::LimitNear
            | FindingKind::Unwatched => false,
        });
        let leftovers = leftovers.collect();
        Ok(Meant { mistake, units, protected, leftovers, unseen: inventory.unseen })
    }
}
