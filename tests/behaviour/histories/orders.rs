//! What operators ask for by message while much else befalls a fleet.

use super::{apply::Facts, fleet::Profile};
use crate::harness::Sandbox;
use jiff::SignedDuration;
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use serde_json::json;
use std::collections::BTreeSet;

/// Hours. What waits for something held is followed up as long.
pub(super) const LONGEST_HOLD: i64 = 60;

#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    deed: Deed,
    of: Of,
    profile: Option<Profile>,
}

#[derive(Clone, Copy, Debug)]
enum Deed {
    Sweep,
    Reprovision,
    Pause,
    Resume,
    Remove,
    Revoke,
    Hold { hours: i64 },
    Confirm,
}

#[derive(Clone, Copy, Debug)]
enum Of {
    /// The n-th group that is there.
    Group(usize),
    All,
}

/// Whom an order meant: a group, or all; and of one profile, or of all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Meant {
    group: Option<u64>,
    profile: Option<Profile>,
}

impl Order {
    pub(super) fn draw(random: &mut StdRng) -> Self {
        let group = Of::Group(random.random_range(0..12));
        let of = if random.random_bool(0.25) { Of::All } else { group };
        let of_one = random.random_bool(0.5);
        let profile = Profile::ALL.choose(random).copied().filter(|_| of_one);
        let deed = match random.random_range(0..13) {
            0 => Deed::Sweep,
            1 => Deed::Reprovision,
            2..4 => Deed::Pause,
            4 => Deed::Resume,
            5..9 => Deed::Remove,
            9..11 => Deed::Hold { hours: random.random_range(1..LONGEST_HOLD) },
            11 => Deed::Revoke,
            _ => Deed::Confirm,
        };
        Self { deed, of, profile }
    }

    pub(super) fn give(self, facts: &mut Facts, sandbox: &Sandbox) {
        let group = match self.of {
            Of::All => None,
            Of::Group(number) => match facts.group(number, |_| true) {
                Some(group) => Some(group.id),
                None => return,
            },
        };
        let target = group.map_or_else(|| "all".to_owned(), |id| format!("g{id}"));
        let until = |hours| sandbox.world.clock.now() + SignedDuration::from_hours(hours);
        let (queue, command) = match self.deed {
            Deed::Sweep => ("commands", "sweep"),
            Deed::Reprovision => ("commands", "reprovision"),
            Deed::Pause => ("commands", "pause"),
            Deed::Resume => ("commands", "resume"),
            Deed::Remove => ("approvals", "remove"),
            Deed::Revoke => ("approvals", "revoke"),
            Deed::Hold { .. } => ("approvals", "hold"),
            Deed::Confirm => ("approvals", "confirm"),
        };
        let mut order = json!({ "command": command, "by": "jane", "why": "CHG1" });
        if !matches!(self.deed, Deed::Sweep) {
            order["targets"] = json!([target]);
            if let Some(profile) = self.profile {
                order["profile"] = profile.name().into();
            }
        }
        match self.deed {
            Deed::Hold { hours } => order["until"] = until(hours).to_string().into(),
            Deed::Remove => facts.removals.push(Meant { group, profile: self.profile }),
            Deed::Revoke => facts.revocations.push(Meant { group, profile: self.profile }),
            Deed::Confirm => facts.confirmed = true,
            Deed::Sweep | Deed::Reprovision | Deed::Pause | Deed::Resume => {}
        }
        sandbox.order(queue, &order);
    }
}

impl Meant {
    /// Every unit that it can mean now.
    pub(super) fn units(self, facts: &Facts) -> BTreeSet<String> {
        let profiles = Profile::ALL.into_iter();
        let profiles = profiles.filter(|one| self.profile.is_none_or(|of| of == *one));
        let groups = facts.groups.iter().map(|group| group.id);
        let groups: Vec<u64> = groups.filter(|id| self.group.is_none_or(|of| of == *id)).collect();
        let mut all = BTreeSet::new();
        for profile in profiles.map(Profile::name) {
            all.extend(groups.iter().map(|id| format!("runner/g{id}-{profile}")));
            if self.group.is_none() {
                all.insert(format!("domain/{profile}"));
                all.extend(facts.projects.iter().map(|id| format!("runner/p{id}-{profile}")));
            }
        }
        all
    }
}
