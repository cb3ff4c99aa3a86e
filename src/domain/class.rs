//! What a failure asks for, whichever service it came from.

use jiff::SignedDuration;

/// The one classification of failures (DESIGN, *Fails closed and speaks plainly*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// No failure: the service has taken it and is not done. Look again, not before `after`.
    Wait { after: SignedDuration },
    /// Passing: the same round again, not before `after` where the service said so.
    Retry { after: Option<SignedDuration> },
    /// Somebody else wrote: look again and decide anew.
    Conflict,
    /// Only a changed desire, setting or right helps.
    Permanent,
}
