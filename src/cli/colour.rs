//! Whether to paint what a person reads, and how.

use crate::config;
use std::io::IsTerminal;

/// On a terminal, unless its owner set `NO_COLOR` (<https://no-color.org>).
pub(super) fn wanted(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && !config::colour_is_refused()
}

/// Paints, or does not. Words never mean less without it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint(pub(super) bool);

impl Paint {
    pub(super) fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    pub(super) fn red(self, text: &str) -> String {
        self.with("31", text)
    }

    pub(super) fn green(self, text: &str) -> String {
        self.with("32", text)
    }

    pub(super) fn yellow(self, text: &str) -> String {
        self.with("33", text)
    }

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
