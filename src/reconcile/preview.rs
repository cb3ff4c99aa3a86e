//! What a unit's next round would do, for somebody to read before it happens. Writes nothing.

mod change;
mod mask;
mod seen;

pub use change::{Action, Change, FieldChange};

use super::{View, prepare::prepare};
use crate::domain::{
    ids::Unit,
    plan::{Plan, Verdict},
    status::{ConditionKind, Parked},
};
use futures::{StreamExt, stream};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};

/// Units that are read at once.
const AT_ONCE: usize = 8;

/// One unit's next round.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    pub unit: Unit,
    /// The target's path, where it was read.
    pub path: Option<String>,
    /// Its mode lets nothing be carried out.
    pub observing: bool,
    pub changes: Vec<Change>,
    /// What would be told of the unit.
    pub conditions: Vec<Said>,
    pub standing: Standing,
    /// Why its rounds are put off now.
    pub parked: Option<Parked>,
    /// Calls that write, by service.
    pub calls: BTreeMap<&'static str, usize>,
}

/// A condition, before anybody knows since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Said {
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    pub status: bool,
    pub reason: &'static str,
    pub message: String,
}

/// How the unit stands once the changes are made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum Standing {
    /// As the file says.
    Settled,
    /// Nothing to do, and not ready: the conditions say why.
    Kept,
    /// It is looked at again.
    Waits {
        #[serde(rename = "for")]
        what: String,
        #[serde(rename = "seconds")]
        after: u64,
    },
    /// Nothing but a person, a right or a changed file helps.
    Blocked { reason: String },
    /// What is there could not be read.
    Unread { reason: String },
}

impl Preview {
    fn unread(unit: Unit, reason: String) -> Self {
        Self {
            unit,
            path: None,
            observing: false,
            changes: vec![],
            conditions: vec![],
            standing: Standing::Unread { reason },
            parked: None,
            calls: BTreeMap::new(),
        }
    }

    pub fn is_as_it_should_be(&self) -> bool {
        self.standing == Standing::Settled && self.changes.is_empty()
    }

    /// What only a person with more rights may do.
    pub fn needs_administrator(&self) -> Option<&Said> {
        let mut conditions = self.conditions.iter();
        conditions.find(|said| said.kind == ConditionKind::NeedsAdministrator && said.status)
    }
}

impl View {
    /// Previews of all the units, in their order; some are read at once. `progress` hears how many are done.
    pub async fn preview(&self, units: Vec<Unit>, progress: impl Fn(usize)) -> Vec<Preview> {
        let mut done = Vec::new();
        let mut reading =
            stream::iter(units.into_iter().map(|unit| self.preview_one(unit))).buffered(AT_ONCE);
        while let Some(preview) = reading.next().await {
            done.push(preview);
            progress(done.len());
        }
        done
    }

    async fn preview_one(&self, unit: Unit) -> Preview {
        let prepared = match prepare(&self.clients, &self.fleet, &self.clock, &unit).await {
            Ok(Some(prepared)) => prepared,
            Ok(None) => {
                return Preview::unread(unit, "a target has no plan of its own".to_owned());
            }
            Err(failure) => return Preview::unread(unit, failure.text),
        };
        let scene = prepared.scene(&self.fleet, &self.clients);
        let plan = &prepared.plan;
        let steps = plan.steps.iter();
        let changes: Vec<Change> =
            steps.map(|node| change::of_step(&node.step, &prepared.seen, &scene)).collect();
        let mut calls = BTreeMap::new();
        for node in &plan.steps {
            for service in change::calls(&node.step) {
                *calls.entry(change::service_name(service)).or_default() += 1;
            }
        }
        let findings = plan.findings.iter().map(|finding| Said {
            kind: finding.kind,
            status: finding.status,
            reason: finding.reason,
            message: finding.message.clone(),
        });
        Preview {
            observing: self.observes(&unit),
            unit,
            path: prepared.path.clone(),
            changes,
            conditions: findings.collect(),
            standing: standing(plan),
            parked: prepared.before.as_ref().and_then(|before| before.parked.clone()),
            calls,
        }
    }
}

fn standing(plan: &Plan) -> Standing {
    match &plan.verdict {
        Verdict::Park { reason } => Standing::Blocked { reason: reason.clone() },
        Verdict::FollowUp { after, waits, .. } => {
            let after = Duration::try_from(*after).unwrap_or_default().as_secs();
            Standing::Waits { what: waits.clone(), after }
        }
        Verdict::Settled => {
            let ready = plan.finding(ConditionKind::Ready).is_some_and(|ready| ready.status);
            if ready { Standing::Settled } else { Standing::Kept }
        }
    }
}
