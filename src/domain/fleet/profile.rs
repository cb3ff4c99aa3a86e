//! A profile with every default filled in: what a runner becomes once its target is known.

use super::{
    amount, guardrails, placeholder,
    problem::{At, Findings},
    raw::{
        RawAllow, RawAmount, RawDrift, RawForeignManager, RawForeignRights, RawGrant, RawIdentity,
        RawIsolation, RawKubernetes, RawMode, RawPaused, RawPods, RawProfile, RawPullPolicy,
        RawResources, RawRotation, RawRunner, RawSet, RawSomeIdentity,
    },
    roles::{self, Power},
    runner_keys,
};
use crate::domain::{
    azure::ResourceId,
    ids::ProfileName,
    spec::{Amount, Cache, Isolation, KubernetesSettings, Mode, Pods, RunnerSettings},
};
use jiff::{SignedDuration, Timestamp, civil::Date};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A profile of the file. Texts may still hold placeholders.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// As the file calls it now.
    pub name: ProfileName,
    /// As keys, units and outside names call it: the name it first had.
    pub key: ProfileName,
    pub runner: RunnerSettings,
    pub identity: IdentityTemplate,
    pub identity_settle: SignedDuration,
    pub isolation: Isolation,
    pub pods: Pods,
    pub kubernetes: KubernetesSettings,
    pub mode: Mode,
    pub exceptions: Vec<Exception>,
    /// `None` is never.
    pub identity_rotation: Option<SignedDuration>,
    pub rotation: Rotation,
    pub drift: Drift,
    pub protect: bool,
    pub version_floor: Option<String>,
    pub placeholders: BTreeSet<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityTemplate {
    None,
    Managed { tags: BTreeMap<String, String>, roles: Vec<GrantTemplate> },
    Existing { candidates: Vec<ResourceId>, expect: Vec<GrantTemplate> },
}

/// A role at a scope that may hold placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantTemplate {
    pub role: Uuid,
    pub role_name: String,
    pub scope: String,
}

/// Somebody answers, until a day, for what the defaults forbid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Such as a change number.
    pub name: String,
    pub allows: Allowance,
    /// Its last day, in UTC.
    pub until: Date,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowance {
    IdentityOnInstance,
    IdentityOnUntagged,
    IdentityOnPrivileged,
    UnprotectedWriter,
    /// A writing role on a whole subscription or more.
    WideWriter {
        role_name: String,
        scope: String,
    },
}

impl Exception {
    pub fn ended(&self, now: Timestamp) -> bool {
        now >= amount::end_of(self.until)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    pub every: SignedDuration,
    /// Six fields; `None` is any time.
    pub window: Option<String>,
    pub time_zone: String,
    pub patience: SignedDuration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Whether rights that others gave an identity of ours are taken away, or only reported.
    pub remove_foreign_rights: bool,
    /// Whether a runner that somebody paused is resumed, or kept paused.
    pub resume_paused: bool,
}

/// What `set` changes for one target.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Changes {
    concurrent: Option<u32>,
    maximum_timeout: Option<u32>,
    cpu: Option<Amount>,
    memory: Option<Amount>,
    ephemeral_storage: Option<Amount>,
    helper_cpu: Option<Amount>,
    helper_memory: Option<Amount>,
    service_cpu: Option<Amount>,
    service_memory: Option<Amount>,
    node_selector: Option<BTreeMap<String, String>>,
    tolerations: Option<BTreeMap<String, String>>,
    priority_class: Option<String>,
    runtime_class: Option<String>,
    pub(super) quota: BTreeMap<String, String>,
}

impl Profile {
    pub fn has_identity(&self) -> bool {
        self.identity != IdentityTemplate::None
    }

    /// What a job may do in Azure at worst. An existing identity whose rights the file does not name may do anything.
    pub fn power(&self) -> Power {
        match &self.identity {
            IdentityTemplate::None => Power::Reads,
            IdentityTemplate::Managed { roles, .. } => strongest(roles).unwrap_or(Power::Reads),
            IdentityTemplate::Existing { expect, .. } => strongest(expect).unwrap_or(Power::Writes),
        }
    }

    pub fn grants(&self) -> &[GrantTemplate] {
        match &self.identity {
            IdentityTemplate::None => &[],
            IdentityTemplate::Managed { roles, .. } => roles,
            IdentityTemplate::Existing { expect, .. } => expect,
        }
    }

    pub fn allows(&self, allowance: &Allowance) -> bool {
        self.exceptions.iter().any(|exception| exception.allows == *allowance)
    }
}

