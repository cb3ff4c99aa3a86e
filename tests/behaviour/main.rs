//! What forerunner does, seen from outside: one module a behaviour, one binary because linking is what costs.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod azure_answers;
mod azure_refusals;
mod ceilings;
mod ceilings_and_values;
mod check;
mod ci_template;
mod cluster_doors;
mod crashes;
mod deeds;
mod disturbed;
mod envelopes;
mod fakes;
mod fleet_file;
mod gitlab_answers;
mod gitlab_hook;
mod gitlab_refusals;
mod harness;
mod holding;
mod hooks_end_to_end;
mod hostile_network;
mod http_client;
mod identities;
mod kubernetes_answers;
mod look_alikes;
mod names;
mod observing;
mod parking;
mod process;
mod provisioning;
mod rendered;
mod sandbox_azure;
mod sandbox_gitlab;
mod sandbox_host;
mod sandbox_kubernetes;
mod sandbox_managers;
mod sandbox_service_bus;
mod scopes;
mod settings;
mod sign_in;
mod stub;
mod sweeping;
mod telemetry;
mod tls;
mod two_writers;
