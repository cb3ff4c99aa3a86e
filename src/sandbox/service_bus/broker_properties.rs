//! The `BrokerProperties` of a message: a header on a single message, a member of each message of a batch.
//!
//! Source: azure.md §9.1 and §9.2.

use super::{Delivery, Error, Properties};
use jiff::{
    SignedDuration, Timestamp,
    fmt::rfc2822::{DateTimeParser, DateTimePrinter},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// What a sender may set; other names are ignored.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Sent {
    correlation_id: Option<String>,
    label: Option<String>,
    message_id: Option<String>,
    partition_key: Option<String>,
    reply_to: Option<String>,
    reply_to_session_id: Option<String>,
    scheduled_enqueue_time_utc: Option<String>,
    session_id: Option<String>,
    to: Option<String>,
    via_partition_key: Option<String>,
    /// Seconds; on single messages.
    time_to_live: Option<f64>,
    /// `d.hh:mm:ss`; in a batch.
    time_to_live_time_span: Option<String>,
}

/// Reads `BrokerProperties` as sent.
pub(super) fn read(properties: Sent) -> Result<Properties, Error> {
    let scheduled_enqueue_time =
        properties.scheduled_enqueue_time_utc.as_deref().map(date).transpose()?;
    let seconds = properties.time_to_live.map(SignedDuration::from_secs_f64);
    let span = properties.time_to_live_time_span.as_deref().map(time_span).transpose()?;
    Ok(Properties {
        message_id: properties.message_id,
        session_id: properties.session_id,
        correlation_id: properties.correlation_id,
        label: properties.label,
        content_type: None,
        reply_to: properties.reply_to,
        reply_to_session_id: properties.reply_to_session_id,
        to: properties.to,
        partition_key: properties.partition_key,
        transaction_partition_key: properties.via_partition_key,
        time_to_live: seconds.or(span),
        scheduled_enqueue_time,
        application_properties: Map::new(),
    })
}

/// Reads the text of a `BrokerProperties` header.
pub(super) fn parse(text: &str) -> Result<Properties, Error> {
    let unreadable = |error| Error::BadMessage(format!("BrokerProperties is no JSON: {error}"));
    read(serde_json::from_str(text).map_err(unreadable)?)
}

/// What a REST receiver is told about a message.
pub(super) fn received(delivery: &Delivery) -> Value {
    let message = &delivery.message;
    let properties = &message.properties;
    let live = message.expires_at.duration_since(message.enqueued_at).as_secs_f64();
    let mut told = json!({
        "DeliveryCount": delivery.delivery_count,
        "EnqueuedSequenceNumber": 0,
        "EnqueuedTimeUtc": print_date(message.enqueued_at),
        "LockToken": delivery.lock.token,
        "LockedUntilUtc": print_date(delivery.locked_until),
        "SequenceNumber": message.sequence_number,
        "State": "Active",
        "TimeToLive": live,
    });
    let optional = [
        ("MessageId", &properties.message_id),
        ("SessionId", &properties.session_id),
        ("CorrelationId", &properties.correlation_id),
        ("Label", &properties.label),
        ("ReplyTo", &properties.reply_to),
        ("ReplyToSessionId", &properties.reply_to_session_id),
        ("To", &properties.to),
        ("PartitionKey", &properties.partition_key),
        ("DeadLetterSource", &message.dead_letter_source),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            told[name] = value.as_str().into();
        }
    }
    told
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) fn print_date(at: Timestamp) -> String {
    // Years after 9999 do not exist for jiff, and negative ones not for a queue.
    DateTimePrinter::new().timestamp_to_rfc9110_string(&at).unwrap_or_default()
}

/// The same, or with `+0000` for `GMT` as one client library prints it.
fn date(text: &str) -> Result<Timestamp, Error> {
    let wrong = |_| Error::BadMessage(format!("`{text}` is no date such as RFC 1123 has"));
    DateTimeParser::new().parse_timestamp(text).map_err(wrong)
}

/// `[d.]hh:mm:ss[.fraction]`.
fn time_span(text: &str) -> Result<SignedDuration, Error> {
    let wrong = || Error::BadMessage(format!("`{text}` is no time span such as 0.01:00:00"));
    let (days, clock) = match text.split_once(':').map(|(head, _)| head.split_once('.')) {
        Some(Some((days, _))) => (days.parse().map_err(|_| wrong())?, &text[days.len() + 1..]),
        Some(None) => (0, text),
        None => return Err(wrong()),
    };
    let parts: Vec<f64> =
        clock.split(':').map(str::parse).collect::<Result<_, _>>().map_err(|_| wrong())?;
    let [hours, minutes, seconds] = parts[..] else { return Err(wrong()) };
    let seconds = f64::from(days) * 86_400.0 + hours * 3_600.0 + minutes * 60.0 + seconds;
    SignedDuration::try_from_secs_f64(seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_in_both_spellings() {
        let expected: Timestamp = "2027-01-15T08:00:00Z".parse().unwrap();
        for text in ["Fri, 15 Jan 2027 08:00:00 GMT", "Fri, 15 Jan 2027 08:00:00 +0000"] {
            assert_eq!(date(text), Ok(expected), "{text}");
        }
        assert!(date("2027-01-15T08:00:00Z").is_err());
        assert_eq!(print_date(expected), "Fri, 15 Jan 2027 08:00:00 GMT");
    }

    #[test]
    fn time_spans_have_days_and_fractions_only_where_they_want_to() {
        let cases = [("0.01:00:00", 3_600_000), ("00:00:01.5", 1_500), ("2.00:00:00", 172_800_000)];
        for (text, milliseconds) in cases {
            let expected = SignedDuration::from_millis(milliseconds);
            assert_eq!(time_span(text), Ok(expected), "{text}");
        }
        for text in ["", "5", "x:y:z", "1:2"] {
            assert!(time_span(text).is_err(), "{text}");
        }
    }
}
