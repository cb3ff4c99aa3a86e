//! When the client repeats a call, and after how long.

use super::{Repeat, Response, TransportError};
use http::{HeaderMap, StatusCode, header};
use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use std::time::Duration;

/// Longer waits belong to the queue.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long to wait before the second try; `None` means that this outcome stands.
pub(super) fn pause(
    repeat: Repeat,
    outcome: &Result<Response, TransportError>,
    jitter: Duration,
) -> Option<Duration> {
    match (outcome, repeat) {
        (Err(TransportError::Unreached { .. }), _)
        | (Err(TransportError::TimedOut { .. } | TransportError::Broken { .. }), Repeat::Safe) => {
            Some(jitter)
        }
        (Ok(response), Repeat::Safe) => pause_before_asking_again(response, jitter),
        (
            Err(
                TransportError::TimedOut { .. }
                | TransportError::Broken { .. }
                | TransportError::Untrusted { .. }
                | TransportError::TooLarge { .. }
                | TransportError::NoClient { .. },
            )
            | Ok(_),
            _,
        ) => None,
    }
}

fn pause_before_asking_again(response: &Response, jitter: Duration) -> Option<Duration> {
    let after = response.retry_after.map(Duration::try_from).transpose().ok()?;
    let passing = match response.status {
        StatusCode::REQUEST_TIMEOUT
        | StatusCode::INTERNAL_SERVER_ERROR
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => true,
        // Asking a throttled service again unasked makes it worse.
        StatusCode::TOO_MANY_REQUESTS => after.is_some(),
        _ => false,
    };
    let pause = jitter.max(after.unwrap_or_default());
    (passing && pause <= PAUSE_MAX).then_some(pause)
}

pub(super) fn jitter() -> Duration {
    Duration::from_millis(rand::rng().random_range(50..=400))
}

/// `Retry-After` in either form; a date in the past is zero.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<SignedDuration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<u32>() {
        Ok(seconds) => SignedDuration::from_secs(seconds.into()),
        Err(_) => {
            let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            date.duration_since(now)
        }
    };
    Some(wait.clamp(SignedDuration::ZERO, SignedDuration::from_hours(24)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const JITTER: Duration = Duration::from_millis(70);

    #[test]
    fn only_passing_failures_of_safe_calls_are_repeated() {
        let check = |status: u16, after: Option<&str>, repeat, expected: Option<u64>| {
            let mut headers = HeaderMap::new();
            if let Some(after) = after {
                headers.insert(header::RETRY_AFTER, after.parse().unwrap());
            }
            let retry_after = retry_after(&headers, Timestamp::UNIX_EPOCH);
            let status = StatusCode::from_u16(status).unwrap();
            let response = Response { status, headers, body: Bytes::new(), retry_after };
            let expected = expected.map(Duration::from_millis);
            assert_eq!(pause(repeat, &Ok(response), JITTER), expected, "{status} {after:?}");
        };
        check(503, None, Repeat::Safe, Some(70));
        check(503, Some("1"), Repeat::Safe, Some(1000));
        check(503, Some("2"), Repeat::Safe, None);
        check(503, None, Repeat::Never, None);
        check(429, None, Repeat::Safe, None);
        check(429, Some("0"), Repeat::Safe, Some(70));
        check(429, Some("Thu, 01 Jan 1970 00:00:01 GMT"), Repeat::Safe, Some(1000));
        check(429, Some("Thu, 01 Jan 1970 00:00:09 GMT"), Repeat::Safe, None);
        check(409, None, Repeat::Safe, None);
        check(200, None, Repeat::Safe, None);
    }

    #[test]
    fn retry_after_is_read_as_seconds_or_as_a_date() {
        let now = "2026-11-23T10:00:00Z".parse().unwrap();
        let check = |text: &str, seconds: Option<i64>| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().unwrap())]);
            let expected = seconds.map(SignedDuration::from_secs);
            assert_eq!(retry_after(&headers, now), expected, "{text}");
        };
        check("10", Some(10));
        check(" 0 ", Some(0));
        check("Mon, 23 Nov 2026 10:01:30 GMT", Some(90));
        check("Mon, 23 Nov 2026 09:00:00 GMT", Some(0));
        check("99999999", Some(24 * 3600));
        check("soon", None);
        check("-5", None);
    }
}
