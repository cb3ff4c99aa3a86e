//! The command line: one file a subcommand.

pub mod check;
pub mod handler;
pub mod load;
mod meaning;
#[cfg(feature = "sandbox")]
pub mod stage;
