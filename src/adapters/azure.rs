//! Azure: managed identities, their federated credentials, role assignments, AKS clusters, Key Vault, Resource Graph.

mod arm;
mod clusters;
mod credentials;
pub(super) mod error;
mod identities;
mod key_vault;
mod pace;
mod resource_graph;
mod role_assignments;

pub use arm::Arm;
pub use error::Error;
pub use key_vault::KeyVault;
