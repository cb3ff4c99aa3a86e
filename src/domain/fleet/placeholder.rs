//! `{name}` in scopes, tags and names, filled from the file alone.

use std::collections::{BTreeMap, BTreeSet};

/// The names in a text. Errors: a brace without its other half, or a name of other characters.
pub(super) fn names(text: &str) -> Result<BTreeSet<String>, String> {
    let mut found = BTreeSet::new();
    let mut rest = text;
    while let Some(open) = rest.find(['{', '}']) {
        let wrong = || {
            format!(
                "`{text}` has a brace that opens or closes nothing; a placeholder is `{{name}}`"
            )
        };
        let after = rest[open..].strip_prefix('{').ok_or_else(wrong)?;
        let close = after.find(['{', '}']).ok_or_else(wrong)?;
        let name = &after[..close];
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if name.is_empty() || !name.chars().all(known) || !after[close..].starts_with('}') {
            return Err(wrong());
        }
        found.insert(name.to_owned());
        rest = &after[close + 1..];
    }
    Ok(found)
}

/// Fills a text whose placeholders were checked. Errors: the first name without a value.
pub(super) fn fill(text: &str, values: &BTreeMap<String, String>) -> Result<String, String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        filled.push_str(before);
        filled.push_str(values.get(name).ok_or_else(|| name.to_owned())?);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The text with every placeholder filled by an `x`: what it looks like, whatever the values.
pub(super) fn sample(text: &str) -> String {
    let values = names(text).unwrap_or_default().into_iter().map(|name| (name, "x".to_owned()));
    fill(text, &values.collect()).unwrap_or_default()
}

/// A value is one segment: it can never lead a scope or a name elsewhere.
pub(super) fn is_value(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '(' | ')');
    (1..=128).contains(&text.len())
        && text.chars().all(known)
        && text.chars().any(|c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_found_and_filled() {
        let values = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        assert_eq!(fill("/x/{a}/{a}y", &values).as_deref(), Ok("/x/1/1y"));
        assert_eq!(fill("{a}{b}", &values), Err("b".to_owned()));
        assert_eq!(names("{a}-{b}{a}").unwrap().len(), 2);
        for text in ["{", "}", "{}", "{a", "a}", "{a{b}}", "{a b}"] {
            assert!(names(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_value_stays_within_its_segment() {
        for (text, fits) in
            [("1111-net", true), ("a/b", false), ("..", false), ("", false), ("{a}", false)]
        {
            assert_eq!(is_value(text), fits, "{text}");
        }
    }
}
