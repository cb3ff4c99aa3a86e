//! What was created and permitted in the last 24 hours: one small ConfigMap, written before the act.
//!
//! Whether a permit lets a unit be taken away is [`super::gate`]'s to say.

use super::ids::{RunnerId, Unit};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The ledger as read, with the version it was read at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// `None`: there was none. Then it is made anew and gives no permit for 24 hours.
    pub resource_version: Option<String>,
    pub book: Book,
}

/// The ledger's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// When this book was begun; permits need one that is older than a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    #[serde(default)]
    pub creations: Vec<Creation>,
    /// At most one a unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub permits: Vec<Permit>,
    /// Units that an operator wants left alone, at most one entry a unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Held>,
    /// Managers that a change is rolling, at most one entry a unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rollouts: Vec<Rollout>,
    /// Entities that an operator let go.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partings: Vec<Parting>,
    /// Units whose token an operator revoked, until they have another; at most one entry a unit.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revocations: Vec<Revocation>,
}

/// A unit whose token is to be worthless, whoever holds it: written down until another one is kept, and for a day after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    pub unit: Unit,
    pub at: Timestamp,
    /// When the other token was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<Timestamp>,
}

/// An entity that may lose its token, or go, though somebody polls with it: an operator looked at it and said so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Parting {
    pub unit: Unit,
    pub runner: RunnerId,
    pub at: Timestamp,
}

/// A manager that a change rolls, until it polls again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    pub unit: Unit,
    pub since: Timestamp,
    /// Why it does not come back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// Whether a unit's manager may roll now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It has a place already.
    Has,
    Free,
    /// As many roll as may.
    Full,
    /// One that rolled did not come back.
    Stopped(Rollout),
}

/// A unit to which nothing is written until then, because an operator said so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub unit: Unit,
    pub until: Timestamp,
    /// As claimed.
    pub by: String,
    pub reason: String,
}

/// A unit that may be taken away: given by a sweep that saw the whole fleet, or by an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit {
    pub unit: Unit,
    pub why: Leave,
    pub at: Timestamp,
    /// An operator looked at it and said so, past the brake.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub confirmed: bool,
}

impl Permit {
    /// Whether an operator gave it for what holds of the unit now: an order whatever that is, else for the very reason.
    pub fn is_said(&self, why: Option<Leave>) -> bool {
        self.why == Leave::Command || (self.confirmed && Some(self.why) == why)
    }
}

/// Why a unit leaves for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Leave {
    /// No rule gives it any more.
    Unmatched,
    /// `fleet.yaml` withdraws its target.
    Withdrawn,
    /// Its target is destroyed.
    Gone,
    /// What the guardrails allow no more of what it may do; the unit itself stays.
    Outside,
    /// An operator asked for it.
    Command,
}

impl Leave {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unmatched => "no rule gives it any more",
            Self::Withdrawn => "its target is withdrawn",
            Self::Gone => "its target is destroyed",
            Self::Outside => "rights of it lie outside the guardrails",
            Self::Command => "an operator asked for its removal",
        }
    }
}

/// One runner entity that a round set out to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Creation {
    pub unit: Unit,
    pub generation: u32,
    pub at: Timestamp,
}

/// How long an entry counts.
pub const KEPT: SignedDuration = SignedDuration::from_hours(24);
const HOUR: SignedDuration = SignedDuration::from_hours(1);

impl Book {
    /// Whether a round of the last hour has already booked this creation: a dead round's booking serves its successor.
    pub fn has(&self, unit: &Unit, generation: u32, now: Timestamp) -> bool {
        self.recent(now).any(|made| made.unit == *unit && made.generation == generation)
    }

    /// Whether one more creation keeps to `per_hour`.
    pub fn has_room(&self, per_hour: u32, now: Timestamp) -> bool {
        self.recent(now).count() < per_hour as usize
    }