impl Changes {
    pub(super) fn apply(&self, runner: &mut RunnerSettings, kubernetes: &mut KubernetesSettings) {
        if let Some(concurrent) = self.concurrent {
            runner.concurrent = concurrent;
            runner.request_concurrency = runner.request_concurrency.min(concurrent);
        }
        if let Some(timeout) = self.maximum_timeout {
            runner.maximum_timeout = timeout;
        }
        for (change, own) in [
            (&self.cpu, &mut kubernetes.cpu),
            (&self.memory, &mut kubernetes.memory),
            (&self.ephemeral_storage, &mut kubernetes.ephemeral_storage),
            (&self.helper_cpu, &mut kubernetes.helper_cpu),
            (&self.helper_memory, &mut kubernetes.helper_memory),
            (&self.service_cpu, &mut kubernetes.service_cpu),
            (&self.service_memory, &mut kubernetes.service_memory),
        ] {
            if let Some(change) = change {
                own.clone_from(change);
            }
        }
        if let Some(selector) = &self.node_selector {
            kubernetes.node_selector.clone_from(selector);
        }
        if let Some(tolerations) = &self.tolerations {
            kubernetes.tolerations.clone_from(tolerations);
        }
        if self.priority_class.is_some() {
            kubernetes.priority_class.clone_from(&self.priority_class);
        }
        if self.runtime_class.is_some() {
            kubernetes.runtime_class.clone_from(&self.runtime_class);
        }
        kubernetes.quota.extend(self.quota.clone());
    }
}

fn strongest(grants: &[GrantTemplate]) -> Option<Power> {
    grants.iter().map(|grant| roles::power(grant.role)).max()
}

/// Reads one profile. `None` where an error makes going on pointless; the errors are in `findings`.
pub(super) fn compile(
    name: &str,
    raw: &RawProfile,
    fleet_tags: &BTreeMap<String, String>,
    at: &At,
    findings: &mut Findings<'_>,
) -> Option<Profile> {
    let name = findings.accept(at, ProfileName::new(name), "")?;
    let key = match &raw.was {
        None => name.clone(),
        Some(was) => findings.accept(&at.key("was"), ProfileName::new(was), "")?,
    };
    let mut exceptions = exceptions(raw, at, findings);
    let identity = identity(&raw.identity, fleet_tags, &mut exceptions, at, findings)?;
    let settle = match &raw.identity {
        RawIdentity::Some(RawSomeIdentity { settle: Some(text), .. }) => {
            period(text, &at.key("identity").key("settle"), findings)
        }
        RawIdentity::Some(_) => SignedDuration::from_mins(2),
        RawIdentity::None(_) => SignedDuration::ZERO,
    };
    let has_identity = identity != IdentityTemplate::None;
    let pods = pods(raw.kubernetes.as_ref(), has_identity);
    let default = RawKubernetes::default();
    let kubernetes = kubernetes(
        raw.kubernetes.as_ref().unwrap_or(&default),
        has_identity,
        &at.key("kubernetes"),
        findings,
    );
    let mut profile = Profile {
        name,
        key,
        runner: runner(&raw.runner, &at.key("runner"), findings),
        identity,
        identity_settle: settle,
        isolation: match raw.isolation {
            Some(RawIsolation::Profile) => Isolation::Profile,
            Some(RawIsolation::Target) | None => Isolation::Target,
        },
        pods,
        kubernetes,
        mode: mode(raw.mode),
        exceptions,
        identity_rotation: identity_rotation(raw, at, findings),
        rotation: rotation(raw.rotation.as_ref(), &at.key("rotation"), findings),
        drift: drift(raw.drift.as_ref()),
        protect: raw.protect.unwrap_or(false),
        version_floor: raw.runner.version_floor.clone(),
        placeholders: BTreeSet::new(),
    };
    if let Some(floor) = &raw.runner.version_floor {
        version(floor, &at.key("runner").key("versionFloor"), findings);
    }
    profile.runner.protected = raw.runner.protected.unwrap_or(profile.power() > Power::Reads);
    placeholders(&mut profile, at, findings);
    protect(&profile, at, findings);
    Some(profile)
}

pub(super) fn mode(raw: Option<RawMode>) -> Mode {
    match raw {
        Some(RawMode::Observe) => Mode::Observe,
        Some(RawMode::Enforce) | None => Mode::Enforce,
    }
}

