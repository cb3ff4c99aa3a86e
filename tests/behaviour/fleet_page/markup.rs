//! Reads a page as strictly as XML is read: every element closed in its turn, every attribute quoted, no bare `<` or `&`.
//! Scripts and styles are text up to their end, as in HTML.

use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) children: Vec<Element>,
    /// Of this element and all below it, in reading order.
    pub(crate) text: String,
}

impl Element {
    /// Every element below, this one too, that passes.
    pub(crate) fn find(&self, pass: &dyn Fn(&Self) -> bool) -> Vec<&Self> {
        let own = pass(self).then_some(self);
        own.into_iter().chain(self.children.iter().flat_map(|child| child.find(pass))).collect()
    }

    pub(crate) fn named(&self, name: &str) -> Vec<&Self> {
        self.find(&|element| element.name == name)
    }

    pub(crate) fn attribute(&self, name: &str) -> &str {
        self.attributes.get(name).map_or("", String::as_str)
    }

    pub(crate) fn has_class(&self, class: &str) -> bool {
        self.attribute("class").split(' ').any(|one| one == class)
    }
}

/// The `html` element.
pub(crate) fn parse(page: &str) -> Element {
    let mut rest = page.strip_prefix("<!DOCTYPE html>").expect("a page says what it is").trim();
    let mut open: Vec<Element> = vec![Element::default()];
    while !rest.is_empty() {
        let Some(tag) = rest.strip_prefix('<') else {
            let end = rest.find('<').unwrap_or(rest.len());
            let text = decoded(&rest[..end]);
            open.iter_mut().for_each(|element| element.text.push_str(&text));
            rest = &rest[end..];
            continue;
        };
        let end = tag.find('>').unwrap_or_else(|| panic!("an open tag: {}", &tag[..40]));
        let (inside, after) = (&tag[..end], &tag[end + 1..]);
        rest = after;
        if let Some(name) = inside.strip_prefix('/') {
            let closed = open.pop().unwrap();
            assert_eq!(closed.name, name, "closed in its turn");
            open.last_mut().unwrap().children.push(closed);
            continue;
        }
        let (inside, empty) =
            inside.strip_suffix('/').map_or((inside, false), |inside| (inside, true));
        let mut element = begin(inside);
        if empty {
            open.last_mut().unwrap().children.push(element);
        } else if ["script", "style"].contains(&element.name.as_str()) {
            let close = format!("</{}>", element.name);
            let end = rest.find(&close).unwrap();
            element.text = rest[..end].to_owned();
            rest = &rest[end + close.len()..];
            open.last_mut().unwrap().children.push(element);
        } else {
            open.push(element);
        }
    }
    assert_eq!(open.len(), 1, "everything is closed");
    let mut root = open.remove(0);
    assert_eq!(root.children.len(), 1);
    root.children.remove(0)
}

/// A tag's name and attributes, each `name="value"` and none twice.
fn begin(inside: &str) -> Element {
    let (name, mut rest) = inside.split_once(' ').unwrap_or((inside, ""));
    let plain = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    assert!(plain(name), "`{name}` is no element");
    let mut attributes = BTreeMap::new();
    while !rest.trim().is_empty() {
        let (key, after) = rest.trim_start().split_once("=\"").expect("attributes are quoted");
        let (value, after) = after.split_once('"').expect("the quote ends");
        assert!(plain(key), "`{key}` is no attribute");
        assert_eq!(attributes.insert(key.to_owned(), decoded(value)), None, "{key} twice");
        rest = after;
    }
    Element { name: name.to_owned(), attributes, ..Element::default() }
}

fn decoded(text: &str) -> String {
    let mut whole = String::new();
    let mut parts = text.split('&');
    whole.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (entity, rest) = part.split_once(';').expect("no bare ampersand");
        whole.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "#39" => '\'',
            _ => panic!("&{entity}; is none of the five"),
        });
        whole.push_str(rest);
    }
    assert!(!whole.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')), "{whole:?}");
    whole
}
