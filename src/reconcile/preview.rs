//! What a unit's next round would do, for somebody to read before it happens. Writes nothing.

mod change;
mod mask;
mod seen;

pub(in crate::reconcile) use change::of_step;
pub use change::{Action, Change, FieldChange};

use super::{
    Selected, View,
    prepare::{self, Prepared},
};
use crate::domain::{
    class::Class,
    gate,
    ids::Unit,
    plan::{Plan, Verdict},
    status::{ConditionKind, Parked},
};
use futures::{StreamExt, stream};
use jiff::{SignedDuration, civil::Date};
use serde::Serialize;
use std::{collections::BTreeMap, pin::pin, time::Duration};

/// Units that are read at once.
const AT_ONCE: usize = 8;
/// How often in a row all that is left may fail.
const STALLED_MAX: usize = 3;
/// How long is waited where nobody says, and at most.
const PAUSE: SignedDuration = SignedDuration::from_secs(5);
const PAUSE_MAX: SignedDuration = SignedDuration::from_secs(90);

/// One unit's next round.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Preview {
    pub unit: Unit,
    /// The target's path, where it was read.
    pub path: Option<String>,
    /// Its mode lets nothing be carried out.
    pub observing: bool,
    /// The last day of a freeze that keeps these changes from being carried out.
    pub frozen_until: Option<Date>,
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

/// A passing failure; `after` is what the service asked for.
struct Retry {
    after: Option<SignedDuration>,
}

impl Preview {
    /// What could not be read, and why.
    pub(crate) fn unread(unit: Unit, reason: String) -> Self {
        Self {
            unit,
            path: None,
            observing: false,
            frozen_until: None,
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
    /// Previews of all selected units, in their order; some are read at once. `progress` hears how many are done.
    ///
    /// A service that asks for a pause gets it: `wait` waits, and the units that met it are read again. A round would leave
    /// that to the queue; a person has none.
    pub async fn preview(
        &self,
        selected: &Selected,
        progress: impl Fn(usize),
        wait: impl AsyncFn(SignedDuration),
    ) -> Vec<Preview> {
        let mut done: BTreeMap<Unit, Preview> = BTreeMap::new();
        let mut failed: BTreeMap<Unit, Preview> = BTreeMap::new();
        let mut stalled = 0;
        loop {
            let left = selected.units.iter().filter(|unit| !done.contains_key(*unit));
            // What failed before comes last, so that it holds up nothing.
            let (again, fresh): (Vec<&Unit>, Vec<&Unit>) =
                left.partition(|unit| failed.contains_key(*unit));
            let reads = fresh.into_iter().chain(again);
            let reads = reads.map(|unit| self.preview_one(unit.clone(), selected));
            let mut reading = pin!(stream::iter(reads).buffered(AT_ONCE));
            let (mut pause, read_before) = (None, done.len());
            while let Some((preview, retry)) = reading.next().await {
                let unit = preview.unit.clone();
                match retry {
                    None => {
                        failed.remove(&unit);
                        done.insert(unit, preview);
                        progress(done.len());
                    }
                    Some(Retry { after }) => {
                        failed.insert(unit, preview);
                        pause = pause.max(Some(after.unwrap_or(PAUSE)));
                        if after.is_some() {
                            // To go on asking makes it worse. Reads that are under way are asked again.
                            break;
                        }
                    }
                }
            }
            let Some(pause) = pause else { break };
            stalled = if done.len() == read_before { stalled + 1 } else { 0 };
            if stalled == STALLED_MAX {
                break;
            }
            wait(pause.min(PAUSE_MAX)).await;
        }
        let reason = || "others could not be read, and it was not tried".to_owned();
        let untried = |unit: &Unit| (unit.clone(), Preview::unread(unit.clone(), reason()));
        let mut all: BTreeMap<Unit, Preview> = selected.units.iter().map(untried).collect();
        all.extend(failed);
        all.extend(done);
        progress(all.len());
        all.into_values().collect()
    }

    /// And what its reading failed of, where that may pass.
    async fn preview_one(&self, unit: Unit, selected: &Selected) -> (Preview, Option<Retry>) {
        let prepared = match &unit {
            Unit::Runner(key) => {
                let known = selected.reads.get(&key.target).cloned();
                prepare::runner(&self.clients, &self.fleet, &self.clock, key, known).await.map(Some)
            }
            Unit::Target(_) | Unit::Domain(_) | Unit::Identity(_) => {
                prepare::prepare(&self.clients, &self.fleet, &self.clock, &unit).await
            }
        };
        match prepared {
            Ok(Some(prepared)) => (self.show(unit, &prepared), None),
            Ok(None) => (Preview::unread(unit, "a target has no plan of its own".to_owned()), None),
            Err(failure) => {
                let retry = match failure.class {
                    Class::Retry { after } => Some(Retry { after }),
                    Class::Wait { after } => Some(Retry { after: Some(after) }),
                    Class::Conflict | Class::Permanent => None,
                };
                (Preview::unread(unit, failure.text), retry)
            }
        }
    }

    fn show(&self, unit: Unit, prepared: &Prepared) -> Preview {
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
            frozen_until: gate::frozen_until(
                self.fleet.guardrails(),
                prepared.deed,
                self.clients.now(),
            ),
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
