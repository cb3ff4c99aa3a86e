//! Why a step or a read did not work, whichever service it was, and what that asks for.

use crate::{
    adapters::{azure, gitlab, kubernetes, service_bus},
    domain::class::Class,
};
use std::{error::Error, fmt::Write};

/// A failure with its class; its text is the whole chain of causes, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub class: Class,
    pub text: String,
    /// Only a person with more rights may do it: a stable reason, and a command or words.
    pub step: Option<(&'static str, String)>,
}

impl Failure {
    pub fn permanent(text: impl Into<String>) -> Self {
        Self { class: Class::Permanent, text: text.into(), step: None }
    }

    pub fn conflict(text: impl Into<String>) -> Self {
        Self { class: Class::Conflict, text: text.into(), step: None }
    }

    pub fn retry(text: impl Into<String>) -> Self {
        Self { class: Class::Retry { after: None }, text: text.into(), step: None }
    }

    /// The same failure, saying what was being done.
    #[must_use]
    pub fn during(self, what: impl std::fmt::Display) -> Self {
        Self { text: format!("{what}: {}", self.text), ..self }
    }

    fn of(error: &(dyn Error + 'static), class: Class) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(deeper) = cause {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {deeper}");
            cause = deeper.source();
        }
        Self { class, text, step: None }
    }

    /// The one that decides what becomes of the round: what a person must mend comes first, then the longest wait.
    pub fn worst(failures: &[Self]) -> Option<&Self> {
        failures.iter().max_by_key(|failure| match failure.class {
            Class::Permanent => (2, None),
            Class::Retry { after } => (1, after),
            Class::Conflict => (0, None),
            // Whatever did fail counts, however long this takes.
            Class::Wait { after } => (-1, Some(after)),
        })
    }
}

macro_rules! from_adapter {
    ($($module:ident),*) => {$(
        impl From<$module::Error> for Failure {
            fn from(error: $module::Error) -> Self {
                Self::of(&error, error.class())
            }
        }
    )*};
}
from_adapter!(kubernetes, service_bus);

macro_rules! from_adapter_with_steps {
    ($($module:ident),*) => {$(
        impl From<$module::Error> for Failure {
            fn from(error: $module::Error) -> Self {
                let step = error.administrators_step();
                Self { step, ..Self::of(&error, error.class()) }
            }
        }
    )*};
}
from_adapter_with_steps!(azure, gitlab);
