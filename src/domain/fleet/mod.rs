//! `fleet.yaml` and `guardrails.yaml`: which runners there should be, and the ceiling over them.
//!
//! `tree` reads the YAML with the place of every value, `shape` holds it against the schema of `raw`, `compile` turns it
//! into a [`Fleet`], and `wanted` answers what one target should have.

mod amount;
mod changes;
mod checks;
mod clash;
mod compile;
mod guardrails;
mod identity;
mod kubernetes;
mod labels;
mod namespaces;
mod overlap;
mod pattern;
mod placeholder;
mod problem;
mod profile;
mod raw;
mod reasons;
pub mod roles;
mod rule;
mod runner_keys;
mod settings;
mod shape;
mod tree;
mod wanted;

pub use amount::duration_text;
pub use clash::{Clash, Served, clashes};
pub use guardrails::{Deletions, Freeze, Guardrails};
pub use identity::{Allowance, Exception, GrantTemplate, IdentityTemplate};
pub use overlap::{Contested, Offer, Overlap, Reach};
pub use pattern::Pattern;
pub use problem::{Problem, Severity};
pub use profile::{Drift, Profile, Rotation};
pub use reasons::RuleReason;
pub use rule::Rule;
pub use wanted::{DomainSpec, TargetFacts, Wanted, WantedState};

use super::{
    azure::ResourceId,
    ids::{GroupId, IdentityName, ProfileName, ProjectId, RunnerKey, TargetId},
    names,
    spec::{FleetSettings, Pods, RunnerSpec},
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// What a fleet's files mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    settings: FleetSettings,
    guardrails: Guardrails,
    anchors: rule::Anchors,
    targets: BTreeMap<(TargetKind, String), TargetEntry>,
    rules: Vec<Rule>,
    withdrawn: Vec<Withdrawn>,
    protected: BTreeSet<TargetId>,
    profiles: BTreeMap<ProfileName, Profile>,
    overlaps: Vec<Overlap>,
    not_acted_on: Vec<&'static str>,
    read_at: Timestamp,
}

/// Group or project: what a path names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TargetKind {
    Group,
    Project,
}

/// What the file says of one target, by its path in lower case.
#[derive(Clone, Debug, PartialEq)]
struct TargetEntry {
    path: String,
    values: BTreeMap<String, String>,
    set: BTreeMap<ProfileName, changes::Changes>,
    /// Its id, where none of its runners may be removed.
    protected: Option<TargetId>,
}

/// A target with an entry of its own in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTarget<'a> {
    pub kind: TargetKind,
    pub path: &'a str,
    pub values: &'a BTreeMap<String, String>,
    /// Profiles that `set` changes here.
    pub changed: Vec<&'a ProfileName>,
    pub is_protected: bool,
}

/// A target that gets nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Withdrawn {
    pub target: TargetId,
    pub path: Option<String>,
    pub reason: String,
}

/// A pattern of a rule, so that a sweep knows what to look for.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetPattern {
    pub kind: TargetKind,
    pub pattern: Pattern,
    /// The group above everything that matches, by id; rules with an identity always have one.
    pub anchor: Option<GroupId>,
}

impl Fleet {
    /// Reads the files. `guardrails_yaml` is for those who keep the ceiling apart; else it is the key `guardrails`.
    ///
    /// With the fleet come the problems that do not stop it: [`Severity::Blocked`] and [`Severity::Warning`].
    /// Errors: everything that is wrong, as far as it can be seen at once; at least one is a [`Severity::Error`].
    pub fn parse(
        fleet_yaml: &str,
        guardrails_yaml: Option<&str>,
        now: Timestamp,
    ) -> Result<(Self, Vec<Problem>), Vec<Problem>> {
        compile::compile(fleet_yaml, guardrails_yaml, now)
    }

    /// Whether no path removes the target's runner of this profile: the profile or the target says `protect: true`.
    pub fn protects(&self, key: &RunnerKey) -> bool {
        self.protected.contains(&key.target)
            || self.profile(&key.profile).is_some_and(|profile| profile.protect)
    }

    /// What every runner of the fleet shares.
    pub fn settings(&self) -> &FleetSettings {
        &self.settings
    }

    pub fn guardrails(&self) -> &Guardrails {
        &self.guardrails
    }

    /// The profiles by the name that keys and units have (the name a renamed profile first had).
    pub fn profile_names(&self) -> BTreeSet<ProfileName> {
        self.profiles.values().map(|profile| profile.key.clone()).collect()
    }

    pub fn profiles(&self) -> impl Iterator<Item = &Profile> {
        self.profiles.values()
    }

    /// A profile by the name that keys and units have.
    pub fn profile(&self, key: &ProfileName) -> Option<&Profile> {
        self.profiles.values().find(|profile| profile.key == *key)
    }

    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    pub fn withdrawn(&self) -> &[Withdrawn] {
        &self.withdrawn
    }

    /// Runners that can take the same job as different identities, as far as the file alone shows.
    pub fn overlaps(&self) -> &[Overlap] {
        &self.overlaps
    }

    /// Keys of the file that this version reads and checks, and does not act on yet.
    pub fn not_acted_on(&self) -> &[&'static str] {
        &self.not_acted_on
    }

