//! The only reader of the environment. Every setting is an app setting: typed, with its default and unit. The
//! collector's library reads some standard variables of its own (`OTEL_EXPORTER_OTLP_HEADERS`).

use crate::{
    adapters::{
        cloud::{Cloud, CloudName},
        http::{Loopback, Proxy},
    },
    clock::Clock,
    domain::hook::proof,
};
use secrecy::SecretString;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    str::FromStr,
};
use url::Url;
use uuid::Uuid;

/// All settings, read once. `Debug` shows no secret.
#[derive(Debug)]
pub struct Settings {
    /// `FORERUNNER_FLEET`: the fleet's file. Default: `fleet.yaml` beside `host.json`.
    pub fleet: PathBuf,
    /// `FORERUNNER_MODE`: `observe` lowers the file's `mode`; nothing raises it.
    pub mode: Option<Mode>,
    /// `GITLAB_HOOK_TOKENS` and `GITLAB_HOOK_SIGNING_SECRETS`: one or two each, comma-separated.
    pub hook_secrets: proof::Secrets,
    /// `SweepSchedule`: NCRONTAB with six fields. Default: every 10 minutes.
    pub sweep_schedule: String,
    /// `RotateSchedule`: the same. Default: every hour.
    pub rotate_schedule: String,
    /// `AZURE_CLIENT_ID`: our user-assigned identity; none means the system-assigned one.
    pub azure_client_id: Option<Uuid>,
    /// `AZURE_TENANT_ID`: with a federated token file only.
    pub azure_tenant_id: Option<Uuid>,
    /// `AZURE_FEDERATED_TOKEN_FILE`: sign in as a workload identity instead of a managed one.
    pub azure_federated_token_file: Option<PathBuf>,
    /// `FORERUNNER_AZURE_CLOUD`: `AzureCloud` (the default), `AzureUSGovernment` or `AzureChinaCloud`; and each endpoint on
    /// its own: `FORERUNNER_AZURE_AUTHORITY` (else `AZURE_AUTHORITY_HOST`, which the workload-identity webhook sets),
    /// `FORERUNNER_AZURE_RESOURCE_MANAGER`, `FORERUNNER_AZURE_KEY_VAULT_DOMAIN`,
    /// `FORERUNNER_AZURE_SERVICE_BUS_AUDIENCE`, `FORERUNNER_AZURE_TOKEN_EXCHANGE_AUDIENCE`.
    pub cloud: Cloud,
    /// `IDENTITY_ENDPOINT` and `IDENTITY_HEADER`, which App Service sets.
    pub identity: Option<ManagedIdentity>,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`: the collector's base address for OTLP over HTTP.
    pub otlp_endpoint: Option<Url>,
    /// `HTTPS_PROXY` and `NO_PROXY`, or the same in small letters: the way out for HTTPS. Plain HTTP never leaves this
    /// machine.
    pub proxy: Option<Proxy>,
    /// `FORERUNNER_LOOPBACK`: which hosts are played on this machine, and on which port.
    pub loopback: Vec<Loopback>,
    /// `FORERUNNER_CLOCK`: the file of a clock to follow; only with `FORERUNNER_LOOPBACK`.
    pub clock_file: Option<PathBuf>,
    service_bus: Option<String>,
    port: Option<u16>,
}

/// Whether a round may write anything but status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Enforce,
    Observe,
}

/// App Service's token endpoint and the header that proves that we may use it.
#[derive(Debug)]
pub struct ManagedIdentity {
    pub endpoint: Url,
    pub header: SecretString,
}

/// A setting that is missing or cannot be meant: one line that names it and the remedy, never its value.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the setting `{name}` {problem}: {remedy}")]
pub struct Error {
    pub name: &'static str,
    pub problem: String,
    pub remedy: &'static str,
}

/// Why a file of settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EnvFileError {
    #[error("the settings file {} cannot be used: {reason}", file.display())]
    Unusable { file: PathBuf, reason: String },
    #[error(transparent)]
    Setting(#[from] Error),
}

const PORT: &str = "FUNCTIONS_CUSTOMHANDLER_PORT";
const BUS: &str = "ServiceBus__fullyQualifiedNamespace";
const BUS_REMEDY: &str =
    "set it to the namespace's host, such as `sb-fleet.servicebus.windows.net`";
const TOKENS_REMEDY: &str = "give one or two tokens of at least 16 characters, separated by a comma, or leave it \
                             out; a Key Vault reference must resolve";
const SIGNING_REMEDY: &str = "give one or two signing tokens (`whsec_` and the base64 of 32 bytes) as GitLab has \
                              them, separated by a comma, or leave it out; a Key Vault reference must resolve";
const SCHEDULE_REMEDY: &str =
    "give six fields (second minute hour day month weekday), such as `0 */10 * * * *`";

/// Whether a person at a terminal wants no colour: `NO_COLOR` is set to anything but nothing.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
pub fn colour_is_refused() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

/// Who is signed in at this desk, as the system says; nobody has checked it.
#[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
pub fn user() -> Option<String> {
    ["USER", "USERNAME"].into_iter().find_map(|name| std::env::var(name).ok())
}

impl Settings {
    /// Reads this process's environment.
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    pub fn from_env() -> Result<Self, Error> {
        Self::read(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// Reads a file of `KEY=value` lines, as `forerunner sandbox --env-file` writes it; what it leaves out comes from this
    /// process's environment. Blank lines and lines that begin with `#` mean nothing.
    #[expect(clippy::disallowed_methods, reason = "this is where the environment is read")]
    pub fn from_env_file(file: &Path) -> Result<Self, EnvFileError> {
        let unusable = |reason: String| EnvFileError::Unusable { file: file.to_owned(), reason };
        let text = std::fs::read_to_string(file).map_err(|error| unusable(error.to_string()))?;
        let mut pairs = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            // The line may hold a secret: it is named by its number.
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| unusable(format!("line {number} is not KEY=value")))?;
            pairs.insert(name.trim(), value);
        }
        let given = |name: &str| pairs.get(name).map(|value| (*value).to_owned());
        let outside =
            |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
        Ok(Self::read(|name| given(name).or_else(|| outside(name)))?)
    }

    /// Reads settings from anywhere. Empty means unset, except for the hook's secrets, where it means that
    /// somebody's secret got lost.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let set = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        let root = set("FUNCTIONS_APP_ROOT_PATH").map(PathBuf::from).unwrap_or_default();
        let loopback = match set("FORERUNNER_LOOPBACK") {
            None => Vec::new(),
            Some(list) => read_loopback(&list).ok_or(Error {
                name: "FORERUNNER_LOOPBACK",
                problem: "is not a list of `host=port`".to_owned(),
                remedy: "take it from the file that `forerunner sandbox --env-file` writes, or leave it out",
            })?,
        };
        let clock_file = set("FORERUNNER_CLOCK").map(PathBuf::from);
        if clock_file.is_some() && loopback.is_empty() {
            return Err(Error {
                name: "FORERUNNER_CLOCK",
                problem: "is set without `FORERUNNER_LOOPBACK`".to_owned(),
                remedy: "only a sandbox has a clock of its own; leave it out",
            });
        }
        let port_name =
            [PORT, "FUNCTIONS_HTTPWORKER_PORT"].into_iter().find(|name| set(name).is_some());
        Ok(Self {
            fleet: set("FORERUNNER_FLEET").map_or_else(|| root.join("fleet.yaml"), PathBuf::from),
            mode: set("FORERUNNER_MODE").map(|text| read_mode(&text)).transpose()?,
            hook_secrets: read_hook_secrets(&get)?,
            sweep_schedule: schedule("SweepSchedule", set("SweepSchedule"), "0 */10 * * * *")?,
            rotate_schedule: schedule("RotateSchedule", set("RotateSchedule"), "0 0 * * * *")?,
            azure_client_id: parsed(
                "AZURE_CLIENT_ID",
                set,
                "is not a GUID",
                "give the client id of the identity",
            )?,
            azure_tenant_id: parsed(
                "AZURE_TENANT_ID",
                set,
                "is not a GUID",
                "give the id of the Entra tenant",
            )?,
            azure_federated_token_file: set("AZURE_FEDERATED_TOKEN_FILE").map(PathBuf::from),
            cloud: read_cloud(set)?,
            identity: read_identity(set)?,
            otlp_endpoint: http_url(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                set,
                "give the collector's base address, such as `http://localhost:4318`, or leave it out",
            )?,
            proxy: read_proxy(set)?,
            loopback,
            clock_file,
            service_bus: set(BUS).map(|host| read_bus(&host)).transpose()?,
            port: port_name
                .map(|name| {
                    parsed(name, set, "is not a port", "the Functions host sets it; leave it alone")
                })
                .transpose()?
                .flatten(),
        })
    }

    /// The Service Bus namespace's host, such as `sb-fleet.servicebus.windows.net`.
    pub fn service_bus(&self) -> Result<&str, Error> {
        let missing = Error { name: BUS, problem: "is missing".to_owned(), remedy: BUS_REMEDY };
        self.service_bus.as_deref().ok_or(missing)
    }

    /// The port that the Functions host expects the handler on.
    pub fn port(&self) -> Result<u16, Error> {
        self.port.ok_or(Error {
            name: PORT,
            problem: "is missing".to_owned(),
            remedy: "the Functions host sets it when it starts the handler; by hand, give a free port",
        })
    }

    /// The clock that the settings ask for.
    pub fn clock(&self) -> Clock {
        self.clock_file.clone().map_or_else(Clock::system, Clock::following)
    }
}

