//! What is told of a unit: conditions, the last rounds that did something, and why it is parked. History, never truth.

use super::{
    ids::{RunnerId, Unit},
    message::{Intent, Message},
    sight::Sight,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A unit's status as its ConfigMap keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub unit: Unit,
    /// The target's path when last seen: only a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    pub conditions: Vec<Condition>,
    /// Rounds that wrote something or failed, newest first.
    #[serde(default)]
    pub rounds: Vec<RoundRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<Parked>,
    /// Since when it waits for something that must come to an end; parallel chains of messages share this clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_since: Option<Timestamp>,
    /// Digest of what was asked of the unit when a round last found nothing left to do: the sweep wakes it when
    /// something else is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settled_for: Option<String>,
    /// What it looked like from outside when a round last found nothing left to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sight: Option<Sight>,
    /// Digest of what was asked when it last settled, kept while it is not: what brings it back to that is no change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_settled_for: Option<String>,
    /// It leaves for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Leaving>,
    /// Its target was not to be found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Missing>,
    /// The entity in GitLab that was last made for it, or seen to be its own. No proof: without its marker and our token it is only told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entity: Option<RunnerId>,
    /// What an operator ordered and no round could carry out yet: the next one does, whoever wakes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Ordered>,
    /// When the order came in that was the last to reach a round: none that came in before counts any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered_at: Option<Timestamp>,
}

/// An operator's `pause` or `resume` of a runner. The latest one counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    pub intent: Intent,
    /// Who asked, and why.
    pub cause: String,
    /// When it came in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
}

impl Ordered {
    /// What the message orders that a later round can carry out.
    pub fn by(message: &Message) -> Option<Self> {
        let intent = message.intent?;
        let is_for_later = match intent {
            Intent::Pause | Intent::Resume => matches!(message.unit, Unit::Runner(_)),
            Intent::Reprovision | Intent::Rotate => false,
        };
        is_for_later.then(|| Self { intent, cause: message.cause.clone(), at: message.since })
    }
}

/// How far a unit that leaves has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaving {
    pub since: Timestamp,
    /// When the grace is over.
    pub until: Timestamp,
    /// It polls no more and no job of its runs.
    pub drained: bool,
}

/// What rounds saw of a target that is not to be found. Losing it means *lost sight of*: kept and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// When GitLab first answered 404.
    pub since: Timestamp,
    /// When a verified hook told of its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destroyed: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: ConditionKind,
    pub status: bool,
    /// CamelCase and stable.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Since when `status` has been what it is.
    pub since: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConditionKind {
    /// Sums up the rest.
    Ready,
    Registered,
    IdentityReady,
    Deployed,
    Online,
    NeedsAdministrator,
    Parked,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundRecord {
    pub at: Timestamp,
    pub cause: String,
    pub did: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// From its first read to its last write, to the millisecond; `None` where it could not even read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took: Option<SignedDuration>,
}

impl RoundRecord {
    /// How it ended, for people: `done, in 1s 240ms`, or the failure.
    pub fn end(&self) -> String {
        let how = self.failure.as_deref().unwrap_or("done");
        match self.took {
            Some(took) => format!("{how}, in {took:#}"),
            None => how.to_owned(),
        }
    }
}

/// Taken out of the fast loop until `next`, or until something releases it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    pub reason: String,
    pub since: Timestamp,
    /// How often the sweep has tried it again.
    pub tries: u32,
    /// When the sweep tries it next.
    pub next: Timestamp,
    /// Digest of the `fleet.yaml` it was parked under: a changed one releases it.
    pub fleet: String,
}

/// How units stand, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// By condition, whether it holds, and why.
    pub conditions: BTreeMap<(ConditionKind, bool, String), u64>,
    pub parked: u64,
}

impl Tally {
    pub fn add(&mut self, status: &Status) {
        self.parked += u64::from(status.parked.is_some());
        for Condition { kind, status, reason, .. } in &status.conditions {
            *self.conditions.entry((*kind, *status, reason.clone())).or_default() += 1;
        }
    }
}

const ROUNDS_KEPT: usize = 5;
const PARKED_FIRST: SignedDuration = SignedDuration::from_mins(10);
const PARKED_LONGEST: SignedDuration = SignedDuration::from_hours(6);

/// A condition before it is known since when it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub kind: ConditionKind,
    pub status: bool,
    pub reason: &'static str,
    pub message: String,
}

impl Finding {
    pub fn holds(kind: ConditionKind, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: true, reason, message: message.into() }
    }

    pub fn fails(kind: ConditionKind, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, status: false, reason, message: message.into() }
    }
}

/// Reasons that somebody else's doing is behind, the gravest first: alarms go by them.
const GRAVE: [&str; 4] = ["ForeignRights", "ForeignManager", "ForeignBinding", "ForeignPolicy"];

/// A unit has one condition of a kind: what an administrator is to do stands in it one after the other, under the
/// gravest reason, or else the first.
pub fn for_administrators(mut theirs: Vec<Finding>) -> Option<Finding> {
    let grave = |one: &Finding| {
        GRAVE.iter().position(|reason| *reason == one.reason).unwrap_or(GRAVE.len())
    };
    theirs.sort_by_key(grave);
    let mut messages: Vec<&str> = theirs.iter().map(|one| one.message.as_str()).collect();
    messages.dedup();
    let reason = theirs.first()?.reason;
    Some(Finding::holds(ConditionKind::NeedsAdministrator, reason, messages.join("; ")))
}