    /// Path → id of the groups that rules are pinned to.
    pub fn anchors(&self) -> impl Iterator<Item = (&str, GroupId)> {
        self.anchors.iter().map(|(path, id)| (path.as_str(), *id))
    }

    /// The patterns of all rules.
    pub fn group_patterns(&self) -> Vec<TargetPattern> {
        let mut patterns: Vec<TargetPattern> = Vec::new();
        for rule in &self.rules {
            let kinds = [(TargetKind::Group, &rule.groups), (TargetKind::Project, &rule.projects)];
            for (kind, list) in kinds {
                for pattern in list {
                    let anchor = rule::anchor_of(pattern, &self.anchors).map(|(_, id)| id);
                    let one = TargetPattern { kind, pattern: pattern.clone(), anchor };
                    if !patterns.contains(&one) {
                        patterns.push(one);
                    }
                }
            }
        }
        patterns
    }

    /// Whether a rule is for the instance.
    pub fn serves_instance(&self) -> bool {
        self.rules.iter().any(|rule| rule.instance)
    }

    /// Whether a rule could match this target, or for a group something below it. Only a hint: what it lets through is
    /// looked at properly, and what it drops the sweep finds.
    pub fn could_match(&self, target: TargetId, path: &str) -> bool {
        let any = |pick: fn(&Rule) -> &Vec<Pattern>, fits: &dyn Fn(&Pattern) -> bool| {
            self.rules.iter().any(|rule| pick(rule).iter().any(fits))
        };
        match target {
            TargetId::Instance => self.serves_instance(),
            TargetId::Project(_) => any(|rule| &rule.projects, &|pattern| pattern.matches(path)),
            TargetId::Group(id) => {
                let here = |pattern: &Pattern| pattern.matches(path);
                let below = |pattern: &Pattern| pattern.may_match_below(path);
                self.anchors.values().any(|anchor| *anchor == id)
                    || any(|rule| &rule.groups, &here)
                    || any(|rule| &rule.groups, &below)
                    || any(|rule| &rule.projects, &below)
            }
        }
    }

    /// Every existing identity that the file names, with the profiles (by key) that use it.
    pub fn existing_identities(&self) -> BTreeMap<IdentityName, (ResourceId, Vec<ProfileName>)> {
        let mut identities: BTreeMap<IdentityName, (ResourceId, Vec<ProfileName>)> =
            BTreeMap::new();
        for profile in self.profiles.values() {
            if let IdentityTemplate::Existing { candidates, .. } = &profile.identity {
                for id in candidates {
                    let entry = identities.entry(names::identity_unit(id));
                    entry.or_insert_with(|| (id.clone(), Vec::new())).1.push(profile.key.clone());
                }
            }
        }
        identities
    }

    /// One runner of each profile, for what depends on the profile alone. Placeholders are filled with their own names.
    pub fn sample_runners(&self) -> Vec<RunnerSpec> {
        let samples = self.profiles.values().filter_map(|profile| {
            let values = profile.placeholders.iter().map(|name| (name.clone(), name.clone()));
            self.spec(profile, TargetId::Instance, &values.collect()).ok()
        });
        samples.collect()
    }

    /// Administrators' namespaces whose job pods are privileged: the admission policy lists them.
    pub fn privileged_namespaces(&self) -> Vec<String> {
        let privileged = self.profiles.values().filter(|profile| profile.pods == Pods::Privileged);
        privileged.filter_map(|profile| profile.kubernetes.namespace.clone()).collect()
    }

    /// A target as the file alone knows it: its path, and the anchors above it. Its id is 0 unless it is an anchor.
    pub fn facts_of(&self, kind: TargetKind, path: &str) -> TargetFacts {
        let lower = path.to_lowercase();
        let own = self.anchors.get(&lower).copied().unwrap_or(GroupId(0));
        let above = |anchor: &str| anchor != lower && rule::lies_at_or_below(&lower, anchor);
        let ancestors = self.anchors.iter().filter(|(anchor, _)| above(anchor));
        TargetFacts {
            id: match kind {
                TargetKind::Group => TargetId::Group(own),
                TargetKind::Project => TargetId::Project(ProjectId(0)),
            },
            path: path.to_owned(),
            ancestors: ancestors.map(|(anchor, id)| (*id, anchor.clone())).collect(),
            personal: false,
        }
    }

    /// The targets that the file has values or changes for: path as written, values, and profiles with changes.
    pub fn named_targets(&self) -> impl Iterator<Item = NamedTarget<'_>> {
        self.targets.iter().map(|((kind, _), entry)| NamedTarget {
            kind: *kind,
            path: &entry.path,
            values: &entry.values,
            changed: entry.set.keys().collect(),
            is_protected: entry.protected.is_some(),
        })
    }
}

/// The JSON Schema of `fleet.yaml`.
pub fn schema() -> &'static serde_json::Value {
    raw::fleet_schema()
}

/// The JSON Schema of `guardrails.yaml`.
pub fn guardrails_schema() -> &'static serde_json::Value {
    raw::guardrails_schema()
}

impl Withdrawn {
    fn of(group: Option<u64>, project: Option<u64>) -> Option<TargetId> {
        match (group, project) {
            (Some(id), None) => Some(TargetId::Group(GroupId(id))),
            (None, Some(id)) => Some(TargetId::Project(ProjectId(id))),
            (Some(_), Some(_)) | (None, None) => None,
        }
    }
}
