//! Why the host does not start.

use std::{io, path::PathBuf};

/// What is wrong with the app root, its settings or the handler.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{}` cannot be read", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("`{}` cannot be written", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
    #[error("`{}` is no JSON", path.display())]
    NotJson { path: PathBuf, source: serde_json::Error },
    #[error("host.json: {0}")]
    HostJson(String),
    #[error("function `{function}`: {what}")]
    Function { function: String, what: String },
    #[error("no functions found in `{}`", path.display())]
    NoFunctions { path: PathBuf },
    /// The real host looks for a command of that name on `PATH` and finds none.
    #[error("`{command}` is neither a file of the app root nor a command")]
    CommandMissing { command: String },
    #[error("`{command}` cannot be started")]
    CommandRefused { command: String, source: io::Error },
    #[error("no loopback port is free")]
    NoPort { source: io::Error },
    #[error("the handler ended with {code} before it answered `GET /`; it said: {said}")]
    HandlerEnded { code: String, said: String },
    #[error("the handler did not answer `GET /` within {seconds} s")]
    HandlerNotReady { seconds: f64 },
    /// Legal, but a handler that is slow here blocks every start of the real host.
    #[error("the handler took {milliseconds} ms to answer `GET /`; it must do so at once")]
    HandlerSlow { milliseconds: u128 },
    #[error("the handler failed three times; the real host shuts down then")]
    Exhausted,
    #[error("the host is stopped")]
    Stopped,
}
