//! What a call says in its query and its body, taken together as GitLab takes them.

use super::errors::Refusal;
use serde_json::{Map, Value};

/// Query, form and JSON members under one roof; `name[]` collects a list.
#[derive(Debug, Default)]
pub(super) struct Parameters(Map<String, Value>);

impl Parameters {
    /// Adds what a query or an urlencoded form says.
    pub(super) fn add_pairs(&mut self, encoded: &[u8]) {
        for (name, value) in url::form_urlencoded::parse(encoded) {
            let value = Value::String(value.into_owned());
            let Some(list) = name.strip_suffix("[]") else {
                self.0.insert(name.into_owned(), value);
                continue;
            };
            let known = self.0.entry(list).or_insert_with(|| Value::Array(Vec::new()));
            match known.as_array_mut() {
                Some(values) => values.push(value),
                None => *known = Value::Array(vec![value]),
            }
        }
    }

    /// Adds the members of a JSON object.
    pub(super) fn add_json(&mut self, body: &[u8]) -> Result<(), Refusal> {
        match serde_json::from_slice(body) {
            Ok(Value::Object(members)) => {
                self.0.extend(members);
                Ok(())
            }
            Ok(_) => Err(Refusal::parameter("The request body must be a JSON object")),
            Err(error) => Err(Refusal::parameter(format!(
                "There was a problem in the JSON you submitted: {error}"
            ))),
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The member as it was sent; `null` counts as absent.
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    pub(super) fn required(&self, name: &str) -> Result<String, Refusal> {
        self.text(name).ok_or_else(|| Refusal::parameter(format!("{name} is missing")))
    }

    pub(super) fn integer(&self, name: &str) -> Result<Option<i64>, Refusal> {
        match self.text(name).filter(|text| !text.is_empty()) {
            None => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| invalid(name)),
        }
    }

    /// An id; a negative number is none.
    pub(super) fn id(&self, name: &str) -> Result<Option<u64>, Refusal> {
        match self.integer(name)? {
            None => Ok(None),
            Some(id) => u64::try_from(id).map(Some).map_err(|_| invalid(name)),
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.text(name).as_deref() {
            None | Some("") => Ok(None),
            Some("true" | "1" | "t" | "on" | "yes") => Ok(Some(true)),
            Some("false" | "0" | "f" | "off" | "no") => Ok(Some(false)),
            Some(_) => Err(invalid(name)),
        }
    }

    /// One of the listed words.
    pub(super) fn word(&self, name: &str, words: &[&str]) -> Result<Option<String>, Refusal> {
        match self.text(name) {
            Some(word) if !words.contains(&word.as_str()) => {
                Err(Refusal::parameter(format!("{name} does not have a valid value")))
            }
            word => Ok(word),
        }
    }

    /// A list given as an array or as comma-separated text; empty elements do not count.
    pub(super) fn list(&self, name: &str) -> Option<Vec<String>> {
        let words: Vec<String> = match self.value(name)? {
            Value::Array(values) => values
                .iter()
                .filter_map(|value| value.as_str().map(str::trim).map(ToOwned::to_owned))
                .collect(),
            Value::String(text) => text.split(',').map(|word| word.trim().to_owned()).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => return None,
        };
        let mut unique = Vec::new();
        for word in words {
            if !word.is_empty() && !unique.contains(&word) {
                unique.push(word);
            }
        }
        Some(unique)
    }

    /// A list of `{"key": …, "value": …}`.
    pub(super) fn entries(&self, name: &str) -> Option<Vec<(String, String)>> {
        let text = |entry: &Value, member: &str| entry[member].as_str().map(ToOwned::to_owned);
        Some(
            self.value(name)?
                .as_array()?
                .iter()
                .filter_map(|entry| Some((text(entry, "key")?, text(entry, "value")?)))
                .collect(),
        )
    }
}

fn invalid(name: &str) -> Refusal {
    Refusal::parameter(format!("{name} is invalid"))
}
