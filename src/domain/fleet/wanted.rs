//! What one target should have, from the facts of the moment.

use super::{
    Fleet, IdentityTemplate, TargetEntry, TargetKind,
    identity::GrantTemplate,
    placeholder,
    profile::Profile,
    rule::{self, Rule, lies_at_or_below},
};
use crate::domain::{
    azure::ResourceId,
    ids::{GroupId, ProfileName, RunnerKey, TargetId},
    names,
    spec::{Grant, IdentitySpec, Isolation, KubernetesSettings, Mode, Pods, RunnerSpec},
};
use jiff::{SignedDuration, Timestamp, civil::Date};
use std::{collections::BTreeMap, sync::Arc};

/// What GitLab says of a target now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFacts {
    pub id: TargetId,
    /// Current full path; empty for the instance.
    pub path: String,
    /// The groups above it with their full paths, root first; the target itself is not among them.
    pub ancestors: Vec<(GroupId, String)>,
    /// Lies in a personal namespace.
    pub personal: bool,
}

/// One profile that the rules give a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// As keys and units call it.
    pub profile: ProfileName,
    pub state: WantedState,
}

#[derive(Clone, Debug, PartialEq)]
pub enum WantedState {
    Runner(Box<RunnerSpec>),
    /// The file has no value for a placeholder at this target: waits (`needs subscription`).
    NeedsValue {
        placeholder: String,
    },
    /// Paused and scaled to zero.
    Withdrawn {
        reason: String,
    },
    /// Nothing new is given, and its runners are paused.
    OutsideGuardrails {
        problems: Vec<String>,
        /// As the file asks for it.
        identity: IdentitySpec,
    },
    /// The profile is parked.
    ExceptionEnded {
        exception: String,
        until: Date,
    },
    /// The anchor's group has another path than the file says: nothing new, nothing taken away, an alarm.
    AnchorMoved {
        anchor: GroupId,
        expected: String,
        found: String,
    },
}

/// A trust domain that all runners of a profile share.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainSpec {
    /// As keys and units call it.
    pub profile: ProfileName,
    pub namespace: String,
    pub account: String,
    pub identity: IdentitySpec,
    pub identity_settle: SignedDuration,
    pub pods: Pods,
    pub kubernetes: Arc<KubernetesSettings>,
    pub mode: Mode,
    /// Any runner of the profile, for whoever renders; its target stands for none.
    pub runner: RunnerSpec,
}

/// How a rule takes a target.
enum Match {
    Yes,
    /// It would, had the anchor's group kept its path.
    Moved {
        anchor: GroupId,
        expected: String,
        found: String,
    },
}

impl Fleet {
    /// What the target should have, judged at the time the file was read. A process that lives longer asks
    /// [`Fleet::wanted_at`].
    pub fn wanted(&self, target: &TargetFacts) -> Vec<Wanted> {
        self.wanted_at(target, self.read_at)
    }

    /// The union of all rules that match, each profile once, by name.
    pub fn wanted_at(&self, target: &TargetFacts, now: Timestamp) -> Vec<Wanted> {
        if target.personal {
            return Vec::new();
        }
        let mut given: BTreeMap<&ProfileName, Match> = BTreeMap::new();
        for rule in &self.rules {
            let Some(matched) = self.match_rule(rule, target) else { continue };
            for name in &rule.profiles {
                let known = given.get(name);
                if matches!(known, None | Some(Match::Moved { .. })) {
                    given.insert(name, matched.copy());
                }
            }
        }
        let withdrawn = self.withdrawal(target.id);
        let entry = self.entry(target);
        let states = given.into_iter().filter_map(|(name, matched)| {
            let profile = self.profiles.get(name)?;
            let state = match (&withdrawn, matched) {
                (Some(withdrawn), _) => withdrawn.clone(),
                (None, Match::Moved { anchor, expected, found }) => {
                    WantedState::AnchorMoved { anchor, expected, found }
                }
                (None, Match::Yes) => self.state(profile, target.id, entry, now),
            };
            Some(Wanted { profile: profile.key.clone(), state })
        });
        states.collect()
    }

    /// What a withdrawn target is asked of every runner that it has, whatever the rules say of its present path.
    pub fn withdrawal(&self, target: TargetId) -> Option<WantedState> {
        let withdrawn = self.withdrawn.iter().find(|withdrawn| withdrawn.target == target)?;
        Some(WantedState::Withdrawn { reason: withdrawn.reason.clone() })
    }

