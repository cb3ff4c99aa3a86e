//! Why a rule takes a target or does not: what `wanted` decides, told for people.

use super::{Fleet, Pattern, Rule, TargetFacts, rule, wanted};
use crate::domain::ids::{GroupId, TargetId};
use std::fmt;

/// Why one rule takes a target, or the nearest it came to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleReason {
    Matches {
        /// Nothing for the instance.
        pattern: Option<String>,
        /// The anchor's path and id, where the pattern lies under one.
        anchor: Option<(String, GroupId)>,
    },
    /// It would, had the anchor's group kept its path.
    AnchorMoved {
        pattern: String,
        anchor: String,
        found: String,
        id: GroupId,
    },
    Excepted {
        pattern: String,
        except: String,
    },
    /// The path fits, but the group that the anchor pins is not above the target.
    OtherAnchor {
        pattern: String,
        anchor: String,
        id: GroupId,
    },
    /// None of its patterns fits the path.
    NoPattern,
    /// It has no pattern for what the target is.
    OtherKind {
        kind: &'static str,
    },
    /// Rules never match personal namespaces.
    Personal,
}

impl RuleReason {
    pub fn matches(&self) -> bool {
        matches!(self, Self::Matches { .. })
    }

    /// How near it came: of several patterns the nearest is told.
    fn distance(&self) -> u8 {
        match self {
            Self::Matches { .. } => 0,
            Self::AnchorMoved { .. } => 1,
            Self::Excepted { .. } => 2,
            Self::OtherAnchor { .. } => 3,
            Self::NoPattern => 4,
            Self::OtherKind { .. } => 5,
            Self::Personal => 6,
        }
    }
}

impl Fleet {
    /// Every rule, in the file's order, with why it takes the target or not.
    pub fn reasons(&self, target: &TargetFacts) -> Vec<(&Rule, RuleReason)> {
        self.rules.iter().map(|rule| (rule, self.reason(rule, target))).collect()
    }

    fn reason(&self, rule: &Rule, target: &TargetFacts) -> RuleReason {
        if target.personal {
            return RuleReason::Personal;
        }
        let (kind, patterns) = match target.id {
            TargetId::Instance if rule.instance => {
                return RuleReason::Matches { pattern: None, anchor: None };
            }
            TargetId::Instance => return RuleReason::OtherKind { kind: "the instance" },
            TargetId::Group(_) => ("groups", &rule.groups),
            TargetId::Project(_) => ("projects", &rule.projects),
        };
        let told = patterns.iter().map(|pattern| self.pattern_reason(rule, pattern, target));
        let nearest = told.min_by_key(RuleReason::distance);
        nearest.unwrap_or(RuleReason::OtherKind { kind })
    }

    fn pattern_reason(&self, rule: &Rule, pattern: &Pattern, target: &TargetFacts) -> RuleReason {
        let name = pattern.to_string();
        let here = |path: &str, anchor: Option<(String, GroupId)>| {
            if !pattern.matches(path) {
                return RuleReason::NoPattern;
            }
            match rule.except.iter().find(|except| except.matches(path)) {
                Some(except) => {
                    RuleReason::Excepted { pattern: name.clone(), except: except.to_string() }
                }
                None => RuleReason::Matches { pattern: Some(name.clone()), anchor },
            }
        };
        let Some((anchor, id)) = rule::anchor_of(pattern, &self.anchors) else {
            return here(&target.path, None);
        };
        let anchor = anchor.to_owned();
        let Some(found) = wanted::path_of(target, id) else {
            let near = here(&target.path, None);
            let other = RuleReason::OtherAnchor { pattern: name.clone(), anchor, id };
            return if near.matches() { other } else { near };
        };
        if found.to_lowercase() == anchor {
            return here(&target.path, Some((anchor, id)));
        }
        let before = wanted::as_before(&target.path, found, &anchor);
        let Some(near) = before.map(|path| here(&path, None)) else { return RuleReason::NoPattern };
        if !near.matches() {
            return near;
        }
        RuleReason::AnchorMoved { pattern: name.clone(), anchor, found: found.to_owned(), id }
    }
}

