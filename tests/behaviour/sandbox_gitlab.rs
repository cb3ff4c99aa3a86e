//! The sandbox's GitLab, asked over HTTP as anybody would ask it.

#![expect(clippy::unwrap_used, reason = "where a helper fails, its test fails")]

mod access;
mod groups;
mod hooks;
mod jobs;
mod lists;
mod runners;
mod tokens;

use super::descriptions::{self, Watched};
use forerunner::{
    clock::Clock,
    sandbox::{
        actor::{self, Actor},
        gitlab::{Gitlab, Settings},
        wire::{Server, Service, Wire},
    },
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// One instance with its server, and somebody who calls it.
struct World {
    gitlab: Gitlab,
    clock: Clock,
    server: Server,
    wire: Wire,
    client: reqwest::Client,
    _watched: Watched,
}

/// What came back.
struct Answer {
    status: u16,
    headers: reqwest::header::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The body, once the status is as expected.
    #[track_caller]
    fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    #[track_caller]
    fn refuses(self, status: u16, body: Value) {
        assert_eq!((self.status, self.json()), (status, body));
    }
}

impl World {
    async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    async fn with(settings: Settings) -> Self {
        let clock = Clock::frozen("2026-11-24T06:00:00Z".parse().unwrap());
        let wire = Wire::new(clock.clone());
        let gitlab = Gitlab::new(clock.clone(), settings);
        let server = wire.serve(Service::Gitlab, None, gitlab.router()).await.unwrap();
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let watched = descriptions::watch(&wire);
        Self { gitlab, clock, server, wire, client, _watched: watched }
    }

    async fn call(&self, token: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let url = format!("http://{}/api/{path}", self.server.address);
        let mut request = self.client.request(method.parse().unwrap(), url);
        if !token.is_empty() {
            request = request.header("PRIVATE-TOKEN", token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        Self::read(request).await
    }

    async fn read(request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    /// As the administrator.
    async fn get(&self, path: &str) -> Answer {
        self.call(&self.gitlab.admin_token(), "GET", &format!("v4/{path}"), None).await
    }

    async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        let token = self.gitlab.admin_token();
        self.call(&token, method, &format!("v4/{path}"), Some(body)).await
    }

    /// With no credential but what is in the body.
    async fn bare(&self, method: &str, path: &str, body: Value) -> Answer {
        self.call("", method, &format!("v4/{path}"), Some(body)).await
    }

    async fn create_group_runner(&self, group: u64) -> (u64, String) {
        let body = json!({ "runner_type": "group_type", "group_id": group });
        let made = self.send("POST", "user/runners", body).await.expect(201);
        (made["id"].as_u64().unwrap(), made["token"].as_str().unwrap().to_owned())
    }

    async fn poll(&self, token: &str, system_id: &str) -> Answer {
        let body = json!({
            "token": token,
            "system_id": system_id,
            "info": { "name": "gitlab-runner", "version": "19.4.0", "platform": "linux" },
        });
        self.bare("POST", "jobs/request", body).await
    }

    fn turn(&self, by: SignedDuration) {
        self.clock.turn_to(self.clock.now() + by);
    }

    /// Lets GitLab do all that is due now.
    async fn settle(&self) {
        let actors: Vec<Box<dyn Actor>> = vec![Box::new(self.gitlab.clone())];
        actor::exhaust(&actors, &self.clock).await;
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

/// The ids in an array of objects.
fn ids(list: &Value) -> Vec<u64> {
    list.as_array().unwrap().iter().map(|each| each["id"].as_u64().unwrap()).collect()
}

/// The names of an object's members.
fn members(object: &Value) -> std::collections::BTreeSet<String> {
    object.as_object().unwrap().keys().cloned().collect()
}
