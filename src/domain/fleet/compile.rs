//! From the files' form to what they mean. Finds as many problems at once as it can.

use super::{
    Fleet, TargetEntry, TargetKind, Withdrawn, changes, checks, guardrails, namespaces, overlap,
    pattern, placeholder,
    problem::{At, Findings, Problem, Source, nearest},
    profile::{self, Profile},
    raw::{self, RawFleet, RawGuardrails, RawTarget},
    rule::{self, Anchors, Rule},
    settings, shape,
    tree::Node,
};
use crate::domain::{
    azure::ResourceId,
    ids::{GroupId, ProfileName, ProjectId, TargetId},
    names,
    spec::{ClusterAccess, FleetSettings, Isolation},
    version::Version,
};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;

const VERSION: u32 = 1;

pub(super) fn compile(
    fleet_yaml: &str,
    guardrails_yaml: Option<&str>,
    now: Timestamp,
) -> Result<(Fleet, Vec<Problem>), Vec<Problem>> {
    let fleet_tree = Node::parse(Source::Fleet, fleet_yaml);
    let guardrails_tree = guardrails_yaml.map(|text| Node::parse(Source::Guardrails, text));
    let (fleet_tree, guardrails_tree) = match (fleet_tree, guardrails_tree.transpose()) {
        (Ok(fleet), Ok(guardrails)) => (fleet, guardrails),
        (fleet, guardrails) => {
            return Err([fleet.err(), guardrails.err()].into_iter().flatten().collect());
        }
    };
    let mut findings = Findings::new(&fleet_tree, guardrails_tree.as_ref());
    let root = At::root(Source::Fleet);
    shape::check(&fleet_tree, raw::fleet_schema(), &root, &mut findings);
    if let Some(tree) = &guardrails_tree {
        let root = At::root(Source::Guardrails);
        shape::check(tree, raw::guardrails_schema(), &root, &mut findings);
    }
    if findings.has_errors() {
        return Err(findings.found);
    }
    let raw: Option<RawFleet> = typed(&fleet_tree, &root, &mut findings);
    let raw_guardrails: Option<RawGuardrails> = guardrails_tree
        .as_ref()
        .and_then(|tree| typed(tree, &At::root(Source::Guardrails), &mut findings));
    let Some(raw) = raw else { return Err(findings.found) };
    let digest = names::hash(&format!("{fleet_yaml}\0{}", guardrails_yaml.unwrap_or_default()));
    let fleet =
        build(&raw, raw_guardrails.as_ref(), &format!("sha256:{digest}"), now, &mut findings);
    match fleet {
        Some(fleet) if !findings.has_errors() => Ok((fleet, findings.found)),
        Some(_) | None => Err(findings.found),
    }
}

fn typed<T: DeserializeOwned>(tree: &Node, at: &At, findings: &mut Findings<'_>) -> Option<T> {
    findings.accept(at, serde_json::from_value(tree.to_json()), "")
}

