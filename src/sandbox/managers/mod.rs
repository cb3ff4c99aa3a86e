//! Runner managers: a simulated `gitlab-runner run` for each manager pod that runs, and the jobs they take.
//!
//! A process knows what is in its pod: the Secret as it is mounted there, its service account's token, and the address
//! in `config.toml`. It speaks the runner's protocol to GitLab and HTTP to the API server, so whatever is wrong there is
//! wrong for it. Jobs run for real, as child processes of this one. Facts: runner-observed.md,
//! runner-on-kubernetes.md §2 and §4.

mod cluster;
mod config_file;
mod go_duration;
mod health;
pub mod here;
mod job;
mod job_pod;
mod mounted;
mod payload;
mod place;
mod process;
mod protocol;
mod script;
mod trace;
mod views;
mod workspace;

pub use place::Place;
pub use views::{EntryView, JobRun, ProcessView, RunState};

use super::{
    actor::{Actor, Due},
    kubernetes::ManagerPod,
};
use crate::clock::Clock;
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use job::Job;
use process::Process;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// All managers of one sandbox; a clone is the same managers. They are one [`Actor`].
#[derive(Clone)]
pub struct Managers(Arc<Inner>);

struct Inner {
    settings: ManagersSettings,
    client: reqwest::Client,
    /// One `act` at a time: a second caller finds nothing left to do.
    acting: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

/// Where everything is.
#[derive(Clone)]
pub struct ManagersSettings {
    pub clock: Clock,
    pub place: Place,
    pub gitlab: SocketAddr,
    /// The host in `url` that leads to `gitlab`; any other leads nowhere.
    pub gitlab_host: String,
    /// Plays `login.microsoftonline.com` for jobs.
    pub entra: SocketAddr,
    /// Plays `management.azure.com` for jobs.
    pub arm: SocketAddr,
    /// What plays `az` in jobs when called with `sandbox-az` and az's own arguments: forerunner itself. Without it
    /// jobs find no `az`.
    pub az_shim: Option<PathBuf>,
    /// The same seed gives the same names.
    pub seed: u64,
}

#[derive(Default)]
struct State {
    processes: BTreeMap<Key, Process>,
    finished: Vec<JobRun>,
    /// What every image really holds, whatever its tag says.
    held_version: Option<String>,
    /// See [`Managers::rest_between`].
    rest: SignedDuration,
}

/// Namespace, name, uid and start: a container that comes up again is another process.
type Key = (String, String, String, Timestamp);

impl Managers {
    pub fn new(settings: ManagersSettings) -> Self {
        // Whoever was first has chosen the same: the package has one TLS provider.
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // All servers are on loopback and speak plain HTTP.
            .tls_certs_only([])
            .build()
            .expect("a client without special options can be built");
        let acting = tokio::sync::Mutex::new(());
        Self(Arc::new(Inner { settings, client, acting, state: Mutex::default() }))
    }

    /// Lets images hold this version from the next start on, as a mirror does whose tags are wrong.
    pub fn set_held_version(&self, version: Option<&str>) {
        self.state().held_version = version.map(str::to_owned);
    }

    /// Starts a process for each new pod, ends those whose pods are gone, and tells the rest of their signals.
    fn meet_pods(&self, now: Timestamp) -> bool {
        let pods = self.0.settings.place.pods();
        let present: BTreeMap<Key, ManagerPod> =
            pods.into_iter().filter(is_runner).map(|pod| (key(&pod), pod)).collect();
        let mut state = self.state();
        let before = state.processes.len();
        state.processes.retain(|key, _| present.contains_key(key));
        let mut changed = state.processes.len() != before;
        let mut new = Vec::new();
        for (key, pod) in present {
            match state.processes.get_mut(&key) {
                Some(process) => {
                    changed |= process.is_draining() != pod.terminating.is_some();
                    process.pod = pod;
                }
                None => new.push((key, pod)),
            }
        }
        drop(state);
        for (key, pod) in new {
            changed = true;
            let process = Process::start(self, pod, now);
            self.state().processes.insert(key, process);
        }
        changed
    }

    async fn act_at(&self, now: Timestamp) -> bool {
        let _alone = self.0.acting.lock().await;
        let mut busy = self.meet_pods(now);
        let keys: Vec<Key> = self.state().processes.keys().cloned().collect();
        for key in keys {
            let Some(mut process) = self.state().processes.get(&key).cloned() else { continue };
            while process.act(self, now).await {
                busy = true;
                self.state().processes.insert(key.clone(), process.clone());
            }
            if process.is_done() {
                busy = true;
                self.state().processes.remove(&key);
                self.0.settings.place.exited(&process.pod);
            }
        }
        busy
    }

    /// Remembers a job that is over.
    fn file(&self, manager: &ManagerPod, job: &Job, now: Timestamp) {
        self.state().finished.push(views::run(manager, job, Some(now)));
    }

    /// Managers ask and look this seldom at most, whatever their file says: for tests in which much time passes.
    pub fn rest_between(&self, rest: SignedDuration) {
        self.state().rest = rest;
    }

    fn rest(&self) -> SignedDuration {
        self.state().rest
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Actor for Managers {
    fn act(&self, now: Timestamp) -> BoxFuture<'_, bool> {
        Box::pin(self.act_at(now))
    }

    /// A job in hand is work; polls and looks at the file are not.
    fn due(&self) -> Option<Due> {
        let now = self.0.settings.clock.now();
        let pods = self.0.settings.place.pods();
        let state = self.state();
        let mut work: Option<Timestamp> = None;
        let mut alone: Option<Timestamp> = None;
        let known = pods.iter().filter(|pod| is_runner(pod)).all(|pod| {
            state
                .processes
                .get(&key(pod))
                .is_some_and(|process| process.is_draining() == pod.terminating.is_some())
        });
        if !known {
            alone = Some(now);
        }
        for process in state.processes.values() {
            let (with_job, by_itself) = process.due();
            work = earlier(work, with_job);
            alone = earlier(alone, by_itself);
        }
        match work {
            // One answer has to do: with a job in hand, an earlier poll counts as work too.
            Some(_) => earlier(work, alone).map(Due::Work),
            None => alone.map(Due::Background),
        }
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    [one, other].into_iter().flatten().min()
}

fn key(pod: &ManagerPod) -> Key {
    (pod.namespace.clone(), pod.name.clone(), pod.uid.clone(), pod.started_at)
}

/// Deployments may run other things too.
fn is_runner(pod: &ManagerPod) -> bool {
    pod.image.contains("gitlab-runner")
}
