//! Label and field selectors of lists.
//! Source: <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/>

use super::status::Status;
use serde_json::Value;

/// One condition; all must hold.
#[derive(Debug, PartialEq)]
enum Term {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

#[derive(Debug, Default)]
pub(super) struct Selector {
    labels: Vec<Term>,
    /// Path of a field, the value, and whether they are to be equal.
    fields: Vec<(String, String, bool)>,
}

impl Selector {
    /// Errors: 400 for what is no selector.
    pub(super) fn parse(labels: &str, fields: &str) -> Result<Self, Status> {
        let mut selector = Self::default();
        for term in split(labels) {
            selector.labels.push(parse_term(term).ok_or_else(|| {
                Status::bad_request(format!("unable to parse requirement: {term}"))
            })?);
        }
        for term in fields.split(',').filter(|term| !term.is_empty()) {
            let parsed = match term.split_once("!=") {
                Some((path, value)) => (path, value, false),
                None => {
                    let (path, value) = term.split_once('=').ok_or_else(|| {
                        Status::bad_request(format!("invalid selector: '{term}'"))
                    })?;
                    (path, value.trim_start_matches('='), true)
                }
            };
            selector.fields.push((parsed.0.to_owned(), parsed.1.to_owned(), parsed.2));
        }
        Ok(selector)
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        let label = |name: &String| labels[name.as_str()].as_str();
        let by_label = self.labels.iter().all(|term| match term {
            Term::In(name, values) => {
                label(name).is_some_and(|value| values.iter().any(|wanted| wanted == value))
            }
            Term::NotIn(name, values) => {
                label(name).is_none_or(|value| values.iter().all(|refused| refused != value))
            }
            Term::Exists(name) => label(name).is_some(),
            Term::Absent(name) => label(name).is_none(),
        });
        by_label
            && self.fields.iter().all(|(path, wanted, equal)| {
                let pointer = format!("/{}", path.replace('.', "/"));
                let value = object.pointer(&pointer).and_then(Value::as_str).unwrap_or_default();
                (value == wanted) == *equal
            })
    }
}

/// At commas outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_i32);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn parse_term(term: &str) -> Option<Term> {
    let values = |list: &str| {
        let list = list.trim().strip_prefix('(')?.strip_suffix(')')?;
        Some(list.split(',').map(|value| value.trim().to_owned()).collect())
    };
    if let Some((name, list)) = term.split_once(" notin ") {
        return Some(Term::NotIn(name.trim().to_owned(), values(list)?));
    }
    if let Some((name, list)) = term.split_once(" in ") {
        return Some(Term::In(name.trim().to_owned(), values(list)?));
    }
    if let Some((name, value)) = term.split_once("!=") {
        return Some(Term::NotIn(name.trim().to_owned(), vec![value.trim().to_owned()]));
    }
    if let Some((name, value)) = term.split_once('=') {
        let value = value.trim_start_matches('=').trim().to_owned();
        return Some(Term::In(name.trim().to_owned(), vec![value]));
    }
    let name = term.strip_prefix('!').unwrap_or(term).trim();
    if name.is_empty() || name.contains(char::is_whitespace) {
        return None;
    }
    let name = name.to_owned();
    Some(if term.starts_with('!') { Term::Absent(name) } else { Term::Exists(name) })
}

/// `matchLabels` and `matchExpressions` of a selector inside an object.
pub(super) fn selects(selector: &Value, labels: &Value) -> bool {
    let equal = selector["matchLabels"].as_object().into_iter().flatten();
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    equal.into_iter().all(|(name, value)| &labels[name.as_str()] == value)
        && expressions.into_iter().all(|expression| {
            let value = &labels[expression["key"].as_str().unwrap_or_default()];
            let listed =
                expression["values"].as_array().is_some_and(|values| values.contains(value));
            match expression["operator"].as_str() {
                Some("In") => listed,
                Some("NotIn") => !listed,
                Some("Exists") => !value.is_null(),
                Some("DoesNotExist") => value.is_null(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_choose_by_labels_and_name() {
        let object = json!({"metadata": {"name": "a", "labels": {"app": "x", "tier": "back"}}});
        for (labels, fields, chosen) in [
            ("", "", true),
            ("app=x", "", true),
            ("app==x,tier=back", "", true),
            ("app=y", "", false),
            ("app!=y", "", true),
            ("app", "", true),
            ("!app", "", false),
            ("app in (x, y),tier", "", true),
            ("app notin (x,y)", "", false),
            ("missing notin (x)", "", true),
            ("", "metadata.name=a", true),
            ("", "metadata.name!=a", false),
        ] {
            let selector = Selector::parse(labels, fields).expect("they are selectors");
            assert_eq!(selector.matches(&object), chosen, "{labels} {fields}");
        }
        assert!(Selector::parse("a b", "").is_err());
    }
}
