//! Two runners that can take the same job but sign in as different identities make the job's identity a coin toss.
//! Pure: the same for the patterns of the file and for the real tree.

use super::{
    Fleet, identity::IdentityTemplate, pattern::Pattern, problem::Findings, profile::Profile,
    rule::Rule,
};
use crate::domain::{ids::ProfileName, spec::Isolation};
use std::collections::BTreeSet;

/// What a runner offers to jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    pub tags: BTreeSet<String>,
    pub run_untagged: bool,
    pub protected: bool,
}

/// A job that two runners would both take.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Contested {
    /// A job with this tag. The first in order, of those both have.
    Tag(String),
    Untagged,
}

impl Offer {
    pub fn new(tags: &[String], run_untagged: bool, protected: bool) -> Self {
        let tags = tags.iter().map(|tag| tag.to_lowercase()).collect();
        Self { tags, run_untagged, protected }
    }

    /// A job that both would take, if there is one. A job of a protected ref goes to protected and to other runners, so
    /// protection alone never keeps two apart.
    pub fn contests(&self, other: &Self) -> Option<Contested> {
        if let Some(tag) = self.tags.intersection(&other.tags).next() {
            return Some(Contested::Tag(tag.clone()));
        }
        (self.run_untagged && other.run_untagged).then_some(Contested::Untagged)
    }
}

/// Which projects a runner serves.
#[derive(Clone, Debug, PartialEq)]
pub enum Reach {
    Instance,
    /// All projects at any depth below groups that match and are not excepted.
    Groups {
        pattern: Pattern,
        except: Vec<Pattern>,
    },
    Projects {
        pattern: Pattern,
        except: Vec<Pattern>,
    },
}

impl Reach {
    /// Everything that one rule reaches.
    pub(super) fn of(rule: &Rule) -> Vec<Self> {
        let except = || rule.except.clone();
        let groups = rule
            .groups
            .iter()
            .map(|pattern| Self::Groups { pattern: pattern.clone(), except: except() });
        let projects = rule
            .projects
            .iter()
            .map(|pattern| Self::Projects { pattern: pattern.clone(), except: except() });
        groups.chain(projects).chain(rule.instance.then_some(Self::Instance)).collect()
    }

    /// Whether one project can be served by a runner here and by *another* runner there. `same_profile`: one target that
    /// matches both has one runner, so only targets that lie one below the other count.
    pub fn meets(&self, other: &Self, same_profile: bool) -> bool {
        match (self, other) {
            (Self::Instance, Self::Instance) => !same_profile,
            (Self::Instance, Self::Groups { .. } | Self::Projects { .. })
            | (Self::Groups { .. } | Self::Projects { .. }, Self::Instance) => true,
            (
                Self::Groups { pattern: a, except: not_a },
                Self::Groups { pattern: b, except: not_b },
            ) => {
                let equal = !same_profile && at_one_path((a, not_a), (b, not_b));
                equal || below((a, not_a), (b, not_b)) || below((b, not_b), (a, not_a))
            }
            (
                Self::Groups { pattern: a, except: not_a },
                Self::Projects { pattern: b, except: not_b },
            ) => below((b, not_b), (a, not_a)),
            (Self::Projects { .. }, Self::Groups { .. }) => other.meets(self, same_profile),
            (
                Self::Projects { pattern: a, except: not_a },
                Self::Projects { pattern: b, except: not_b },
            ) => !same_profile && at_one_path((a, not_a), (b, not_b)),
        }
    }

    pub fn text(&self) -> String {
        match self {
            Self::Instance => "the instance".to_owned(),
            Self::Groups { pattern, .. } => format!("groups {pattern}"),
            Self::Projects { pattern, .. } => format!("projects {pattern}"),
        }
    }
}

type Side<'a> = (&'a Pattern, &'a [Pattern]);

/// Whether some path fits both. Exact where either is a plain path; two patterns count as meeting unless an exclusion
/// of one covers the other as written.
fn at_one_path(
    (a, not_a): (&Pattern, &Vec<Pattern>),
    (b, not_b): (&Pattern, &Vec<Pattern>),
) -> bool {
    a.meets(b) && !covered((b, not_b), not_a) && !covered((a, not_a), not_b)
}

