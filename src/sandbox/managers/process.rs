//! One `gitlab-runner run`: it reads its file, asks each entry's GitLab in turn and works on what it gets.

use super::{
    Managers,
    cluster::Cluster,
    config_file::{Config, Entry},
    health::Health,
    job::{Hands, Job, Phase},
    mounted::Mounted,
    payload::Payload,
    protocol::{Gitlab, Polled},
};
use crate::sandbox::kubernetes::ManagerPod;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc};

/// How often it looks at its file (runner-on-kubernetes.md §2.2).
const RELOAD_INTERVAL: SignedDuration = SignedDuration::from_secs(3);
/// Lines of its log that are kept.
const LOG_LINES_MAX: usize = 50;

#[derive(Clone)]
pub(super) struct Process {
    pub(super) pod: ManagerPod,
    pub(super) system_id: String,
    pub(super) version: String,
    concurrent: usize,
    check_interval: SignedDuration,
    pub(super) entries: Vec<Arc<Entry>>,
    /// The content that was read last, whether or not it was any good.
    tried: Option<String>,
    /// Why it ended; it comes up again with another file.
    pub(super) fatal: Option<String>,
    next_reload: Timestamp,
    next_feed: Timestamp,
    turn: usize,
    /// By token.
    pub(super) contacts: BTreeMap<String, Contact>,
    pub(super) jobs: Vec<Job>,
    pub(super) log: Vec<String>,
}

/// How an entry stands with its GitLab.
#[derive(Clone)]
pub(super) struct Contact {
    pub(super) health: Health,
    last_update: Option<String>,
    /// When it asked last, and the status; none where there was no answer.
    pub(super) last_poll: Option<(Timestamp, Option<u16>)>,
}

impl Process {
    pub(super) fn start(managers: &Managers, pod: ManagerPod, now: Timestamp) -> Self {
        let mut process = Self {
            system_id: String::new(),
            version: managers
                .state()
                .held_version
                .clone()
                .unwrap_or_else(|| version_of(&pod.image)),
            concurrent: 1,
            check_interval: Config::default().check_interval(),
            entries: Vec::new(),
            tried: None,
            fatal: None,
            next_reload: now,
            next_feed: now,
            turn: 0,
            contacts: BTreeMap::new(),
            jobs: Vec::new(),
            log: Vec::new(),
            pod,
        };
        process.boot(managers, now);
        process
    }

    /// What is read once: the system id. Then the file.
    fn boot(&mut self, managers: &Managers, now: Timestamp) {
        let mounted = Mounted::of(managers, &self.pod);
        let stored = mounted.as_ref().and_then(Mounted::system_id);
        let stored = stored.and_then(|bytes| std::str::from_utf8(bytes).ok()).map(str::trim);
        self.system_id = match stored.filter(|id| is_system_id(id)) {
            Some(id) => id.to_owned(),
            None => {
                let id = made_up_id(managers.0.settings.seed, &self.pod);
                self.say(format!("Created missing unique system ID system_id={id}"));
                id
            }
        };
        self.fatal = None;
        self.tried = None;
        let Some(mounted) = mounted else {
            self.say("no config.toml where it was told to look: zero runners".to_owned());
            return;
        };
        if let Err(why) = self.load(&mounted, now) {
            self.die(why);
        }
    }

    /// When it does something next: with a job, and by itself.
    pub(super) fn due(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let work = self.jobs.iter().map(|job| job.next_at).min();
        let polls = (self.fatal.is_none() && !self.entries.is_empty()).then_some(self.next_feed);
        let looks = Some(self.next_reload);
        let alone = [polls, looks].into_iter().flatten().min();
        (work, alone.filter(|_| !self.is_draining()))
    }

    pub(super) fn is_draining(&self) -> bool {
        self.pod.terminating.is_some()
    }

    /// Whether it was told to stop and has nothing left to do.
    pub(super) fn is_done(&self) -> bool {
        self.is_draining() && self.jobs.is_empty()
    }

    /// Does one thing that is due; whether there was one.
    pub(super) async fn act(&mut self, managers: &Managers, now: Timestamp) -> bool {
        if let Some(at) = self.jobs.iter().position(|job| job.next_at <= now) {
            self.work(managers, at, now).await;
            return true;
        }
        if self.is_draining() {
            return false;
        }
        if self.next_reload <= now {
            self.next_reload = later(now, RELOAD_INTERVAL.max(managers.rest()));
            self.reload(managers, now);
            return true;
        }
        if self.fatal.is_none() && !self.entries.is_empty() && self.next_feed <= now {
            self.feed(managers, now).await;
            return true;
        }
        false
    }

