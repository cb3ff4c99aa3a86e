//! Follows units that the functions work on: by what rounds write of them, and by a look of its own where that says enough.

use super::{End, How, nap, say};
use crate::{
    cli::load::AtDesk,
    domain::{
        ids::Unit,
        status::{ConditionKind, RoundRecord, Status},
    },
    reconcile::{Failure, Preview, Selected, Standing},
};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// Where a unit is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Goal {
    AsTheFileSays,
    Gone,
}

/// Between two lists of what is told.
const POLL: SignedDuration = SignedDuration::from_secs(5);
/// A unit of which nothing new is told is looked at all the same, this seldom.
const LOOK: SignedDuration = SignedDuration::from_secs(60);

/// What is known here of one unit.
struct Course {
    /// The newest round that was told.
    told: Timestamp,
    /// When it was last looked at.
    looked_at: Timestamp,
    /// What was told of it then; `None`: no look yet.
    seen: Option<Option<Status>>,
}

/// Whether a unit is worth following any longer.
#[derive(Debug, PartialEq, Eq)]
enum Stand {
    There,
    UnderWay(String),
    /// Nothing more comes of itself, and why.
    Stopped(String),
}

/// Follows until each unit has come to its end or it is `end`; `since`: when they were sent on their way.
pub(super) async fn follow(
    desk: &AtDesk,
    units: &BTreeSet<Unit>,
    goal: Goal,
    since: Timestamp,
    end: Timestamp,
) -> Result<End, Failure> {
    let begins = |unit| (unit, Course { told: since, looked_at: since, seen: None });
    let mut courses: BTreeMap<&Unit, Course> = units.iter().map(begins).collect();
    let mut undone: BTreeMap<Unit, String> = BTreeMap::new();
    let mut failures = Vec::new();
    while !courses.is_empty() {
        let statuses = desk.view.statuses().await?;
        let told: BTreeMap<&Unit, &Status> =
            statuses.iter().map(|status| (&status.unit, status)).collect();
        for (unit, course) in &mut courses {
            let rounds = told.get(*unit).map_or(&[][..], |status| status.rounds.as_slice());
            for round in news(rounds, course.told) {
                round.did.iter().for_each(|line| say(&format!("{unit}  {line}")));
                course.told = round.at;
            }
        }
        let now = desk.view.now();
        let due: BTreeSet<Unit> = courses
            .iter()
            .filter(|(unit, course)| course.is_worth_a_look(goal, told.get(**unit).copied(), now))
            .map(|(unit, _)| (*unit).clone())
            .collect();
        for preview in look(desk, &due).await {
            let status = told.get(&preview.unit).copied();
            match stand(goal, &preview, status, since, now) {
                Stand::There => {
                    courses.remove(&preview.unit);
                    undone.remove(&preview.unit);
                }
                Stand::UnderWay(why) => {
                    if let Some(course) = courses.get_mut(&preview.unit) {
                        (course.looked_at, course.seen) = (now, Some(status.cloned()));
                    }
                    undone.insert(preview.unit, why);
                }
                Stand::Stopped(why) => {
                    courses.remove(&preview.unit);
                    undone.insert(preview.unit, why);
                }
            }
        }
        let now = desk.view.now();
        if courses.is_empty() {
            break;
        }
        if now >= end {
            failures.push(How::stopped(now.duration_since(since)));
            for unit in courses.into_keys() {
                let silent = || "no round of it has ended yet; do the functions run?".to_owned();
                undone.entry(unit.clone()).or_insert_with(silent);
            }
            break;
        }
        let next = now.saturating_add(POLL).unwrap_or(end).min(end);
        while desk.view.now() < next {
            nap(next.duration_since(desk.view.now())).await;
        }
    }
    Ok(End { failures, undone })
}

async fn look(desk: &AtDesk, units: &BTreeSet<Unit>) -> Vec<Preview> {
    if units.is_empty() {
        return vec![];
    }
    desk.view.preview(&Selected::of(units.clone()), |_| {}, crate::cli::plan::sleep).await
}

/// Rounds that nobody was told of yet, oldest first.
fn news(rounds: &[RoundRecord], told: Timestamp) -> impl Iterator<Item = &RoundRecord> {
    rounds.iter().rev().filter(move |round| round.at > told)
}

impl Course {
    /// A look costs a round's reads, so it waits until what is told may be the end of it, or for a while.
    fn is_worth_a_look(&self, goal: Goal, told: Option<&Status>, now: Timestamp) -> bool {
        let is_new = self.seen.as_ref().map(Option::as_ref) != Some(told);
        let may_be_over = told.is_none_or(|status| {
            status.parked.is_some() || (goal == Goal::AsTheFileSays && is_ready(status))
        });
        (is_new && may_be_over) || now.duration_since(self.looked_at) >= LOOK
    }
}

/// What a look and what is told say together.
fn stand(
    goal: Goal,
    preview: &Preview,
    told: Option<&Status>,
    since: Timestamp,
    now: Timestamp,
) -> Stand {
    let is_there = match goal {
        // The round that says so may be still to come.
        Goal::AsTheFileSays => preview.is_as_it_should_be() && told.is_none_or(is_ready),
        Goal::Gone => false,
    };
    let is_gone = told.is_none()
        && preview.changes.is_empty()
        && matches!(preview.standing, Standing::Settled | Standing::Kept);
    if is_there || is_gone {
        return Stand::There;
    }
    // What parked it may be what this was to release: only a round since then counts.
    let newest = told.and_then(|status| status.rounds.first()).filter(|round| round.at >= since);
    let parked = told.and_then(|status| status.parked.as_ref());
    if let (Some(parked), Some(_)) = (parked, newest) {
        return Stand::Stopped(format!("parked: {}", parked.reason));
    }
    if preview.observing {
        return Stand::Stopped("its mode is `observe`: nothing is carried out".to_owned());
    }
    if let Some(until) = preview.frozen_until {
        return Stand::Stopped(format!("a freeze holds it until {until}"));
    }
    // Those who were asked may be only about to give the permit that it waits for.
    let stopped = |why: String| match now.duration_since(since) < LOOK {
        true => Stand::UnderWay(why),
        false => Stand::Stopped(why),
    };
    match &preview.standing {
        Standing::Blocked { reason } => stopped(reason.clone()),
        Standing::Unread { reason } => Stand::UnderWay(format!("could not be read: {reason}")),
        Standing::Waits { .. } | Standing::Kept | Standing::Settled
            if !preview.changes.is_empty() =>
        {
            let left = format!("{} change(s) are still to be made", preview.changes.len());
            Stand::UnderWay(
                hindrance(preview, newest).map_or(left.clone(), |why| format!("{left}: {why}")),
            )
        }
        Standing::Waits { what, .. } => Stand::UnderWay(format!("waits for {what}")),
        Standing::Kept => stopped(words(preview)),
        Standing::Settled => Stand::UnderWay("its last round is still to come".to_owned()),
    }
}

fn is_ready(status: &Status) -> bool {
    status.condition(ConditionKind::Ready).is_some_and(|ready| ready.status)
}

/// What stands in the way of changes: an administrator's step, or what the last round failed of.
fn hindrance(preview: &Preview, newest: Option<&RoundRecord>) -> Option<String> {
    let failure = newest.and_then(|round| round.failure.clone());
    preview.needs_administrator().map(|said| said.message.clone()).or(failure)
}

/// Why it is not ready.
fn words(preview: &Preview) -> String {
    let ready = preview.conditions.iter().find(|said| said.kind == ConditionKind::Ready);
    ready.map_or_else(|| "it is kept as it is".to_owned(), |said| said.message.clone())
}
