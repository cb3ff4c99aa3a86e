//! Sees what forerunner does to a sandbox, while it does it.

pub(crate) use super::snapshot::Truth;
use super::{
    broken,
    snapshot::{MANAGERS, Services, Snapshot, key_of},
};
use crate::harness::Sandbox;
use forerunner::{
    clock::Clock,
    sandbox::wire::{Exchange, Service},
};
use jiff::Timestamp;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

/// All that was seen.
#[derive(Default)]
pub(crate) struct Evidence {
    pub(crate) deeds: Vec<Deed>,
    pub(crate) sweeps: Vec<Sweep>,
    /// Every secret that a service gave away, and those of the installation.
    pub(crate) secrets: BTreeSet<String>,
    /// What went where secrets have no place: messages, logs, records.
    pub(crate) told: Vec<String>,
}

/// A call of forerunner's that had an effect.
pub(crate) struct Deed {
    pub(crate) at: Timestamp,
    pub(crate) service: Service,
    pub(crate) method: String,
    /// Without the query.
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) request: Value,
    /// What forerunner had made by then, as paths in lower case, and `runner ID`.
    pub(crate) made_before: Arc<BTreeSet<String>>,
    pub(crate) before: Arc<Snapshot>,
    pub(crate) after: Arc<Snapshot>,
}

/// A whole sweep, and all rounds that it woke, while nothing disturbed the world.
pub(crate) struct Sweep {
    pub(crate) at: Timestamp,
    /// Units that it leaves alone, as they are parked and not due.
    pub(crate) parked: BTreeSet<String>,
    pub(crate) before: Arc<Snapshot>,
    pub(crate) after: Arc<Snapshot>,
}

impl Evidence {
    /// One line a violation, with the deed it is about.
    pub(super) fn each(&self, mut check: impl FnMut(&Deed) -> Vec<String>) -> Vec<String> {
        let of = |deed: &Deed| {
            let Deed { at, method, path, .. } = deed;
            let lines = check(deed).into_iter();
            lines.map(|line| format!("{line} ({at} {method} {path})")).collect::<Vec<_>>()
        };
        self.deeds.iter().flat_map(of).collect()
    }
}

impl Deed {
    /// The id in a GitLab path below `/runners/`.
    fn runner(&self) -> Option<u64> {
        let (_, rest) = self.path.split_once("/api/v4/runners/")?;
        rest.split('/').next()?.parse().ok()
    }

    /// What it changed or deleted, where that was there before.
    pub(super) fn touches(&self) -> Option<String> {
        match self.service {
            Service::Gitlab => self.runner().map(|id| format!("runner {id}")),
            Service::Arm | Service::Kubernetes => {
                let there = self.status == 200 && self.method != "POST";
                there.then(|| self.path.to_lowercase())
            }
            Service::Identity
            | Service::Entra
            | Service::KeyVault
            | Service::ServiceBus
            | Service::Host => None,
        }
    }

    /// The unit of which an essential part went: identity, namespace, manager, Secret, or the last entity.
    pub(super) fn destroys(&self) -> Option<String> {
        if self.method != "DELETE" || self.status == 204 && self.service == Service::Arm {
            return None;
        }
        let (parent, name) = self.path.rsplit_once('/')?;
        let essential = match self.service {
            Service::Gitlab => {
                let id = self.runner()?;
                let key = &self.before.entities.get(&id)?.key;
                let marked = self.before.entities.iter().map(|(id, one)| (id, &one.key));
                // One without its marker is ours by the token that we keep.
                let mut others = marked.chain(&self.before.live);
                let another = others.any(|(other, of)| *other != id && of == key);
                return (!another).then(|| format!("runner/{key}"));
            }
            Service::Arm => parent.to_lowercase().ends_with("/userassignedidentities"),
            Service::Kubernetes => {
                let kind = parent.rsplit('/').next().unwrap_or_default();
                kind == "namespaces"
                    || kind == "deployments"
                    || kind == "secrets" && name.ends_with("-config")
            }
            Service::Identity
            | Service::Entra
            | Service::KeyVault
            | Service::ServiceBus
            | Service::Host => false,
        };
        if essential { unit_of_name(name) } else { None }
    }