fn read_loopback(list: &str) -> Option<Vec<Loopback>> {
    list.split(',').filter(|text| !text.trim().is_empty()).map(|text| text.parse().ok()).collect()
}

/// Letters, digits, hyphens and inner dots.
fn is_host(text: &str) -> bool {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !text.is_empty() && text.chars().all(known) && !text.starts_with('.') && !text.ends_with('.')
}

fn parsed<T: FromStr>(
    name: &'static str,
    set: impl Fn(&str) -> Option<String>,
    problem: &str,
    remedy: &'static str,
) -> Result<Option<T>, Error> {
    let parse = |text: String| {
        text.trim().parse().map_err(|_| Error { name, problem: problem.to_owned(), remedy })
    };
    set(name).map(parse).transpose()
}

fn http_url(
    name: &'static str,
    set: impl Fn(&str) -> Option<String>,
    remedy: &'static str,
) -> Result<Option<Url>, Error> {
    let url: Option<Url> = parsed(name, set, "is not a URL", remedy)?;
    match url {
        Some(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
            Err(Error { name, problem: "is not an http or https URL".to_owned(), remedy })
        }
        url => Ok(url),
    }
}

fn read_mode(text: &str) -> Result<Mode, Error> {
    match text.trim() {
        "enforce" => Ok(Mode::Enforce),
        "observe" => Ok(Mode::Observe),
        _ => Err(Error {
            name: "FORERUNNER_MODE",
            problem: "is neither `enforce` nor `observe`".to_owned(),
            remedy: "give one of the two, or leave it out and set `mode` in fleet.yaml",
        }),
    }
}

