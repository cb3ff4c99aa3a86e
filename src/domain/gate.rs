//! The one gate before anything is taken away for good (DESIGN, *Removal, grace and the brake*).
//!
//! Whoever wants a unit's parts deleted needs a [`Pass`], and only [`open`] makes one. How many permits a sweep may
//! give is [`brake`]'s to say.

use super::{
    fleet::{Freeze, Guardrails},
    ids::Unit,
    ledger::{Book, Leave},
};
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use std::collections::{BTreeMap, BTreeSet};

/// Proof that a permit was looked at; a plan that deletes takes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pass {
    why: Leave,
}

impl Pass {
    pub fn why(self) -> Leave {
        self.why
    }
}

/// Why nothing of a unit is deleted for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// `protect: true`: no path removes it.
    Protected,
    /// `guardrails.freeze` holds today.
    Frozen,
    /// The same, for what an operator told to remove: it goes when the freeze ends, and nothing of it is given back.
    PutOff,
    /// No sweep and no operator has permitted it in the last 24 hours, or for another reason.
    NoPermit,
}

/// What leaves, as the file and the target say now.
#[derive(Clone, Copy, Debug)]
pub struct Leaving<'a> {
    pub unit: &'a Unit,
    /// `None`: it is wanted, so that only an operator's word counts.
    pub why: Option<Leave>,
    pub protected: bool,
}

/// Lets a unit be taken away whose permit is of today and for the very reason that holds now.
pub fn open(
    book: &Book,
    guardrails: &Guardrails,
    leaving: Leaving<'_>,
    now: Timestamp,
) -> Result<Pass, Closed> {
    if leaving.protected {
        return Err(Closed::Protected);
    }
    let permit = book.permit(leaving.unit, now);
    let is_ordered = permit.is_some_and(|permit| permit.why == Leave::Command);
    if is_frozen(guardrails, now) {
        return Err(if is_ordered { Closed::PutOff } else { Closed::Frozen });
    }
    let permit = permit.ok_or(Closed::NoPermit)?;
    let holds = is_ordered || Some(permit.why) == leaving.why;
    if holds { Ok(Pass { why: permit.why }) } else { Err(Closed::NoPermit) }
}

/// Whether removals rest today, by the days of UTC.
pub fn is_frozen(guardrails: &Guardrails, now: Timestamp) -> bool {
    freezes(guardrails, now).next().is_some()
}

/// What a round is about to do, as far as a freeze can allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Puts back what was there before.
    Restore,
    /// Takes something away for the time being: pauses, scales to zero.
    Revoke,
    /// Makes or changes what was asked anew.
    Change,
}

/// The last day on which a freeze forbids the deed, by the days of UTC.
pub fn frozen_until(guardrails: &Guardrails, deed: Deed, now: Timestamp) -> Option<Date> {
    let forbids = |freeze: &&Freeze| match deed {
        Deed::Restore => !freeze.restore,
        Deed::Revoke => !freeze.revoke,
        Deed::Change => true,
    };
    freezes(guardrails, now).filter(forbids).map(|freeze| freeze.to).max()
}

fn freezes(guardrails: &Guardrails, now: Timestamp) -> impl Iterator<Item = &Freeze> {
    let today = now.to_zoned(TimeZone::UTC).date();
    guardrails.freeze.iter().filter(move |freeze| freeze.from <= today && today <= freeze.to)
}

/// What the brake says of a sweep's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Brake {
    /// All of them may go.
    Free,
    /// None may: more than `limit` units would go in 24 hours.
    Holds { limit: usize },
    /// None may: the ledger is younger than a day, so nobody knows what was permitted before.
    Unseasoned,
}

