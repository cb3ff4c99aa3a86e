//! Runners in GitLab that are not ours and take jobs meant for ours: read in bulk, told, never touched.

use super::{
    Clients, Failure, anchors,
    deadline::Deadline,
    inventory::Inventory,
    survey::{self, Survey},
};
use crate::{
    adapters::gitlab::{self, Where},
    domain::{
        fleet::{Fleet, Served},
        fleet_status::{Finding, FindingKind},
        gitlab::OpenRunner,
        ids::{GroupId, TargetId},
        watch::gitlab::{Own, OwnOpen, rivals, too_many},
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
    let calls = settings.sweep_calls.gitlab as usize;
    let open = open_runners(clients, fleet, inventory, served, calls);
    let Some(open) = deadline.wait(open).await else {
        return before();
    };
    let Seen { runners, whole } = match open {
        Ok(Some(seen)) => seen,
        Ok(None) => return vec![],
        Err(failure) => {
            info!("others' runners were not looked at: {}", failure.text);
            return before();
        }
    };
    let made = &inventory.made;
    if !made.is_empty() && made.iter().all(|key| looks.shows_entity(key).is_none()) {
        return before();
    }
    let doubtful = made.iter().filter(|key| looks.shows_entity(key) != Some(true));
    let doubtful: BTreeSet<TargetId> = doubtful.map(|key| key.target).collect();
    let own =
        Own { fleet: &settings.name, installation: &inventory.installation, doubtful: &doubtful };
    let mut found = rivals(served, &runners, &own, now);
    found.extend((!whole).then(|| too_many(calls, now)));
    found
}

/// Open runners, whoever's they are, and whether these are all of them.
struct Seen {
    runners: Vec<OpenRunner>,
    whole: bool,
}

/// Those that might take a job of ours: everywhere at once where our token may, else around each anchor, where ours are. `None`: it
/// may do neither, or was shown nothing at all, which is no better: even our own would show.
async fn open_runners(
    clients: &Clients,
    fleet: &Fleet,
    inventory: &Inventory,
    served: &[Served<'_>],
    calls: usize,
) -> Result<Option<Seen>, Failure> {
    if served.is_empty() {
        return Ok(None);
    }
    let mut left = calls;
    let all: Vec<&Served<'_>> = served.iter().collect();
    let own = |place: Option<GroupId>| inventory.watched.open.get(&place);
    if let Some(seen) = read(clients, Where::Everywhere, &all, (own(None), &mut left)).await? {
        return Ok(Some(seen));
    }
    let mut seen: Option<Seen> = None;
    for anchor in anchors::top_listed(fleet, &inventory.targets) {
        let below = served.iter().filter(|one| anchors::holds(anchor.id, one.facts));
        let below: Vec<&Served<'_>> = below.collect();
        if below.is_empty() {
            continue;
        }
        for place in [Where::Around(&anchor), Where::Below(&anchor)] {
            let found = read(clients, place, &below, (own(Some(anchor.id)), &mut left)).await?;
            let Some(found) = found else { continue };
            let all = seen.get_or_insert(Seen { runners: vec![], whole: true });
            all.runners.extend(found.runners);
            all.whole &= found.whole;
            break;
        }
    }
    Ok(seen)
}

/// Those there with a tag of these runners; all of them where one of these takes jobs without tags, which GitLab has no filter for.
/// Where there are as many as `own` are ours, none is another's, and nothing is listed. Each list has the calls that are left, and at
/// least one.
async fn read(
    clients: &Clients,
    place: Where<'_>,
    served: &[&Served<'_>],
    (own, left): (Option<&OwnOpen>, &mut usize),
) -> Result<Option<Seen>, Failure> {
    let runners = served.iter().map(|one| &one.spec.runner);
    let tags: BTreeSet<&str> =
        runners.clone().flat_map(|one| &one.tags).map(String::as_str).collect();
    let untagged = runners.clone().any(|one| one.run_untagged);
    let lists: Vec<Option<&str>> = match untagged || tags.len() > TAGS_MAX {
        true => vec![None],
        false => tags.into_iter().map(Some).collect(),
    };
    let gitlab = clients.gitlab();
    let (mut seen, mut shown) = (Seen { runners: vec![], whole: true }, 0);
    for tag in lists {
        let Some(count) = unless_refused(gitlab.count_open(place, tag).await)? else {
            return Ok(None);
        };
        *left = left.saturating_sub(1);
        if own.is_some_and(|own| own.with(tag) == count) {
            shown += count;
            continue;
        }
        let listed = gitlab.open_runners(place, tag, (*left).max(1)).await;
        let Some(open) = unless_refused(listed)? else { return Ok(None) };
        *left = left.saturating_sub(open.calls);
        shown += open.runners.len();
        seen.runners.extend(open.runners);
        seen.whole &= open.whole;
    }
    Ok((shown > 0 || !seen.whole).then_some(seen))
}

fn unless_refused<T>(read: Result<T, gitlab::Error>) -> Result<Option<T>, Failure> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(gitlab::Error::Unreadable { .. } | gitlab::Error::Forbidden { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
