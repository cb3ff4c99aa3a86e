//! From the files' form to what they mean. Finds as many problems at once as it can.

use super::{
    Fleet, IdentityTemplate, TargetEntry, TargetKind, Withdrawn, amount, guardrails, overlap,
    pattern, placeholder,
    problem::{At, Findings, Problem, Source, nearest},
    profile::{self, Allowance, Profile},
    raw::{self, RawAllowed, RawCluster, RawFleet, RawGitlab, RawGuardrails, RawTarget},
    rule::{self, Anchors, Rule},
    shape,
    tree::Node,
};
use crate::domain::{
    azure::ResourceId,
    ids::{FleetName, GroupId, ProfileName, TargetId},
    names,
    spec::{
        Allowed, AzureSettings, ClusterAccess, ClusterSettings, FleetSettings, GitlabSettings,
        Images, Isolation, Network, Proxy, VaultSecret,
    },
};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use url::Url;
use uuid::Uuid;

const VERSION: u32 = 1;
const RUNNER_VERSION: &str = "19.4.0";
const MANAGER_CLUSTER_ROLE: &str = "forerunner-manager";

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
    shape::check(&fleet_tree, &raw::fleet_schema(), &root, &mut findings);
    if let Some(tree) = &guardrails_tree {
        let root = At::root(Source::Guardrails);
        shape::check(tree, &raw::guardrails_schema(), &root, &mut findings);
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
    let settings = settings(raw, digest, &root, findings);
    let anchors = anchors(raw, &root.key("anchors"), findings);
    let profiles = profiles(raw, &root.key("profiles"), findings);
    let rules = rule::compile(&raw.rules, &profiles, &anchors, findings, &root.key("rules"));
    check_instance(&rules, &profiles, findings);
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
    let withdrawn = withdrawn(raw, &rules, &root.key("withdrawn"), findings);
    check_rest(raw, &root, findings);
    let mut fleet = Fleet {
        settings: settings?,
        guardrails,
        anchors,
        targets,
        rules,
        withdrawn,
        profiles,
        overlaps: Vec::new(),
        not_acted_on: not_acted_on(raw, own_guardrails),
        read_at: now,
    };
    fleet.add_own_never();
    check_azure(&fleet, &root, findings);
    check_use(&fleet, &root, findings);
    check_guardrails(&fleet, &root, findings);
    check_exceptions(&fleet, &root, now, findings);
    fleet.overlaps = overlaps(&fleet, findings);
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

fn settings(
    raw: &RawFleet,
    digest: &str,
    at: &At,
    findings: &mut Findings<'_>,
) -> Option<FleetSettings> {
    let name = findings.accept(&at.key("fleet"), FleetName::new(&raw.fleet), "");
    let gitlab = gitlab(&raw.gitlab, &at.key("gitlab"), findings);
    let azure = match &raw.azure {
        None => Some(None),
        Some(azure) => {
            let at = at.key("azure");
            profile::azure_tags(&azure.tags, &at.key("tags"), findings);
            let known = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '(' | ')');
            let group = &azure.resource_group;
            if !(1..=90).contains(&group.len()) || !group.chars().all(known) || group.ends_with('.')
            {
                findings.error(
                    &at.key("resourceGroup"),
                    format!("`{group}` is no name of a resource group"),
                    "",
                );
            }
            let subscription = Uuid::parse_str(&azure.subscription)
                .map_err(|_| format!("`{}` is no id of a subscription", azure.subscription));
            findings.accept(&at.key("subscription"), subscription, "").map(|subscription| {
                Some(AzureSettings {
                    subscription,
                    resource_group: group.clone(),
                    location: azure.location.clone(),
                    tags: azure.tags.clone(),
                })
            })
        }
    };
    let cluster = cluster(&raw.cluster, name.as_ref(), &at.key("cluster"), findings);
    Some(FleetSettings {
        name: name?,
        digest: digest.to_owned(),
        mode: profile::mode(raw.mode),
        gitlab: gitlab?,
        azure: azure?,
        cluster: cluster?,
    })
}

