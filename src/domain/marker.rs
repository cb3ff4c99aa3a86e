//! The text that says *made by this fleet and installation, for this key, this generation*.

use super::ids::{FleetName, InstallationId, RunnerKey};
use std::fmt;

/// Written at the end of a GitLab runner's description, in brackets: `[forerunner:FLEET:INSTALLATION:KEY:GENERATION]`.
/// On its own it proves nothing: who can write a description can write this (DESIGN, *Words*).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    pub fleet: FleetName,
    pub installation: InstallationId,
    pub key: RunnerKey,
    pub generation: u32,
}

impl Marker {
    /// The whole description: the profile for people, the marker for us. At most 1024 characters by construction.
    pub fn description(&self) -> String {
        format!("{} {self}", self.key.profile)
    }

    /// Finds the marker at the end of a description.
    pub fn find(description: &str) -> Option<Self> {
        let (_, marker) = description.trim_end().rsplit_once('[')?;
        let mut parts = marker.strip_suffix(']')?.split(':');
        let mut next = || parts.next();
        if next()? != "forerunner" {
            return None;
        }
        let found = Self {
            fleet: FleetName::new(next()?).ok()?,
            installation: InstallationId(next().filter(|id| !id.is_empty())?.to_owned()),
            key: next()?.parse().ok()?,
            generation: next()?.parse().ok().filter(|generation| *generation > 0)?,
        };
        next().is_none().then_some(found)
    }
}

impl fmt::Display for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fleet, installation, key, generation } = self;
        write!(f, "[forerunner:{fleet}:{installation}:{key}:{generation}]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_found_again_whatever_stands_before_it() {
        let text =
            "terraform [forerunner:nonprod:3f2a8c1e-0000-4000-8000-000000000001:g42-terraform:2]";
        let marker = Marker::find(text).unwrap();
        assert_eq!(marker.description(), text);
        assert_eq!(Marker::find(&format!("renamed by [someone] {marker}\n")), Some(marker));
    }

    #[test]
    fn what_only_resembles_a_marker_is_none() {
        for text in [
            "",
            "[forerunner]",
            "[forerunner:n:u:g42-tf:0]",
            "[forerunner:n:u:g42-tf:1:x]",
            "[forerunner:n::g42-tf:1]",
            "forerunner:n:u:g42-tf:1",
        ] {
            assert_eq!(Marker::find(text), None, "{text}");
        }
    }
}
