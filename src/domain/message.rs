//! The one message that travels on `rounds`, and when and under which id it is sent (DESIGN, *One message*).

use super::ids::Unit;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The version that this code writes and the only one it reads.
pub const VERSION: u64 = 1;
/// Retries of one unit are at most this far apart.
pub const BACKOFF_MAX: SignedDuration = SignedDuration::from_mins(15);
/// The first retry comes within this time; each further one may take twice as long.
const BACKOFF_FIRST: SignedDuration = SignedDuration::from_secs(15);
/// A scheduled message is never nearer than this, so that what duplicate detection drops was sent before the
/// round that stands for it began.
const AHEAD_MIN: SignedDuration = SignedDuration::from_secs(1);
/// The event that is an operator's word, and no hook's: the unit's target is destroyed.
pub const SAID_DESTROYED: &str = "operator_destroy";
const HOOK_BUCKET: SignedDuration = SignedDuration::from_secs(1);
const OTHER_BUCKET: SignedDuration = SignedDuration::from_secs(30);

/// Wakes a unit for one round.
///
/// `{"v":1,"unit":"runner/g42-terraform","reason":"hook","event":"group_create","intent":null,"attempt":1,
/// "cause":"…","deadline":null,"traceparent":null}`, and `since` where a hook or an order began it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub unit: Unit,
    pub reason: Reason,
    /// Name of the verified hook event, or [`SAID_DESTROYED`].
    pub event: Option<String>,
    pub intent: Option<Intent>,
    /// Counts failures in a row, from 1. Waits do not count.
    pub attempt: u32,
    /// What began this chain: the delivery id of a hook, the id of a sweep or of a command.
    pub cause: String,
    /// When waiting ends.
    pub deadline: Option<Timestamp>,
    /// W3C trace context of whoever sent it.
    pub traceparent: Option<String>,
    /// When what began this chain came in: a hook, which is only told, or an order with an intent. Of the orders to one runner
    /// the one that came in last counts.
    pub since: Option<Timestamp>,
}

/// Why the unit is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    Hook,
    Sweep,
    Command,
    Rotation,
    FollowUp,
}

impl Reason {
    const ALL: [Self; 5] = [Self::Hook, Self::Sweep, Self::Command, Self::Rotation, Self::FollowUp];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::Sweep => "sweep",
            Self::Command => "command",
            Self::Rotation => "rotation",
            Self::FollowUp => "follow-up",
        }
    }
}

/// What somebody asked for beyond *look at this one*. A round parks an intent that it cannot act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Intent {
    Reprovision,
    Rotate,
    Pause,
    Resume,
}

impl Intent {
    const ALL: [Self; 4] = [Self::Reprovision, Self::Rotate, Self::Pause, Self::Resume];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reprovision => "reprovision",
            Self::Rotate => "rotate",
            Self::Pause => "pause",
            Self::Resume => "resume",
        }
    }
}

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

/// Why some bytes are no message of ours. Names our keys, never the bytes' own text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotOurs {
    #[error("the body is not JSON")]
    NotJson,
    #[error("the body is JSON but not an object")]
    NotAnObject,
    #[error("`v` is not {VERSION}, the only version known here")]
    Version,
    #[error("the body has a key that a message of version {VERSION} does not have")]
    UnknownKey,
    #[error("`{key}` is missing or is not {what}")]
    Key { key: &'static str, what: &'static str },
}

const KEYS: [&str; 10] = [
    "v",
    "unit",
    "reason",
    "event",
    "intent",
    "attempt",
    "cause",
    "deadline",
    "traceparent",
    "since",
];
/// Longer texts are nothing that we wrote.
const TEXT_MAX: usize = 256;

impl Message {
    /// A first, bare wake-up.
    pub fn wake(unit: Unit, reason: Reason, cause: String) -> Self {
        Self {
            unit,
            reason,
            event: None,
            intent: None,
            attempt: 1,
            cause,
            deadline: None,
            traceparent: None,
            since: None,
        }
    }

