//! What forerunner does, seen from outside: one module a behaviour, one binary because linking is what costs.

mod azure_answers;
mod ci_template;
mod envelopes;
mod fakes;
mod gitlab_answers;
mod gitlab_hook;
mod http_client;
mod kubernetes_answers;
mod rendered;
mod settings;
mod stub;
mod telemetry;
