//! The workload-identity webhook, played for the real API server: it calls us by https for each new pod with the label,
//! whoever makes it.

use crate::tls::certified;
use axum::body::{Body, to_bytes};
use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{convert::Infallible, sync::Arc};
use tokio::{net::TcpListener, task::JoinHandle};

const DIRECTORY: &str = "/var/run/secrets/azure/wi";
const FILE: &str = "token/azure-identity-token";
const VOLUME: &str = "azure-workload-identity-reserved-000000000000000000000000000000";
const BODY_BYTES_MAX: usize = 4 << 20;

/// Answers until it is dropped.
pub(super) struct Webhook(JoinHandle<()>);

impl Webhook {
    /// `account` is the service account of every pod. Also: the object that makes the API server call it.
    pub(super) async fn start(account: &Value) -> (Self, Value) {
        let certified = certified("127.0.0.1");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://127.0.0.1:{}/", listener.local_addr().unwrap().port());
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "workload-identity"},
            "webhooks": [{
                "name": "workload-identity.forerunner.test",
                "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Fail",
                "clientConfig": {"url": url, "caBundle": BASE64_STANDARD.encode(&certified.pem)},
                "objectSelector": {"matchLabels": {"azure.workload.identity/use": "true"}},
                "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                    "resources": ["pods"]}],
            }],
        });
        let acceptor = certified.acceptor(&[]);
        let variables = variables(account);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, variables) = (acceptor.clone(), Arc::clone(&variables));
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let answer = service_fn(move |request| answer(request, Arc::clone(&variables)));
                    let server = hyper::server::conn::http1::Builder::new();
                    let _ended = server.serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        (Self(task), configuration)
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// As a container has them.
fn variables(account: &Value) -> Arc<Vec<Value>> {
    let annotation = |name: &str| {
        account["metadata"]["annotations"][format!("azure.workload.identity/{name}")].clone()
    };
    let values = [
        ("AZURE_CLIENT_ID", annotation("client-id")),
        ("AZURE_TENANT_ID", annotation("tenant-id")),
        ("AZURE_FEDERATED_TOKEN_FILE", format!("{DIRECTORY}/{FILE}").into()),
        ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/".into()),
    ];
    Arc::new(values.map(|(name, value)| json!({"name": name, "value": value})).into())
}

async fn answer(
    request: Request<Incoming>,
    variables: Arc<Vec<Value>>,
) -> Result<Response<Body>, Infallible> {
    let body = to_bytes(Body::new(request.into_body()), BODY_BYTES_MAX).await.unwrap();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let mut pod = review["request"]["object"].clone();
    give(&mut pod, &variables);
    let patch = json!([{"op": "replace", "path": "/spec", "value": pod["spec"]}]);
    let answer = json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {
            "uid": review["request"]["uid"], "allowed": true,
            "patchType": "JSONPatch", "patch": BASE64_STANDARD.encode(patch.to_string()),
        },
    });
    let response = Response::builder().header("Content-Type", "application/json");
    Ok(response.body(Body::from(answer.to_string())).unwrap())
}

/// To every container that the pod does not want skipped.
fn give(pod: &mut Value, variables: &[Value]) {
    let skip = "azure.workload.identity/skip-containers";
    let skipped = pod["metadata"]["annotations"][skip].as_str().unwrap_or_default().to_owned();
    let spec = &mut pod["spec"];
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            if skipped.split(';').any(|name| container["name"] == *name) {
                continue;
            }
            for variable in variables {
                push(&mut container["env"], variable.clone());
            }
            let mount = json!({"name": VOLUME, "mountPath": DIRECTORY, "readOnly": true});
            push(&mut container["volumeMounts"], mount);
        }
    }
    let token = json!({
        "audience": "api://AzureADTokenExchange", "expirationSeconds": 3600, "path": FILE,
    });
    let volume =
        json!({"name": VOLUME, "projected": {"sources": [{"serviceAccountToken": token}]}});
    push(&mut spec["volumes"], volume);
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(items) => items.push(item),
        None => *list = json!([item]),
    }
}
