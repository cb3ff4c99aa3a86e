//! The handler's process: how it is started, watched, killed and started again (functions-host.md §1).

use super::{Error, Inner, child, in_process, logs::Level, port, probe::probe};
use axum::Router;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// Builds a handler's router from its settings, the port among them.
pub type Build = Arc<dyn Fn(BTreeMap<String, String>) -> BoxFuture<'static, Router> + Send + Sync>;

/// What serves the functions.
#[derive(Clone)]
pub enum Worker {
    /// The executable that host.json names.
    Child,
    /// A router in this process, on a runtime of its own that [`super::Host::kill`] ends with all it runs.
    InProcess(Build),
}

/// So many failures stop the host, unless the last was long ago.
const FAILURES_MAX: usize = 3;
const FAILURES_FORGOTTEN_AFTER: SignedDuration = SignedDuration::from_mins(30);
/// The exit code by which a handler asks to be started again.
const EXIT_TO_RESTART: i32 = 200;

/// One handler process with the functions it serves: all, or those of one scale group.
pub(super) struct Group {
    /// `http`, `function:NAME`, or none for all.
    pub(super) name: Option<String>,
    status: watch::Sender<Status>,
    process: Mutex<Process>,
    /// Processes that were killed and may not be gone yet.
    endings: Mutex<Vec<Ending>>,
    failures: Mutex<Vec<Timestamp>>,
}

#[derive(Default)]
struct Process {
    /// Counts starts and ends, so that a start that was overtaken by an end is known as such.
    life: u64,
    running: Option<Running>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Not started, or killed and not started again yet: nothing is delivered.
    Down,
    Starting,
    /// `life` tells processes of a group apart.
    Ready {
        port: u16,
        life: u64,
    },
    /// It has failed too often; the host is stopped.
    Stopped,
}

enum Running {
    InProcess(in_process::InProcess),
    Child(child::Child),
}

