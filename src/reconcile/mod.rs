//! One round: from the first read to the last write.

mod act;
mod adopt;
mod anchors;
mod bulk;
mod clients;
mod command;
mod conclude;
mod deadline;
mod desire;
mod entities;
mod failure;
mod fleet_status;
mod foreign;
mod gone;
mod inventory;
mod keep_token;
mod leaving;
mod ledger;
mod lent;
mod looks;
mod observe;
mod ordered;
mod outbox;
mod permits;
mod prepare;
mod preview;
mod rivals;
mod round;
mod status_store;
mod survey;
mod sweep;
mod target;
mod tell;
mod tree;
mod unlisted;
mod view;
mod watch;

pub use adopt::{Adoption, Orphan};
pub use clients::{Clients, GitlabTrust};
pub use deadline::SWEEP_READS;
pub use failure::Failure;
pub use fleet_status::Told;
pub use foreign::Foreign;
pub use outbox::{Here, Outbox, letter};
pub use preview::{Action, Change, FieldChange, Preview, Said, Standing};
pub use round::{Outcome, Rounds};
pub use view::{
    AccessReport, Answerable, Candidate, Explained, Giver, Had, IdentityAccess, IdentityKind,
    JobExplained, Meant, Reach, Right, RightStanding, Selected, View,
};
