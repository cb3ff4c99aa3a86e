//! All services of one sandbox, put together and let run.

use super::{
    actor::{self, Actor},
    azure::{self, Azure},
    gitlab::{self, Gitlab},
    host::{Host, HostSettings, Worker},
    kubernetes::{self, Confinement, Kubernetes, Refusal, User},
    managers::{Managers, ManagersSettings, Place},
    service_bus::{QueueSettings, ServiceBus},
    stage::{API_SERVER, CLIENT_ID, Stage},
    wire::{Server, Service, Wire},
};
use crate::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// What an API server of AKS wants its callers' tokens to be for.
const AUDIENCE_AKS: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";
const AUDIENCE_SERVICE_BUS: &str = "https://servicebus.azure.net";
const NAMESPACE: &str = "sb-sandbox.servicebus.windows.net";
/// The token that the sandbox's GitLab sends with its hooks. Made up, and good for this sandbox alone.
pub const HOOK_TOKEN: &str = "made-up-hook-token-of-the-sandbox";

/// Opens the functions of level `function`. Made up, like the hook's.
pub const FUNCTION_KEY: &str = "made-up-function-key";

const KUBECONFIG: &str = "kubeconfig";

/// How long duplicate detection remembers.
const DUPLICATES: SignedDuration = SignedDuration::from_mins(10);

/// How a sandbox is started.
pub struct WorldSettings {
    pub clock: Clock,
    pub azure: azure::Settings,
    pub gitlab: gitlab::Settings,
    /// Where files may be put; made if missing.
    pub folder: PathBuf,
    /// The first of the ports; any free ones otherwise.
    pub port: Option<u16>,
    /// A real cluster in the place of the sandbox's own; see [`Kubernetes::real`].
    pub cluster: Option<Kubernetes>,
    /// What confines forerunner in the cluster, as its admission policy would.
    pub confinement: Option<Confinement>,
    /// The program that plays `az` in jobs: forerunner itself.
    pub az_shim: Option<PathBuf>,
}

/// A running sandbox; its servers end when it is dropped.
pub struct World {
    pub clock: Clock,
    pub wire: Wire,
    pub gitlab: Gitlab,
    pub azure: Azure,
    pub kubernetes: Kubernetes,
    pub service_bus: ServiceBus,
    pub managers: Managers,
    host: Option<Host>,
    extra: Vec<Box<dyn Actor>>,
    servers: BTreeMap<&'static str, Server>,
    folder: PathBuf,
    gitlab_host: String,
    user: String,
    /// Whether another process was told where to read the clock.
    followed: AtomicBool,
}

/// Why a world did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("a port could not be had")]
    Port(#[from] io::Error),
    #[error("the cluster refuses what an administrator applies to it: {message}")]
    Cluster { message: String },
}

impl From<Refusal> for StartError {
    fn from(refusal: Refusal) -> Self {
        Self::Cluster { message: refusal.message }
    }
}

/// Why a world cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Unsettled {
    #[error("there was still work to do after {0:#} of the sandbox's time")]
    TooLong(SignedDuration),
    #[error("the handler did not come back: {0}")]
    Handler(super::host::Error),
}

