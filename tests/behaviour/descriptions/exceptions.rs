//! Where the vendors' files are wrong or silent: a listed, reasoned file.

use super::{
    translate::Way,
    violation::{Kind, Violation},
};
use boon::SchemaIndex;
use serde::Deserialize;
use serde_json::Value;
use std::sync::atomic::{AtomicU64, Ordering};

/// One place in one description that is not held against anybody, or not as it stands there.
pub(super) struct Exception {
    pub(super) is: Kind,
    /// A place as [`Violation`] names it; `*` stands for any text.
    at: String,
    /// What holds there instead, in the description's own terms.
    pub(super) instead: Option<Value>,
    /// The same for requests and for answers.
    pub(super) compiled: Option<[SchemaIndex; 2]>,
    needed: AtomicU64,
}

impl Exception {
    /// Whether it speaks of this violation; counts that it did.
    pub(super) fn covers(&self, violation: &Violation) -> bool {
        let covers = self.is == violation.kind
            && (matches(&self.at, &violation.at) || matches(&self.at, &violation.part));
        if covers {
            self.needed.fetch_add(1, Ordering::Relaxed);
        }
        covers
    }

    pub(super) fn instead(&self, way: Way) -> Option<SchemaIndex> {
        let [request, answer] = self.compiled?;
        Some(if way == Way::Request { request } else { answer })
    }

    pub(super) fn needed(&self) -> u64 {
        self.needed.load(Ordering::Relaxed)
    }

    /// For people, and the tally.
    pub(super) fn name(&self) -> String {
        format!("{:?} {}", self.is, self.at)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    exception: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    file: String,
    is: Kind,
    at: Vec<String>,
    instead: Option<Value>,
    why: String,
    source: String,
}

/// The listed exceptions from one description.
pub(super) fn from(file: &str) -> Vec<Exception> {
    parse(include_str!("exceptions.toml"), file)
}

/// Panics where an entry has no reason or no source: it is a file of ours.
pub(super) fn parse(text: &str, file: &str) -> Vec<Exception> {
    let parsed: File = toml::from_str(text).unwrap();
    let reasoned = |each: &Listed| !each.why.is_empty() && !each.source.is_empty();
    assert!(parsed.exception.iter().all(reasoned), "an exception without a reason or a source");
    let listed = parsed.exception.into_iter().filter(|each| each.file == file);
    let single = listed.flat_map(|Listed { is, at, instead, .. }| {
        at.into_iter().map(move |at| Exception {
            is,
            at,
            instead: instead.clone(),
            compiled: None,
            needed: AtomicU64::new(0),
        })
    });
    single.collect()
}

/// Whether `text` is as `pattern` says, where `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(before) else { return false };
    let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    ends.any(|at| matches(after, &text[at..]))
}
