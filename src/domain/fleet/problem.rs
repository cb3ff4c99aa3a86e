//! What is wrong with a fleet's files, said so that a person can mend it.

use super::tree::{Key, Node};
use serde::Serialize;
use std::fmt;

/// One thing to mend, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub severity: Severity,
    /// `fleet.yaml` or `guardrails.yaml`.
    pub file: &'static str,
    /// From 1; 0 where the file as a whole is meant.
    pub line: u64,
    pub column: u64,
    /// Such as `profiles.plan.runner.tags`; empty for the file as a whole.
    pub path: String,
    pub reason: String,
    pub remedy: String,
}

/// How much a problem stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file cannot be used: nothing is written until it is mended.
    Error,
    /// Concerns one profile or rule alone: `check` fails, the rest of the fleet goes on.
    Blocked,
    /// Worth knowing; stops nothing.
    Warning,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error | Severity::Blocked => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{word}: {}", self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.reason)?;
        if !self.remedy.is_empty() {
            write!(f, "\n  hint: {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Fleet,
    Guardrails,
}

impl Source {
    pub(super) fn file(self) -> &'static str {
        match self {
            Self::Fleet => "fleet.yaml",
            Self::Guardrails => "guardrails.yaml",
        }
    }
}

/// A place in a file: the keys and indices that lead to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) source: Source,
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

impl At {
    pub(super) fn root(source: Source) -> Self {
        Self { source, steps: Vec::new() }
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut next = self.clone();
        next.steps.push(step);
        next
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.steps.iter().enumerate() {
            match step {
                Step::Key(key) if position == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Collects problems and finds their places.
pub(super) struct Findings<'a> {
    fleet: &'a Node,
    guardrails: Option<&'a Node>,
    pub(super) found: Vec<Problem>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(fleet: &'a Node, guardrails: Option<&'a Node>) -> Self {
        Self { fleet, guardrails, found: Vec::new() }
    }

    pub(super) fn error(&mut self, at: &At, reason: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, at, reason.into(), remedy.into());
    }

    pub(super) fn blocked(
        &mut self,
        at: &At,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Blocked, at, reason.into(), remedy.into());
    }

    pub(super) fn warning(
        &mut self,
        at: &At,
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(Severity::Warning, at, reason.into(), remedy.into());
    }

    /// Adds the error and gives `None`, or the value.
    pub(super) fn accept<T, E: fmt::Display>(
        &mut self,
        at: &At,
        result: Result<T, E>,
        remedy: &str,
    ) -> Option<T> {
        result.map_err(|reason| self.error(at, reason.to_string(), remedy)).ok()
    }

    pub(super) fn has_errors(&self) -> bool {
        self.found.iter().any(|problem| problem.severity == Severity::Error)
    }

    /// Points at the key itself, not at its value.
    pub(super) fn unknown_key(&mut self, at: &At, key: &Key, remedy: String) {
        self.found.push(Problem {
            severity: Severity::Error,
            file: at.source.file(),
            line: key.line,
            column: key.column,
            path: at.to_string(),
            reason: format!("unknown key `{}`", key.text),
            remedy,
        });
    }

    fn add(&mut self, severity: Severity, at: &At, reason: String, remedy: String) {
        let tree = match at.source {
            Source::Fleet => Some(self.fleet),
            Source::Guardrails => self.guardrails,
        };
        let (line, column) = tree.map_or((0, 0), |tree| tree.locate(&at.steps));
        let problem = Problem {
            severity,
            file: at.source.file(),
            line,
            column,
            path: at.to_string(),
            reason,
            remedy,
        };
        if !self.found.contains(&problem) {
            self.found.push(problem);
        }
    }
}

/// The candidate that `text` most likely meant.
pub(super) fn nearest<'a>(text: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = text.to_lowercase();
    let distance = |word: &str| strsim::damerau_levenshtein(&lower, &word.to_lowercase());
    let limit = (text.chars().count() / 3).max(1) + 1;
    known
        .map(|word| (distance(word), word))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, word)| word)
}
