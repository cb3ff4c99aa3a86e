//! The command line: one file a subcommand.

pub mod handler;
pub mod load;
