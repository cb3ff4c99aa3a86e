//! What a fleet's files mean, as `check` shows it to people and, in JSON, to programs.

mod profile;

use crate::domain::{
    fleet::{
        Contested, Fleet, IdentityTemplate, NamedTarget, Pattern, Profile, Rule, TargetKind,
        WantedState, duration_text,
    },
    spec::{ClusterAccess, Isolation, Mode},
};
use jiff::SignedDuration;
use profile::profile;
use serde::Serialize;
use std::{collections::BTreeMap, fmt::Write};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Meaning {
    fleet: String,
    digest: String,
    /// Name and value, in reading order.
    settings: Vec<(String, String)>,
    rules: Vec<RuleMeaning>,
    targets: Vec<TargetMeaning>,
    withdrawn: Vec<String>,
    profiles: Vec<ProfileMeaning>,
    identities: Vec<String>,
    rights: Vec<Right>,
    guardrails: Vec<(String, String)>,
    overlaps: Vec<String>,
    not_acted_on: Vec<&'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleMeaning {
    matches: Vec<String>,
    except: Vec<String>,
    profiles: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TargetMeaning {
    target: String,
    values: BTreeMap<String, String>,
    /// A profile and what stands in its way, if anything.
    profiles: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProfileMeaning {
    name: String,
    settings: Vec<(String, String)>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Right {
    role: String,
    scope: String,
    profile: String,
    /// Given by forerunner; else an administrator gave it and forerunner watches.
    assigned: bool,
}

impl Meaning {
    pub(super) fn of(fleet: &Fleet) -> Self {
        let settings = fleet.settings();
        Self {
            fleet: settings.name.to_string(),
            digest: settings.digest.clone(),
            settings: shared(fleet),
            rules: fleet.rules().iter().map(rule_meaning).collect(),
            targets: fleet.named_targets().map(|target| target_meaning(&target, fleet)).collect(),
            withdrawn: withdrawn(fleet),
            profiles: fleet.profiles().map(profile).collect(),
            identities: identities(fleet),
            rights: fleet.profiles().flat_map(rights).collect(),
            guardrails: guardrails(fleet),
            overlaps: overlaps(fleet),
            not_acted_on: fleet.not_acted_on().to_vec(),
        }
    }

    pub(super) fn text(&self, colour: bool) -> String {
        let mut text = String::new();
        let heading = |words: &str| match colour {
            true => format!("\x1b[1m{words}\x1b[0m\n"),
            false => format!("{words}\n"),
        };
        text.push_str(&heading(&format!("fleet {}", self.fleet)));
        pairs(&mut text, "  ", &self.settings);
        text.push_str(&heading("\nrules"));
        for rule in &self.rules {
            let except = match rule.except.is_empty() {
                true => String::new(),
                false => format!(", except {}", rule.except.join(", ")),
            };
            line(
                &mut text,
                &format!("{}{except} → {}", rule.matches.join(", "), rule.profiles.join(", ")),
            );
        }
        if !self.targets.is_empty() {
            text.push_str(&heading("\ntargets that the file names"));
        }
        for target in &self.targets {
            let values: Vec<String> =
                target.values.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let values =
                if values.is_empty() { String::new() } else { format!(" ({})", values.join(", ")) };
            line(&mut text, &format!("{}{values} → {}", target.target, or_none(&target.profiles)));
        }
        self.withdrawn.iter().for_each(|withdrawn| line(&mut text, withdrawn));
        text.push_str(&heading("\nprofiles"));
        for profile in &self.profiles {
            line(&mut text, &profile.name);
            pairs(&mut text, "    ", &profile.settings);
        }
        text.push_str(&heading("\nidentities"));
        list(&mut text, &self.identities);
        text.push_str(&heading("\nrights asked for"));
        let rights: Vec<String> = self.rights.iter().map(Right::text).collect();
        list(&mut text, &rights);
        text.push_str(&heading("\nguardrails"));
        pairs(&mut text, "  ", &self.guardrails);
        text.push_str(&heading("\noverlaps"));
        list(&mut text, &self.overlaps);
        if !self.not_acted_on.is_empty() {
            let keys = self.not_acted_on.join(", ");
            let said = format!("\nread and checked, not acted on by this version yet: {keys}\n");
            text.push_str(&said);
        }
        text
    }
}

impl Right {
    fn text(&self) -> String {
        let by = if self.assigned { "given by forerunner" } else { "expected, an administrator's" };
        format!("{} on {} for {} ({by})", self.role, self.scope, self.profile)
    }
}

fn line(text: &mut String, words: &str) {
    text.push_str("  ");
    text.push_str(words);
    text.push('\n');
}

fn list(text: &mut String, lines: &[String]) {
    if lines.is_empty() {
        line(text, "none");
    }
    lines.iter().for_each(|words| line(text, words));
}

fn pairs(text: &mut String, indent: &str, pairs: &[(String, String)]) {
    let width = pairs.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in pairs {
        // A value of several lines stands one below the other.
        for (number, value) in value.lines().enumerate() {
            let name = if number == 0 { name.as_str() } else { "" };
            writeln!(text, "{indent}{name:width$}  {value}").expect("a String takes everything");
        }
    }
}

fn or_none(words: &[String]) -> String {
    if words.is_empty() { "none".to_owned() } else { words.join(", ") }
}

fn pair(name: &str, value: impl Into<String>) -> (String, String) {
    (name.to_owned(), value.into())
}

fn period(duration: SignedDuration) -> String {
    duration_text(duration)
}

fn map(map: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = map.iter().map(|(name, value)| format!("{name}={value}")).collect();
    or_none(&pairs)
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Observe => "observe: writes nothing but status",
        Mode::Enforce => "enforce",
    }
}

fn shared(fleet: &Fleet) -> Vec<(String, String)> {
    let settings = fleet.settings();
    let cluster = &settings.cluster;
    let mut pairs = vec![
        pair("mode", mode(settings.mode)),
        pair("gitlab", settings.gitlab.url.as_str().trim_end_matches('/')),
        pair(
            "token",
            format!(
                "secret {} in Key Vault {}",
                settings.gitlab.token.secret, settings.gitlab.token.vault
            ),
        ),
        pair(
            "cluster",
            match &cluster.access {
                ClusterAccess::Aks(id) => id.to_string(),
                ClusterAccess::Kubeconfig(path) => format!("kubeconfig {}", path.display()),
            },
        ),
        pair(
            "managers",
            format!(
                "namespace {}, ClusterRole {}, gitlab-runner {} from {}",
                cluster.managers_namespace,
                cluster.manager_cluster_role,
                cluster.images.runner,
                cluster.images.registry.as_deref().unwrap_or("GitLab's registry"),
            ),
        ),
    ];
    if let Some(azure) = &settings.azure {
        let place = format!(
            "/subscriptions/{}/resourceGroups/{} in {}",
            azure.subscription, azure.resource_group, azure.location
        );
        pairs.push(pair("identities", place));
    }
    if let Some(proxy) = &cluster.proxy {
        pairs.push(pair("proxy", format!("{}, not for {}", proxy.https, or_none(&proxy.no))));
    }
    if !cluster.labels.is_empty() {
        pairs.push(pair("labels", map(&cluster.labels)));
    }
    if !cluster.network.cluster_ranges.is_empty() {
        pairs.push(pair("kept from jobs", cluster.network.cluster_ranges.join(", ")));
    }
    let allowed = cluster.network.allow.iter().map(|allowed| {
        let ports: Vec<String> = allowed.ports.iter().map(u16::to_string).collect();
        let ports = if ports.is_empty() { "every port".to_owned() } else { ports.join("+") };
        format!("{} ({ports})", allowed.cidr)
    });
    let allowed: Vec<String> = allowed.collect();
    if !allowed.is_empty() {
        pairs.push(pair("but reachable", allowed.join(", ")));
    }
    let anchors: Vec<String> = fleet.anchors().map(|(path, id)| format!("{path} = {id}")).collect();
    if !anchors.is_empty() {
        pairs.push(pair("anchors", anchors.join(", ")));
    }
    pairs
}

fn rule_meaning(rule: &Rule) -> RuleMeaning {
    let texts = |word: &str, patterns: &[Pattern]| {
        patterns.iter().map(|pattern| format!("{word} {pattern}")).collect::<Vec<_>>()
    };
    let mut matches = texts("groups", &rule.groups);
    matches.extend(texts("projects", &rule.projects));
    if rule.instance {
        matches.push("the instance".to_owned());
    }
    RuleMeaning {
        matches,
        except: rule.except.iter().map(ToString::to_string).collect(),
        profiles: rule.profiles.iter().map(ToString::to_string).collect(),
    }
}

fn target_meaning(target: &NamedTarget<'_>, fleet: &Fleet) -> TargetMeaning {
    let kind = match target.kind {
        TargetKind::Group => "group",
        TargetKind::Project => "project",
    };
    let protected = if target.is_protected { " (protected)" } else { "" };
    let wanted = fleet.wanted(&fleet.facts_of(target.kind, target.path));
    let profiles = wanted.iter().map(|wanted| {
        let name = fleet.profile(&wanted.profile).map_or(&wanted.profile, |profile| &profile.name);
        let changed = if target.changed.contains(&name) { " (changed here)" } else { "" };
        match &wanted.state {
            WantedState::Runner(_) => format!("{name}{changed}"),
            WantedState::NeedsValue { placeholder } => {
                format!("{name} (waits: needs {placeholder})")
            }
            WantedState::Withdrawn { reason } => format!("{name} (withdrawn: {reason})"),
            WantedState::OutsideGuardrails { problems, .. } => {
                format!("{name} (outside the guardrails: {})", problems.join("; "))
            }
            WantedState::ExceptionEnded { exception, until } => {
                format!("{name} (parked: {exception} ended on {until})")
            }
            WantedState::AnchorMoved { expected, found, .. } => {
                format!("{name} (waits: {expected} is now {found})")
            }
        }
    });
    TargetMeaning {
        target: format!("{kind} {}{protected}", target.path),
        values: target.values.clone(),
        profiles: profiles.collect(),
    }
}

fn withdrawn(fleet: &Fleet) -> Vec<String> {
    let told = fleet.withdrawn().iter().map(|withdrawn| {
        let path = withdrawn.path.as_ref().map_or(String::new(), |path| format!(" {path}"));
        format!("{}{path} is withdrawn: {}", withdrawn.target, withdrawn.reason)
    });
    told.collect()
}

fn identities(fleet: &Fleet) -> Vec<String> {
    let managed = fleet
        .profiles()
        .filter(|profile| matches!(profile.identity, IdentityTemplate::Managed { .. }));
    let managed = managed.map(|profile| match profile.isolation {
        Isolation::Target => format!("managed: one for each target of {}", profile.name),
        Isolation::Profile => format!("managed: one for {}", profile.name),
    });
    let existing = fleet.existing_identities().into_iter().map(|(name, (id, profiles))| {
        let profiles: Vec<String> = profiles.iter().map(ToString::to_string).collect();
        format!("existing {name}: {id} for {}", profiles.join(", "))
    });
    managed.chain(existing).collect()
}

fn rights(profile: &Profile) -> Vec<Right> {
    let assigned = matches!(profile.identity, IdentityTemplate::Managed { .. });
    let rights = profile.grants().iter().map(|grant| Right {
        role: grant.role_name.clone(),
        scope: grant.scope.clone(),
        profile: profile.name.to_string(),
        assigned,
    });
    rights.collect()
}

fn guardrails(fleet: &Fleet) -> Vec<(String, String)> {
    let guardrails = fleet.guardrails();
    let roles: Vec<String> = guardrails.roles.iter().map(|(name, _)| name.clone()).collect();
    let ids = |ids: &[crate::domain::azure::ResourceId]| {
        let lines: Vec<String> = ids.iter().map(ToString::to_string).collect();
        if lines.is_empty() { "none".to_owned() } else { lines.join("\n") }
    };
    let freeze: Vec<String> = guardrails
        .freeze
        .iter()
        .map(|freeze| {
            let allowed = [(freeze.restore, "restore"), (freeze.revoke, "revoke")];
            let allowed = allowed.iter().filter(|(on, _)| *on).map(|(_, word)| (*word).to_owned());
            let allowed = or_none(&allowed.collect::<Vec<_>>());
            format!("{} to {}, allowed: {allowed}", freeze.from, freeze.to)
        })
        .collect();
    vec![
        pair("roles", or_none(&roles)),
        pair("scopes", ids(&guardrails.scopes)),
        pair("never", ids(&guardrails.never)),
        pair(
            "runners",
            format!(
                "{} at most, {} made an hour",
                guardrails.runners, guardrails.creations_per_hour
            ),
        ),
        pair(
            "deletions",
            format!(
                "{} or {} % of the fleet a day, after {}",
                guardrails.deletions.max,
                guardrails.deletions.percent,
                period(guardrails.grace)
            ),
        ),
        pair("freeze", or_none(&freeze)),
    ]
}

fn overlaps(fleet: &Fleet) -> Vec<String> {
    let told = fleet.overlaps().iter().map(|overlap| {
        let job = match &overlap.contested {
            Contested::Tag(tag) => format!("tag {tag}"),
            Contested::Untagged => "untagged jobs".to_owned(),
        };
        let (left, right) = &overlap.profiles;
        let (here, there) = &overlap.reaches;
        format!("{job}: {left} ({here}) and {right} ({there})")
    });
    told.collect()
}
