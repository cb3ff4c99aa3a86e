//! From differences to steps. Pure: the same arguments give the same steps in the same order.
//!
//! The planner has no clock, no I/O and no memory: what it must know of earlier rounds stands in the world.

pub mod beyond;
pub mod domain;
mod draft;
pub mod hold;
pub mod identity;
mod left;
#[cfg(test)]
mod properties;
pub mod removal;
pub(crate) mod rights;
pub mod rollout;
pub mod runner;
mod trouble;
#[cfg(test)]
mod world;

pub(crate) use draft::Draft;
pub use draft::{Node, Plan, Verdict};

use crate::domain::{ids::FleetName, kubernetes::ObjectName, names};

/// Why an object of our name without our label stops a unit: nothing tells it from a stranger's. Where a person took the label
/// off, giving it back mends all.
pub(crate) fn unlabelled(object: &ObjectName, fleet: &FleetName) -> String {
    let label = format!("{}={fleet}", names::LABEL_FLEET);
    let kind = object.kind.wire().1.to_lowercase();
    let namespace = object.namespace.as_ref().map(|name| format!(" --namespace {name}"));
    format!(
        "{object} exists and is not ours: it lacks the label {label}. If it was ours, give that back (`kubectl label {kind} \
         {}{} {label}`); a stranger's is renamed or removed",
        object.name,
        namespace.unwrap_or_default()
    )
}
