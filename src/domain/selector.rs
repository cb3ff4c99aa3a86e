//! What a person types, or writes into a message, to say which part of the fleet is meant.

use super::{
    fleet::Pattern,
    ids::{RunnerKey, TargetId, Unit},
};
use std::{fmt, str::FromStr};

/// `all`, `runner/g42-tf`, `g42-tf`, `g42`, `p7`, `instance`, `platform/payments` or `platform/*`.
#[derive(Clone, Debug, PartialEq)]
pub enum Selector {
    All,
    /// Of an existing identity and of a target's own unit only this takes one.
    Unit(Unit),
    /// Every runner of it.
    Target(TargetId),
    /// A full path, or a pattern over them.
    Path(Pattern),
}

/// Why a text says nothing of a fleet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no unit (runner/g42-tf), no target (g42, p7, instance), no path (platform/payments, platform/*) and not `all`"
)]
pub struct NotASelector {
    text: String,
}

impl FromStr for Selector {
    type Err = NotASelector;

    fn from_str(text: &str) -> Result<Self, NotASelector> {
        match text {
            "all" => return Ok(Self::All),
            "instance" => return Ok(Self::Target(TargetId::Instance)),
            _ => {}
        }
        if let Ok(unit) = text.parse() {
            return Ok(match unit {
                Unit::Target(target) => Self::Target(target),
                Unit::Runner(_) | Unit::Domain(_) | Unit::Identity(_) => Self::Unit(unit),
            });
        }
        if let Ok(target) = text.parse() {
            return Ok(Self::Target(target));
        }
        if let Ok(key) = text.parse::<RunnerKey>() {
            return Ok(Self::Unit(Unit::Runner(key)));
        }
        let pattern = Pattern::new(text.trim_matches('/'));
        pattern.map(Self::Path).map_err(|_| NotASelector { text: text.to_owned() })
    }
}

impl Selector {
    /// Whether only the whole tree of GitLab says what it stands for.
    pub fn needs_tree(&self) -> bool {
        match self {
            Self::All => true,
            Self::Path(pattern) => !pattern.is_literal(),
            Self::Unit(_) | Self::Target(_) => false,
        }
    }

    /// Whether a target at `path` is meant by a word that needs the tree.
    pub fn takes_path(&self, path: &str) -> bool {
        match self {
            Self::All => true,
            Self::Path(pattern) => self.needs_tree() && pattern.matches(path),
            Self::Unit(_) | Self::Target(_) => false,
        }
    }

    /// Whether a unit, whose target lies at `path`, is meant.
    pub fn takes(&self, unit: &Unit, path: Option<&str>) -> bool {
        match self {
            Self::All => true,
            Self::Unit(wanted) => wanted == unit,
            Self::Target(target) => match unit {
                Unit::Target(own) => own == target,
                Unit::Runner(key) => key.target == *target,
                Unit::Domain(_) | Unit::Identity(_) => false,
            },
            Self::Path(pattern) => path.is_some_and(|path| pattern.matches(path)),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Unit(unit) => write!(f, "{unit}"),
            Self::Target(target) => write!(f, "{target}"),
            Self::Path(pattern) => write!(f, "{pattern}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Selector {
        text.parse().unwrap()
    }

    #[test]
    fn every_word_means_one_thing_and_reads_again_as_it_is_shown() {
        let unit = |text: &str| Selector::Unit(text.parse().unwrap());
        let target = |text: &str| Selector::Target(text.parse().unwrap());
        let path = |text| Selector::Path(Pattern::new(text).unwrap());
        for (text, meant) in [
            ("all", Selector::All),
            ("runner/g42-tf", unit("runner/g42-tf")),
            ("g42-tf", unit("runner/g42-tf")),
            ("domain/tf", unit("domain/tf")),
            ("identity/id-tf.1a2b3c4d", unit("identity/id-tf.1a2b3c4d")),
            ("target/g42", target("g42")),
            ("g42", target("g42")),
            ("p7", target("p7")),
            ("instance", target("i")),
            ("platform/payments", path("platform/payments")),
            ("/platform/payments/", path("platform/payments")),
            ("platform/*", path("platform/*")),
        ] {
            assert_eq!(read(text), meant, "{text}");
            assert_eq!(read(&meant.to_string()), meant, "{text}");
        }
        for text in ["", "a b", "platform//x"] {
            let refused = text.parse::<Selector>().unwrap_err().to_string();
            assert!(refused.starts_with(&format!("`{text}` is no unit")), "{refused}");
        }
    }

    #[test]
    fn a_word_takes_the_units_that_it_means() {
        let takes = |word, unit: &str, path| read(word).takes(&unit.parse().unwrap(), path);
        assert!(takes("g42", "runner/g42-plan", None) && !takes("g42", "runner/g43-plan", None));
        assert!(takes("platform/*", "runner/g1-plan", Some("platform/a")));
        assert!(!takes("platform/*", "runner/g1-plan", None), "who was lost sight of has no path");
        assert!(takes("p7-plan", "runner/p7-plan", None));
        assert!(!takes("p7-plan", "runner/p7-apply", None));
        assert!(takes("all", "domain/plan", None) && !takes("g42", "domain/plan", None));
    }
}
