//! What a profile means: its runner, its jobs' pods and identity, and when its token is changed.

use super::{ProfileMeaning, map, mode, or_none, pair, period};
use crate::domain::{
    fleet::{Allowance, IdentityTemplate, Profile},
    spec::{Amount, Isolation, Pods},
};
use jiff::SignedDuration;

pub(super) fn profile(profile: &Profile) -> ProfileMeaning {
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
            "foreign rights: {}; paused by somebody: {}; foreign manager: {}",
            yes(profile.drift.remove_foreign_rights, "remove", "report"),
            yes(profile.drift.resume_paused, "resume", "keep"),
            yes(profile.drift.revoke_foreign, "revoke", "alarm"),
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
