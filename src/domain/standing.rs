//! How a unit stands, worst first, and since when, as people say it.

use super::status::{Condition, ConditionKind, Status};
use jiff::Timestamp;
use serde::Serialize;

/// The order in which people want to hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    Parked,
    NeedsAdministrator,
    NotReady,
    Ready,
}

impl Standing {
    pub const ALL: [Self; 4] =
        [Self::Parked, Self::NeedsAdministrator, Self::NotReady, Self::Ready];

    pub fn of(status: &Status) -> Self {
        let administrator = status.condition(ConditionKind::NeedsAdministrator);
        if status.parked.is_some() {
            Self::Parked
        } else if administrator.is_some_and(|condition| condition.status) {
            Self::NeedsAdministrator
        } else if status.is_ready() {
            Self::Ready
        } else {
            Self::NotReady
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Parked => "parked",
            Self::NeedsAdministrator => "needs an administrator",
            Self::NotReady => "not ready",
            Self::Ready => "ready",
        }
    }
}

/// The condition that says most of a unit that stands so.
pub fn telling(status: &Status, standing: Standing) -> Option<&Condition> {
    let kind = match standing {
        Standing::Parked => ConditionKind::Parked,
        Standing::NeedsAdministrator => ConditionKind::NeedsAdministrator,
        Standing::NotReady | Standing::Ready => ConditionKind::Ready,
    };
    status.condition(kind).or_else(|| status.condition(ConditionKind::Ready))
}

/// `3 h ago`, `in 20 min`: rounded down, for the eye.
pub fn from_now(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(at).as_secs();
    let (size, unit) = match seconds.unsigned_abs() {
        seconds @ 0..60 => (seconds, "s"),
        seconds @ 60..3_600 => (seconds / 60, "min"),
        seconds @ 3_600..172_800 => (seconds / 3_600, "h"),
        seconds => (seconds / 86_400, "d"),
    };
    if seconds < 0 { format!("in {size} {unit}") } else { format!("{size} {unit} ago") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_unit_that_fits() {
        let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        for (seconds, expected) in [
            (0, "0 s ago"),
            (59, "59 s ago"),
            (61, "1 min ago"),
            (7_199, "1 h ago"),
            (172_800, "2 d ago"),
            (-1_200, "in 20 min"),
        ] {
            let at = now - jiff::SignedDuration::from_secs(seconds);
            assert_eq!(from_now(at, now), expected);
        }
    }
}
