//! Why there is no token.

use crate::{
    adapters::{
        azure::error::{Answer, Verdict, classify},
        http::{Response, TransportError, chain},
    },
    domain::class::Class,
};
use http::Method;

/// Why there is no token. Holds no token, no header and no request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the token endpoint could not be reached for {audience}: {reason}")]
    Unreachable { audience: String, reason: String, class: Class },
    #[error("the token endpoint refused a token for {audience} ({status}): {message}")]
    Refused { audience: String, status: u16, message: String, class: Class },
    #[error("no credential for {audience}: {reason}")]
    Credential { audience: String, reason: String },
}

/// How the transport tells a refusal through the crate's own error.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the token endpoint could not be reached")]
    Unreachable(#[source] TransportError),
    #[error("the token endpoint answered {}", _0.status)]
    Answered(Response),
}

impl Error {
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable { class, .. } | Self::Refused { class, .. } => *class,
            Self::Credential { .. } => Class::Permanent,
        }
    }

    pub(super) fn from_identity(audience: &str, error: azure_core::Error) -> Self {
        let audience = audience.to_owned();
        match refusal(&error) {
            Some(Refusal::Unreachable(cause)) => {
                Self::Unreachable { audience, reason: chain(cause), class: cause.class() }
            }
            Some(Refusal::Answered(response)) => Self::from_answer(audience, response),
            None => Self::Credential { audience, reason: first_line(&error.to_string()) },
        }
    }

    fn from_answer(audience: String, response: &Response) -> Self {
        let answer = Answer::of(response);
        let class = match classify(&Method::POST, &answer) {
            Verdict::Failed(class) => class,
            // Only a refusal comes here.
            Verdict::Use | Verdict::Absent => Class::Permanent,
        };
        let message = answer.message.unwrap_or_else(|| "it gave no reason".to_owned());
        Self::Refused { audience, status: answer.status, message: first_line(&message), class }
    }
}

fn refusal(error: &azure_core::Error) -> Option<&Refusal> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(refusal) = error.downcast_ref::<Refusal>() {
            return Some(refusal);
        }
        next = error.source();
    }
    None
}

fn first_line(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().trim().to_owned()
}
