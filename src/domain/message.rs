//! The one message that travels on `rounds` (DESIGN, *One message*).

mod schedule;

pub use schedule::{BACKOFF_MAX, Outgoing, backoff};

use super::ids::Unit;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version that this code writes and the only one it reads.
pub const VERSION: u64 = 1;
/// The event that is an operator's word, and no hook's: the unit's target is destroyed.
pub const SAID_DESTROYED: &str = "operator_destroy";

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
}
