//! One vendor's file, read and compiled: its operations, and the listed exceptions from it.

use super::{
    exceptions::Exception,
    find::Template,
    translate::{self, Way},
};
use boon::{Compiler, Draft, Format, SchemaIndex, Schemas};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, error::Error};

pub(super) struct Description {
    /// Of its file.
    pub(super) name: String,
    /// ARM takes ids, and with them paths, in any case.
    pub(super) any_case: bool,
    pub(super) operations: Vec<Operation>,
    pub(super) exceptions: Vec<Exception>,
    pub(super) schemas: Schemas,
}

pub(super) struct Operation {
    pub(super) method: String,
    pub(super) template: Template,
    pub(super) parameters: Vec<Parameter>,
    pub(super) body: Option<Body>,
    /// By status, or `default`; no schema where the answer has no body.
    pub(super) answers: BTreeMap<String, Option<SchemaIndex>>,
}

pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) required: bool,
    /// As Swagger spells it.
    pub(super) kind: String,
    pub(super) schema: SchemaIndex,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Path,
    Query,
}

pub(super) struct Body {
    pub(super) required: bool,
    pub(super) schema: SchemaIndex,
}

impl Operation {
    /// Such as `GET /api/v4/groups/{id}`.
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.template.text)
    }
}

impl Description {
    pub(super) fn new(
        name: &str,
        document: &Value,
        any_case: bool,
        mut exceptions: Vec<Exception>,
    ) -> Self {
        let mut compiled = Compiled::new(name, document, &exceptions);
        let mut operations = Vec::new();
        for (number, (path, method, given)) in listed(document).into_iter().enumerate() {
            operations.push(compiled.operation(number, path, method, given));
        }
        for (number, exception) in exceptions.iter_mut().enumerate() {
            if exception.instead.is_some() {
                let pointer = format!("/exceptions/{number}");
                exception.compiled =
                    Some([Way::Request, Way::Answer].map(|way| compiled.compile(way, &pointer)));
            }
        }
        let schemas = compiled.schemas;
        Self { name: name.to_owned(), any_case, operations, exceptions, schemas }
    }

    /// The operation for a method and path, with the values of the path's variables.
    pub(super) fn find(
        &self,
        method: &str,
        path: &str,
    ) -> Option<(&Operation, Vec<(String, String)>)> {
        let matching = self.operations.iter().filter(|operation| operation.method == method);
        let matching = matching.filter_map(|operation| {
            Some((operation, operation.template.read(path, self.any_case)?))
        });
        matching.max_by_key(|(operation, _)| operation.template.fixed())
    }
}

/// Every operation of the document: path, method in capitals, and what is said of it.
fn listed(document: &Value) -> Vec<(&str, String, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    let operations = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().into_iter().flatten();
        methods.map(move |(method, said)| (path.as_str(), method.to_ascii_uppercase(), said))
    });
    operations.collect()
}

struct Compiled<'document> {
    name: String,
    document: &'document Value,
    compiler: Compiler,
    schemas: Schemas,
}

impl<'document> Compiled<'document> {
    fn new(name: &str, document: &'document Value, exceptions: &[Exception]) -> Self {
        let mut compiler = Compiler::new();
        compiler.set_default_draft(Draft::V2020_12);
        compiler.enable_format_assertions();
        for (name, func) in FORMATS {
            compiler.register_format(Format { name, func });
        }
        for way in [Way::Request, Way::Answer] {
            let translate = |schema: &Value| translate::schema(document, schema, way);
            let definitions = document["definitions"].as_object().into_iter().flatten();
            let definitions: Map<_, _> =
                definitions.map(|(name, schema)| (name.clone(), translate(schema))).collect();
            let operations: Vec<_> = listed(document)
                .into_iter()
                .map(|(_, _, said)| operation_schemas(said, translate))
                .collect();
            let exceptions: Vec<_> = exceptions
                .iter()
                .map(|exception| exception.instead.as_ref().map_or(json!(true), translate))
                .collect();
            let resource = json!({
                "definitions": definitions, "operations": operations, "exceptions": exceptions,
            });
            compiler.add_resource(&url(way, name), resource).unwrap();
        }
        Self { name: name.to_owned(), document, compiler, schemas: Schemas::new() }
    }

    fn compile(&mut self, way: Way, pointer: &str) -> SchemaIndex {
        let at = format!("{}#{pointer}", url(way, &self.name));
        let compiled = self.compiler.compile(&at, &mut self.schemas);
        compiled.unwrap_or_else(|error| panic!("{}: {error:#}", self.name))
    }

