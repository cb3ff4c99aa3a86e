//! gitlab-runner itself, as far as it can be built here: its own configuration loader, commands, protocol client, shells
//! and Kubernetes executor. `tests/gitlab_runner` is its program.

mod configuration;
pub(crate) mod front;
pub(crate) mod program;
mod protocol;
mod words;
