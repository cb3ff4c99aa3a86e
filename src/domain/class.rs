//! What a failure asks for, whichever service it came from.

use jiff::SignedDuration;

/// The one classification of failures (DESIGN, *Fails closed and speaks plainly*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Passing: the same round again, not before `after` where the service said so.
    Retry { after: Option<SignedDuration> },
    /// Somebody else wrote: look again and decide anew.
    Conflict,
    /// Only a changed desire, setting or right helps.
    Permanent,
}
