//! Merging an applied configuration into an object, and taking single fields out again.

use super::{
    fields::{self, Fields},
    schema::{self, Form, Type},
};
use serde_json::{Map, Value, json};

/// `live` with everything that `config` says, by the list and map types of the schema.
pub(super) fn merge(live: &Value, config: &Value, fields: &Type) -> Value {
    let (Some(live), Some(config)) = (live.as_object(), config.as_object()) else {
        return config.clone();
    };
    let mut merged = live.clone();
    for (name, value) in config {
        let form = fields.get(name.as_str()).unwrap_or(&Form::Leaf);
        let value = match live.get(name) {
            Some(old) => merge_form(old, value, form),
            None => value.clone(),
        };
        merged.insert(name.clone(), value);
    }
    Value::Object(merged)
}

fn merge_form(old: &Value, new: &Value, form: &Form) -> Value {
    match form {
        Form::Leaf | Form::AtomicStruct(_) | Form::AtomicList(_) => new.clone(),
        Form::Struct(name) => merge(old, new, schema::of(name)),
        Form::Map => merge(old, new, &Type::new()),
        Form::Keyed(keys, name) => {
            let (Some(old), Some(new)) = (old.as_array(), new.as_array()) else {
                return new.clone();
            };
            let mut merged = old.clone();
            for item in new {
                let key = fields::key_of(item, keys);
                match merged.iter_mut().find(|there| fields::key_of(there, keys) == key) {
                    Some(there) => *there = merge(there, item, schema::of(name)),
                    None => merged.push(item.clone()),
                }
            }
            Value::Array(merged)
        }
        Form::Set => {
            let (Some(old), Some(new)) = (old.as_array(), new.as_array()) else {
                return new.clone();
            };
            let mut merged = old.clone();
            merged.extend(new.iter().filter(|item| !old.contains(item)).cloned());
            Value::Array(merged)
        }
    }
}

/// Takes out the field at `path`, and objects and lists that this leaves empty unless `asked` names them.
/// The fields that make the key of a list item stay as long as the item does.
pub(super) fn remove(object: &mut Value, path: &[String], asked: &Fields) {
    let Some((last, parents)) = path.split_last() else { return };
    let is_key = parents.last().and_then(|element| element.strip_prefix("k:")).is_some_and(|key| {
        let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
        last.strip_prefix("f:").is_some_and(|name| key.contains_key(name))
    });
    if is_key {
        return;
    }
    let Some(parent) = find(object, parents) else { return };
    if let Some(name) = last.strip_prefix("f:") {
        if let Some(parent) = parent.as_object_mut() {
            parent.remove(name);
        }
    } else if let Some(items) = parent.as_array_mut() {
        items.retain(|item| !is_item(item, last));
    }
    let emptied = parent.as_object().is_some_and(Map::is_empty)
        || parent.as_array().is_some_and(Vec::is_empty);
    let goes = match parents {
        [] => false,
        // A whole member of the object, such as `data`.
        [_] => true,
        [_, ..] => !asked.touches(parents),
    };
    if emptied && goes {
        remove(object, parents, asked);
    }
}

fn find<'a>(object: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    let mut at = object;
    for element in path {
        at = match element.strip_prefix("f:") {
            Some(name) => at.get_mut(name)?,
            None => at.as_array_mut()?.iter_mut().find(|item| is_item(item, element))?,
        };
    }
    Some(at)
}

fn is_item(item: &Value, element: &str) -> bool {
    if let Some(value) = element.strip_prefix("v:") {
        let text = item.to_string();
        return text == value;
    }
    let Some(key) = element.strip_prefix("k:") else { return false };
    let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
    key.iter().all(|(name, value)| match item.get(name) {
        Some(there) => there == value,
        None => name == "protocol" && value == "TCP",
    })
}

/// JSON merge patch (RFC 7396).
pub(super) fn merge_patch(object: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    let Some(object) = object.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            object.remove(name);
        } else {
            merge_patch(object.entry(name.clone()).or_insert(Value::Null), value);
        }
    }
}

/// Takes out what is null, which in an applied configuration says nothing.
pub(super) fn strip_nulls(value: &mut Value) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| !value.is_null());
        object.values_mut().for_each(strip_nulls);
    } else if let Some(items) = value.as_array_mut() {
        items.iter_mut().for_each(strip_nulls);
    }
}
