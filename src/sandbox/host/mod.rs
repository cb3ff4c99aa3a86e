//! A miniature Azure Functions host: starts the handler from an app root as Azure would, delivers queue messages,
//! timers and HTTP calls to it, and judges its answers (functions-host.md, its §10 above all).

mod app_root;
mod call;
mod child;
mod delivery;
mod error;
mod forward;
mod function_json;
mod host_json;
mod http_front;
mod in_process;
mod invoke;
mod leak;
mod lenient;
mod listener;
mod logs;
mod message_data;
mod outputs;
mod port;
mod probe;
mod pump;
mod routes;
mod schedule;
mod settings;
mod time_span;
mod timers;
mod values;
mod verdict;
mod worker;
mod wrapped_http;

pub use app_root::stage;
pub use error::Error;
pub use function_json::{Function, Level as AuthLevel, Trigger};
pub use http_front::Keys;
pub use invoke::InvocationRecord;
pub use logs::{Echo, Level as LogLevel, LogLine};
pub use port::Reserved;
pub use settings::{HostSettings, HttpMode};
pub use timers::TimerStore;
pub use verdict::Verdict;
pub use worker::{Build, Worker};

use crate::{clock::Clock, sandbox::service_bus::ServiceBus};
use app_root::AppRoot;
use delivery::Hung;
use listener::Listener;
use logs::{Level, Logs};
use rand::{Rng, SeedableRng, rngs::StdRng};
use routes::Route;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use timers::Timer;
use tokio::sync::watch;
use uuid::Uuid;
use worker::Group;

/// The log category of the host itself.
const GENERAL: &str = "Host.General";
/// A running host; a clone is the same host. The handler is killed when the last one is dropped.
#[derive(Clone)]
pub struct Host(Arc<Inner>);

struct Inner {
    root: AppRoot,
    app_settings: BTreeMap<String, String>,
    worker: Worker,
    http_mode: HttpMode,
    keys: Keys,
    clock: Clock,
    bus: ServiceBus,
    chunked: bool,
    traceparent: bool,
    version: String,
    /// `NAMESPACE-GUID`, how the Service Bus client calls itself.
    bus_client: String,
    logs: Logs,
    routes: Vec<Route>,
    groups: Vec<Arc<Group>>,
    state: Mutex<State>,
    /// Counts up whenever an invocation ends or a process starts.
    changes: watch::Sender<u64>,
}

struct State {
    random: StdRng,
    records: Vec<InvocationRecord>,
    /// Invocations that `act` waits for.
    in_flight: usize,
    listeners: Vec<Listener>,
    timers: Vec<Timer>,
    hung: Vec<Hung>,
    /// Nothing is given back any more: locks run out instead.
    unplugged: bool,
}

impl Host {
    /// Reads the app root, starts the handler and waits until it answers. A handler that ends before is an
    /// error at once; the real host would try three times.
    pub async fn start(settings: HostSettings) -> Result<Self, Error> {
        let root = std::path::absolute(&settings.app_root)
            .map_err(|source| Error::Unreadable { path: settings.app_root.clone(), source })?;
        let root = app_root::read(&root, &settings.app_settings, &settings.service_bus)?;
        let mut random = StdRng::seed_from_u64(settings.seed);
        let group = |function: &Function| match &function.trigger {
            _ if !settings.scale_groups => None,
            Trigger::Http { .. } => Some("http".to_owned()),
            Trigger::ServiceBus { .. } | Trigger::Timer { .. } => {
                Some(format!("function:{}", function.name))
            }
        };
        let mut groups: Vec<Arc<Group>> = Vec::new();
        for name in root.functions.iter().map(group) {
            if !groups.iter().any(|group| group.name == name) {
                groups.push(Arc::new(Group::new(name)));
            }
        }
        let client = guid(&mut random);
        let state = State {
            listeners: root.functions.iter().filter_map(Listener::new).collect(),
            timers: timers::load(&root.functions, &settings.timers, settings.clock.now())?,
            random,
            records: Vec::new(),
            in_flight: 0,
            hung: Vec::new(),
            unplugged: false,
        };
        let inner = Arc::new(Inner {
            http_mode: settings.http_mode.unwrap_or(root.host.http_mode),
            routes: routes::of(&root.functions, &root.host.route_prefix),
            root,
            app_settings: settings.app_settings,
            worker: settings.worker,
            keys: settings.keys,
            logs: Logs::new(settings.clock.clone(), settings.echo),
            clock: settings.clock,
            bus_client: format!("{}-{client}", settings.service_bus.namespace()),
            bus: settings.service_bus,
            chunked: settings.chunked,
            traceparent: settings.traceparent,
            version: settings.version,
            groups,
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
        });
        for group in &inner.groups {
            worker::start(&inner, group).await?;
        }
        Ok(Self(inner))
    }

