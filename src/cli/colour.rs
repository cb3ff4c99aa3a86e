//! Whether to paint what a person reads.

use crate::config;
use std::io::IsTerminal;

/// On a terminal, unless its owner set `NO_COLOR` (<https://no-color.org>).
pub(super) fn wanted(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && !config::colour_is_refused()
}