/// Checks `19.4.0`, or `17.11`.
pub(super) fn version(text: &str, at: &At, findings: &mut Findings<'_>) {
    let parts: Vec<&str> = text.split('.').collect();
    let numbers = parts.iter().all(|part| part.parse::<u32>().is_ok());
    if !numbers || !(2..=3).contains(&parts.len()) {
        findings.error(at, format!("`{text}` is no version; write such as 19.4.0"), "");
    }
}

fn exceptions(raw: &RawProfile, at: &At, findings: &mut Findings<'_>) -> Vec<Exception> {
    let mut exceptions = Vec::new();
    for (index, raw) in raw.exceptions.iter().enumerate() {
        let at = at.key("exceptions").index(index);
        let allows = match raw.allow {
            RawAllow::IdentityOnInstance => Allowance::IdentityOnInstance,
            RawAllow::IdentityOnUntagged => Allowance::IdentityOnUntagged,
            RawAllow::IdentityOnPrivileged => Allowance::IdentityOnPrivileged,
            RawAllow::UnprotectedWriter => Allowance::UnprotectedWriter,
        };
        if raw.exception.trim().is_empty() {
            findings.error(
                &at.key("exception"),
                "is empty",
                "name who allowed it, such as a change number",
            );
        }
        if let Some(until) = findings.accept(&at.key("until"), amount::date(&raw.until), "") {
            exceptions.push(Exception { name: raw.exception.clone(), allows, until });
        }
    }
    exceptions
}

fn identity(
    raw: &RawIdentity,
    fleet_tags: &BTreeMap<String, String>,
    exceptions: &mut Vec<Exception>,
    at: &At,
    findings: &mut Findings<'_>,
) -> Option<IdentityTemplate> {
    let at = at.key("identity");
    let raw = match raw {
        RawIdentity::None(_) => return Some(IdentityTemplate::None),
        RawIdentity::Some(raw) => raw,
    };
    match (&raw.managed, &raw.existing) {
        (Some(managed), None) => {
            if raw.expect.is_some() {
                let remedy = "give a managed identity its rights by `managed.roles`";
                findings.error(&at.key("expect"), "belongs to `existing`", remedy);
            }
            let below = at.key("managed");
            let mut tags = fleet_tags.clone();
            tags.extend(managed.tags.clone());
            azure_tags(&managed.tags, &below.key("tags"), findings);
            let roles = grants(&managed.roles, exceptions, &below.key("roles"), findings);
            Some(IdentityTemplate::Managed { tags, roles })
        }
        (None, Some(existing)) => {
            let below = at.key("existing");
            let mut candidates = Vec::new();
            for (index, text) in existing.iter().enumerate() {
                if let Some(id) = findings.accept(&below.index(index), identity_id(text), "") {
                    if candidates.contains(&id) {
                        findings.error(&below.index(index), format!("{id} stands twice"), "");
                    }
                    candidates.push(id);
                }
            }
            if existing.is_empty() {
                findings.error(
                    &below,
                    "is empty",
                    "name the identities, or write `identity: none`",
                );
            }
            let expect = raw.expect.as_deref().unwrap_or_default();
            let expect = grants(expect, exceptions, &at.key("expect"), findings);
            Some(IdentityTemplate::Existing { candidates, expect })
        }
        (Some(_), Some(_)) => {
            findings.error(
                &at,
                "has both `managed` and `existing`",
                "an identity is one or the other",
            );
            None
        }
        (None, None) => {
            findings.error(
                &at,
                "has neither `managed` nor `existing`",
                "or write `identity: none`",
            );
            None
        }
    }
}

fn identity_id(text: &str) -> Result<ResourceId, String> {
    let wrong = || {
        format!(
            "`{text}` is no id of a user-assigned identity; write such as /subscriptions/ID/resourceGroups/NAME/\
             providers/Microsoft.ManagedIdentity/userAssignedIdentities/NAME"
        )
    };
    let id = guardrails::scope(text).map_err(|_| wrong())?;
    let lower = id.lower();
    let fits = lower.contains("/providers/microsoft.managedidentity/userassignedidentities/")
        && lower.matches('/').count() == 8;
    if fits { Ok(id) } else { Err(wrong()) }
}

