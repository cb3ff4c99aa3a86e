//! Follows units that the functions work on: by what rounds write of them, and by a look of its own where that says enough.

use super::{End, Whose, nap, say};
use crate::{
    cli::{load::AtDesk, plan::sleep},
    domain::{
        class::Class,
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
    let begins = |unit: &Unit| (unit.clone(), Course { told: since, looked_at: since, seen: None });
    let courses = units.iter().map(begins).collect();
    let mut followed = Followed { goal, since, courses, undone: BTreeMap::new() };
    loop {
        match desk.view.statuses().await {
            Ok(statuses) => followed.look(desk, &statuses).await,
            // Nobody's work stops because this desk cannot see it for a while.
            Err(failure) if failure.class == Class::Permanent => return Err(failure),
            Err(failure) => say(&format!("what is told cannot be read: {}", failure.text)),
        }
        if followed.courses.is_empty() {
            return Ok(End { failures: vec![], undone: followed.undone });
        }
        let now = desk.view.now();
        if now >= end {
            let failures = vec![Whose::stopped(now.duration_since(since))];
            return Ok(End { failures, undone: followed.given_up() });
        }
        let next = now.saturating_add(POLL).unwrap_or(end).min(end);
        while desk.view.now() < next {
            nap(next.duration_since(desk.view.now())).await;
        }
    }
}

/// The units that are still followed, and what is known of all that are not where they should be.
struct Followed {
    goal: Goal,
    since: Timestamp,
    courses: BTreeMap<Unit, Course>,
    undone: BTreeMap<Unit, String>,
}

impl Followed {
    /// Tells what rounds have done since the last time, and looks at the units that may have come to an end.
    async fn look(&mut self, desk: &AtDesk, statuses: &[Status]) {
        let told: BTreeMap<&Unit, &Status> =
            statuses.iter().map(|status| (&status.unit, status)).collect();
        for (unit, course) in &mut self.courses {
            let rounds = told.get(unit).map_or(&[][..], |status| status.rounds.as_slice());
            for round in news(rounds, course.told) {
                round.did.iter().for_each(|line| say(&format!("{unit}  {line}")));
                course.told = round.at;
            }
        }
        let now = desk.view.now();
        let due = self.courses.iter().filter(|(unit, course)| {
            course.is_worth_a_look(self.goal, told.get(*unit).copied(), now)
        });
        let due: BTreeSet<Unit> = due.map(|(unit, _)| unit.clone()).collect();
        if due.is_empty() {
            return;
        }
        let selected = Selected::of(due);
        for preview in desk.view.preview(&selected, |_| {}, sleep).await {
            let status = told.get(&preview.unit).copied();
            match stand(self.goal, &preview, status, self.since, now) {
                Stand::There => {
                    self.courses.remove(&preview.unit);
                    self.undone.remove(&preview.unit);
                }
                Stand::UnderWay(why) => {
                    if let Some(course) = self.courses.get_mut(&preview.unit) {
                        (course.looked_at, course.seen) = (now, Some(status.cloned()));
                    }
                    self.undone.insert(preview.unit, why);
                }
                Stand::Stopped(why) => {
                    self.courses.remove(&preview.unit);
                    self.undone.insert(preview.unit, why);
                }
            }
        }
    }

    /// With those that are still on their way.
    fn given_up(self) -> BTreeMap<Unit, String> {
        let mut undone = self.undone;
        for unit in self.courses.into_keys() {
            let silent = || "no round of it has ended yet; do the functions run?".to_owned();
            undone.entry(unit).or_insert_with(silent);
        }
        undone
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::status::Finding;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + seconds).unwrap()
    }

    fn unit() -> Unit {
        "runner/g42-plan".parse().unwrap()
    }

    fn preview(standing: Standing) -> Preview {
        Preview { standing, ..Preview::unread(unit(), String::new()) }
    }

    fn told(ready: bool) -> Status {
        let finding = match ready {
            true => Finding::holds(ConditionKind::Ready, "Settled", "as fleet.yaml says"),
            false => Finding::fails(ConditionKind::Ready, "Progressing", "on its way"),
        };
        Status::new(unit()).with(&[finding], at(0))
    }

    fn round(seconds: i64) -> RoundRecord {
        RoundRecord { at: at(seconds), cause: "x".into(), did: vec![], failure: None, took: None }
    }

    fn stands(goal: Goal, standing: Standing, told: Option<&Status>, now: i64) -> Stand {
        stand(goal, &preview(standing), told, at(0), at(now))
    }

    #[test]
    fn only_what_is_and_is_told_to_be_so_is_there() {
        let settled = || Standing::Settled;
        assert_eq!(stands(Goal::AsTheFileSays, settled(), Some(&told(true)), 5), Stand::There);
        let behind = stands(Goal::AsTheFileSays, settled(), Some(&told(false)), 5);
        assert!(matches!(behind, Stand::UnderWay(_)), "{behind:?}");
        assert_eq!(stands(Goal::Gone, Standing::Kept, None, 5), Stand::There);
        let still = stands(Goal::Gone, settled(), Some(&told(true)), 5);
        assert!(matches!(still, Stand::UnderWay(_)), "{still:?}");
    }

    #[test]
    fn what_held_it_before_may_be_what_this_releases() {
        let blocked = || Standing::Blocked { reason: "its token is lost".into() };
        let soon = stands(Goal::AsTheFileSays, blocked(), Some(&told(false)), 5);
        assert!(matches!(soon, Stand::UnderWay(_)), "{soon:?}");
        let later = stands(Goal::AsTheFileSays, blocked(), Some(&told(false)), 61);
        assert_eq!(later, Stand::Stopped("its token is lost".into()));
        let parked = told(false).park("no right", "sha256:1", at(-600));
        let waits = || Standing::Waits { what: "Azure".into(), after: 15 };
        let old = parked.clone().with_round(round(-600));
        let before = stands(Goal::AsTheFileSays, waits(), Some(&old), 5);
        assert!(matches!(before, Stand::UnderWay(_)), "{before:?}");
        let again = parked.with_round(round(4));
        assert_eq!(
            stands(Goal::AsTheFileSays, waits(), Some(&again), 5),
            Stand::Stopped("parked: no right".into())
        );
    }

    #[test]
    fn a_look_waits_for_what_may_be_the_end_or_for_a_minute() {
        let course = |seen| Course { told: at(0), looked_at: at(0), seen };
        let worth = |course: &Course, told: Option<&Status>, now| {
            course.is_worth_a_look(Goal::AsTheFileSays, told, at(now))
        };
        let (under_way, ready) = (told(false), told(true));
        assert!(!worth(&course(None), Some(&under_way), 5));
        assert!(worth(&course(None), Some(&under_way), 60));
        assert!(worth(&course(None), Some(&ready), 5) && worth(&course(None), None, 5));
        assert!(!worth(&course(Some(Some(ready.clone()))), Some(&ready), 5), "nothing is new");
    }
}
