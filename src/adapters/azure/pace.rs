//! How fast we may ask ARM: it says what is left before it stops us, and a call made too early is refused and makes the
//! wait longer (azure.md §10.1, §10.4).

use crate::{adapters::http::Response, clock::Clock};
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// What is left of each quota, and what is used up until when. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    clock: Clock,
    gates: Arc<Mutex<HashMap<String, Gate>>>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    closed_until: Option<Timestamp>,
    /// How long each call is held back.
    pause: Duration,
}

/// From so few calls on we go slower, as fast as the bucket is refilled: ARM's for writes 10 times a second, Resource
/// Graph's 3 times.
const ARM_SLOWS: (u32, Duration) = (20, Duration::from_millis(100));
const GRAPH_SLOWS: (u32, Duration) = (8, Duration::from_millis(350));
/// What a bucket needs to be worth asking again, where an answer does not say.
const EMPTY: SignedDuration = SignedDuration::from_secs(5);
const GRAPH_LEFT: &str = "x-ms-user-quota-remaining";
const GATES_MAX: usize = 10_000;

impl Pace {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, gates: Arc::default() }
    }

    /// How long to hold a call back, or for how long no such call may be made.
    pub(super) fn admit(&self, method: &Method, path: &str) -> Result<Duration, SignedDuration> {
        let now = self.clock.now();
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        let met: Vec<Gate> =
            names(method, path).iter().filter_map(|name| gates.get(name)).copied().collect();
        let closed = met.iter().filter_map(|gate| gate.closed_until).max();
        if let Some(until) = closed.filter(|until| *until > now) {
            return Err(until.duration_since(now));
        }
        Ok(met.iter().map(|gate| gate.pause).max().unwrap_or_default())
    }

    /// Notes what an answer tells of the quotas.
    pub(super) fn learn(&self, method: &Method, path: &str, response: &Response) {
        let now = self.clock.now();
        let [shared, own] = names(method, path);
        let left = left(response);
        let mut closed = None;
        if response.status == StatusCode::TOO_MANY_REQUESTS {
            closed = response.retry_after.or(Some(EMPTY));
        } else if left == Some(0) {
            closed = Some(resets_after(response).unwrap_or(EMPTY));
        }
        // A provider's own limit is one resource's; ARM's is the whole subscription's.
        let name = if left.is_some() || is_arms(response) { shared } else { own };
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if left.is_none() && closed.is_none() {
            return;
        }
        if gates.len() >= GATES_MAX {
            gates.retain(|_, gate| gate.closed_until.is_some_and(|until| until > now));
        }
        let closed_until = closed.and_then(|wait| now.checked_add(wait).ok());
        let (low, pause) =
            if response.header(GRAPH_LEFT).is_some() { GRAPH_SLOWS } else { ARM_SLOWS };
        let pause = if left.is_some_and(|left| left < low) { pause } else { Duration::ZERO };
        gates.insert(name, Gate { closed_until, pause });
    }
}

/// The bucket that a call draws from with others, and the one of its own.
fn names(method: &Method, path: &str) -> [String; 2] {
    let kind = if *method == Method::DELETE {
        "delete"
    } else if method.is_safe() {
        "read"
    } else {
        "write"
    };
    let path = path.to_ascii_lowercase();
    let subscription = path.strip_prefix("/subscriptions/").and_then(|rest| rest.split('/').next());
    let shared = match subscription {
        Some(subscription) => format!("{kind} {subscription}"),
        // Resource Graph has a quota of its own, whatever it is asked about.
        None => format!("{kind} {path}"),
    };
    [shared, format!("{kind} of {path}")]
}

/// The smallest of `x-ms-ratelimit-remaining-…`, of which there are several, or Resource Graph's own header.
fn left(response: &Response) -> Option<u32> {
    let told = response.headers.iter().filter(|(name, _)| {
        let name = name.as_str();
        name == GRAPH_LEFT
            || name.starts_with("x-ms-ratelimit-remaining-subscription-")
            || name.starts_with("x-ms-ratelimit-remaining-tenant-")
    });
    told.filter_map(|(_, value)| value.to_str().ok()?.trim().parse().ok()).min()
}