    /// Reads a body strictly: every key known, every value of its kind.
    pub fn decode(body: &[u8]) -> Result<Self, NotOurs> {
        let value: Value = serde_json::from_slice(body).map_err(|_| NotOurs::NotJson)?;
        let Value::Object(keys) = value else { return Err(NotOurs::NotAnObject) };
        if keys.get("v").and_then(Value::as_u64) != Some(VERSION) {
            return Err(NotOurs::Version);
        }
        if keys.keys().any(|key| !KEYS.contains(&key.as_str())) {
            return Err(NotOurs::UnknownKey);
        }
        let unit =
            required(&keys, "unit", "a unit, such as `target/g42`", |text| text.parse().ok())?;
        let reason = required(&keys, "reason", "one of the reasons", |text| {
            Reason::ALL.into_iter().find(|reason| reason.as_str() == text)
        })?;
        let attempt = keys.get("attempt").and_then(Value::as_u64).and_then(|n| n.try_into().ok());
        let attempt = attempt
            .filter(|attempt| *attempt > 0)
            .ok_or(NotOurs::Key { key: "attempt", what: "a number from 1" })?;
        Ok(Self {
            unit,
            reason,
            event: optional(&keys, "event", "a short text or null", short)?,
            intent: optional(&keys, "intent", "a known intent or null", |text| {
                Intent::ALL.into_iter().find(|intent| intent.as_str() == text)
            })?,
            attempt,
            cause: required(&keys, "cause", "a short text", short)?,
            deadline: optional(&keys, "deadline", "a time in RFC 3339 or null", |text| {
                text.parse().ok()
            })?,
            traceparent: optional(&keys, "traceparent", "a short text or null", short)?,
            since: optional(&keys, "since", "a time in RFC 3339 or null", |text| {
                text.parse().ok()
            })?,
        })
    }

    /// The body that [`Message::decode`] reads back.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = serde_json::json!({
            "v": VERSION,
            "unit": self.unit,
            "reason": self.reason,
            "event": self.event,
            "intent": self.intent,
            "attempt": self.attempt,
            "cause": self.cause,
            "deadline": self.deadline,
            "traceparent": self.traceparent,
        });
        // What neither began reads as it always did.
        if let Some(since) = self.since {
            body["since"] = since.to_string().into();
        }
        body.to_string().into_bytes()
    }

    /// Sends it for the first time. A bare wake-up waits for the end of its bucket, where it merges with its
    /// like; one with an intent goes at once and is never merged with another cause's, nor with the same words of another time.
    pub fn send(self, now: Timestamp) -> Outgoing {
        match self.intent {
            None => self.schedule(now, now),
            Some(_) => Outgoing {
                message_id: digest(&[
                    &self.cause,
                    &self.unit.to_string(),
                    &self.since.map(|since| since.to_string()).unwrap_or_default(),
                ]),
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
            Some(_) => digest(&[&self.cause, &unit, &at]),
        };
        Outgoing { message: self, message_id, session_id: unit, scheduled_for: Some(end) }
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

fn short(text: &str) -> Option<String> {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    ((1..=TEXT_MAX).contains(&text.len()) && printable).then(|| text.to_owned())
}

fn required<T>(
    keys: &Map<String, Value>,
    key: &'static str,
    what: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, NotOurs> {
    optional(keys, key, what, read)?.ok_or(NotOurs::Key { key, what })
}

fn optional<T>(
    keys: &Map<String, Value>,
    key: &'static str,
    what: &'static str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, NotOurs> {
    match keys.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let read = value.as_str().and_then(read);
            read.map(Some).ok_or(NotOurs::Key { key, what })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn wake(reason: Reason) -> Message {
        Message::wake("runner/g42-terraform".parse().unwrap(), reason, "delivery-1".to_owned())
    }

    #[test]
    fn a_message_reads_back_from_its_body() {
        let full = Message {
            event: Some("group_create".to_owned()),
            intent: Some(Intent::Reprovision),
            attempt: 3,
            deadline: Some(at("2026-03-01T12:00:00Z")),
            traceparent: Some("00-1-2-01".to_owned()),
            since: Some(at("2026-03-01T11:00:00Z")),
            ..wake(Reason::FollowUp)
        };
        for message in [wake(Reason::Hook), wake(Reason::Rotation), full] {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn what_is_no_message_is_refused_without_its_text() {
        let key = |key, what| NotOurs::Key { key, what };
        let good = String::from_utf8(wake(Reason::Hook).encode()).unwrap();
        let cases = [
            ("hello".to_owned(), NotOurs::NotJson),
            ("[1]".to_owned(), NotOurs::NotAnObject),
            ("{}".to_owned(), NotOurs::Version),
            (good.replace("\"v\":1", "\"v\":2"), NotOurs::Version),
            (good.replace("\"v\":1", "\"v\":1,\"path\":\"x\""), NotOurs::UnknownKey),
            (
                good.replace("runner/g42-terraform", "pod/secret"),
                key("unit", "a unit, such as `target/g42`"),
            ),
            (good.replace("\"hook\"", "\"whim\""), key("reason", "one of the reasons")),
            (good.replace("\"attempt\":1", "\"attempt\":0"), key("attempt", "a number from 1")),
            (good.replace("\"delivery-1\"", "null"), key("cause", "a short text")),
            (good.replace("delivery-1", "a\\nb"), key("cause", "a short text")),
        ];
        for (body, expected) in cases {
            assert_eq!(Message::decode(body.as_bytes()), Err(expected), "{body}");
        }
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
