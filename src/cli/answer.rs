//! What a subcommand prints, and how it ends.

use super::colour;
use serde_json::Value;
use std::io::Write;

/// What a run prints, and its exit code: 0 fine, 1 problems, 2 misused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub code: u8,
    /// Data, for stdout.
    pub out: String,
    /// Talk, for stderr.
    pub talk: String,
}

/// Which of the two a person reads on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Colour {
    pub out: bool,
    pub talk: bool,
}

impl Colour {
    /// As the real terminal wants it.
    pub fn here() -> Self {
        Self { out: colour::wanted(&std::io::stdout()), talk: colour::wanted(&std::io::stderr()) }
    }
}

impl Answer {
    /// Data alone, and all is well.
    pub fn out(out: String) -> Self {
        Self { code: 0, out, talk: String::new() }
    }

    /// Nothing but the reason.
    pub fn failed(code: u8, reason: impl std::fmt::Display) -> Self {
        Self { code, out: String::new(), talk: format!("error: {reason}\n") }
    }

    /// Prints both and answers the code.
    pub fn print(&self) -> u8 {
        let (mut out, mut talk) = (std::io::stdout(), std::io::stderr());
        // A reader that went away, such as `head`, wants no more.
        let written = out.write_all(self.out.as_bytes()).and_then(|()| out.flush());
        let told = talk.write_all(self.talk.as_bytes());
        drop((written, told));
        self.code
    }
}

/// JSON for people and programs, with a newline at its end.
pub(super) fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}