impl World {
    /// Starts every service, with what the stage says in it. No host yet: see [`World::start_host`].
    pub async fn start(stage: &Stage, settings: WorldSettings) -> Result<Self, StartError> {
        std::fs::create_dir_all(&settings.folder)?;
        let clock = settings.clock;
        let wire = Wire::new(clock.clone());
        let gitlab = Gitlab::new(clock.clone(), settings.gitlab);
        let azure = Azure::new(clock.clone(), settings.azure);
        let is_real = settings.cluster.is_some();
        let kubernetes = match settings.cluster {
            Some(kubernetes) => kubernetes,
            None => {
                let own = kubernetes::Settings { seed: stage.seed, ..Default::default() };
                Kubernetes::new(clock.clone(), own)
            }
        };
        kubernetes.belong_to(azure.tenant_id().to_string());
        let service_bus = ServiceBus::new(clock.clone(), NAMESPACE, stage.seed);
        let queue =
            QueueSettings { duplicate_detection: Some(DUPLICATES), ..QueueSettings::default() };
        service_bus
            .create_queue("rounds", QueueSettings { requires_session: true, ..queue.clone() });
        service_bus.create_queue("commands", queue.clone());
        service_bus.create_queue("approvals", queue);
        let routers = [
            ("gitlab", Service::Gitlab, gitlab.router()),
            ("identity", Service::Identity, azure.identity_router()),
            ("entra", Service::Entra, azure.entra_router()),
            ("arm", Service::Arm, azure.arm_router()),
            ("key-vault", Service::KeyVault, azure.key_vault_router()),
            ("service-bus", Service::ServiceBus, service_bus.router()),
            ("kubernetes", Service::Kubernetes, kubernetes.router()),
        ];
        let mut servers = BTreeMap::new();
        for (at, (name, service, router)) in (1..).zip(routers) {
            let port = settings.port.map(|first| first + at);
            servers.insert(name, wire.serve(service, port, router).await?);
        }
        let address = |name: &str| servers.get(name).map(|server: &Server| server.address);
        let [Some(kubernetes_api), Some(gitlab_at), Some(entra), Some(arm)] =
            ["kubernetes", "gitlab", "entra", "arm"].map(address)
        else {
            return Err(io::Error::other("a service has no address").into());
        };
        let managers = Managers::new(ManagersSettings {
            clock: clock.clone(),
            place: Place::Cluster { kubernetes: kubernetes.clone(), api: kubernetes_api },
            gitlab: gitlab_at,
            gitlab_host: host_of(&stage.gitlab_url),
            entra,
            arm,
            az_shim: settings.az_shim,
            seed: stage.seed,
        });
        let mut world = Self {
            managers,
            user: String::new(),
            followed: AtomicBool::new(false),
            gitlab_host: host_of(&stage.gitlab_url),
            host: None,
            extra: Vec::new(),
            servers,
            folder: settings.folder,
            clock,
            wire,
            gitlab,
            azure,
            kubernetes,
            service_bus,
        };
        world.introduce();
        world.user = stage.set(&world.gitlab, &world.azure, &world.kubernetes).to_string();
        if is_real {
            let fleet = settings.confinement.as_ref().map_or("forerunner", |one| &one.fleet);
            let (user, token) = world.kubernetes.make_account(fleet).await?;
            let kubeconfig = kubernetes::kubeconfig(&format!("https://{API_SERVER}"), &token);
            std::fs::write(world.folder.join(KUBECONFIG), kubeconfig)?;
            world.user = user;
        }
        for object in (stage.objects)(&world.user) {
            world.kubernetes.administer(&object).await?;
        }
        world.kubernetes.await_policy(&world.user).await?;
        if let Some(confinement) = settings.confinement {
            world.kubernetes.confine(Confinement { user: world.user.clone(), ..confinement });
        }
        world.publish_clock()?;
        Ok(world)
    }

    /// Where forerunner's kubeconfig for a real cluster is, for a world in this folder.
    pub fn kubeconfig_in(folder: &Path) -> PathBuf {
        folder.join(KUBECONFIG)
    }

    /// Lets the services know each other, as trust between real ones is set up.
    fn introduce(&self) {
        self.azure.trust_issuer(&self.kubernetes.issuer(), self.servers["kubernetes"].address);
        let azure = self.azure.clone();
        self.kubernetes.accept_tokens(Arc::new(move |token| {
            let caller = azure.authenticate(token, AUDIENCE_AKS)?;
            Some(User { name: caller.principal_id.to_string(), groups: vec![] })
        }));
        let azure = self.azure.clone();
        let accept = move |token: &str| azure.authenticate(token, AUDIENCE_SERVICE_BUS).is_some();
        self.service_bus.accept_tokens(Arc::new(accept));
    }

    /// Lets the cluster's tokens come from another issuer, which Azure and Entra learn of, as after a rebuild.
    pub fn change_issuer(&self, issuer: &str) {
        self.kubernetes.issue_as(issuer);
        self.azure.trust_issuer(issuer, self.servers["kubernetes"].address);
        self.azure.show_issuer(issuer);
    }

