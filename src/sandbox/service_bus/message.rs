//! One message as the broker keeps it.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};

/// What a sender may say about a message. Ids are case-sensitive.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Properties {
    /// At most 128 characters; the gateway makes one up where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Called `Label` on the wire and also `Subject` by the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to_session_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition_key: Option<String>,
    /// `ViaPartitionKey` on the wire, `TransactionPartitionKey` for the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_partition_key: Option<String>,
    /// The queue's own limit where it is missing or longer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_to_live: Option<SignedDuration>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduled_enqueue_time: Option<Timestamp>,
    /// Strings, numbers and booleans by name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub application_properties: Map<String, Value>,
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "is", content = "until")]
pub enum State {
    Waiting,
    Scheduled(Timestamp),
    /// Somebody works on it; the lock ends at this time.
    Locked(Timestamp),
}

/// A message in a queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Given when the message is enqueued; a scheduled message gets another when its time has come.
    pub sequence_number: i64,
    #[serde(serialize_with = "as_text")]
    pub body: Vec<u8>,
    #[serde(flatten)]
    pub properties: Properties,
    pub enqueued_at: Timestamp,
    pub expires_at: Timestamp,
    /// Deliveries that failed so far; the receiver is told one more.
    pub deliveries_failed: u32,
    pub state: State,
    /// Why it is a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter_reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter_description: Option<String>,
    /// The queue it was in before it became a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter_source: Option<String>,
}

impl Message {
    /// The body as text, with a replacement character for whatever is not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, where it is JSON.
    pub fn json(&self) -> Option<Value> {
        serde_json::from_slice(&self.body).ok()
    }
}

fn as_text<S: serde::Serializer>(body: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(body))
}
