//! The Kubernetes API as a manager calls it: over HTTP, as its own service account.

use super::{Managers, protocol::user_agent};
use crate::sandbox::kubernetes::ManagerPod;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use std::net::SocketAddr;

pub(super) struct Cluster {
    client: Client,
    address: SocketAddr,
    /// Missing where the pod has no token.
    token: Option<String>,
    agent: String,
}

/// What the server, or the way to it, refused.
#[derive(Debug)]
pub(super) struct Refusal {
    /// 0 where there was no answer.
    pub(super) status: u16,
    pub(super) message: String,
}

impl Cluster {
    /// As the process in this pod sees it, with the token that is in the pod now.
    pub(super) async fn of(managers: &Managers, pod: &ManagerPod, version: &str) -> Self {
        let settings = &managers.0.settings;
        let kubernetes = &settings.kubernetes;
        let spec = kubernetes.get("pods", &pod.namespace, &pod.name).unwrap_or_default();
        let account = kubernetes.get("serviceaccounts", &pod.namespace, &pod.service_account);
        let mounted = mounts_token(&spec["spec"], &account.unwrap_or_default());
        let token = match mounted {
            true => {
                let issuer = kubernetes.issuer();
                let (namespace, account) = (&pod.namespace, &pod.service_account);
                let bound = Some(pod.name.as_str());
                kubernetes.service_account_token(namespace, account, &issuer, bound).await
            }
            false => None,
        };
        Self {
            client: managers.0.client.clone(),
            address: settings.kubernetes_api,
            token,
            agent: user_agent(version),
        }
    }

    pub(super) async fn get(&self, path: &str) -> Result<Value, Refusal> {
        self.call(Method::GET, path, None).await
    }

    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, Refusal> {
        self.call(Method::POST, path, Some(body)).await
    }

    pub(super) async fn delete(&self, path: &str, options: &Value) -> Result<Value, Refusal> {
        self.call(Method::DELETE, path, Some(options)).await
    }

    /// Whether the server says that we may; an error where it does not even say that.
    pub(super) async fn may(
        &self,
        namespace: &str,
        verb: &str,
        resource: &str,
    ) -> Result<bool, Refusal> {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "namespace": namespace, "verb": verb, "resource": resource,
            }},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        Ok(self.post(path, &review).await?["status"]["allowed"] == true)
    }

    /// Opens a stream to a pod, as far as this server goes: it has no streams, so past authorization it knows no
    /// such path. That answer is the success here.
    pub(super) async fn connect(&self, pod: &str, kind: &str) -> Result<(), Refusal> {
        match self.post(&format!("{pod}/{kind}"), &json!({})).await {
            Ok(_) => Ok(()),
            // A real server wants the connection upgraded, and a kubelet behind it.
            Err(refusal) if matches!(refusal.status, 400 | 404 | 500) => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Refusal> {
        let url = format!("http://{}{path}", self.address);
        let mut request =
            self.client.request(method.clone(), url).header("User-Agent", &self.agent);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        let lost = |error: reqwest::Error| {
            let why = if error.is_connect() { "connection refused" } else { "unexpected EOF" };
            let verb = method.as_str();
            let verb = format!("{}{}", &verb[..1], verb[1..].to_ascii_lowercase());
            let message = format!("{verb} \"https://kubernetes.default.svc{path}\": {why}");
            Refusal { status: 0, message }
        };
        let response = request.send().await.map_err(lost)?;
        let status = response.status();
        let text = response.text().await.map_err(lost)?;
        let body: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(body);
        }
        let message = match (status.as_u16(), body["message"].as_str()) {
            (401, _) => "the server has asked for the client to provide credentials".to_owned(),
            (_, Some(message)) => message.to_owned(),
            (status, None) => format!("the server answered {status}"),
        };
        Err(Refusal { status: status.as_u16(), message })
    }
}

/// Whether the pod has a token for the API: mounted by itself, or by a volume of its own.
fn mounts_token(spec: &Value, account: &Value) -> bool {
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    let mut sources =
        volumes.flat_map(|volume| volume["projected"]["sources"].as_array().into_iter().flatten());
    let automatic = spec["automountServiceAccountToken"]
        .as_bool()
        .or_else(|| account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true);
    automatic || sources.any(|source| source["serviceAccountToken"].is_object())
}
