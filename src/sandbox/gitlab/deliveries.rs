//! The queue of deliveries, and what GitLab does by itself when its time has come.

use super::{
    Gitlab,
    hooks::Hook,
    signature,
    state::{Chore, State},
};
use crate::sandbox::actor::{Actor, Due};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use rand::Rng;
use secrecy::ExposeSecret;
use serde::Serialize;
use uuid::Uuid;

/// What befalls deliveries on their way. All zero: each arrives once, in order, at once.
#[derive(Clone, Debug, Default)]
pub struct Mischief {
    pub delay: SignedDuration,
    /// Each delivery waits up to this much longer, so later ones overtake earlier ones.
    pub disorder: SignedDuration,
    pub loss_percent: u8,
    pub duplicate_percent: u8,
}

/// A delivery that was tried, or lost.
#[derive(Clone, Debug, Serialize)]
pub struct Delivery {
    pub at: Timestamp,
    pub hook: u64,
    pub event: String,
    pub body: serde_json::Value,
    pub idempotency_key: Uuid,
    pub outcome: Outcome,
}

/// How it went; every outcome is final, GitLab does not try again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The receiver's status.
    Answered(u16),
    /// No answer: no connection, or none in time.
    Failed(String),
    /// Never sent.
    Lost,
}

/// A delivery that waits in the queue.
#[derive(Clone, Debug)]
pub(super) struct Outgoing {
    pub(super) at: Timestamp,
    pub(super) hook: u64,
    pub(super) event: String,
    pub(super) body: String,
    pub(super) idempotency_key: Uuid,
    /// The `X-Gitlab-Event-UUID`.
    pub(super) chain: Uuid,
}

/// One request, ready to leave.
pub(super) struct Attempt {
    url: String,
    headers: HeaderMap,
    body: String,
}

impl Gitlab {
    /// Every delivery so far, in the order in which they were tried.
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.lock().deliveries.clone()
    }

    pub fn set_mischief(&self, mischief: Mischief) {
        self.lock().settings.mischief = mischief;
    }

    /// What comes of posting it, right now.
    pub(super) async fn send(&self, attempt: Attempt) -> Outcome {
        let request = self.0.client.post(&attempt.url).headers(attempt.headers).body(attempt.body);
        match request.send().await {
            Ok(response) => Outcome::Answered(response.status().as_u16()),
            Err(error) if error.is_timeout() => Outcome::Failed("timeout".to_owned()),
            Err(_) => Outcome::Failed("no connection".to_owned()),
        }
    }

    async fn deliver(&self, outgoing: Outgoing) {
        let attempt = {
            let mut state = self.lock();
            let percent = state.settings.mischief.loss_percent;
            let lost = state.happens(percent);
            let hook = state.hooks.get(&outgoing.hook).cloned();
            match hook {
                Some(hook) if !lost => Some(state.attempt(&hook, &outgoing)),
                Some(_) | None => None,
            }
        };
        let outcome = match attempt {
            Some(attempt) => self.send(attempt).await,
            None => Outcome::Lost,
        };
        self.lock().log(outgoing, outcome);
    }
}

impl Actor for Gitlab {
    fn act(&self, now: Timestamp) -> BoxFuture<'_, bool> {
        Box::pin(async move {
            let (worked, due) = {
                let mut state = self.lock();
                (state.do_chores(now), state.take_due(now))
            };
            let busy = worked || !due.is_empty();
            for outgoing in due {
                self.deliver(outgoing).await;
            }
            busy
        })
    }

    /// Work as long as any is queued; the end of a retention keeps nobody waiting.
    fn due(&self) -> Option<Due> {
        let state = self.lock();
        let sending = state.outbox.iter().map(|outgoing| outgoing.at);
        let moving = state.tasks.iter().filter(|task| matches!(task.what, Chore::MoveGroup { .. }));
        let work = sending.chain(moving.map(|task| task.at)).min();
        let background = state.tasks.iter().map(|task| task.at).min();
        work.map(Due::Work).or(background.map(Due::Background))
    }
}

impl State {
    pub(super) fn delivery_time(&mut self) -> Timestamp {
        let mischief = self.settings.mischief.clone();
        let disorder = i64::try_from(mischief.disorder.as_millis()).unwrap_or(0);
        let more = if disorder > 0 { self.chance.random_range(0..=disorder) } else { 0 };
        let wait = mischief.delay.saturating_add(SignedDuration::from_millis(more));
        self.now.saturating_add(wait).unwrap_or(Timestamp::MAX)
    }

    /// Takes what is due out of the queue, in the order of its time; equal times in the order queued.
    fn take_due(&mut self, now: Timestamp) -> Vec<Outgoing> {
        let (mut due, later): (Vec<_>, Vec<_>) =
            self.outbox.drain(..).partition(|outgoing| outgoing.at <= now);
        self.outbox = later;
        due.sort_by_key(|outgoing| outgoing.at);
        due
    }

    /// Whether anything was due.
    fn do_chores(&mut self, now: Timestamp) -> bool {
        let (due, later): (Vec<_>, Vec<_>) = self.tasks.drain(..).partition(|task| task.at <= now);
        self.tasks = later;
        for task in &due {
            match task.what {
                Chore::MoveGroup { group, parent } => self.move_group(group, parent),
                Chore::DestroyGroup { group } => self.destroy_group(group),
                Chore::DestroyProject { project } => self.destroy_project(project),
            }
        }
        !due.is_empty()
    }

    pub(super) fn log(&mut self, outgoing: Outgoing, outcome: Outcome) {
        let delivery = Delivery {
            at: self.now,
            hook: outgoing.hook,
            event: outgoing.event,
            body: serde_json::from_str(&outgoing.body).unwrap_or_default(),
            idempotency_key: outgoing.idempotency_key,
            outcome,
        };
        self.deliveries.push(delivery);
    }

    /// The request as this version makes it; the ids of the attempt and the timestamp are new each time.
    pub(super) fn attempt(&mut self, hook: &Hook, outgoing: &Outgoing) -> Attempt {
        let version = self.settings.version;
        let key = outgoing.idempotency_key.to_string();
        let timestamp = self.now.as_second().to_string();
        let mut headers = HeaderMap::new();
        for (name, value) in &hook.custom_headers {
            put(&mut headers, name, value);
        }
        put(&mut headers, "content-type", "application/json");
        put(&mut headers, "user-agent", &format!("GitLab/{}", version.number()));
        put(&mut headers, "x-gitlab-event", "System Hook");
        put(&mut headers, "x-gitlab-instance", &self.settings.external_url);
        put(&mut headers, "x-gitlab-webhook-uuid", &self.uuid().to_string());
        put(&mut headers, "x-gitlab-event-uuid", &outgoing.chain.to_string());
        if version.is_from(17, 4) {
            put(&mut headers, "idempotency-key", &key);
        }
        if let Some(token) = &hook.token {
            put(&mut headers, "x-gitlab-token", token.expose_secret());
        }
        if version.is_from(19, 0) {
            put(&mut headers, "webhook-id", &key);
            put(&mut headers, "webhook-timestamp", &timestamp);
            let signing_key = hook.signing_token.as_ref().map(ExposeSecret::expose_secret);
            if let Some(signing_key) = signing_key.and_then(signature::key) {
                let body = outgoing.body.as_bytes();
                let signature = signature::sign(&signing_key, &key, &timestamp, body);
                put(&mut headers, "webhook-signature", &signature);
            }
        }
        Attempt { url: hook.url.clone(), headers, body: outgoing.body.clone() }
    }
}

fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    let name = HeaderName::from_bytes(name.as_bytes());
    if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}
