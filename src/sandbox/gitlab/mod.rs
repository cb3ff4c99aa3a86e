//! The sandbox's GitLab: REST, GraphQL, system hooks and the runner's own protocol, as gitlab.md and
//! runner-observed.md §8 have them.
//!
//! One lock holds the whole state; each call takes it once, so each call happens at one moment.

mod access;
mod call;
mod changes;
mod deletion;
mod deliveries;
mod dump;
mod errors;
mod events;
mod graphql;
mod group_list;
mod groups;
mod hooks;
mod job_lookup;
mod job_protocol;
mod jobs;
mod limits;
mod maintenance;
mod moves;
mod pagination;
mod parameters;
mod projects;
mod routes;
mod runner_api;
mod runner_creation;
mod runner_lists;
mod runner_protocol;
mod runner_status;
mod runner_view;
mod runners;
mod signature;
mod state;
mod tokens;
mod tree;
mod users;

pub use deliveries::{Delivery, Mischief, Outcome};
pub use graphql::group::GroupLists;
pub use jobs::{JobStatus, JobView, NewJob};
pub use limits::{Limit, Limits};
pub use runner_view::RunnerView;
pub use runners::{Owner, RunnerEdit};

use crate::clock::Clock;
use jiff::SignedDuration;
use state::State;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// One simulated GitLab instance; a clone is the same instance.
#[derive(Clone)]
pub struct Gitlab(Arc<Inner>);

struct Inner {
    clock: Clock,
    state: Mutex<State>,
    /// Sends hooks.
    client: reqwest::Client,
}

/// What one instance is like.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Scheme and host, without a slash at the end; it is in `Link` headers and in `X-Gitlab-Instance`.
    pub external_url: String,
    pub version: Version,
    /// Tokens and UUIDs are drawn from it; ids count up.
    pub seed: u64,
    pub limits: Limits,
    /// How long something scheduled for deletion is kept.
    pub retention: SignedDuration,
    /// `runner_token_expiration_interval` of the instance.
    pub runner_token_lifetime: Option<SignedDuration>,
    /// Whether owners who are no administrators may create runners.
    pub registration_allowed: bool,
    pub mischief: Mischief,
    /// How complex a GraphQL query may be.
    pub complexity_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            external_url: "https://gitlab.example.com".to_owned(),
            version: Version::V19,
            seed: 1,
            limits: Limits::default(),
            retention: SignedDuration::from_hours(30 * 24),
            runner_token_lifetime: None,
            registration_allowed: true,
            mischief: Mischief::default(),
            complexity_max: COMPLEXITY_MAX,
        }
    }
}

/// Which GitLab it plays (gitlab.md §8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    major: u8,
    minor: u8,
    patch: u8,
}

impl Version {
    /// The last of 16.
    pub const V16: Self = Self { major: 16, minor: 11, patch: 10 };
    /// The last of 17.
    pub const V17: Self = Self { major: 17, minor: 11, patch: 7 };
    /// The last of 18.
    pub const V18: Self = Self { major: 18, minor: 11, patch: 3 };
    /// The one that everything else here was observed with.
    pub const V19: Self = Self::new(19, 4);

    pub const fn new(major: u8, minor: u8) -> Self {
        Self { major, minor, patch: 0 }
    }

    /// As `GET /version` and the hooks' `User-Agent` have it.
    pub fn number(self) -> String {
        format!("{}.{}.{}-ee", self.major, self.minor, self.patch)
    }

    /// Whether REST says of runners and managers that they work, and of runners who made them when. It began at some minor
    /// of 18; this one lets both be tried.
    fn tells_work(self) -> bool {
        self.is_from(18, 3)
    }

    fn is_from(self, major: u8, minor: u8) -> bool {
        self >= Self::new(major, minor)
    }
}

/// What GitLab allows to whoever signed in.
const COMPLEXITY_MAX: usize = 250;

/// What GitLab waits for the receiver of a hook (§1.1).
const HOOK_TIMEOUT: Duration = Duration::from_secs(10);

impl Gitlab {
    /// An empty instance with two users: the first administrator `root`, and `svc-forerunner`, an
    /// administrator whose token is [`Gitlab::admin_token`].
    pub fn new(clock: Clock, settings: Settings) -> Self {
        // Whoever was first has chosen the same: the package has one TLS provider.
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            // Receivers are on loopback; reading the system's certificates takes longer than all the rest.
            .tls_certs_only([])
            .timeout(HOOK_TIMEOUT)
            .build()
            .expect("a client without special options can be built");
        let state = State::new(settings, clock.now());
        Self(Arc::new(Inner { clock, state: Mutex::new(state), client }))
    }

    /// All that is served over HTTP: `/api/v4` and `/api/graphql`.
    pub fn router(&self) -> axum::Router {
        routes::router(self.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.now = self.0.clock.now();
        state.cause = None;
        state
    }
}
