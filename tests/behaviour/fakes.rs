//! Stand-ins for what lies behind the functions (rounds) and beside them (the queue), and a way to call the router.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use async_trait::async_trait;
use axum::{
    body::{Body, to_bytes},
    http::{HeaderMap, Request, StatusCode},
};
use forerunner::{
    clock::Clock,
    config::Settings,
    domain::{
        class::Class,
        command::{Order, Refused},
        fleet_status::FleetStatus,
        ids::TargetId,
        message::{Message, Outgoing},
        records::ParkedPlan,
        status::Status,
    },
    functions::{
        app::App,
        queue::{Queue, QueueError},
        router::router,
        work::{DeadLetter, Health, NotAMessage, Outcome, Told, Work},
    },
    telemetry::Telemetry,
};
use jiff::SignedDuration;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tower::ServiceExt;

pub(crate) const TOKEN: &str = "a made-up hook token";
pub(crate) const NOW: &str = "2026-09-10T00:26:40Z"; // 1789000000

/// How the stand-in's rounds, sweeps and records end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    #[default]
    Done,
    Failed,
    Panic,
    Never,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) ending: Ending,
    pub(crate) queue: Ending,
    /// Taken by the first send, which lasts three seconds of this clock.
    pub(crate) slow_once: Mutex<Option<Clock>>,
    pub(crate) rounds: Mutex<Vec<Message>>,
    pub(crate) letters: Mutex<Vec<DeadLetter>>,
    pub(crate) parked: Mutex<Vec<NotAMessage>>,
    pub(crate) sweeps: Mutex<u32>,
    pub(crate) orders: Mutex<Vec<Order>>,
    pub(crate) sent: Mutex<Vec<(String, Outgoing)>>,
    /// What the fleet function is told.
    pub(crate) told: Mutex<Vec<Status>>,
    pub(crate) whole: Option<FleetStatus>,
    pub(crate) removals: Option<ParkedPlan>,
}

impl World {
    async fn end(&self, line: &str) -> Outcome {
        match self.ending {
            Ending::Done => Outcome::done(line),
            Ending::Failed => Outcome::failed("the cluster did not answer"),
            Ending::Panic => panic!("a bug of the stand-in"),
            Ending::Never => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Work for World {
    async fn round(&self, message: Message) -> Outcome {
        self.rounds.lock().unwrap().push(message);
        self.end("settled").await
    }

    async fn command(&self, order: Order) -> Result<Outcome, Refused> {
        self.orders.lock().unwrap().push(order);
        Ok(self.end("obeyed").await)
    }

    async fn sweep(&self) -> Outcome {
        *self.sweeps.lock().unwrap() += 1;
        self.end("swept").await
    }

    async fn dead_letter(&self, letter: DeadLetter) -> Outcome {
        self.letters.lock().unwrap().push(letter);
        self.end("recorded").await
    }

    async fn park_foreign(&self, what: NotAMessage) -> Outcome {
        self.parked.lock().unwrap().push(what);
        self.end("parked").await
    }

    fn could_match(&self, _target: TargetId, path: &str) -> bool {
        !path.starts_with("unmatched/")
    }

    fn health(&self) -> Health {
        Health { ready: true, version: "1.2.3".to_owned(), configuration: "d1ge57".to_owned() }
    }

    async fn fleet(&self) -> Result<Told, String> {
        match self.ending {
            Ending::Failed => Err("no right at /subscriptions/2222 for <nobody>".to_owned()),
            Ending::Done | Ending::Panic | Ending::Never => {
                let units = self.told.lock().unwrap().clone();
                let fleet_status = self.whole.clone();
                let removals = self.removals.clone();
                Ok(Told { fleet: Some("nonprod".to_owned()), units, fleet_status, removals })
            }
        }
    }
}

#[async_trait]
impl Queue for World {
    async fn send(&self, queue: &str, messages: &[Outgoing]) -> Result<(), QueueError> {
        match self.queue {
            Ending::Done => {}
            Ending::Failed | Ending::Panic => {
                let class = Class::Retry { after: None };
                return Err(QueueError { class, text: "the namespace is throttled".to_owned() });
            }
            Ending::Never => std::future::pending().await,
        }
        if let Some(clock) = self.slow_once.lock().unwrap().take() {
            clock.turn_to(clock.now() + SignedDuration::from_secs(3));
        }
        let sent = messages.iter().map(|message| (queue.to_owned(), message.clone()));
        self.sent.lock().unwrap().extend(sent);
        Ok(())
    }
}

pub(crate) fn settings(pairs: &[(&str, &str)]) -> Settings {
    let pairs: BTreeMap<String, String> =
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Settings::read(|name| pairs.get(name).cloned()).unwrap()
}

pub(crate) fn app_with(world: &Arc<World>, settings: Settings, telemetry: Telemetry) -> App {
    let clock = Clock::frozen(NOW.parse().unwrap());
    let deadline = match world.ending {
        Ending::Never => Duration::from_millis(1),
        Ending::Done | Ending::Failed | Ending::Panic => Duration::from_secs(60),
    };
    let queue_deadline =
        Duration::from_millis(if world.queue == Ending::Never { 1 } else { 60_000 });
    App {
        deadline,
        queue_deadline,
        ..App::new(settings, clock, world.clone(), world.clone(), telemetry)
    }
}

pub(crate) fn app(world: &Arc<World>) -> App {
    app_with(world, settings(&[("GITLAB_HOOK_TOKENS", TOKEN)]), Telemetry::off())
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answered {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Whether the host takes it for the success of a wrapped invocation (functions-host.md §3.2, §3.3).
    pub(crate) fn succeeds(&self) -> bool {
        let kind = self.headers.get("content-type").and_then(|kind| kind.to_str().ok());
        let is_object = serde_json::from_str(&self.text).is_ok_and(|body: Value| {
            let member = |name: &str| body.get(name).cloned().unwrap_or_default();
            let scalars =
                |logs: &Vec<Value>| logs.iter().all(|log| !log.is_object() && !log.is_array());
            let (outputs, logs) = (member("Outputs"), member("Logs"));
            body.is_object()
                && (outputs.is_null() || outputs.is_object())
                && (logs.is_null() || logs.as_array().is_some_and(scalars))
        });
        self.status.is_success() && kind == Some("application/json") && is_object
    }
}

pub(crate) async fn call(app: App, request: Request<Body>) -> Answered {
    let response = router(Arc::new(app)).oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
    Answered { status: parts.status, headers: parts.headers, text }
}

/// Posts as the host does: chunked, that is, without a length.
pub(crate) async fn post(app: App, path: &str, body: impl Into<Body>) -> Answered {
    let request = Request::post(path)
        .header("content-type", "application/json; charset=utf-8")
        .header("x-azure-functions-invocationid", "11111111-2222-4333-8444-000000000001")
        .body(body.into())
        .unwrap();
    call(app, request).await
}

/// The files of a folder of vectors, in order of their names.
pub(crate) fn vectors(folder: &str) -> Vec<Value> {
    let folder = format!("{}/tests/vectors/{folder}", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
        .iter()
        .map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
        .collect()
}
