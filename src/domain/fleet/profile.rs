//! A profile with every default filled in: what a runner becomes once its target is known.

use super::{
    amount,
    identity::{self, Allowance, Exception, GrantTemplate, IdentityTemplate, strongest},
    kubernetes, placeholder,
    problem::{At, Findings},
    raw::{
        RawDrift, RawForeignManager, RawForeignRights, RawIdentity, RawIsolation, RawKubernetes,
        RawMode, RawPaused, RawProfile, RawRotation, RawRunner, RawSomeIdentity,
    },
    roles::Power,
};
use crate::domain::{
    ids::ProfileName,
    spec::{Isolation, KubernetesSettings, Mode, Pods, RunnerSettings},
    version::Version,
};
use jiff::SignedDuration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

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
    pub kubernetes: Arc<KubernetesSettings>,
    pub mode: Mode,
    pub exceptions: Vec<Exception>,
    /// `None` is never.
    pub identity_rotation: Option<SignedDuration>,
    pub rotation: Rotation,
    pub drift: Drift,
    pub protect: bool,
    /// The oldest gitlab-runner: its own, or the fleet's where that is higher.
    pub version_floor: Option<Version>,
    pub placeholders: BTreeSet<String>,
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
    /// Whether a token that somebody else polls with is replaced, or the alarm is all.
    pub revoke_foreign: bool,
}

impl Profile {
    pub fn has_identity(&self) -> bool {
        self.identity != IdentityTemplate::None
    }

    /// Whether an administrator is to have given rights that the file names.
    pub fn expects_rights(&self) -> bool {
        matches!(&self.identity, IdentityTemplate::Existing { expect, .. } if !expect.is_empty())
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
    let mut exceptions = identity::exceptions(raw, at, findings);
    let identity = identity::identity(&raw.identity, fleet_tags, &mut exceptions, at, findings)?;
    let settle = match &raw.identity {
        RawIdentity::Some(RawSomeIdentity { settle: Some(text), .. }) => {
            period(text, &at.key("identity").key("settle"), findings)
        }
        RawIdentity::Some(_) => SignedDuration::from_mins(2),
        RawIdentity::None(_) => SignedDuration::ZERO,
    };
    let has_identity = identity != IdentityTemplate::None;
    let pods = kubernetes::pods(raw.kubernetes.as_ref(), has_identity);
    let default = RawKubernetes::default();
    let kubernetes = kubernetes::kubernetes(
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
        kubernetes: Arc::new(kubernetes),
        mode: mode(raw.mode),
        exceptions,
        identity_rotation: identity_rotation(raw, at, findings),
        rotation: rotation(raw.rotation.as_ref(), &at.key("rotation"), findings),
        drift: drift(raw.drift.as_ref()),
        protect: raw.protect.unwrap_or(false),
        version_floor: None,
        placeholders: BTreeSet::new(),
    };
    if let Some(floor) = &raw.runner.version_floor {
        profile.version_floor = version(floor, &at.key("runner").key("versionFloor"), findings);
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
pub(super) fn version(text: &str, at: &At, findings: &mut Findings<'_>) -> Option<Version> {
    let parts: Vec<&str> = text.split('.').collect();
    let numbers = parts.iter().all(|part| part.parse::<u32>().is_ok());
    if !numbers || !(2..=3).contains(&parts.len()) {
        findings.error(at, format!("`{text}` is no version; write such as 19.4.0"), "");
        return None;
    }
    text.parse().ok()
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

pub(super) fn timeout(text: Option<&str>, at: &At, findings: &mut Findings<'_>) -> Option<u32> {
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

pub(super) fn period(text: &str, at: &At, findings: &mut Findings<'_>) -> SignedDuration {
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
    let manager = raw.and_then(|raw| raw.foreign_manager);
    Drift {
        remove_foreign_rights: matches!(foreign, Some(RawForeignRights::Remove)),
        resume_paused: matches!(paused, Some(RawPaused::Resume)),
        revoke_foreign: matches!(manager, Some(RawForeignManager::Revoke)),
    }
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
pub(super) fn is_label(text: &str) -> bool {
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
