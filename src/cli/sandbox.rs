//! `forerunner sandbox`: the whole thing on this machine, every service but forerunner itself played by us.

mod demo;
mod follow;
mod terminal;

use super::stage;
use crate::{
    clock::Clock,
    domain::{
        fleet::{Fleet, Severity},
        spec::ClusterAccess,
    },
    sandbox::{
        azure,
        gitlab::{self, Mischief},
        host,
        kubernetes::{self, Kubernetes},
        wire::Service,
        world::{StartError, World, WorldSettings},
    },
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use terminal::Terminal;

/// Run every service that forerunner needs, simulated on loopback, with forerunner itself in the middle.
#[derive(Clone, Debug, clap::Args)]
pub struct Sandbox {
    /// Create a group, follow it until its runner is online, run a job that signs in to Azure, and end
    #[arg(long)]
    demo: bool,
    /// The policy file to run with, instead of the sandbox's own
    #[arg(long, value_name = "FILE")]
    fleet: Option<PathBuf>,
    /// An app root laid out as the Functions host wants it; without it one is staged from this program
    #[arg(long, value_name = "DIR")]
    app: Option<PathBuf>,
    /// Write, once all is ready, the settings with which forerunner talks to this sandbox, as KEY=value lines
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// Leave a part out, so that another can take its place
    #[arg(long, value_name = "PART")]
    without: Vec<Part>,
    /// Write the whole state as JSON at the end, secrets masked
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// Ids and tokens are made from this number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How long each call to a service takes, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 0)]
    latency: u64,
    /// How many of a hundred hooks of GitLab's are lost on their way; the sweep finds what they announced
    #[arg(long, value_name = "PERCENT", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=100))]
    lose_hooks: u8,
    /// A real cluster in the place of the simulated one, as an administrator; without nodes, the sandbox plays one
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The first of ten ports in a row; free ones otherwise
    #[arg(long)]
    port: Option<u16>,
}

/// What can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Host,
}

/// Why the sandbox ends early: one sentence, and what to do.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{file} is not a valid fleet:\n{problems}")]
    Fleet { file: String, problems: String },
    #[error("{what} cannot be {done}")]
    File { what: String, done: &'static str, source: io::Error },
    #[error("a port could not be had; leave --port out, or choose another")]
    Port { source: io::Error },
    #[error(transparent)]
    Kubeconfig(#[from] kubernetes::Unusable),
    #[error("{0}")]
    Cluster(StartError),
    #[error("the miniature Functions host did not start the handler")]
    Host { source: host::Error },
    #[error("{0}")]
    Demo(String),
    #[error(
        "--kubeconfig changes the fleet's `cluster.resourceId` into a kubeconfig of forerunner's own: write it as plain text"
    )]
    FleetKubeconfig,
    #[error("--demo needs the host: leave --without host out")]
    DemoWithoutHost,
    #[error("--demo shows `platform/payments`, which this fleet does not match: leave --fleet out")]
    DemoFleet,
}

const FLEET: &str = include_str!("../../examples/sandbox.yaml");
const HOST_JSON: &str = include_str!("../../host.json");
const FUNCTIONS: [(&str, &str); 8] = [
    ("approval", include_str!("../../functions/approval/function.json")),
    ("command", include_str!("../../functions/command/function.json")),
    ("dead_letter", include_str!("../../functions/dead_letter/function.json")),
    ("fleet", include_str!("../../functions/fleet/function.json")),
    ("gitlab_hook", include_str!("../../functions/gitlab_hook/function.json")),
    ("health", include_str!("../../functions/health/function.json")),
    ("round", include_str!("../../functions/round/function.json")),
    ("sweep", include_str!("../../functions/sweep/function.json")),
];

/// Runs until the demo is done, or somebody ends it. 0: fine, 1: it failed.
pub async fn run(arguments: Sandbox) -> ExitCode {
    let terminal = Terminal::new();
    match play(&arguments, &terminal).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            terminal.fail(&failure);
            ExitCode::FAILURE
        }
    }
}