fn build(
    raw: &RawFleet,
    own_guardrails: Option<&RawGuardrails>,
    digest: &str,
    now: Timestamp,
    findings: &mut Findings<'_>,
) -> Option<Fleet> {
    let root = At::root(Source::Fleet);
    if raw.version != VERSION {
        findings.error(
            &root.key("version"),
            format!("is {}, this forerunner reads {VERSION}", raw.version),
            "",
        );
    }
    let settings = settings::settings(raw, digest, &root, findings);
    let anchors = anchors(raw, &root.key("anchors"), findings);
    let mut profiles = profiles(raw, &root.key("profiles"), findings);
    version_floors(raw, &mut profiles, &root, findings);
    let rules = rule::compile(&raw.rules, &profiles, &anchors, findings, &root.key("rules"));
    checks::check_instance(&rules, &profiles, findings);
    let mut targets = BTreeMap::new();
    for (kind, key, raw) in [
        (TargetKind::Group, "groups", &raw.groups),
        (TargetKind::Project, "projects", &raw.projects),
    ] {
        for (path, raw) in raw {
            let at = root.key(key).key(path);
            let entry = target(kind, path, raw, (&profiles, &rules), &at, findings);
            if targets.insert((kind, path.to_lowercase()), entry).is_some() {
                findings.error(&at, "stands twice, in different case", "");
            }
        }
    }
    let guardrails = match (&raw.guardrails, own_guardrails) {
        (Some(_), Some(_)) => {
            let remedy = "keep it in guardrails.yaml, or here";
            findings.error(&root.key("guardrails"), "stands here and in guardrails.yaml", remedy);
            guardrails::Guardrails::default()
        }
        (Some(raw), None) => guardrails::compile(raw, &root.key("guardrails"), findings),
        (None, Some(raw)) => guardrails::compile(raw, &At::root(Source::Guardrails), findings),
        (None, None) => guardrails::Guardrails::default(),
    };
    let protected = targets.values().filter_map(|entry| entry.protected).collect();
    let withdrawn = withdrawn(raw, &rules, &root.key("withdrawn"), findings);
    check_rest(raw, &root, findings);
    let mut fleet = Fleet {
        settings: FleetSettings { reach: guardrails.reach(), ..settings? },
        guardrails,
        anchors,
        targets,
        rules,
        withdrawn,
        protected,
        profiles,
        overlaps: Vec::new(),
        not_acted_on: not_acted_on(raw),
        read_at: now,
    };
    fleet.add_own_never();
    checks::check_azure(&fleet, &root, findings);
    checks::check_use(&fleet, &root, findings);
    namespaces::check(&fleet, &root, findings);
    checks::check_guardrails(&fleet, &root, findings);
    checks::check_exceptions(&fleet, &root, now, findings);
    fleet.overlaps = overlap::find(&fleet, findings);
    Some(fleet)
}

impl Fleet {
    /// A job that writes where identities live could add itself a credential on each; one that writes on the cluster is
    /// every job. So these are kept out whoever wrote the guardrails.
    fn add_own_never(&mut self) {
        let group = self.settings.azure.as_ref().and_then(|azure| {
            ResourceId::new(&format!(
                "/subscriptions/{}/resourceGroups/{}",
                azure.subscription, azure.resource_group
            ))
        });
        let cluster = match &self.settings.cluster.access {
            ClusterAccess::Aks(id) => Some(id.clone()),
            ClusterAccess::Kubeconfig(_) => None,
        };
        for own in group.into_iter().chain(cluster) {
            if !self.guardrails.never.contains(&own) {
                self.guardrails.never.push(own);
            }
        }
    }
}

fn anchors(raw: &RawFleet, at: &At, findings: &mut Findings<'_>) -> Anchors {
    let mut anchors = Anchors::new();
    for (path, id) in &raw.anchors {
        let at = at.key(path);
        if !pattern::is_path(path) {
            findings.error(&at, format!("`{path}` is no full path of a group"), "");
        }
        if *id == 0 {
            findings.error(&at, "is 0, which is no group's id", "");
        }
        if anchors.values().any(|known| *known == GroupId(*id)) {
            findings.error(&at, format!("has the id {id} that another anchor has"), "");
        }
        anchors.insert(path.to_lowercase(), GroupId(*id));
    }
    anchors
}

fn profiles(
    raw: &RawFleet,
    at: &At,
    findings: &mut Findings<'_>,
) -> BTreeMap<ProfileName, Profile> {
    let nothing = BTreeMap::new();
    let tags = raw.azure.as_ref().map_or(&nothing, |azure| &azure.tags);
    let mut profiles: BTreeMap<ProfileName, Profile> = BTreeMap::new();
    for (name, raw) in &raw.profiles {
        let Some(profile) = profile::compile(name, raw, tags, &at.key(name), findings) else {
            continue;
        };
        if let Some(other) = profiles.values().find(|other| other.key == profile.key) {
            let reason = format!("`{}` is the name that `{}` has or had", profile.key, other.name);
            findings.error(&at.key(name).key("was"), reason, "two profiles cannot both be it");
        }
        profiles.insert(profile.name.clone(), profile);
    }
    profiles
}

