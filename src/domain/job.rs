//! A CI job as far as it matters who may take it, and what stands between it and a runner.

use super::{
    gitlab::{Entity, EntityKind},
    ids::{ProjectId, RunnerId},
};
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub id: u64,
    pub project: ProjectId,
    pub name: String,
    /// GitLab's word, such as `pending`.
    pub status: String,
    pub tags: Vec<String>,
    /// Branch, tag or merge request's ref.
    pub reference: String,
    /// Nothing where our token could not learn it.
    pub protected: Option<bool>,
    /// Who had it.
    pub runner: Option<RunnerId>,
    pub system_id: Option<String>,
    pub failure: Option<String>,
}

/// What a project says of runners that are not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    pub instance_runners: bool,
    pub group_runners: bool,
}

/// A contact this old counts as offline in GitLab (gitlab.md §3.8).
const ONLINE: SignedDuration = SignedDuration::from_hours(2);

/// Why the runner does not take the job; empty where it may.
pub fn refusals(job: &Job, switches: Switches, runner: &Entity, now: Timestamp) -> Vec<String> {
    let mut reasons = Vec::new();
    let off = match runner.kind {
        EntityKind::Instance => (!switches.instance_runners).then_some("instance runners"),
        EntityKind::Group => (!switches.group_runners).then_some("group runners"),
        EntityKind::Project => None,
    };
    reasons.extend(off.map(|kind| format!("the project has {kind} switched off")));
    let has: BTreeSet<String> = runner.tags.iter().map(|tag| tag.to_lowercase()).collect();
    let missing: Vec<&str> = job
        .tags
        .iter()
        .filter(|tag| !has.contains(&tag.to_lowercase()))
        .map(String::as_str)
        .collect();
    if !missing.is_empty() {
        reasons.push(format!("it lacks the tag(s) {}", missing.join(", ")));
    }
    if job.tags.is_empty() && !runner.run_untagged {
        reasons.push("the job has no tags, and it takes only jobs that have".to_owned());
    }
    match (runner.protected, job.protected) {
        (true, Some(false)) => reasons.push(format!(
            "it takes jobs of protected refs only, and `{}` is not protected",
            job.reference
        )),
        (true, None) => reasons.push(format!(
            "it takes jobs of protected refs only, and whether `{}` is protected could not be read",
            job.reference
        )),
        (true, Some(true)) | (false, _) => {}
    }
    if runner.paused {
        reasons.push("it is paused".to_owned());
    }
    match runner.contacted_at {
        None => reasons.push("it never polled".to_owned()),
        Some(at) if now.duration_since(at) >= ONLINE => {
            reasons.push(format!("it is offline: it last polled at {at}"));
        }
        Some(_) => {}
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        claim::tests::entity,
        ids::{GroupId, TargetId},
    };

    #[test]
    fn every_reason_stands_alone_and_all_are_told() {
        let now: Timestamp = "2026-11-24T08:00:00Z".parse().unwrap();
        let fine = Entity {
            paused: false,
            tags: vec!["Azure".into(), "x".into()],
            protected: true,
            contacted_at: Some(now - SignedDuration::from_mins(5)),
            ..entity(1, "x", TargetId::Group(GroupId(42)))
        };
        let job = Job {
            id: 7,
            project: ProjectId(9),
            name: "test".into(),
            status: "pending".into(),
            tags: vec!["azure".into()],
            reference: "main".into(),
            protected: Some(true),
            runner: None,
            system_id: None,
            failure: None,
        };
        let on = Switches { instance_runners: true, group_runners: true };
        let check = |job: &Job, switches, runner: &Entity, words: &[&str]| {
            let told = refusals(job, switches, runner, now);
            assert_eq!(told.len(), words.len(), "{words:?}: {told:?}");
            assert!(told.iter().zip(words).all(|(told, word)| told.contains(word)), "{told:?}");
        };
        check(&job, on, &fine, &[]);
        check(&job, Switches { group_runners: false, ..on }, &fine, &["group runners"]);
        let tagged = Job { tags: vec!["azure".into(), "gpu".into()], ..job.clone() };
        check(&tagged, on, &fine, &["tag(s) gpu"]);
        let untagged = Job { tags: vec![], ..job.clone() };
        check(&untagged, on, &fine, &["no tags"]);
        check(&untagged, on, &Entity { run_untagged: true, ..fine.clone() }, &[]);
        let topic = Job { reference: "topic".into(), protected: Some(false), ..job.clone() };
        check(&topic, on, &fine, &["`topic` is not protected"]);
        check(&topic, on, &Entity { protected: false, ..fine.clone() }, &[]);
        check(&Job { protected: None, ..job.clone() }, on, &fine, &["could not be read"]);
        let old = Some(now - SignedDuration::from_hours(3));
        let idle = Entity { paused: true, contacted_at: old, ..fine.clone() };
        check(&job, on, &idle, &["paused", "offline"]);
        check(&tagged, on, &Entity { contacted_at: None, ..fine }, &["gpu", "never polled"]);
    }
}