async fn play(arguments: &Sandbox, terminal: &Terminal) -> Result<(), Failure> {
    let with_host = !arguments.without.contains(&Part::Host);
    if arguments.demo && !with_host {
        return Err(Failure::DemoWithoutHost);
    }
    let folder = Folder::new()?;
    let (fleet_file, fleet) = lay_fleet(arguments, &folder.0)?;
    let mut world = start_world(arguments, &fleet, &folder.0).await?;
    let mut settings = world.settings(&fleet_file);
    if with_host {
        let app = match &arguments.app {
            Some(app) => app.clone(),
            None => stage_app(&folder.0)?,
        };
        let port = arguments.port;
        let started =
            world.start_host(&app, settings.clone(), host::Worker::Child, |host| host, port).await;
        started.map_err(|source| Failure::Host { source })?;
    }
    // The handler alone may not rely on a shell's settings; a person's commands may.
    settings.insert("FUNCTIONS_CUSTOMHANDLER_PORT".to_owned(), "7071".to_owned());
    if let Some(file) = &arguments.env_file {
        write_settings(file, &settings)?;
    }
    let ended = match arguments.demo {
        true => tokio::select! {
            shown = demo::show(&world, &fleet, terminal) => shown,
            () = interrupted() => Err(Failure::Demo("ended before it was done".to_owned())),
        },
        false => {
            terminal.addresses(&world, with_host);
            let mut seen = world.wire.calls().len();
            follow::follow(&world, terminal, &mut seen, world.run_until(interrupted())).await;
            Ok(())
        }
    };
    if let Some(host) = world.host() {
        host.stop().await;
    }
    if let Some(file) = &arguments.dump {
        let text = format!("{:#}\n", world.dump());
        fs::write(file, text).map_err(|source| Failure::File {
            what: file.display().to_string(),
            done: "written",
            source,
        })?;
    }
    ended
}

/// The fleet's files beside each other in the sandbox's own folder.
fn lay_fleet(arguments: &Sandbox, folder: &Path) -> Result<(PathBuf, Fleet), Failure> {
    let read = |file: &Path| {
        fs::read_to_string(file).map_err(|source| Failure::File {
            what: file.display().to_string(),
            done: "read",
            source,
        })
    };
    let given = arguments.fleet.clone().or_else(|| {
        let beside = arguments.app.as_ref()?.join("fleet.yaml");
        beside.exists().then_some(beside)
    });
    let (name, text, guardrails) = match &given {
        None => ("the sandbox's own fleet".to_owned(), FLEET.to_owned(), None),
        Some(file) => {
            let beside = file.with_file_name("guardrails.yaml");
            let guardrails = beside.exists().then(|| read(&beside)).transpose()?;
            (file.display().to_string(), read(file)?, guardrails)
        }
    };
    let (fleet, _) =
        Fleet::parse(&text, guardrails.as_deref(), Clock::system().now()).map_err(|problems| {
            let errors = problems.iter().filter(|problem| problem.severity == Severity::Error);
            let problems = errors.map(ToString::to_string).collect::<Vec<_>>().join("\n");
            Failure::Fleet { file: name, problems }
        })?;
    let (text, fleet) = match arguments.kubeconfig {
        None => (text, fleet),
        Some(_) => through_kubeconfig(&text, guardrails.as_deref(), folder, fleet)?,
    };
    let file = folder.join("fleet.yaml");
    let write = |file: &Path, text: &str| {
        fs::write(file, text).map_err(|source| Failure::File {
            what: file.display().to_string(),
            done: "written",
            source,
        })
    };
    write(&file, &text)?;
    if let Some(guardrails) = guardrails {
        write(&folder.join("guardrails.yaml"), &guardrails)?;
    }
    Ok((file, fleet))
}