fn read_hook_secrets(get: impl Fn(&str) -> Option<String>) -> Result<proof::Secrets, Error> {
    const TOKENS: &str = "GITLAB_HOOK_TOKENS";
    const SIGNING: &str = "GITLAB_HOOK_SIGNING_SECRETS";
    let bad = |name, remedy| {
        move |error: proof::BadSecret| Error { name, problem: error.to_string(), remedy }
    };
    let tokens = proof::Secrets::parse_tokens(get(TOKENS).as_deref());
    let signing = proof::Secrets::parse_signing(get(SIGNING).as_deref());
    Ok(proof::Secrets::new(
        tokens.map_err(bad(TOKENS, TOKENS_REMEDY))?,
        signing.map_err(bad(SIGNING, SIGNING_REMEDY))?,
    ))
}

fn read_identity(set: impl Fn(&str) -> Option<String>) -> Result<Option<ManagedIdentity>, Error> {
    const REMEDY: &str =
        "App Service sets both when the app has a managed identity; leave both alone";
    let half = |name| Error {
        name,
        problem: "is missing while its twin is set".to_owned(),
        remedy: REMEDY,
    };
    let endpoint = http_url("IDENTITY_ENDPOINT", &set, REMEDY)?;
    match (endpoint, set("IDENTITY_HEADER")) {
        (None, None) => Ok(None),
        (Some(endpoint), Some(header)) => {
            Ok(Some(ManagedIdentity { endpoint, header: SecretString::from(header) }))
        }
        (Some(_), None) => Err(half("IDENTITY_HEADER")),
        (None, Some(_)) => Err(half("IDENTITY_ENDPOINT")),
    }
}

