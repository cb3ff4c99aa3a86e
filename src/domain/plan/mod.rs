//! From differences to steps. Pure: the same arguments give the same steps in the same order.
//!
//! The planner has no clock, no I/O and no memory: what it must know of earlier rounds stands in the world.

pub mod beyond;
pub mod domain;
mod draft;
pub mod hold;
pub mod identity;
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
