//! JSON as Json.NET reads it: single quotes, comments, a byte order mark and text after the value are let pass.

use serde::Deserialize;
use serde_json::Value;

/// Reads the first value of `text`; `None` where there is nothing but blanks.
pub(super) fn parse(text: &str) -> Result<Option<Value>, serde_json::Error> {
    let strict = plain(text.strip_prefix('\u{feff}').unwrap_or(text));
    if strict.trim().is_empty() {
        return Ok(None);
    }
    Value::deserialize(&mut serde_json::Deserializer::from_str(&strict)).map(Some)
}

/// Without comments, and with double quotes throughout.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        match next {
            '"' | '\'' => quoted(next, &mut rest, &mut plain),
            '/' if rest.peek() == Some(&'/') => while rest.next().is_some_and(|c| c != '\n') {},
            '/' if rest.peek() == Some(&'*') => {
                rest.next();
                let mut star = false;
                for c in rest.by_ref() {
                    if star && c == '/' {
                        break;
                    }
                    star = c == '*';
                }
            }
            _ => plain.push(next),
        }
    }
    plain
}

fn quoted(quote: char, rest: &mut impl Iterator<Item = char>, plain: &mut String) {
    plain.push('"');
    while let Some(next) = rest.next() {
        match next {
            '\\' => match rest.next() {
                Some('\'') => plain.push('\''),
                Some(escaped) => plain.extend(['\\', escaped]),
                None => plain.push('\\'),
            },
            '"' if quote == '\'' => plain.push_str("\\\""),
            _ if next == quote => {
                plain.push('"');
                return;
            }
            _ => plain.push(next),
        }
    }
}
