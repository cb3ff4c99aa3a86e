//! When a message is sent, and under which id (DESIGN, *One message*).

use super::{Message, Reason};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

/// Retries of one unit are at most this far apart.
pub const BACKOFF_MAX: SignedDuration = SignedDuration::from_mins(15);
/// The first retry comes within this time; each further one may take twice as long.
const BACKOFF_FIRST: SignedDuration = SignedDuration::from_secs(15);
/// A scheduled message is never nearer than this, so that what duplicate detection drops was sent before the
/// round that stands for it began.
const AHEAD_MIN: SignedDuration = SignedDuration::from_secs(1);
const HOOK_BUCKET: SignedDuration = SignedDuration::from_secs(1);
const OTHER_BUCKET: SignedDuration = SignedDuration::from_secs(30);

/// A message as it goes to the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub message: Message,
    /// What duplicate detection compares: 64 hex digits.
    pub message_id: String,
    /// The unit's text: one unit has one round at a time.
    pub session_id: String,
    /// `None`: at once.
    pub scheduled_for: Option<Timestamp>,
}

impl Message {
    /// Sends it for the first time. A bare wake-up waits for the end of its bucket, where it merges with its
    /// like; one with an intent goes at once and is never merged with another cause's, nor with the same words of another time.
    pub fn send(self, now: Timestamp) -> Outgoing {
        match self.intent {
            None => self.schedule(now, now),
            Some(_) => Outgoing {
                message_id: self.order_id(""),
                session_id: self.unit.to_string(),
                scheduled_for: None,
                message: self,
            },
        }
    }

    /// Waits: the same unit again after `wait`. This is no failure, so `attempt` starts anew, and the hook's
    /// event has been dealt with, so that parallel chains of one unit merge.
    pub fn follow_up(self, wait: SignedDuration, now: Timestamp) -> Outgoing {
        let message = Self { reason: Reason::FollowUp, event: None, attempt: 1, ..self };
        message.schedule(later(now, wait), now)
    }

    /// Fails for now: the same again after [`backoff`]. `random` lies in `0.0..1.0`.
    pub fn retry(self, after: Option<SignedDuration>, random: f64, now: Timestamp) -> Outgoing {
        let wait = backoff(self.attempt, after, random);
        let message = Self { attempt: self.attempt.saturating_add(1), ..self };
        message.schedule(later(now, wait), now)
    }

    fn schedule(self, not_before: Timestamp, now: Timestamp) -> Outgoing {
        let bucket = match (self.reason, self.attempt) {
            (Reason::Hook, 1) => HOOK_BUCKET,
            (
                Reason::Hook
                | Reason::Sweep
                | Reason::Command
                | Reason::Rotation
                | Reason::FollowUp,
                _,
            ) => OTHER_BUCKET,
        };
        let end = bucket_end(not_before.max(later(now, AHEAD_MIN)), bucket);
        let (unit, at) = (self.unit.to_string(), end.as_second().to_string());
        let message_id = match self.intent {
            None => digest(&[&unit, self.event.as_deref().unwrap_or_default(), &at]),
            Some(_) => self.order_id(&at),
        };
        Outgoing { message: self, message_id, session_id: unit, scheduled_for: Some(end) }
    }

    /// The same words of another time are another order, also while both are tried again. `at`: when it is to come.
    fn order_id(&self, at: &str) -> String {
        let since = self.since.map(|since| since.to_string()).unwrap_or_default();
        digest(&[&self.cause, &self.unit.to_string(), &since, at])
    }
}

/// How long to wait before the next attempt: a random part (*full jitter*) of a time that doubles with every
/// failure, on top of what the service asked for, and so that the bucket's end is at most [`BACKOFF_MAX`] away.
pub fn backoff(attempt: u32, after: Option<SignedDuration>, random: f64) -> SignedDuration {
    let longest = BACKOFF_MAX.saturating_sub(OTHER_BUCKET);
    let doubled = 1_i32 << attempt.saturating_sub(1).min(10);
    let ceiling = BACKOFF_FIRST.saturating_mul(doubled).min(longest);
    let jitter = SignedDuration::from_secs_f64(ceiling.as_secs_f64() * random.clamp(0.0, 1.0));
    after.unwrap_or_default().max(SignedDuration::ZERO).saturating_add(jitter).min(longest)
}

