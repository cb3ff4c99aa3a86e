//! The little of a sandbox's world that invariants ask for, at one moment.

use crate::disturbed::entries;
use forerunner::{
    domain::{ids::InstallationId, names::verifier_system_id},
    sandbox::{
        azure::Azure,
        gitlab::{Gitlab, Owner, RunnerView},
        kubernetes::Kubernetes,
        service_bus::ServiceBus,
    },
};
use jiff::{SignedDuration, Timestamp, civil::Date};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

pub(crate) const MANAGERS: &str = "forerunner-nonprod";

/// What is so whatever forerunner reads: told by who makes the history.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    /// Units that the file wants and whose target is there.
    pub(crate) wanted: BTreeSet<String>,
    /// Ids of the roles that `guardrails` allow, and where.
    pub(crate) roles: Vec<String>,
    pub(crate) scopes: Vec<String>,
    pub(crate) issuer: String,
    /// `guardrails.deletions`: max and percent.
    pub(crate) deletions: (usize, usize),
    pub(crate) removes_foreign_rights: bool,
    /// `guardrails.freeze`: from a day of UTC to another.
    pub(crate) freeze: Option<RangeInclusive<Date>>,
    /// An operator confirmed what the brake or a round holds.
    pub(crate) confirmed: bool,
    /// Units that an operator told to remove, wanted or not.
    pub(crate) ordered: BTreeSet<String>,
    /// Units whose token an operator revoked.
    pub(crate) revoked: BTreeSet<String>,
    /// Runners that another process of forerunner made, unseen.
    pub(crate) made_elsewhere: BTreeSet<u64>,
    /// No lock is lost and no process dies: then sessions tell who writes.
    pub(crate) sessions_are_sure: bool,
}

/// Whose word lets a unit go, as the ledger has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Permit {
    /// A sweep's.
    Swept,
    /// An operator's, on what is leaving.
    Confirmed,
    /// An operator's, whatever the file says.
    Ordered,
}

#[derive(Clone, Debug)]
pub(crate) struct Entity {
    pub(crate) key: String,
    pub(crate) paused: bool,
    /// Somebody but our verifier has polled with it.
    pub(crate) used: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) truth: Truth,
    /// Sessions with a round under way.
    pub(crate) sessions: Vec<String>,
    /// Units with a permit of the last 24 hours.
    pub(crate) permits: BTreeMap<String, Permit>,
    /// Units that are held, and until when.
    pub(crate) holds: BTreeMap<String, Timestamp>,
    /// Units whose token is still to be revoked, as the ledger has it.
    pub(crate) revocations: BTreeSet<String>,
    /// By id, those with a marker of the fleet on a runner of its own target.
    pub(crate) entities: BTreeMap<u64, Entity>,
    /// Entities of which a Secret holds the live token, marked or not, and the key of that Secret.
    pub(crate) live: BTreeMap<u64, String>,
    /// How many runners have a manager.
    pub(crate) managers: usize,
    /// Principals of identities with the fleet's tags, and their keys.
    pub(crate) principals: BTreeMap<String, String>,
    /// Principals by the name of the role assignment, in lower case.
    pub(crate) assignments: BTreeMap<String, String>,
}

/// The services that a snapshot is taken of.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) gitlab: Gitlab,
    pub(crate) azure: Azure,
    pub(crate) kubernetes: Kubernetes,
    pub(crate) service_bus: ServiceBus,
}

