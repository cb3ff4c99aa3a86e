//! Known targets that are in no list: a list may skip one, and projects are listed only where a rule is for projects.

use super::{
    Clients, bulk,
    deadline::Deadline,
    inventory::target_of,
    target::{self, TargetRead},
};
use crate::domain::ids::{TargetId, Unit};
use futures::{StreamExt, stream};
use std::collections::{BTreeMap, BTreeSet};

/// How many of them are read at once.
const AT_ONCE: usize = 25;

/// What became of known targets that were in no list.
#[derive(Default)]
pub(super) struct Unlisted {
    pub(super) read: Vec<(TargetId, TargetRead)>,
    /// As in `Inventory::unread`.
    pub(super) unread: BTreeMap<TargetId, Option<String>>,
    /// Why the rest of them was not asked.
    pub(super) ended: Option<String>,
}

impl Unlisted {
    pub(super) fn join(&mut self, other: Self) {
        self.read.extend(other.read);
        self.unread.extend(other.unread);
        self.ended = self.ended.take().or(other.ended);
    }
}

/// Reads each by its id, as long as GitLab lets us. One that cannot be read hides no other.
pub(super) async fn read(
    clients: &Clients,
    known: &BTreeSet<Unit>,
    listed: &BTreeMap<TargetId, TargetRead>,
    deadline: Deadline,
) -> Unlisted {
    let targets: BTreeSet<TargetId> = known.iter().filter_map(target_of).collect();
    let absent = targets.into_iter().filter(|target| !listed.contains_key(target));
    let absent: Vec<TargetId> = absent.collect();
    let read = absent.clone().into_iter().map(|target| target::read(clients, target));
    let mut answers = stream::iter(read).buffered(AT_ONCE);
    let mut found = Unlisted::default();
    // Answers come in order.
    for (at, target) in absent.iter().enumerate() {
        let ended = match deadline.wait(answers.next()).await {
            Some(Some(Ok(read))) => {
                found.read.extend(read.map(|read| (*target, read)));
                continue;
            }
            Some(Some(Err(failure))) if !bulk::ends_slice(&failure) => {
                found.unread.insert(*target, Some(failure.text));
                continue;
            }
            Some(Some(Err(failure))) => failure,
            Some(None) | None => deadline.late("targets that were in no list"),
        };
        found.unread.extend(absent[at..].iter().map(|target| (*target, None)));
        found.ended = Some(ended.text);
        break;
    }
    found
}
