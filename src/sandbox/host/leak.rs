//! The host's odd habit to copy what a message's body says into the metadata (functions-host.md §2.4).

use super::values::{Members, in_text};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde_json::{Number, Value};

/// If `body` is a JSON object, each of its members that is neither an array nor null replaces or becomes a
/// key of the metadata.
pub(super) fn apply(body: &str, metadata: &mut Members) {
    let Ok(Value::Object(members)) = serde_json::from_str(body) else { return };
    for (name, value) in members {
        match value {
            Value::Null | Value::Array(_) => {}
            Value::Object(_) => metadata.set(&name, value),
            Value::String(text) => {
                metadata.set(&name, in_text(reprinted_date(&text).unwrap_or(text)));
            }
            Value::Bool(flag) => metadata.set(&name, in_text(if flag { "True" } else { "False" })),
            Value::Number(number) => metadata.set(&name, in_text(number_text(&number))),
        }
    }
}

/// The invariant text of a .NET number: from 1E+15 on, and below 1E-05, a double has an exponent.
fn number_text(number: &Number) -> String {
    if number.is_i64() || number.is_u64() {
        return number.to_string();
    }
    let value = number.as_f64().unwrap_or_default();
    let size = value.abs();
    if size == 0.0 || (1e-5..1e15).contains(&size) {
        return format!("{value}");
    }
    let text = format!("{value:E}");
    let (digits, exponent) = text.split_once('E').unwrap_or((&text, "0"));
    let (sign, exponent) = match exponent.strip_prefix('-') {
        Some(rest) => ('-', rest),
        None => ('+', exponent),
    };
    format!("{digits}E{sign}{exponent:0>2}")
}

/// Json.NET takes text such as `2026-03-01T00:00:00Z` for a date, and .NET prints it its own way.
fn reprinted_date(text: &str) -> Option<String> {
    if text.len() < 19 || text.as_bytes().get(10) != Some(&b'T') {
        return None;
    }
    let date: DateTime = match text.parse::<Timestamp>() {
        Ok(at) => at.to_zoned(TimeZone::UTC).datetime(),
        Err(_) => text.parse().ok()?,
    };
    Some(date.strftime("%m/%d/%Y %H:%M:%S").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};
    use serde_json::json;

    fn check(body: &str, expected: &Value) {
        let mut metadata = Members::default();
        metadata.set("MessageId", in_text("mine"));
        apply(body, &mut metadata);
        metadata.drop_triggers();
        let written = metadata.shuffled(&mut StdRng::seed_from_u64(1));
        assert_eq!(serde_json::from_str::<Value>(&written).unwrap(), *expected, "{body}");
    }

    #[test]
    fn members_of_a_body_replace_metadata() {
        let cases = [
            (r#"{"messageId":"x"}"#, json!({"MessageId": "\"x\""})),
            (
                r#"{"a":5,"b":false}"#,
                json!({"MessageId": "\"mine\"", "a": "\"5\"", "b": "\"False\""}),
            ),
            (r#"{"a":[1],"b":null,"xTrigger":1}"#, json!({"MessageId": "\"mine\""})),
            (r#"{"sys":{"a":1}}"#, json!({"MessageId": "\"mine\"", "sys": {"a": 1}})),
            (
                r#"{"d":"2026-03-01T00:00:00Z","e":1e20,"f":1.5}"#,
                json!({"MessageId": "\"mine\"", "d": "\"03/01/2026 00:00:00\"", "e": "\"1E+20\"", "f": "\"1.5\""}),
            ),
            ("[1]", json!({"MessageId": "\"mine\""})),
            ("hello", json!({"MessageId": "\"mine\""})),
        ];
        for (body, expected) in &cases {
            check(body, expected);
        }
    }
}