impl Status {
    pub fn new(unit: Unit) -> Self {
        Self {
            unit,
            path: None,
            conditions: Vec::new(),
            rounds: Vec::new(),
            parked: None,
            waiting_since: None,
            settled_for: None,
            last_settled_for: None,
            sight: None,
            leaving: None,
            missing: None,
            entity: None,
            order: None,
            ordered_at: None,
        }
    }

    /// Whether an order that came in later has reached a round.
    pub fn is_overtaken(&self, order: &Ordered) -> bool {
        order.at.is_some_and(|at| self.ordered_at.is_some_and(|last| at < last))
    }

    /// Without what only people read: the last rounds, and the conditions but that it waits for an administrator.
    pub fn brief(mut self) -> Self {
        self.rounds = Vec::new();
        self.conditions.retain(|one| one.kind == ConditionKind::NeedsAdministrator);
        self.conditions.shrink_to_fit();
        self
    }

    pub fn condition(&self, kind: ConditionKind) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }

    pub fn is_ready(&self) -> bool {
        self.condition(ConditionKind::Ready).is_some_and(|ready| ready.status)
    }

    /// The status with these findings; `since` moves only where `status` changed.
    pub fn with(mut self, findings: &[Finding], now: Timestamp) -> Self {
        let before = std::mem::take(&mut self.conditions);
        self.conditions = findings
            .iter()
            .map(|finding| {
                let same = before
                    .iter()
                    .find(|old| old.kind == finding.kind && old.status == finding.status);
                Condition {
                    kind: finding.kind,
                    status: finding.status,
                    reason: finding.reason.to_owned(),
                    message: finding.message.clone(),
                    since: same.map_or(now, |old| old.since),
                }
            })
            .collect();
        self.conditions.sort_by_key(|condition| condition.kind);
        self
    }

    pub fn with_round(mut self, record: RoundRecord) -> Self {
        self.rounds.insert(0, record);
        self.rounds.truncate(ROUNDS_KEPT);
        self
    }

    /// Parked, or parked again at a doubled interval: 10 min at first, 6 h at most.
    pub fn park(mut self, reason: &str, fleet: &str, now: Timestamp) -> Self {
        let after = |tries: u32| {
            let wait = PARKED_FIRST.saturating_mul(1 << tries.min(6)).min(PARKED_LONGEST);
            now.saturating_add(wait).unwrap_or(Timestamp::MAX)
        };
        let (since, tries, next) = match &self.parked {
            None => (now, 0, after(0)),
            // A message that was under way already, or a hook: the sweep's own next try stands.
            Some(before) if now < before.next => (before.since, before.tries, before.next),
            Some(before) => (before.since, before.tries + 1, after(before.tries + 1)),
        };
        self.waiting_since = None;
        self.settled_for = None;
        self.sight = None;
        self.parked =
            Some(Parked { reason: reason.to_owned(), since, tries, next, fleet: fleet.to_owned() });
        let finding = [
            Finding::fails(ConditionKind::Ready, "Parked", reason),
            Finding::holds(ConditionKind::Parked, "Parked", reason),
        ];
        let kept: Vec<Condition> = self.conditions.clone();
        self.with(&finding, now).beside(kept)
    }

    /// Tried again and found as it was: it stays parked, with what was seen now.
    pub fn still_parked(self, findings: &[Finding], now: Timestamp) -> Self {
        let ours =
            |one: &&Condition| matches!(one.kind, ConditionKind::Ready | ConditionKind::Parked);
        let parked: Vec<Condition> = self.conditions.iter().filter(ours).cloned().collect();
        let mut seen = self.with(findings, now);
        let others = std::mem::replace(&mut seen.conditions, parked);
        seen.beside(others)
    }

    /// Its conditions, and of these those of other kinds.
    fn beside(mut self, others: Vec<Condition>) -> Self {
        for condition in others {
            if self.condition(condition.kind).is_none() {
                self.conditions.push(condition);
            }
        }
        self.conditions.sort_by_key(|condition| condition.kind);
        self
    }

    pub fn released(mut self) -> Self {
        self.parked = None;
        self.conditions.retain(|condition| condition.kind != ConditionKind::Parked);
        self
    }

    /// Whether the sweep is to wake it: due again, or `fleet.yaml` has changed since.
    pub fn is_due(&self, fleet: &str, now: Timestamp) -> bool {
        self.parked.as_ref().is_some_and(|parked| parked.next <= now || parked.fleet != fleet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_unit_is_tried_at_doubled_intervals_up_to_six_hours() {
        let mut now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let mut status = Status::new("runner/g42-tf".parse().unwrap());
        let mut waits = Vec::new();
        for _ in 0..8 {
            status = status.park("no right", "sha256:1", now);
            let next = status.parked.as_ref().unwrap().next;
            waits.push(next.duration_since(now).as_mins());
            // Whoever tries before that changes nothing of it.
            status = status.park("no right", "sha256:1", now);
            assert_eq!(status.parked.as_ref().unwrap().next, next);
            assert!(status.is_due("sha256:2", now) && !status.is_due("sha256:1", now));
            now = next;
        }
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 360, 360]);
        assert!(status.released().parked.is_none());
    }

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let at = |hour| format!("2026-11-24T{hour:02}:00:00Z").parse::<Timestamp>().unwrap();
        let status = Status::new("runner/g42-tf".parse().unwrap());
        let status = status.with(&[Finding::fails(ConditionKind::Ready, "Waiting", "a")], at(8));
        let status = status.with(&[Finding::fails(ConditionKind::Ready, "Other", "b")], at(9));
        assert_eq!(status.conditions[0].since, at(8));
        let status = status.with(&[Finding::holds(ConditionKind::Ready, "Settled", "c")], at(10));
        assert_eq!(status.conditions[0].since, at(10));
    }
}
