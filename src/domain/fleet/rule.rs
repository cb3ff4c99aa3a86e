//! Which targets get which profiles.

use super::{
    pattern::Pattern,
    problem::{At, Findings, nearest},
    profile::Profile,
    raw::{OneOrMany, RawMatch, RawRule},
};
use crate::domain::ids::{GroupId, ProfileName};
use std::collections::BTreeMap;

/// One rule. Rules add up, so their order means nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub groups: Vec<Pattern>,
    pub projects: Vec<Pattern>,
    pub instance: bool,
    /// Beats what the rule matches.
    pub except: Vec<Pattern>,
    /// As the file calls them now.
    pub profiles: Vec<ProfileName>,
    pub(super) at: At,
}

/// Path of a group, lower case, and the id that the group there must have.
pub(super) type Anchors = BTreeMap<String, GroupId>;

impl Rule {
    pub fn excepts(&self, path: &str) -> bool {
        self.except.iter().any(|pattern| pattern.matches(path))
    }
}

/// The deepest anchor that everything the pattern matches lies at or below.
pub(super) fn anchor_of<'a>(pattern: &Pattern, anchors: &'a Anchors) -> Option<(&'a str, GroupId)> {
    let prefix = pattern.literal_prefix();
    let under = anchors.iter().filter(|(anchor, _)| lies_at_or_below(&prefix, anchor));
    under.max_by_key(|(anchor, _)| anchor.len()).map(|(anchor, id)| (anchor.as_str(), *id))
}

