//! One file per subcommand.

#[cfg(feature = "sandbox")]
pub mod az;
pub mod handler;
