//! A sandbox for one test: every service on loopback, the handler in this process, a clock that only leaps.

use super::descriptions::{self, Watched};
use forerunner::{
    cli::{load, stage},
    clock::Clock,
    config::Settings,
    domain::fleet::Fleet,
    functions::{app::App, engine::Engine, router::router},
    sandbox::{
        azure, gitlab,
        host::{HostSettings, Worker},
        kubernetes::{self, Kubernetes},
        wire::Moment,
        world::{World, WorldSettings},
    },
    telemetry::Telemetry,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tracing::Dispatch;

/// Where every test begins in time. A Tuesday.
pub(crate) const START: &str = "2026-11-24T08:00:00Z";
/// Opens the functions of level `function`. Made up.
pub(crate) const FUNCTION_KEY: &str = "made-up-function-key";
/// What `host.json` and `functions/` hold in this repository: the host reads nothing else.
pub(crate) const FUNCTIONS: [&str; 8] =
    ["approval", "command", "dead_letter", "fleet", "gitlab_hook", "health", "round", "sweep"];

/// What forerunner makes in a cluster, records of its own included.
pub(crate) const KINDS: [&str; 9] = [
    "namespaces",
    "serviceaccounts",
    "rolebindings",
    "resourcequotas",
    "limitranges",
    "networkpolicies",
    "secrets",
    "deployments",
    "configmaps",
];

pub(crate) struct Sandbox {
    pub(crate) world: World,
    pub(crate) folder: PathBuf,
    pub(crate) watched: Watched,
}

/// What services of the world are like.
#[derive(Default)]
struct Parts {
    azure: azure::Settings,
    gitlab: gitlab::Settings,
    heard: Option<Heard>,
}

/// Where the handler's lines, spans and metrics go.
#[derive(Clone)]
pub(crate) struct Heard {
    pub(crate) telemetry: Telemetry,
    pub(crate) dispatch: Dispatch,
}

impl Sandbox {
    /// A world with this fleet's administrators done, and the handler running.
    pub(crate) async fn new(fleet: &str) -> Self {
        Self::with(fleet, azure::Settings::default()).await
    }

    pub(crate) async fn with(fleet: &str, azure: azure::Settings) -> Self {
        Self::with_settings(fleet, azure, &[]).await
    }

    /// The same under a clock that the test has too, and heard by it where it listens.
    pub(crate) async fn at(fleet: &str, clock: Clock, heard: Option<Heard>) -> Self {
        let parts = Parts { heard, ..Parts::default() };
        Self::start_with(fleet, parts, clock, None, false, &[]).await
    }

    /// The same with further app settings.
    pub(crate) async fn with_settings(
        fleet: &str,
        azure: azure::Settings,
        further: &[(&str, &str)],
    ) -> Self {
        let clock = Clock::frozen(START.parse().unwrap());
        Self::start(fleet, azure, clock, None, false, further).await
    }

    /// The same with a GitLab of its own kind, such as an older one.
    pub(crate) async fn with_gitlab(fleet: &str, gitlab: gitlab::Settings) -> Self {
        let clock = Clock::frozen(START.parse().unwrap());
        let parts = Parts { gitlab, ..Parts::default() };
        Self::start_with(fleet, parts, clock, None, false, &[]).await
    }

    /// The same with the real program as the host's child, under a clock that runs.
    pub(crate) async fn with_child(fleet: &str) -> Self {
        Self::with_child_at(fleet, Clock::running()).await
    }

    /// The same under any clock, which the child follows.
    pub(crate) async fn with_child_at(fleet: &str, clock: Clock) -> Self {
        Self::start(fleet, azure::Settings::default(), clock, None, true, &[]).await
    }

    /// The same with further app settings.
    pub(crate) async fn with_child_and(
        fleet: &str,
        clock: Clock,
        further: &[(&str, &str)],
    ) -> Self {
        Self::start(fleet, azure::Settings::default(), clock, None, true, further).await
    }

    /// The same on a real API server, known by an administrator's kubeconfig; the handler is in this process.
    pub(crate) async fn on_cluster(fleet: &str, kubeconfig: &Path) -> Self {
        let clock = Clock::running();
        let real = Kubernetes::real(clock.clone(), kubernetes::Settings::default(), kubeconfig);
        let real = real.await.unwrap();
        Self::start(fleet, azure::Settings::default(), clock, Some(real), false, &[]).await
    }

    async fn start(
        fleet: &str,
        azure: azure::Settings,
        clock: Clock,
        cluster: Option<Kubernetes>,
        child: bool,
        further: &[(&str, &str)],
    ) -> Self {
        let parts = Parts { azure, ..Parts::default() };
        Self::start_with(fleet, parts, clock, cluster, child, further).await
    }

    async fn start_with(
        fleet: &str,
        Parts { azure, gitlab, heard }: Parts,
        clock: Clock,
        cluster: Option<Kubernetes>,
        child: bool,
        further: &[(&str, &str)],
    ) -> Self {
        let start: Timestamp = clock.now();
        let folder = fresh_folder();
        let file = folder.join("fleet.yaml");
        let mut fleet = fleet.to_owned();
        if cluster.is_some() {
            let line = fleet.lines().find(|line| line.contains("resourceId:")).unwrap().to_owned();
            let kubeconfig = World::kubeconfig_in(&folder);
            fleet = fleet.replace(&line, &format!("  kubeconfig: {}", kubeconfig.display()));
        }
        let fleet = fleet.as_str();
        fs::write(&file, fleet).unwrap();
        let (parsed, _) = Fleet::parse(fleet, None, start).unwrap_or_else(|problems| {
            panic!("{}", problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        });
        let settings = WorldSettings {
            clock: clock.clone(),
            azure,
            gitlab,
            folder: folder.clone(),
            port: None,
            cluster,
            confinement: Some(stage::confinement(&parsed)),
            az_shim: Some(env!("CARGO_BIN_EXE_forerunner").into()),
        };
        let mut world = World::start(&stage::stage(&parsed, 1), settings).await.unwrap();
        let watched = descriptions::watch(&world.wire);
        stage_app(&folder, child);
        let mut app_settings = match child {
            true => world.settings(&file),
            false => world.settings_in_process(&file),
        };
        app_settings.extend(further.iter().map(|(name, value)| ((*name).into(), (*value).into())));
        let build = move |given: BTreeMap<String, String>| {
            let Some(Heard { telemetry, dispatch }) = heard.clone() else {
                return handler(given, clock.clone());
            };
            // The handler's thread is its own, and so it listens until it ends.
            std::mem::forget(tracing::dispatcher::set_default(&dispatch));
            handler_with(given, clock.clone(), telemetry)
        };
        let in_process =
            Worker::InProcess(Arc::new(move |given| Box::pin(std::future::ready(build(given)))));
        let with_key = |mut host: HostSettings| {
            host.keys.host = vec![FUNCTION_KEY.into()];
            host
        };
        let worker = if child { Worker::Child } else { in_process };
        world.start_host(&folder.join("app"), app_settings, worker, with_key, None).await.unwrap();
        Self { world, folder, watched }
    }

    /// Leaps until nothing is left to do.
    pub(crate) async fn settle(&self) {
        if let Err(error) = self.world.settle(SignedDuration::from_hours(3)).await {
            panic!("{}\n{error}", self.story());
        }
    }

    /// Lets time pass, with all that comes due in it.
    pub(crate) async fn pass(&self, time: SignedDuration) {
        if let Err(error) = self.world.pass(time).await {
            panic!("{}\n{error}", self.story());
        }
    }

    /// Dies around forerunner's `call`th call, and is started again. A hook whose answer got lost does not come
    /// again: the next sweep finds what it would have told.
    pub(crate) async fn crash_and_settle(&self, call: usize, moment: Moment) {
        self.world.wire.crash_at(call, moment);
        self.settle().await;
        self.sweep().await;
    }

    /// Lets the sweep run now, and everything that it wakes.
    pub(crate) async fn sweep(&self) {
        assert!(self.world.host().is_some_and(|host| host.run_timer_now("sweep")));
        self.settle().await;
    }

    /// What a runner's unit says of itself.
    pub(crate) fn status(&self, unit: &str) -> Value {
        let name = format!("status-{}", unit.replace(['/', '_', '.'], "-"));
        let maps = self.world.kubernetes.list("configmaps", "");
        let found = maps.iter().find(|map| map["metadata"]["name"] == *name);
        let text = found.and_then(|map| map["data"]["record.json"].as_str()).unwrap_or("null");
        serde_json::from_str(text).unwrap()
    }

    /// What sweeps wrote down of the fleet as a whole.
    pub(crate) fn fleet_status(&self) -> Value {
        let found = self.world.kubernetes.get("configmaps", "forerunner-nonprod", "fleet-status");
        let text = found.and_then(|map| map["data"]["record.json"].as_str().map(str::to_owned));
        serde_json::from_str(text.as_deref().unwrap_or("null")).unwrap()
    }

    /// Message and remedy of each finding of this kind.
    pub(crate) fn findings(&self, kind: &str) -> Vec<(String, String)> {
        let status = self.fleet_status();
        let all = status["findings"].as_array().cloned().unwrap_or_default();
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let found = all.iter().filter(|finding| finding["kind"] == kind);
        found.map(|finding| (text(finding, "message"), text(finding, "remedy"))).collect()
    }

    pub(crate) fn condition(&self, unit: &str, kind: &str) -> Value {
        let status = self.status(unit);
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|condition| condition["type"] == kind).unwrap_or(json!(null))
    }

    pub(crate) fn is_ready(&self, unit: &str) -> bool {
        self.condition(unit, "Ready")["status"] == true
    }

    /// Everything that there is outside, without times, ids and versions that a second run has otherwise.
    pub(crate) fn inventory(&self) -> Value {
        let runners = self.world.gitlab.runners();
        let runners =
            runners.iter().map(|runner| format!("{} paused={}", runner.description, runner.paused));
        let identities = self.world.azure.identities();
        let credentials =
            identities.iter().flat_map(|identity| self.world.azure.credentials(&identity.id));
        let assignments = self.world.azure.assignments();
        let objects = KINDS.into_iter().flat_map(|plural| {
            let found = self.world.kubernetes.list(plural, "").into_iter();
            // What a sweep on the way could not see is history.
            let found = found.filter(|object| object["metadata"]["name"] != "fleet-status");
            found.map(move |object| {
                let metadata = &object["metadata"];
                format!(
                    "{plural} {}/{}",
                    metadata["namespace"].as_str().unwrap_or(""),
                    metadata["name"].as_str().unwrap_or("")
                )
            })
        });
        json!({
            "runners": sorted(runners),
            "identities": sorted(identities.iter().map(|identity| identity.id.clone())),
            "credentials": sorted(credentials.map(|one| format!("{} {:?}", one.name, one.subject))),
            "assignments": sorted(assignments.iter().map(|one| format!("{} {}", one.role, one.scope))),
            "objects": sorted(objects),
        })
    }

    /// forerunner's own calls so far, as `SERVICE METHOD PATH`.
    pub(crate) fn own_calls(&self) -> Vec<String> {
        let calls = self.world.wire.calls();
        let own = calls.iter().filter(|call| call.is_ours());
        own.map(|call| format!("{:?} {} {}", call.service, call.method, call.path)).collect()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn sorted(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines
}

/// The handler's router, from app settings as the host gives them.
pub(crate) fn handler(given: BTreeMap<String, String>, clock: Clock) -> axum::Router {
    handler_with(given, clock, Telemetry::off())
}

fn handler_with(
    given: BTreeMap<String, String>,
    clock: Clock,
    telemetry: Telemetry,
) -> axum::Router {
    let settings = Settings::read(|name| given.get(name).cloned()).unwrap();
    let loaded = load::load(&settings, clock.clone()).unwrap_or_else(|error| panic!("{error}"));
    let queue = Arc::new(loaded.service_bus);
    let work = Arc::new(Engine::new(loaded.rounds));
    router(Arc::new(App::new(settings, clock, queue, work, telemetry)))
}

/// Lays out an app root as the real host wants it. Where nothing is run, any file will do as executable.
pub(crate) fn stage_app(folder: &Path, runs: bool) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: PathBuf| {
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let functions =
        FUNCTIONS.map(|name| (name, read(root.join("functions").join(name).join("function.json"))));
    let functions: Vec<(&str, &str)> =
        functions.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let executable = match runs {
        true => PathBuf::from(env!("CARGO_BIN_EXE_forerunner")),
        false => {
            let empty = folder.join("forerunner");
            fs::write(&empty, "").unwrap();
            empty
        }
    };
    let host_json = read(root.join("host.json"));
    forerunner::sandbox::host::stage(&folder.join("app"), &host_json, &functions, &executable)
        .unwrap();
}

fn fresh_folder() -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let folder =
        std::env::temp_dir().join(format!("forerunner-test-{}-{number}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Two profiles below one anchor: one reads, one writes.
pub(crate) const FLEET: &str = r#"
version: 1
fleet: nonprod
gitlab: { url: https://gitlab.example.com, token: { keyVault: kv-fleet, secret: gitlab-token } }
azure: { subscription: 00000000-0000-4000-8000-00000000f00d, resourceGroup: rg-runner-identities, location: westeurope }
cluster:
  resourceId: /subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-aks/providers/Microsoft.ContainerService/managedClusters/aks
  images: { runner: 19.4.0 }
anchors: { platform: 42 }
groups:
  platform/payments: { values: { subscription: 00000000-0000-4000-8000-000000002222 } }
rules:
  - { match: { groups: "platform/*" }, profiles: [plan] }
profiles:
  plan:
    runner: { tags: [azure-plan] }
    identity: { managed: { roles: [{ role: Reader, scope: "/subscriptions/{subscription}/resourceGroups/app" }] } }
guardrails:
  roles: [Reader, Contributor]
  scopes: [/subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/app]
  never: [/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-forerunner]
  runners: 500
  creations: { perHour: 50 }
"#;
