//! What a sweep finds beside its units.

use super::inventory::Inventory;
use crate::domain::fleet_status::{Finding, FindingKind};
use jiff::Timestamp;

/// Everything that belongs to no unit, or that no round may mend.
pub(super) fn findings(inventory: &Inventory, now: Timestamp) -> Vec<Finding> {
    let strays = inventory.strays.iter().map(|stray| {
        let message = format!(
            "identity {stray} is ours and lies elsewhere than azure.resourceGroup says: nobody keeps it, and it may still hold rights"
        );
        let remedy = format!("az identity delete --ids {stray}");
        Finding::new(FindingKind::StrayIdentity, message, remedy, now)
    });
    strays.collect()
}