impl Group {
    pub(super) fn new(name: Option<String>) -> Self {
        Self {
            name,
            status: watch::Sender::new(Status::Down),
            process: Mutex::default(),
            endings: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    pub(super) fn status(&self) -> Status {
        *self.status.borrow()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Ends the process at once; nothing is delivered until somebody starts another.
    pub(super) fn kill(&self) {
        self.end(Status::Down);
    }

    /// Ends the process for good.
    pub(super) fn stop(&self) {
        self.end(Status::Stopped);
    }

    /// Ends the process to start another: what comes meanwhile waits.
    pub(super) fn replace(&self) {
        self.end(Status::Starting);
    }

    fn end(&self, status: Status) {
        let running = {
            let mut process = self.process();
            process.life += 1;
            process.running.take()
        };
        // Whoever has stopped stays so.
        self.status.send_modify(|now| {
            if *now != Status::Stopped {
                *now = status;
            }
        });
        let ending = running.map(|running| match running {
            Running::InProcess(in_process::InProcess { stop, ended }) => {
                let _ended_already = stop.send(());
                Ending::InProcess(ended)
            }
            Running::Child(child::Child { kill, end }) => {
                let _ended_already = kill.send(());
                Ending::Child(end)
            }
        });
        self.endings.lock().unwrap_or_else(PoisonError::into_inner).extend(ending);
    }

    /// Waits until nothing of a killed process runs any more.
    pub(super) async fn ended(&self) {
        let endings: Vec<Ending> =
            self.endings.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        for ending in endings {
            match ending {
                Ending::InProcess(ended) => drop(ended.await),
                Ending::Child(mut end) => drop(end.wait_for(Option::is_some).await),
            }
        }
    }

    /// Waits until the process that began as `life` is gone.
    pub(super) async fn gone(&self, life: u64) {
        let mut status = self.watch();
        let other =
            |status: &Status| !matches!(status, Status::Ready { life: now, .. } if *now == life);
        let _sender_gone = status.wait_for(other).await;
    }

    /// Begins a new life.
    fn begin(&self) -> u64 {
        let mut process = self.process();
        process.life += 1;
        process.life
    }

    /// Keeps the process of a life, unless it was ended meanwhile; what is dropped here dies.
    fn keep(&self, life: u64, running: Running) -> Result<(), Error> {
        let mut process = self.process();
        if process.life != life {
            return Err(Error::Stopped);
        }
        process.running = Some(running);
        Ok(())
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Ending {
    InProcess(tokio::sync::oneshot::Receiver<()>),
    Child(watch::Receiver<Option<child::End>>),
}

/// Starts the group's process and waits until it answers.
pub(super) async fn start(inner: &Arc<Inner>, group: &Arc<Group>) -> Result<(), Error> {
    if group.status() == Status::Stopped {
        return Err(Error::Stopped);
    }
    let life = group.begin();
    group.status.send_replace(Status::Starting);
    group.ended().await;
    let started = launch(inner, group, life).await;
    let current = group.process().life == life;
    let started = match started {
        Ok(port) if current => {
            group.status.send_replace(Status::Ready { port, life });
            Ok(())
        }
        // Ended while it started.
        Ok(_) => Err(Error::Stopped),
        Err(error) if current => {
            group.kill();
            Err(error)
        }
        Err(error) => Err(error),
    };
    inner.changed();
    started
}

async fn launch(inner: &Arc<Inner>, group: &Arc<Group>, life: u64) -> Result<u16, Error> {
    let no_port = |source| Error::NoPort { source };
    match &inner.worker {
        Worker::InProcess(build) => {
            let (port, listener) = in_process::listen().map_err(no_port)?;
            let environment = environment(inner, group, port);
            let running = in_process::start(Arc::clone(build), environment, listener).await?;
            group.keep(life, Running::InProcess(running))?;
            probe(port, inner.root.host.initialization_timeout).await?;
            Ok(port)
        }
        Worker::Child => {
            let reserved = port::Reserved::any().map_err(no_port)?;
            let port = reserved.port();
            let start = child::Start {
                command: inner.root.command()?,
                arguments: inner.root.host.arguments.clone(),
                directory: inner.root.working_directory(),
                environment: environment(inner, group, port),
                stderr_is_for_errors: inner.root.host.stderr_is_for_errors,
            };
            let child = child::start(start, &inner.logs)?;
            let mut end = child.end.clone();
            group.keep(life, Running::Child(child))?;
            tokio::select! {
                ready = probe(port, inner.root.host.initialization_timeout) => ready?,
                ended = end.wait_for(Option::is_some) => {
                    let end = ended.ok().and_then(|end| end.clone());
                    let code = end.as_ref().map_or_else(String::new, child::End::code_text);
                    let said = end.map_or_else(String::new, |end| end.said);
                    return Err(Error::HandlerEnded { code, said });
                }
            }
            tokio::spawn(watch_child(Arc::downgrade(inner), Arc::downgrade(group), end));
            Ok(port)
        }
    }
}

/// App settings, the five variables of §1.3 and, with scale groups, the name of the group.
fn environment(inner: &Inner, group: &Group, port: u16) -> BTreeMap<String, String> {
    let id = inner.guid().to_string();
    let root = inner.root.path.display().to_string();
    let mut environment = inner.app_settings.clone();
    let own = [
        ("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string()),
        ("FUNCTIONS_HTTPWORKER_PORT", port.to_string()),
        ("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", id.clone()),
        ("FUNCTIONS_HTTPWORKER_ID", id),
        ("FUNCTIONS_APP_ROOT_PATH", root),
    ];
    environment.extend(own.map(|(name, value)| (name.to_owned(), value)));
    let target = group.name.iter().map(|name| ("FUNCTIONS_TARGET_GROUP".to_owned(), name.clone()));
    environment.extend(target);
    environment
}

/// What the host does when its child ends by itself (§1.6).
async fn watch_child(
    inner: std::sync::Weak<Inner>,
    group: std::sync::Weak<Group>,
    mut end: watch::Receiver<Option<child::End>>,
) {
    let ended = end.wait_for(Option::is_some).await.ok().and_then(|end| end.clone());
    let (Some(inner), Some(group), Some(end)) = (inner.upgrade(), group.upgrade(), ended) else {
        return;
    };
    if end.wanted {
        return;
    }
    if end.code == Some(0) {
        // The status stays as it is: the real host does not notice, and goes on to call nobody.
        inner.logs.say(
            Level::Warning,
            super::GENERAL,
            "the handler ended with 0: nobody restarts it",
        );
        return;
    }
    let text = format!("the handler ended with {}: {}", end.code_text(), end.said);
    inner.logs.say(Level::Error, super::GENERAL, text);
    if end.code != Some(EXIT_TO_RESTART) && fails_too_often(&group, inner.clock.now()) {
        let text = "Exceeded http worker restart retry count. Shutting down Functions Host";
        inner.logs.say(Level::Error, super::GENERAL, text);
        inner.stop_groups().await;
        return;
    }
    group.replace();
    restart(inner, group).await;
}

/// Boxed, because starting a child begins to watch it, and watching may start it again.
fn restart(inner: Arc<Inner>, group: Arc<Group>) -> BoxFuture<'static, ()> {
    Box::pin(async move {
        if let Err(error) = start(&inner, &group).await {
            inner.logs.say(Level::Error, super::GENERAL, error.to_string());
        }
        inner.changed();
    })
}

fn fails_too_often(group: &Group, now: Timestamp) -> bool {
    let mut failures = group.failures.lock().unwrap_or_else(PoisonError::into_inner);
    let long_ago = |last: &Timestamp| now.duration_since(*last) > FAILURES_FORGOTTEN_AFTER;
    if failures.last().is_some_and(long_ago) {
        failures.clear();
    }
    failures.push(now);
    failures.len() >= FAILURES_MAX
}