/// Whether something that fits `low` lies strictly below something that fits `high`.
fn below(
    (low, not_low): (&Pattern, &Vec<Pattern>),
    (high, not_high): (&Pattern, &Vec<Pattern>),
) -> bool {
    if !low.reaches_below(high)
        || covered((high, not_high), not_high)
        || covered((low, not_low), not_low)
    {
        return false;
    }
    if !low.is_literal() {
        return !(high.is_literal() && not_high.iter().any(|except| except.matches(high.as_str())));
    }
    let path = low.as_str();
    let mut ancestors = path.match_indices('/').map(|(end, _)| &path[..end]);
    ancestors
        .any(|group| high.matches(group) && !not_high.iter().any(|except| except.matches(group)))
}

/// Whether exclusions take away all of a pattern: as written, or the one path that it is.
fn covered((pattern, _): Side<'_>, except: &[Pattern]) -> bool {
    except.iter().any(|except| {
        except.as_str().eq_ignore_ascii_case(pattern.as_str())
            || pattern.is_literal() && except.matches(pattern.as_str())
    })
}

/// An overlap: who, where, and which job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    pub profiles: (ProfileName, ProfileName),
    pub reaches: (String, String),
    pub contested: Contested,
    /// Either has an identity, and not both the same one.
    pub identity: bool,
}

/// Overlaps as far as the file alone shows them.
pub(super) fn find(fleet: &Fleet, findings: &mut Findings<'_>) -> Vec<Overlap> {
    let servings: Vec<(&Rule, &Profile, Reach)> = fleet
        .rules
        .iter()
        .flat_map(|rule| {
            let profiles = rule.profiles.iter().filter_map(|name| fleet.profiles.get(name));
            profiles.flat_map(move |profile| {
                Reach::of(rule).into_iter().map(move |reach| (rule, profile, reach))
            })
        })
        .collect();
    let mut found: Vec<Overlap> = Vec::new();
    for (index, (rule, profile, reach)) in servings.iter().enumerate() {
        // From the same index on: a pattern with `**` can match a group and another below it.
        for (_, other, other_reach) in &servings[index..] {
            let same = profile.name == other.name;
            let one_domain = same && profile.isolation == Isolation::Profile;
            if one_domain || !reach.meets(other_reach, same) {
                continue;
            }
            let Some(contested) = offer(profile).contests(&offer(other)) else { continue };
            let identity =
                (profile.has_identity() || other.has_identity()) && !one_identity(profile, other);
            let one = Overlap {
                profiles: (profile.name.clone(), other.name.clone()),
                reaches: (reach.text(), other_reach.text()),
                contested,
                identity,
            };
            if found.contains(&one) {
                continue;
            }
            let (reason, remedy) = told(&one);
            if identity {
                findings.blocked(&rule.at, reason, remedy);
            } else {
                findings.warning(&rule.at, reason, "");
            }
            found.push(one);
        }
    }
    found
}

fn offer(profile: &Profile) -> Offer {
    Offer::new(&profile.runner.tags, profile.runner.run_untagged, profile.runner.protected)
}

/// Both sign in as the one existing identity: whichever takes the job, it is the same in Azure.
fn one_identity(left: &Profile, right: &Profile) -> bool {
    match (&left.identity, &right.identity) {
        (
            IdentityTemplate::Existing { candidates: left, .. },
            IdentityTemplate::Existing { candidates: right, .. },
        ) => left.len() == 1 && left == right,
        (
            IdentityTemplate::None
            | IdentityTemplate::Managed { .. }
            | IdentityTemplate::Existing { .. },
            IdentityTemplate::None
            | IdentityTemplate::Managed { .. }
            | IdentityTemplate::Existing { .. },
        ) => false,
    }
}

fn told(overlap: &Overlap) -> (String, String) {
    let (left, right) = &overlap.profiles;
    let (here, there) = &overlap.reaches;
    let job = match &overlap.contested {
        Contested::Tag(tag) => format!("a job with the tag `{tag}`"),
        Contested::Untagged => "a job without tags".to_owned(),
    };
    if left == right && here == there {
        return (
            format!(
                "{here} can lie one below the other, and {job} there goes to either `{left}` runner"
            ),
            "use `*` instead of `**`, or `isolation: profile`".to_owned(),
        );
    }
    if left == right {
        return (
            format!(
                "{here} and {there} can lie one below the other, and {job} there goes to either \
                 `{left}` runner"
            ),
            "match only one of them, or use `isolation: profile`".to_owned(),
        );
    }
    (
        format!("{job} can go to `{left}` ({here}) or to `{right}` ({there})"),
        "give them different tags, or let only one reach the project".to_owned(),
    )
}