fn gitlab(raw: &RawGitlab, at: &At, findings: &mut Findings<'_>) -> Option<GitlabSettings> {
    let key = at.key("url");
    let url = Url::parse(raw.url.trim_end_matches('/'))
        .map_err(|error| format!("`{}`: {error}", raw.url));
    let url = findings.accept(&key, url, "write such as https://gitlab.example.com");
    if let Some(url) = &url {
        if url.scheme() != "https" {
            findings.error(&key, "is not https: the runners' tokens would go in the clear", "");
        }
        let plain = url.username().is_empty() && url.password().is_none();
        if !plain || url.query().is_some() || url.fragment().is_some() {
            findings.error(
                &key,
                "has more than a host and a path",
                "write such as https://gitlab.example.com",
            );
        }
    }
    let token = at.key("token");
    for (name, text, least, most) in
        [("keyVault", &raw.token.key_vault, 3, 24), ("secret", &raw.token.secret, 1, 127)]
    {
        let known = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !(least..=most).contains(&text.len()) || !text.chars().all(known) {
            let reason = format!("`{text}` is no name that Key Vault has");
            findings.error(
                &token.key(name),
                reason,
                "the name alone, of letters, digits and hyphens",
            );
        }
    }
    Some(GitlabSettings {
        url: url?,
        ca_file: raw.ca_file.as_ref().map(Into::into),
        token: VaultSecret { vault: raw.token.key_vault.clone(), secret: raw.token.secret.clone() },
    })
}

fn cluster(
    raw: &RawCluster,
    fleet: Option<&FleetName>,
    at: &At,
    findings: &mut Findings<'_>,
) -> Option<ClusterSettings> {
    let access = match (&raw.resource_id, &raw.kubeconfig) {
        (Some(id), None) => {
            findings.accept(&at.key("resourceId"), cluster_id(id), "").map(ClusterAccess::Aks)
        }
        (None, Some(path)) => Some(ClusterAccess::Kubeconfig(path.into())),
        (Some(_), Some(_)) | (None, None) => {
            let remedy = "the ARM id of an AKS cluster, or a kubeconfig for any other";
            findings.error(at, "needs either `resourceId` or `kubeconfig`", remedy);
            None
        }
    };
    let images = raw.images.as_ref();
    let runner = images.and_then(|images| images.runner.clone());
    if let Some(version) = &runner {
        profile::version(version, &at.key("images").key("runner"), findings);
    }
    for (name, value) in &raw.labels {
        let at = at.key("labels").key(name);
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if value.len() > 63 || !value.chars().all(known) {
            findings.error(&at, format!("`{value}` is no value of a label"), "");
        }
        let ours = [
            "forerunner.dev/",
            "app.kubernetes.io/",
            "pod-security.kubernetes.io/",
            "azure.workload.identity/",
        ];
        if ours.iter().any(|prefix| name.starts_with(prefix)) {
            findings.error(&at, "begins like the labels that forerunner sets itself", "");
        }
    }
    for (key, name) in [
        ("managersNamespace", &raw.managers_namespace),
        ("managerClusterRole", &raw.manager_cluster_role),
    ] {
        let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name
            .as_ref()
            .is_some_and(|name| name.is_empty() || name.len() > 63 || !name.chars().all(known))
        {
            findings.error(
                &at.key(key),
                "is no name that Kubernetes takes",
                "lower-case letters, digits and hyphens",
            );
        }
    }
    let network = network(raw, &at.key("network"), findings);
    Some(ClusterSettings {
        access: access?,
        images: Images {
            registry: images
                .and_then(|images| images.registry.as_ref())
                .map(|registry| registry.trim_end_matches('/').to_owned()),
            runner: runner.unwrap_or_else(|| RUNNER_VERSION.to_owned()),
            pull_secrets: images.map(|images| images.pull_secrets.clone()).unwrap_or_default(),
        },
        proxy: raw
            .proxy
            .as_ref()
            .map(|proxy| Proxy { https: proxy.https.clone(), no: proxy.no.clone() }),
        labels: raw.labels.clone(),
        network,
        managers_namespace: match &raw.managers_namespace {
            Some(name) => name.clone(),
            None => names::managers_namespace(fleet?),
        },
        manager_cluster_role: raw
            .manager_cluster_role
            .clone()
            .unwrap_or_else(|| MANAGER_CLUSTER_ROLE.to_owned()),
    })
}

