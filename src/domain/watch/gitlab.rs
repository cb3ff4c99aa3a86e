//! Runners that a job cannot tell apart, ours and others', and entities that bear our marker elsewhere.

use crate::domain::{
    claim,
    fleet::{Contested, Offer, Served, clashes},
    fleet_status::{Finding, FindingKind},
    gitlab::{Entity, EntityKind, OpenRunner},
    ids::{FleetName, InstallationId, RunnerId, RunnerKey, TargetId},
    marker::Marker,
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Overlaps on the real tree, as `forerunner plan` shows them.
pub fn overlaps(served: &[Served<'_>], now: Timestamp) -> Vec<Finding> {
    let found = clashes(served).into_iter().map(|clash| {
        let remedy = match clash.identity {
            true => "give one of the two profiles other tags, or except the target from its rule: until then it is chance as whom a job signs in",
            false => "give one of the two profiles other tags, or except the target from its rule",
        };
        Finding::new(FindingKind::Overlap, clash.to_string(), remedy, now)
    });
    found.collect()
}

/// An entity with a marker of this installation that does not belong, or not alone, to the marker's target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misplaced {
    pub runner: RunnerId,
    pub key: RunnerKey,
    pub whose: Whose,
}

/// To whom it belongs instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Others,
    /// To the target and further projects: somebody lent it.
    Shared,
    /// Its target is gone.
    Nobody,
}

/// Entities that bear our marker where it does not count: moved, copied, lent, or left behind when their target was destroyed.
pub fn misplaced(entities: &[Misplaced], now: Timestamp) -> Vec<Finding> {
    let found = entities.iter().map(|Misplaced { runner, key, whose }| {
        let (why, remedy) = match whose {
            Whose::Others => (
                "belongs to somebody else: moved there, or copied; it is not touched",
                "find out whose it is: take the marker out of its description, or delete it in GitLab".to_owned(),
            ),
            Whose::Shared => (
                "serves further projects, whose jobs would run as its own do: its unit has another, and no manager of ours polls with it",
                "delete it in GitLab".to_owned(),
            ),
            Whose::Nobody => (
                "belongs to nobody: its target is gone, and nothing proves any more that it is ours",
                format!("glab api --method DELETE runners/{runner}"),
            ),
        };
        let message =
            format!("runner {runner} in GitLab bears the marker of runner/{key} and {why}");
        Finding::new(FindingKind::LookAlike, message, remedy, now)
    });
    found.collect()
}

/// Targets that GitLab does not answer for, and what it answers instead.
pub fn unread<'a>(
    targets: impl Iterator<Item = (TargetId, &'a str)>,
    now: Timestamp,
) -> Vec<Finding> {
    let found = targets.map(|(target, why)| {
        let message = format!(
            "target {target} could not be read: what it has is kept as it is, neither mended nor removed"
        );
        let remedy = format!("{why}; where it stays so, see that forerunner's user may read it");
        Finding::new(FindingKind::Unwatched, message, remedy, now)
    });
    found.collect()
}

/// Whose runners the rivals of a fleet are not.
pub struct Own<'a> {
    pub fleet: &'a FleetName,
    pub installation: &'a InstallationId,
    /// Targets with a runner of ours that no list shows under its marker: whatever unmarked one they have may be it, which its
    /// round finds out.
    pub doubtful: &'a BTreeSet<TargetId>,
}

/// How many runners of ours take jobs, by a list of them: where GitLab counts as many, there are none of others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnOpen {
    all: usize,
    by_tag: BTreeMap<String, usize>,
}

impl OwnOpen {
    /// Takes one in that is ours beyond doubt: what [`Own`] lets pass and this does not is counted as if it were others', and
    /// then looked at.
    pub fn take(&mut self, entity: &Entity, fleet: &FleetName, installation: &InstallationId) {
        let marker = Marker::find(&entity.description);
        let ours = marker.is_some_and(|marker| {
            let judged = claim::judge(entity, fleet, &marker.key, installation);
            matches!(judged, Some(claim::Claim::Ours { .. }))
        });
        if !ours || entity.paused {
            return;
        }
        self.all += 1;
        let tags: BTreeSet<&String> = entity.tags.iter().collect();
        for tag in tags {
            *self.by_tag.entry(tag.clone()).or_default() += 1;
        }
    }

    /// Those with the tag, or all.
    pub fn with(&self, tag: Option<&str>) -> usize {
        match tag {
            Some(tag) => self.by_tag.get(tag).copied().unwrap_or_default(),
            None => self.all,
        }
    }
}

/// Runners of others that take a job which is meant for one of ours: one finding for each of them, the same again for one that two
/// lists showed.
pub fn rivals(
    served: &[Served<'_>],
    open: &[OpenRunner],
    own: &Own<'_>,
    now: Timestamp,
) -> Vec<Finding> {
    let mut by_job: BTreeMap<Contested, Vec<&Served<'_>>> = BTreeMap::new();
    for one in served {
        let tags = one.spec.runner.tags.iter().map(|tag| Contested::Tag(tag.to_lowercase()));
        let untagged = one.spec.runner.run_untagged.then_some(Contested::Untagged);
        for job in tags.chain(untagged) {
            by_job.entry(job).or_default().push(one);
        }
    }
    let others = open.iter().filter(|one| !own.has(one));
    others.filter_map(|rival| Some(told(rival, &met(rival, &by_job)?, now))).collect()
}

impl Own<'_> {
    fn has(&self, runner: &OpenRunner) -> bool {
        let owners: Vec<TargetId> = runner.owners.iter().map(|(id, _)| *id).collect();
        let of = |target| claim::is_owned(runner.kind, &owners, target);
        let marker = Marker::find(&runner.description);
        // One that serves further projects is told as misplaced.
        let marked = marker.is_some_and(|marker| {
            let target = marker.key.target;
            marker.fleet == *self.fleet
                && marker.installation == *self.installation
                && (of(target) || owners.contains(&target))
        });
        marked || self.doubtful.iter().any(|target| of(*target))
    }
}