    fn operation(&mut self, number: usize, path: &str, method: String, said: &Value) -> Operation {
        let said_parameters = said["parameters"].as_array().cloned().unwrap_or_default();
        let mut parameters = Vec::new();
        let mut body = None;
        for (place, given) in said_parameters.iter().enumerate() {
            let required = given["required"] == true;
            let pointer = format!("/operations/{number}/parameters/{place}");
            let schema = self.compile(Way::Request, &pointer);
            let place = match given["in"].as_str() {
                Some("path") => Place::Path,
                Some("query") => Place::Query,
                Some("body") => {
                    body = Some(Body { required, schema });
                    continue;
                }
                other => panic!("{} {path}: a parameter in {other:?}", self.name),
            };
            let text = |member: &str| given[member].as_str().unwrap_or_default().to_owned();
            let (name, kind) = (text("name"), text("type"));
            parameters.push(Parameter { name, place, required, kind, schema });
        }
        let mut answers = BTreeMap::new();
        for (status, answer) in said["responses"].as_object().into_iter().flatten() {
            let pointer = format!("/operations/{number}/answers/{status}");
            let schema = answer.get("schema").map(|_| self.compile(Way::Answer, &pointer));
            answers.insert(status.clone(), schema);
        }
        let known: Vec<&str> = parameters.iter().map(|each| each.name.as_str()).collect();
        let of_all = self.document["paths"][path].get("parameters");
        assert!(of_all.is_none(), "{path}: parameters of a path are not read, only {known:?}");
        Operation { method, template: Template::new(path), parameters, body, answers }
    }
}

/// Where the schemas of one way lie. Nothing is fetched from there.
fn url(way: Way, name: &str) -> String {
    match way {
        Way::Request => format!("https://descriptions.invalid/request/{name}"),
        Way::Answer => format!("https://descriptions.invalid/answer/{name}"),
    }
}

fn operation_schemas(said: &Value, translate: impl Fn(&Value) -> Value) -> Value {
    let parameters = said["parameters"].as_array().into_iter().flatten();
    let parameters: Vec<_> = parameters
        .map(|each| translate(each.get("schema").unwrap_or(&without_required(each))))
        .collect();
    let answers = said["responses"].as_object().into_iter().flatten();
    let answers = answers
        .filter_map(|(status, answer)| Some((status.clone(), translate(answer.get("schema")?))));
    json!({ "parameters": parameters, "answers": answers.collect::<Map<_, _>>() })
}

/// A parameter's own `required` is a yes or no, not a schema's list.
fn without_required(parameter: &Value) -> Value {
    let mut parameter = parameter.clone();
    if let Some(parameter) = parameter.as_object_mut() {
        parameter.remove("required");
    }
    parameter
}

/// Where a compiled schema comes from: `definitions/Identity`, or `operations/3/answers/200` and so on.
pub(super) fn origin(schema_url: &str) -> String {
    let pointer = schema_url.split_once('#').map_or("", |(_, pointer)| pointer);
    let pointer = percent_decode_str(pointer).decode_utf8_lossy();
    pointer.trim_start_matches('/').replace("~1", "/").replace("~0", "~")
}

type Validity = Result<(), Box<dyn Error>>;
type Validator = fn(&Value) -> Validity;

/// The formats that JSON Schema does not know.
const FORMATS: [(&str, Validator); 6] = [
    ("int32", |value| in_range(value, i32::MIN.into(), i32::MAX.into())),
    ("int64", |value| in_range(value, i64::MIN, i64::MAX)),
    ("unixtime", |value| in_range(value, 0, 1 << 40)),
    ("float", |_| Ok(())),
    ("byte", is_base64),
    ("arm-id", is_resource_id),
];

fn in_range(value: &Value, least: i64, most: i64) -> Validity {
    let number = value.as_i64();
    if number.is_some_and(|number| !(least..=most).contains(&number)) {
        return Err(format!("not between {least} and {most}").into());
    }
    Ok(())
}

fn is_base64(value: &Value) -> Validity {
    use base64::Engine as _;
    if let Some(text) = value.as_str() {
        base64::engine::general_purpose::STANDARD.decode(text)?;
    }
    Ok(())
}

fn is_resource_id(value: &Value) -> Validity {
    let starts = |text: &str| {
        let lower = text.to_ascii_lowercase();
        lower.starts_with("/subscriptions/") || lower.starts_with("/providers/")
    };
    if value.as_str().is_some_and(|text| !starts(text)) {
        return Err("no resource id".into());
    }
    Ok(())
}