/// `hh:mm:ss`
fn resets_after(response: &Response) -> Option<SignedDuration> {
    let text = response.header("x-ms-user-quota-resets-after")?;
    let mut parts = text.trim().split(':').map(|part| part.parse::<u32>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let seconds = u64::from(hours) * 3600 + u64::from(minutes) * 60 + u64::from(seconds);
    SignedDuration::try_from(Duration::from_secs(seconds)).ok()
}

fn is_arms(response: &Response) -> bool {
    let text = response.text();
    ["SubscriptionRequestsThrottled", "TenantRequestsThrottled", "RateLimiting"]
        .iter()
        .any(|code| text.contains(code))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderName};

    const A: &str = "/subscriptions/1/resourceGroups/rg/providers/x/a";
    const B: &str = "/subscriptions/1/resourceGroups/rg/providers/x/b";
    const GRAPH: &str = "/providers/Microsoft.ResourceGraph/resources";

    fn answer(status: u16, body: &'static str, headers: &[(&str, &str)]) -> Response {
        let pair = |(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
        };
        let seconds = headers.iter().find(|(name, _)| *name == "retry-after");
        Response {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.iter().map(pair).collect::<HeaderMap>(),
            body: body.into(),
            retry_after: seconds.map(|(_, text)| SignedDuration::from_secs(text.parse().unwrap())),
        }
    }

    /// After one answer to a write of `A` (or the graph): how the next calls are let in.
    #[track_caller]
    fn check(path: &str, answer: Response, expected: [(&Method, &str, Result<u64, i64>); 3]) {
        let pace = Pace::new(Clock::frozen("2026-11-23T10:00:00Z".parse().unwrap()));
        pace.learn(&Method::PUT, path, &answer);
        for (method, path, expected) in expected {
            let admitted = pace.admit(method, path);
            let expected = expected.map(Duration::from_millis).map_err(SignedDuration::from_secs);
            assert_eq!(admitted, expected, "{method} {path}");
        }
    }

    #[test]
    fn what_is_left_slows_us_down_and_what_is_used_up_stops_us() {
        let (put, get) = (Method::PUT, Method::GET);
        let free = [(&put, A, Ok(0)), (&put, B, Ok(0)), (&get, A, Ok(0))];
        check(A, answer(200, "", &[]), free);
        let writes = "x-ms-ratelimit-remaining-subscription-writes";
        check(A, answer(200, "", &[(writes, "150")]), free);
        check(
            A,
            answer(200, "", &[(writes, "19"), ("x-ms-ratelimit-remaining-tenant-writes", "900")]),
            [(&put, A, Ok(100)), (&put, B, Ok(100)), (&get, A, Ok(0))],
        );
        check(
            A,
            answer(200, "", &[(writes, "0")]),
            [(&put, A, Err(5)), (&put, B, Err(5)), (&get, A, Ok(0))],
        );
        let arms = r#"{"error":{"code":"SubscriptionRequestsThrottled","message":"words"}}"#;
        check(
            A,
            answer(429, arms, &[("retry-after", "17")]),
            [(&put, A, Err(17)), (&put, B, Err(17)), (&get, A, Ok(0))],
        );
        let providers = r#"{"error":{"code":"TooManyRequests","message":"words"}}"#;
        check(
            A,
            answer(429, providers, &[("retry-after", "4")]),
            [(&put, A, Err(4)), (&put, B, Ok(0)), (&get, A, Ok(0))],
        );
    }

    #[test]
    fn resource_graph_tells_its_own_quota() {
        let (post, get) = (Method::POST, Method::GET);
        let headers = |left| {
            [("x-ms-user-quota-remaining", left), ("x-ms-user-quota-resets-after", "00:00:03")]
        };
        check(
            GRAPH,
            answer(200, "", &headers("0")),
            [(&post, GRAPH, Err(3)), (&post, A, Ok(0)), (&get, A, Ok(0))],
        );
        for (left, pause) in [("14", 0), ("7", 350)] {
            check(
                GRAPH,
                answer(200, "", &headers(left)),
                [(&post, GRAPH, Ok(pause)), (&post, A, Ok(0)), (&get, A, Ok(0))],
            );
        }
    }

    #[test]
    fn a_gate_opens_when_its_time_has_come() {
        let file = std::env::temp_dir().join(format!("forerunner-pace-{}", uuid::Uuid::new_v4()));
        std::fs::write(&file, "0").unwrap();
        let pace = Pace::new(Clock::following(file.clone()));
        pace.learn(&Method::PUT, A, &answer(429, "", &[("retry-after", "4")]));
        assert!(pace.admit(&Method::PUT, A).is_err());
        std::fs::write(&file, "4000").unwrap();
        assert_eq!(pace.admit(&Method::PUT, A), Ok(Duration::ZERO));
        std::fs::remove_file(file).unwrap();
    }
}
