//! What forerunner does, seen from outside: one module a behaviour, one binary because linking is what costs.
#![expect(
    clippy::unwrap_used,
    reason = "a test that fails says where; the lint knows test functions, not their helpers"
)]

mod azure_answers;
mod gitlab_answers;
mod http_client;
mod kubernetes_answers;
mod stub;
