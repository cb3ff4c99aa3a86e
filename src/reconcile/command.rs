//! Does what an operator's message asks for: finds the units that are meant, and wakes, permits or holds them.

use super::{
    Failure, gone,
    inventory::{self, Inventory},
    permits,
    prepare::prepare,
    round::{Outcome, Rounds},
    survey, tell,
};
use crate::domain::{
    command::{Deed, Order, Refused},
    fleet::Fleet,
    ids::{ProfileName, RunnerId, Unit},
    ledger::{Book, Held, Leave},
    message::{self, Intent, Message, Outgoing, Reason},
    records::ParkedPlan,
    selector::Selector,
};
use crate::telemetry::audit;
use futures::{StreamExt, stream};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use tracing::{info, warn};

impl Rounds {
    /// Carries an order out, or only says what it would do. Fails only where nothing could be read or written: the broker
    /// delivers again.
    ///
    /// Errors: it asks for what nobody of this fleet can do.
    pub async fn command(&self, order: &Order) -> Result<Outcome, Refused> {
        let fleet = match self.fleet() {
            Ok(fleet) => fleet.clone(),
            Err(reason) => {
                return Ok(Outcome::Failed(format!("fleet.yaml is not valid: {reason}")));
            }
        };
        // An audit event: who and why as claimed.
        info!(
            command = order.deed.as_str(),
            actor.claimed = order.by,
            why = order.why,
            dry_run = order.dry_run,
            "an operator asks: {order}"
        );
        let origin = tell::origin_of_order(&fleet, order);
        if order.deed == Deed::Sweep && !order.dry_run {
            return Ok(self.sweep_because(&fleet, origin).await);
        }
        match audit::because(origin, Box::pin(self.obey(&fleet, order))).await {
            Ok((messages, lines)) => {
                for line in &lines {
                    info!("{line}");
                }
                Ok(self.send(messages, lines).await)
            }
            Err(Stop::Refused(refused)) => Err(refused),
            Err(Stop::Failed(failure)) => {
                warn!("`{order}` could not be carried out: {}", failure.text);
                Ok(Outcome::Failed(failure.text))
            }
        }
    }

    async fn obey(
        &self,
        fleet: &Fleet,
        order: &Order,
    ) -> Result<(Vec<Outgoing>, Vec<String>), Stop> {
        let mut inventory =
            Box::pin(inventory::take(self.clients(), fleet, self.deadline())).await?;
        let now = self.clock.now();
        if order.deed == Deed::Sweep {
            let units = all(fleet, &inventory, now).len();
            return Ok((vec![], vec![format!("would look over the whole fleet, {units} unit(s)")]));
        }
        if let Deed::Confirm { plan } = &order.deed {
            return Ok(self.confirm(fleet, &inventory, plan, order, now).await?);
        }
        let mut units = meant(fleet, &inventory, order, now);
        if let Some(mistake) = mistake(fleet, &inventory, order, now) {
            return Err(match inventory.unseen.first() {
                // What it means may be there.
                Some(reason) => Stop::Failed(Failure::retry(format!(
                    "{mistake}; but the whole fleet was not seen: {reason}"
                ))),
                None => Stop::Refused(mistake),
            });
        }
        if order.deed == Deed::ConfirmUnits {
            let done = self.confirm_units(fleet, &mut inventory, units, order, now);
            return Ok(Box::pin(done).await?);
        }
        let mut lines = Vec::new();
        if order.deed == Deed::Remove {
            let protected = units.iter().filter(|unit| survey::is_protected(fleet, unit)).cloned();
            for unit in protected.collect::<Vec<_>>() {
                lines.push(format!("`{unit}` is kept: `protect: true`"));
                units.remove(&unit);
            }
        }
        let verb = if order.dry_run { "would" } else { "will" };
        lines.extend(units.iter().map(|unit| format!("{verb} {} `{unit}`", order.deed.as_str())));
        if order.dry_run {
            return Ok((vec![], lines));
        }
        if let Some(change) = booking(order, &units, now) {
            let (installation, ledger) = (&inventory.installation, inventory.ledger.clone());
            permits::write(self.clients(), fleet, installation, ledger, change).await?;
        }
        let intent = match order.deed {
            Deed::Pause => Some(Intent::Pause),
            Deed::Resume => Some(Intent::Resume),
            Deed::Sweep
            | Deed::Reprovision
            | Deed::Remove
            | Deed::Revoke
            | Deed::Hold { .. }
            | Deed::Confirm { .. }
            | Deed::ConfirmUnits => None,
        };
        let since = intent.map(|_| order.sent_at.unwrap_or(now));
        let message = |unit: Unit| {
            let wake = Message::wake(unit, Reason::Command, order.cause());
            Message { intent, since, ..wake }.send(now)
        };
        Ok((units.into_iter().map(message).collect(), lines))
    }

