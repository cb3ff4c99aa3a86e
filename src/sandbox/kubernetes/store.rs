//! All state of the cluster: objects, versions, and what the controllers have to look at and when.

use super::{Accept, Settings, User, kinds, pods::Faults};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// Where an object is; the namespace is empty for the cluster's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) plural: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
}

impl Key {
    pub(super) fn new(plural: &'static str, namespace: &str, name: &str) -> Self {
        Self { plural, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

/// Something a controller or the kubelet does at a certain time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Task {
    /// Makes what every namespace has.
    Furnish(String),
    EmptyNamespace(String),
    EndNamespace(String),
    /// One look of the deployment controller: namespace and name.
    Roll(String, String),
    /// The same, but nobody waits for it: a deadline or a later try.
    RollLater(String, String),
    StartPod(String, String),
    StopPod(String, String),
    /// A changed Secret reaches the pods that mount it.
    RefreshMount(String, String),
    /// Removes what belonged to the owner with this uid.
    Collect(String, String),
}

impl Task {
    pub(super) fn is_work(&self) -> bool {
        match self {
            Self::RollLater(..) => false,
            Self::Furnish(_)
            | Self::EmptyNamespace(_)
            | Self::EndNamespace(_)
            | Self::Roll(..)
            | Self::StartPod(..)
            | Self::StopPod(..)
            | Self::RefreshMount(..)
            | Self::Collect(..) => true,
        }
    }
}

/// One content that a Secret has had.
#[derive(Clone, Debug)]
pub(super) struct SecretVersion {
    pub(super) resource_version: String,
    pub(super) data: Value,
    pub(super) written: Timestamp,
}

pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) tokens: Vec<(String, User)>,
    pub(super) accept: Option<Accept>,
    pub(super) faults: Faults,
    /// When each task is due, and the same in that order.
    timers: BTreeMap<Task, Timestamp>,
    agenda: BTreeSet<(Timestamp, Task)>,
    /// Every content of each Secret, oldest first; kept while pods may still show it.
    pub(super) secrets: BTreeMap<(String, String), Vec<SecretVersion>>,
    /// When each pod, by its uid, had everything mounted.
    pub(super) mounted: BTreeMap<String, Timestamp>,
    /// Continue tokens of lists begun before this version are too old.
    pub(super) compacted: u64,
    /// Whose calls in which namespaces flow control lets none of through.
    pub(super) throttled: Vec<(String, String)>,
    objects: BTreeMap<Key, Value>,
    version: u64,
    made: u64,
}

