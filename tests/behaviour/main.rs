//! What forerunner does, seen from outside: one module a behaviour, one binary because linking is what costs.

mod ci_template;
mod envelopes;
mod fakes;
mod fleet_file;
mod gitlab_answers;
mod gitlab_hook;
mod rendered;
mod sandbox_azure;
mod sandbox_gitlab;
mod sandbox_kubernetes;
mod sandbox_managers;
mod settings;
mod telemetry;