    /// The domain of a profile (by key) with `isolation: profile`; `None` for every other.
    pub fn shared_domain(&self, profile: &ProfileName) -> Option<DomainSpec> {
        let profile =
            self.profile(profile).filter(|found| found.isolation == Isolation::Profile)?;
        // Nothing that the domain shares has a placeholder; the tags, which may, are the runners' own.
        let nothing = BTreeMap::new();
        let mut plain = profile.clone();
        plain.runner.tags.retain(|tag| !tag.contains('{'));
        let runner = self.spec(&plain, TargetId::Instance, &nothing).ok()?;
        Some(DomainSpec {
            profile: runner.key.profile.clone(),
            namespace: names::job_namespace(&self.settings.name, &runner),
            account: names::job_account(&runner),
            identity: runner.identity.clone(),
            identity_settle: runner.identity_settle,
            pods: runner.pods,
            kubernetes: runner.kubernetes.clone(),
            mode: runner.mode,
            runner,
        })
    }

    /// What the domain of a profile (by key) should be now; `None`: the profile shares none. The domain is held to the guardrails
    /// like each of its runners.
    pub fn shared_state(&self, profile: &ProfileName, now: Timestamp) -> Option<WantedState> {
        let (found, domain) = (self.profile(profile)?, self.shared_domain(profile)?);
        let barred = ended(found, now).or_else(|| self.beyond(&domain.runner.identity));
        Some(barred.unwrap_or_else(|| WantedState::Runner(Box::new(domain.runner))))
    }

    pub(super) fn entry(&self, target: &TargetFacts) -> Option<&TargetEntry> {
        let kind = match target.id {
            TargetId::Instance => return None,
            TargetId::Group(_) => TargetKind::Group,
            TargetId::Project(_) => TargetKind::Project,
        };
        self.targets.get(&(kind, target.path.to_lowercase()))
    }

    fn match_rule(&self, rule: &Rule, target: &TargetFacts) -> Option<Match> {
        let patterns = match target.id {
            TargetId::Instance => return rule.instance.then_some(Match::Yes),
            TargetId::Group(_) => &rule.groups,
            TargetId::Project(_) => &rule.projects,
        };
        let mut moved = None;
        for pattern in patterns {
            let Some((anchor, id)) = rule::anchor_of(pattern, &self.anchors) else {
                if pattern.matches(&target.path) && !rule.excepts(&target.path) {
                    return Some(Match::Yes);
                }
                continue;
            };
            // Another group that took the anchor's name has another id, and matches nothing.
            let Some(found) = path_of(target, id) else { continue };
            if found.to_lowercase() == anchor {
                if pattern.matches(&target.path) && !rule.excepts(&target.path) {
                    return Some(Match::Yes);
                }
            } else if let Some(path) = as_before(&target.path, found, anchor)
                && pattern.matches(&path)
                && !rule.excepts(&path)
            {
                let (expected, found) = (anchor.to_owned(), found.to_owned());
                moved = Some(Match::Moved { anchor: id, expected, found });
            }
        }
        moved
    }

    fn state(
        &self,
        profile: &Profile,
        target: TargetId,
        entry: Option<&TargetEntry>,
        now: Timestamp,
    ) -> WantedState {
        if let Some(ended) = ended(profile, now) {
            return ended;
        }
        let nothing = BTreeMap::new();
        let values = entry.map_or(&nothing, |entry| &entry.values);
        let mut spec = match self.spec(profile, target, values) {
            Ok(spec) => spec,
            Err(placeholder) => return WantedState::NeedsValue { placeholder },
        };
        if let Some(beyond) = self.beyond(&spec.identity) {
            return beyond;
        }
        if let Some(changes) = entry.and_then(|entry| entry.set.get(&profile.name)) {
            changes.apply(&mut spec.runner, Arc::make_mut(&mut spec.kubernetes));
        }
        WantedState::Runner(Box::new(spec))
    }

    fn beyond(&self, identity: &IdentitySpec) -> Option<WantedState> {
        let problems = self.outside(identity);
        (!problems.is_empty())
            .then(|| WantedState::OutsideGuardrails { problems, identity: identity.clone() })
    }

