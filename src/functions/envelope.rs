//! What the host sends: `{"Data":{"<binding>":…},"Metadata":{…}}` (functions-host.md §2). Keys that we need are read,
//! any other is let be.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

/// An envelope that does not have the host's shape. Holds none of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Undecodable(&'static str);

/// The trigger's value and what the host says about it.
#[derive(Debug)]
pub(super) struct Envelope {
    data: Value,
    metadata: Map<String, Value>,
}

/// One message of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) body: Vec<u8>,
    pub(super) message_id: Option<String>,
    pub(super) session_id: Option<String>,
    pub(super) delivery_count: Option<u64>,
    pub(super) sequence_number: Option<u64>,
    /// When it was due on its queue: sent, or scheduled for.
    pub(super) enqueued_at: Option<Timestamp>,
    /// `ApplicationProperties`, as text; the broker writes there why it gave a message up.
    pub(super) properties: Map<String, Value>,
}

/// What a timer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timer {
    pub(super) is_past_due: bool,
}

/// An HTTP request that came wrapped.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    data: Map<String, Value>,
    #[serde(default)]
    metadata: Map<String, Value>,
}

impl Envelope {
    /// Our functions have one input binding each, whatever its name.
    pub(super) fn decode(body: &[u8]) -> Result<Self, Undecodable> {
        let wire: Wire = serde_json::from_slice(body)
            .map_err(|_| Undecodable("it is not a JSON object with `Data`"))?;
        let mut values = wire.data.into_iter();
        match (values.next(), values.next()) {
            (Some((_, data)), None) => Ok(Self { data, metadata: wire.metadata }),
            (None, _) => Err(Undecodable("`Data` is empty")),
            (Some(_), Some(_)) => Err(Undecodable("`Data` has more than the trigger")),
        }
    }

    /// The messages: one, or all of a batch.
    pub(super) fn deliveries(&self) -> Result<Vec<Delivery>, Undecodable> {
        let text = self.data.as_str().ok_or(Undecodable("the message is not a string"))?;
        if text.starts_with('[') {
            return self.batch(text);
        }
        let body = if text.starts_with('"') {
            let text: String = serde_json::from_str(text)
                .map_err(|_| Undecodable("the message is not a JSON string within a string"))?;
            text.into_bytes()
        } else {
            STANDARD
                .decode(text)
                .map_err(|_| Undecodable("the message is neither text nor base64"))?
        };
        let properties = self.metadata.get("ApplicationProperties").and_then(Value::as_object);
        Ok(vec![Delivery {
            body,
            message_id: self.value("MessageId").and_then(text_of),
            session_id: self.value("SessionId").and_then(text_of),
            delivery_count: self.value("DeliveryCount").and_then(|value| number_of(&value)),
            sequence_number: self.value("SequenceNumber").and_then(|value| number_of(&value)),
            enqueued_at: self
                .value("EnqueuedTimeUtc")
                .or_else(|| self.value("EnqueuedTime"))
                .and_then(|value| time_of(&value)),
            properties: properties.cloned().unwrap_or_default(),
        }])
    }

    /// Metadata of a batch are arrays under the name with `Array` behind it.
    fn batch(&self, text: &str) -> Result<Vec<Delivery>, Undecodable> {
        let texts: Vec<String> = serde_json::from_str(text)
            .map_err(|_| Undecodable("the batch is not an array of strings"))?;
        let all = |key: &str| match self.value(key) {
            Some(Value::Array(values)) => values,
            _ => Vec::new(),
        };
        let (ids, sessions) = (all("MessageIdArray"), all("SessionIdArray"));
        let (counts, numbers) = (all("DeliveryCountArray"), all("SequenceNumberArray"));
        let times = all("EnqueuedTimeUtcArray");
        let properties = all("ApplicationPropertiesArray");
        let delivery = |(index, text): (usize, String)| Delivery {
            body: batched(text),
            message_id: ids.get(index).cloned().and_then(text_of),
            session_id: sessions.get(index).cloned().and_then(text_of),
            delivery_count: counts.get(index).and_then(number_of),
            sequence_number: numbers.get(index).and_then(number_of),
            enqueued_at: times.get(index).and_then(time_of),
            properties: properties
                .get(index)
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default(),
        };
        Ok(texts.into_iter().enumerate().map(delivery).collect())
    }

    pub(super) fn timer(&self) -> Result<Timer, Undecodable> {
        let is_past_due = self.data.get("IsPastDue").and_then(Value::as_bool);
        let is_past_due = is_past_due.ok_or(Undecodable("the timer has no `IsPastDue`"))?;
        Ok(Timer { is_past_due })
    }