    async fn work(&mut self, managers: &Managers, at: usize, now: Timestamp) {
        let mut job = self.jobs.remove(at);
        let entry = Arc::clone(&job.entry);
        let cluster = Cluster::of(managers, &self.pod, &self.version).await;
        let hands = Hands {
            managers,
            pod: &self.pod,
            cluster: &cluster,
            gitlab: self.gitlab(managers, &entry),
            now,
        };
        job.step(&hands).await;
        if job.phase == Phase::Over {
            managers.file(&self.pod, &job, now);
        } else {
            self.jobs.insert(at, job);
        }
    }

    fn gitlab<'a>(&'a self, managers: &'a Managers, entry: &'a Entry) -> Gitlab<'a> {
        Gitlab {
            client: &managers.0.client,
            settings: &managers.0.settings,
            entry,
            version: &self.version,
            system_id: &self.system_id,
        }
    }

    /// Reads the file if it is another than before; a broken one leaves things as they are.
    fn reload(&mut self, managers: &Managers, now: Timestamp) {
        let Some(mounted) = Mounted::of(managers, &self.pod) else { return };
        if self.tried.as_ref() == Some(&mounted.secret.resource_version) {
            return;
        }
        if self.fatal.is_some() {
            // The container is started again, and again.
            self.boot(managers, now);
            return;
        }
        if let Err(why) = self.load(&mounted, now) {
            match why {
                Unusable::Fatal(_) => self.die(why),
                Unusable::Broken(text) => self.say(format!("Failed to load config {text}")),
            }
        }
    }

    fn load(&mut self, mounted: &Mounted, now: Timestamp) -> Result<(), Unusable> {
        self.tried = Some(mounted.secret.resource_version.clone());
        let Some(bytes) = mounted.config() else {
            self.say("config.toml is not there".to_owned());
            return Ok(());
        };
        let text = String::from_utf8_lossy(bytes);
        let config =
            Config::parse(&text).map_err(|error| Unusable::Broken(error.message().to_owned()))?;
        let Ok(concurrent @ 1..) = usize::try_from(config.concurrent) else {
            let text = format!("concurrent is {}, which is less than 1", config.concurrent);
            return Err(Unusable::Fatal(text));
        };
        self.concurrent = concurrent;
        self.check_interval = config.check_interval();
        self.entries.clear();
        for entry in config.runners {
            if entry.token.trim().is_empty() {
                let name = &entry.name;
                self.say(format!(
                    "Runner token is empty or whitespace; this runner will be skipped during job polling runner={name}"
                ));
            } else {
                self.entries.push(Arc::new(entry));
            }
        }
        // A reload forgets how healthy its entries were.
        let entries = &self.entries;
        self.contacts.retain(|token, _| entries.iter().any(|entry| entry.token == *token));
        for contact in self.contacts.values_mut() {
            contact.health = Health::new(now);
        }
        let step = self.feed_interval();
        self.next_feed = self.next_feed.min(later(now, step)).max(now);
        self.say(format!("Configuration loaded: {} entries", self.entries.len()));
        Ok(())
    }

    fn die(&mut self, why: Unusable) {
        let (Unusable::Fatal(text) | Unusable::Broken(text)) = why;
        self.say(format!("FATAL: Service run failed error={text}"));
        self.fatal = Some(text);
        self.entries.clear();
        // What it had in hand is lost with it; GitLab finds out by its own timeouts.
        self.jobs.clear();
    }

    /// Entries are asked one after the other, each once in a check interval.
    fn feed_interval(&self) -> SignedDuration {
        let entries = i32::try_from(self.entries.len().max(1)).unwrap_or(i32::MAX);
        (self.check_interval / entries).max(SignedDuration::from_millis(1))
    }

    async fn feed(&mut self, managers: &Managers, now: Timestamp) {
        let entry = Arc::clone(&self.entries[self.turn % self.entries.len()]);
        self.turn = (self.turn + 1) % self.entries.len();
        self.next_feed = later(now, self.feed_interval().max(managers.rest()));
        while self.has_room(&entry) && self.may_ask(&entry, now) {
            let contact = self.contact(&entry, now);
            let last_update = contact.last_update.clone();
            let polled = self.gitlab(managers, &entry).poll(last_update.as_deref()).await;
            let taken = self.take_in(&entry, polled, now);
            if !taken || entry.strict_check_interval {
                return;
            }
        }
    }

    fn has_room(&self, entry: &Entry) -> bool {
        let of_entry = self.jobs.iter().filter(|job| job.entry.token == entry.token).count();
        self.jobs.len() < self.concurrent && (entry.limit == 0 || of_entry < entry.limit)
    }

    fn may_ask(&mut self, entry: &Entry, now: Timestamp) -> bool {
        let health = &mut self.contact(entry, now).health;
        let rested = !health.is_good(entry);
        let may = health.may_ask(entry, now);
        if may && rested {
            let about = format!("{}/{}", entry.url, entry.short_token());
            self.say(format!(
                "Runner \"{about}\" is not healthy, but check for a new job will be forced!"
            ));
        }
        may
    }

    /// Notes an answer; whether it was a job.
    fn take_in(&mut self, entry: &Arc<Entry>, polled: Polled, now: Timestamp) -> bool {
        let (status, healthy) = match &polled {
            Polled::Job(_) => (Some(201), true),
            Polled::Nothing { .. } => (Some(204), true),
            Polled::Forbidden => (Some(403), false),
            Polled::Unreachable => (None, false),
            Polled::Failed(status) => (Some(*status), true),
        };
        let contact = self.contact(entry, now);
        contact.last_poll = Some((now, status));
        let rests = contact.health.record(healthy, entry, now);
        if let Polled::Nothing { last_update: Some(last_update) } = &polled {
            contact.last_update = Some(last_update.clone());
        }
        let about = entry.short_token();
        match status {
            Some(201 | 204) => {}
            Some(403) => self.say(format!("Checking for jobs... forbidden runner={about}")),
            Some(status) => {
                self.say(format!("Checking for jobs... failed runner={about} {status}"))
            }
            None => self.say(format!("Checking for jobs... no connection runner={about}")),
        }
        if rests {
            let text = format!("{}/{about}", entry.url);
            let rest = super::go_duration::print(entry.unhealthy_interval().as_secs());
            self.say(format!(
                "Runner \"{text}\" is unhealthy and will be disabled for {rest} seconds!"
            ));
        }
        let Polled::Job(body) = polled else { return false };
        let Some(payload) = Payload::new(body) else { return false };
        let project = payload.project_id();
        let used: Vec<usize> = self
            .jobs
            .iter()
            .filter(|job| job.entry.token == entry.token && job.payload.project_id() == project)
            .map(|job| job.slot)
            .collect();
        let slot = (0..).find(|slot| !used.contains(slot)).unwrap_or_default();
        self.jobs.push(Job::new(payload, Arc::clone(entry), slot, now));
        true
    }

    fn contact(&mut self, entry: &Entry, now: Timestamp) -> &mut Contact {
        let new = || Contact { health: Health::new(now), last_update: None, last_poll: None };
        self.contacts.entry(entry.token.clone()).or_insert_with(new)
    }

    fn say(&mut self, line: String) {
        if self.log.len() == LOG_LINES_MAX {
            self.log.remove(0);
        }
        self.log.push(line);
    }
}

