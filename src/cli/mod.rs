//! The command line: one file a subcommand.

pub mod admin_steps;
pub mod adopt;
pub mod answer;
pub mod apply;
#[cfg(feature = "sandbox")]
pub mod az;
pub mod check;
mod colour;
pub mod desk;
pub mod explain;
pub mod handler;
pub mod hands;
pub mod load;
#[cfg(feature = "sandbox")]
pub mod manager;
mod meaning;
pub mod parked;
pub mod plan;
pub mod remove;
pub mod report;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod send;
#[cfg(feature = "sandbox")]
pub mod stage;
pub mod status;