    /// The plan that the brake holds goes ahead if it is still the one that was looked at.
    async fn confirm(
        &self,
        fleet: &Fleet,
        inventory: &Inventory,
        plan: &str,
        order: &Order,
        now: Timestamp,
    ) -> Result<(Vec<Outgoing>, Vec<String>), Failure> {
        if let Some(reason) = inventory.unseen.first() {
            return Err(Failure::retry(format!("the whole fleet was not seen: {reason}")));
        }
        let wants = self.wants_removal(fleet, inventory, now).await?;
        let present = ParkedPlan::new(&wants, 0, now).id;
        if present != plan {
            let line = format!(
                "nothing is confirmed: the removals that are wanted now are plan `{present}`, not the one that was named"
            );
            return Ok((vec![], vec![line]));
        }
        let verb = if order.dry_run { "would" } else { "will" };
        let lines =
            wants.iter().map(|(unit, why)| format!("{verb} remove `{unit}`: {}", why.as_str()));
        let lines = lines.collect();
        if order.dry_run {
            return Ok((vec![], lines));
        }
        let (installation, ledger) = (&inventory.installation, inventory.ledger.clone());
        let confirming = |book: &Book| book.confirming(&wants, now);
        permits::write(self.clients(), fleet, installation, ledger, confirming).await?;
        let wakes = wants
            .into_keys()
            .map(|unit| Message::wake(unit, Reason::Command, order.cause()).send(now));
        Ok((wakes.collect(), lines))
    }
}

impl Rounds {
    /// Permits what the rounds of the named units stop at, as it is now: the removals that are wanted of them, and the
    /// entities that somebody polls with. Of those lost from sight it is the word that their target is destroyed.
    async fn confirm_units(
        &self,
        fleet: &Fleet,
        inventory: &mut Inventory,
        units: BTreeSet<Unit>,
        order: &Order,
        now: Timestamp,
    ) -> Result<(Vec<Outgoing>, Vec<String>), Failure> {
        let destroyed = gone::take_word(inventory, order, &units, now);
        let mut wants = self.wants_removal(fleet, inventory, now).await?;
        wants.retain(|unit, _| units.contains(unit));
        let stays = units.iter().filter(|unit| !wants.contains_key(*unit)).cloned();
        let asked = stays.map(|unit| async move {
            let prepared = Box::pin(prepare(self.clients(), fleet, &self.clock, &unit)).await;
            (unit, prepared)
        });
        let (mut partings, mut unread) = (BTreeSet::<(Unit, RunnerId)>::new(), Vec::new());
        let mut answers = stream::iter(asked.collect::<Vec<_>>()).buffered(AT_ONCE);
        while let Some((unit, prepared)) = answers.next().await {
            match prepared {
                Ok(prepared) => {
                    let runners = prepared.map(|one| one.plan.partings).unwrap_or_default();
                    partings.extend(runners.into_iter().map(|runner| (unit.clone(), runner)));
                }
                Err(failure) => unread.push((unit, failure)),
            }
        }
        if unread.len() == units.len()
            && let Some((_, failure)) = unread.pop()
        {
            return Err(failure);
        }
        let verb = if order.dry_run { "would" } else { "will" };
        let removals =
            wants.iter().map(|(unit, why)| format!("{verb} remove `{unit}`: {}", why.as_str()));
        let partings_told = partings
            .iter()
            .map(|(unit, runner)| format!("{verb} let runner {runner} of `{unit}` go"));
        let ends = destroyed.iter();
        let ends = ends.map(|unit| format!("{verb} take the target of `{unit}` for destroyed"));
        // It holds up no other one.
        let unread = unread.iter().map(|(unit, failure)| {
            format!("`{unit}` could not be read, so nothing of it is confirmed: {}", failure.text)
        });
        let mut lines: Vec<String> =
            ends.chain(removals).chain(partings_told).chain(unread).collect();
        if lines.is_empty() {
            lines.push("nothing of the units that are meant waits for a confirmation".to_owned());
        }
        if order.dry_run {
            return Ok((vec![], lines));
        }
        if !wants.is_empty() || !partings.is_empty() {
            let (installation, ledger) = (&inventory.installation, inventory.ledger.clone());
            let change = |book: &Book| book.confirming(&wants, now).parting_with(&partings, now);
            permits::write(self.clients(), fleet, installation, ledger, change).await?;
        }
        let moved: BTreeSet<Unit> =
            wants.into_keys().chain(partings.into_iter().map(|(unit, _)| unit)).collect();
        let wakes = moved.union(&destroyed).map(|unit| {
            let event = destroyed.contains(unit).then(|| message::SAID_DESTROYED.to_owned());
            let wake = Message::wake(unit.clone(), Reason::Command, order.cause());
            Message { event, ..wake }.send(now)
        });
        Ok((wakes.collect(), lines))
    }
}

