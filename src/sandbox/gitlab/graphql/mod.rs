//! GraphQL for bulk reads of runners (gitlab.md §3.10); what it does not know it refuses with `errors`.

mod complexity;
pub(super) mod group;
mod parse;
mod runners;
mod schema;

use super::{
    call::{Access, Call, Caller},
    errors::Refusal,
    state::State,
};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use parse::{Argument, Field};
use runners::Wanted;
use serde_json::{Map, Value, json};
use std::cell::RefCell;

/// Why a query has no full answer: a text for its `errors`.
type Answer = Result<Value, String>;

/// What a query can ask about.
struct Context<'a> {
    state: &'a State,
    caller: &'a Caller,
    variables: Map<String, Value>,
    /// Of fields that are null though the rest is answered.
    errors: RefCell<Vec<Value>>,
}

/// What GitLab says of a thing that is not there, or not for whoever asks.
const DENIED: &str = "The resource that you are attempting to access does not exist or you don't have permission to perform this action";

/// `POST /api/graphql`
pub(super) async fn answer(call: Call) -> Result<Response, Refusal> {
    let (state, caller) = call.enter(Access::Read)?;
    let query = match parse::parse(&call.parameters.text("query").unwrap_or_default()) {
        Ok(query) => query,
        Err(text) => return Ok(refuse(&[text])),
    };
    let problems = schema::problems(&query.selection);
    if !problems.is_empty() {
        return Ok(refuse(&problems));
    }
    let mut variables = query.defaults;
    if let Some(Value::Object(given)) = call.parameters.value("variables") {
        variables.extend(given.clone());
    }
    let context = Context { state: &state, caller: &caller, variables, errors: RefCell::default() };
    if let Some(refusal) = context.too_complex(&query.selection) {
        return Ok(refuse(&[refusal]));
    }
    let mut data = Map::new();
    for field in &query.selection {
        let value =
            context.root(field).unwrap_or_else(|text| context.null_for(&text, &[field.key()]));
        data.insert(field.key().to_owned(), value);
    }
    let errors = context.errors.into_inner();
    let mut body = json!({ "data": data });
    if !errors.is_empty() {
        body["errors"] = json!(errors);
    }
    Ok(Json(body).into_response())
}

/// Errors come with 200, too.
fn refuse(texts: &[String]) -> Response {
    let errors: Vec<Value> = texts.iter().map(|text| json!({ "message": text })).collect();
    Json(json!({ "errors": errors })).into_response()
}

impl Context<'_> {
    /// What the field at the path is instead, with the reason told beside it.
    fn null_for(&self, text: &str, path: &[&str]) -> Value {
        self.errors.borrow_mut().push(json!({ "message": text, "path": path }));
        Value::Null
    }

    fn root(&self, field: &Field) -> Answer {
        match field.name.as_str() {
            "__typename" => Ok(json!("Query")),
            "runners" if self.caller.admin => {
                let wanted = Wanted::read(self, field, &[])?;
                self.connection(field, &wanted, |_| true)
            }
            "runners" => Err(DENIED.to_owned()),
            "group" => self.group(field),
            other => Err(unknown(other, "Query")),
        }
    }

    /// Each field by `resolve`, under its name in the answer.
    fn select(
        &self,
        fields: &[Field],
        kind: &str,
        mut resolve: impl FnMut(&Field) -> Answer,
    ) -> Answer {
        if fields.is_empty() {
            return Err(format!("Field must have selections ({kind} has no value of its own)"));
        }
        let mut object = Map::new();
        for field in fields {
            let value = if field.name == "__typename" { json!(kind) } else { resolve(field)? };
            object.insert(field.key().to_owned(), value);
        }
        Ok(Value::Object(object))
    }

    fn check_arguments(&self, field: &Field, known: &[&str]) -> Result<(), String> {
        let stranger = field.arguments.iter().find(|(name, _)| !known.contains(&name.as_str()));
        stranger.map_or(Ok(()), |(name, _)| {
            Err(format!("Field '{}' doesn't accept argument '{name}'", field.name))
        })
    }

    /// An argument with its variables filled in; null is the same as none.
    fn argument(&self, field: &Field, name: &str) -> Option<Value> {
        let (_, argument) = field.arguments.iter().find(|(other, _)| other == name)?;
        self.value(argument).filter(|value| !value.is_null())
    }

    fn value(&self, argument: &Argument) -> Option<Value> {
        match argument {
            Argument::Literal(value) => Some(value.clone()),
            Argument::Variable(name) => self.variables.get(name).cloned(),
            Argument::List(list) => list.iter().map(|each| self.value(each)).collect(),
        }
    }

    fn text(&self, field: &Field, name: &str) -> Option<String> {
        self.argument(field, name)?.as_str().map(ToOwned::to_owned)
    }
}

fn unknown(field: &str, kind: &str) -> String {
    format!("Field '{field}' doesn't exist on type '{kind}'")
}