impl State {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            tokens: Vec::new(),
            accept: None,
            faults: Faults::default(),
            timers: BTreeMap::new(),
            agenda: BTreeSet::new(),
            secrets: BTreeMap::new(),
            mounted: BTreeMap::new(),
            compacted: 0,
            throttled: Vec::new(),
            objects: BTreeMap::new(),
            version: 1000,
            made: 0,
        }
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// Forgets what there was before this moment, which is a version of its own: a list begun now goes on.
    pub(super) fn compact(&mut self) {
        self.version += 1;
        self.compacted = self.version;
    }

    pub(super) fn find(&self, plural: &str, namespace: &str, name: &str) -> Option<&Value> {
        let plural = kinds::find_by_plural(plural)?.plural;
        self.objects.get(&Key::new(plural, namespace, name))
    }

    /// Of one namespace, or of all.
    pub(super) fn list(
        &self,
        plural: &str,
        namespace: Option<&str>,
    ) -> impl Iterator<Item = &Value> {
        let plural = kinds::find_by_plural(plural).map_or("", |kind| kind.plural);
        let first = Key::new(plural, namespace.unwrap_or_default(), "");
        let namespace = namespace.map(str::to_owned);
        self.objects
            .range(first..)
            .take_while(move |(key, _)| {
                key.plural == plural
                    && namespace.as_ref().is_none_or(|namespace| key.namespace == *namespace)
            })
            .map(|(_, object)| object)
    }

    /// Of one namespace, those whose names begin so: what a controller makes is named after its owner.
    pub(super) fn list_named(
        &self,
        plural: &'static str,
        namespace: &str,
        stem: &str,
    ) -> impl Iterator<Item = &Value> {
        let first = Key::new(plural, namespace, stem);
        self.objects
            .range(first.clone()..)
            .take_while(move |(key, _)| {
                key.plural == first.plural
                    && key.namespace == first.namespace
                    && key.name.starts_with(&first.name)
            })
            .map(|(_, object)| object)
    }

    pub(super) fn objects(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.objects.iter()
    }

    /// Stores as it is, and tells nobody.
    pub(super) fn insert(&mut self, key: Key, object: Value) {
        self.objects.insert(key, object);
    }

    pub(super) fn forget(&mut self, key: &Key) {
        self.objects.remove(key);
    }

    /// A new uid; the same seed gives the same ones.
    pub(super) fn next_uid(&mut self) -> String {
        self.made += 1;
        let name = format!("{}/{}", self.settings.seed, self.made);
        uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name.as_bytes()).to_string()
    }

    /// Five letters, as generated names end.
    pub(super) fn next_suffix(&mut self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        let uid = self.next_uid();
        let bytes = uid.bytes().filter(|byte| *byte != b'-').take(10).collect::<Vec<u8>>();
        bytes
            .chunks(2)
            .map(|pair| {
                let number = pair.iter().fold(0_usize, |sum, byte| sum * 31 + usize::from(*byte));
                char::from(LETTERS[number % LETTERS.len()])
            })
            .collect()
    }

    /// Stores the object under a new version and tells the controllers.
    pub(super) fn put(&mut self, key: Key, mut object: Value, now: Timestamp) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if key.plural == "secrets" {
            self.remember_secret(&key, &object, now);
        }
        let before = self.objects.insert(key.clone(), object.clone());
        // The controller that wrote a status learns nothing from it, and would write and look for ever.
        let own_echo = key.plural == "deployments"
            && before.is_some_and(|before| without_status(&before) == without_status(&object));
        if !own_echo {
            self.notify(&key, &object, now);
        }
        object
    }

    /// The same, if it differs from what is stored.
    pub(super) fn put_changed(&mut self, key: Key, object: Value, now: Timestamp) -> bool {
        let differs = self.objects.get(&key) != Some(&object);
        if differs {
            self.put(key, object, now);
        }
        differs
    }

    pub(super) fn remove(&mut self, key: &Key, now: Timestamp) -> Option<Value> {
        let object = self.objects.remove(key)?;
        self.version += 1;
        self.notify(key, &object, now);
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default();
        match key.plural {
            "deployments" | "replicasets" => {
                self.schedule(Task::Collect(key.namespace.clone(), uid.to_owned()), now);
            }
            "pods" => {
                self.mounted.remove(uid);
            }
            _ => {}
        }
        Some(object)
    }

    /// The earlier of two times for one task holds.
    pub(super) fn schedule(&mut self, task: Task, at: Timestamp) {
        match self.timers.get(&task) {
            Some(before) if *before <= at => return,
            Some(before) => _ = self.agenda.remove(&(*before, task.clone())),
            None => {}
        }
        self.agenda.insert((at, task.clone()));
        self.timers.insert(task, at);
    }

    /// When the next task is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.agenda.first().map(|(at, _)| *at)
    }

    /// Whether somebody waits for a task.
    pub(super) fn has_work(&self) -> bool {
        self.agenda.iter().any(|(_, task)| task.is_work())
    }

    pub(super) fn schedule_in(&mut self, task: Task, delay: Duration, now: Timestamp) {
        self.schedule(task, after(now, delay));
    }

    /// The earliest task that is due.
    pub(super) fn next_task(&mut self, now: Timestamp) -> Option<Task> {
        if self.next_due()? > now {
            return None;
        }
        let (_, task) = self.agenda.pop_first()?;
        self.timers.remove(&task);
        Some(task)
    }

    /// Waits for the last content of a Secret, if one was written while an earlier one was on its way.
    pub(super) fn refresh(&mut self, namespace: String, name: String, now: Timestamp) {
        let place = (namespace, name);
        let last = self.secrets.get(&place).and_then(|versions| versions.last());
        let Some(written) = last.map(|last| last.written) else { return };
        let visible = after(written, self.settings.refresh_lag);
        if visible > now {
            self.schedule(Task::RefreshMount(place.0, place.1), visible);
        }
    }

    pub(super) fn remember_secret(&mut self, key: &Key, object: &Value, now: Timestamp) {
        let data = object["data"].clone();
        let place = (key.namespace.clone(), key.name.clone());
        let versions = self.secrets.entry(place).or_default();
        if versions.last().is_some_and(|last| last.data == data) {
            return;
        }
        let resource_version =
            object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
        versions.push(SecretVersion { resource_version, data, written: now });
        let lag = self.settings.refresh_lag;
        let task = Task::RefreshMount(key.namespace.clone(), key.name.clone());
        if super::pods::is_mounted(self, &key.namespace, &key.name) {
            self.schedule_in(task, lag, now);
        }
    }

    /// Which controllers have to look, now that the object has changed.
    fn notify(&mut self, key: &Key, object: &Value, now: Timestamp) {
        let namespace = key.namespace.as_str();
        match key.plural {
            "deployments" => {
                self.schedule(Task::Roll(namespace.to_owned(), key.name.clone()), now);
            }
            "pods" => {
                let owner = object["metadata"]["ownerReferences"][0]["name"].as_str();
                let owner = owner.and_then(|owner| self.find("replicasets", namespace, owner));
                let owner = owner
                    .and_then(|owner| owner["metadata"]["ownerReferences"][0]["name"].as_str())
                    .map(str::to_owned);
                if let Some(owner) = owner {
                    self.schedule(Task::Roll(namespace.to_owned(), owner), now);
                }
            }
            "secrets" | "configmaps" => {
                let waiting: BTreeSet<String> = self
                    .list("pods", Some(namespace))
                    .filter(|pod| super::pods::waits_for_mount(pod))
                    .filter_map(|pod| pod["metadata"]["name"].as_str().map(str::to_owned))
                    .collect();
                for pod in waiting {
                    self.schedule(Task::StartPod(namespace.to_owned(), pod), now);
                }
            }
            "serviceaccounts" | "resourcequotas" | "namespaces" => {
                let namespace = if key.plural == "namespaces" { &key.name } else { namespace };
                let refused: Vec<String> = self
                    .list("deployments", Some(namespace))
                    .filter(|deployment| super::deployments::is_refused(deployment))
                    .filter_map(|found| found["metadata"]["name"].as_str().map(str::to_owned))
                    .collect();
                for name in refused {
                    self.schedule(Task::Roll(namespace.to_owned(), name), now);
                }
            }
            _ => {}
        }
    }
}

/// What of an object its writers ask for.
fn without_status(object: &Value) -> Value {
    let mut rest = object.clone();
    if let Some(fields) = rest.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = rest.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("resourceVersion");
        metadata.remove("managedFields");
    }
    rest
}

pub(super) fn after(now: Timestamp, delay: Duration) -> Timestamp {
    let delay = SignedDuration::try_from(delay).unwrap_or(SignedDuration::MAX);
    now.saturating_add(delay).unwrap_or(Timestamp::MAX)
}