    /// Whether `unit` would be one of at most `runners_max`, where `made` have a manager. What the last hour booked
    /// counts too: it may be on its way to one.
    pub fn has_place(
        &self,
        unit: &Unit,
        runners_max: u32,
        made: &BTreeSet<Unit>,
        now: Timestamp,
    ) -> bool {
        let booked = self.recent(now).map(|made| &made.unit);
        let others: BTreeSet<&Unit> =
            made.iter().chain(booked).filter(|one| *one != unit).collect();
        others.len() < runners_max as usize
    }

    /// The book with this creation in it and without what is older than a day.
    pub fn with(&self, unit: &Unit, generation: u32, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.since = next.since.or(Some(now));
        next.forget(now);
        next.creations.push(Creation { unit: unit.clone(), generation, at: now });
        next
    }

    /// The book with a permit for each of these units; one that is there already is renewed.
    pub fn permitting(&self, units: &BTreeMap<Unit, Leave>, now: Timestamp) -> Self {
        self.with_permits(units, false, now)
    }

    /// The same, on an operator's word. What an operator told to go at once gets no grace back.
    pub fn confirming(&self, units: &BTreeMap<Unit, Leave>, now: Timestamp) -> Self {
        let is_ordered =
            |unit: &Unit| self.permit(unit, now).is_some_and(|permit| permit.why == Leave::Command);
        let others = units.iter().filter(|(unit, _)| !is_ordered(unit));
        let others = others.map(|(unit, why)| (unit.clone(), *why)).collect();
        self.with_permits(&others, true, now)
    }

    fn with_permits(&self, units: &BTreeMap<Unit, Leave>, confirmed: bool, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.since = next.since.or(Some(now));
        next.forget(now);
        next.permits.retain(|permit| !units.contains_key(&permit.unit));
        let new = units.iter().map(|(unit, why)| Permit {
            unit: unit.clone(),
            why: *why,
            at: now,
            confirmed,
        });
        next.permits.extend(new);
        next
    }

    /// The book with the permits of these units as of now, where they count at all.
    pub fn renewing(&self, units: &BTreeSet<Unit>, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.forget(now);
        for permit in next.permits.iter_mut().filter(|permit| units.contains(&permit.unit)) {
            permit.at = now;
        }
        next
    }

    /// The permit of a unit, while it counts.
    pub fn permit(&self, unit: &Unit, now: Timestamp) -> Option<&Permit> {
        self.permits_of_the_day(now).find(|permit| permit.unit == *unit)
    }

    /// Every permit of the last 24 hours.
    pub fn permits_of_the_day(&self, now: Timestamp) -> impl Iterator<Item = &Permit> {
        self.permits.iter().filter(move |permit| now.duration_since(permit.at) < KEPT)
    }

    /// The book with an operator's word that these entities may go.
    pub fn parting_with(&self, entities: &BTreeSet<(Unit, RunnerId)>, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.since = next.since.or(Some(now));
        next.forget(now);
        next.partings.retain(|one| !entities.contains(&(one.unit.clone(), one.runner)));
        let new = entities.iter().map(|(unit, runner)| Parting {
            unit: unit.clone(),
            runner: *runner,
            at: now,
        });
        next.partings.extend(new);
        next
    }

    /// Whether an operator let this entity go in the last 24 hours.
    pub fn may_part(&self, unit: &Unit, runner: RunnerId, now: Timestamp) -> bool {
        let counts = |one: &Parting| now.duration_since(one.at) < KEPT;
        self.partings.iter().any(|one| one.unit == *unit && one.runner == runner && counts(one))
    }

    /// The book with the word that the tokens of these units are to be worthless.
    pub fn revoking(&self, units: &BTreeSet<Unit>, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.since = next.since.or(Some(now));
        next.forget(now);
        next.revocations.retain(|one| !units.contains(&one.unit));
        let new = units.iter().map(|unit| Revocation { unit: unit.clone(), at: now, done: None });
        next.revocations.extend(new);
        next
    }

    fn revocation(&self, unit: &Unit) -> Option<&Revocation> {
        self.revocations.iter().find(|one| one.unit == *unit)
    }