fn grants(
    raw: &[RawGrant],
    exceptions: &mut Vec<Exception>,
    at: &At,
    findings: &mut Findings<'_>,
) -> Vec<GrantTemplate> {
    let mut grants = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let at = at.index(index);
        let role = roles::find(&raw.role);
        if role.is_none() {
            let remedy = guardrails::role_remedy(&raw.role);
            findings.error(&at.key("role"), format!("`{}` is no role we know", raw.role), remedy);
        }
        let braces = findings.accept(&at.key("scope"), placeholder::names(&raw.scope), "");
        // Its shape is judged with every placeholder filled, and told as it is written.
        let shape = guardrails::scope(&placeholder::sample(&raw.scope));
        let shape = shape.map_err(|_| guardrails::no_scope(&raw.scope));
        let scope = braces.and_then(|_| findings.accept(&at.key("scope"), shape, ""));
        let until = grant_exception(raw, &at, findings);
        let (Some((role, role_name)), Some(scope)) = (role, scope) else { continue };
        let wide = guardrails::is_wide(&scope) && roles::power(role) > Power::Reads;
        let grant =
            GrantTemplate { role, role_name, scope: raw.scope.trim_end_matches('/').to_owned() };
        let (role_name, scope) = (grant.role_name.clone(), grant.scope.clone());
        match until {
            Some((name, until)) => {
                let allows = Allowance::WideWriter { role_name, scope };
                exceptions.push(Exception { name, allows, until });
                if !wide {
                    findings.warning(&at.key("exception"), "is not needed: the role only reads, or its scope is narrow", "");
                }
            }
            None if wide && raw.exception.is_none() => findings.error(
                &at,
                format!("{role_name} writes, on all of {scope}"),
                "name a narrower scope, or who allows it and until when: `exception: CHG…, until: 2027-03-31`",
            ),
            None => {}
        }
        if grants.contains(&grant) {
            findings.error(&at, "stands twice", "");
        }
        grants.push(grant);
    }
    grants
}

fn grant_exception(raw: &RawGrant, at: &At, findings: &mut Findings<'_>) -> Option<(String, Date)> {
    match (&raw.exception, &raw.until) {
        (Some(name), Some(until)) => {
            if name.trim().is_empty() {
                findings.error(
                    &at.key("exception"),
                    "is empty",
                    "name who allowed it, such as a change number",
                );
            }
            let until = findings.accept(&at.key("until"), amount::date(until), "")?;
            Some((name.clone(), until))
        }
        (Some(_), None) => {
            findings.error(
                &at.key("exception"),
                "has no end",
                "say until when: `until: 2027-03-31`",
            );
            None
        }
        (None, Some(_)) => {
            findings.error(
                &at.key("until"),
                "ends nothing",
                "say who allowed it: `exception: CHG…`",
            );
            None
        }
        (None, None) => None,
    }
}

fn pods(raw: Option<&RawKubernetes>, has_identity: bool) -> Pods {
    match raw.and_then(|raw| raw.pods) {
        Some(RawPods::Hardened) => Pods::Hardened,
        Some(RawPods::Standard) => Pods::Standard,
        Some(RawPods::ImageBuild) => Pods::ImageBuild,
        Some(RawPods::Privileged) => Pods::Privileged,
        None if has_identity => Pods::Hardened,
        None => Pods::Standard,
    }
}

fn runner(raw: &RawRunner, at: &At, findings: &mut Findings<'_>) -> RunnerSettings {
    let run_untagged = raw.run_untagged.unwrap_or(false);
    if raw.tags.is_empty() && !run_untagged {
        let remedy = "name a tag, or write `runUntagged: true`";
        findings.error(&at.key("tags"), "is empty: no job could reach this runner", remedy);
    }
    for (index, tag) in raw.tags.iter().enumerate() {
        let at = at.key("tags").index(index);
        if tag.trim() != tag || tag.is_empty() || tag.contains(',') || tag.len() > 255 {
            findings.error(&at, format!("`{tag}` is no tag"), "no commas, no blanks around it");
        }
        if raw.tags[..index].contains(tag) {
            findings.error(&at, format!("`{tag}` stands twice"), "");
        }
    }
    let concurrent = raw.concurrent.unwrap_or(4);
    if concurrent == 0 {
        findings.error(
            &at.key("concurrent"),
            "is 0: the manager would not start",
            "use `mode: observe` or drop the rule to stop a runner",
        );
    }
    let request_concurrency = raw.request_concurrency.unwrap_or(concurrent.min(4));
    if request_concurrency == 0 || request_concurrency > concurrent.max(1) {
        let reason =
            format!("is {request_concurrency}, should be from 1 to `concurrent` ({concurrent})");
        findings.error(&at.key("requestConcurrency"), reason, "");
    }
    RunnerSettings {
        tags: raw.tags.clone(),
        run_untagged,
        protected: raw.protected.unwrap_or(true),
        locked: raw.locked.unwrap_or(true),
        maximum_timeout: timeout(raw.maximum_timeout.as_deref(), at, findings).unwrap_or(3_600),
        concurrent,
        request_concurrency,
    }
}