impl fmt::Display for RuleReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Matches { pattern: None, .. } => f.write_str("it is for the instance"),
            Self::Matches { pattern: Some(pattern), anchor: None } => write!(f, "`{pattern}` fits"),
            Self::Matches { pattern: Some(pattern), anchor: Some((anchor, id)) } => {
                write!(f, "`{pattern}` fits, under the anchor `{anchor}` (group {id})")
            }
            Self::AnchorMoved { pattern, anchor, found, id } => write!(
                f,
                "`{pattern}` would fit, but group {id} of the anchor `{anchor}` is at `{found}` now: put the new path into `anchors`"
            ),
            Self::Excepted { pattern, except } => {
                write!(f, "`{pattern}` fits, and `except: {except}` takes it out")
            }
            Self::OtherAnchor { pattern, anchor, id } => write!(
                f,
                "`{pattern}` fits the path, but the group `{anchor}` above it is not group {id} that `anchors` pins"
            ),
            Self::NoPattern => f.write_str("none of its patterns fits the path"),
            Self::OtherKind { kind } => write!(f, "it says nothing of {kind}"),
            Self::Personal => f.write_str("rules never match a personal namespace"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::ProjectId;

    const FILE: &str = "
version: 1
fleet: nonprod
gitlab: { url: https://gitlab.example.com, token: { keyVault: kv-fleet, secret: token } }
cluster: { kubeconfig: kubeconfig }
anchors: { a: 1 }
rules:
  - { match: { groups: a/*, except: a/x }, profiles: [one] }
  - { match: { projects: [free/*, a/*/p] }, profiles: [two] }
  - { match: { instance: true }, profiles: [two] }
profiles: { one: { runner: { tags: [x] }, identity: none }, two: { runner: { tags: [y] }, identity: none } }
";

    #[test]
    fn each_rule_says_why_and_never_another_thing_than_what_is_wanted() {
        let now = "2026-11-24T08:00:00Z".parse().unwrap();
        let (fleet, _) =
            Fleet::parse(FILE, None, now).unwrap_or_else(|problems| panic!("{problems:?}"));
        let group = |id, path: &str, above: &[(u64, &str)]| TargetFacts {
            id: TargetId::Group(GroupId(id)),
            path: path.to_owned(),
            ancestors: above.iter().map(|(id, path)| (GroupId(*id), (*path).to_owned())).collect(),
            personal: false,
        };
        let project = |path: &str, above: &[(u64, &str)]| TargetFacts {
            id: TargetId::Project(ProjectId(9)),
            ..group(0, path, above)
        };
        let instance = TargetFacts { id: TargetId::Instance, ..group(0, "", &[]) };
        let personal = TargetFacts { personal: true, ..project("free/p", &[]) };
        let cases: [(&str, &TargetFacts, [&str; 3]); 9] = [
            (
                "matched",
                &group(2, "A/b", &[(1, "A")]),
                ["under the anchor `a` (group 1)", "nothing of groups", "nothing of groups"],
            ),
            ("excepted", &group(3, "a/x", &[(1, "a")]), ["`except: a/x` takes it out", "", ""]),
            (
                "another group of that name",
                &group(4, "a/b", &[(7, "a")]),
                ["is not group 1", "", ""],
            ),
            ("moved", &group(2, "z/b", &[(1, "z")]), ["is at `z` now", "", ""]),
            ("elsewhere", &group(5, "c/d", &[(6, "c")]), ["none of its patterns", "", ""]),
            (
                "deeper",
                &group(5, "a/b/c", &[(1, "a"), (2, "a/b")]),
                ["none of its patterns", "", ""],
            ),
            (
                "free project",
                &project("free/p", &[(8, "free")]),
                ["nothing of projects", "`free/*` fits", "nothing of projects"],
            ),
            (
                "instance",
                &instance,
                ["nothing of the instance", "nothing of the instance", "is for the instance"],
            ),
            ("personal", &personal, ["personal", "personal", "personal"]),
        ];
        for (name, facts, words) in cases {
            let reasons = fleet.reasons(facts);
            for ((_, reason), words) in reasons.iter().zip(words) {
                assert!(reason.to_string().contains(words), "{name}: {reason}");
            }
            let given = reasons.iter().filter(|(_, reason)| {
                reason.matches() || matches!(reason, RuleReason::AnchorMoved { .. })
            });
            let told: Vec<String> =
                given.flat_map(|(rule, _)| &rule.profiles).map(ToString::to_string).collect();
            let wanted: Vec<String> =
                fleet.wanted(facts).iter().map(|one| one.profile.to_string()).collect();
            assert_eq!(told, wanted, "{name}");
        }
    }
}
