//! Token buckets: ARM's own (azure.md §10.1) and the managed identity provider's (§3.2).

use super::{
    Settings,
    answer::Answer,
    call::Call,
    scope,
    state::{State, later},
    token::Caller,
};
use jiff::{Timestamp, tz::TimeZone};
use std::{collections::BTreeMap, time::Duration};

/// All buckets, and how many calls of each kind were let in and refused.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    buckets: BTreeMap<String, Bucket>,
    pub(super) admitted: BTreeMap<&'static str, u64>,
    pub(super) refused: BTreeMap<&'static str, u64>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at: Timestamp,
    /// Calls before this are refused, and put it off.
    blocked_until: Option<Timestamp>,
}

/// One limit that a call counts against.
struct Limit {
    key: String,
    burst: f64,
    per_second: f64,
}

/// What an answer tells about the caller's own bucket.
pub(super) struct Left {
    pub(super) header: &'static str,
    pub(super) calls: u64,
}

/// How much larger the bucket of all callers of a subscription is.
const GLOBAL_FACTOR: f64 = 15.0;

/// Takes a token from every bucket of this call, or refuses it with 429.
pub(super) fn admit(
    state: &mut State,
    settings: &Settings,
    call: &Call,
    caller: &Caller,
    now: Timestamp,
) -> Result<Left, Answer> {
    let (kind, burst, per_second) = match call.method.as_str() {
        "GET" | "HEAD" => ("read", 250.0, 25.0),
        "DELETE" => ("delete", 200.0, 10.0),
        _ => ("write", 200.0, 10.0),
    };
    let subscription = scope::segment(&call.path, "subscriptions").map(str::to_ascii_lowercase);
    let place = subscription.as_deref().unwrap_or("tenant");
    let own = format!("{place} {} {kind}", caller.principal_id);
    let mut limits = vec![
        Limit { key: own.clone(), burst, per_second },
        Limit {
            key: format!("{place} everybody {kind}"),
            burst: burst * GLOBAL_FACTOR,
            per_second: per_second * GLOBAL_FACTOR,
        },
    ];
    limits.extend(of_identities(call, place));
    let throttle = &mut state.throttle;
    let mut wait = None;
    for (number, limit) in limits.iter().enumerate() {
        if let Some(seconds) = throttle.take(limit, now) {
            wait = wait.or(Some((number, seconds)));
        }
    }
    let header = match (subscription.is_some(), kind) {
        (true, "read") => "x-ms-ratelimit-remaining-subscription-reads",
        (true, "delete") => "x-ms-ratelimit-remaining-subscription-deletes",
        (true, _) => "x-ms-ratelimit-remaining-subscription-writes",
        (false, "read") => "x-ms-ratelimit-remaining-tenant-reads",
        (false, _) => "x-ms-ratelimit-remaining-tenant-writes",
    };
    let Some((number, seconds)) = wait.filter(|_| settings.throttling) else {
        *throttle.admitted.entry(kind).or_default() += 1;
        let tokens = throttle.buckets.get(&own).map_or(0.0, |bucket| bucket.tokens);
        return Ok(Left { header, calls: Duration::from_secs_f64(tokens.max(0.0)).as_secs() });
    };
    *throttle.refused.entry(kind).or_default() += 1;
    let (code, message) = if number < 2 {
        let message = format!(
            "Number of '{kind}' requests for subscription '{place}' actor '{}' exceeded. Please try again after '{seconds}' seconds.",
            caller.principal_id
        );
        ("SubscriptionRequestsThrottled", message)
    } else {
        (
            "TooManyRequests",
            "The managed identity provider takes no more such calls now.".to_owned(),
        )
    };
    Err(Answer::refusal(429, code, message)
        .with_header("retry-after", retry_after(settings, now, seconds)))
}

fn retry_after(settings: &Settings, now: Timestamp, seconds: u64) -> String {
    if settings.retry_after_as_date {
        let then = later(now, Duration::from_secs(seconds)).to_zoned(TimeZone::UTC);
        return then.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    }
    seconds.to_string()
}

/// The provider's limits per tenant, subscription and resource. Credentials do not share them here (§3.2 leaves it
/// open).
fn of_identities(call: &Call, place: &str) -> Vec<Limit> {
    let path = call.path.to_ascii_lowercase();
    let Some((_, tail)) = path.split_once("/microsoft.managedidentity/userassignedidentities")
    else {
        return Vec::new();
    };
    let (kind, rates) = match (call.method.as_str(), tail.trim_matches('/')) {
        (_, child) if child.contains('/') => return Vec::new(),
        ("GET", "") => ("list", [15.0, 5.0, 0.25]),
        ("GET", _) => ("get", [30.0, 10.0, 0.5]),
        ("DELETE", _) => ("delete", [10.0, 2.0, 0.25]),
        _ => ("write", [10.0, 2.0, 0.25]),
    };
    let keys = [
        format!("identities {kind}"),
        format!("identities {place} {kind}"),
        format!("identities {path} {kind}"),
    ];
    let limits = keys.into_iter().zip(rates);
    limits
        .map(|(key, per_second)| Limit { key, burst: f64::max(per_second, 1.0), per_second })
        .collect()
}

impl Throttle {
    /// Takes a token, or says how many seconds to wait for one.
    fn take(&mut self, limit: &Limit, now: Timestamp) -> Option<u64> {
        let bucket = self.buckets.entry(limit.key.clone()).or_insert(Bucket {
            tokens: limit.burst,
            at: now,
            blocked_until: None,
        });
        let elapsed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + elapsed * limit.per_second).min(limit.burst);
        bucket.at = now;
        let early = bucket.blocked_until.is_some_and(|until| now < until);
        if bucket.tokens >= 1.0 && !early {
            bucket.tokens -= 1.0;
            bucket.blocked_until = None;
            return None;
        }
        let missing = (1.0 - bucket.tokens).max(0.0) / limit.per_second;
        let seconds = Duration::from_secs_f64(missing.ceil().max(1.0));
        bucket.blocked_until = Some(later(now, seconds));
        Some(seconds.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_that_comes_back_too_early_is_refused_and_waits_anew() {
        let mut throttle = Throttle::default();
        let start: Timestamp = "2026-11-24T06:00:00Z".parse().unwrap();
        let limit = Limit { key: "one".to_owned(), burst: 1.0, per_second: 0.25 };
        let mut take = |milliseconds: u64| {
            throttle.take(&limit, later(start, Duration::from_millis(milliseconds)))
        };
        assert_eq!(take(0), None);
        assert_eq!(take(0), Some(4));
        assert_eq!(take(3500), Some(1), "half a second too early");
        assert_eq!(take(4200), Some(1), "there is a token, but the wait was renewed");
        assert_eq!(take(5200), None);
    }
}
