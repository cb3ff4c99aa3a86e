//! What a person types to say which part of the fleet is meant.

use crate::domain::{
    fleet::Pattern,
    ids::{TargetId, Unit},
    status::Status,
};
use std::{fmt, str::FromStr};

/// `runner/g42-tf`, `g42-tf`, `g42`, `p7`, `instance`, `platform/payments` or `platform/*`.
#[derive(Clone, Debug, PartialEq)]
pub enum Selector {
    Unit(Unit),
    Target(TargetId),
    /// A full path, or a pattern over them.
    Path(Pattern),
}

/// Why a text says nothing of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no unit (runner/g42-tf), no target (g42, p7, instance) and no path (platform/payments, platform/*)"
)]
pub struct NotASelector {
    text: String,
}

impl FromStr for Selector {
    type Err = NotASelector;

    fn from_str(text: &str) -> Result<Self, NotASelector> {
        if text == "instance" {
            return Ok(Self::Target(TargetId::Instance));
        }
        if let Ok(unit) = text.parse() {
            return Ok(Self::Unit(unit));
        }
        if let Ok(target) = text.parse() {
            return Ok(Self::Target(target));
        }
        if let Ok(key) = text.parse() {
            return Ok(Self::Unit(Unit::Runner(key)));
        }
        let pattern = Pattern::new(text.trim_matches('/'));
        pattern.map(Self::Path).map_err(|_| NotASelector { text: text.to_owned() })
    }
}

impl Selector {
    /// Whether only the whole tree of GitLab says what it stands for.
    pub(super) fn needs_tree(&self) -> bool {
        matches!(self, Self::Path(pattern) if !pattern.is_literal())
    }

    pub(super) fn takes_path(&self, path: &str) -> bool {
        matches!(self, Self::Path(pattern) if self.needs_tree() && pattern.matches(path))
    }

    /// Whether a unit of which this is told is meant.
    pub fn takes(&self, status: &Status) -> bool {
        match self {
            Self::Unit(unit) => status.unit == *unit,
            Self::Target(target) => match &status.unit {
                Unit::Target(own) => own == target,
                Unit::Runner(key) => key.target == *target,
                Unit::Domain(_) | Unit::Identity(_) => false,
            },
            Self::Path(pattern) => status.path.as_ref().is_some_and(|path| pattern.matches(path)),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unit(unit) => write!(f, "{unit}"),
            Self::Target(target) => write!(f, "{target}"),
            Self::Path(pattern) => write!(f, "{pattern}"),
        }
    }
}
