//! All that the instance knows.

use super::{
    Settings,
    deliveries::{Delivery, Outgoing},
    graphql::group::GroupLists,
    hooks::Hook,
    jobs::Job,
    limits::Counted,
    runners::Runner,
    tokens::AccessToken,
    tree::{Group, Project},
    users::{Member, User},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use rand::{Rng, SeedableRng, distr::Alphanumeric, rngs::StdRng};
use secrecy::SecretString;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

pub(super) struct State {
    pub(super) settings: Settings,
    /// Whether only reads are answered.
    pub(super) maintenance: bool,
    /// Runners that one group may have.
    pub(super) group_runners_max: Option<usize>,
    pub(super) group_lists: GroupLists,
    /// The clock's time when the lock was taken.
    pub(super) now: Timestamp,
    /// The `X-Gitlab-Event-UUID` that the present call brought along.
    pub(super) cause: Option<Uuid>,
    ids: BTreeMap<Kind, u64>,
    secrets: StdRng,
    /// Apart from the secrets, so that a poll more or less does not change a token.
    pub(super) chance: StdRng,
    pub(super) users: BTreeMap<u64, User>,
    pub(super) members: Vec<Member>,
    pub(super) groups: BTreeMap<u64, Group>,
    pub(super) projects: BTreeMap<u64, Project>,
    /// Full paths that projects once had, in lower case.
    pub(super) old_project_paths: BTreeMap<String, u64>,
    pub(super) runners: BTreeMap<u64, Runner>,
    /// Grows when any runner might find a job that it did not find before.
    pub(super) queue_version: u64,
    pub(super) jobs: BTreeMap<u64, Job>,
    pub(super) tokens: BTreeMap<u64, AccessToken>,
    pub(super) admin_user: u64,
    pub(super) admin_token: SecretString,
    pub(super) hooks: BTreeMap<u64, Hook>,
    pub(super) outbox: Vec<Outgoing>,
    pub(super) deliveries: Vec<Delivery>,
    /// Which hooks one chain of events has already called.
    pub(super) chains: BTreeMap<Uuid, BTreeSet<u64>>,
    pub(super) tasks: Vec<Task>,
    pub(super) usage: BTreeMap<(Option<u64>, Counted), (i64, u32)>,
}

/// What counts its own ids. Groups and users' namespaces share theirs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Namespace,
    User,
    Project,
    Runner,
    Manager,
    Job,
    Token,
    Hook,
    Key,
}

/// Something that GitLab does by itself, later.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) at: Timestamp,
    pub(super) what: Chore,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chore {
    MoveGroup { group: u64, parent: Option<u64> },
    DestroyGroup { group: u64 },
    DestroyProject { project: u64 },
}

impl State {
    pub(super) fn new(settings: Settings, now: Timestamp) -> Self {
        let seed = settings.seed;
        let mut state = Self {
            settings,
            maintenance: false,
            group_runners_max: None,
            group_lists: GroupLists::default(),
            now,
            cause: None,
            ids: BTreeMap::new(),
            secrets: StdRng::seed_from_u64(seed),
            chance: StdRng::seed_from_u64(seed ^ 0x5eed),
            users: BTreeMap::new(),
            members: Vec::new(),
            groups: BTreeMap::new(),
            projects: BTreeMap::new(),
            old_project_paths: BTreeMap::new(),
            runners: BTreeMap::new(),
            queue_version: 0,
            jobs: BTreeMap::new(),
            tokens: BTreeMap::new(),
            admin_user: 0,
            admin_token: SecretString::default(),
            hooks: BTreeMap::new(),
            outbox: Vec::new(),
            deliveries: Vec::new(),
            chains: BTreeMap::new(),
            tasks: Vec::new(),
            usage: BTreeMap::new(),
        };
        state.add_user("root", true);
        state.admin_user = state.add_user("svc-forerunner", true);
        let token = state.add_token(state.admin_user, "sandbox", &["admin_mode", "api"], None);
        state.admin_token = token.1.into();
        state
    }

    pub(super) fn next_id(&mut self, kind: Kind) -> u64 {
        let last = self.ids.entry(kind).or_insert(0);
        *last += 1;
        *last
    }

    /// The next id of the kind is past `last`.
    pub(super) fn skip_ids(&mut self, kind: Kind, last: u64) {
        let known = self.ids.entry(kind).or_insert(0);
        *known = (*known).max(last);
    }

    pub(super) fn uuid(&mut self) -> Uuid {
        uuid::Builder::from_random_bytes(self.chance.random()).into_uuid()
    }

    /// A token in the shape of this version: opaque to whoever is careful, with dots in newer ones (§3.9).
    pub(super) fn secret(&mut self, prefix: &str) -> String {
        if !self.settings.version.is_from(18, 0) {
            return format!("{prefix}{}", self.letters(20));
        }
        let payload = URL_SAFE_NO_PAD.encode(self.secrets.random::<[u8; 20]>());
        let checksum = self.letters(7).to_lowercase();
        format!("{prefix}{payload}.01.{:02x}{checksum}", payload.len())
    }

    pub(super) fn letters(&mut self, count: usize) -> String {
        (0..count).map(|_| char::from(self.secrets.sample(Alphanumeric))).collect()
    }

    /// True in so many of a hundred cases.
    pub(super) fn happens(&mut self, percent: u8) -> bool {
        percent > 0 && self.chance.random_range(0..100) < percent
    }

    /// Tells waiting runners to look again.
    pub(super) fn wake_runners(&mut self) {
        self.queue_version += 1;
    }
}

/// How tokens are kept: nobody can read them back.
pub(super) fn digest(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

/// Second precision, as lifecycle events have it.
pub(super) fn seconds(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// Millisecond precision, as the API has it.
pub(super) fn milliseconds(at: Timestamp) -> String {
    format!("{at:.3}")
}

pub(super) fn date(at: Timestamp) -> jiff::civil::Date {
    at.to_zoned(jiff::tz::TimeZone::UTC).date()
}
