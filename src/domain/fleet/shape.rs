//! Holds a document against the JSON Schema of the raw types: unknown keys, missing keys, values of the wrong kind.
//! The schema is the one list of keys, so what `check --schema` prints is what `check` accepts.

use super::{
    problem::{At, Findings, nearest},
    tree::{Node, Value},
};
use serde_json::Value as Json;

/// Reports every difference in form. Without any, the raw types read the document.
pub(super) fn check(node: &Node, schema: &Json, at: &At, findings: &mut Findings<'_>) {
    let branches: Vec<&Json> = branches(schema);
    let fitting: Vec<&Json> =
        branches.iter().copied().filter(|branch| accepts(branch, &node.value)).collect();
    let Some(first) = fitting.first() else {
        let wanted: Vec<&str> = branches.iter().map(|branch| kind_of(branch)).collect();
        let reason = format!("is {}, should be {}", name(&node.value), either(&wanted));
        findings.error(at, reason, remedy_for(&node.value, &wanted));
        return;
    };
    match &node.value {
        Value::Mapping(_) => check_mapping(node, first, at, findings),
        Value::Sequence(items) => {
            for (index, item) in items.iter().enumerate() {
                if let Some(schema) = first.get("items") {
                    check(item, schema, &at.index(index), findings);
                }
            }
        }
        Value::Text(text) => check_word(text, &fitting, at, findings),
        Value::Integer(number) => check_number(*number, first, at, findings),
        Value::Null | Value::Bool(_) | Value::Float(_) => {}
    }
}

fn check_mapping(node: &Node, schema: &Json, at: &At, findings: &mut Findings<'_>) {
    let Value::Mapping(entries) = &node.value else { return };
    let properties = schema.get("properties").and_then(Json::as_object);
    for (key, value) in entries {
        let own = properties.and_then(|properties| properties.get(&key.text));
        let below = at.key(&key.text);
        match own.or_else(|| schema.get("additionalProperties").filter(|more| more.is_object())) {
            Some(schema) => check(value, schema, &below, findings),
            None => {
                let known =
                    || properties.into_iter().flat_map(|all| all.keys().map(String::as_str));
                let remedy = unknown_key_remedy(&key.text, known().collect(), at);
                findings.unknown_key(&below, key, remedy);
            }
        }
    }
    for required in schema.get("required").and_then(Json::as_array).into_iter().flatten() {
        let missing =
            required.as_str().filter(|name| !entries.iter().any(|(key, _)| key.text == *name));
        if let Some(missing) = missing {
            findings.error(at, format!("the key `{missing}` is missing"), "");
        }
    }
}

fn unknown_key_remedy(key: &str, known: Vec<&str>, at: &At) -> String {
    let in_set = at.steps.iter().any(|step| *step == super::problem::Step::Key("set".to_owned()));
    if in_set {
        return "`set` may change concurrent, timeout, resources, placement and quota; tags, protection, identity and \
                isolation belong to the profile"
            .to_owned();
    }
    match nearest(key, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known here: {}", known.join(", ")),
    }
}

fn check_word(text: &str, fitting: &[&Json], at: &At, findings: &mut Findings<'_>) {
    let words: Vec<Vec<&str>> = fitting.iter().map(|branch| words(branch)).collect();
    if words.iter().any(Vec::is_empty) {
        return; // any text will do
    }
    let known: Vec<&str> = words.into_iter().flatten().collect();
    if !known.contains(&text) {
        let remedy = match nearest(text, known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`? Known here: {}", known.join(", ")),
            None => format!("known here: {}", known.join(", ")),
        };
        findings.error(at, format!("`{text}` is no value for this key"), remedy);
    }
}

fn check_number(number: i64, schema: &Json, at: &At, findings: &mut Findings<'_>) {
    let format = schema.get("format").and_then(Json::as_str).unwrap_or_default();
    let ceiling = match format {
        "uint16" => i64::from(u16::MAX),
        "uint32" => i64::from(u32::MAX),
        _ => i64::MAX,
    };
    let least = schema.get("minimum").and_then(Json::as_i64).unwrap_or(i64::MIN);
    let most = schema.get("maximum").and_then(Json::as_i64).unwrap_or(i64::MAX).min(ceiling);
    if number < least {
        findings.error(at, format!("is {number}, should be at least {least}"), "");
    }
    if number > most {
        findings.error(at, format!("is {number}, should be at most {most}"), "");
    }
}

fn branches(schema: &Json) -> Vec<&Json> {
    let alternatives = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array);
    match alternatives {
        Some(alternatives) => alternatives.iter().flat_map(branches).collect(),
        None => vec![schema],
    }
}

fn words(branch: &Json) -> Vec<&str> {
    let listed = branch.get("enum").and_then(Json::as_array).into_iter().flatten();
    listed.chain(branch.get("const")).filter_map(Json::as_str).collect()
}

fn kind_of(branch: &Json) -> &str {
    branch.get("type").and_then(Json::as_str).unwrap_or("string")
}

fn accepts(branch: &Json, value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(_) => kind_of(branch) == "boolean",
        Value::Integer(_) => matches!(kind_of(branch), "integer" | "number"),
        Value::Float(_) => kind_of(branch) == "number",
        Value::Text(_) => kind_of(branch) == "string",
        Value::Sequence(_) => kind_of(branch) == "array",
        Value::Mapping(_) => kind_of(branch) == "object",
    }
}

fn name(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "`true` or `false`",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Text(_) => "text",
        Value::Sequence(_) => "a list",
        Value::Mapping(_) => "a mapping",
    }
}

fn either(kinds: &[&str]) -> String {
    let mut words: Vec<&str> = Vec::new();
    for kind in kinds {
        let word = match *kind {
            "boolean" => "`true` or `false`",
            "integer" => "a whole number",
            "number" => "a number",
            "array" => "a list",
            "object" => "a mapping",
            _ => "text",
        };
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(" or ")
}

fn remedy_for(value: &Value, wanted: &[&str]) -> &'static str {
    match value {
        Value::Null => "give it a value or leave the key out",
        Value::Bool(_) | Value::Integer(_) | Value::Float(_) if wanted.contains(&"string") => {
            "put it in quotes"
        }
        Value::Bool(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Text(_)
        | Value::Sequence(_)
        | Value::Mapping(_) => "",
    }
}