fn cluster_id(text: &str) -> Result<ResourceId, String> {
    let wrong = || {
        format!(
            "`{text}` is no id of an AKS cluster; write such as /subscriptions/ID/resourceGroups/NAME/providers/\
             Microsoft.ContainerService/managedClusters/NAME"
        )
    };
    let id = guardrails::scope(text).map_err(|_| wrong())?;
    let lower = id.lower();
    let fits = lower.contains("/providers/microsoft.containerservice/managedclusters/")
        && lower.matches('/').count() == 8;
    if fits { Ok(id) } else { Err(wrong()) }
}

fn network(raw: &RawCluster, at: &At, findings: &mut Findings<'_>) -> Network {
    let mut network = Network::default();
    let Some(raw) = &raw.network else { return network };
    for (index, text) in raw.cluster_ranges.iter().enumerate() {
        let at = at.key("clusterRanges").index(index);
        network.cluster_ranges.extend(findings.accept(&at, amount::cidr(text), ""));
    }
    for (index, allowed) in raw.allow.iter().enumerate() {
        let at = at.key("allow").index(index);
        let (cidr, ports) = match allowed {
            RawAllowed::Cidr(cidr) => (findings.accept(&at, amount::cidr(cidr), ""), Vec::new()),
            RawAllowed::Ports(some) => {
                if some.ports.contains(&0) {
                    findings.error(&at.key("ports"), "has port 0", "");
                }
                (findings.accept(&at.key("cidr"), amount::cidr(&some.cidr), ""), some.ports.clone())
            }
        };
        network.allow.extend(cidr.map(|cidr| Allowed { cidr, ports }));
    }
    network
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

fn check_instance(
    rules: &[Rule],
    profiles: &BTreeMap<ProfileName, Profile>,
    findings: &mut Findings<'_>,
) {
    for rule in rules.iter().filter(|rule| rule.instance) {
        for profile in rule.profiles.iter().filter_map(|name| profiles.get(name)) {
            if profile.has_identity() && !profile.allows(&Allowance::IdentityOnInstance) {
                findings.error(
                    &rule.at.key("match").key("instance"),
                    format!("every project of GitLab would reach the identity of `{}`", profile.name),
                    "match groups or projects, or name who allows it: `exceptions: [{ allow: identityOnInstance, \
                     exception: CHG…, until: 2027-03-31 }]`",
                );
            }
        }
    }
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
    if given.is_empty() {
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
        let changes = profile::changes(raw, &at, findings);
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
    TargetEntry { path: path.to_owned(), values: raw.values.clone(), set }
}

/// The profiles that rules give to a path, as far as paths alone tell.
fn given<'a>(
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

fn check_rest(raw: &RawFleet, at: &At, findings: &mut Findings<'_>) {
    if let Some(pause) = raw.rollout.as_ref().and_then(|rollout| rollout.pause.as_ref()) {
        findings.accept(&at.key("rollout").key("pause"), amount::duration(pause), "");
    }
    if raw.rollout.as_ref().and_then(|rollout| rollout.batch) == Some(0) {
        findings.error(&at.key("rollout").key("batch"), "is 0: nothing would ever change", "");
    }
    if let Some(floors) = &raw.version_floors {
        for (key, text) in [("gitlab", &floors.gitlab), ("kubernetes", &floors.kubernetes)] {
            if let Some(text) = text {
                profile::version(text, &at.key("versionFloors").key(key), findings);
            }
        }
    }
}

fn not_acted_on(raw: &RawFleet, own: Option<&RawGuardrails>) -> Vec<&'static str> {
    let profiles = || raw.profiles.values();
    let guardrails = raw.guardrails.as_ref().or(own);
    let asked = [
        ("rotation", profiles().any(|profile| profile.rotation.is_some())),
        (
            "identityRotation",
            profiles().any(|profile| {
                profile.identity_rotation.as_ref().is_some_and(|text| text != "never")
            }),
        ),
        ("drift", profiles().any(|profile| profile.drift.is_some())),
        ("protect", profiles().any(|profile| profile.protect.is_some())),
        ("runner.versionFloor", profiles().any(|profile| profile.runner.version_floor.is_some())),
        ("versionFloors", raw.version_floors.is_some()),
        ("rollout", raw.rollout.is_some()),
        ("withdrawn", !raw.withdrawn.is_empty()),
        ("guardrails.deletions", guardrails.is_some_and(|found| found.deletions.is_some())),
        ("guardrails.grace", guardrails.is_some_and(|found| found.grace.is_some())),
        ("guardrails.freeze", guardrails.is_some_and(|found| !found.freeze.is_empty())),
    ];
    asked.into_iter().filter(|(_, asked)| *asked).map(|(key, _)| key).collect()
}

fn profile_at(at: &At, profile: &Profile) -> At {
    at.key("profiles").key(profile.name.as_str())
}

fn check_azure(fleet: &Fleet, at: &At, findings: &mut Findings<'_>) {
    for profile in fleet.profiles.values() {
        let managed = matches!(profile.identity, IdentityTemplate::Managed { .. });
        if managed && fleet.settings.azure.is_none() {
            let at = profile_at(at, profile).key("identity").key("managed");
            findings.error(
                &at,
                "has nowhere to be made",
                "add `azure: { subscription, resourceGroup, location }`",
            );
        }
    }
}

/// A profile that nobody has, and namespaces of administrators that several would share.
fn check_use(fleet: &Fleet, at: &At, findings: &mut Findings<'_>) {
    let mut taken: BTreeMap<&str, &Profile> = BTreeMap::new();
    for profile in fleet.profiles.values() {
        let at = profile_at(at, profile);
        let rules = || fleet.rules.iter().filter(|rule| rule.profiles.contains(&profile.name));
        if rules().next().is_none() {
            findings.warning(&at, "no rule gives it to anyone", "");
        }
        let Some(namespace) = &profile.kubernetes.namespace else { continue };
        let at = at.key("kubernetes").key("namespace");
        if let Some(other) = taken.insert(namespace, profile) {
            let reason = format!(
                "is the namespace of `{}` too: jobs of both would share their identities",
                other.name
            );
            findings.error(
                &at,
                reason,
                "the namespace is the boundary of a trust domain: give each its own",
            );
        }
        let patterns: Vec<_> =
            rules().flat_map(|rule| rule.groups.iter().chain(&rule.projects)).collect();
        let one = patterns.windows(2).all(|pair| pair[0] == pair[1])
            && patterns.iter().all(|pattern| pattern.is_literal())
            && (patterns.is_empty() || !rules().any(|rule| rule.instance));
        if profile.isolation == Isolation::Target && !namespace.contains('{') && !one {
            let reason = "several targets would share this namespace, and so their identities";
            findings.error(
                &at,
                reason,
                "put a placeholder into the name, or use `isolation: profile`",
            );
        }
    }
}

/// A role or scope outside concerns its profile alone. Scopes with placeholders are judged for every target whose values
/// the file has.
fn check_guardrails(fleet: &Fleet, at: &At, findings: &mut Findings<'_>) {
    let remedy = "stay within guardrails, or have their owner widen them";
    for profile in fleet.profiles.values() {
        let place = profile_at(at, profile).key("identity");
        let (list, assigned) = match profile.identity {
            IdentityTemplate::None => continue,
            IdentityTemplate::Managed { .. } => (place.key("managed").key("roles"), true),
            IdentityTemplate::Existing { .. } => (place.key("expect"), false),
        };
        for (index, template) in profile.grants().iter().enumerate() {
            let Ok(grant) = super::wanted::grant(template, &BTreeMap::new()) else { continue };
            if assigned && let Some(reason) = fleet.guardrails.refuses(&grant) {
                findings.blocked(&list.index(index), reason, remedy);
            }
            if !assigned && let Some(reason) = fleet.guardrails.endangers(&grant) {
                findings.warning(&list.index(index), reason, "");
            }
        }
    }
    for ((kind, _), entry) in &fleet.targets {
        let key = match kind {
            TargetKind::Group => "groups",
            TargetKind::Project => "projects",
        };
        let place = at.key(key).key(&entry.path).key("values");
        for profile in
            given(*kind, &entry.path, &fleet.rules).filter_map(|name| fleet.profiles.get(name))
        {
            if !profile.grants().iter().any(|grant| grant.scope.contains('{')) {
                continue; // judged above
            }
            let Ok(spec) = fleet.spec(profile, TargetId::Instance, &entry.values) else { continue };
            for reason in fleet.outside(&spec.identity) {
                findings.blocked(
                    &place,
                    format!("with these, `{}` is outside: {reason}", profile.name),
                    remedy,
                );
            }
        }
    }
}

/// The end of an exception is announced, and then parks its profile; it never stops the rest.
fn check_exceptions(fleet: &Fleet, at: &At, now: Timestamp, findings: &mut Findings<'_>) {
    for profile in fleet.profiles.values() {
        let place = profile_at(at, profile);
        for exception in &profile.exceptions {
            let left = amount::end_of(exception.until).duration_since(now);
            let days = left.as_secs().div_euclid(86_400);
            let (name, until) = (&exception.name, exception.until);
            if left <= SignedDuration::ZERO {
                let reason =
                    format!("the exception {name} ended on {until}: `{}` is parked", profile.name);
                findings.warning(&place, reason, "renew it, or do without what it allows");
            } else if let Some(stage) = [1, 7, 30].into_iter().find(|stage| days <= *stage) {
                let unit = if stage == 1 { "day" } else { "days" };
                let reason = format!(
                    "the exception {name} ends on {until}, within {stage} {unit}; then `{}` is parked",
                    profile.name
                );
                findings.warning(&place, reason, "renew it, or do without what it allows");
            }
        }
    }
}

/// Overlaps as far as the file alone shows them.
fn overlaps(fleet: &Fleet, findings: &mut Findings<'_>) -> Vec<overlap::Overlap> {
    let servings: Vec<(&Rule, &Profile, overlap::Reach)> = fleet
        .rules
        .iter()
        .flat_map(|rule| {
            let profiles = rule.profiles.iter().filter_map(|name| fleet.profiles.get(name));
            profiles.flat_map(move |profile| {
                overlap::Reach::of(rule).into_iter().map(move |reach| (rule, profile, reach))
            })
        })
        .collect();
    let mut found: Vec<overlap::Overlap> = Vec::new();
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
            let one = overlap::Overlap {
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

fn offer(profile: &Profile) -> overlap::Offer {
    overlap::Offer::new(&profile.runner.tags, profile.runner.run_untagged, profile.runner.protected)
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

fn told(overlap: &overlap::Overlap) -> (String, String) {
    let (left, right) = &overlap.profiles;
    let (here, there) = &overlap.reaches;
    let job = match &overlap.contested {
        overlap::Contested::Tag(tag) => format!("a job with the tag `{tag}`"),
        overlap::Contested::Untagged => "a job without tags".to_owned(),
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
