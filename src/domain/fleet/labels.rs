//! What labels the file may ask for on everything that we make.

use super::problem::{At, Findings};
use std::collections::BTreeMap;

/// Those that forerunner sets itself, or that decide what a pod may do.
const OURS: [&str; 4] = [
    "forerunner.dev/",
    "app.kubernetes.io/",
    "pod-security.kubernetes.io/",
    "azure.workload.identity/",
];

pub(super) fn check(labels: &BTreeMap<String, String>, at: &At, findings: &mut Findings<'_>) {
    for (key, value) in labels {
        let at = at.key(key);
        if !is_key(key) {
            let remedy = "a name of at most 63 letters, digits, `-`, `_`, `.`; before it, if wanted, a domain and `/`";
            findings.error(&at, "is no key of a label", remedy);
        }
        if !value.is_empty() && !is_name(value) {
            let remedy =
                "at most 63 letters, digits, `-`, `_`, `.`, first and last a letter or digit";
            findings.error(&at, format!("`{value}` is no value of a label"), remedy);
        }
        if OURS.iter().any(|prefix| key.starts_with(prefix)) {
            findings.error(&at, "begins like the labels that forerunner sets itself", "");
        }
    }
}

/// A name, and before it a DNS subdomain and a slash if any (Kubernetes' rule for keys of labels).
fn is_key(text: &str) -> bool {
    let (domain, name) = match text.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, text),
    };
    let part = |part: &str| is_name(part) && !part.contains('_') && part.to_lowercase() == part;
    is_name(name) && domain.is_none_or(|domain| domain.len() <= 253 && domain.split('.').all(part))
}

fn is_name(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.chars().all(known)
        && end(text.chars().next())
        && end(text.chars().last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_those_that_kubernetes_takes() {
        for key in ["a", "A.b_c-9", "example.com/team", "a-1.example.com/Team"] {
            assert!(is_key(key), "{key}");
        }
        for key in
            ["", "/a", "a/", "a/b/c", "-a", "a.", "Example.com/a", "a_b.com/a", "a..b/c", "ä"]
        {
            assert!(!is_key(key), "{key}");
        }
        assert!(!is_name(&"a".repeat(64)) && !is_name("-a") && !is_name("a_") && is_name("a.b"));
    }
}