    pub(super) fn request(&self) -> Result<Request, Undecodable> {
        let request = self.data.as_object().ok_or(Undecodable("the request is not an object"))?;
        if !request.contains_key("Method") {
            return Err(Undecodable("the request has no `Method`"));
        }
        let mut headers = HeaderMap::new();
        for (name, values) in
            request.get("Headers").and_then(Value::as_object).into_iter().flatten()
        {
            let Ok(name) = HeaderName::try_from(name) else { continue };
            let values =
                values.as_array().map_or_else(|| std::slice::from_ref(values), Vec::as_slice);
            for value in values.iter().filter_map(Value::as_str) {
                if let Ok(value) = HeaderValue::try_from(value) {
                    headers.append(&name, value);
                }
            }
        }
        let text = match request.get("Body") {
            None | Some(Value::Null) => "",
            Some(body) => body.as_str().ok_or(Undecodable("the request's body is not a string"))?,
        };
        let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok());
        let is_binary = kind.is_some_and(|kind| {
            let kind = kind.to_ascii_lowercase();
            kind.starts_with("application/octet-stream") || kind.starts_with("multipart/")
        });
        let body = if is_binary {
            STANDARD.decode(text).map_err(|_| Undecodable("the request's body is not base64"))?
        } else {
            text.as_bytes().to_vec()
        };
        Ok(Request { headers, body })
    }

    /// A value of the metadata: JSON text within a string, or the value itself.
    fn value(&self, key: &str) -> Option<Value> {
        let value = self.metadata.get(key)?;
        let inner = value.as_str().and_then(|text| serde_json::from_str(text).ok());
        Some(inner.unwrap_or_else(|| value.clone()))
    }
}

/// A JSON object is never base64, so our messages read right either way; what else comes is none of ours anyhow.
fn batched(text: String) -> Vec<u8> {
    STANDARD.decode(&text).unwrap_or_else(|_| text.into_bytes())
}

/// A text that reads as a number was one.
fn text_of(value: Value) -> Option<String> {
    let text = value.as_str().map(str::to_owned);
    text.or_else(|| (!value.is_null()).then(|| value.to_string()))
}

/// With an offset, or without one in UTC.
fn time_of(value: &Value) -> Option<Timestamp> {
    let text = value.as_str()?;
    text.parse().or_else(|_| format!("{text}Z").parse()).ok()
}

