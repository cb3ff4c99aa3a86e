//! The command line: one file a subcommand.

#[cfg(feature = "sandbox")]
pub mod az;
pub mod check;
mod colour;
pub mod handler;
pub mod load;
#[cfg(feature = "sandbox")]
pub mod manager;
mod meaning;
#[cfg(feature = "sandbox")]
pub mod sandbox;
#[cfg(feature = "sandbox")]
pub mod stage;