    /// The unit whose part this is, where only that unit's round may write it.
    pub(super) fn unit(&self) -> Option<String> {
        let lower = self.path.to_lowercase();
        match self.service {
            Service::Gitlab => {
                let described = self.request["description"].as_str().and_then(key_of);
                let known = || Some(self.before.entities.get(&self.runner()?)?.key.clone());
                Some(format!("runner/{}", described.or_else(known)?))
            }
            Service::Arm if lower.contains("/roleassignments/") => {
                let name = lower.rsplit('/').next()?;
                let all = self.after.assignments.get(name);
                let principal = all.or_else(|| self.before.assignments.get(name))?;
                let principals = [&self.after.principals, &self.before.principals];
                unit_of_key(principals.iter().find_map(|of| of.get(principal))?)
            }
            Service::Arm => {
                let (_, rest) = lower.split_once("/userassignedidentities/")?;
                let name = rest.split('/').next()?;
                unit_of_name(name).or_else(|| Some(format!("identity/{name}")))
            }
            // Whoever gives places at an existing identity answers on the accounts that ask.
            Service::Kubernetes if lower.contains("/serviceaccounts/job") => None,
            Service::Kubernetes if lower.contains("/configmaps") => None,
            Service::Kubernetes => {
                let name = lower.rsplit('/').next()?;
                let (_, rest) = lower.split_once("/namespaces/")?;
                let namespace = rest.split('/').next()?;
                let named = || name.starts_with("runner-").then(|| unit_of_name(name))?;
                match namespace == MANAGERS {
                    true => named(),
                    false => named().or_else(|| unit_of_name(namespace)),
                }
            }
            Service::Identity
            | Service::Entra
            | Service::KeyVault
            | Service::ServiceBus
            | Service::Host => None,
        }
    }

    /// The unit whose part this is, also where the round of an existing identity may write it.
    pub(super) fn owner(&self) -> Option<String> {
        let lower = self.path.to_lowercase();
        let lent = lower.split_once("/federatedidentitycredentials/");
        let account = lower.split_once("/serviceaccounts/job");
        let of = match (self.service, lent, account) {
            (Service::Arm, Some((_, name)), _) => name.rsplit_once('-').map(|(of, _)| of),
            (Service::Kubernetes, _, Some((namespace, _))) => namespace.rsplit('/').next(),
            _ => None,
        };
        of.and_then(unit_of_name).or_else(|| self.unit())
    }
}

/// From a name such as `ci-nonprod--g42-plan`, `id-nonprod--domain-plan` or `runner-g42-plan-config`.
fn unit_of_name(name: &str) -> Option<String> {
    let key = match name.split_once("--") {
        Some((_, key)) => key,
        None => name.strip_prefix("runner-")?,
    };
    unit_of_key(key.strip_suffix("-config").unwrap_or(key))
}

fn unit_of_key(key: &str) -> Option<String> {
    Some(match key.strip_prefix("domain-") {
        Some(profile) => format!("domain/{profile}"),
        None => format!("runner/{key}"),
    })
}

/// Watches one sandbox from now on.
#[derive(Clone)]
pub(crate) struct Recorder(Arc<Inner>);

struct Inner {
    services: Services,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    evidence: Evidence,
    truth: Truth,
    made: Arc<BTreeSet<String>>,
    last: Arc<Snapshot>,
}

const WATCHED: [Service; 4] =
    [Service::Gitlab, Service::Arm, Service::Kubernetes, Service::ServiceBus];

impl Recorder {
    pub(crate) fn watch(sandbox: &Sandbox, truth: Truth) -> Self {
        let world = &sandbox.world;
        let services = Services {
            gitlab: world.gitlab.clone(),
            azure: world.azure.clone(),
            kubernetes: world.kubernetes.clone(),
            service_bus: world.service_bus.clone(),
        };
        let mut state = State::default();
        state.evidence.secrets.insert(world.gitlab.admin_token());
        state.evidence.secrets.insert(world.azure.identity_header());
        let inner = Inner { services, clock: world.clock.clone(), state: Mutex::new(state) };
        let recorder = Self(Arc::new(inner));
        recorder.tell(truth);
        let seen = recorder.clone();
        world.wire.observe(&WATCHED, Arc::new(move |exchange| seen.see(exchange)));
        recorder
    }

