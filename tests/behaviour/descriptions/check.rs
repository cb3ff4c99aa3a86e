//! Holds one request or one answer against one description.

use super::{
    description::{Description, Operation, Parameter, Place, origin},
    exceptions::Exception,
    translate::Way,
    violation::{Kind, Violation, leaves},
};
use boon::SchemaIndex;
use serde_json::{Value, json};

/// A request as it was sent.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) method: &'a str,
    /// Path and query.
    pub(crate) path: &'a str,
    pub(crate) body: Content<'a>,
}

/// A body and its `Content-Type`; both empty where there is none.
#[derive(Clone, Copy, Hash)]
pub(crate) struct Content<'a> {
    pub(crate) kind: &'a str,
    pub(crate) bytes: &'a [u8],
}

impl Content<'_> {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn is_json(&self) -> bool {
        self.kind.split(';').next().is_some_and(|kind| kind.trim() == "application/json")
    }
}

impl<'a> Asked<'a> {
    /// The path alone, without GitLab's relative root if there is one.
    pub(super) fn bare_path(&self) -> &'a str {
        let path = self.path.split_once('?').map_or(self.path, |(path, _)| path);
        path.find("/api/").map_or(path, |at| &path[at..])
    }

    fn query(&self) -> Vec<(String, String)> {
        let query = self.path.split_once('?').map_or("", |(_, query)| query);
        url::form_urlencoded::parse(query.as_bytes()).into_owned().collect()
    }
}

impl Description {
    pub(super) fn check_request(
        &self,
        operation: &Operation,
        values: &[(String, String)],
        asked: &Asked<'_>,
    ) -> Vec<Violation> {
        let name = operation.name();
        let query = asked.query();
        let mut found = Vec::new();
        for parameter in &operation.parameters {
            let (place, given) = match parameter.place {
                Place::Path => ("path", values),
                Place::Query => ("query", query.as_slice()),
            };
            let part = format!("{name} {place} {}", parameter.name);
            match value_of(parameter, given) {
                Some(value) => {
                    found.extend(self.judge(Way::Request, parameter.schema, &value, &part));
                }
                None if parameter.required => {
                    found.extend(self.plain(Kind::Missing, &part, "it is required"));
                }
                None => {}
            }
        }
        for (given, _) in &query {
            let given = given.trim_end_matches("[]");
            let is = |known: &&Parameter| known.place == Place::Query && known.name == given;
            if !operation.parameters.iter().any(|known| is(&known)) {
                let part = format!("{name} query {given}");
                found.extend(self.plain(Kind::Unknown, &part, "it is not declared"));
            }
        }
        found.extend(self.check_body(operation, &format!("{name} body"), asked.body));
        found
    }

    fn check_body(&self, operation: &Operation, part: &str, body: Content<'_>) -> Vec<Violation> {
        match (&operation.body, body.is_empty()) {
            (None, true) => vec![],
            (None, false) => self.plain(Kind::Body, part, "there is none to be sent"),
            (Some(declared), true) if declared.required => {
                self.plain(Kind::Body, part, "it is required")
            }
            (Some(_), true) => vec![],
            (Some(declared), false) => self.read(Way::Request, declared.schema, body, part),
        }
    }

    pub(super) fn check_answer(
        &self,
        operation: &Operation,
        status: u16,
        body: Content<'_>,
    ) -> Vec<Violation> {
        let part = format!("{} answer {status}", operation.name());
        let declared = operation.answers.get(&status.to_string());
        // What `default` describes is the refusal; every success is listed.
        let or_default = || operation.answers.get("default").filter(|_| status >= 400);
        match declared.or_else(or_default) {
            None => self.undeclared(Kind::Status, &part, "no such status is declared", body),
            Some(None) if status < 300 && !body.is_empty() => {
                let text = "it has a body, and none is declared";
                self.undeclared(Kind::Body, &part, text, body)
            }
            Some(None) => vec![],
            // Whatever a generator wrote: this status has no body (RFC 9110 §15.3.5).
            Some(Some(_)) if status == 204 && body.is_empty() => vec![],
            Some(Some(_)) if body.is_empty() => {
                self.plain(Kind::Body, &part, "it has no body, and one is declared")
            }
            Some(Some(schema)) => self.read(Way::Answer, *schema, body, &part),
        }
    }

    /// A violation, unless an exception says what the whole body is instead.
    fn undeclared(&self, kind: Kind, part: &str, text: &str, body: Content<'_>) -> Vec<Violation> {
        let violation = Violation::plain(kind, part, text);
        match self.exception(&violation) {
            None => vec![violation],
            Some(exception) => exception
                .instead(Way::Answer)
                .map(|instead| self.read(Way::Answer, instead, body, part))
                .unwrap_or_default(),
        }
    }

    fn read(&self, way: Way, schema: SchemaIndex, body: Content<'_>, part: &str) -> Vec<Violation> {
        if !body.is_json() {
            let text = format!("it says `{}` of itself, not `application/json`", body.kind);
            return self.plain(Kind::Body, part, &text);
        }
        match serde_json::from_slice(body.bytes) {
            Ok(value) => self.judge(way, schema, &value, part),
            Err(_) => self.plain(Kind::Body, part, "it is no JSON"),
        }
    }

    /// Everything that is wrong with a value and no exception speaks of.
    fn judge(&self, way: Way, schema: SchemaIndex, value: &Value, part: &str) -> Vec<Violation> {
        let Err(error) = self.schemas.validate(value, schema) else { return vec![] };
        let name = |url: &str| {
            let origin = origin(url);
            if origin.starts_with("definitions/") { origin } else { part.to_owned() }
        };
        let found = leaves(&error, part, &name);
        let mut left = Vec::new();
        for violation in found {
            let Some(exception) = self.exception(&violation) else {
                left.push(violation);
                continue;
            };
            if let (Some(instead), Some(value)) =
                (exception.instead(way), value.pointer(&violation.value))
            {
                left.extend(self.judge(way, instead, value, &violation.part));
            }
        }
        left
    }

    /// A violation that is about no value.
    pub(super) fn plain(&self, kind: Kind, part: &str, text: &str) -> Vec<Violation> {
        let violation = Violation::plain(kind, part, text);
        if self.exception(&violation).is_some() { vec![] } else { vec![violation] }
    }

    fn exception(&self, violation: &Violation) -> Option<&Exception> {
        self.exceptions.iter().find(|exception| exception.covers(violation))
    }
}

/// The value of a parameter, in the type that it is declared to have where its text can be read as such.
fn value_of(parameter: &Parameter, given: &[(String, String)]) -> Option<Value> {
    let name = |given: &str| given.strip_suffix("[]").unwrap_or(given) == parameter.name;
    let mut values = given.iter().filter(|(given, _)| name(given)).map(|(_, value)| value);
    if parameter.kind == "array" {
        let values: Vec<&str> = values.flat_map(|value| value.split(',')).collect();
        return (!values.is_empty()).then(|| json!(values));
    }
    let text = values.next()?;
    let typed = match parameter.kind.as_str() {
        "integer" => text.parse::<i64>().ok().map(Value::from),
        "number" => text.parse::<f64>().ok().map(Value::from),
        "boolean" => text.parse::<bool>().ok().map(Value::from),
        _ => None,
    };
    Some(typed.unwrap_or_else(|| json!(text)))
}
