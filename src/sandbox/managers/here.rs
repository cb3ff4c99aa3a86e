//! A `gitlab-runner run` that really is the process of a pod: it reads the pod's disk, hears its signals and answers
//! its probes. What it lacks of the real one: scripts of jobs run beside it, not in the job's pod.

use super::{Managers, ManagersSettings, Place, config_file::Config};
use crate::{
    clock::Clock,
    sandbox::{
        actor::Actor,
        kubernetes::{ManagerPod, MountedSecret},
    },
};
use axum::{Router, routing::get};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// What every pod's service account has on the pod's disk.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const PAUSE: Duration = Duration::from_millis(100);

/// This process and its pod.
pub struct Here {
    config: PathBuf,
    namespace: String,
    name: String,
    version: String,
    started_at: Timestamp,
    /// With the API server's certificate.
    pub(super) client: reqwest::Client,
    pub(super) server: String,
    is_draining: AtomicBool,
    has_exited: AtomicBool,
}

/// What a process is told when it starts.
#[derive(Clone, Debug)]
pub struct Told {
    /// `--config`.
    pub config: PathBuf,
    /// Of gitlab-runner.
    pub version: String,
    /// The host in `url` that leads to `gitlab`; any other leads nowhere.
    pub gitlab_host: String,
    pub gitlab: SocketAddr,
    /// `https://HOST:PORT`, as the variables of the pod name the API server.
    pub api_server: String,
}

/// Why a process did not start, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{file} cannot be read; is this a pod?")]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{what} cannot be had")]
    Unavailable { what: String, source: io::Error },
    #[error("the API server's certificate cannot be used")]
    Certificate(#[from] reqwest::Error),
    #[error("ended by a signal")]
    Aborted,
}

/// Runs until it is told to stop and has no job left; `say` gets each line of its log.
///
/// `SIGQUIT` lets it finish its jobs. `SIGTERM` and `SIGINT` end it at once: [`Error::Aborted`].
pub async fn run(told: Told, mut say: impl FnMut(&str)) -> Result<(), Error> {
    let signal = |kind| {
        let unavailable =
            |source| Error::Unavailable { what: "the signals of this process".to_owned(), source };
        signal(kind).map_err(unavailable)
    };
    let mut quit = signal(SignalKind::quit())?;
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let clock = Clock::system();
    let here = Arc::new(Here::new(&told, clock.now())?);
    let _probes = here.serve_probes().await?;
    // Whoever is played for jobs is played at the same place.
    let managers = Managers::new(ManagersSettings {
        clock: clock.clone(),
        place: Place::Here(here.clone()),
        gitlab: told.gitlab,
        gitlab_host: told.gitlab_host,
        entra: told.gitlab,
        arm: told.gitlab,
        az_shim: None,
        seed: 0,
    });
    let mut said = Vec::new();
    while !here.has_exited.load(Ordering::Relaxed) {
        while managers.act(clock.now()).await {}
        for process in managers.processes() {
            // The log keeps its last lines only.
            let new = (0..=said.len()).find(|from| process.log.starts_with(&said[*from..]));
            let known = said.len() - new.unwrap_or(said.len());
            process.log[known..].iter().for_each(|line| say(line));
            said = process.log;
        }
        tokio::select! {
            _ = quit.recv() => {
                say("SIGQUIT: no new jobs, and the end once there is none in hand");
                here.is_draining.store(true, Ordering::Relaxed);
            }
            _ = terminate.recv() => {
                say("SIGTERM: aborted");
                return Err(Error::Aborted);
            }
            _ = interrupt.recv() => return Err(Error::Aborted),
            () = pause() => {}
        }
    }
    Ok(())
}

async fn pause() {
    #[expect(clippy::disallowed_methods, reason = "a process in a real pod waits in real time")]
    tokio::time::sleep(PAUSE).await;
}

impl Here {
    fn new(told: &Told, started_at: Timestamp) -> Result<Self, Error> {
        let read = |file: PathBuf| {
            fs::read_to_string(&file).map_err(|source| Error::Unreadable { file, source })
        };
        let authority = read(Path::new(ACCOUNT).join("ca.crt"))?;
        // Whoever was first has chosen the same: the package has one TLS provider.
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let roots = reqwest::Certificate::from_pem_bundle(authority.as_bytes())?;
        Ok(Self {
            config: told.config.clone(),
            namespace: read(Path::new(ACCOUNT).join("namespace"))?,
            name: read("/etc/hostname".into())?.trim().to_owned(),
            version: told.version.clone(),
            started_at,
            client: reqwest::Client::builder().no_proxy().tls_certs_only(roots).build()?,
            server: told.api_server.clone(),
            is_draining: AtomicBool::new(false),
            has_exited: AtomicBool::new(false),
        })
    }

    /// As the kubelet sees it, as far as a process can tell; nothing once this one is at its end.
    pub(super) fn pod(&self) -> Option<ManagerPod> {
        if self.has_exited.load(Ordering::Relaxed) {
            return None;
        }
        let is_draining = self.is_draining.load(Ordering::Relaxed);
        Some(ManagerPod {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            uid: self.name.clone(),
            deployment: String::new(),
            deployment_labels: BTreeMap::new(),
            service_account: String::new(),
            secret_name: None,
            image: format!("gitlab-runner:alpine-v{}", self.version),
            args: Vec::new(),
            started_at: self.started_at,
            terminating: is_draining.then_some(Timestamp::MAX),
        })
    }

    pub(super) fn exit(&self) {
        self.has_exited.store(true, Ordering::Relaxed);
    }

    /// The account's token as it is now; the kubelet renews it.
    pub(super) fn token(&self) -> Option<String> {
        fs::read_to_string(Path::new(ACCOUNT).join("token")).ok()
    }

    /// The directory of the file. Its version is the file's time: nothing else says that it is another.
    pub(super) fn secret(&self) -> Option<MountedSecret> {
        let directory = self.config.parent()?;
        let mut data = BTreeMap::new();
        for name in [self.file_name(), ".runner_system_id".to_owned()] {
            if let Ok(bytes) = fs::read(directory.join(&name)) {
                data.insert(name, bytes);
            }
        }
        let modified = fs::metadata(&self.config).ok()?.modified().ok()?;
        let age = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        Some(MountedSecret {
            resource_version: age.as_nanos().to_string(),
            data,
            visible_since: self.started_at,
        })
    }

    pub(super) fn file_name(&self) -> String {
        let name = self.config.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// What `listen_address` opens: metrics, and whether it is there at all.
    async fn serve_probes(&self) -> Result<Option<Probes>, Error> {
        let text = fs::read_to_string(&self.config).unwrap_or_default();
        let address = Config::parse(&text).map(|config| config.listen_address).unwrap_or_default();
        if address.is_empty() {
            return Ok(None);
        }
        let bare = if address.starts_with(':') { format!("0.0.0.0{address}") } else { address };
        let listener = TcpListener::bind(&bare).await;
        let listener =
            listener.map_err(|source| Error::Unavailable { what: bare.clone(), source })?;
        let router = Router::new()
            .route("/metrics", get(async || "# none\n"))
            .route("/health/ready", get(async || "OK"));
        let task = tokio::spawn(async move {
            // It ends with the process.
            let _ended = axum::serve(listener, router).await;
        });
        Ok(Some(Probes(task)))
    }
}

/// Ends when this is dropped.
struct Probes(tokio::task::JoinHandle<()>);

impl Drop for Probes {
    fn drop(&mut self) {
        self.0.abort();
    }
}
