//! Since when an identity settles: written on a runner's Deployment, so that the round that opens the runner need not be the one that saw
//! its rights first.

use jiff::Timestamp;
use std::{fmt, str::FromStr};
use uuid::Uuid;

/// When a round first saw the credential and all roles of an identity. Another identity settles anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settling {
    pub since: Timestamp,
    /// The identity's principal.
    pub of: Uuid,
}

impl fmt::Display for Settling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.since, self.of)
    }
}

impl FromStr for Settling {
    type Err = NoMark;

    fn from_str(text: &str) -> Result<Self, NoMark> {
        let (since, of) = text.split_once(' ').ok_or(NoMark)?;
        Ok(Self { since: since.parse().map_err(|_| NoMark)?, of: of.parse().map_err(|_| NoMark)? })
    }
}

/// Not written by us, or not by today's forerunner: the identity settles anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no mark of a time and a principal")]
pub struct NoMark;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_as_written_and_nothing_else_is_one() {
        let since = "2026-11-24T08:00:00Z".parse().unwrap();
        let mark = Settling { since, of: Uuid::from_u128(7) };
        assert_eq!(mark.to_string().parse(), Ok(mark));
        for text in ["", "2026-11-24T08:00:00Z", "2026-11-24T08:00:00Z payments", "soon 7"] {
            assert_eq!(text.parse::<Settling>(), Err(NoMark), "{text}");
        }
    }
}
