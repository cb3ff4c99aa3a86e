//! The real API server, called as the administrator of a kubeconfig or as whoever's token comes along.

use base64::{Engine, engine::general_purpose::STANDARD};
use kube::config::{AuthInfo, Cluster, Kubeconfig};
use reqwest::{Certificate, Client, Identity, Method, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use std::{fs, path::Path, time::Duration};

const PATIENCE: Duration = Duration::from_secs(20);
/// How the sandbox names itself to the server; an audit log tells its calls from forerunner's by it.
const AGENT: &str = "sandbox-administrator";

/// Why a kubeconfig cannot be used, or its cluster.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("{file} is no kubeconfig that can be used: {reason}")]
    Kubeconfig { file: String, reason: String },
    #[error("the API server refuses its administrator: {message}")]
    Refused { message: String },
}

/// What the server, or the way to it, refused.
#[derive(Debug)]
pub struct Refusal {
    /// 0 where there was no answer.
    pub status: u16,
    pub message: String,
}

pub(super) struct Server {
    /// Without a slash at its end.
    url: String,
    /// Without a certificate of its own: calls as whoever's token is put in.
    pub(super) anyone: Client,
    administrator: Client,
    token: Option<SecretString>,
}

impl Server {
    pub(super) fn open(file: &Path) -> Result<Self, Unusable> {
        let unusable =
            |reason: String| Unusable::Kubeconfig { file: file.display().to_string(), reason };
        let config = Kubeconfig::read_from(file).map_err(|error| unusable(error.to_string()))?;
        let (cluster, user) = current(&config).map_err(unusable)?;
        let missing = "its cluster has no server";
        let url = cluster.server.as_deref().ok_or_else(|| unusable(missing.to_owned()))?;
        let authority = bytes(
            cluster.certificate_authority_data.as_deref(),
            cluster.certificate_authority.as_deref(),
        );
        let authority = authority.map_err(unusable)?;
        let client = |identity: Option<Identity>| {
            let roots = match &authority {
                Some(pem) => Certificate::from_pem_bundle(pem)?,
                None => Vec::new(),
            };
            let mut builder = Client::builder().no_proxy().timeout(PATIENCE).user_agent(AGENT);
            builder = match roots.is_empty() {
                true => builder,
                false => builder.tls_certs_only(roots),
            };
            if let Some(identity) = identity {
                builder = builder.identity(identity);
            }
            builder.build()
        };
        // Whoever was first has chosen the same: the package has one TLS provider.
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let failed = |error: reqwest::Error| unusable(error.to_string());
        let identity = identity(&user).map_err(unusable)?;
        let token = match (&user.token, &user.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(file)) => {
                let text = fs::read_to_string(file);
                Some(text.map_err(|error| unusable(error.to_string()))?.trim().into())
            }
            (None, None) => None,
        };
        if token.is_none() && identity.is_none() {
            return Err(unusable(
                "its user has neither a token nor a client certificate; `kubectl create token` makes one".to_owned(),
            ));
        }
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            anyone: client(None).map_err(failed)?,
            administrator: client(identity).map_err(failed)?,
            token,
        })
    }

    pub(super) fn url(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.url)
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Refusal> {
        self.call(Method::GET, path, "application/json", None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        self.call(Method::POST, path, "application/json", Some(body)).await
    }

    pub(super) async fn merge(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        self.call(Method::PATCH, path, "application/merge-patch+json", Some(body)).await
    }

    /// Creates as somebody else, which an administrator may.
    pub(super) async fn create_as(
        &self,
        user: &str,
        path: &str,
        body: &Value,
    ) -> Result<Value, Refusal> {
        let request = self.request(Method::POST, path).header("Impersonate-User", user);
        let request = request.header("Content-Type", "application/json").body(body.to_string());
        read(request).await
    }

    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Option<&Value>,
    ) -> Result<Value, Refusal> {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.header("Content-Type", content_type).body(body.to_string());
        }
        read(request).await
    }

    /// As an administrator.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.administrator.request(method, self.url(path));
        match &self.token {
            Some(token) => request.bearer_auth(token.expose_secret()),
            None => request,
        }
    }
}

async fn read(request: RequestBuilder) -> Result<Value, Refusal> {
    let lost = |error: reqwest::Error| Refusal { status: 0, message: error.to_string() };
    let response = request.send().await.map_err(lost)?;
    let status = response.status();
    let text = response.text().await.map_err(lost)?;
    let body: Value = serde_json::from_str(&text).unwrap_or_default();
    if status.is_success() {
        return Ok(body);
    }
    let message = body["message"].as_str().unwrap_or(&text).to_owned();
    Err(Refusal { status: status.as_u16(), message })
}

/// Cluster and user of the current context.
fn current(config: &Kubeconfig) -> Result<(Cluster, AuthInfo), String> {
    let name = config.current_context.as_deref().ok_or("it has no current context")?;
    let context = config.contexts.iter().find(|one| one.name == name);
    let context = context.and_then(|one| one.context.as_ref());
    let context = context.ok_or_else(|| format!("its current context `{name}` is missing"))?;
    let cluster = config.clusters.iter().find(|one| one.name == context.cluster);
    let cluster = cluster.and_then(|one| one.cluster.clone());
    let cluster = cluster.ok_or_else(|| format!("its cluster `{}` is missing", context.cluster))?;
    let user = context.user.as_deref().unwrap_or_default();
    let user = config.auth_infos.iter().find(|one| one.name == user);
    let user = user.and_then(|one| one.auth_info.clone());
    Ok((cluster, user.ok_or("the user of its current context is missing")?))
}

fn identity(user: &AuthInfo) -> Result<Option<Identity>, String> {
    let certificate =
        bytes(user.client_certificate_data.as_deref(), user.client_certificate.as_deref())?;
    let key = user.client_key_data.as_ref().map(|data| data.expose_secret());
    let key = bytes(key, user.client_key.as_deref())?;
    let (Some(mut pem), Some(key)) = (certificate, key) else { return Ok(None) };
    pem.push(b'\n');
    pem.extend(key);
    Identity::from_pem(&pem).map(Some).map_err(|error| error.to_string())
}

/// Base64 in the file itself, or a file beside it.
fn bytes(data: Option<&str>, file: Option<&str>) -> Result<Option<Vec<u8>>, String> {
    match (data, file) {
        (Some(data), _) => STANDARD.decode(data).map(Some).map_err(|error| error.to_string()),
        (None, Some(file)) => {
            fs::read(file).map(Some).map_err(|error| format!("{file} cannot be read: {error}"))
        }
        (None, None) => Ok(None),
    }
}