    /// Says what is so from now on, after somebody else than forerunner changed the world.
    pub(crate) fn tell(&self, truth: Truth) {
        let now = self.0.clock.now();
        let last = Arc::new(self.0.services.snapshot(truth.clone(), now));
        let mut state = self.0.state.lock().unwrap();
        state.truth = truth;
        state.last = last;
    }

    /// How the world looks to a sweep that begins now.
    pub(crate) fn begin_sweep(&self) -> Sweep {
        let at = self.0.clock.now();
        let parked = self.0.services.parked(at);
        let before = self.look(at);
        Sweep { at, parked, after: before.clone(), before }
    }

    /// The sweep has seen the fleet, and every round that it woke is over; nothing disturbed them.
    pub(crate) fn end_sweep(&self, sweep: Sweep) {
        let after = self.look(self.0.clock.now());
        self.0.state.lock().unwrap().evidence.sweeps.push(Sweep { after, ..sweep });
    }

    fn look(&self, now: Timestamp) -> Arc<Snapshot> {
        let truth = self.0.state.lock().unwrap().truth.clone();
        Arc::new(self.0.services.snapshot(truth, now))
    }

    /// The invariants that what was seen so far breaks.
    pub(crate) fn broken(&self, sandbox: &Sandbox) -> Vec<String> {
        let mut state = self.0.state.lock().unwrap();
        let logs = sandbox.world.host().map(|host| host.logs()).unwrap_or_default();
        state.evidence.told.extend(logs.into_iter().map(|line| line.text));
        broken(&state.evidence)
    }

    fn see(&self, exchange: &Exchange) {
        let writes = exchange.method != "GET" && exchange.method != "HEAD";
        if !exchange.caller.starts_with("forerunner/") || !writes || exchange.status >= 300 {
            return;
        }
        let (path, query) = exchange.path.split_once('?').unwrap_or((&exchange.path, ""));
        let asks = ["/api/graphql", "/runners/verify", "Microsoft.ResourceGraph", "/listCluster"];
        if query.contains("dryRun") || asks.iter().any(|ask| path.contains(ask)) {
            return;
        }
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut state = self.0.state.lock().unwrap();
        if exchange.service == Service::ServiceBus || path.contains("/configmaps") {
            state.evidence.told.push(text(&exchange.request));
        }
        if exchange.service == Service::ServiceBus {
            return;
        }
        let answer: Value = serde_json::from_slice(&exchange.answer).unwrap_or_default();
        if let (Service::Gitlab, Some(token)) = (exchange.service, answer["token"].as_str()) {
            state.evidence.secrets.insert(token.to_owned());
        }
        let now = self.0.clock.now();
        let after = Arc::new(self.0.services.snapshot(state.truth.clone(), now));
        let deed = Deed {
            at: now,
            service: exchange.service,
            method: exchange.method.clone(),
            path: path.to_owned(),
            status: exchange.status,
            request: request(exchange),
            made_before: state.made.clone(),
            before: std::mem::replace(&mut state.last, after.clone()),
            after,
        };
        if let Some(name) = made(&deed, &answer) {
            Arc::make_mut(&mut state.made).insert(name);
        }
        state.evidence.deeds.push(deed);
    }
}

fn request(exchange: &Exchange) -> Value {
    serde_json::from_slice(&exchange.request).unwrap_or_else(|_| {
        let pairs = url::form_urlencoded::parse(&exchange.request);
        pairs.map(|(key, value)| (key.into_owned(), Value::from(value.into_owned()))).collect()
    })
}

/// What a call made that was not there before.
fn made(deed: &Deed, answer: &Value) -> Option<String> {
    let path = deed.path.to_lowercase();
    match deed.service {
        Service::Gitlab if path.ends_with("/user/runners") => {
            Some(format!("runner {}", answer["id"].as_u64()?))
        }
        Service::Arm | Service::Kubernetes if deed.status == 201 => {
            match (deed.method.as_str(), answer["metadata"]["name"].as_str()) {
                ("POST", Some(name)) => Some(format!("{path}/{name}")),
                _ => Some(path),
            }
        }
        Service::Gitlab
        | Service::Arm
        | Service::Kubernetes
        | Service::Identity
        | Service::Entra
        | Service::KeyVault
        | Service::ServiceBus
        | Service::Host => None,
    }
}
