//! What should be, what is, and what to do about it. No async, no clock, no input or output.

pub mod azure;
pub mod claim;
pub mod class;
pub mod command;
pub mod fleet;
pub mod fleet_status;
pub mod gate;
pub mod gitlab;
pub mod hook;
pub mod ids;
pub mod job;
pub mod kubernetes;
pub mod ledger;
pub mod marker;
pub mod message;
pub mod names;
pub mod observed;
pub mod plan;
pub mod records;
pub mod render;
pub mod sight;
pub mod spec;
pub mod standing;
pub mod status;
pub mod step;
