//! What the handler and the host said, with the levels that the real host gives to lines (functions-host.md §1.7).

use crate::clock::Clock;
use jiff::Timestamp;
use serde::Serialize;
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

/// How many lines are kept.
const KEPT: usize = 2_000;
/// The category of lines that the handler printed.
const CONSOLE: &str = "Host.Function.Console";
/// Lines that begin so go to the platform's own log and not to the user's.
const SYSTEM_LINE: &str = "LanguageWorkerConsoleLog";

/// Called for each line as it comes.
pub type Echo = Arc<dyn Fn(&LogLine) + Send + Sync>;

/// One line of the app's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LogLine {
    pub at: Timestamp,
    pub level: Level,
    /// `Host.Function.Console`, `Function.NAME.User`, `Function.NAME` or `Host.General`.
    pub category: String,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Level {
    Information,
    Warning,
    Error,
}

#[derive(Clone)]
pub(super) struct Logs(Arc<Inner>);

struct Inner {
    clock: Clock,
    echo: Option<Echo>,
    lines: Mutex<VecDeque<LogLine>>,
}

impl Logs {
    pub(super) fn new(clock: Clock, echo: Option<Echo>) -> Self {
        Self(Arc::new(Inner { clock, echo, lines: Mutex::default() }))
    }

    pub(super) fn say(&self, level: Level, category: &str, text: impl Into<String>) {
        let line = LogLine {
            at: self.0.clock.now(),
            level,
            category: category.to_owned(),
            text: text.into(),
        };
        if let Some(echo) = &self.0.echo {
            echo(&line);
        }
        let mut lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub(super) fn stdout(&self, line: &str) {
        if !line.starts_with(SYSTEM_LINE) {
            self.say(Level::Information, CONSOLE, line);
        }
    }

    /// Answers whether the line counts as an error.
    pub(super) fn stderr(&self, line: &str, for_errors_only: bool) -> bool {
        let level = stderr_level(line, for_errors_only);
        if !line.starts_with(SYSTEM_LINE) {
            self.say(level, CONSOLE, line);
        }
        level == Level::Error
    }

    pub(super) fn lines(&self) -> Vec<LogLine> {
        let lines = self.0.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect()
    }
}

fn stderr_level(line: &str, for_errors_only: bool) -> Level {
    let line = line.to_lowercase();
    if for_errors_only {
        return if line.contains("warn") { Level::Warning } else { Level::Error };
    }
    let errors = ["error", "fail", "severe", "unhandled exception"];
    if errors.iter().any(|word| line.contains(word)) { Level::Error } else { Level::Information }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_on_stderr_is_an_error_unless_it_warns() {
        let cases = [
            ("all is well", true, Level::Error),
            ("a WARNing", true, Level::Warning),
            ("all is well", false, Level::Information),
            ("it Failed", false, Level::Error),
            ("a warning", false, Level::Information),
        ];
        for (line, for_errors_only, expected) in cases {
            assert_eq!(stderr_level(line, for_errors_only), expected, "{line}");
        }
    }
}
