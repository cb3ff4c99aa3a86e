//! Who paused an entity, read off its maintenance note.

use super::gitlab::Entity;

/// What every maintenance note of a round starts with.
pub const OURS: &str = "forerunner:";
/// What the note of an operator's `pause` starts with.
const ORDERED: &str = "forerunner command:";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PausedBy {
    /// A round, which opens it when the reason is gone.
    Us,
    /// An operator's command: kept until `resume`, whatever `drift.paused` says.
    Operator,
    /// Somebody in GitLab.
    Person,
}

/// `None`: it is not paused.
pub fn paused_by(entity: &Entity) -> Option<PausedBy> {
    let note = entity.maintenance_note.as_deref().unwrap_or_default();
    entity.paused.then(|| match note {
        _ if note.starts_with(OURS) => PausedBy::Us,
        _ if note.starts_with(ORDERED) => PausedBy::Operator,
        _ => PausedBy::Person,
    })
}

/// The note of an operator's pause.
pub fn ordered(cause: &str) -> String {
    format!("{ORDERED} {cause}")
}

/// Whether an operator's pause is over and its note still there: somebody opened the runner in GitLab.
pub fn has_stale_note(entity: &Entity) -> bool {
    let note = entity.maintenance_note.as_deref().unwrap_or_default();
    !entity.paused && note.starts_with(ORDERED)
}
