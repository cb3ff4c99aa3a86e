//! A YAML document as it stands in the file: every value with its line and column, so that any number of problems can
//! be reported at once. Typed reading would stop at the first.

use super::problem::{At, Problem, Severity, Source, Step};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::{collections::BTreeSet, fmt};

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) line: u64,
    pub(super) column: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    Sequence(Vec<Node>),
    Mapping(Vec<(Key, Node)>),
}

#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) text: String,
    pub(super) line: u64,
    pub(super) column: u64,
}

impl Node {
    /// Reads one document. An empty file is an empty mapping.
    pub(super) fn parse(source: Source, text: &str) -> Result<Self, Problem> {
        // `y`, `no` and `on` are text, as YAML 1.2 has it.
        let options = serde_saphyr::options! { strict_booleans: true };
        let node = serde_saphyr::from_str_with_options::<Self>(text, options).map_err(|error| {
            let error = error.without_snippet();
            let (line, column) =
                error.location().map_or((0, 0), |found| (found.line(), found.column()));
            // The first line says it; the rest is the library's picture of the place, which we give ourselves.
            let reason = error.to_string().lines().next().unwrap_or_default().to_owned();
            let reason = reason.split(" at line ").next().unwrap_or_default().to_owned();
            Problem {
                severity: Severity::Error,
                file: source.file(),
                line,
                column,
                path: At::root(source).to_string(),
                reason: format!("not readable as YAML: {reason}"),
                remedy: String::new(),
            }
        })?;
        Ok(match node.value {
            Value::Null => Self { value: Value::Mapping(Vec::new()), line: 1, column: 1 },
            Value::Bool(_)
            | Value::Integer(_)
            | Value::Float(_)
            | Value::Text(_)
            | Value::Sequence(_)
            | Value::Mapping(_) => node,
        })
    }

    /// Line and column of what `steps` lead to, or of the deepest part of the way that is there.
    pub(super) fn locate(&self, steps: &[Step]) -> (u64, u64) {
        let here = (self.line, self.column);
        let Some((step, rest)) = steps.split_first() else { return here };
        match (&self.value, step) {
            (Value::Mapping(entries), Step::Key(wanted)) => {
                let found = entries.iter().find(|(key, _)| key.text == *wanted);
                match found {
                    Some((_, node)) if !rest.is_empty() => node.locate(rest),
                    Some((key, node)) if node.is_container() => (key.line, key.column),
                    Some((_, node)) => node.locate(rest),
                    None => here,
                }
            }
            (Value::Sequence(items), Step::Index(index)) => {
                items.get(*index).map_or(here, |node| node.locate(rest))
            }
            (
                Value::Null
                | Value::Bool(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Text(_)
                | Value::Sequence(_)
                | Value::Mapping(_),
                Step::Key(_) | Step::Index(_),
            ) => here,
        }
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(text) => text.as_str().into(),
            Value::Sequence(items) => items.iter().map(Self::to_json).collect(),
            Value::Mapping(entries) => serde_json::Value::Object(
                entries.iter().map(|(key, node)| (key.text.clone(), node.to_json())).collect(),
            ),
        }
    }

    fn is_container(&self) -> bool {
        match self.value {
            Value::Sequence(_) | Value::Mapping(_) => true,
            Value::Null | Value::Bool(_) | Value::Integer(_) | Value::Float(_) | Value::Text(_) => {
                false
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let (line, column) = (spanned.referenced.line(), spanned.referenced.column());
        Ok(Self { value: spanned.value, line, column })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(Self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        let value =
            i64::try_from(value).map_err(|_| E::custom("a number that large has no use here"))?;
        Ok(Value::Integer(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = items.next_element()? {
            nodes.push(node);
        }
        Ok(Value::Sequence(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut nodes: Vec<(Key, Node)> = Vec::new();
        let mut known = BTreeSet::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            let key = Key {
                line: key.referenced.line(),
                column: key.referenced.column(),
                text: key.value,
            };
            if !known.insert(key.text.clone()) {
                return Err(A::Error::custom(format!("the key `{}` stands twice", key.text)));
            }
            nodes.push((key, entries.next_value()?));
        }
        Ok(Value::Mapping(nodes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_and_key_knows_its_place() {
        let tree = Node::parse(Source::Fleet, "a: 1\nb:\n  - c: { d: x }\n").unwrap();
        let at = At::root(Source::Fleet).key("b").index(0).key("c").key("d");
        assert_eq!(tree.locate(&at.steps), (3, 13));
        assert_eq!(tree.locate(&At::root(Source::Fleet).key("b").steps), (2, 1));
        let Value::Mapping(entries) = &tree.value else { panic!("a mapping") };
        assert_eq!((entries[1].0.line, entries[1].0.column), (2, 1));
    }

    #[test]
    fn what_is_no_yaml_is_one_problem_with_its_place() {
        for (text, line) in [("a: [1\n", 1), ("a: 1\na: 2\n", 2), ("a: *missing\n", 1)] {
            let problem = Node::parse(Source::Fleet, text).unwrap_err();
            assert_eq!(problem.line, line, "{problem}");
        }
    }
}
