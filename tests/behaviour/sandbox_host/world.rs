//! A host over a scripted handler: what the handler saw, and what it is to answer next.

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, StatusCode},
    response::Response,
};
use forerunner::{
    clock::Clock,
    sandbox::{
        actor::{Actor, exhaust},
        host::{Build, Error, Host, HostSettings, Worker, stage},
        service_bus::{Properties, QueueSettings, ServiceBus},
    },
};
use http_body_util::BodyExt;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::sync::Semaphore;
use tower::ServiceExt;

pub(crate) const NAMESPACE: &str = "example.servicebus.windows.net";

/// What the handler answers.
#[derive(Clone)]
pub(crate) enum Reply {
    Now {
        status: u16,
        headers: Vec<(String, String)>,
        body: String,
    },
    /// Nothing, for ever.
    Never,
    /// `{}` once so many calls are waiting for the same.
    Together(Arc<tokio::sync::Barrier>),
}

impl Reply {
    pub(crate) fn json(status: u16, body: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), "application/json".to_owned())];
        Self::Now { status, headers, body: body.to_owned() }
    }
}

/// A request as the handler got it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

/// Shared by all lives of the handler.
#[derive(Clone)]
pub(crate) struct Handler {
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    pub(crate) replies: Arc<Mutex<VecDeque<Reply>>>,
    /// How many calls are being answered now.
    pub(crate) open: Arc<AtomicUsize>,
    pub(crate) arrivals: Arc<Semaphore>,
    pub(crate) starts: Arc<Mutex<Vec<std::collections::BTreeMap<String, String>>>>,
}

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) bus: ServiceBus,
    pub(crate) host: Host,
    pub(crate) handler: Handler,
    pub(crate) settings: HostSettings,
}

pub(crate) fn start() -> Timestamp {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

pub(crate) fn host_json() -> Value {
    json!({
        "version": "2.0",
        "functionTimeout": "00:30:00",
        "extensionBundle": {"id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.0.0, 5.0.0)"},
        "customHandler": {"description": {"defaultExecutablePath": "handler"}},
        "extensions": {"serviceBus": {
            "maxConcurrentCalls": 3,
            "maxConcurrentSessions": 2,
            "sessionIdleTimeout": "00:00:10",
        }},
    })
}

pub(crate) fn trigger(function: Value) -> Value {
    json!({ "bindings": [function] })
}

/// A function on `queue`, its body binary.
pub(crate) fn on_queue(queue: &str, sessions: bool) -> Value {
    trigger(json!({
        "type": "serviceBusTrigger", "direction": "in", "name": "message", "queueName": queue,
        "connection": "BUS", "isSessionsEnabled": sessions, "dataType": "binary",
    }))
}

pub(crate) fn on_http(route: &str, level: &str) -> Value {
    json!({"bindings": [
        {"type": "httpTrigger", "direction": "in", "name": "req", "authLevel": level, "route": route},
        {"type": "http", "direction": "out", "name": "res"},
    ]})
}

pub(crate) fn on_timer(schedule: &str) -> Value {
    trigger(json!({"type": "timerTrigger", "direction": "in", "name": "t", "schedule": schedule}))
}

/// The queues `plain` and `jobs` (with sessions), ten deliveries each.
pub(crate) fn queues(clock: &Clock) -> ServiceBus {
    let bus = ServiceBus::new(clock.clone(), NAMESPACE, 3);
    bus.create_queue("plain", QueueSettings::default());
    bus.create_queue("jobs", QueueSettings { requires_session: true, ..QueueSettings::default() });
    bus
}

pub(crate) fn app_root(host_json: &Value, functions: &[(&str, Value)]) -> PathBuf {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("app-root-{number}"));
    let _none_yet = std::fs::remove_dir_all(&root);
    let executable = root.join("built").join("handler");
    std::fs::create_dir_all(root.join("built")).unwrap();
    std::fs::write(&executable, "not started by these tests").unwrap();
    let functions: Vec<(&str, String)> =
        functions.iter().map(|(name, function)| (*name, function.to_string())).collect();
    let functions: Vec<(&str, &str)> =
        functions.iter().map(|(name, function)| (*name, function.as_str())).collect();
    let app = root.join("app");
    stage(&app, &host_json.to_string(), &functions, &executable).unwrap();
    app
}

impl Handler {
    pub(crate) fn new() -> Self {
        Self {
            seen: Arc::default(),
            replies: Arc::default(),
            open: Arc::default(),
            arrivals: Arc::new(Semaphore::new(0)),
            starts: Arc::default(),
        }
    }