impl Services {
    pub(crate) fn snapshot(&self, truth: Truth, now: Timestamp) -> Snapshot {
        let runners = self.gitlab.runners();
        let of = |runner: &RunnerView| {
            let key = key_of(&runner.description)?;
            let owner = match runner.owner {
                Owner::Group(id) => format!("g{id}-"),
                Owner::Project(id) => format!("p{id}-"),
                Owner::Instance | Owner::Nobody => return None,
            };
            let entity = Entity { key: key.clone(), paused: runner.paused, used: is_used(runner) };
            key.starts_with(&owner).then_some((runner.id, entity))
        };
        let secrets = self.kubernetes.list("secrets", MANAGERS);
        let kept = secrets.iter().flat_map(|secret| {
            let name = secret["metadata"]["name"].as_str().unwrap_or_default();
            let key = name.strip_prefix("runner-").and_then(|rest| rest.strip_suffix("-config"));
            let all = entries(secret).into_iter();
            all.filter_map(move |(id, token)| Some((id, token, key?.to_owned())))
        });
        let live = kept.filter_map(|(id, token, key)| {
            let digest = hex::encode(Sha256::digest(&token));
            runners
                .iter()
                .any(|runner| runner.id == id && runner.token_sha256 == digest)
                .then_some((id, key))
        });
        let identities = self.azure.identities().into_iter();
        let tagged = identities.filter_map(|one| {
            let key = one.tags.get("forerunner-key")?.clone();
            Some((one.principal_id.to_string(), key))
        });
        let assignments = self.azure.assignments().into_iter();
        let book = self.book();
        Snapshot {
            sessions: self.service_bus.busy_sessions("rounds"),
            permits: permits(&book, now),
            holds: holds(&book, now),
            revocations: revocations(&book),
            entities: runners.iter().filter_map(of).collect(),
            live: live.collect(),
            managers: self.kubernetes.list("deployments", MANAGERS).len(),
            principals: tagged.collect(),
            assignments: assignments
                .map(|one| (one.name.to_string(), one.principal_id.to_string()))
                .collect(),
            truth,
        }
    }

    /// Units that are parked and that a sweep leaves alone at this time.
    pub(super) fn parked(&self, now: Timestamp) -> BTreeSet<String> {
        let maps = self.kubernetes.list("configmaps", MANAGERS).into_iter();
        let records = maps.filter_map(|map| {
            serde_json::from_str::<Value>(map["data"]["record.json"].as_str()?).ok()
        });
        let parked = records.filter(|record| {
            record["parked"]["next"].as_str().is_some_and(|next| now < next.parse().unwrap())
        });
        parked.filter_map(|record| Some(record["unit"].as_str()?.to_owned())).collect()
    }

    /// The ledger's content.
    fn book(&self) -> Value {
        let ledger = self.kubernetes.get("configmaps", MANAGERS, "ledger");
        let text = ledger.as_ref().and_then(|map| map["data"]["record.json"].as_str());
        serde_json::from_str(text.unwrap_or("{}")).unwrap()
    }
}

/// Whether GitLab lists somebody who polled with its token, and not only asked whether it is good.
fn is_used(runner: &RunnerView) -> bool {
    let marker = runner.description.split_once("[forerunner:nonprod:");
    let ids = marker.and_then(|(_, rest)| {
        let mut parts = rest.split(':');
        Some((InstallationId(parts.next()?.to_owned()), parts.next()?.parse().ok()?))
    });
    let verifier = ids.map(|(installation, key)| verifier_system_id(&installation, &key));
    runner.managers.iter().any(|system_id| Some(system_id) != verifier.as_ref())
}

fn moment(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

/// By unit, what one of the ledger's lists says that counts now.
fn listed<T>(list: &Value, counts: impl Fn(&Value) -> Option<T>) -> BTreeMap<String, T> {
    let lines = list.as_array().into_iter().flatten();
    lines.filter_map(|line| Some((line["unit"].as_str()?.to_owned(), counts(line)?))).collect()
}

fn permits(book: &Value, now: Timestamp) -> BTreeMap<String, Permit> {
    listed(&book["permits"], |permit| {
        let age = now.duration_since(moment(&permit["at"]));
        let of = match permit["why"] == "command" {
            true => Permit::Ordered,
            false if permit["confirmed"] == true => Permit::Confirmed,
            false => Permit::Swept,
        };
        (age < SignedDuration::from_hours(24)).then_some(of)
    })
}

fn revocations(book: &Value) -> BTreeSet<String> {
    let pending = |one: &Value| one["done"].is_null().then_some(());
    listed(&book["revocations"], pending).into_keys().collect()
}

fn holds(book: &Value, now: Timestamp) -> BTreeMap<String, Timestamp> {
    listed(&book["holds"], |held| Some(moment(&held["until"])).filter(|until| now < *until))
}

/// The key in a marker of the fleet.
pub(crate) fn key_of(description: &str) -> Option<String> {
    let (_, marker) = description.split_once("[forerunner:nonprod:")?;
    marker.split(':').nth(1).map(str::to_owned)
}