/// Why a file was not taken.
enum Unusable {
    /// Ends the process, whenever it comes.
    Fatal(String),
    /// Ends it at the start only.
    Broken(String),
}

fn later(now: Timestamp, by: SignedDuration) -> Timestamp {
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// `^[sr]_[0-9a-zA-Z]{12}$`
fn is_system_id(text: &str) -> bool {
    let bare = text.strip_prefix("s_").or_else(|| text.strip_prefix("r_"));
    bare.is_some_and(|bare| bare.len() == 12 && bare.chars().all(|c| c.is_ascii_alphanumeric()))
}

fn made_up_id(seed: u64, pod: &ManagerPod) -> String {
    let digest = Sha256::digest(format!("{seed}/{}/{}", pod.uid, pod.started_at));
    format!("r_{}", &hex::encode(digest)[..12])
}

/// The version that an image's tag names, such as `19.4.0` in `…:alpine-v19.4.0`.
fn version_of(image: &str) -> String {
    let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
    let tag = tag.split('@').next().unwrap_or_default();
    let number = tag.rsplit(['-', 'v']).find(|part| {
        part.split('.').count() == 3 && part.chars().all(|c| c.is_ascii_digit() || c == '.')
    });
    number.unwrap_or("19.4.0").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_says_which_version_it_is() {
        let check = |image: &str, version: &str| assert_eq!(version_of(image), version, "{image}");
        check("acr.example.io/mirror/gitlab-runner:alpine-v18.2.1", "18.2.1");
        check("gitlab/gitlab-runner:v19.4.0", "19.4.0");
        check("gitlab/gitlab-runner:latest", "19.4.0");
    }

    #[test]
    fn a_system_id_has_one_shape() {
        assert!(is_system_id("s_1746f8786189") && is_system_id("r_abcdefABCDEF"));
        assert!(!is_system_id("x_1746f8786189") && !is_system_id("s_1746") && !is_system_id(""));
    }
}
