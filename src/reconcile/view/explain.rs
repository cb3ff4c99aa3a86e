//! Why a target has the runners it has.

use super::View;
use crate::{
    domain::{
        fleet::{TargetFacts, Wanted},
        ids::{TargetId, Unit},
        plan::hold::Hold,
        selector::Selector,
        status::Status,
    },
    reconcile::{Failure, target},
};
use futures::try_join;

/// What is known of one target, or of a unit that has none.
#[derive(Clone, Debug)]
pub struct Explained {
    /// Nothing where GitLab shows no such target, or the unit belongs to none.
    pub facts: Option<TargetFacts>,
    /// It, or a group above it, is archived or scheduled for deletion.
    pub hold: Option<Hold>,
    pub wanted: Vec<Wanted>,
    /// What is told of its units.
    pub statuses: Vec<Status>,
}

impl View {
    /// Errors: a pattern, which stands for many.
    pub async fn explain(&self, selector: &Selector) -> Result<Explained, Failure> {
        let target = match selector {
            Selector::Unit(Unit::Runner(key)) => Some(key.target),
            Selector::Unit(Unit::Target(target)) | Selector::Target(target) => Some(*target),
            Selector::Unit(Unit::Domain(_) | Unit::Identity(_)) => None,
            Selector::Path(pattern) if pattern.is_literal() => {
                Some(self.target_at(pattern.as_str()).await?)
            }
            Selector::Path(_) | Selector::All => {
                return Err(Failure::permanent("that stands for many: name one target"));
            }
        };
        let read = async {
            match target {
                Some(target) => target::read(&self.clients, target).await,
                None => Ok(None),
            }
        };
        let (read, statuses) = try_join!(read, self.statuses())?;
        let concerns = |status: &Status| match (selector, target) {
            (Selector::Unit(unit), _) if !matches!(unit, Unit::Target(_)) => status.unit == *unit,
            (_, Some(target)) => of_target(&status.unit) == Some(target),
            (_, None) => false,
        };
        let statuses: Vec<Status> = statuses.into_iter().filter(concerns).collect();
        if read.is_none() && statuses.is_empty() {
            return Err(Failure::permanent(match target {
                Some(target) => {
                    format!("GitLab shows our token no {target}, and nothing is told of it")
                }
                None => format!("nothing is told of {selector}"),
            }));
        }
        let (facts, hold) = read.map_or((None, None), |read| (Some(read.facts), read.hold));
        let mut wanted = facts
            .as_ref()
            .map(|facts| self.fleet.wanted_at(facts, self.clock.now()))
            .unwrap_or_default();
        if let Selector::Unit(Unit::Runner(key)) = selector {
            wanted.retain(|wanted| wanted.profile == key.profile);
        }
        Ok(Explained { facts, hold, wanted, statuses })
    }
}

fn of_target(unit: &Unit) -> Option<TargetId> {
    match unit {
        Unit::Target(target) => Some(*target),
        Unit::Runner(key) => Some(key.target),
        Unit::Domain(_) | Unit::Identity(_) => None,
    }
}
