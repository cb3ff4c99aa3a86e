//! Versions as GitLab and gitlab-runner write them.

use std::{fmt, str::FromStr};

/// `19.4.0`, compared number by number. What follows a third number is not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl FromStr for Version {
    type Err = NoVersion;

    /// Takes `19.4.0`, `v19.4.0`, `19.4` and `19.5.0~pre.1.gabc`.
    fn from_str(text: &str) -> Result<Self, NoVersion> {
        let mut parts = text.trim_start_matches('v').splitn(3, '.');
        let whole = |part: Option<&str>| part?.parse().ok();
        let (Some(major), Some(minor)) = (whole(parts.next()), whole(parts.next())) else {
            return Err(NoVersion);
        };
        let patch = match parts.next() {
            None => 0,
            Some(rest) => {
                let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                rest[..end].parse().map_err(|_| NoVersion)?
            }
        };
        Ok(Self(major, minor, patch))
    }
}

/// A text that is none.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no version; write such as 19.4.0")]
pub struct NoVersion;

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor, patch) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        let check = |text: &str, expected: Option<(u32, u32, u32)>| {
            let found = text.parse().ok().map(|Version(a, b, c)| (a, b, c));
            assert_eq!(found, expected, "{text}");
        };
        check("19.4.0", Some((19, 4, 0)));
        check("v19.10.2", Some((19, 10, 2)));
        check("17.11", Some((17, 11, 0)));
        check("19.5.0~pre.12.gabcdef", Some((19, 5, 0)));
        check("19", None);
        check("development version", None);
        check("", None);
        assert!("19.10.0".parse::<Version>().unwrap() > "19.9.9".parse().unwrap());
    }
}