fn timeout(text: Option<&str>, at: &At, findings: &mut Findings<'_>) -> Option<u32> {
    let at = at.key("maximumTimeout");
    let duration = findings.accept(&at, amount::duration(text?), "")?;
    let seconds = u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    if seconds < 600 {
        findings.error(&at, "is shorter than 10m, the least that GitLab takes", "");
    }
    if seconds > 31 * 86_400 {
        findings.error(&at, "is longer than 31d: a manager would drain that long", "");
    }
    Some(seconds)
}

fn period(text: &str, at: &At, findings: &mut Findings<'_>) -> SignedDuration {
    findings.accept(at, amount::duration(text), "").unwrap_or(SignedDuration::ZERO)
}

fn identity_rotation(
    raw: &RawProfile,
    at: &At,
    findings: &mut Findings<'_>,
) -> Option<SignedDuration> {
    match raw.identity_rotation.as_deref() {
        None | Some("never") => None,
        Some(text) => Some(period(text, &at.key("identityRotation"), findings)),
    }
}

fn rotation(raw: Option<&RawRotation>, at: &At, findings: &mut Findings<'_>) -> Rotation {
    let text = |pick: fn(&RawRotation) -> Option<&String>| raw.and_then(pick);
    let every = text(|raw| raw.every.as_ref())
        .map_or(SignedDuration::from_hours(30 * 24), |text| {
            period(text, &at.key("every"), findings)
        });
    let patience = text(|raw| raw.patience.as_ref())
        .map_or(SignedDuration::from_mins(15), |text| period(text, &at.key("patience"), findings));
    let window = text(|raw| raw.window.as_ref()).cloned();
    if let Some(window) = &window {
        use std::str::FromStr;
        let fields = window.split_whitespace().count();
        if fields != 6 || cron::Schedule::from_str(window).is_err() {
            let reason = format!("`{window}` is no schedule of six fields");
            findings.error(
                &at.key("window"),
                reason,
                "second minute hour day month weekday, such as \"0 0 2 * * SUN\"",
            );
        }
    }
    let time_zone = text(|raw| raw.time_zone.as_ref()).cloned().unwrap_or_else(|| "UTC".to_owned());
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '_' | '-' | '+');
    if time_zone != "UTC" && !(time_zone.contains('/') && time_zone.chars().all(known)) {
        let reason = format!("`{time_zone}` is no time zone");
        findings.error(
            &at.key("timeZone"),
            reason,
            "write its IANA name, such as Europe/Amsterdam",
        );
    }
    Rotation { every, window, time_zone, patience }
}

fn drift(raw: Option<&RawDrift>) -> Drift {
    let foreign = raw.and_then(|raw| raw.foreign_rights);
    let paused = raw.and_then(|raw| raw.paused);
    match raw.and_then(|raw| raw.foreign_manager) {
        Some(RawForeignManager::Alarm) | None => {} // the one way there is
    }
    Drift {
        remove_foreign_rights: matches!(foreign, Some(RawForeignRights::Remove)),
        resume_paused: matches!(paused, Some(RawPaused::Resume)),
    }
}

/// Sizes that a job gets when the file says nothing (runner-on-kubernetes.md §3.3: every container needs them).
fn amount_of(request: &str, limit: &str) -> Amount {
    Amount { request: Some(request.to_owned()), limit: Some(limit.to_owned()) }
}

const IMAGE: &str = "docker.io/library/alpine:3.22";

