//! Keeps what may be a secret out of what people read, and what they read short.

use crate::domain::names;
use serde_json::Value;

pub(super) const SENSITIVE: &str = "(sensitive)";
const LENGTH_MAX: usize = 160;
/// What the name of a field that holds a secret ends with.
const WORDS: [&str; 10] = [
    "token",
    "secret",
    "password",
    "passwd",
    "credential",
    "credentials",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
];
/// What tokens of GitLab, Azure and OIDC begin with.
const PREFIXES: [&str; 8] =
    ["glrt-", "glrtr-", "glpat-", "glcbt-", "gldt-", "glptt-", "eyJ", "whsec_"];

/// A value as it may be shown. `path` says what it is the value of.
pub(super) fn shown(path: &str, value: &Value) -> String {
    let masked = masked(is_secret(path), value);
    let text = match masked.as_str() {
        Some(SENSITIVE) => SENSITIVE.to_owned(),
        Some(_) | None => masked.to_string(),
    };
    match text.char_indices().nth(LENGTH_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn masked(secret: bool, value: &Value) -> Value {
    match value {
        Value::String(text) => {
            match secret || PREFIXES.iter().any(|prefix| text.contains(prefix)) {
                true => Value::from(SENSITIVE),
                false => Value::from(without_user(text)),
            }
        }
        Value::Array(items) => items.iter().map(|item| masked(secret, item)).collect(),
        Value::Object(fields) => {
            // An environment variable's name stands beside its value.
            let named = fields.get("name").and_then(Value::as_str).is_some_and(is_secret);
            let fields = fields.iter().map(|(key, value)| {
                let secret = secret || is_secret(key) || (named && key == "value");
                (key.clone(), masked(secret, value))
            });
            Value::Object(fields.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Goes by the last name of the path; `env[DB_PASSWORD].value` by the variable's.
fn is_secret(path: &str) -> bool {
    let path = path.strip_suffix(".value").unwrap_or(path).trim_end_matches(']');
    let name = path.rsplit(['.', '[', '/']).next().unwrap_or_default();
    // Our own digest of an identity's credentials.
    if name == names::TAG_CREDENTIALS {
        return false;
    }
    let name: String =
        name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    WORDS.iter().any(|word| name.ends_with(word))
}

/// A proxy's or registry's address may hold a password.
fn without_user(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{scheme}://{SENSITIVE}{}", &rest[at..]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_may_be_a_secret_is_not_shown() {
        let check = |path: &str, value: Value, expected: &str| {
            assert_eq!(shown(path, &value), expected, "{path}");
        };
        check("spec.replicas", json!(2), "2");
        check("automountServiceAccountToken", json!(true), "true");
        check("metadata.labels[forerunner.dev/key]", json!("g42-tf"), "\"g42-tf\"");
        check("volumes[config].secret.secretName", json!("runner-x"), "\"runner-x\"");
        check("env[DB_PASSWORD].value", json!("hunter2"), "(sensitive)");
        check(
            "env[DB_PASSWORD]",
            json!({ "name": "DB_PASSWORD", "value": "hunter2" }),
            r#"{"name":"(sensitive)","value":"(sensitive)"}"#,
        );
        check("env[X].value", json!("prefix glrt-made-up"), "(sensitive)");
        check("token", json!("x"), "(sensitive)");
        check("tags.forerunner-credentials", json!("1a2b"), "\"1a2b\"");
        check("auth.access_key", json!(["x"]), r#"["(sensitive)"]"#);
        check(
            "env[HTTPS_PROXY].value",
            json!("http://me:pw@proxy:3128/a"),
            "\"http://(sensitive)@proxy:3128/a\"",
        );
        assert_eq!(shown("x", &json!("a".repeat(500))).chars().count(), 161);
    }
}
