//! What the behaviour tests have checked against the vendors' descriptions, in their last run. Cargo runs this after them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "behaviour/descriptions/tally.rs"]
mod tally;

use std::{io::Write, path::Path};
use tally::Tally;

/// Past the test harness, which keeps what a passing test prints.
fn say(line: &str) {
    writeln!(std::io::stdout().lock(), "{line}").unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a suite's own switch, no setting of forerunner")]
fn is_asked_for() -> bool {
    std::env::var("FORERUNNER_DESCRIPTIONS").is_ok_and(|folder| Path::new(&folder).is_dir())
}

#[test]
fn every_exchange_of_the_suite_is_as_the_vendors_describe_it() {
    if !is_asked_for() {
        return say(
            "vendors' descriptions: not checked; FORERUNNER_DESCRIPTIONS names no folder that holds them",
        );
    }
    let path = tally::path();
    let text = std::fs::read(&path).unwrap_or_else(|error| {
        panic!("{}: {error}; run `cargo test --test behaviour` first", path.display())
    });
    let tally: Tally = serde_json::from_slice(&text).unwrap();
    for (file, checked) in &tally.files {
        say(&format!(
            "vendors' descriptions: {} requests and {} answers of {} operations held against {file}",
            checked.requests,
            checked.answers,
            checked.operations.len()
        ));
    }
    assert!(tally.violations.is_empty(), "{}", tally.violations.join("\n"));
    if !tally.whole {
        return say(
            "vendors' descriptions: the last run left tests out; exceptions are not judged",
        );
    }
    for (file, checked) in &tally.files {
        assert!(checked.requests > 0 && checked.answers > 0, "nothing was held against {file}");
    }
    let unneeded = tally.exceptions.iter().filter(|(_, needed)| **needed == 0);
    let unneeded: Vec<&str> = unneeded.map(|(name, _)| name.as_str()).collect();
    assert!(unneeded.is_empty(), "exceptions that nothing needs:\n{}", unneeded.join("\n"));
    assert!(!tally.exceptions.is_empty());
}
