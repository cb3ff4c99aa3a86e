//! What has no list of many is looked at in slices: each sweep goes on where the last one ended.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What sweeps read one by one. CamelCase and stable outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SliceKind {
    /// Of the managed identities.
    FederatedCredentials,
    /// Of each target with a runner that no bulk read shows.
    Runners,
    /// Of existing identities, beyond the guardrails' scopes.
    ExpectedRights,
}

impl fmt::Display for SliceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FederatedCredentials => "the federated credentials of managed identities",
            Self::Runners => "the runners of targets",
            Self::ExpectedRights => "the expected rights of existing identities",
        })
    }
}

/// How far sweeps have come through things of one kind, where one sweep cannot look at all of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slice {
    /// The last one looked at; `None` at the end of a cycle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// When the cycle that this sweep looked in began.
    pub began: Timestamp,
    /// Everything has been looked at since then; `None` until the first cycle ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_since: Option<Timestamp>,
    /// How many the last sweep looked at.
    pub looked: usize,
    /// Of how many.
    pub of: usize,
}

impl Slice {
    /// For people, such as `50 of 1200 were looked at, and each of them since 2026-11-24T08:00:00Z`.
    pub fn words(&self) -> String {
        let looked = format!("{} of {} were looked at", self.looked, self.of);
        match self.all_since {
            Some(since) => format!("{looked}, and each of them since {since:.0}"),
            None => format!("{looked}, and since {:.0} not yet each of them", self.began),
        }
    }
}

/// The keys that a sweep is to look at, next ones first: from where the last one ended to the end of `keys`, which are sorted.
pub fn due<'a>(before: Option<&Slice>, keys: &'a [String]) -> &'a [String] {
    let after = before.and_then(|slice| slice.after.as_ref());
    let from = after.map_or(0, |after| keys.partition_point(|key| key <= after));
    // Those behind the cursor may all be gone.
    keys.get(from..).filter(|rest| !rest.is_empty()).unwrap_or(keys)
}

/// Where the next sweep goes on, after one at `now` looked at the first `looked` of what was due. `None`: it saw all there is.
pub fn next(
    before: Option<&Slice>,
    keys: &[String],
    looked: usize,
    now: Timestamp,
) -> Option<Slice> {
    if looked >= keys.len() {
        return None;
    }
    let due = due(before, keys);
    let goes_on = before.filter(|slice| slice.after.is_some() && due.len() < keys.len());
    let began = goes_on.map_or(now, |slice| slice.began);
    let known = before.and_then(|slice| slice.all_since);
    let (after, all_since) = match looked {
        0 => (before.and_then(|slice| slice.after.clone()), known),
        all if all >= due.len() => (None, Some(began)),
        some => (due.get(some - 1).cloned(), known),
    };
    Some(Slice { after, began, all_since, looked, of: keys.len() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;
    use std::collections::BTreeSet;

    fn at(minutes: i64) -> Timestamp {
        "2026-11-24T08:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
    }

    fn keys(numbers: std::ops::Range<usize>) -> Vec<String> {
        numbers.map(|number| format!("g{number:03}")).collect()
    }

    /// Looks at `max` a sweep; answers the sweep after which every key had been seen, and what was kept then.
    fn sweeps(keys: &[String], max: usize, every: i64) -> (i64, Option<Slice>) {
        let (mut seen, mut kept) = (BTreeSet::new(), None);
        for sweep in 1..100 {
            let due = due(kept.as_ref(), keys);
            let looked = due.len().min(max);
            seen.extend(due[..looked].iter().cloned());
            kept = next(kept.as_ref(), keys, looked, at(sweep * every));
            if seen.len() == keys.len() {
                return (sweep, kept);
            }
        }
        panic!("never saw {} of them", keys.len() - seen.len())
    }

    #[test]
    fn every_key_has_its_turn_whatever_the_schedule() {
        for every in [1, 10, 30, 60, 77] {
            let (needed, kept) = sweeps(&keys(0..150), 50, every);
            let kept = kept.unwrap();
            assert_eq!((needed, kept.after, kept.all_since), (3, None, Some(at(every))), "{every}");
        }
        assert_eq!(sweeps(&keys(0..50), 50, 10), (1, None), "what fits is not kept");
        assert_eq!(sweeps(&[], 50, 10), (1, None));
    }

    #[test]
    fn who_comes_and_goes_disturbs_no_cursor() {
        let all = keys(0..10);
        let kept = next(None, &all, 4, at(0)).unwrap();
        assert_eq!(kept.after.as_deref(), Some("g003"));
        let fewer: Vec<String> = all.iter().filter(|key| *key != "g003").cloned().collect();
        assert_eq!(due(Some(&kept), &fewer)[0], "g004");
        assert_eq!(due(Some(&kept), &keys(0..3)), keys(0..3), "nothing is left behind the cursor");
        assert_eq!(next(Some(&kept), &keys(0..3), 2, at(10)).unwrap().began, at(10));
        let stuck = next(Some(&kept), &all, 0, at(10)).unwrap();
        assert_eq!((stuck.after.as_deref(), stuck.looked, stuck.of), (Some("g003"), 0, 10));
        assert_eq!(stuck.began, at(0));
    }
}
