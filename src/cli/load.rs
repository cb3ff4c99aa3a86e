//! From settings to rounds: reads the fleet's files and prepares every client, and connects to nothing.

use crate::{
    adapters::{
        http::{Http, HttpSettings, SettingsError},
        service_bus::ServiceBus,
        tokens::{Credential, Tokens},
    },
    clock::Clock,
    config::{self, Settings},
    domain::{fleet::Fleet, spec::Mode},
    reconcile::{Clients, Rounds},
};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why nothing can be prepared at all. A bad `fleet.yaml` is none of these: hooks are still queued.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Setting(#[from] config::Error),
    #[error(transparent)]
    Http(#[from] SettingsError),
    #[error(
        "there is no Azure identity to sign in with: on Functions IDENTITY_ENDPOINT and IDENTITY_HEADER are set by \
         assigning one; in a pod set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_FEDERATED_TOKEN_FILE, which the \
         workload-identity webhook does; at a desk run `az login`"
    )]
    NoIdentity,
}

/// What was prepared.
pub struct Loaded {
    pub rounds: Rounds,
    pub service_bus: ServiceBus,
    /// Why `fleet.yaml` means nothing, one line a problem.
    pub fleet_problems: Vec<String>,
}

pub fn load(settings: &Settings, clock: Clock) -> Result<Loaded, Error> {
    let folder = settings.fleet.parent().unwrap_or(Path::new(".")).to_owned();
    let fleet = read_fleet(&settings.fleet, &clock);
    let ca_file = fleet.as_ref().ok().and_then(|fleet| fleet.settings().gitlab.ca_file.as_ref());
    let ca_file: Option<PathBuf> = ca_file.map(|file| folder.join(file));
    let http = Http::new(
        HttpSettings {
            loopback: settings.loopback.clone(),
            ca_files: ca_file.clone().into_iter().collect(),
            proxy: settings.proxy.clone(),
            ..HttpSettings::default()
        },
        clock.clone(),
    )?;
    let credential = credential(settings)?;
    let tokens = Tokens::of_cloud(http.clone(), clock.clone(), credential, settings.cloud.clone());
    let service_bus = ServiceBus::new(http.clone(), tokens.clone(), settings.service_bus()?);
    let (bound, fleet_problems) = match fleet {
        Ok(fleet) => {
            let gitlab_ca = ca_file.and_then(|file| fs::read_to_string(file).ok());
            let clients =
                Clients::new(http, tokens, clock.clone(), fleet.settings(), &folder, gitlab_ca);
            (Ok((Arc::new(fleet), clients)), vec![])
        }
        Err(problems) => (Err(problems.join("; ")), problems),
    };
    let mode = match settings.mode {
        Some(config::Mode::Observe) => Mode::Observe,
        Some(config::Mode::Enforce) | None => Mode::Enforce,
    };
    let rounds = Rounds::new(bound, service_bus.clone(), clock, mode);
    Ok(Loaded { rounds, service_bus, fleet_problems })
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
