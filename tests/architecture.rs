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

/// What lets something go for good, and every file of the product that calls it, as often as it does: whoever adds a caller shows here
/// that nothing goes round the gate.
const DOORS: [(&str, &[&str]); 6] = [
    // The one gate: a unit's round, and a shared domain's.
    ("gate::open(", &["src/reconcile/prepare.rs", "src/reconcile/prepare/shared.rs"]),
    // Plans that take away whole, by the pass of the gate.
    ("removal::plan(", &["src/reconcile/prepare.rs", "src/reconcile/prepare/shared.rs"]),
    // An entity that somebody polls with may lose its token, or go, while its unit stays.
    (".may_part(", &["src/domain/plan/runner/entity.rs", "src/domain/plan/runner/token.rs"]),
    // Who writes permits: sweeps, and an operator's orders.
    (".permitting(", &["src/reconcile/command.rs", "src/reconcile/permits.rs"]),
    (".confirming(", &["src/reconcile/command.rs", "src/reconcile/command.rs"]),
    // And partings; a cluster made anew lists them first.
    (".parting_with(", &["src/reconcile/adopt.rs", "src/reconcile/command.rs"]),
];

#[test]
fn only_these_open_the_gate_or_write_what_opens_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = sources(&root.join("src"));
    for (call, expected) in DOORS {
        let mut callers = Vec::new();
        for file in &files {
            let text = fs::read_to_string(file).expect("a source is readable text");
            let name = file.strip_prefix(root).expect("below the root").display().to_string();
            let product = code(&text).take_while(|(_, line)| *line != "#[cfg(test)]");
            let calls = product.filter(|(_, line)| line.contains(call));
            callers.extend(calls.map(|_| name.clone()));
        }
        callers.sort();
        assert_eq!(callers, expected, "who calls `{call}`");
    }
    // Nobody else makes a pass, or makes the calls under another name.
    let gate = fs::read_to_string(root.join("src/domain/gate.rs")).expect("the gate is there");
    let makes = code(&gate).filter(|(_, line)| {
        line.contains("Pass {") && !line.contains("impl") && !line.contains("struct")
    });
    assert_eq!(makes.count(), 1, "only `open` makes a pass");
    for file in &files {
        let text = fs::read_to_string(file).expect("a source is readable text");
        let lines: Vec<&str> = code(&text).map(|(_, line)| line.trim()).collect();
        for (module, call) in [("gate", "open"), ("removal", "plan")] {
            let hidden = hides(&lines.join(" "), module, call);
            assert!(!hidden, "{}: calls `{module}::{call}` unseen by this test", file.display());
        }
    }
}

/// Whether `text` brings `module::call` in so that it can be called under a shorter or another name.
fn hides(text: &str, module: &str, call: &str) -> bool {
    let after = |word: &str| text.split(word).skip(1).map(str::trim_start).collect::<Vec<_>>();
    let listed = after(&format!("{module}::{{")).into_iter().any(|rest| {
        let names = rest.split('}').next().unwrap_or_default().split(',');
        names.map(str::trim).any(|name| name == call || name.starts_with(&format!("{call} as ")))
    });
    let bare = after(&format!("{module}::{call}"))
        .iter()
        .any(|rest| rest.starts_with([';', ',', '}']) || rest.starts_with("as "));
    listed
        || bare
        || text.contains(&format!("{module}::*"))
        || text.contains(&format!("{module} as "))
}

#[test]
fn a_call_is_seen_however_it_is_imported() {
    let seen = [
        "use crate::domain::gate;",
        "domain::{ gate::{self, Closed, Pass}, ids }",
        "let pass = gate::open(book);",
    ];
    assert!(seen.iter().all(|text| !hides(text, "gate", "open")));
    let hidden = [
        "use crate::domain::gate::open;",
        "use crate::domain::{gate::open, ids};",
        "use domain::{ids, gate::open}; open(x)",
        "use domain::gate::{Closed, open};",
        "use domain::gate::{open as go};",
        "use domain::gate::open as go;",
        "use domain::gate::*;",
        "use domain::gate as door;",
    ];
    for text in hidden {
        assert!(hides(text, "gate", "open"), "{text}");
    }
}

#[test]
fn every_command_that_is_printed_says_why() {
    let asks = ["remove", "revoke", "hold", "confirm", "pause", "resume", "reprovision", "sweep"];
    let mut wrong = Vec::new();
    for file in sources(Path::new("src")) {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let commands = text.split("forerunner send ").skip(1);
        let whole = commands.map(|rest| rest.split(['`', '\n', '"']).next().unwrap_or_default());
        let misses = |command: &&str| {
            asks.iter().any(|ask| command.starts_with(ask)) && !command.contains("--why")
        };
        wrong.extend(whole.filter(misses).map(|command| format!("{}: {command}", file.display())));
    }
    assert!(wrong.is_empty(), "`--why` is missing, and who types it is refused: {wrong:#?}");
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