fn target(
    kind: TargetKind,
    path: &str,
    raw: &RawTarget,
    (profiles, rules): (&BTreeMap<ProfileName, Profile>, &[Rule]),
    at: &At,
    findings: &mut Findings<'_>,
) -> TargetEntry {
    if !pattern::is_path(path) {
        findings.error(at, format!("`{path}` is no full path"), "patterns belong into `rules`");
    }
    let given: Vec<&Profile> =
        given(kind, path, rules).filter_map(|name| profiles.get(name)).collect();
    let protected = protected(kind, raw, at, findings);
    if given.is_empty() && protected.is_none() {
        findings.warning(at, "no rule matches it, so nothing here has an effect", "");
    }
    for (name, value) in &raw.values {
        if !placeholder::is_value(value) {
            let reason = format!("`{value}` cannot fill a placeholder");
            findings.error(
                &at.key("values").key(name),
                reason,
                "one segment of letters, digits, `-`, `_`, `.`",
            );
        }
    }
    let mut set = BTreeMap::new();
    for (name, raw) in &raw.set {
        let at = at.key("set").key(name);
        let Some(profile) = profiles.values().find(|profile| profile.name.as_str() == name) else {
            let near = nearest(name, profiles.keys().map(ProfileName::as_str));
            let remedy = near.map_or(String::new(), |near| format!("did you mean `{near}`?"));
            findings.error(&at, format!("there is no profile `{name}`"), remedy);
            continue;
        };
        if !given.is_empty() && !given.iter().any(|given| given.name == profile.name) {
            findings.warning(&at, format!("no rule gives `{path}` the profile `{name}`"), "");
        }
        let changes = changes::changes(raw, &at, findings);
        if profile.isolation == Isolation::Profile && !changes.quota.is_empty() {
            let at = at.key("kubernetes").key("quota");
            let reason = "all runners of the profile share one namespace, and so one quota";
            findings.error(&at, reason, "set it in the profile, or use `isolation: target`");
        }
        set.insert(profile.name.clone(), changes);
    }
    for profile in &given {
        if let Some(missing) =
            profile.placeholders.iter().find(|name| !raw.values.contains_key(*name))
        {
            let reason = format!(
                "needs `{missing}` for the profile `{}`, and waits until it has it",
                profile.name
            );
            findings.warning(&at.key("values"), reason, "");
        }
    }
    TargetEntry { path: path.to_owned(), values: raw.values.clone(), set, protected }
}

/// A path may change, and what it protects must not change with it: so the id decides.
fn protected(
    kind: TargetKind,
    raw: &RawTarget,
    at: &At,
    findings: &mut Findings<'_>,
) -> Option<TargetId> {
    match (raw.protect.unwrap_or(false), raw.id) {
        (true, Some(id)) => Some(match kind {
            TargetKind::Group => TargetId::Group(GroupId(id)),
            TargetKind::Project => TargetId::Project(ProjectId(id)),
        }),
        (true, None) => {
            let remedy = "say its numeric `id` beside it: a path may change";
            findings.error(&at.key("protect"), "protects nothing without the id", remedy);
            None
        }
        (false, Some(_)) => {
            findings.warning(&at.key("id"), "has an effect only with `protect: true`", "");
            None
        }
        (false, None) => None,
    }
}

/// The profiles that rules give to a path, as far as paths alone tell.
pub(super) fn given<'a>(
    kind: TargetKind,
    path: &'a str,
    rules: &'a [Rule],
) -> impl Iterator<Item = &'a ProfileName> {
    let matching = rules.iter().filter(move |rule| {
        let patterns = match kind {
            TargetKind::Group => &rule.groups,
            TargetKind::Project => &rule.projects,
        };
        patterns.iter().any(|pattern| pattern.matches(path)) && !rule.excepts(path)
    });
    matching.flat_map(|rule| &rule.profiles)
}

