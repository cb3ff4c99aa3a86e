//! From differences to steps. Pure: the same arguments give the same steps in the same order.
//!
//! The planner has no clock, no I/O and no memory: what it must know of earlier rounds stands in the world.

mod draft;
pub mod hold;
pub mod domain;
pub mod identity;
pub mod runner;

pub use draft::{Node, Plan, Verdict};
pub(crate) use draft::Draft;
