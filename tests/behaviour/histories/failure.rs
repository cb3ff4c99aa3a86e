//! Why a history fails.

use std::{any::Any, fmt};

/// One reason, and what it is about: a history is made shorter only as long as it fails about the same.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// An invariant, a part of the inventory, or what else did not come to be.
    pub(super) part: String,
    pub(super) why: String,
}

impl Failure {
    pub(super) fn new(part: impl Into<String>, why: impl Into<String>) -> Self {
        Self { part: part.into(), why: why.into() }
    }

    /// The same, seen from further away.
    pub(super) fn within(self, context: impl fmt::Display) -> Self {
        Self { why: format!("{context}: {}", self.why), ..self }
    }

    /// Of broken invariants, each `NAME: LINE`.
    pub(super) fn of_invariants(broken: &[String]) -> Option<Self> {
        let (name, _) = broken.first()?.split_once(": ")?;
        Some(Self::new(name, format!("invariants broken:\n  {}", broken.join("\n  "))))
    }

    /// A panic is a failure like another; where it says what it met, the first words tell it from others.
    pub(super) fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        let text = text.unwrap_or_else(|| "it panicked".to_owned());
        let words = text.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
        Self::new(format!("panic: {words}"), text)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.why.lines().take(2).collect::<Vec<_>>().join(" ");
        write!(f, "{}: {first}", self.part)
    }
}