    /// When a unit's token was last revoked and another one kept, for a day.
    pub fn replaced(&self, unit: &Unit) -> Option<Timestamp> {
        self.revocation(unit)?.done
    }

    /// Whether a unit's token is still to be revoked.
    pub fn revokes(&self, unit: &Unit) -> bool {
        self.revocation(unit).is_some_and(|one| one.done.is_none())
    }

    /// The book with the word that the unit has another token than it had at `at`; what was said since stays.
    pub fn revoked(&self, unit: &Unit, at: Timestamp) -> Self {
        let mut next = self.clone();
        next.since = next.since.or(Some(at));
        next.forget(at);
        if next.revocation(unit).is_none_or(|one| one.at <= at) {
            next.revocations.retain(|one| one.unit != *unit);
            next.revocations.push(Revocation { unit: unit.clone(), at, done: Some(at) });
        }
        next
    }

    /// The book with this hold; an earlier one of the same unit gives way.
    pub fn holding(&self, held: Held, now: Timestamp) -> Self {
        let mut next = self.clone();
        next.since = next.since.or(Some(now));
        next.forget(now);
        next.holds.retain(|other| other.unit != held.unit);
        next.holds.push(held);
        next
    }

    /// The hold of a unit, until it ends.
    pub fn held(&self, unit: &Unit, now: Timestamp) -> Option<&Held> {
        self.holds.iter().find(|held| held.unit == *unit && now < held.until)
    }

    /// Whether a unit's manager may roll, where `in_flight` may at once. Who holds a unit back gives its place away.
    pub fn turn(&self, unit: &Unit, in_flight: u32, now: Timestamp) -> Turn {
        if self.rollout(unit).is_some() {
            return Turn::Has;
        }
        let counts = |one: &&Rollout| self.held(&one.unit, now).is_none();
        let others: Vec<&Rollout> = self.rollouts.iter().filter(counts).collect();
        match others.iter().find(|one| one.failed.is_some()) {
            Some(failed) => Turn::Stopped((*failed).clone()),
            None if others.len() >= in_flight as usize => Turn::Full,
            None => Turn::Free,
        }
    }

    pub fn rollout(&self, unit: &Unit) -> Option<&Rollout> {
        self.rollouts.iter().find(|one| one.unit == *unit)
    }

    /// The book with this unit's manager under way.
    pub fn rolling(&self, unit: &Unit, now: Timestamp) -> Self {
        let mut next = self.rolled(unit);
        next.since = next.since.or(Some(now));
        next.rollouts.push(Rollout { unit: unit.clone(), since: now, failed: None });
        next
    }

    /// The book with the word that this unit's manager does not come back.
    pub fn rollout_failed(&self, unit: &Unit, reason: &str) -> Self {
        let mut next = self.clone();
        for one in next.rollouts.iter_mut().filter(|one| one.unit == *unit) {
            one.failed = Some(reason.to_owned());
        }
        next
    }

    /// The book without this unit's rollout.
    pub fn rolled(&self, unit: &Unit) -> Self {
        let mut next = self.clone();
        next.rollouts.retain(|one| one.unit != *unit);
        next
    }

    /// Whether it has been kept for a day: one made anew may have lost the permits that the brake counts.
    pub fn is_seasoned(&self, now: Timestamp) -> bool {
        self.since.is_some_and(|since| now.duration_since(since) >= KEPT)
    }

    fn forget(&mut self, now: Timestamp) {
        self.creations.retain(|made| now.duration_since(made.at) < KEPT);
        self.permits.retain(|permit| now.duration_since(permit.at) < KEPT);
        self.holds.retain(|held| now < held.until);
        self.partings.retain(|one| now.duration_since(one.at) < KEPT);
        let counts = |done: Timestamp| now.duration_since(done) < KEPT;
        self.revocations.retain(|one| one.done.is_none_or(counts));
    }

