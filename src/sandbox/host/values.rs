//! How the host writes the values of `Data` and `Metadata` (functions-host.md §2.3), text inside text included.

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{Timestamp, tz::TimeZone};
use rand::{rngs::StdRng, seq::SliceRandom};
use serde_json::Value;

/// What .NET prints for no expiry.
const FOR_EVER: &str = "9999-12-31T23:59:59";

/// Members of an envelope; names are found without regard to case and the first spelling stays.
#[derive(Clone, Default)]
pub(super) struct Members(Vec<(String, Value)>);

impl Members {
    pub(super) fn set(&mut self, name: &str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.to_owned(), value)),
        }
    }

    /// Sets what is not there yet.
    pub(super) fn add(&mut self, name: &str, value: Value) {
        if !self.0.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
            self.0.push((name.to_owned(), value));
        }
    }

    /// What ends in `trigger` never reaches the handler.
    pub(super) fn drop_triggers(&mut self) {
        self.0.retain(|(name, _)| !name.to_lowercase().ends_with("trigger"));
    }

    /// Compact JSON with the members in an order that nobody may rely on.
    pub(super) fn shuffled(&self, random: &mut StdRng) -> String {
        let mut members: Vec<&(String, Value)> = self.0.iter().collect();
        members.shuffle(random);
        let members: Vec<String> = members
            .into_iter()
            .map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())))
            .collect();
        format!("{{{}}}", members.join(","))
    }
}

/// A string that holds the JSON text of `value`: strings, numbers, booleans, arrays and null go so.
pub(super) fn in_text(value: impl Into<Value>) -> Value {
    Value::String(inner_text(&value.into()))
}

/// Bytes are encoded once.
pub(super) fn bytes(body: &[u8]) -> Value {
    BASE64_STANDARD.encode(body).into()
}

/// A `DateTime`: whole seconds, no zone.
pub(super) fn date(at: Timestamp) -> Value {
    whole_seconds(at).into()
}

/// A `DateTimeOffset`: whole seconds with the offset.
pub(super) fn date_with_offset(at: Timestamp) -> Value {
    format!("{}+00:00", whole_seconds(at)).into()
}

/// A date inside an object or an array: up to seven digits of a second, zeros at the end cut.
pub(super) fn precise(at: Timestamp) -> String {
    if is_for_ever(at) {
        return format!("{FOR_EVER}.9999999");
    }
    let whole = whole_seconds(at);
    let ticks = at.subsec_nanosecond() / 100;
    if ticks == 0 {
        return whole;
    }
    format!("{whole}.{}", format!("{ticks:07}").trim_end_matches('0'))
}

/// Compact JSON as Json.NET writes it: beyond the usual, three line ends are escaped.
pub(super) fn inner_text(value: &Value) -> String {
    value
        .to_string()
        .replace('\u{85}', "\\u0085")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

fn whole_seconds(at: Timestamp) -> String {
    if is_for_ever(at) {
        return FOR_EVER.to_owned();
    }
    at.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

fn is_for_ever(at: Timestamp) -> bool {
    at.to_zoned(TimeZone::UTC).year() >= 9999
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn everything_but_bytes_dates_and_objects_is_json_text_in_a_string() {
        let cases = [
            (json!("hello"), r#""\"hello\"""#),
            (json!(r#"{"a":1}"#), r#""\"{\\\"a\\\":1}\"""#),
            (json!(4), r#""4""#),
            (json!(true), r#""true""#),
            (json!([1, 2]), r#""[1,2]""#),
            (Value::Null, r#""null""#),
            (json!("a\u{2028}b"), r#""\"a\\u2028b\"""#),
        ];
        for (value, wire) in cases {
            assert_eq!(in_text(value.clone()).to_string(), wire, "{value}");
        }
        assert_eq!(bytes(&[1, 2, 255]), json!("AQL/"));
    }

    #[test]
    fn dates_lose_fractions_outside_of_objects_only() {
        let at: Timestamp = "2026-03-01T12:00:01.25Z".parse().unwrap();
        assert_eq!(date(at), json!("2026-03-01T12:00:01"));
        assert_eq!(date_with_offset(at), json!("2026-03-01T12:00:01+00:00"));
        assert_eq!(precise(at), "2026-03-01T12:00:01.25");
        assert_eq!(date(Timestamp::MAX), json!("9999-12-31T23:59:59"));
    }
}
