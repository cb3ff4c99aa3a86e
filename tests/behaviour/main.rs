//! What forerunner does, seen from outside: one module a behaviour, one binary because linking is what costs.

mod ci_template;
mod envelopes;
mod fakes;
mod gitlab_hook;
mod rendered;
mod settings;
mod telemetry;