fn read_cloud(set: impl Fn(&str) -> Option<String>) -> Result<Cloud, Error> {
    const NAME: &str = "FORERUNNER_AZURE_CLOUD";
    const NAMES: &str =
        "give `AzureCloud`, `AzureUSGovernment` or `AzureChinaCloud`, or leave it out";
    const ADDRESS: &str = "give an https address without a path, or leave it out";
    const DOMAIN: &str = "give a domain, such as `vault.azure.net`, or leave it out";
    const URI: &str = "give the audience as Azure spells it, such as `api://AzureADTokenExchange`, or leave it out";
    let mut cloud = match set(NAME) {
        None => Cloud::default(),
        Some(text) => Cloud::named(text.parse::<CloudName>().map_err(|()| Error {
            name: NAME,
            problem: "names no cloud that we know".to_owned(),
            remedy: NAMES,
        })?),
    };
    let address = |name| match http_url(name, &set, ADDRESS)? {
        Some(url) if url.scheme() != "https" || url.path() != "/" || url.query().is_some() => {
            Err(Error { name, problem: "is not an https origin".to_owned(), remedy: ADDRESS })
        }
        url => Ok(url),
    };
    if let Some(url) = address("FORERUNNER_AZURE_AUTHORITY")?.or(address("AZURE_AUTHORITY_HOST")?) {
        cloud.authority = url;
    }
    if let Some(url) = address("FORERUNNER_AZURE_RESOURCE_MANAGER")? {
        cloud.resource_manager = url;
    }
    let name = "FORERUNNER_AZURE_KEY_VAULT_DOMAIN";
    if let Some(text) = set(name) {
        let domain = text.trim().to_ascii_lowercase();
        let valid = is_host(&domain) && domain.contains('.');
        let problem = "is not a domain".to_owned();
        cloud.key_vault_domain =
            if valid { domain } else { return Err(Error { name, problem, remedy: DOMAIN }) };
    }
    for (name, place) in [
        ("FORERUNNER_AZURE_SERVICE_BUS_AUDIENCE", &mut cloud.service_bus_audience),
        ("FORERUNNER_AZURE_TOKEN_EXCHANGE_AUDIENCE", &mut cloud.token_exchange_audience),
    ] {
        // Kept as it was written: a URL gains a slash, and audiences are compared letter by letter.
        let is_uri = parsed::<Url>(name, &set, "is not a URI", URI)?.is_some();
        if let Some(text) = set(name).filter(|_| is_uri) {
            text.trim().clone_into(place);
        }
    }
    Ok(cloud)
}

fn read_proxy(set: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>, Error> {
    const REMEDY: &str =
        "give the proxy's address, such as `http://proxy.example.com:3128`, or leave it out";
    let either = |name: &str| set(name).or_else(|| set(&name.to_ascii_lowercase()));
    let address = http_url("HTTPS_PROXY", either, REMEDY)?;
    Ok(address.map(|address| Proxy::new(address, either("NO_PROXY").as_deref())))
}

fn read_bus(host: &str) -> Result<String, Error> {
    let host = host.trim().to_ascii_lowercase();
    if is_host(&host) && host.contains('.') {
        return Ok(host);
    }
    Err(Error { name: BUS, problem: "is not a host's name".to_owned(), remedy: BUS_REMEDY })
}

/// The shape alone: what the fields mean is the host's to judge.
fn schedule(name: &'static str, given: Option<String>, default: &str) -> Result<String, Error> {
    let schedule = given.unwrap_or_else(|| default.to_owned());
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '*' | '/' | ',' | '-' | '?');
    let fields: Vec<_> = schedule.split_whitespace().collect();
    if fields.len() == 6 && fields.iter().all(|field| field.chars().all(known)) {
        return Ok(fields.join(" "));
    }
    Err(Error { name, problem: "is not an NCRONTAB schedule".to_owned(), remedy: SCHEDULE_REMEDY })
}
