//! What the sweep found of the fleet as a whole, beside its units: history for people, never truth.

use super::slice::{Slice, SliceKind};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What the last sweep with something to tell wrote down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetStatus {
    /// When it swept. A sweep that finds nothing new writes nothing, so a sweep since may have found the same.
    pub swept_at: Timestamp,
    /// Whether it saw the whole fleet; else it gives no permits.
    pub whole: bool,
    /// What it could not read, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<String>,
    /// Since when sweeps have not seen it, by its part.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unseen_since: BTreeMap<String, Timestamp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// Findings beyond those that are kept.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more: usize,
    /// How far sweeps have come, where one of them cannot look at everything.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub slices: BTreeMap<SliceKind, Slice>,
}

/// Something that belongs to no unit, or that no round may mend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub kind: FindingKind,
    /// For people.
    pub message: String,
    /// A whole command, or words where there is none.
    pub remedy: String,
    /// Since when sweeps have found it.
    pub since: Timestamp,
}

/// CamelCase and stable outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum FindingKind {
    /// A writing right that reaches an entry of `guardrails.never`.
    ReachesNever,
    /// The shipped admission policy or its binding is gone or edited.
    AdmissionPolicy,
    /// The managers' ClusterRole is gone, wider or narrower than the file asks.
    ManagerRole,
    /// Two runners of the real tree that a job cannot tell apart.
    Overlap,
    /// A runner that is not ours and takes jobs meant for one of ours.
    ForeignRunner,
    /// The workload-identity webhook is missing in the cluster.
    IdentityWebhook,
    /// A GitLab runner with our marker that belongs to somebody else.
    LookAlike,
    /// An identity of ours that nobody keeps.
    StrayIdentity,
    /// A role of ours that a dead principal holds.
    OrphanedRole,
    /// A role of ours where the guardrails' scopes do not reach.
    RoleBeyondReach,
    /// A limit of Azure's comes near.
    LimitNear,
    /// Something that forerunner is to watch and may not look at.
    Unwatched,
}

/// How many findings are kept: a ConfigMap holds a megabyte, and nobody reads more.
const KEPT_MAX: usize = 200;
/// While there is something to tell, this often is told that it is still so.
const TOLD_AGAIN: SignedDuration = SignedDuration::from_hours(1);

impl Finding {
    pub fn new(
        kind: FindingKind,
        message: impl Into<String>,
        remedy: impl Into<String>,
        since: Timestamp,
    ) -> Self {
        Self { kind, message: message.into(), remedy: remedy.into(), since }
    }

    fn is(&self, other: &Self) -> bool {
        self.kind == other.kind && self.message == other.message
    }
}

/// How many there are of each kind, each told once, however many are kept.
pub fn count(findings: &[Finding]) -> BTreeMap<FindingKind, u64> {
    let each: BTreeSet<_> = findings.iter().map(|one| (one.kind, one.message.as_str())).collect();
    each.into_iter().fold(BTreeMap::new(), |mut counts, (kind, _)| {
        *counts.entry(kind).or_default() += 1;
        counts
    })
}

impl FleetStatus {
    /// What a sweep at `now` saw, after what was told `before`.
    pub fn of(
        before: Option<&Self>,
        unseen: Vec<String>,
        mut findings: Vec<Finding>,
        slices: BTreeMap<SliceKind, Slice>,
        now: Timestamp,
    ) -> Self {
        let known = before.map_or(&[][..], |before| before.findings.as_slice());
        for finding in &mut findings {
            let same = known.iter().find(|known| known.is(finding));
            finding.since = same.map_or(now, |known| known.since);
        }
        findings
            .sort_by(|left, right| (left.kind, &left.message).cmp(&(right.kind, &right.message)));
        findings.dedup_by(|left, right| left.is(right));
        let more = findings.len().saturating_sub(KEPT_MAX);
        findings.truncate(KEPT_MAX);
        let unseen_since = unseen.iter().map(|reason| {
            let since = before.and_then(|before| before.since(reason));
            (part(reason).to_owned(), since.unwrap_or(now))
        });
        let unseen_since = unseen_since.collect();
        let whole = unseen.is_empty();
        Self { swept_at: now, whole, unseen, unseen_since, findings, more, slices }
    }

    /// What was not seen and why, with since when: as far as that is known, where an older version wrote it down.
    pub fn unseen(&self) -> impl Iterator<Item = (&str, Timestamp)> {
        self.unseen.iter().map(|reason| (&**reason, self.since(reason).unwrap_or(self.swept_at)))
    }

    /// Since when what the reason is about was not seen, if that was told.
    fn since(&self, reason: &str) -> Option<Timestamp> {
        let is_told = || self.unseen.iter().any(|told| part(told) == part(reason));
        let since = self.unseen_since.get(part(reason)).copied();
        since.or_else(|| is_told().then_some(self.swept_at))
    }

