//! One file per subcommand.

pub mod handler;