    /// Why what forerunner would assign lies outside the guardrails. What is only expected is not held against them.
    pub(super) fn outside(&self, identity: &IdentitySpec) -> Vec<String> {
        match identity {
            IdentitySpec::None | IdentitySpec::Existing { .. } => Vec::new(),
            IdentitySpec::Managed { roles, .. } => {
                roles.iter().filter_map(|grant| self.guardrails.refuses(grant)).collect()
            }
        }
    }

    /// Errors: the first placeholder without a value.
    pub(super) fn spec(
        &self,
        profile: &Profile,
        target: TargetId,
        values: &BTreeMap<String, String>,
    ) -> Result<RunnerSpec, String> {
        let key = RunnerKey { target, profile: profile.key.clone() };
        let fill = |text: &String| placeholder::fill(text, values);
        let mut runner = profile.runner.clone();
        runner.tags = runner.tags.iter().map(fill).collect::<Result<_, _>>()?;
        runner.locked = runner.locked && matches!(target, TargetId::Project(_));
        let mut kubernetes = profile.kubernetes.clone();
        let namespace = kubernetes.namespace.as_ref().map(fill).transpose()?;
        let service_account = kubernetes.service_account.as_ref().map(fill).transpose()?;
        if namespace != kubernetes.namespace || service_account != kubernetes.service_account {
            let own = Arc::make_mut(&mut kubernetes);
            (own.namespace, own.service_account) = (namespace, service_account);
        }
        let grants = |templates: &[GrantTemplate]| {
            templates.iter().map(|template| grant(template, values)).collect::<Result<Vec<_>, _>>()
        };
        let identity = match &profile.identity {
            IdentityTemplate::None => IdentitySpec::None,
            IdentityTemplate::Managed { tags, roles } => IdentitySpec::Managed {
                name: names::identity(
                    &self.settings.name,
                    &names::domain_key(&key, profile.isolation),
                ),
                tags: tags
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), fill(value)?)))
                    .collect::<Result<_, String>>()?,
                roles: grants(roles)?,
            },
            IdentityTemplate::Existing { candidates, expect } => {
                IdentitySpec::Existing { candidates: candidates.clone(), expect: grants(expect)? }
            }
        };
        Ok(RunnerSpec {
            key,
            runner,
            identity,
            isolation: profile.isolation,
            identity_settle: profile.identity_settle,
            pods: profile.pods,
            kubernetes,
            mode: self.settings.mode.min(profile.mode),
            remove_foreign_rights: profile.drift.remove_foreign_rights,
            resume_paused: profile.drift.resume_paused,
            revoke_foreign: profile.drift.revoke_foreign,
            version_floor: profile.version_floor,
        })
    }
}

fn ended(profile: &Profile, now: Timestamp) -> Option<WantedState> {
    let ended = profile.exceptions.iter().find(|exception| exception.ended(now))?;
    Some(WantedState::ExceptionEnded { exception: ended.name.clone(), until: ended.until })
}

impl Match {
    fn copy(&self) -> Self {
        match self {
            Self::Yes => Self::Yes,
            Self::Moved { anchor, expected, found } => {
                Self::Moved { anchor: *anchor, expected: expected.clone(), found: found.clone() }
            }
        }
    }
}

pub(super) fn grant(
    template: &GrantTemplate,
    values: &BTreeMap<String, String>,
) -> Result<Grant, String> {
    let scope = placeholder::fill(&template.scope, values)?;
    let scope =
        ResourceId::new(&scope).expect("its shape was checked with every placeholder filled");
    Ok(Grant { role: template.role, role_name: template.role_name.clone(), scope })
}

/// Where the group with this id is now, if the target is it or lies below it.
pub(super) fn path_of(target: &TargetFacts, id: GroupId) -> Option<&str> {
    if target.id == TargetId::Group(id) {
        return Some(&target.path);
    }
    target.ancestors.iter().find(|(ancestor, _)| *ancestor == id).map(|(_, path)| path.as_str())
}

/// The path that the target would have if the group now at `found` were at `anchor`, as the file says.
pub(super) fn as_before(path: &str, found: &str, anchor: &str) -> Option<String> {
    let (path, found) = (path.to_lowercase(), found.to_lowercase());
    lies_at_or_below(&path, &found).then(|| format!("{anchor}{}", &path[found.len()..]))
}