    /// Whether there is anything to tell.
    pub fn is_quiet(&self) -> bool {
        self.whole && self.findings.is_empty() && self.slices.is_empty()
    }

    /// Whether this is worth a write after `before`: something changed, or there still is something to tell and that was
    /// told an hour ago. The sweep of a healthy fleet that it sees whole writes nothing.
    pub fn is_news(&self, before: Option<&Self>) -> bool {
        let Some(before) = before else { return !self.is_quiet() };
        let same = Self { swept_at: self.swept_at, ..before.clone() } == *self;
        let stale = self.swept_at.duration_since(before.swept_at) >= TOLD_AGAIN;
        !same || (stale && !self.is_quiet())
    }

    /// Findings that no sweep told before.
    pub fn new_findings(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.since == self.swept_at)
    }
}

/// What a reason is about: why it could not be seen comes after it, and may change.
fn part(reason: &str) -> &str {
    reason.split_once(": ").map_or(reason, |(part, _)| part)
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}; {}", self.kind, self.message, self.remedy)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Whether a step for an administrator is a command, and not words.
pub fn is_command(step: &str) -> bool {
    ["az ", "kubectl ", "forerunner ", "glab "].iter().any(|program| step.starts_with(program))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        "2026-11-24T08:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
    }

    fn stray(name: &str) -> Finding {
        Finding::new(FindingKind::StrayIdentity, name, "az identity delete", at(0))
    }

    #[test]
    fn a_quiet_sweep_is_no_news_and_a_loud_one_once_an_hour() {
        let quiet = |before: Option<&FleetStatus>, minutes| {
            FleetStatus::of(before, vec![], vec![], BTreeMap::new(), at(minutes))
        };
        let loud = |before: Option<&FleetStatus>, minutes| {
            FleetStatus::of(before, vec![], vec![stray("a")], BTreeMap::new(), at(minutes))
        };
        assert!(!quiet(None, 0).is_news(None));
        let first = loud(None, 0);
        assert!(first.is_news(None));
        let soon = loud(Some(&first), 10);
        assert!(!soon.is_news(Some(&first)) && soon.new_findings().count() == 0);
        assert_eq!(soon.findings[0].since, at(0));
        assert!(loud(Some(&first), 60).is_news(Some(&first)));
        let over = quiet(Some(&first), 20);
        assert!(over.is_news(Some(&first)));
        assert!(!quiet(Some(&over), 500).is_news(Some(&over)));
        let unseen =
            FleetStatus::of(Some(&over), vec!["no".into()], vec![], BTreeMap::new(), at(30));
        assert!(!unseen.whole && unseen.is_news(Some(&over)));
    }

    #[test]
    fn what_is_not_seen_keeps_its_time_whatever_keeps_it_from_being_seen() {
        let sweep = |before: Option<&FleetStatus>, unseen: &[&str], minutes| {
            let unseen = unseen.iter().map(ToString::to_string).collect();
            FleetStatus::of(before, unseen, vec![], BTreeMap::new(), at(minutes))
        };
        let first = sweep(None, &["roles: 503"], 0);
        let second = sweep(Some(&first), &["issuer: no", "roles: 500"], 10);
        let told: Vec<_> = second.unseen().collect();
        assert_eq!(told, [("issuer: no", at(10)), ("roles: 500", at(0))]);
        // The same again is written once an hour; what was seen meanwhile begins anew.
        let third = sweep(Some(&second), &["issuer: no", "roles: 500"], 20);
        assert!(!third.is_news(Some(&second)));
        let fourth = sweep(Some(&sweep(Some(&third), &["issuer: no"], 30)), &["roles: 500"], 40);
        assert_eq!(fourth.unseen_since, BTreeMap::from([("roles".to_owned(), at(40))]));
        // As an older version wrote it.
        let mut old = serde_json::to_value(&first).unwrap();
        old.as_object_mut().unwrap().remove("unseen_since");
        let old: FleetStatus = serde_json::from_value(old).unwrap();
        assert_eq!(old.unseen().collect::<Vec<_>>(), [("roles: 503", at(0))]);
        assert_eq!(sweep(Some(&old), &["roles: 500"], 10).unseen_since["roles"], at(0));
    }

    #[test]
    fn findings_stand_in_one_order_once_each_and_are_not_endless() {
        let many: Vec<Finding> =
            (0..300).map(|number| stray(&format!("{:03}", number % 250))).collect();
        let counted = count(&many);
        let status = FleetStatus::of(None, vec![], many, BTreeMap::new(), at(0));
        assert_eq!((status.findings.len(), status.more), (KEPT_MAX, 50));
        assert_eq!(counted, BTreeMap::from([(FindingKind::StrayIdentity, 250)]));
        let messages: Vec<&str> =
            status.findings.iter().map(|finding| finding.message.as_str()).collect();
        assert!(messages.is_sorted());
    }
}