    pub(crate) fn build(&self) -> Build {
        let handler = self.clone();
        Arc::new(move |settings| {
            let handler = handler.clone();
            Box::pin(async move {
                handler.starts.lock().unwrap().push(settings);
                Router::new().fallback(answer).with_state(handler)
            })
        })
    }

    pub(crate) fn reply(&self, reply: Reply) {
        self.replies.lock().unwrap().push_back(reply);
    }

    /// The calls so far, probes apart.
    pub(crate) fn calls(&self) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap().clone();
        seen.into_iter().filter(|seen| seen.path != "/").collect()
    }

    /// Waits until so many calls have arrived since the last time.
    pub(crate) async fn arrived(&self, calls: u32) {
        self.arrivals.acquire_many(calls).await.unwrap().forget();
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

async fn answer(State(handler): State<Handler>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let path = parts.uri.path_and_query().unwrap().to_string();
    let seen = Seen {
        method: parts.method.to_string(),
        path: path.clone(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    handler.seen.lock().unwrap().push(seen);
    if path == "/" {
        return Response::new(Body::empty());
    }
    handler.open.fetch_add(1, Ordering::SeqCst);
    let open = Open(handler.open.clone());
    handler.arrivals.add_permits(1);
    let reply = handler.replies.lock().unwrap().pop_front();
    let reply = reply.unwrap_or_else(|| Reply::json(200, "{}"));
    let (status, headers, body) = match reply {
        Reply::Now { status, headers, body } => (status, headers, body),
        Reply::Never => std::future::pending().await,
        Reply::Together(barrier) => {
            barrier.wait().await;
            (200, vec![("Content-Type".to_owned(), "application/json".to_owned())], "{}".to_owned())
        }
    };
    drop(open);
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in headers {
        let name = axum::http::HeaderName::try_from(name).unwrap();
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}

/// Counts a call down when its future is dropped, answered or not.
struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl World {
    pub(crate) fn new(functions: &[(&str, Value)]) -> impl Future<Output = Self> + use<> {
        let world = Self::with(functions, start(), |_, _| {});
        async { world.await.unwrap() }
    }

    /// A world that begins at `at`; `prepare` sees its queues and settings before the host starts.
    pub(crate) fn with<F: FnOnce(&ServiceBus, &mut HostSettings)>(
        functions: &[(&str, Value)],
        at: Timestamp,
        prepare: F,
    ) -> impl Future<Output = Result<Self, Error>> + use<F> {
        let clock = Clock::frozen(at);
        let bus = queues(&clock);
        let handler = Handler::new();
        let root = app_root(&host_json(), functions);
        let worker = Worker::InProcess(handler.build());
        let mut settings = HostSettings::new(root, worker, clock.clone(), bus.clone());
        let connection = ("BUS__fullyQualifiedNamespace".to_owned(), NAMESPACE.to_owned());
        settings.app_settings.extend([connection]);
        prepare(&bus, &mut settings);
        async move {
            let host = Host::start(settings.clone()).await?;
            Ok(Self { clock, bus, host, handler, settings })
        }
    }

    /// Lets the host do all that is due now.
    pub(crate) async fn settle(&self) {
        let actors: [Box<dyn Actor>; 1] = [Box::new(self.host.clone())];
        exhaust(&actors, &self.clock).await;
    }

    pub(crate) async fn turn(&self, seconds: i64) {
        self.clock.turn_to(self.clock.now() + SignedDuration::from_secs(seconds));
        self.settle().await;
    }

    pub(crate) fn send(&self, queue: &str, session: Option<&str>, body: &str) {
        let properties =
            Properties { session_id: session.map(ToOwned::to_owned), ..Properties::default() };
        self.bus.send_as_operator(queue, body, properties).unwrap();
    }

    pub(crate) async fn ask(&self, request: Request) -> (axum::http::response::Parts, String) {
        let (parts, body) = self.host.front_router().oneshot(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The bodies that the handler was given, decoded, with the function's name.
    pub(crate) fn bodies(&self) -> Vec<(String, String)> {
        use base64::{Engine, prelude::BASE64_STANDARD};
        let calls = self.handler.calls().into_iter().map(|seen| {
            let data = seen.json()["Data"]["message"].as_str().unwrap().to_owned();
            let body = String::from_utf8(BASE64_STANDARD.decode(data).unwrap()).unwrap();
            (seen.path.trim_start_matches('/').to_owned(), body)
        });
        calls.collect()
    }
}
