//! What every try of a call tells of itself: how long it took, how it ended, and how many more its service takes.

use super::{Request, Response, TransportError};
use crate::telemetry::{
    meters,
    words::{Called, Quota},
};
use std::time::Duration;

/// GitLab's (gitlab.md §7.1), and that of Resource Graph (azure.md §10.4).
const LEFT: [(&str, Quota); 2] =
    [("ratelimit-remaining", Quota::Calls), ("x-ms-user-quota-remaining", Quota::Reads)];
/// ARM's, followed by what it counts (azure.md §10.1).
const ARM_LEFT: [&str; 2] =
    ["x-ms-ratelimit-remaining-subscription-", "x-ms-ratelimit-remaining-tenant-"];

pub(super) fn tell(
    called: Called,
    request: &Request,
    outcome: &Result<Response, TransportError>,
    took: Duration,
) {
    let called = precisely(called, request);
    meters::call(called, outcome.as_ref().ok().map(|answer| answer.status.as_u16()), took);
    for (quota, left) in outcome.iter().flat_map(left) {
        meters::quota(called, quota, left);
    }
}

/// Resource Graph stands behind ARM's address and has limits of its own.
fn precisely(called: Called, request: &Request) -> Called {
    let asks_graph = request.url.path().contains("/Microsoft.ResourceGraph/");
    if called == Called::Arm && asks_graph { Called::Graph } else { called }
}

/// What an answer says is left, each kind once: the least.
fn left(answer: &Response) -> Vec<(Quota, u64)> {
    let number = |text: &http::HeaderValue| text.to_str().ok()?.trim().parse::<u64>().ok();
    let told = answer.headers.iter().filter_map(|(name, value)| {
        let name = name.as_str();
        let plain = LEFT.iter().find(|(header, _)| *header == name).map(|(_, quota)| *quota);
        let quota = plain.or_else(|| {
            let counted = ARM_LEFT.iter().find_map(|prefix| name.strip_prefix(prefix))?;
            match counted.rsplit('-').next() {
                Some("reads") => Some(Quota::Reads),
                Some("writes") => Some(Quota::Writes),
                Some("deletes") => Some(Quota::Deletes),
                Some(_) | None => None,
            }
        })?;
        Some((quota, number(value)?))
    });
    let mut told: Vec<(Quota, u64)> = told.collect();
    told.sort_unstable();
    told.dedup_by_key(|(quota, _)| *quota);
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderMap, HeaderName, StatusCode};

    #[test]
    fn an_answer_tells_what_is_left_of_each_kind() {
        let check = |headers: &[(&str, &str)], expected: &[(Quota, u64)]| {
            let pair = |(name, value): &(&str, &str)| {
                (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
            };
            let headers = headers.iter().map(pair).collect::<HeaderMap>();
            let (status, body) = (StatusCode::OK, Default::default());
            let answer = Response { status, headers, body, retry_after: None };
            assert_eq!(left(&answer), expected);
        };
        check(&[], &[]);
        check(&[("RateLimit-Remaining", "17"), ("RateLimit-Limit", "2000")], &[(Quota::Calls, 17)]);
        check(&[("x-ms-user-quota-remaining", "14")], &[(Quota::Reads, 14)]);
        check(
            &[
                ("x-ms-ratelimit-remaining-subscription-writes", "199"),
                ("x-ms-ratelimit-remaining-subscription-global-writes", "2999"),
                ("x-ms-ratelimit-remaining-tenant-reads", "many"),
            ],
            &[(Quota::Writes, 199)],
        );
        check(&[("x-ms-ratelimit-remaining-subscription-deletes", "3")], &[(Quota::Deletes, 3)]);
    }
}