/// Compares segment by segment; both in lower case.
pub(super) fn lies_at_or_below(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

pub(super) fn compile(
    raw: &[RawRule],
    profiles: &BTreeMap<ProfileName, Profile>,
    anchors: &Anchors,
    findings: &mut Findings<'_>,
    at: &At,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let at = at.index(index);
        let matched = at.key("match");
        let rule = Rule {
            groups: patterns(raw.r#match.groups.as_ref(), &matched.key("groups"), findings),
            projects: patterns(raw.r#match.projects.as_ref(), &matched.key("projects"), findings),
            instance: raw.r#match.instance.unwrap_or(false),
            except: patterns(raw.r#match.except.as_ref(), &matched.key("except"), findings),
            profiles: named(&raw.profiles, profiles, &at.key("profiles"), findings),
            at,
        };
        if rule.groups.is_empty() && rule.projects.is_empty() && !rule.instance {
            let remedy = "name `groups`, `projects` or `instance: true`";
            findings.error(&matched, "matches nothing", remedy);
        }
        check_anchors(&rule, &raw.r#match, profiles, anchors, findings);
        rules.push(rule);
    }
    for rule in &rules {
        check_exclusions(rule, &rules, findings);
    }
    rules
}

fn patterns(raw: Option<&OneOrMany>, at: &At, findings: &mut Findings<'_>) -> Vec<Pattern> {
    let texts = raw.map(OneOrMany::to_vec).unwrap_or_default();
    let read = texts.iter().enumerate().filter_map(|(index, text)| {
        let place = item(raw, at, index);
        findings.accept(&place, Pattern::new(text), "")
    });
    read.collect()
}

fn item(raw: Option<&OneOrMany>, at: &At, index: usize) -> At {
    match raw {
        Some(OneOrMany::Many(_)) => at.index(index),
        Some(OneOrMany::One(_)) | None => at.clone(),
    }
}

fn named(
    names: &[String],
    profiles: &BTreeMap<ProfileName, Profile>,
    at: &At,
    findings: &mut Findings<'_>,
) -> Vec<ProfileName> {
    if names.is_empty() {
        findings.error(at, "is empty: the rule gives nothing", "");
    }
    let mut known = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match profiles.keys().find(|profile| profile.as_str() == name) {
            Some(profile) if known.contains(profile) => {
                findings.error(&at.index(index), format!("`{name}` stands twice"), "");
            }
            Some(profile) => known.push(profile.clone()),
            None => {
                let near = nearest(name, profiles.keys().map(ProfileName::as_str));
                let remedy = near.map_or(String::new(), |near| format!("did you mean `{near}`?"));
                findings.error(&at.index(index), format!("there is no profile `{name}`"), remedy);
            }
        }
    }
    known
}

/// A rule whose profile has an identity lies under an anchor: a path alone can change hands.
fn check_anchors(
    rule: &Rule,
    raw: &RawMatch,
    profiles: &BTreeMap<ProfileName, Profile>,
    anchors: &Anchors,
    findings: &mut Findings<'_>,
) {
    let bearer = rule.profiles.iter().filter_map(|name| profiles.get(name));
    let Some(bearer) =
        bearer.filter(|profile| profile.has_identity()).map(|profile| &profile.name).next()
    else {
        return;
    };
    let lists =
        [("groups", &raw.groups, &rule.groups), ("projects", &raw.projects, &rule.projects)];
    for (key, raw, patterns) in lists {
        for (index, pattern) in patterns.iter().enumerate() {
            if anchor_of(pattern, anchors).is_none() {
                let at = item(raw.as_ref(), &rule.at.key("match").key(key), index);
                let top = pattern.literal_prefix();
                let top = top.split('/').next().filter(|top| !top.is_empty()).unwrap_or("GROUP");
                findings.error(
                    &at,
                    format!("`{pattern}` lies under no anchor, but `{bearer}` has an identity"),
                    format!("pin the group by its id: `anchors: {{ {top}: 42 }}`"),
                );
            }
        }
    }
}

/// A group's runner serves all its descendants, so leaving one of them out changes nothing in GitLab.
fn check_exclusions(rule: &Rule, rules: &[Rule], findings: &mut Findings<'_>) {
    for (index, except) in rule.except.iter().enumerate() {
        let at = rule.at.key("match").key("except").index(index);
        if let Some(other) = sharing(rule, rules).find(|other| other.instance) {
            let reason = format!(
                "{} gives a profile of this rule to the instance, whose runner serves everything",
                other.at
            );
            findings.error(&at, reason, "drop the exclusion, or the instance");
            continue;
        }
        let matched = rule.groups.iter().chain(&rule.projects);
        let above = sharing(rule, rules)
            .find_map(|other| served_above(except, other).map(|path| (path, other)));
        if let Some((path, other)) = above {
            let example = path.replace("-any-", "*");
            let cause = match std::ptr::eq(rule, other) {
                true => String::new(),
                false => format!(" by {}", other.at),
            };
            findings.error(
                &at,
                format!(
                    "`{except}` lies below the group `{example}`, which is matched{cause}: its runner serves all \
                     that lies below, so this exclusion has no effect"
                ),
                format!("leave out `{example}` itself too and match what is wanted below it, or drop the exclusion"),
            );
        } else if !matched.clone().any(|pattern| pattern.meets(except)) {
            findings.warning(
                &at,
                format!("`{except}` leaves out nothing that this rule matches"),
                "",
            );
        }
    }
}

/// The rules, this one among them, that give a profile of this one.
fn sharing<'a>(rule: &'a Rule, rules: &'a [Rule]) -> impl Iterator<Item = &'a Rule> {
    let shares =
        |other: &&Rule| other.profiles.iter().any(|profile| rule.profiles.contains(profile));
    rules.iter().filter(shares)
}

/// A group strictly above something that `except` names, and that `other` still matches.
fn served_above(except: &Pattern, other: &Rule) -> Option<String> {
    except.samples().into_iter().find_map(|sample| {
        let ancestors = sample.match_indices('/').map(|(end, _)| sample[..end].to_owned());
        ancestors.into_iter().find(|path| {
            other.groups.iter().any(|pattern| pattern.matches(path)) && !other.excepts(path)
        })
    })
}
