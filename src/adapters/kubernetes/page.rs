//! One page of a list, taken object by object: of five hundred large ones no more than one is held.

use crate::domain::kubernetes::{Kind, Object, ObjectName};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use std::fmt;

/// Hands each object of a page to `take`, in order, and answers where the list goes on.
///
/// Errors: not the JSON of a list; what was taken by then is worth nothing.
pub(super) fn read(
    kind: Kind,
    body: &[u8],
    take: &mut dyn FnMut(Object),
) -> Result<Option<String>, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let next = Page { kind, take }.deserialize(&mut json)?;
    json.end()?;
    Ok(next.filter(|token| !token.is_empty()))
}

struct Page<'a> {
    kind: Kind,
    take: &'a mut dyn FnMut(Object),
}

struct Items<'a> {
    kind: Kind,
    take: &'a mut dyn FnMut(Object),
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(rename = "continue")]
    next: Option<String>,
}

impl<'de> DeserializeSeed<'de> for Page<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Page<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut fields: M) -> Result<Self::Value, M::Error> {
        let mut metadata = Metadata::default();
        while let Some(name) = fields.next_key::<String>()? {
            match name.as_str() {
                "metadata" => metadata = fields.next_value()?,
                "items" => {
                    fields.next_value_seed(Items { kind: self.kind, take: &mut *self.take })?
                }
                _ => _ = fields.next_value::<IgnoredAny>()?,
            }
        }
        Ok(metadata.next)
    }
}

impl<'de> DeserializeSeed<'de> for Items<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the objects of a list")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<(), S::Error> {
        while let Some(item) = items.next_element()? {
            let object = listed(self.kind, item);
            (self.take)(object.ok_or_else(|| S::Error::custom("an object has no name"))?);
        }
        Ok(())
    }
}

/// List items come without `apiVersion` and `kind`.
fn listed(kind: Kind, mut body: Value) -> Option<Object> {
    let (api_version, kind_name, _) = kind.wire();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let name = text(&body["metadata"]["name"])?;
    let namespace = text(&body["metadata"]["namespace"]);
    body["apiVersion"] = Value::from(api_version);
    body["kind"] = Value::from(kind_name);
    Some(Object { name: ObjectName { kind, namespace, name }, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn names(page: &Value) -> Result<(Vec<String>, Option<String>), serde_json::Error> {
        let mut names = Vec::new();
        let take = &mut |object: Object| names.push(object.name.to_string());
        let next = read(Kind::Secret, page.to_string().as_bytes(), take)?;
        Ok((names, next))
    }

    #[test]
    fn a_page_is_its_objects_and_where_it_goes_on() {
        let item = json!({"metadata": {"name": "a", "namespace": "n"}, "data": {}});
        let mut page = json!({"kind": "SecretList", "metadata": {"continue": "t", "x": 1},
            "items": [item, item]});
        let (found, next) = names(&page).unwrap();
        assert_eq!((found.len(), next.as_deref()), (2, Some("t")));
        page["metadata"] = json!({"continue": ""});
        assert_eq!(names(&page).unwrap().1, None, "an empty token ends a list");
    }

    #[test]
    fn what_is_no_page_is_an_error() {
        for page in [
            json!([]),
            json!({"items": {}}),
            json!({"items": [{"metadata": {}}]}),
            json!({"items": [], "metadata": 1}),
        ] {
            assert!(names(&page).is_err(), "{page}");
        }
        let mut take = |_| {};
        assert!(read(Kind::Secret, b"{\"items\": []} rest", &mut take).is_err());
    }
}
