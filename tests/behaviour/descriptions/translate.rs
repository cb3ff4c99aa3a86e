//! Swagger 2.0 schemas as JSON Schema 2020-12: what the words mean that only Swagger and Microsoft's generators know.

use serde_json::{Map, Value, json};

/// Who sends the value. A member that is `readOnly` may come from the service and is not sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Request,
    Answer,
}

/// Keywords that mean the same in both.
const SAME: [&str; 12] = [
    "$ref",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minimum",
    "maximum",
    "format",
    "required",
];

/// Types that Swagger has; a generator's slips (`symbol`) say nothing.
const TYPES: [&str; 6] = ["object", "array", "string", "integer", "number", "boolean"];

/// Translates one schema or parameter of `document`. An object that names its members takes no others, unless it says which.
pub(super) fn schema(document: &Value, given: &Value, way: Way) -> Value {
    if given.get("$ref").is_some() {
        return json!({ "$ref": given["$ref"] });
    }
    let flat = flat(document, given);
    let mut made = Map::new();
    for keyword in SAME {
        if let Some(value) = flat.get(keyword) {
            made.insert(keyword.to_owned(), value.clone());
        }
    }
    if let Some(fixed) = flat.get("x-fixed-value") {
        made.insert("const".to_owned(), fixed.clone());
    }
    let nullable = flat.get("x-nullable") == Some(&json!(true));
    match flat.get("type") {
        Some(Value::String(kind)) if TYPES.contains(&kind.as_str()) => {
            let kind = if nullable { json!([kind, "null"]) } else { json!(kind) };
            made.insert("type".to_owned(), kind);
        }
        // Only an exception's own schema has several: Swagger 2.0 cannot say it.
        Some(Value::Array(kinds)) => {
            made.insert("type".to_owned(), json!(kinds));
        }
        _ => {}
    }
    if let Some(items) = flat.get("items") {
        made.insert("items".to_owned(), schema(document, items, way));
    }
    let rest = flat.get("additionalProperties");
    if let Some(rest @ Value::Object(_)) = rest {
        made.insert("additionalProperties".to_owned(), schema(document, rest, way));
    }
    if let Some(Value::Object(members)) = flat.get("properties") {
        members_of(document, members, way, &mut made);
        made.entry("additionalProperties").or_insert(json!(rest == Some(&json!(true))));
    }
    Value::Object(made)
}

fn members_of(
    document: &Value,
    members: &Map<String, Value>,
    way: Way,
    made: &mut Map<String, Value>,
) {
    let withheld = |member: &Value| way == Way::Request && is_read_only(document, member);
    let translated = members.iter().map(|(name, member)| {
        let schema = if withheld(member) { json!(false) } else { schema(document, member, way) };
        (name.clone(), schema)
    });
    let translated: Map<_, _> = translated.collect();
    if let Some(Value::Array(required)) = made.get_mut("required") {
        required.retain(|name| {
            !name.as_str().and_then(|name| members.get(name)).is_some_and(&withheld)
        });
    }
    made.insert("properties".to_owned(), Value::Object(translated));
}

fn is_read_only(document: &Value, member: &Value) -> bool {
    let target = member.get("$ref").and_then(Value::as_str).and_then(|to| resolve(document, to));
    let says = |schema: &Value| schema.get("readOnly") == Some(&json!(true));
    says(member) || target.is_some_and(says)
}

/// The schema with what it has by `allOf` written into it.
fn flat(document: &Value, given: &Value) -> Map<String, Value> {
    let given = given.as_object().cloned().unwrap_or_default();
    let Some(Value::Array(parts)) = given.get("allOf") else { return given };
    let mut whole = Map::new();
    let own = given.iter().filter(|(keyword, _)| keyword.as_str() != "allOf");
    let own = own.map(|(keyword, value)| (keyword.clone(), value.clone())).collect();
    let inherited = parts.iter().map(|part| {
        let to = part.get("$ref").and_then(Value::as_str);
        flat(document, to.and_then(|to| resolve(document, to)).unwrap_or(part))
    });
    for part in inherited.chain([own]) {
        for (keyword, value) in part {
            match (whole.get_mut(&keyword), value) {
                (Some(Value::Object(known)), Value::Object(more)) => known.extend(more),
                (Some(Value::Array(known)), Value::Array(more)) => known.extend(more),
                (_, value) => {
                    whole.insert(keyword, value);
                }
            }
        }
    }
    // Of a part it says that only the service sets it; of the whole that is said anew.
    if given.get("readOnly").is_none() {
        whole.remove("readOnly");
    }
    whole
}

fn resolve<'document>(document: &'document Value, reference: &str) -> Option<&'document Value> {
    document.pointer(reference.strip_prefix('#')?)
}