fn kubernetes(
    raw: &RawKubernetes,
    has_identity: bool,
    at: &At,
    findings: &mut Findings<'_>,
) -> KubernetesSettings {
    let services = raw.services.unwrap_or(!has_identity);
    if services && has_identity {
        findings.warning(
            &at.key("services"),
            "a service container gets the identity's token too",
            "",
        );
    }
    let policies = raw.pull_policy.clone().unwrap_or_else(|| vec![RawPullPolicy::Always]);
    if raw.kubernetes_api == Some(true) && has_identity {
        findings.warning(
            &at.key("kubernetesApi"),
            "jobs with an identity get a token of the cluster too",
            "",
        );
    }
    let amounts = Amounts::read(raw, at, findings);
    let helper = raw.helper.clone().unwrap_or_default();
    let service = raw.service.clone().unwrap_or_default();
    let [helper_cpu, helper_memory] = resources(&helper, &at.key("helper"), findings);
    let [service_cpu, service_memory] = resources(&service, &at.key("service"), findings);
    let linux = || BTreeMap::from([("kubernetes.io/os".to_owned(), "linux".to_owned())]);
    tolerations(raw.tolerations.as_ref(), at, findings);
    environment(&raw.environment, &at.key("environment"), findings);
    if raw.service_account.is_some() && raw.namespace.is_none() {
        let remedy = "say in which namespace it is";
        findings.error(&at.key("serviceAccount"), "needs `namespace`", remedy);
    }
    KubernetesSettings {
        namespace: raw.namespace.clone(),
        service_account: raw.service_account.clone(),
        image: raw.image.clone().unwrap_or_else(|| IMAGE.to_owned()),
        allowed_images: raw.allowed_images.clone(),
        allowed_services: raw.allowed_services.clone(),
        services,
        pull_policy: policies.iter().map(|policy| pull_policy(*policy)).collect(),
        pull_secrets: raw.pull_secrets.clone(),
        cpu: amounts.cpu.unwrap_or_else(|| amount_of("500m", "2")),
        memory: amounts.memory.unwrap_or_else(|| amount_of("512Mi", "2Gi")),
        ephemeral_storage: amounts.ephemeral_storage.unwrap_or_else(|| amount_of("1Gi", "8Gi")),
        helper_cpu: helper_cpu.unwrap_or_else(|| amount_of("100m", "500m")),
        helper_memory: helper_memory.unwrap_or_else(|| amount_of("128Mi", "512Mi")),
        service_cpu: service_cpu.unwrap_or_else(|| amount_of("100m", "1")),
        service_memory: service_memory.unwrap_or_else(|| amount_of("128Mi", "1Gi")),
        node_selector: raw.node_selector.clone().unwrap_or_else(linux),
        tolerations: raw.tolerations.clone().unwrap_or_default(),
        priority_class: raw.priority_class.clone(),
        runtime_class: raw.runtime_class.clone(),
        environment: raw.environment.clone(),
        cache: raw.cache.as_ref().map(|cache| Cache {
            account: cache.account.clone(),
            container: cache.container.clone(),
            domain: cache.domain.clone().unwrap_or_else(|| "blob.core.windows.net".to_owned()),
        }),
        quota: quota(&raw.quota, &at.key("quota"), findings),
        kubernetes_api: raw.kubernetes_api.unwrap_or(false),
        pod_disruption_budget: raw.pod_disruption_budget.unwrap_or(true),
        poll_timeout: raw.poll_timeout.as_ref().map_or(600, |text| {
            u32::try_from(period(text, &at.key("pollTimeout"), findings).as_secs())
                .unwrap_or(u32::MAX)
        }),
        extra: extra(raw.extra.as_deref(), &at.key("extra"), findings),
    }
}

fn extra(text: Option<&str>, at: &At, findings: &mut Findings<'_>) -> toml::Table {
    match text.map(runner_keys::read) {
        None => toml::Table::new(),
        Some(Ok(table)) => table,
        Some(Err(refused)) => {
            for refused in refused {
                findings.error(at, refused.reason, refused.remedy);
            }
            toml::Table::new()
        }
    }
}

struct Amounts {
    cpu: Option<Amount>,
    memory: Option<Amount>,
    ephemeral_storage: Option<Amount>,
}

impl Amounts {
    fn read(raw: &RawKubernetes, at: &At, findings: &mut Findings<'_>) -> Self {
        let mut read =
            |raw: &Option<RawAmount>, key| quantity_pair(raw.as_ref(), &at.key(key), findings);
        Self {
            cpu: read(&raw.cpu, "cpu"),
            memory: read(&raw.memory, "memory"),
            ephemeral_storage: read(&raw.ephemeral_storage, "ephemeralStorage"),
        }
    }
}

fn resources(raw: &RawResources, at: &At, findings: &mut Findings<'_>) -> [Option<Amount>; 2] {
    [
        quantity_pair(raw.cpu.as_ref(), &at.key("cpu"), findings),
        quantity_pair(raw.memory.as_ref(), &at.key("memory"), findings),
    ]
}