/// Counts all units that want removal now and all that were permitted in the last 24 hours, against
/// min(`max`, max(2, `percent` of the fleet, rounded down)). What could not be read counts as wanting it. An operator's word is past
/// that question.
pub fn brake(
    guardrails: &Guardrails,
    fleet: usize,
    wants: &BTreeMap<Unit, Leave>,
    unread: &BTreeSet<Unit>,
    book: &Book,
    now: Timestamp,
) -> Brake {
    let is_said = |(unit, why): (&Unit, &Leave)| {
        book.permit(unit, now).is_some_and(|permit| permit.is_said(Some(*why)))
    };
    if wants.iter().all(is_said) {
        return Brake::Free;
    }
    let deletions = guardrails.deletions;
    let share = (fleet * deletions.percent as usize / 100).max(2);
    let limit = share.min(deletions.max as usize);
    let permitted = book.permits_of_the_day(now).map(|permit| &permit.unit);
    let all: BTreeSet<&Unit> = wants.keys().chain(unread).chain(permitted).collect();
    if all.len() > limit {
        Brake::Holds { limit }
    } else if !book.is_seasoned(now) {
        Brake::Unseasoned
    } else {
        Brake::Free
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fleet::Deletions;
    use jiff::SignedDuration;

    const HALF: SignedDuration = SignedDuration::from_hours(12);
    const DAY: SignedDuration = SignedDuration::from_hours(24);

    fn now() -> Timestamp {
        "2026-11-24T08:00:00Z".parse().unwrap()
    }

    fn units(count: usize) -> BTreeMap<Unit, Leave> {
        let unit = |at: usize| format!("runner/g{at}-tf").parse().unwrap();
        (1..=count).map(|at| (unit(at), Leave::Unmatched)).collect()
    }

    /// A ledger that is two days old.
    fn seasoned() -> Book {
        Book { since: Some(now() - SignedDuration::from_hours(48)), ..Book::default() }
    }

    #[test]
    fn the_brake_is_a_share_of_the_fleet_two_at_least_and_max_at_most() {
        let check = |fleet, wanted, expected: Brake| {
            let guardrails = Guardrails {
                deletions: Deletions { max: 10, percent: 20 },
                ..Guardrails::default()
            };
            let found =
                brake(&guardrails, fleet, &units(wanted), &BTreeSet::new(), &seasoned(), now());
            assert_eq!(found, expected, "{wanted} of {fleet}");
        };
        check(1, 2, Brake::Free);
        check(1, 3, Brake::Holds { limit: 2 });
        check(14, 2, Brake::Free);
        check(15, 3, Brake::Free);
        check(15, 4, Brake::Holds { limit: 3 });
        check(1000, 10, Brake::Free);
        check(1000, 11, Brake::Holds { limit: 10 });
    }

    #[test]
    fn what_could_not_be_read_counts_as_wanting_to_go() {
        let check = |wanted: usize, expected: Brake| {
            let unread: BTreeSet<Unit> = units(3).into_keys().skip(1).collect();
            let book = seasoned();
            let found = brake(&Guardrails::default(), 15, &units(wanted), &unread, &book, now());
            assert_eq!(found, expected, "{wanted}");
        };
        check(1, Brake::Free);
        check(4, Brake::Holds { limit: 3 });
        check(0, Brake::Free);
    }

    #[test]
    fn what_was_permitted_within_a_day_counts_with_what_is_wanted_now() {
        let yesterday = now() - SignedDuration::from_hours(23);
        let book = seasoned().permitting(&units(2), yesterday);
        let other: BTreeMap<Unit, Leave> =
            [("runner/p9-tf".parse().unwrap(), Leave::Unmatched)].into();
        let of =
            |book: &Book, at| brake(&Guardrails::default(), 4, &other, &BTreeSet::new(), book, at);
        assert_eq!(of(&book, now()), Brake::Holds { limit: 2 });
        assert_eq!(of(&book, now() + SignedDuration::from_hours(1)), Brake::Free);
        // The same units again are no more than they were.
        assert_eq!(
            brake(&Guardrails::default(), 4, &units(2), &BTreeSet::new(), &book, now()),
            Brake::Free
        );
    }

    #[test]
    fn what_an_operator_confirmed_is_held_by_no_brake_until_more_wants_to_go() {
        let book = seasoned().confirming(&units(5), now());
        let of = |wants: &BTreeMap<Unit, Leave>| {
            brake(&Guardrails::default(), 4, wants, &BTreeSet::new(), &book, now())
        };
        assert_eq!(of(&units(5)), Brake::Free);
        assert_eq!(of(&units(6)), Brake::Holds { limit: 2 });
        let ordered = seasoned()
            .permitting(&units(5).into_keys().map(|unit| (unit, Leave::Command)).collect(), now());
        let of_ordered =
            brake(&Guardrails::default(), 4, &units(5), &BTreeSet::new(), &ordered, now());
        assert_eq!(of_ordered, Brake::Free, "they go by an order");
        let otherwise = units(5).into_keys().map(|unit| (unit, Leave::Gone)).collect();
        assert_eq!(of(&otherwise), Brake::Holds { limit: 2 });
        let renewed = book.renewing(&units(4).into_keys().collect(), now() + HALF);
        let later =
            brake(&Guardrails::default(), 4, &units(4), &BTreeSet::new(), &renewed, now() + DAY);
        assert_eq!(later, Brake::Free);
        assert!(renewed.permit(&"runner/g5-tf".parse().unwrap(), now() + DAY).is_none());
    }

    #[test]
    fn a_ledger_made_anew_permits_nothing_for_a_day() {
        let check = |book: Book, expected| {
            let found =
                brake(&Guardrails::default(), 100, &units(1), &BTreeSet::new(), &book, now());
            assert_eq!(found, expected);
        };
        check(Book::default(), Brake::Unseasoned);
        check(Book { since: Some(now()), ..Book::default() }, Brake::Unseasoned);
        check(seasoned(), Brake::Free);
    }

    #[test]
    fn the_gate_opens_for_todays_permit_of_the_same_reason_alone() {
        let unit: Unit = "runner/g1-tf".parse().unwrap();
        let give = |why, hours| {
            let at = now() - SignedDuration::from_hours(hours);
            seasoned().permitting(&[(unit.clone(), why)].into(), at)
        };
        let check = |book: &Book, why, protected, expected: Result<Leave, Closed>| {
            let leaving = Leaving { unit: &unit, why, protected };
            let found = open(book, &Guardrails::default(), leaving, now());
            assert_eq!(found.map(Pass::why), expected, "{why:?}");
        };
        let (unmatched, gone) = (Some(Leave::Unmatched), Some(Leave::Gone));
        check(&give(Leave::Unmatched, 1), unmatched, false, Ok(Leave::Unmatched));
        check(&give(Leave::Unmatched, 24), unmatched, false, Err(Closed::NoPermit));
        check(&give(Leave::Unmatched, 1), gone, false, Err(Closed::NoPermit));
        check(&give(Leave::Unmatched, 1), None, false, Err(Closed::NoPermit));
        check(&give(Leave::Unmatched, 1), unmatched, true, Err(Closed::Protected));
        check(&give(Leave::Command, 1), None, false, Ok(Leave::Command));
        check(&seasoned(), unmatched, false, Err(Closed::NoPermit));
        let date = |text: &str| text.parse().unwrap();
        let (from, to) = (date("2026-11-24"), date("2026-11-24"));
        let freeze = vec![Freeze { from, to, restore: true, revoke: true }];
        let guardrails = Guardrails { freeze, ..Guardrails::default() };
        let leaving = Leaving { unit: &unit, why: unmatched, protected: false };
        let of = |book: &Book| open(book, &guardrails, leaving, now());
        assert_eq!(of(&give(Leave::Unmatched, 1)), Err(Closed::Frozen));
        assert_eq!(of(&give(Leave::Command, 1)), Err(Closed::PutOff));
        assert_eq!(of(&give(Leave::Command, 24)), Err(Closed::Frozen));
    }

    #[test]
    fn a_freeze_lets_happen_what_it_allows_and_nothing_else() {
        let date = |text: &str| text.parse::<Date>().unwrap();
        let freeze = |to: &str, restore, revoke| Freeze {
            from: date("2026-11-24"),
            to: date(to),
            restore,
            revoke,
        };
        let check = |freeze: Vec<Freeze>, expected: [Option<&str>; 3]| {
            let guardrails = Guardrails { freeze, ..Guardrails::default() };
            let found = [Deed::Restore, Deed::Revoke, Deed::Change]
                .map(|deed| frozen_until(&guardrails, deed, now()));
            assert_eq!(found, expected.map(|day| day.map(date)));
        };
        check(vec![], [None, None, None]);
        let (day, week) = ("2026-11-24", "2026-11-30");
        check(vec![freeze(day, false, false)], [Some(day), Some(day), Some(day)]);
        check(vec![freeze(day, true, false)], [None, Some(day), Some(day)]);
        let both = vec![freeze(day, true, false), freeze(week, false, true)];
        check(both, [Some(week), Some(day), Some(week)]);
        let over = Freeze { from: date("2026-11-20"), ..freeze("2026-11-23", false, false) };
        check(vec![over], [None, None, None]);
    }
}
