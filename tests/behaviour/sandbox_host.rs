//! The miniature Functions host treats a handler as the real one does: what it sends, what it makes of the answers,
//! and what becomes of messages, timers and callers.

#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

mod delivery;
mod front;
mod life;
mod timers;
mod vectors;
mod world;