fn quantity_pair(raw: Option<&RawAmount>, at: &At, findings: &mut Findings<'_>) -> Option<Amount> {
    let mut read = |text: &str, at: &At| findings.accept(at, amount::quantity(text), "");
    let amount = match raw? {
        RawAmount::Both(text) => {
            let both = read(text, at);
            Amount { request: both.clone(), limit: both }
        }
        RawAmount::Each(each) => Amount {
            request: each.request.as_ref().and_then(|text| read(text, &at.key("request"))),
            limit: each.limit.as_ref().and_then(|text| read(text, &at.key("limit"))),
        },
    };
    if let (Some(request), Some(limit)) = (&amount.request, &amount.limit)
        && amount::thousandths(request) > amount::thousandths(limit)
    {
        findings.error(at, format!("the request {request} is above the limit {limit}"), "");
    }
    Some(amount)
}

fn quota(
    raw: &BTreeMap<String, String>,
    at: &At,
    findings: &mut Findings<'_>,
) -> BTreeMap<String, String> {
    let mut quota = BTreeMap::new();
    for (resource, text) in raw {
        if let Some(read) = findings.accept(&at.key(resource), amount::quantity(text), "") {
            quota.insert(resource.clone(), read);
        }
    }
    quota
}

fn tolerations(raw: Option<&BTreeMap<String, String>>, at: &At, findings: &mut Findings<'_>) {
    for (key, effect) in raw.into_iter().flatten() {
        if !matches!(effect.as_str(), "NoSchedule" | "PreferNoSchedule" | "NoExecute" | "") {
            let at = at.key("tolerations").key(key);
            let remedy = "NoSchedule, PreferNoSchedule, NoExecute, or \"\" for all";
            findings.error(&at, format!("`{effect}` is no effect"), remedy);
        }
    }
}

fn environment(raw: &BTreeMap<String, String>, at: &At, findings: &mut Findings<'_>) {
    for name in raw.keys() {
        let known = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(known) {
            findings.error(&at.key(name), format!("`{name}` is no name of a variable"), "");
        }
        if name.starts_with("FF_") || name.starts_with("KUBERNETES_") {
            let reason = format!("`{name}` steers gitlab-runner itself");
            findings.error(
                &at.key(name),
                reason,
                "a feature flag belongs into `extra`, below [feature_flags]",
            );
        }
    }
}

fn pull_policy(policy: RawPullPolicy) -> String {
    match policy {
        RawPullPolicy::Always => "always",
        RawPullPolicy::IfNotPresent => "if-not-present",
        RawPullPolicy::Never => "never",
    }
    .to_owned()
}

/// Tags of Azure resources: 512 characters a name, 256 a value, and none of ours.
pub(super) fn azure_tags(tags: &BTreeMap<String, String>, at: &At, findings: &mut Findings<'_>) {
    for (name, value) in tags {
        let known = |c: char| !matches!(c, '<' | '>' | '%' | '&' | '\\' | '?' | '/');
        if name.is_empty() || name.len() > 512 || value.len() > 256 || !name.chars().all(known) {
            findings.error(&at.key(name), "is no tag that Azure takes", "");
        }
        if name.to_ascii_lowercase().starts_with("forerunner-") {
            findings.error(
                &at.key(name),
                "begins like the tags that forerunner knows its own by",
                "",
            );
        }
    }
}

/// Reads one `set`.
pub(super) fn changes(raw: &RawSet, at: &At, findings: &mut Findings<'_>) -> Changes {
    let mut changes = Changes::default();
    if let Some(runner) = &raw.runner {
        let at = at.key("runner");
        changes.concurrent = runner.concurrent;
        if runner.concurrent == Some(0) {
            findings.error(&at.key("concurrent"), "is 0: the manager would not start", "");
        }
        changes.maximum_timeout = timeout(runner.maximum_timeout.as_deref(), &at, findings);
    }
    if let Some(raw) = &raw.kubernetes {
        let at = at.key("kubernetes");
        changes.cpu = quantity_pair(raw.cpu.as_ref(), &at.key("cpu"), findings);
        changes.memory = quantity_pair(raw.memory.as_ref(), &at.key("memory"), findings);
        changes.ephemeral_storage =
            quantity_pair(raw.ephemeral_storage.as_ref(), &at.key("ephemeralStorage"), findings);
        let helper = raw.helper.clone().unwrap_or_default();
        let service = raw.service.clone().unwrap_or_default();
        [changes.helper_cpu, changes.helper_memory] =
            resources(&helper, &at.key("helper"), findings);
        [changes.service_cpu, changes.service_memory] =
            resources(&service, &at.key("service"), findings);
        changes.node_selector.clone_from(&raw.node_selector);
        changes.tolerations.clone_from(&raw.tolerations);
        tolerations(raw.tolerations.as_ref(), &at, findings);
        changes.priority_class.clone_from(&raw.priority_class);
        changes.runtime_class.clone_from(&raw.runtime_class);
        changes.quota =
            quota(raw.quota.as_ref().unwrap_or(&BTreeMap::new()), &at.key("quota"), findings);
    }
    changes
}

