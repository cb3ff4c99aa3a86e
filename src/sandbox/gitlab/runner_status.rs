//! What GitLab says of a runner's life (gitlab.md §3.8).

use jiff::{SignedDuration, Timestamp};

const ONLINE: SignedDuration = SignedDuration::from_hours(2);
const STALE: SignedDuration = SignedDuration::from_hours(7 * 24);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Online,
    Offline,
    Stale,
    NeverContacted,
}

impl Status {
    /// Stale is looked at first, so a runner nobody ever used turns stale after a week.
    pub(super) fn of(
        created_at: Timestamp,
        contacted_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Self {
        let last = contacted_at.map_or(created_at, |contacted_at| contacted_at.max(created_at));
        if now.duration_since(last) > STALE {
            return Self::Stale;
        }
        match contacted_at {
            None => Self::NeverContacted,
            Some(contacted_at) if now.duration_since(contacted_at) < ONLINE => Self::Online,
            Some(_) => Self::Offline,
        }
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Offline => "offline",
            Self::Stale => "stale",
            Self::NeverContacted => "never_contacted",
        }
    }
}

/// REST's older word: `paused` hides whether it is online, unless it is stale or was never there.
pub(super) fn rest_word(status: Status, paused: bool) -> &'static str {
    match status {
        Status::Online | Status::Offline if paused => "paused",
        Status::Online | Status::Offline | Status::Stale | Status::NeverContacted => status.word(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Status, rest_word};
    use jiff::{SignedDuration, Timestamp};

    fn check(created_hours_ago: i64, contacted_minutes_ago: Option<i64>, expected: Status) {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let created_at = now - SignedDuration::from_hours(created_hours_ago);
        let contacted_at = contacted_minutes_ago.map(|ago| now - SignedDuration::from_mins(ago));
        assert_eq!(
            Status::of(created_at, contacted_at, now),
            expected,
            "created {created_hours_ago} h ago, contacted {contacted_minutes_ago:?} min ago"
        );
    }

    #[test]
    fn a_status_follows_from_two_times() {
        check(0, None, Status::NeverContacted);
        check(7 * 24, None, Status::NeverContacted);
        check(7 * 24 + 1, None, Status::Stale);
        check(9999, Some(119), Status::Online);
        check(9999, Some(120), Status::Offline);
        check(9999, Some(7 * 24 * 60), Status::Offline);
        check(9999, Some(7 * 24 * 60 + 1), Status::Stale);
    }

    #[test]
    fn paused_hides_online_but_not_stale() {
        assert_eq!(rest_word(Status::Online, true), "paused");
        assert_eq!(rest_word(Status::Offline, true), "paused");
        assert_eq!(rest_word(Status::Stale, true), "stale");
        assert_eq!(rest_word(Status::NeverContacted, true), "never_contacted");
        assert_eq!(rest_word(Status::Online, false), "online");
    }
}
