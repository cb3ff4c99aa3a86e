//! Runners that a job cannot tell apart, and entities that bear our marker elsewhere.

use crate::domain::{
    fleet::{Served, clashes},
    fleet_status::{Finding, FindingKind},
    ids::{RunnerId, RunnerKey},
};
use jiff::Timestamp;

/// Overlaps on the real tree, as `forerunner plan` shows them.
pub fn overlaps(served: &[Served<'_>], now: Timestamp) -> Vec<Finding> {
    let found = clashes(served).into_iter().map(|clash| {
        let remedy = match clash.identity {
            true => "give one of the two profiles other tags, or except the target from its rule: until then it is chance as whom a job signs in",
            false => "give one of the two profiles other tags, or except the target from its rule",
        };
        Finding::new(FindingKind::Overlap, clash.to_string(), remedy, now)
    });
    found.collect()
}

/// Entities with a marker of ours whose type or owner is another than the marker's target: moved, or copied.
pub fn misplaced(entities: &[(RunnerId, RunnerKey)], now: Timestamp) -> Vec<Finding> {
    let found = entities.iter().map(|(id, key)| {
        let message = format!(
            "runner {id} in GitLab bears the marker of runner/{key} and belongs to somebody else: moved there, or copied; it is not touched"
        );
        let remedy = "find out whose it is: take the marker out of its description, or delete it in GitLab";
        Finding::new(FindingKind::LookAlike, message, remedy, now)
    });
    found.collect()
}
