//! The Kubernetes API as a manager calls it: over HTTP, as its own service account.

use super::{Managers, place::Place, protocol::user_agent};
use crate::sandbox::kubernetes::ManagerPod;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

pub(super) struct Cluster {
    client: Client,
    /// Scheme, host and port.
    server: String,
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
        let (kubernetes, api) = match &settings.place {
            Place::Cluster { kubernetes, api } => (kubernetes, api),
            Place::Here(here) => {
                return Self {
                    client: here.client.clone(),
                    server: here.server.clone(),
                    token: here.token(),
                    agent: user_agent(version),
                };
            }
        };
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
            server: format!("http://{api}"),
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

    /// Whether a watch is let in. What it would tell is not waited for: a real server keeps it open for many minutes.
    pub(super) async fn watch(&self, path: &str) -> Result<(), Refusal> {
        let response = self.send(Method::GET, path, None).await?;
        match response.status().is_success() {
            true => Ok(()),
            false => Self::read(response, Method::GET, path).await.map(drop),
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, Refusal> {
        let response = self.send(method.clone(), path, body).await?;
        Self::read(response, method, path).await
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response, Refusal> {
        let url = format!("{}{path}", self.server);
        let mut request =
            self.client.request(method.clone(), url).header("User-Agent", &self.agent);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.header("Content-Type", "application/json").body(body.to_string());
        }
        request.send().await.map_err(|error| lost(&error, &method, path))
    }

    async fn read(response: Response, method: Method, path: &str) -> Result<Value, Refusal> {
        let status = response.status();
        let text = response.text().await.map_err(|error| lost(&error, &method, path))?;
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

/// As the program words it.
fn lost(error: &reqwest::Error, method: &Method, path: &str) -> Refusal {
    let why = if error.is_connect() { "connection refused" } else { "unexpected EOF" };
    let verb = method.as_str();
    let verb = format!("{}{}", &verb[..1], verb[1..].to_ascii_lowercase());
    let message = format!("{verb} \"https://kubernetes.default.svc{path}\": {why}");
    Refusal { status: 0, message }
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