    fn recent(&self, now: Timestamp) -> impl Iterator<Item = &Creation> {
        self.creations.iter().filter(move |made| now.duration_since(made.at) < HOUR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_creation_counts_for_an_hour_and_is_kept_for_a_day() {
        let start: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let unit: Unit = "runner/g42-tf".parse().unwrap();
        let book = Book::default().with(&unit, 1, start);
        let later = |minutes| start + SignedDuration::from_mins(minutes);
        assert!(
            book.has(&unit, 1, later(59))
                && !book.has(&unit, 2, later(59))
                && !book.has(&unit, 1, later(60))
        );
        assert!(
            !book.has_room(1, later(59))
                && book.has_room(1, later(60))
                && book.has_room(2, later(1))
        );
        let other: Unit = "runner/g44-tf".parse().unwrap();
        let made = BTreeSet::from([unit.clone()]);
        assert!(!book.has_place(&other, 1, &made, later(1)), "made and booked is one");
        assert!(
            book.has_place(&other, 2, &made, later(1)) && book.has_place(&unit, 1, &made, start)
        );
        assert!(!book.has_place(&other, 1, &BTreeSet::new(), later(59)), "on its way");
        assert!(book.has_place(&other, 1, &BTreeSet::new(), later(60)));
        let other: Unit = "runner/g43-tf".parse().unwrap();
        assert_eq!(book.with(&other, 1, later(60 * 24)).creations.len(), 1);
    }

    #[test]
    fn a_token_is_to_be_revoked_until_another_is_kept() {
        let start: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let later = |hours| start + SignedDuration::from_hours(hours);
        let unit: Unit = "runner/g1-tf".parse().unwrap();
        let book = Book::default().revoking(&[unit.clone()].into(), later(1));
        assert!(book.with(&unit, 1, later(99)).revokes(&unit), "it does not lapse");
        assert!(book.revoked(&unit, start).revokes(&unit), "who looked before knew nothing of it");
        let done = book.revoked(&unit, later(1));
        assert!(!done.revokes(&unit));
        assert_eq!(done.replaced(&unit), Some(later(1)));
        assert_eq!(done.with(&unit, 1, later(25)).replaced(&unit), None, "a day later");
    }

    #[test]
    fn who_confirms_takes_no_order_back() {
        let start: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let unit = |at: usize| format!("runner/g{at}-tf").parse::<Unit>().unwrap();
        let book = Book::default().permitting(&[(unit(1), Leave::Command)].into(), start);
        let later = start + HOUR;
        let wants = [1, 2].map(|at| (unit(at), Leave::Unmatched)).into();
        let book = book.confirming(&wants, later);
        let permit = |at| book.permit(&unit(at), later).unwrap();
        assert_eq!((permit(1).why, permit(1).confirmed), (Leave::Command, false));
        assert!(permit(2).why == Leave::Unmatched && permit(2).confirmed);
    }

    #[test]
    fn managers_roll_a_few_at_a_time_and_one_that_fails_stops_the_rest() {
        let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let unit = |at: usize| format!("runner/g{at}-tf").parse::<Unit>().unwrap();
        let book = Book::default().rolling(&unit(1), now);
        assert_eq!(book.turn(&unit(1), 1, now), Turn::Has);
        assert_eq!(book.turn(&unit(2), 1, now), Turn::Full);
        assert_eq!(book.turn(&unit(2), 2, now), Turn::Free);
        let failed = book.rollout_failed(&unit(1), "no image");
        let Turn::Stopped(by) = failed.turn(&unit(2), 9, now) else { panic!("goes on") };
        assert_eq!((by.unit, by.failed.as_deref()), (unit(1), Some("no image")));
        assert_eq!(failed.turn(&unit(1), 9, now), Turn::Has, "it may be mended");
        assert_eq!(failed.rolled(&unit(1)).turn(&unit(2), 1, now), Turn::Free);
        let hour = now + HOUR;
        let held = Held { unit: unit(1), until: hour, by: "ann".into(), reason: "broken".into() };
        let held = failed.holding(held, now);
        assert_eq!(held.turn(&unit(2), 1, now), Turn::Free, "a person has it in hand");
        assert!(matches!(held.turn(&unit(2), 1, hour), Turn::Stopped(_)));
    }
}