    /// The name under which the API server knows forerunner: its identity's principal.
    pub fn forerunner_user(&self) -> &str {
        &self.user
    }

    /// The settings with which forerunner talks to this sandbox, as a process of its own that follows the clock.
    pub fn settings(&self, fleet: &Path) -> BTreeMap<String, String> {
        self.followed.store(true, Ordering::SeqCst);
        // As in a leap: what cannot be written shows soon enough elsewhere.
        let _ = self.publish_clock();
        let mut settings = self.settings_in_process(fleet);
        settings.insert("FORERUNNER_CLOCK".to_owned(), self.clock_file().display().to_string());
        settings
    }

    /// The same for a handler that shares the clock itself: without followers a leap writes nothing.
    pub fn settings_in_process(&self, fleet: &Path) -> BTreeMap<String, String> {
        let port = |name: &str| self.servers[name].address.port();
        let loopback = [
            (self.gitlab_host.as_str(), "gitlab"),
            ("management.azure.com", "arm"),
            ("login.microsoftonline.com", "entra"),
            ("*.vault.azure.net", "key-vault"),
            ("*.servicebus.windows.net", "service-bus"),
            (API_SERVER, "kubernetes"),
        ];
        let loopback = loopback.map(|(host, name)| format!("{host}={}", port(name))).join(",");
        let endpoint = format!("http://127.0.0.1:{}/msi/token", port("identity"));
        [
            ("FORERUNNER_FLEET", fleet.display().to_string()),
            ("FORERUNNER_LOOPBACK", loopback),
            ("GITLAB_HOOK_TOKENS", HOOK_TOKEN.to_owned()),
            ("ServiceBus__fullyQualifiedNamespace", NAMESPACE.to_owned()),
            ("SweepSchedule", "0 */10 * * * *".to_owned()),
            ("RotateSchedule", "0 0 * * * *".to_owned()),
            ("AZURE_CLIENT_ID", CLIENT_ID.to_string()),
            ("IDENTITY_ENDPOINT", endpoint),
            ("IDENTITY_HEADER", self.azure.identity_header()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Where a service listens: `gitlab`, `arm`, `kubernetes` and so on.
    pub fn address(&self, service: &str) -> Option<std::net::SocketAddr> {
        self.servers.get(service).map(|server| server.address)
    }

    pub fn addresses(&self) -> impl Iterator<Item = (&str, std::net::SocketAddr)> {
        self.servers.iter().map(|(name, server)| (*name, server.address))
    }

    /// Starts the miniature Functions host over an app root, and lets GitLab send its hooks there.
    pub async fn start_host(
        &mut self,
        app_root: &Path,
        settings: BTreeMap<String, String>,
        worker: Worker,
        adjust: impl FnOnce(HostSettings) -> HostSettings,
        port: Option<u16>,
    ) -> Result<(), super::host::Error> {
        let mut host = HostSettings::new(
            app_root.to_owned(),
            worker,
            self.clock.clone(),
            self.service_bus.clone(),
        );
        host.app_settings = settings;
        host.keys.host = vec![FUNCTION_KEY.to_owned().into()];
        let host = Host::start(adjust(host)).await?;
        let front = self.wire.serve(Service::Host, port, host.front_router()).await;
        let front = front.map_err(|source| super::host::Error::Unreadable {
            path: app_root.to_owned(),
            source,
        })?;
        let url = format!("http://{}/api/gitlab_hook", front.address);
        self.gitlab.add_system_hook(&url, Some(HOOK_TOKEN), None);
        self.servers.insert("host", front);
        self.host = Some(host);
        Ok(())
    }

    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// Adds something that acts by itself, such as the runner managers.
    pub fn add_actor(&mut self, actor: Box<dyn Actor>) {
        self.extra.push(actor);
    }

    fn actors(&self) -> Vec<Box<dyn Actor>> {
        let mut actors: Vec<Box<dyn Actor>> = vec![
            Box::new(self.gitlab.clone()),
            Box::new(self.kubernetes.clone()),
            Box::new(self.managers.clone()),
        ];
        if let Some(host) = &self.host {
            actors.push(Box::new(host.clone()));
        }
        actors
    }

    /// Lets everything that is due happen, and answers when something is due next: anything, and work.
    async fn exhaust(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let actors = self.actors();
        loop {
            actor::exhaust(&actors, &self.clock).await;
            actor::exhaust(&self.extra, &self.clock).await;
            let (mut due, mut work) = actor::next(&actors);
            let (due_more, work_more) = actor::next(&self.extra);
            due = due.into_iter().chain(due_more).min();
            work = work.into_iter().chain(work_more).min();
            let now = self.clock.now();
            if due.is_none_or(|at| at > now) {
                return (due, work);
            }
        }
    }

    /// Leaps from one due time to the next until no work is left, or `within` has passed on the sandbox's clock.
    ///
    /// A handler that dies around a call ([`Wire::crash_at`]) is started again.
    pub async fn settle(&self, within: SignedDuration) -> Result<(), Unsettled> {
        let end = self.clock.now().saturating_add(within).unwrap_or(Timestamp::MAX);
        loop {
            let (due, work) = tokio::select! {
                biased;
                () = self.wire.crashed() => {
                    self.revive().await?;
                    continue;
                }
                next = self.exhaust() => next,
            };
            let (Some(due), Some(_)) = (due, work) else { return Ok(()) };
            if due > end {
                return Err(Unsettled::TooLong(within));
            }
            self.leap(due);
        }
    }

    async fn revive(&self) -> Result<(), Unsettled> {
        let Some(host) = &self.host else { return Ok(()) };
        host.kill();
        host.restart().await.map_err(Unsettled::Handler)
    }

    /// Lets `time` pass, acting on all that comes due. A handler that dies around a call is started again.
    pub async fn pass(&self, time: SignedDuration) -> Result<(), Unsettled> {
        let end = self.clock.now().saturating_add(time).unwrap_or(Timestamp::MAX);
        loop {
            let (due, _) = tokio::select! {
                biased;
                () = self.wire.crashed() => {
                    self.revive().await?;
                    continue;
                }
                next = self.exhaust() => next,
            };
            match due.filter(|due| *due <= end) {
                Some(due) => self.leap(due),
                None => {
                    self.leap(end);
                    return Ok(());
                }
            }
        }
    }

    /// Acts on what is due at the system's pace until the future ends.
    pub async fn run_until(&self, end: impl Future<Output = ()>) {
        let running = async {
            loop {
                let (due, _) = self.exhaust().await;
                let wait = due.map(|due| due.duration_since(self.clock.now()));
                let wait = wait.unwrap_or(IDLE).clamp(SignedDuration::ZERO, IDLE);
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a sandbox at the system's pace waits as the world does"
                )]
                tokio::time::sleep(wait.unsigned_abs()).await;
            }
        };
        tokio::select! {
            () = end => {}
            () = running => {}
        }
    }

    fn leap(&self, to: Timestamp) {
        self.clock.turn_to(to);
        if !self.followed.load(Ordering::SeqCst) {
            return;
        }
        // A follower that misses one leap reads the next; a full disk shows soon enough elsewhere.
        let _ = self.publish_clock();
    }

    fn clock_file(&self) -> PathBuf {
        self.folder.join("clock")
    }

    fn publish_clock(&self) -> io::Result<()> {
        self.clock.publish(&self.clock_file())
    }

    /// The whole state, secrets masked.
    pub fn dump(&self) -> Value {
        json!({
            "now": self.clock.now().to_string(),
            "gitlab": self.gitlab.dump(),
            "azure": self.azure.dump(),
            "kubernetes": self.kubernetes.dump(),
            "managers": self.managers.dump(),
            "serviceBus": self.service_bus.dump(),
            "calls": self.wire.calls(),
        })
    }
}

/// How often a sandbox at the system's pace looks around where nothing is due.
const IDLE: SignedDuration = SignedDuration::from_millis(100);

fn host_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', ':']).next().unwrap_or_default().to_owned()
}
