//! How much GitLab still lets us ask (gitlab.md §7.1). GitLab.com says so with every answer, others only once it is used up.

use crate::adapters::http::Response;
use http::header;
use jiff::{SignedDuration, Timestamp, fmt::rfc2822};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

/// Whether the last answer said that little is left.
#[derive(Debug, Default)]
pub(super) struct Quota(AtomicBool);

/// Less than a tenth of the limit is little.
const LITTLE: u64 = 10;
const PAUSE: Duration = Duration::from_millis(250);

impl Quota {
    /// How long the next call is held back.
    pub(super) fn pause(&self) -> Duration {
        if self.0.load(Ordering::Relaxed) { PAUSE } else { Duration::ZERO }
    }

    pub(super) fn learn(&self, response: &Response) {
        let number = |name: &str| response.header(name)?.trim().parse::<u64>().ok();
        let told = number("ratelimit-remaining").zip(number("ratelimit-limit"));
        let little = told.is_some_and(|(left, limit)| left.saturating_mul(LITTLE) < limit);
        self.0.store(little, Ordering::Relaxed);
    }
}

/// When to come back after a 429: `Retry-After`, else from `RateLimit-Reset`, which is a time by GitLab's own clock, as is
/// the answer's `Date`.
pub(super) fn retry_after(response: &Response) -> Option<SignedDuration> {
    response.retry_after.or_else(|| {
        let reset = response.header("ratelimit-reset")?.trim().parse().ok()?;
        let date = response.header(header::DATE.as_str())?;
        let now = rfc2822::DateTimeParser::new().parse_timestamp(date.trim()).ok()?;
        let wait = Timestamp::from_second(reset).ok()?.duration_since(now);
        Some(wait.clamp(SignedDuration::ZERO, SignedDuration::from_hours(1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderName, StatusCode};

    fn answer(headers: &[(&str, &str)]) -> Response {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
        };
        let headers = headers.iter().map(pair).collect::<HeaderMap>();
        let (status, body) = (StatusCode::TOO_MANY_REQUESTS, Default::default());
        Response { status, headers, body, retry_after: None }
    }

    #[test]
    fn little_left_slows_the_next_call_down_and_enough_does_not() {
        let check = |headers: &[(&str, &str)], expected: u64| {
            let quota = Quota::default();
            quota.learn(&answer(headers));
            assert_eq!(quota.pause(), Duration::from_millis(expected), "{headers:?}");
        };
        check(&[("ratelimit-limit", "2000"), ("ratelimit-remaining", "199")], 250);
        check(&[("ratelimit-limit", "2000"), ("ratelimit-remaining", "200")], 0);
        check(&[("ratelimit-remaining", "0")], 0);
        check(&[], 0);
    }

    #[test]
    fn a_reset_is_counted_from_gitlabs_own_clock() {
        let check = |headers: &[(&str, &str)], expected: Option<i64>| {
            let expected = expected.map(SignedDuration::from_secs);
            assert_eq!(retry_after(&answer(headers)), expected, "{headers:?}");
        };
        let date = ("date", "Mon, 23 Nov 2026 10:00:00 GMT");
        check(&[date, ("ratelimit-reset", "1795428042")], Some(42));
        check(&[date, ("ratelimit-reset", "1795420000")], Some(0));
        check(&[date, ("ratelimit-reset", "soon")], None);
        check(&[("ratelimit-reset", "1795428042")], None);
    }
}