fn number_of(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn vector(name: &str) -> Value {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/functions-host");
        serde_json::from_slice(&std::fs::read(format!("{folder}/{name}.json")).unwrap()).unwrap()
    }

    fn envelope(body: &Value) -> Result<Envelope, Undecodable> {
        Envelope::decode(body.to_string().as_bytes())
    }

    #[test]
    fn messages_are_read_as_the_vectors_say() {
        for name in
            ["02-session-message-text", "03-session-message-binary", "04-plain-message-polluted"]
        {
            let vector = vector(name);
            let expected = &vector["expect"]["decoded"];
            let deliveries = envelope(&vector["request"]["body"]).unwrap().deliveries().unwrap();
            let [delivery] = deliveries.as_slice() else { panic!("{name} is one message") };
            let payload: Value = serde_json::from_slice(&delivery.body).unwrap();
            assert_eq!(payload, expected["payload"], "{name}");
            let id = expected.get("messageId").or(expected.get("metadataMessageId")).unwrap();
            assert_eq!(json!(delivery.message_id), *id, "{name}");
            for (key, value) in [
                ("sessionId", json!(delivery.session_id)),
                ("deliveryCount", json!(delivery.delivery_count)),
                ("sequenceNumber", json!(delivery.sequence_number)),
                ("enqueuedAt", json!(delivery.enqueued_at)),
            ] {
                if let Some(expected) = expected.get(key) {
                    assert_eq!(value, *expected, "{name}: {key}");
                }
            }
        }
    }

    #[test]
    fn a_message_says_when_it_was_due() {
        let due = "2026-03-01T12:00:01Z".parse().unwrap();
        let check = |metadata: Value, expected: Option<Timestamp>| {
            let body = json!({ "Data": { "m": STANDARD.encode("{}") }, "Metadata": metadata });
            let deliveries = envelope(&body).unwrap().deliveries().unwrap();
            assert_eq!(deliveries[0].enqueued_at, expected, "{metadata}");
        };
        check(json!({ "EnqueuedTimeUtc": "\"2026-03-01T12:00:01\"" }), Some(due));
        check(json!({ "EnqueuedTime": "\"2026-03-01T13:00:01+01:00\"" }), Some(due));
        check(json!({ "EnqueuedTimeUtc": "\"soon\"" }), None);
        check(json!({}), None);
        let batch = json!({ "Data": { "m": r#"["{}","{}"]"# },
            "Metadata": { "EnqueuedTimeUtcArray": r#"["2026-03-01T12:00:00.25","2026-03-01T12:00:01"]"# } });
        assert_eq!(envelope(&batch).unwrap().deliveries().unwrap()[1].enqueued_at, Some(due));
    }

    #[test]
    fn timers_are_read_as_the_vectors_say() {
        for name in ["05-timer", "06-timer-without-status"] {
            let vector = vector(name);
            let timer = envelope(&vector["request"]["body"]).unwrap().timer().unwrap();
            assert_eq!(vector["expect"]["decoded"]["isPastDue"], timer.is_past_due, "{name}");
        }
        let first = json!({ "Data": { "t": { "Schedule": { "AdjustForDST": true }, "IsPastDue": false,
            "ScheduleStatus": { "Last": "0001-01-01T00:00:00+00:00" } } } });
        assert_eq!(envelope(&first).unwrap().timer(), Ok(Timer { is_past_due: false }));
    }

    #[test]
    fn a_batch_is_read_with_the_metadata_of_each() {
        for texts in [json!(["{\"a\":1}", "b"]), json!(["eyJhIjoxfQ==", "Yg=="])] {
            let body = json!({
                "Data": { "message": texts.to_string() },
                "Metadata": {
                    "MessageIdArray": "[\"m-1\",null]",
                    "SessionIdArray": "[\"s-1\",\"s-2\"]",
                    "DeliveryCountArray": "[1,2]",
                    "SequenceNumberArray": "[9007199254740993,44]",
                    "ApplicationPropertiesArray": "[{},{\"DeadLetterReason\":\"x\"}]",
                    "Client": {},
                },
            });
            let deliveries = envelope(&body).unwrap().deliveries().unwrap();
            let first = Delivery {
                body: b"{\"a\":1}".to_vec(),
                message_id: Some("m-1".to_owned()),
                session_id: Some("s-1".to_owned()),
                delivery_count: Some(1),
                sequence_number: Some(9_007_199_254_740_993),
                enqueued_at: None,
                properties: Map::new(),
            };
            assert_eq!(deliveries[0], first);
            assert_eq!(
                (deliveries[1].body.as_slice(), &deliveries[1].message_id),
                (&b"b"[..], &None)
            );
            assert_eq!(deliveries[1].properties["DeadLetterReason"], "x");
        }
    }

    #[test]
    fn counts_are_read_as_text_and_as_numbers_and_may_be_missing() {
        for (metadata, expected) in [
            (json!({ "DeliveryCount": "3" }), Some(3)),
            (json!({ "DeliveryCount": 3 }), Some(3)),
            (json!({ "DeliveryCount": "\"3\"" }), Some(3)),
            (json!({}), None),
        ] {
            let body = json!({ "Data": { "m": "eA==" }, "Metadata": metadata });
            let deliveries = envelope(&body).unwrap().deliveries().unwrap();
            assert_eq!(deliveries[0].delivery_count, expected, "{body}");
        }
    }

    #[test]
    fn a_wrapped_request_gives_its_headers_and_the_very_bytes_of_its_body() {
        let request = |kind: &str, body: Value| {
            json!({ "Data": { "req": { "Method": "POST", "Url": "https://x/api/y", "Query": {},
                "Headers": { "Content-Type": [kind], "X-Gitlab-Token": ["t"], "bad name": ["x"] },
                "Params": {}, "Identities": [], "Body": body } } })
        };
        let text = envelope(&request("application/json", json!("{\"ä\": 1}"))).unwrap();
        let text = text.request().unwrap();
        assert_eq!(text.body, "{\"ä\": 1}".as_bytes());
        assert_eq!(text.headers["x-gitlab-token"], "t");
        let bytes = envelope(&request("Application/Octet-Stream", json!("AQI="))).unwrap();
        assert_eq!(bytes.request().unwrap().body, [1, 2]);
        let none = envelope(&json!({ "Data": { "req": { "Method": "GET" } } })).unwrap();
        assert!(none.request().unwrap().body.is_empty());
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        for body in [
            "",
            "null",
            "[]",
            "{}",
            "{\"Data\":{}}",
            "{\"Data\":[]}",
            "{\"Data\":{\"a\":\"\",\"b\":1}}",
        ] {
            assert!(Envelope::decode(body.as_bytes()).is_err(), "{body}");
        }
        for data in
            [json!(5), json!(null), json!({}), json!("\"half"), json!("no base64"), json!("[1]")]
        {
            let envelope = envelope(&json!({ "Data": { "m": data } })).unwrap();
            assert!(envelope.deliveries().is_err(), "{data}");
            assert!(envelope.timer().is_err(), "{data}");
            assert!(envelope.request().is_err(), "{data}");
        }
    }
}
