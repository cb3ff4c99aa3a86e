//! Reads the sources and fails on an arrow that STYLE does not allow. Its own binary: it links nothing of ours.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// What the files under a folder must not mention, and why.
const FORBIDDEN: [(&str, &[&str], &str); 5] = [
    (
        "src/domain",
        &[
            "crate::adapters",
            "crate::reconcile",
            "crate::functions",
            "crate::sandbox",
            "crate::cli",
            "crate::config",
            "crate::clock",
            "crate::telemetry",
            "reqwest",
            "tokio",
            "kube::",
            "azure_core",
            ".await",
            "async fn",
        ],
        "the domain decides over plain data and uses nothing of ours",
    ),
    (
        "src/adapters",
        &[
            "crate::reconcile",
            "crate::functions",
            "crate::sandbox",
            "crate::cli",
            "domain::plan",
            "domain::fleet",
        ],
        "adapters speak HTTP and decide nothing",
    ),
    (
        "src/reconcile",
        &["crate::functions", "crate::cli", "crate::sandbox", "reqwest"],
        "a round knows neither who woke it nor how calls travel",
    ),
    (
        "src/functions",
        &["crate::cli", "crate::sandbox"],
        "a function unwraps a delivery and runs a round",
    ),
    (
        "src/sandbox",
        &["crate::adapters", "crate::domain", "crate::reconcile", "crate::functions"],
        "the sandbox shares nothing with what it judges, or one misreading would pass in both",
    ),
];

#[test]
fn no_file_uses_what_its_layer_must_not() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut wrong = Vec::new();
    for (folder, words, reason) in FORBIDDEN {
        let files = sources(&root.join(folder));
        assert!(!files.is_empty(), "{folder} has no sources: has it moved?");
        for file in files {
            let text = fs::read_to_string(&file).expect("a source is readable text");
            for (number, line) in code(&text) {
                if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                    let file = file.strip_prefix(root).expect("below the root").display();
                    wrong.push(format!("{file}:{number}: `{word}`: {reason}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Lines that are no comment, numbered from 1.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(at, line)| (at + 1, line));
    numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
