//! The simulated world: every service that forerunner speaks to, on loopback, refusing what the real one refuses.

pub mod actor;
pub mod azure;
pub mod gitlab;
pub mod host;
pub mod kubernetes;
pub mod managers;
pub mod service_bus;
pub mod stage;
pub mod wire;
pub mod world;