/// Collects the placeholders, and refuses them where they have no meaning.
fn placeholders(profile: &mut Profile, at: &At, findings: &mut Findings<'_>) {
    let mut all = BTreeSet::new();
    let mut take = |text: &str, at: &At, findings: &mut Findings<'_>| {
        let found = findings.accept(at, placeholder::names(text), "").unwrap_or_default();
        let any = !found.is_empty();
        all.extend(found);
        any
    };
    for (index, tag) in profile.runner.tags.iter().enumerate() {
        take(tag, &at.key("runner").key("tags").index(index), findings);
    }
    let (list, grants) = match &profile.identity {
        IdentityTemplate::None => (at.clone(), &[][..]),
        IdentityTemplate::Managed { tags, roles } => {
            let below = at.key("identity").key("managed");
            for (name, value) in tags {
                take(value, &below.key("tags").key(name), findings);
            }
            (below.key("roles"), roles.as_slice())
        }
        IdentityTemplate::Existing { expect, .. } => {
            (at.key("identity").key("expect"), expect.as_slice())
        }
    };
    let shared = profile.isolation == Isolation::Profile;
    let refusal = "differs by target, but `isolation: profile` shares it";
    for (index, grant) in grants.iter().enumerate() {
        let at = list.index(index).key("scope");
        if take(&grant.scope, &at, findings) && shared {
            findings.error(&at, refusal, "write the scope out, or use `isolation: target`");
        }
    }
    for (key, text) in [
        ("namespace", &profile.kubernetes.namespace),
        ("serviceAccount", &profile.kubernetes.service_account),
    ] {
        let at = at.key("kubernetes").key(key);
        if text.as_ref().is_some_and(|text| !is_label(&placeholder::sample(text))) {
            findings.error(
                &at,
                "is no name that Kubernetes takes",
                "lower-case letters, digits and inner hyphens, 63 at most",
            );
        }
        if text.as_ref().is_some_and(|text| take(text, &at, findings)) && shared {
            findings.error(&at, refusal, "write the name out, or use `isolation: target`");
        }
    }
    profile.placeholders = all;
}

/// Whether Kubernetes takes a text as the name of a namespace.
fn is_label(text: &str) -> bool {
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len())
        && text.chars().all(known)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

/// The defaults that protect may be left only by a named exception.
fn protect(profile: &Profile, at: &At, findings: &mut Findings<'_>) {
    if !profile.has_identity() {
        return;
    }
    let exception = |allow: &str| {
        format!(
            "undo it, or name who allows it: `exceptions: [{{ allow: {allow}, exception: CHG…, until: 2027-03-31 }}]`"
        )
    };
    let runner = &profile.runner;
    if runner.run_untagged && !profile.allows(&Allowance::IdentityOnUntagged) {
        let reason = "any job without tags would get the identity";
        findings.error(
            &at.key("runner").key("runUntagged"),
            reason,
            exception("identityOnUntagged"),
        );
    }
    if profile.pods == Pods::Privileged && !profile.allows(&Allowance::IdentityOnPrivileged) {
        let reason = "a privileged job can take its node, and every identity on it";
        findings.error(
            &at.key("kubernetes").key("pods"),
            reason,
            exception("identityOnPrivileged"),
        );
    }
    let writes = profile.power() > Power::Reads;
    if !runner.protected && writes && !profile.allows(&Allowance::UnprotectedWriter) {
        let reason = "anyone who can push a branch would get a role that writes";
        findings.error(&at.key("runner").key("protected"), reason, exception("unprotectedWriter"));
    }
    if !runner.locked {
        let reason =
            "a project's maintainer could enable this runner, and its identity, for other projects";
        findings.warning(&at.key("runner").key("locked"), reason, "");
    }
    for (index, one) in profile.exceptions.iter().enumerate() {
        let needed = match one.allows {
            Allowance::IdentityOnUntagged => runner.run_untagged,
            Allowance::IdentityOnPrivileged => profile.pods == Pods::Privileged,
            Allowance::UnprotectedWriter => !runner.protected && writes,
            Allowance::IdentityOnInstance | Allowance::WideWriter { .. } => true,
        };
        if !needed {
            findings.warning(
                &at.key("exceptions").index(index),
                "is not needed: nothing here asks for it",
                "",
            );
        }
    }
}
