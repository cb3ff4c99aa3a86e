//! Everything forerunner puts into Kubernetes, rendered from what a runner should be. Pure: the same settings give the
//! same bytes, so a fresh process can tell what differs. runner-on-kubernetes.md and runner-observed.md are the source.

mod accounts;
pub mod administrator;
mod cidr;
mod config;
mod deployment;
mod drift;
mod egress;
mod executor;
mod job_pod;
mod manager_container;
mod manager_role;
mod metadata;
mod namespace;
mod network;
mod quantity;
mod secret;

pub use accounts::{binding, default_account, job_account, manager_account};
pub use config::{Entry, FEATURE_FLAGS, config_toml};
pub use deployment::{deployment, drain_seconds, grace_seconds};
pub use drift::{Difference, differences, differs, reads_anew, rolls, stamp, value_differences};
pub use manager_role::manager_cluster_role;
pub use metadata::annotate;
pub use namespace::{job_namespace, limit_range, quota};
pub use network::{job_network_policy, manager_network_policy};
pub use secret::{
    ReadError, config_secret, config_values, expected_config_matches, jobs_run_in, read_entries,
    was_edited,
};

use super::{ids::InstallationId, spec::FleetSettings};
use std::net::IpAddr;

/// What every object of a round shares.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub fleet: &'a FleetSettings,
    pub installation: &'a InstallationId,
    /// The API server's addresses as resolved in this round; may be empty. Jobs do not reach them.
    pub api_server: &'a [IpAddr],
    /// PEM text of `gitlab.caFile`: what managers trust besides their image's roots.
    pub gitlab_ca: Option<&'a str>,
}
