//! What a fleet's files mean, as `check` shows it to people and, in JSON, to programs.

use crate::domain::{
    fleet::{
        Allowance, Contested, Fleet, IdentityTemplate, NamedTarget, Pattern, Profile, Rule,
        TargetKind, WantedState, duration_text,
    },
    spec::{Amount, ClusterAccess, Isolation, Mode, Pods},
};
use jiff::SignedDuration;
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
            WantedState::OutsideGuardrails { problems } => {
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

fn profile(profile: &Profile) -> ProfileMeaning {
    let runner = &profile.runner;
    let yes =
        |on: bool, word: &str, other: &str| if on { word.to_owned() } else { other.to_owned() };
    let seconds = |seconds: u32| period(SignedDuration::from_secs(seconds.into()));
    let mut settings = vec![
        pair("tags", or_none(&runner.tags)),
        pair(
            "jobs",
            [
                yes(runner.protected, "of protected refs only", "of all refs"),
                yes(runner.run_untagged, "also without tags", "only with a tag"),
                yes(runner.locked, "locked where it serves a project", "not locked"),
            ]
            .join(", "),
        ),
        pair(
            "load",
            format!(
                "{} at once, {} polls, at most {} each",
                runner.concurrent,
                runner.request_concurrency,
                seconds(runner.maximum_timeout)
            ),
        ),
        pair("identity", identity(profile)),
        pair(
            "isolation",
            match profile.isolation {
                Isolation::Target => "a namespace and identity for each target",
                Isolation::Profile => "one namespace and identity for all targets",
            },
        ),
        pair("pods", pods(profile)),
    ];
    settings.extend(kubernetes(profile));
    settings.push(pair("rotation", rotation(profile)));
    settings.push(pair(
        "drift",
        format!(
            "foreign rights: {}; paused by somebody: {}; foreign manager: alarm",
            yes(profile.drift.remove_foreign_rights, "remove", "report"),
            yes(profile.drift.resume_paused, "resume", "keep"),
        ),
    ));
    for exception in &profile.exceptions {
        let what = match &exception.allows {
            Allowance::IdentityOnInstance => "an identity on the instance".to_owned(),
            Allowance::IdentityOnUntagged => "an identity on untagged jobs".to_owned(),
            Allowance::IdentityOnPrivileged => "an identity on privileged pods".to_owned(),
            Allowance::UnprotectedWriter => "a writing role on unprotected refs".to_owned(),
            Allowance::WideWriter { role_name, scope } => format!("{role_name} on {scope}"),
        };
        settings.push(pair(
            "exception",
            format!("{} allows {what} until {}", exception.name, exception.until),
        ));
    }
    if profile.protect {
        settings.push(pair("protect", "never removed without an operator's word"));
    }
    if let Some(floor) = &profile.version_floor {
        settings.push(pair("version floor", floor.to_string()));
    }
    settings.push(pair("mode", mode(profile.mode)));
    if profile.key != profile.name {
        settings.push(pair("was", format!("{}, and is still called so outside", profile.key)));
    }
    ProfileMeaning { name: profile.name.to_string(), settings }
}

fn identity(profile: &Profile) -> String {
    let settle = period(profile.identity_settle);
    match &profile.identity {
        IdentityTemplate::None => "none".to_owned(),
        IdentityTemplate::Managed { .. } => format!("managed, settles {settle}"),
        IdentityTemplate::Existing { candidates, .. } => {
            let which = match candidates.len() {
                1 => String::new(),
                more => format!(", the first of {more} with room"),
            };
            format!("existing{which}, settles {settle}")
        }
    }
}

fn pods(profile: &Profile) -> String {
    let pods = match profile.pods {
        Pods::Hardened => "hardened (Pod Security restricted)",
        Pods::Standard => "standard (Pod Security baseline)",
        Pods::ImageBuild => "image-build (Pod Security baseline)",
        Pods::Privileged => "privileged",
    };
    let kubernetes = &profile.kubernetes;
    let services = if kubernetes.services { "services allowed" } else { "no services" };
    let token = if kubernetes.kubernetes_api { "with" } else { "without" };
    format!("{pods}, {services}, {token} a Kubernetes token")
}

fn amount(amount: &Amount) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
    format!("{}–{}", part(&amount.request), part(&amount.limit))
}

