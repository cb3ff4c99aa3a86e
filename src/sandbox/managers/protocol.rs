//! What a manager says to GitLab, and nothing else (runner-observed.md §8).

use super::{ManagersSettings, config_file::Entry};
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// GitLab as one entry of one process sees it.
pub(super) struct Gitlab<'a> {
    pub(super) client: &'a Client,
    pub(super) settings: &'a ManagersSettings,
    pub(super) entry: &'a Entry,
    /// Of gitlab-runner.
    pub(super) version: &'a str,
    pub(super) system_id: &'a str,
}

/// What came of asking for a job.
pub(super) enum Polled {
    Job(Value),
    Nothing {
        last_update: Option<String>,
    },
    Forbidden,
    /// No connection, or a url that leads nowhere.
    Unreachable,
    Failed(u16),
}

/// What GitLab says about a job that somebody has in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    GoOn,
    /// Somebody asked for its end.
    Cancelling,
    /// It is no longer ours.
    Gone,
    /// Nothing was heard.
    Unheard,
}

/// Commit of the gitlab-runner that it plays.
pub(super) const REVISION: &str = "fc1f1862";

const FEATURES: [&str; 31] = [
    "variables",
    "image",
    "services",
    "artifacts",
    "cache",
    "fallback_cache_keys",
    "shared",
    "upload_multiple_artifacts",
    "upload_raw_artifacts",
    "session",
    "terminal",
    "refspecs",
    "masking",
    "proxy",
    "raw_variables",
    "artifacts_exclude",
    "multi_build_steps",
    "trace_reset",
    "trace_checksum",
    "trace_size",
    "vault_secrets",
    "cancelable",
    "return_exit_code",
    "service_variables",
    "service_multiple_aliases",
    "image_executor_opts",
    "service_executor_opts",
    "cancel_gracefully",
    "native_steps_integration",
    "two_phase_job_commit",
    "job_inputs",
];

/// What the others have that the Kubernetes executor has not.
const MISSING: [&str; 2] = ["shared", "service_executor_opts"];

/// As the program names itself to every server.
pub(super) fn user_agent(version: &str) -> String {
    format!("gitlab-runner {version} (stable; go; linux/amd64)")
}

impl Gitlab<'_> {
    /// `POST /api/v4/jobs/request`
    pub(super) async fn poll(&self, last_update: Option<&str>) -> Polled {
        let mut body = json!({
            "token": self.entry.token,
            "system_id": self.system_id,
            "info": self.info(),
        });
        if let Some(last_update) = last_update {
            body["last_update"] = last_update.into();
        }
        let headers = [("Runner-Token", self.entry.token.as_str())];
        let payload = body.to_string().into_bytes();
        let sent = self.send(Method::POST, "jobs/request", &headers, payload).await;
        let Some(response) = sent else { return Polled::Unreachable };
        match response.status().as_u16() {
            201 => response.json().await.map_or(Polled::Unreachable, Polled::Job),
            204 => Polled::Nothing { last_update: header(&response, "x-gitlab-last-update") },
            403 => Polled::Forbidden,
            status => Polled::Failed(status),
        }
    }

    /// `PUT /api/v4/jobs/ID` with `state` and whatever belongs to it.
    pub(super) async fn update(&self, id: u64, token: &str, mut fields: Value) -> Standing {
        fields["token"] = token.into();
        fields["info"] = self.info();
        if fields["output"].is_null() {
            fields["output"] = json!({});
        }
        let headers = [("Job-Token", token)];
        let body = fields.to_string().into_bytes();
        standing(self.send(Method::PUT, &format!("jobs/{id}"), &headers, body).await)
    }

    /// `PATCH /api/v4/jobs/ID/trace` with what follows the first `offset` bytes.
    pub(super) async fn append(
        &self,
        id: u64,
        token: &str,
        offset: usize,
        text: &[u8],
    ) -> Standing {
        let range = format!("{offset}-{}", offset + text.len().saturating_sub(1));
        let headers =
            [("Job-Token", token), ("Content-Range", &range), ("Content-Type", "text/plain")];
        let path = format!("jobs/{id}/trace?debug_trace=false");
        standing(self.send(Method::PATCH, &path, &headers, text.to_vec()).await)
    }

    fn info(&self) -> Value {
        let mut features = json!({});
        for feature in FEATURES {
            features[feature] = (!MISSING.contains(&feature)).into();
        }
        json!({
            "name": "gitlab-runner",
            "version": self.version,
            "revision": REVISION,
            "platform": "linux",
            "architecture": "amd64",
            "executor": "kubernetes",
            "shell": "bash",
            "features": features,
            "config": {"gpus": ""},
        })
    }

    /// All that it knows of GitLab's address is the entry's `url`; its host is played on this machine.
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Option<Response> {
        let url = url::Url::parse(&self.entry.url).ok()?;
        let host = url.host_str()?;
        if !host.eq_ignore_ascii_case(&self.settings.gitlab_host) {
            return None;
        }
        let at = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let root = url.path().trim_end_matches('/');
        let target = format!("http://{}{root}/api/v4/{path}", self.settings.gitlab);
        let mut request = self
            .client
            .request(method, target)
            .header("Host", at)
            .header("User-Agent", user_agent(self.version))
            .header("Accept", "application/json")
            .header("X-Request-Id", self.request_id(path, &body));
        if !headers.iter().any(|(name, _)| *name == "Content-Type") {
            request = request.header("Content-Type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(body).send().await.ok()
    }

    /// 32 hex digits that are the same in the next run of the same world.
    fn request_id(&self, path: &str, body: &[u8]) -> String {
        let now = self.settings.clock.now().as_millisecond().to_string();
        let mut hash = Sha256::new();
        for part in [path.as_bytes(), body, now.as_bytes(), self.system_id.as_bytes()] {
            hash.update(part);
        }
        hex::encode(&hash.finalize()[..16])
    }
}

fn header(response: &Response, name: &str) -> Option<String> {
    response.headers().get(name)?.to_str().ok().map(str::to_owned)
}

fn standing(response: Option<Response>) -> Standing {
    let Some(response) = response else { return Standing::Unheard };
    let status = response.status();
    if status.is_server_error() || status.as_u16() == 429 {
        return Standing::Unheard;
    }
    match header(&response, "job-status").as_deref() {
        _ if !status.is_success() => Standing::Gone,
        Some("canceling") => Standing::Cancelling,
        Some("canceled" | "failed") => Standing::Gone,
        Some(_) | None => Standing::GoOn,
    }
}
