//! One file per Azure Function: unwrap the delivery, do the work, answer the host (functions-host.md is the contract).

mod answer;
pub mod app;
mod command;
mod dead_letter;
pub mod engine;
mod envelope;
mod fleet;
mod gitlab_hook;
mod health;
mod http;
mod invocation;
pub mod queue;
mod round;
pub mod router;
mod sweep;
pub mod work;