/// The first multiple of `bucket` that is not before `earliest`.
fn bucket_end(earliest: Timestamp, bucket: SignedDuration) -> Timestamp {
    let (length, at) = (bucket.as_millis() as i64, earliest.as_nanosecond());
    let milliseconds = at.div_euclid(1_000_000) as i64 + i64::from(at.rem_euclid(1_000_000) > 0);
    let end = (milliseconds + length - 1).div_euclid(length) * length;
    Timestamp::from_millisecond(end).unwrap_or(Timestamp::MAX)
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// Parts cannot be shifted into each other: each is hashed with its length.
fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::{super::Intent, *};
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn wake(reason: Reason) -> Message {
        Message::wake("runner/g42-terraform".parse().unwrap(), reason, "delivery-1".to_owned())
    }

    #[test]
    fn wake_ups_of_one_bucket_merge_and_lie_at_least_a_second_ahead() {
        let cases = [
            (Reason::Hook, "2026-03-01T12:00:00Z", "2026-03-01T12:00:01Z"),
            (Reason::Hook, "2026-03-01T12:00:00.001Z", "2026-03-01T12:00:02Z"),
            (Reason::Hook, "2026-03-01T12:00:00.999999999Z", "2026-03-01T12:00:02Z"),
            (Reason::Sweep, "2026-03-01T12:00:00Z", "2026-03-01T12:00:30Z"),
            (Reason::Sweep, "2026-03-01T12:00:29Z", "2026-03-01T12:00:30Z"),
            (Reason::Sweep, "2026-03-01T12:00:29.5Z", "2026-03-01T12:01:00Z"),
        ];
        for (reason, now, end) in cases {
            let sent = wake(reason).send(at(now));
            assert_eq!(sent.scheduled_for, Some(at(end)), "{reason:?} at {now}");
            let again = Message { cause: "other".to_owned(), ..wake(reason) };
            let twin = again.schedule(at(end), at(now));
            assert_eq!(twin.message_id, sent.message_id, "{reason:?} at {now}");
        }
    }

    #[test]
    fn other_events_and_other_buckets_do_not_merge() {
        let now = at("2026-03-01T12:00:00Z");
        let hook = |event: &str| Message { event: Some(event.to_owned()), ..wake(Reason::Hook) };
        let ids = [
            hook("group_create").send(now).message_id,
            hook("group_destroy").send(now).message_id,
            hook("group_create").send(at("2026-03-01T12:00:05Z")).message_id,
            wake(Reason::Sweep).send(now).message_id,
        ];
        let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn an_intent_goes_at_once_and_keeps_its_cause_apart() {
        let now = at("2026-03-01T12:00:00Z");
        let ask = |cause: &str| Message {
            intent: Some(Intent::Rotate),
            cause: cause.to_owned(),
            ..wake(Reason::Command)
        };
        let first = ask("a").send(now);
        assert_eq!(first.scheduled_for, None);
        assert_eq!(first.message_id, ask("a").send(at("2026-03-01T13:00:00Z")).message_id);
        assert_ne!(first.message_id, ask("b").send(now).message_id);
        let wait = SignedDuration::from_mins(1);
        let again = ask("a").follow_up(wait, now);
        assert_eq!(again.scheduled_for, Some(at("2026-03-01T12:01:00Z")));
        assert_ne!(again.message_id, first.message_id);
        assert_ne!(again.message_id, ask("b").follow_up(wait, now).message_id);
        assert_eq!(again.message.intent, Some(Intent::Rotate));
        // The same words given at two times are two orders, also while both are tried again.
        let given = |since: &str| Message { since: Some(at(since)), ..ask("a") };
        let [early, late] = ["2026-03-01T11:00:00Z", "2026-03-01T11:05:00Z"].map(given);
        assert_ne!(early.clone().send(now).message_id, late.clone().send(now).message_id);
        let again = |message: Message| message.retry(None, 0.0, now).message_id;
        assert_ne!(again(early), again(late));
    }

    #[test]
    fn waits_do_not_count_and_failures_do() {
        let now = at("2026-03-01T12:00:00Z");
        let tried = Message { attempt: 4, ..wake(Reason::Hook) };
        assert_eq!(tried.clone().follow_up(SignedDuration::from_secs(5), now).message.attempt, 1);
        assert_eq!(tried.retry(None, 0.5, now).message.attempt, 5);
    }

    proptest! {
        /// However the dice fall: not before the service allows, never more than 15 minutes apart.
        #[test]
        fn retries_honour_the_service_and_the_ceiling(
            attempt in 1_u32..200, after in proptest::option::of(0_i64..870), random in 0.0..1.0_f64,
        ) {
            let now = at("2026-03-01T12:00:07.5Z");
            let after = after.map(SignedDuration::from_secs);
            let message = Message { attempt, ..wake(Reason::Sweep) };
            let sent = message.retry(after, random, now);
            let wait = sent.scheduled_for.unwrap().duration_since(now);
            prop_assert!(wait >= after.unwrap_or_default().max(AHEAD_MIN));
            prop_assert!(wait <= BACKOFF_MAX);
            prop_assert!(sent.message_id.len() <= 128 && sent.session_id.len() <= 128);
        }
    }
}
