//! From settings to rounds: reads the fleet's files and prepares every client, and connects to nothing.

use crate::{
    adapters::{
        http::{Http, HttpSettings},
        service_bus::ServiceBus,
        tokens::{Credential, Tokens},
    },
    clock::Clock,
    config::{self, Settings},
    domain::{fleet::Fleet, spec::Mode},
    reconcile::{Clients, GitlabTrust, Outbox, Rounds, View},
};
use std::{fs, io, path::Path, sync::Arc};

/// Why nothing can be prepared at all. To the handler a bad `fleet.yaml` is none of these: hooks are still queued.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Setting(#[from] config::Error),
    #[error(
        "there is no Azure identity to sign in with: on Functions IDENTITY_ENDPOINT and IDENTITY_HEADER are set by \
         assigning one; in a pod set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE, which the \
         workload-identity webhook does; at a desk run `az login`"
    )]
    NoIdentity,
    /// Only a person at a desk is stopped by it.
    #[error("{0}")]
    Fleet(String),
}

/// What was prepared.
pub struct Loaded {
    pub rounds: Rounds,
    pub service_bus: ServiceBus,
    /// Why `fleet.yaml` means nothing, one line a problem.
    pub fleet_problems: Vec<String>,
}

pub fn load(settings: &Settings, clock: Clock) -> Result<Loaded, Error> {
    let Parts { http, tokens, bound } = Parts::of(settings, &clock)?;
    let service_bus = ServiceBus::new(http, tokens, settings.service_bus()?);
    let (bound, fleet_problems) = match bound {
        Ok(bound) => (Ok(bound), vec![]),
        Err(problems) => (Err(problems.join("; ")), problems),
    };
    let outbox = Outbox::Queue(service_bus.clone());
    let rounds = Rounds::new(bound, outbox, clock, mode(settings));
    Ok(Loaded { rounds, service_bus, fleet_problems })
}

/// What a person at a desk works with.
pub struct AtDesk {
    pub view: View,
    /// Or the setting that is missing: only what sends needs it.
    pub service_bus: Result<ServiceBus, config::Error>,
}

/// Prepares what reads; `fleet.yaml` must be valid.
pub fn at_desk(settings: &Settings, clock: Clock) -> Result<AtDesk, Error> {
    let Parts { http, tokens, bound } = Parts::of(settings, &clock)?;
    let (fleet, clients) = bound.map_err(|problems| Error::Fleet(problems.join("\n")))?;
    let service_bus = settings.service_bus().map(|host| ServiceBus::new(http, tokens, host));
    Ok(AtDesk { view: View::new(fleet, clients, clock, mode(settings)), service_bus })
}

/// Rounds for who applies from a desk; `fleet.yaml` must be valid.
pub fn rounds_here(settings: &Settings, clock: Clock, outbox: Outbox) -> Result<Rounds, Error> {
    let Parts { bound, .. } = Parts::of(settings, &clock)?;
    let bound = bound.map_err(|problems| Error::Fleet(problems.join("\n")))?;
    Ok(Rounds::new(Ok(bound), outbox, clock, mode(settings)))
}

fn mode(settings: &Settings) -> Mode {
    match settings.mode {
        Some(config::Mode::Observe) => Mode::Observe,
        Some(config::Mode::Enforce) | None => Mode::Enforce,
    }
}

struct Parts {
    http: Http,
    tokens: Tokens,
    /// The fleet with its services, or why its file means nothing, one line a problem.
    bound: Result<(Arc<Fleet>, Clients), Vec<String>>,
}

impl Parts {
    fn of(settings: &Settings, clock: &Clock) -> Result<Self, Error> {
        let folder = settings.fleet.parent().unwrap_or(Path::new(".")).to_owned();
        let http = Http::new(
            HttpSettings {
                loopback: settings.loopback.clone(),
                proxy: settings.proxy.clone(),
                ..HttpSettings::default()
            },
            clock.clone(),
        );
        let credential = credential(settings)?;
        let cloud = settings.cloud.clone();
        let tokens = Tokens::of_cloud(http.clone(), clock.clone(), credential, cloud);
        let fleet = read_fleet(&settings.fleet, clock)
            .and_then(|fleet| Ok((gitlab_trust(&http, &fleet, &folder)?, fleet)));
        let bound = fleet.map(|(trust, fleet)| {
            let (http, tokens) = (http.clone(), tokens.clone());
            let clients =
                Clients::new(http, trust, tokens, clock.clone(), fleet.settings(), &folder);
            (Arc::new(fleet), clients)
        });
        Ok(Self { http, tokens, bound })
    }
}

/// Whom GitLab's client trusts. The authority of one service has no say in another's.
fn gitlab_trust(http: &Http, fleet: &Fleet, folder: &Path) -> Result<GitlabTrust, Vec<String>> {
    let Some(file) = &fleet.settings().gitlab.ca_file else {
        return Ok(GitlabTrust { http: http.clone(), ca: None });
    };
    let file = folder.join(file);
    let unusable = |reason: String| {
        let remedy = "give the PEM file of GitLab's authority, its path relative to fleet.yaml";
        vec![format!("gitlab.caFile: {} cannot be used: {reason}; {remedy}", file.display())]
    };
    let pem = fs::read_to_string(&file).map_err(|error| unusable(error.to_string()))?;
    let http = http.trusting_also(pem.as_bytes()).map_err(|error| unusable(error.to_string()))?;
    Ok(GitlabTrust { http, ca: Some(pem) })
}

/// Reads `fleet.yaml`, and `guardrails.yaml` beside it where there is one.
pub fn read_fleet(file: &Path, clock: &Clock) -> Result<Fleet, Vec<String>> {
    let text = fs::read_to_string(file)
        .map_err(|error| vec![format!("{} cannot be read: {error}", file.display())])?;
    let beside = file.with_file_name("guardrails.yaml");
    let guardrails = match fs::read_to_string(&beside) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(vec![format!("{} cannot be read: {error}", beside.display())]),
    };
    match Fleet::parse(&text, guardrails.as_deref(), clock.now()) {
        Ok((fleet, _)) => Ok(fleet),
        Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
    }
}

fn credential(settings: &Settings) -> Result<Credential, Error> {
    if let Some(identity) = &settings.identity {
        return Ok(Credential::ManagedIdentity {
            endpoint: identity.endpoint.clone(),
            header: identity.header.clone(),
            client_id: settings.azure_client_id,
        });
    }
    let workload =
        (settings.azure_tenant_id, settings.azure_client_id, &settings.azure_federated_token_file);
    match workload {
        (Some(tenant_id), Some(client_id), Some(token_file)) => Ok(Credential::WorkloadIdentity {
            tenant_id,
            client_id,
            token_file: token_file.clone(),
        }),
        // Half of a workload identity is a mistake, and a Functions app speaks as nobody but itself.
        (_, _, None) if settings.port().is_err() => {
            Ok(Credential::DeveloperTools { executor: None })
        }
        _ => Err(Error::NoIdentity),
    }
}
