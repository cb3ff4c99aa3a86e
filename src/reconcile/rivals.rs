//! Runners in GitLab that are not ours and take jobs meant for ours: read in bulk, told, never touched.

use super::{
    Clients, Failure,
    deadline::Deadline,
    inventory::Inventory,
    survey::{self, Survey},
};
use crate::{
    adapters::gitlab,
    domain::{
        fleet::{Fleet, Served},
        fleet_status::{Finding, FindingKind},
        gitlab::OpenRunner,
        ids::TargetId,
        watch::gitlab::{Own, rivals, too_many},
    },
};
use jiff::Timestamp;
use std::collections::BTreeSet;
use tracing::info;

/// Beyond so many tags a list of all runners is cheaper than one for each tag.
const TAGS_MAX: usize = 20;

/// One finding for each rival. Where our token may not read in bulk there is none, and where a read fails there are those of the
/// sweep before.
pub(super) async fn findings(
    clients: &Clients,
    fleet: &Fleet,
    inventory: &Inventory,
    survey: &Survey,
    (now, deadline): (Timestamp, Deadline),
) -> Vec<Finding> {
    let served = &survey::served(inventory, &survey.wanted);
    let (settings, looks) = (fleet.settings(), &inventory.looks);
    let before = || {
        let all = inventory.told.iter().flat_map(|told| &told.findings);
        all.filter(|one| one.kind == FindingKind::ForeignRunner).cloned().collect()
    };
    let pages = settings.sweep_calls.gitlab as usize;
    let Some(open) = deadline.wait(open_runners(clients, served, pages)).await else {
        return before();
    };
    let (open, whole) = match open {
        Ok(_) if inventory.made.iter().any(|key| looks.shows_entity(key).is_none()) => {
            return before();
        }
        Ok(found) => found,
        Err(gitlab::Error::Unreadable { .. } | gitlab::Error::Forbidden { .. }) => return vec![],
        Err(error) => {
            info!("others' runners were not looked at: {}", Failure::from(error).text);
            return before();
        }
    };
    let made = inventory.made.iter().filter(|key| looks.shows_entity(key) == Some(false));
    let doubtful: BTreeSet<TargetId> = made.map(|key| key.target).collect();
    let own =
        Own { fleet: &settings.name, installation: &inventory.installation, doubtful: &doubtful };
    let mut found = rivals(served, &open, &own, now);
    found.extend((!whole).then(|| too_many(pages, now)));
    found
}

/// Those with a tag of ours; all of them where a runner of ours takes jobs without tags, which GitLab has no filter for.
async fn open_runners(
    clients: &Clients,
    served: &[Served<'_>],
    pages: usize,
) -> Result<(Vec<OpenRunner>, bool), gitlab::Error> {
    let tags: BTreeSet<&str> =
        served.iter().flat_map(|one| &one.spec.runner.tags).map(String::as_str).collect();
    let untagged = served.iter().any(|one| one.spec.runner.run_untagged);
    let gitlab = clients.gitlab();
    if untagged || tags.len() > TAGS_MAX {
        return gitlab.open_runners(None, pages).await;
    }
    let (mut all, mut whole) = (Vec::new(), true);
    for tag in tags {
        let (found, is_all) = gitlab.open_runners(Some(tag), pages).await?;
        all.extend(found);
        whole &= is_all;
    }
    Ok((all, whole))
}
