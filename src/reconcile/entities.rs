//! What GitLab shows a sweep of our runners: in bulk, as far as our token may read so; what no such list shows by its target.

use super::{
    Clients, Failure, anchors,
    bulk::{Sliced, ends_slice},
    deadline::Deadline,
    target::TargetRead,
};
use crate::{
    adapters::gitlab::{self, Where},
    domain::{
        claim::{self, Claim},
        fleet::Fleet,
        gitlab::{Entity, EntityKind, Manager},
        ids::{FleetName, GroupId, InstallationId, RunnerId, RunnerKey, TargetId},
        ledger::Book,
        marker::Marker,
        plan::runner::Polls,
        sight::{self, Digest, Marks},
        slice::{self, Slice},
        watch::gitlab::{Misplaced, OwnOpen, Whose},
    },
};
use futures::future::try_join_all;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Entities by the runners that they are of.
#[derive(Debug, Default)]
pub(super) struct Entities {
    pub(super) looks: BTreeMap<RunnerKey, Option<Digest>>,
    /// Those whose polls a round has to look at.
    pub(super) odd: BTreeSet<RunnerKey>,
    /// Runners without a manager that an entity of ours is of.
    pub(super) left: BTreeSet<RunnerKey>,
    /// Entities with a marker of this installation that do not belong, or not alone, to its target.
    pub(super) misplaced: Vec<Misplaced>,
    /// How many take jobs: of all that there are, or of those below each anchor, as they were listed.
    pub(super) open: BTreeMap<Option<GroupId>, OwnOpen>,
}

/// An entity, with who polled with its tokens.
type Polled = (Entity, Vec<Manager>);

/// Whose entities are looked for.
#[derive(Clone, Copy)]
pub(super) struct Sought<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) installation: &'a InstallationId,
    /// The runners that have a manager.
    pub(super) made: &'a BTreeSet<RunnerKey>,
    /// The targets that this sweep has listed.
    pub(super) listed: &'a BTreeMap<TargetId, TargetRead>,
    /// Whose tokens were replaced.
    pub(super) book: &'a Book,
}

/// The entities of every runner that was made: everywhere at once where our token may, else below the anchors. Those that no such
/// list shows, such as all of them where it may do neither, by the lists of their targets.
///
/// A list below an anchor proves what it shows and nothing else. Neither does a list without any row, for who may not read might
/// get one.
pub(super) async fn entities(
    clients: &Clients,
    sought: Sought<'_>,
    (before, deadline): (Option<&Slice>, Deadline),
) -> Result<Sliced<Entities>, Failure> {
    let lists = deadline.hold("GitLab's runners", in_bulk(clients, sought));
    let (mut seen, is_whole) = lists.await?;
    if is_whole {
        return Ok(Sliced { seen, next: None, unseen: vec![] });
    }
    seen.looks.retain(|_, look| look.is_some());
    let rest = sought.made.iter().filter(|key| !seen.looks.contains_key(key));
    let rest: Vec<&RunnerKey> = rest.collect();
    let by_target = one_by_one(clients, sought, &rest, (before, deadline)).await;
    let Sliced { seen: more, next, unseen } = match by_target {
        Ok(found) => found,
        Err(failure) if seen.looks.is_empty() => return Err(failure),
        // What the lists showed stays seen.
        Err(failure) => {
            Sliced { seen: Entities::default(), next: before.cloned(), unseen: vec![failure.text] }
        }
    };
    seen.looks.extend(more.looks);
    seen.odd.extend(more.odd);
    Ok(Sliced { seen, next, unseen })
}

/// What bulk reads show, and whether that is everything.
async fn in_bulk(clients: &Clients, sought: Sought<'_>) -> Result<(Entities, bool), Failure> {
    let now = clients.now();
    let mut everywhere = Reading::new(sought, sought.made.iter(), now);
    let rows = read(clients, Where::Everywhere, &mut everywhere).await?;
    if rows.is_some_and(|rows| rows > 0 || sought.made.is_empty()) {
        return Ok((everywhere.end(), true));
    }
    let mut below = Reading::new(sought, sought.made.iter(), now);
    for anchor in anchors::top(clients, sought.fleet, sought.listed).await? {
        read(clients, Where::Below(&anchor), &mut below).await?;
    }
    Ok((below.end(), false))
}

