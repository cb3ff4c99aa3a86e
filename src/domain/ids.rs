//! The ids and names that tell one thing from another, and the text forms they have outside.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Numeric id of a GitLab group. Ids are 64-bit and never reused (gitlab.md §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u64);

/// Numeric id of a GitLab project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ProjectId(pub u64);

/// Numeric id of a GitLab runner entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunnerId(pub u64);

/// What a runner serves. Written `i`, `g42` or `p7`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetId {
    Instance,
    Group(GroupId),
    Project(ProjectId),
}

/// Name of a profile: a DNS label of at most 30 characters, without two hyphens in a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProfileName(String);

/// Name of a fleet: a DNS label of at most 20 characters, without two hyphens in a row: those end it in the names of
/// `domain/names.rs`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FleetName(String);

/// Target × profile. Written `g42-terraform`, `p7-images`, `i-default`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunnerKey {
    pub target: TargetId,
    pub profile: ProfileName,
}

/// Short name of an existing identity: its resource name, a dot and eight hex digits of its id's hash
/// (two subscriptions may both have an `id-tf`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityName(String);

/// What one message and one round are about. Written `target/g42`, `runner/g42-terraform`,
/// `domain/terraform`, `identity/id-tf.1a2b3c4d`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    Target(TargetId),
    Runner(RunnerKey),
    /// A trust domain that all runners of a profile share.
    Domain(ProfileName),
    /// An existing identity: the one writer of its federated credentials.
    Identity(IdentityName),
}

/// The uid of the managers' namespace: what tells this installation from another of the same fleet name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstallationId(pub String);

/// A text that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {what}")]
pub struct NotValid {
    pub text: String,
    pub what: &'static str,
}

impl NotValid {
    fn new(text: &str, what: &'static str) -> Self {
        Self { text: text.to_owned(), what }
    }
}

impl ProfileName {
    pub const LENGTH_MAX: usize = 30;

    /// Accepts a DNS label: lower-case letters, digits and single inner hyphens, first a letter.
    pub fn new(text: &str) -> Result<Self, NotValid> {
        let valid = is_label(text, Self::LENGTH_MAX);
        if valid { Ok(Self(text.to_owned())) } else { Err(NotValid::new(text, PROFILE)) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const PROFILE: &str = "a profile name (lower-case letters, digits and single inner hyphens, first a letter, 30 at most)";
const FLEET: &str = "a fleet name (lower-case letters, digits and single inner hyphens, first a letter, 20 at most)";
const TARGET: &str = "a target (`i`, `g` and a group's id, or `p` and a project's id)";
const KEY: &str = "a runner's key, such as `g42-terraform`";
const UNIT: &str = "a unit, such as `runner/g42-terraform`";

impl FleetName {
    pub const LENGTH_MAX: usize = 20;

    /// Accepts a DNS label like [`ProfileName::new`], shorter.
    pub fn new(text: &str) -> Result<Self, NotValid> {
        let valid = is_label(text, Self::LENGTH_MAX);
        if valid { Ok(Self(text.to_owned())) } else { Err(NotValid::new(text, FLEET)) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl IdentityName {
    /// Accepts what `names::identity_unit` makes: letters, digits, `-`, `_` and a dot.
    pub fn new(text: &str) -> Result<Self, NotValid> {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let valid = (1..=110).contains(&text.len()) && text.chars().all(known);
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotValid::new(text, "an identity's short name"))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_label(text: &str, length_max: usize) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    text.len() <= length_max
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && !text.ends_with('-')
        && !text.contains("--")
        && text.chars().all(inner)
}

impl fmt::Display for TargetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance => f.write_str("i"),
            Self::Group(GroupId(id)) => write!(f, "g{id}"),
            Self::Project(ProjectId(id)) => write!(f, "p{id}"),
        }
    }
}

impl FromStr for TargetId {
    type Err = NotValid;

    fn from_str(text: &str) -> Result<Self, NotValid> {
        let id = |digits: &str| {
            let plain = !digits.starts_with(['0', '+']);
            digits.parse().ok().filter(|_| plain).ok_or_else(|| NotValid::new(text, TARGET))
        };
        match text.split_at_checked(1) {
            Some(("i", "")) => Ok(Self::Instance),
            Some(("g", digits)) => Ok(Self::Group(GroupId(id(digits)?))),
            Some(("p", digits)) => Ok(Self::Project(ProjectId(id(digits)?))),
            Some(_) | None => Err(NotValid::new(text, TARGET)),
        }
    }
}

impl fmt::Display for RunnerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.target, self.profile)
    }
}

impl FromStr for RunnerKey {
    type Err = NotValid;

    fn from_str(text: &str) -> Result<Self, NotValid> {
        let parsed = text.split_once('-').and_then(|(target, profile)| {
            Some(Self { target: target.parse().ok()?, profile: ProfileName::new(profile).ok()? })
        });
        parsed.ok_or_else(|| NotValid::new(text, KEY))
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(target) => write!(f, "target/{target}"),
            Self::Runner(key) => write!(f, "runner/{key}"),
            Self::Domain(profile) => write!(f, "domain/{profile}"),
            Self::Identity(name) => write!(f, "identity/{name}"),
        }
    }
}

impl FromStr for Unit {
    type Err = NotValid;

    fn from_str(text: &str) -> Result<Self, NotValid> {
        match text.split_once('/') {
            Some(("target", target)) => Ok(Self::Target(target.parse()?)),
            Some(("runner", key)) => Ok(Self::Runner(key.parse()?)),
            Some(("domain", profile)) => Ok(Self::Domain(ProfileName::new(profile)?)),
            Some(("identity", name)) => Ok(Self::Identity(IdentityName::new(name)?)),
            Some(_) | None => Err(NotValid::new(text, UNIT)),
        }
    }
}

macro_rules! text_form {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
text_form!(ProfileName, FleetName, IdentityName, InstallationId);

macro_rules! number_form {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    )*};
}
number_form!(GroupId, ProjectId, RunnerId);

macro_rules! serde_as_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(TargetId, RunnerKey, Unit);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_reads_back_from_its_text() {
        for text in
            ["target/i", "target/g42", "runner/p7-images", "domain/tf", "identity/id-tf.1a2b3c4d"]
        {
            assert_eq!(text.parse::<Unit>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_unit_is_refused() {
        for text in [
            "",
            "g42",
            "target/",
            "target/g",
            "target/g042",
            "target/g-1",
            "runner/g42",
            "runner/g42-",
            "domain/A",
            "pod/x",
        ] {
            assert!(text.parse::<Unit>().is_err(), "{text}");
        }
    }
}
