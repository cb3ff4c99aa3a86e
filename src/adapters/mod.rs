//! What speaks to the services: one call a method, wire types private, domain types in and out.
//!
//! Nothing here decides: an answer becomes a domain value or an error that says its [`Class`](crate::domain::class::Class).

pub mod azure;
pub mod cloud;
pub mod gitlab;
pub mod http;
pub mod kubernetes;
pub mod service_bus;
pub mod tokens;