/// How many units are read at once.
const AT_ONCE: usize = 8;

/// Why an order is not carried out.
enum Stop {
    /// It is tried again.
    Failed(Failure),
    Refused(Refused),
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// The units that an order means.
pub(super) fn meant(
    fleet: &Fleet,
    inventory: &Inventory,
    order: &Order,
    now: Timestamp,
) -> BTreeSet<Unit> {
    let mut units = all(fleet, inventory, now);
    units.retain(|unit| order.of.iter().any(|word| takes(word, unit, inventory, order)));
    units
}

/// A word of the order that means nothing it could be done to. A part of what is not there yet counts: who removes all, removes
/// also what is just being made.
pub(super) fn mistake(
    fleet: &Fleet,
    inventory: &Inventory,
    order: &Order,
    now: Timestamp,
) -> Option<Refused> {
    let units = all(fleet, inventory, now);
    let is_of = |profile| units.iter().any(|unit| profile_of(unit) == Some(profile));
    let of = order.profile.as_ref();
    if of.is_some_and(|profile| fleet.profile(profile).is_none() && !is_of(profile)) {
        return Some(Refused::NoProfile);
    }
    let means_nothing = |word: &Selector| {
        *word != Selector::All && !units.iter().any(|unit| takes(word, unit, inventory, order))
    };
    let at = order.of.iter().position(means_nothing)?;
    Some(Refused::Nobody { word: at + 1, deed: order.deed.as_str() })
}

/// Of what is there, and of what the file wants.
fn all(fleet: &Fleet, inventory: &Inventory, now: Timestamp) -> BTreeSet<Unit> {
    let wanted = survey::wanted(fleet, inventory, now).into_keys().map(Unit::Runner);
    let lent = fleet.existing_identities().into_keys().map(Unit::Identity);
    inventory.known.iter().cloned().chain(wanted).chain(lent).collect()
}

fn takes(word: &Selector, unit: &Unit, inventory: &Inventory, order: &Order) -> bool {
    let path = match unit {
        Unit::Runner(key) => inventory.targets.get(&key.target),
        Unit::Domain(_) | Unit::Identity(_) | Unit::Target(_) => None,
    };
    // An identity that is not ours is looked at by who names it.
    let named = !matches!(unit, Unit::Identity(_)) || *word == Selector::Unit(unit.clone());
    let of_profile = order.profile.as_ref().is_none_or(|of| profile_of(unit) == Some(of));
    let path = path.map(|read| read.facts.path.as_str());
    order.deed.is_for(unit) && named && of_profile && word.takes(unit, path)
}

fn profile_of(unit: &Unit) -> Option<&ProfileName> {
    match unit {
        Unit::Runner(key) => Some(&key.profile),
        Unit::Domain(profile) => Some(profile),
        Unit::Identity(_) | Unit::Target(_) => None,
    }
}

/// What the order writes into the ledger, if anything.
fn booking(
    order: &Order,
    units: &BTreeSet<Unit>,
    now: Timestamp,
) -> Option<impl Fn(&Book) -> Book> {
    let (deed, by, why) = (order.deed.clone(), order.by.clone(), order.why.clone());
    let units = units.clone();
    match deed {
        Deed::Remove | Deed::Revoke | Deed::Hold { .. } if !units.is_empty() => {
            Some(move |book: &Book| match &deed {
                Deed::Revoke => book.revoking(&units, now),
                Deed::Hold { until } => units.iter().fold(book.clone(), |book, unit| {
                    let (by, reason) = (by.clone(), why.clone());
                    book.holding(Held { unit: unit.clone(), until: *until, by, reason }, now)
                }),
                Deed::Sweep
                | Deed::Reprovision
                | Deed::Pause
                | Deed::Resume
                | Deed::Remove
                | Deed::Confirm { .. }
                | Deed::ConfirmUnits => {
                    let all: BTreeMap<Unit, Leave> =
                        units.iter().map(|unit| (unit.clone(), Leave::Command)).collect();
                    book.permitting(&all, now)
                }
            })
        }
        Deed::Sweep
        | Deed::Reprovision
        | Deed::Pause
        | Deed::Resume
        | Deed::Remove
        | Deed::Revoke
        | Deed::Hold { .. }
        | Deed::Confirm { .. }
        | Deed::ConfirmUnits => None,
    }
}
