//! forerunner keeps GitLab runners on AKS, and the federated Azure identities their jobs sign in with, the way a
//! policy file says. `docs/ARCHITECTURE.md` is the place to start reading.

pub mod adapters;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod functions;
pub mod reconcile;
#[cfg(feature = "sandbox")]
pub mod sandbox;
pub mod telemetry;