fn map(map: &BTreeMap<String, String>) -> String {
    let pairs: Vec<String> = map.iter().map(|(name, value)| format!("{name}={value}")).collect();
    or_none(&pairs)
}

fn kubernetes(profile: &Profile) -> Vec<(String, String)> {
    let kubernetes = &profile.kubernetes;
    let of =
        |cpu: &Amount, memory: &Amount| format!("cpu {}, memory {}", amount(cpu), amount(memory));
    let mut pairs = vec![
        pair(
            "image",
            format!("{}, pulled {}", kubernetes.image, kubernetes.pull_policy.join(", ")),
        ),
        pair(
            "job size",
            format!(
                "{}, disk {}",
                of(&kubernetes.cpu, &kubernetes.memory),
                amount(&kubernetes.ephemeral_storage)
            ),
        ),
        pair("helper size", of(&kubernetes.helper_cpu, &kubernetes.helper_memory)),
        pair("nodes", map(&kubernetes.node_selector)),
        pair(
            "quota",
            match kubernetes.quota.is_empty() {
                true => "follows from the jobs at once".to_owned(),
                false => {
                    format!("{}, the rest follows from the jobs at once", map(&kubernetes.quota))
                }
            },
        ),
        pair("waits for pods", period(SignedDuration::from_secs(kubernetes.poll_timeout.into()))),
        pair(
            "disruption",
            match kubernetes.pod_disruption_budget {
                true => "a node drain waits for the job",
                false => "a node drain ends the job",
            },
        ),
    ];
    if kubernetes.services {
        pairs.push(pair("service size", of(&kubernetes.service_cpu, &kubernetes.service_memory)));
    }
    if let Some(namespace) = &kubernetes.namespace {
        let account = kubernetes.service_account.as_deref().unwrap_or("forerunner's own");
        pairs.push(pair(
            "namespace",
            format!("{namespace} (an administrator's), account {account}"),
        ));
    }
    for (name, list) in [
        ("allowed images", &kubernetes.allowed_images),
        ("allowed services", &kubernetes.allowed_services),
        ("pull secrets", &kubernetes.pull_secrets),
    ] {
        if !list.is_empty() {
            pairs.push(pair(name, list.join(", ")));
        }
    }
    for (name, all) in
        [("tolerations", &kubernetes.tolerations), ("environment", &kubernetes.environment)]
    {
        if !all.is_empty() {
            pairs.push(pair(name, map(all)));
        }
    }
    for (name, class) in
        [("priority", &kubernetes.priority_class), ("runtime", &kubernetes.runtime_class)]
    {
        pairs.extend(class.as_ref().map(|class| pair(name, class)));
    }
    if let Some(cache) = &kubernetes.cache {
        pairs.push(pair(
            "cache",
            format!("container {} of {}.{}", cache.container, cache.account, cache.domain),
        ));
    }
    if !kubernetes.extra.is_empty() {
        let keys: Vec<String> = kubernetes.extra.keys().cloned().collect();
        pairs.push(pair("extra", keys.join(", ")));
    }
    pairs
}

fn rotation(profile: &Profile) -> String {
    let rotation = &profile.rotation;
    let window = match &rotation.window {
        Some(window) => format!("inside \"{window}\" {}", rotation.time_zone),
        None => "at any time".to_owned(),
    };
    let identity = profile
        .identity_rotation
        .map_or("never".to_owned(), |every| format!("every {}", period(every)));
    format!(
        "token every {} {window}, patience {}; identity {identity}",
        period(rotation.every),
        period(rotation.patience)
    )
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