    /// Kills the handler in the middle of whatever it does: its invocations fail and their messages are given
    /// back. Nothing is delivered until [`Host::restart`].
    pub fn kill(&self) {
        self.0.groups.iter().for_each(|group| group.kill());
        self.0.fail_hung(|_| true);
    }

    /// Kills the handler if it runs and starts it anew. Where this future is dropped the start goes on.
    pub async fn restart(&self) -> Result<(), Error> {
        self.kill();
        let inner = Arc::clone(&self.0);
        let started = tokio::spawn(async move {
            inner.landed().await;
            for group in &inner.groups {
                worker::start(&inner, group).await?;
            }
            Ok(())
        });
        // Only a runtime that ends cuts it off.
        started.await.unwrap_or(Err(Error::Stopped))
    }

    /// Ends the host: it takes no message any more, kills the handler, gives back what was in work and lets go of
    /// its sessions.
    pub async fn stop(&self) {
        self.0.stop_groups().await;
        self.0.landed().await;
        self.0.release_sessions();
    }

    /// Ends host and handler as a power cut does: locks stay until they run out, and then each message that was
    /// in work is delivered again.
    pub async fn pull_plug(&self) {
        self.0.state().unplugged = true;
        self.stop().await;
    }

    /// Every invocation that has ended or hangs, in that order.
    pub fn invocations(&self) -> Vec<InvocationRecord> {
        self.0.state().records.clone()
    }

    /// The last lines of the log: of the handler's stdout and stderr, of invocations and of the host.
    pub fn logs(&self) -> Vec<LogLine> {
        self.0.logs.lines()
    }

    /// The functions that were found and are not disabled, by name.
    pub fn functions(&self) -> Vec<Function> {
        self.0.root.functions.clone()
    }

    /// Lets a timer run at the next [`act`](crate::sandbox::actor::Actor::act), as a person does from the
    /// portal; the run is work, so that a settling world waits for it. False where there is no such timer.
    pub fn run_timer_now(&self, function: &str) -> bool {
        self.0.with_timer(function, |timer| timer.forced = true)
    }

    /// Makes a timer's next occurrence work instead of background.
    pub fn await_timer(&self, function: &str) -> bool {
        self.0.with_timer(function, |timer| timer.awaited = true)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn guid(&self) -> Uuid {
        guid(&mut self.state().random)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// The process that serves a function.
    fn group(&self, function: &Function) -> &Arc<Group> {
        let name = match &function.trigger {
            Trigger::Http { .. } => "http".to_owned(),
            Trigger::ServiceBus { .. } | Trigger::Timer { .. } => {
                format!("function:{}", function.name)
            }
        };
        let mut groups = self.groups.iter();
        let found = groups.find(|group| group.name.as_ref().is_none_or(|known| *known == name));
        found.expect("a group was made for every function when the host started")
    }

    fn function(&self, name: &str) -> &Function {
        let mut functions = self.root.functions.iter();
        let found = functions.find(|function| function.name == name);
        found.expect("listeners and timers were made from these functions")
    }

    async fn stop_groups(&self) {
        self.groups.iter().for_each(|group| group.stop());
        self.fail_hung(|_| true);
        for group in &self.groups {
            group.ended().await;
        }
        self.changed();
    }

    /// Waits until no invocation that `act` started is under way.
    async fn landed(&self) {
        let mut changes = self.changes.subscribe();
        while self.state().in_flight > 0 {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn with_timer(&self, function: &str, change: impl FnOnce(&mut Timer)) -> bool {
        let mut state = self.state();
        let timer = state.timers.iter_mut().find(|timer| timer.function == function);
        timer.map(change).is_some()
    }

    fn say(&self, level: Level, function: &str, text: impl Into<String>) {
        self.logs.say(level, &format!("Function.{function}"), text);
    }
}

/// A random id of version 4 that the same seed gives again.
fn guid(random: &mut StdRng) -> Uuid {
    uuid::Builder::from_random_bytes(random.random()).into_uuid()
}
