//! Runners that a job cannot tell apart, and entities that bear our marker elsewhere.

use crate::domain::{
    fleet::{Served, clashes},
    fleet_status::{Finding, FindingKind},
    ids::{RunnerId, RunnerKey},
};
use jiff::Timestamp;

/// Overlaps on the real tree, as `forerunner plan` shows them.
pub fn overlaps(served: &[Served], now: Timestamp) -> Vec<Finding> {
    let found = clashes(served).into_iter().map(|clash| {
        let remedy = match clash.identity {
            true => "give one of the two profiles other tags, or except the target from its rule: until then it is chance as whom a job signs in",
            false => "give one of the two profiles other tags, or except the target from its rule",
        };
        Finding::new(FindingKind::Overlap, clash.to_string(), remedy, now)
    });
    found.collect()
}

/// An entity with a marker of this installation that does not belong to the marker's target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misplaced {
    pub runner: RunnerId,
    pub key: RunnerKey,
    /// It belongs to nobody: its target is gone.
    pub orphaned: bool,
}

/// Entities that bear our marker where it does not count: moved, copied, or left behind when their target was destroyed.
pub fn misplaced(entities: &[Misplaced], now: Timestamp) -> Vec<Finding> {
    let found = entities.iter().map(|Misplaced { runner, key, orphaned }| {
        let (message, remedy) = match orphaned {
            true => (
                format!(
                    "runner {runner} in GitLab bears the marker of runner/{key} and belongs to nobody: its target is gone, and nothing proves any more that it is ours"
                ),
                format!("glab api --method DELETE runners/{runner}"),
            ),
            false => (
                format!(
                    "runner {runner} in GitLab bears the marker of runner/{key} and belongs to somebody else: moved there, or copied; it is not touched"
                ),
                "find out whose it is: take the marker out of its description, or delete it in GitLab".to_owned(),
            ),
        };
        Finding::new(FindingKind::LookAlike, message, remedy, now)
    });
    found.collect()
}