fn withdrawn(
    raw: &RawFleet,
    rules: &[Rule],
    at: &At,
    findings: &mut Findings<'_>,
) -> Vec<Withdrawn> {
    let mut all = Vec::new();
    for (index, raw) in raw.withdrawn.iter().enumerate() {
        let at = at.index(index);
        let Some(target) = Withdrawn::of(raw.group, raw.project) else {
            findings.error(
                &at,
                "names no single target",
                "write `group` or `project`, with its numeric id",
            );
            continue;
        };
        if raw.reason.trim().is_empty() {
            findings.error(
                &at.key("reason"),
                "is empty",
                "say why, for whoever looks for the runner",
            );
        }
        let served_above = raw.path.as_ref().is_some_and(|path| {
            let mut ancestors = path.match_indices('/').map(|(end, _)| &path[..end]);
            ancestors.any(|group| given(TargetKind::Group, group, rules).next().is_some())
        });
        if served_above {
            findings.warning(
                &at,
                "a group above it has a runner, which serves it all the same",
                "",
            );
        }
        let (path, reason) = (raw.path.clone(), raw.reason.clone());
        all.push(Withdrawn { target, path, reason });
    }
    all
}

/// The fleet's floor holds for every profile; none may ask for less than the file itself would run.
fn version_floors(
    raw: &RawFleet,
    profiles: &mut BTreeMap<ProfileName, Profile>,
    root: &At,
    findings: &mut Findings<'_>,
) {
    let of_fleet = raw.version_floors.as_ref().and_then(|floors| floors.runner.as_ref());
    let of_fleet = of_fleet.and_then(|text| {
        profile::version(text, &root.key("versionFloors").key("runner"), findings)
    });
    let images = raw.cluster.images.as_ref().and_then(|images| images.runner.as_deref());
    let runs: Option<Version> = images.unwrap_or(settings::RUNNER_VERSION).parse().ok();
    for profile in profiles.values_mut() {
        profile.version_floor = profile.version_floor.max(of_fleet);
        if let (Some(floor), Some(runs)) = (profile.version_floor, runs)
            && runs < floor
        {
            let reason = format!(
                "is {runs}, and profile `{}` may run on nothing older than {floor}",
                profile.name
            );
            let at = root.key("cluster").key("images").key("runner");
            findings.error(&at, reason, "raise it, or lower the version floor");
        }
    }
}

fn check_rest(raw: &RawFleet, at: &At, findings: &mut Findings<'_>) {
    if raw.rollout.as_ref().and_then(|rollout| rollout.in_flight) == Some(0) {
        findings.error(&at.key("rollout").key("inFlight"), "is 0: nothing would ever change", "");
    }
    if let Some(calls) = raw.sweep.as_ref().and_then(|sweep| sweep.calls.as_ref()) {
        let at = at.key("sweep").key("calls");
        for (key, number) in [("azure", calls.azure), ("gitlab", calls.gitlab)] {
            if number == Some(0) {
                findings.error(&at.key(key), "is 0: some drift would never be seen", "");
            }
        }
    }
    if let Some(floors) = &raw.version_floors {
        // That of gitlab-runner is part of every profile.
        for (key, text) in [("gitlab", &floors.gitlab), ("kubernetes", &floors.kubernetes)] {
            if let Some(text) = text {
                profile::version(text, &at.key("versionFloors").key(key), findings);
            }
        }
    }
}

fn not_acted_on(raw: &RawFleet) -> Vec<&'static str> {
    let profiles = || raw.profiles.values();
    let asked = [
        ("rotation", profiles().any(|profile| profile.rotation.is_some())),
        (
            "identityRotation",
            profiles().any(|profile| {
                profile.identity_rotation.as_ref().is_some_and(|text| text != "never")
            }),
        ),
        (
            "versionFloors",
            raw.version_floors
                .as_ref()
                .is_some_and(|floors| floors.gitlab.is_some() || floors.kubernetes.is_some()),
        ),
    ];
    asked.into_iter().filter(|(_, asked)| *asked).map(|(key, _)| key).collect()
}