/// Reads all entities there that bear a marker of the fleet, of whatever type: what was left behind has no manager any more, and maybe
/// no rule. Answers how many; `None`: our token may not read there, which proves nothing.
async fn read(
    clients: &Clients,
    place: Where<'_>,
    reading: &mut Reading<'_>,
) -> Result<Option<usize>, Failure> {
    let fleet = reading.sought.fleet;
    let search = format!("[forerunner:{}:", fleet.settings().name);
    let (mut rows, mut open) = (0, OwnOpen::default());
    let take = |entity: Entity, managers: Vec<Manager>| {
        // Whatever lies below a group has an owner: one that shows none hides it.
        if matches!(place, Where::Below(_)) && entity.owners.is_empty() {
            return;
        }
        rows += 1;
        open.take(&entity, &fleet.settings().name, reading.sought.installation);
        reading.take_any(&(entity, managers));
    };
    match clients.gitlab().fold_runners(place, &search, take).await {
        Ok(()) => {
            reading.seen.open.insert(place.group(), open);
            Ok(Some(rows))
        }
        Err(gitlab::Error::Unreadable { .. } | gitlab::Error::Forbidden { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Entities as they are read, of which only digests are held.
struct Reading<'a> {
    sought: Sought<'a>,
    now: Timestamp,
    /// One that has no entity looks like nothing.
    marks: BTreeMap<&'a RunnerKey, Marks>,
    seen: Entities,
}

impl<'a> Reading<'a> {
    fn new(sought: Sought<'a>, keys: impl Iterator<Item = &'a RunnerKey>, now: Timestamp) -> Self {
        let marks = keys.map(|key| (key, Marks::default())).collect();
        Self { sought, now, marks, seen: Entities::default() }
    }

    /// Takes in what is one of these runners'.
    fn take(&mut self, (entity, managers): &Polled) {
        let Sought { fleet, installation, book, .. } = self.sought;
        let Some(key) = sight::whose(entity, &fleet.settings().name) else { return };
        let Some(marks) = self.marks.get_mut(&key) else {
            let name = &fleet.settings().name;
            if matches!(claim::judge(entity, name, &key, installation), Some(Claim::Ours { .. })) {
                self.seen.left.insert(key);
            }
            return;
        };
        marks.entity(entity);
        let polls = Polls { key: &key, installation, managers };
        let floor = fleet.profile(&key.profile).and_then(|profile| profile.version_floor);
        let is_odd = !entity.paused && !polls.has_own(self.now)
            || !polls.strangers(book, self.now).is_empty()
            || floor.is_some_and(|floor| polls.older_than(floor).is_some());
        if is_odd {
            self.seen.odd.insert(key);
        }
    }

    /// The same, and what is nobody's.
    fn take_any(&mut self, polled: &Polled) {
        self.take(polled);
        let Sought { fleet, installation, made, .. } = self.sought;
        let misplaced = misplaced(&polled.0, &fleet.settings().name, installation, made);
        self.seen.misplaced.extend(misplaced);
    }

    fn end(self) -> Entities {
        let looks = self.marks.into_iter().map(|(key, marks)| (key.clone(), marks.digest()));
        Entities { looks: looks.collect(), ..self.seen }
    }
}

fn misplaced(
    entity: &Entity,
    fleet: &FleetName,
    installation: &InstallationId,
    made: &BTreeSet<RunnerKey>,
) -> Option<Misplaced> {
    let Marker { key, .. } = Marker::find(&entity.description)
        .filter(|marker| marker.fleet == *fleet && marker.installation == *installation)?;
    let is_kind = entity.kind == EntityKind::of(key.target);
    let whose = match entity.owners.as_slice() {
        // An orphan of a unit that is still there goes with it, or is told by its round.
        [] if is_kind && made.contains(&key) => return None,
        [] if is_kind => Whose::Nobody,
        owners if is_kind && owners.contains(&key.target) => Whose::Shared,
        _ => Whose::Others,
    };
    let is_there = claim::belongs_to(entity, key.target);
    (!is_there).then_some(Misplaced { runner: entity.id, key, whose })
}

/// A slice of the runners' targets, as far as the budget reaches; at least one.
async fn one_by_one(
    clients: &Clients,
    sought: Sought<'_>,
    keys: &[&RunnerKey],
    (before, deadline): (Option<&Slice>, Deadline),
) -> Result<Sliced<Entities>, Failure> {
    let now = clients.now();
    let mut runners: BTreeMap<String, Vec<&RunnerKey>> = BTreeMap::new();
    for key in keys {
        runners.entry(key.target.to_string()).or_default().push(key);
    }
    let targets: Vec<String> = runners.keys().cloned().collect();
    let most = sought.fleet.settings().sweep_calls.gitlab as usize;
    let (mut seen, mut looked, mut calls) = (Entities::default(), 0, 0);
    let mut unseen = Vec::new();
    for target in slice::due(before, &targets) {
        if calls >= most {
            break;
        }
        let keys = runners.get(target).map_or(&[][..], Vec::as_slice);
        // Where the time ends, the next sweep goes on.
        let read = deadline.wait(entities_of_one(clients, sought.fleet, keys));
        let Some(read) = read.await else { break };
        looked += 1;
        calls += 1;
        let (entities, more) = match read {
            Ok(Some(read)) => read,
            Ok(None) => continue,
            Err(failure) if ends_slice(&failure) => return Err(failure),
            Err(failure) => {
                unseen.push(failure.text);
                continue;
            }
        };
        calls += more;
        let mut found = Reading::new(sought, keys.iter().copied(), now);
        entities.iter().for_each(|one| found.take(one));
        let found = found.end();
        seen.looks.extend(found.looks);
        seen.odd.extend(found.odd);
    }
    if looked > 1 && unseen.len() == looked {
        return Err(Failure::retry(unseen.swap_remove(0)));
    }
    let next = slice::next(before, &targets, looked, now);
    Ok(Sliced { seen, next, unseen })
}

/// The entities of one target's runners, and how many calls they took beside the list. `None`: it is gone or hidden, which is the
/// round's to judge.
async fn entities_of_one(
    clients: &Clients,
    fleet: &Fleet,
    keys: &[&RunnerKey],
) -> Result<Option<(Vec<Polled>, usize)>, Failure> {
    let (gitlab, name) = (clients.gitlab(), &fleet.settings().name);
    let Some(first) = keys.first() else { return Ok(None) };
    let listed = match gitlab.runners_of(first.target).await {
        Ok(listed) => listed,
        Err(gitlab::Error::NotFound { .. } | gitlab::Error::Forbidden { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let ours =
        listed.iter().filter(|one| keys.iter().any(|key| claim::concerns(one, name, key, &[])));
    let ours: Vec<RunnerId> = ours.map(|one| one.id).collect();
    let calls = 2 * ours.len();
    let read = ours.into_iter().map(|id| async move {
        let entity = gitlab.entity(id).await?;
        let managers = if entity.is_some() { gitlab.managers(id).await? } else { vec![] };
        Ok::<_, gitlab::Error>(entity.map(|entity| (entity, managers)))
    });
    let read = try_join_all(read).await?;
    Ok(Some((read.into_iter().flatten().collect(), calls)))
}
