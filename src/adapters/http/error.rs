//! What can go wrong below HTTP.

use crate::domain::class::Class;

/// Why a text gives no authority to trust.
#[derive(Debug, thiserror::Error)]
pub enum NoCertificate {
    #[error("it holds no PEM certificate")]
    Missing,
    #[error("its certificate cannot be read: {reason}")]
    Broken { reason: String },
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
    /// No connection was made, so nothing was sent: who answers there is not who we asked for.
    #[error("the certificate of {host} is not accepted: {reason}")]
    Untrusted { host: String, reason: String },
    #[error("the answer of {host} is larger than {limit} bytes")]
    TooLarge { host: String, limit: usize },
    #[error("no HTTPS client can be made: {reason}")]
    NoClient { reason: String },
}

impl TransportError {
    pub(super) fn from_reqwest(host: &str, error: reqwest::Error) -> Self {
        let (host, source) = (host.to_owned(), error.without_url());
        if let Some(reason) = certificate_fault(&source) {
            Self::Untrusted { host, reason }
        } else if source.is_connect() {
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
            Self::Untrusted { .. } | Self::TooLarge { .. } | Self::NoClient { .. } => {
                Class::Permanent
            }
        }
    }
}

/// What is wrong with the server's certificate, if that is why no connection was made.
fn certificate_fault(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    use rustls::CertificateError::{
        Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, Revoked, UnknownIssuer,
    };
    let rustls::Error::InvalidCertificate(fault) = rustls_error(error)? else { return None };
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum, open to new members")]
    let reason = match fault {
        NotValidForName | NotValidForNameContext { .. } => {
            "it is made out for another name; use the name that it has, or give the server one for this name"
        }
        UnknownIssuer => {
            "no authority that we trust signed it; give us its root certificate (GitLab's in `gitlab.caFile`, a \
             cluster's in its kubeconfig)"
        }
        Expired | ExpiredContext { .. } => "it has expired; renew it on the server",
        NotValidYet | NotValidYetContext { .. } => "it is not valid yet; compare the clocks",
        Revoked => "it was revoked; renew it on the server",
        _ => return Some(fault.to_string()),
    };
    Some(reason.to_owned())
}

/// TLS's own error, wherever it lies: an I/O error does not count what it wraps among its sources.
fn rustls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|wrapped| rustls_error(wrapped)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}