/// The first job that the rival takes from one of ours, and those that it is meant for.
fn met<'a, 'b>(
    rival: &OpenRunner,
    by_job: &BTreeMap<Contested, Vec<&'a Served<'b>>>,
) -> Option<(Contested, Vec<&'a Served<'b>>)> {
    let offer = Offer::new(&rival.tags, rival.run_untagged, false);
    let tags = offer.tags.into_iter().map(Contested::Tag);
    let mut jobs = tags.chain(offer.run_untagged.then_some(Contested::Untagged));
    jobs.find_map(|job| {
        let ours = by_job.get(&job)?.iter().filter(|one| shares_a_project(rival, one));
        let ours: Vec<&Served<'_>> = ours.copied().collect();
        (!ours.is_empty()).then_some((job, ours))
    })
}

/// Whether one of its places lies at, above or below the target: then a project may have both.
fn shares_a_project(rival: &OpenRunner, ours: &Served<'_>) -> bool {
    let here = ours.facts.path.as_str();
    let lies_in = |low: &str, high: &str| {
        let rest = low.get(..high.len()).filter(|head| head.eq_ignore_ascii_case(high));
        rest.is_some() && (low.len() == high.len() || low[high.len()..].starts_with('/'))
    };
    let meets = |(id, path): &(TargetId, String)| match (ours.facts.id, id) {
        (TargetId::Instance, _) => true,
        // Nothing lies below a project, and two of them never share one.
        (TargetId::Project(ours), TargetId::Project(theirs)) => ours == *theirs,
        (TargetId::Project(_), _) => lies_in(here, path),
        (TargetId::Group(_), TargetId::Project(_)) => lies_in(path, here),
        (TargetId::Group(_), _) => lies_in(here, path) || lies_in(path, here),
    };
    rival.kind == EntityKind::Instance || rival.owners.iter().any(meets)
}

fn told(
    rival: &OpenRunner,
    (job, ours): &(Contested, Vec<&Served<'_>>),
    now: Timestamp,
) -> Finding {
    let place = match rival.owners.first() {
        None => "of the instance".to_owned(),
        Some((_, path)) => format!("of `{path}`"),
    };
    let jobs = match job {
        Contested::Tag(tag) => format!("jobs with the tag `{tag}`"),
        Contested::Untagged => "jobs without tags".to_owned(),
    };
    let mut keys: Vec<&RunnerKey> = ours.iter().map(|one| &one.spec.key).collect();
    keys.sort();
    let more = match keys.len().saturating_sub(1) {
        0 => String::new(),
        more => format!(" and {more} more of ours"),
    };
    let first = keys.first().map(ToString::to_string).unwrap_or_default();
    let message = format!(
        "runner {} {place} in GitLab is not ours and takes {jobs} that are meant for runner/{first}{more}: it is chance who gets one",
        rival.id
    );
    let remedy = "find out whose it is: give it other tags, pause it or delete it in GitLab, or give the profile other tags";
    Finding::new(FindingKind::ForeignRunner, message, remedy, now)
}

/// Not everything was looked at.
pub fn too_many(pages: usize, now: Timestamp) -> Finding {
    let message = format!(
        "GitLab has more open runners than {} calls show (`sweep.calls.gitlab`): whether others take jobs meant for ours is seen in part",
        pages
    );
    let remedy = "raise `sweep.calls.gitlab`, or let no profile have `runUntagged` or a tag of its own for each target";
    Finding::new(FindingKind::Unwatched, message, remedy, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{claim::tests::entity, ids::GroupId};

    #[test]
    fn only_what_is_ours_beyond_doubt_and_takes_jobs_is_counted() {
        let (fleet, here) = (FleetName::new("nonprod").unwrap(), InstallationId("uid-1".into()));
        let [ours, other] = [42, 7].map(|id| TargetId::Group(GroupId(id)));
        let marked = "tf [forerunner:nonprod:uid-1:g42-tf:1]";
        let cases = [
            (marked, ours, false, 1),
            (marked, ours, true, 0),
            (marked, other, false, 0),
            ("tf [forerunner:nonprod:uid-2:g42-tf:1]", ours, false, 0),
            ("tf [forerunner:prod:uid-1:g42-tf:1]", ours, false, 0),
            ("made by hand", ours, false, 0),
        ];
        for (description, owner, paused, counted) in cases {
            let tags = vec!["tf".to_owned(), "tf".to_owned(), "azure".to_owned()];
            let entity = Entity { paused, tags, ..entity(1, description, owner) };
            let mut open = OwnOpen::default();
            open.take(&entity, &fleet, &here);
            let found = [None, Some("tf"), Some("azure"), Some("TF")].map(|tag| open.with(tag));
            assert_eq!(found, [counted, counted, counted, 0], "{description} of {owner}");
        }
    }
}
