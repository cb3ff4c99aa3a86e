//! GraphQL for bulk reads of runners (gitlab.md §3.10); what it does not know it refuses with `errors`.

mod complexity;
mod parse;
mod runners;
mod schema;

use super::{
    call::{Access, Call, Caller},
    errors::Refusal,
    runners::{Owner, Runner},
    state::State,
    tree::Group,
};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use parse::{Argument, Field};
use runners::Wanted;
use serde_json::{Map, Value, json};

/// Why a query has no full answer: a text for its `errors`.
type Answer = Result<Value, String>;

/// What a query can ask about.
struct Context<'a> {
    state: &'a State,
    caller: &'a Caller,
    variables: Map<String, Value>,
}

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
    let context = Context { state: &state, caller: &caller, variables };
    if let Some(refusal) = context.too_complex(&query.selection) {
        return Ok(refuse(&[refusal]));
    }
    let mut data = Map::new();
    let mut errors = Vec::new();
    for field in &query.selection {
        let value = context.root(field).unwrap_or_else(|text| {
            errors.push(json!({ "message": text, "path": [field.key()] }));
            Value::Null
        });
        data.insert(field.key().to_owned(), value);
    }
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
    fn root(&self, field: &Field) -> Answer {
        match field.name.as_str() {
            "__typename" => Ok(json!("Query")),
            "runners" if self.caller.admin => {
                let wanted = Wanted::read(self, field, &[])?;
                self.connection(field, &wanted, |_| true)
            }
            "runners" => {
                Err("The resource that you are attempting to access does not exist or you don't have permission to perform this action".to_owned())
            }
            "group" => self.group(field),
            other => Err(unknown(other, "Query")),
        }
    }

    fn group(&self, field: &Field) -> Answer {
        self.check_arguments(field, &["fullPath"])?;
        let path =
            self.text(field, "fullPath").ok_or("Field 'group' needs the argument fullPath")?;
        let found = self.state.find_group(&path);
        let Some(group) = found.filter(|group| self.state.sees_group(self.caller, group)) else {
            return Ok(Value::Null);
        };
        self.select(&field.selection, "Group", |field| match field.name.as_str() {
            "id" => Ok(json!(format!("gid://gitlab/Group/{}", group.id))),
            "name" => Ok(json!(group.name)),
            "path" => Ok(json!(group.path)),
            "fullPath" => Ok(json!(self.state.namespace_path(group.id))),
            "runners" => self.group_runners(field, group),
            other => Err(unknown(other, "Group")),
        })
    }

    /// Of the group and what lies below it, unless `membership` says otherwise.
    fn group_runners(&self, field: &Field, group: &Group) -> Answer {
        let wanted = Wanted::read(self, field, &["membership"])?;
        if !self.state.owns_group(self.caller, group.id) {
            return Ok(Value::Null);
        }
        let membership = self.text(field, "membership");
        let state = self.state;
        let direct = |runner: &Runner| runner.owner == Owner::Group(group.id);
        let below = |runner: &Runner| match runner.owner {
            Owner::Group(owner) => owner == group.id || state.is_below(owner, group.id),
            Owner::Project(project) => state.projects.get(&project).is_some_and(|project| {
                project.namespace == group.id || state.is_below(project.namespace, group.id)
            }),
            Owner::Instance | Owner::Nobody => false,
        };
        let available = |runner: &Runner| match runner.owner {
            Owner::Group(owner) => below(runner) || state.is_below(group.id, owner),
            Owner::Instance => group.shared_runners_setting == "enabled",
            Owner::Project(_) => below(runner),
            Owner::Nobody => false,
        };
        match membership.as_deref() {
            Some("DIRECT") => self.connection(field, &wanted, direct),
            None | Some("DESCENDANTS") => self.connection(field, &wanted, below),
            Some("ALL_AVAILABLE") => self.connection(field, &wanted, available),
            Some(other) => Err(format!("'{other}' is no value of CiRunnerMembershipFilter")),
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
