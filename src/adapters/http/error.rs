//! What can go wrong below HTTP.

use crate::domain::class::Class;
use std::path::PathBuf;

/// A CA file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the CA file {} cannot be used: {reason}", file.display())]
pub struct SettingsError {
    pub file: PathBuf,
    pub reason: String,
}

/// No answer, or none that could be read. Says the host, never a path, a header or a body.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// No connection was made, so nothing was sent.
    #[error("{host} could not be reached")]
    Unreached { host: String, source: reqwest::Error },
    /// Whether the request took effect is unknown.
    #[error("{host} did not answer in time")]
    TimedOut { host: String, source: reqwest::Error },
    /// Whether the request took effect is unknown.
    #[error("the connection to {host} broke")]
    Broken { host: String, source: reqwest::Error },
    #[error("the answer of {host} is larger than {limit} bytes")]
    TooLarge { host: String, limit: usize },
    #[error("no HTTPS client can be made: {reason}")]
    NoClient { reason: String },
}

impl TransportError {
    pub(super) fn from_reqwest(host: &str, error: reqwest::Error) -> Self {
        let (host, source) = (host.to_owned(), error.without_url());
        if source.is_connect() {
            Self::Unreached { host, source }
        } else if source.is_timeout() {
            Self::TimedOut { host, source }
        } else {
            Self::Broken { host, source }
        }
    }

    /// While the answer is read the request has been sent, whatever the error says.
    pub(super) fn from_reqwest_body(host: &str, error: reqwest::Error) -> Self {
        let (host, source) = (host.to_owned(), error.without_url());
        if source.is_timeout() {
            Self::TimedOut { host, source }
        } else {
            Self::Broken { host, source }
        }
    }

    pub fn class(&self) -> Class {
        match self {
            Self::Unreached { .. } | Self::TimedOut { .. } | Self::Broken { .. } => {
                Class::Retry { after: None }
            }
            Self::TooLarge { .. } | Self::NoClient { .. } => Class::Permanent,
        }
    }
}
