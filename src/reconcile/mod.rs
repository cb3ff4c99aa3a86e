//! One round: from the first read to the last write.

mod act;
mod clients;
mod command;
mod conclude;
mod desire;
mod failure;
mod foreign;
mod inventory;
mod keep_token;
mod leaving;
mod ledger;
mod looks;
mod observe;
mod outbox;
mod permits;
mod prepare;
mod preview;
mod round;
mod status_store;
mod survey;
mod sweep;
mod target;
mod tree;
mod view;

pub use clients::{Clients, GitlabTrust};
pub use failure::Failure;
pub use foreign::Foreign;
pub use outbox::{Here, Outbox, letter};
pub use preview::{Action, Change, FieldChange, Preview, Said, Standing};
pub use round::{Outcome, Rounds};
pub use view::{Candidate, Explained, Had, JobExplained, NotASelector, Selected, Selector, View};