/// The same fleet, but for how forerunner reaches the cluster.
fn through_kubeconfig(
    text: &str,
    guardrails: Option<&str>,
    folder: &Path,
    fleet: Fleet,
) -> Result<(String, Fleet), Failure> {
    let ClusterAccess::Aks(id) = &fleet.settings().cluster.access else {
        return Err(Failure::FleetKubeconfig);
    };
    // The id stands once in the file, as the value of `resourceId`: strict parsing has seen to that.
    let kubeconfig = World::kubeconfig_in(folder);
    let key = text.find("resourceId").ok_or(Failure::FleetKubeconfig)?;
    let (before, rest) = text.split_at(key);
    let length = id.to_string().len();
    let value = rest.find("/subscriptions/").ok_or(Failure::FleetKubeconfig)?;
    let quote = if rest[..value].ends_with(['"', '\'']) { "" } else { "\"" };
    let text = format!(
        "{before}kubeconfig{}{quote}{}{quote}{}",
        &rest["resourceId".len()..value],
        kubeconfig.display(),
        &rest[value + length..]
    );
    match Fleet::parse(&text, guardrails, Clock::system().now()) {
        Ok((fleet, _)) => Ok((text, fleet)),
        Err(_) => Err(Failure::FleetKubeconfig),
    }
}

async fn start_world(arguments: &Sandbox, fleet: &Fleet, folder: &Path) -> Result<World, Failure> {
    let clock = Clock::running();
    let cluster = match &arguments.kubeconfig {
        None => None,
        Some(file) => {
            let own = kubernetes::Settings { seed: arguments.seed, ..Default::default() };
            Some(Kubernetes::real(clock.clone(), own, file).await?)
        }
    };
    let settings = WorldSettings {
        clock,
        azure: azure::Settings { seed: arguments.seed, ..azure::Settings::default() },
        gitlab: gitlab::Settings {
            seed: arguments.seed,
            external_url: fleet.settings().gitlab.url.as_str().trim_end_matches('/').to_owned(),
            ..gitlab::Settings::default()
        },
        folder: folder.to_owned(),
        port: arguments.port,
        cluster,
        confinement: Some(stage::confinement(fleet)),
        az_shim: std::env::current_exe().ok(),
    };
    let world = World::start(&stage::stage(fleet, arguments.seed), settings).await;
    let world = world.map_err(|error| match error {
        StartError::Port(source) => Failure::Port { source },
        StartError::Cluster { .. } => Failure::Cluster(error),
    })?;
    let latency = Duration::from_millis(arguments.latency);
    for service in
        [Service::Gitlab, Service::Arm, Service::KeyVault, Service::ServiceBus, Service::Kubernetes]
    {
        world.wire.set_latency(service, latency);
    }
    world
        .gitlab
        .set_mischief(Mischief { loss_percent: arguments.lose_hooks, ..Mischief::default() });
    Ok(world)
}

/// An app root as the real host wants it, with this very program as its executable.
fn stage_app(folder: &Path) -> Result<PathBuf, Failure> {
    let app = folder.join("app");
    let own = std::env::current_exe().map_err(|source| Failure::File {
        what: "this program's own file".to_owned(),
        done: "found",
        source,
    })?;
    host::stage(&app, HOST_JSON, &FUNCTIONS, &own).map_err(|source| Failure::Host { source })?;
    Ok(app)
}

fn write_settings(file: &Path, settings: &BTreeMap<String, String>) -> Result<(), Failure> {
    let lines: String = settings.iter().map(|(name, value)| format!("{name}={value}\n")).collect();
    // Whole or not at all: whoever waits for the file may read it at once.
    let next = file.with_extension("next");
    fs::write(&next, lines).and_then(|()| fs::rename(&next, file)).map_err(|source| Failure::File {
        what: file.display().to_string(),
        done: "written",
        source,
    })
}

/// Ends when somebody ends the program: Ctrl-C, or SIGTERM.
async fn interrupted() {
    let interrupt = tokio::signal::ctrl_c();
    let terminate = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = interrupt => {}
        () = terminate => {}
    }
}

/// A folder of our own in the system's temporary one, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let folder =
            std::env::temp_dir().join(format!("forerunner-sandbox-{}", std::process::id()));
        let made = fs::create_dir_all(&folder);
        made.map_err(|source| Failure::File {
            what: folder.display().to_string(),
            done: "made",
            source,
        })?;
        Ok(Self(folder))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in the temporary folder is the system's to clean.
        let _ = fs::remove_dir_all(&self.0);
    }
}
