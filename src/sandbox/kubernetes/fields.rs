//! Sets of fields, as `managedFields` keeps them (`FieldsV1`), and the fields that a value has.
//! Source: <https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management>

use super::schema::{self, Form, Type};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Elements as `FieldsV1` spells them: `f:spec`, `k:{"name":"a"}`, `v:"x"`.
pub(super) type Path = Vec<String>;

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    member: bool,
    children: BTreeMap<String, Fields>,
}

impl Fields {
    pub(super) fn insert(&mut self, path: &[String]) {
        match path.split_first() {
            None => self.member = true,
            Some((first, rest)) => self.children.entry(first.clone()).or_default().insert(rest),
        }
    }

    pub(super) fn contains(&self, path: &[String]) -> bool {
        self.at(path).is_some_and(|fields| fields.member)
    }

    /// Whether the path or anything below it is in the set.
    pub(super) fn touches(&self, path: &[String]) -> bool {
        self.at(path).is_some()
    }

    fn at(&self, path: &[String]) -> Option<&Self> {
        path.iter().try_fold(self, |fields, element| fields.children.get(element))
    }

    /// Takes out the path alone.
    pub(super) fn remove(&mut self, path: &[String]) {
        match path.split_first() {
            None => self.member = false,
            Some((first, rest)) => {
                if let Some(child) = self.children.get_mut(first) {
                    child.remove(rest);
                    if child.is_empty() {
                        self.children.remove(first);
                    }
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    pub(super) fn paths(&self) -> Vec<Path> {
        let mut found = Vec::new();
        self.collect(&mut Vec::new(), &mut found);
        found
    }

    fn collect(&self, at: &mut Path, found: &mut Vec<Path>) {
        if self.member {
            found.push(at.clone());
        }
        for (element, child) in &self.children {
            at.push(element.clone());
            child.collect(at, found);
            at.pop();
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let mut object = Map::new();
        if self.member && !self.children.is_empty() {
            object.insert(".".to_owned(), json!({}));
        }
        for (element, child) in &self.children {
            object.insert(element.clone(), child.to_json());
        }
        Value::Object(object)
    }

    pub(super) fn from_json(value: &Value) -> Self {
        let mut fields = Self::default();
        for (element, child) in value.as_object().into_iter().flatten() {
            if element == "." {
                fields.member = true;
                continue;
            }
            let mut below = Self::from_json(child);
            below.member |= below.children.is_empty();
            fields.children.insert(element.clone(), below);
        }
        fields
    }
}

/// Metadata that the server sets and nobody owns.
const UNOWNED_METADATA: [&str; 10] = [
    "name",
    "namespace",
    "generateName",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
];

/// All fields that can be owned, with the value of those that have one of their own (an item of a keyed list has none).
pub(super) fn leaves(object: &Value, fields: &Type) -> BTreeMap<Path, Option<Value>> {
    let mut found = BTreeMap::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        if ["apiVersion", "kind", "status"].contains(&name.as_str()) {
            continue;
        }
        let path = vec![format!("f:{name}")];
        if name == "metadata" {
            let mut owned = value.clone();
            if let Some(owned) = owned.as_object_mut() {
                owned.retain(|name, _| !UNOWNED_METADATA.contains(&name.as_str()));
            }
            struct_leaves(&owned, schema::of("ObjectMeta"), &path, &mut found);
            continue;
        }
        form_leaves(value, fields.get(name.as_str()).unwrap_or(&Form::Leaf), path, &mut found);
    }
    found
}

fn struct_leaves(
    value: &Value,
    fields: &Type,
    path: &[String],
    found: &mut BTreeMap<Path, Option<Value>>,
) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let form = fields.get(name.as_str()).unwrap_or(&Form::Leaf);
        form_leaves(value, form, below(path, format!("f:{name}")), found);
    }
}

fn form_leaves(value: &Value, form: &Form, path: Path, found: &mut BTreeMap<Path, Option<Value>>) {
    let empty = value.is_null()
        || value.as_object().is_some_and(Map::is_empty)
        || value.as_array().is_some_and(Vec::is_empty);
    if empty {
        found.insert(path, Some(value.clone()));
        return;
    }
    match form {
        Form::Leaf | Form::AtomicStruct(_) | Form::AtomicList(_) => {
            found.insert(path, Some(value.clone()));
        }
        Form::Struct(name) => struct_leaves(value, schema::of(name), &path, found),
        Form::Map => {
            for (name, value) in value.as_object().into_iter().flatten() {
                found.insert(below(&path, format!("f:{name}")), Some(value.clone()));
            }
        }
        Form::Keyed(keys, name) => {
            for item in value.as_array().into_iter().flatten() {
                let path = below(&path, key_of(item, keys));
                struct_leaves(item, schema::of(name), &path, found);
                found.insert(path, None);
            }
        }
        Form::Set => {
            for item in value.as_array().into_iter().flatten() {
                found.insert(below(&path, format!("v:{item}")), None);
            }
        }
    }
}

fn below(path: &[String], element: String) -> Path {
    let mut path = path.to_vec();
    path.push(element);
    path
}

/// `k:{"containerPort":9252,"protocol":"TCP"}`
pub(super) fn key_of(item: &Value, keys: &[(&'static str, Option<&'static str>)]) -> String {
    let mut key = BTreeMap::new();
    for (name, default) in keys {
        let value = item.get(*name).cloned().or_else(|| default.map(Value::from));
        key.insert(*name, value.unwrap_or(Value::Null));
    }
    format!("k:{}", json!(key))
}

/// `.spec.template.spec.containers[name="a"].image`
pub(super) fn display(path: &[String]) -> String {
    let mut text = String::new();
    for element in path {
        if let Some(name) = element.strip_prefix("f:") {
            text.push('.');
            text.push_str(name);
        } else if let Some(key) = element.strip_prefix("k:") {
            let key: Map<String, Value> = serde_json::from_str(key).unwrap_or_default();
            let parts: Vec<String> =
                key.iter().map(|(name, value)| format!("{name}={value}")).collect();
            text.push_str(&format!("[{}]", parts.join(",")));
        } else if let Some(value) = element.strip_prefix("v:") {
            text.push_str(&format!("[={value}]"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_survives_its_wire_form() {
        let wire = json!({
            "f:metadata": {"f:labels": {".": {}, "f:app": {}}},
            "f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}},
        });
        assert_eq!(Fields::from_json(&wire).to_json(), wire);
    }

    #[test]
    fn a_path_is_shown_as_the_server_shows_it() {
        let path: Path = ["f:spec", "k:{\"name\":\"a\"}", "f:image"].map(str::to_owned).to_vec();
        assert_eq!(display(&path), ".spec[name=\"a\"].image");
    }
}
