//! A real API server in the place of ours: calls go through to it, and what its cluster lacks is played, the node and
//! the workload-identity webhook above all.

mod account;
mod mirror;
mod node;
mod proxy;
mod server;

pub(in crate::sandbox) use account::kubeconfig;
pub use server::{Refusal, Unusable};

use super::{Kubernetes, Settings, store::State};
use crate::clock::Clock;
use axum::Router;
use jiff::Timestamp;
use serde_json::{Value, json};
use server::Server;
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// A real cluster, as far as one fleet's namespaces are concerned, known by an administrator's kubeconfig.
pub(super) struct Real {
    server: Server,
    /// No node was there: we are the one there is.
    plays_node: bool,
    /// Nobody else gives pods the variables of workload identity.
    plays_webhook: bool,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Pods whose process has ended, by uid.
    exited: BTreeSet<String>,
    /// The state of the cluster, as versions, that did not settle while we waited.
    given_up: Option<u64>,
    /// The last thing that the server refused us.
    trouble: Option<String>,
}

/// How long controllers get between two things they do.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(15);

impl Kubernetes {
    /// The cluster of a kubeconfig's current context, whose user must be an administrator.
    ///
    /// Errors: a kubeconfig we cannot use, and a server that does not answer or refuses its administrator.
    pub async fn real(
        clock: Clock,
        settings: Settings,
        kubeconfig: &Path,
    ) -> Result<Self, Unusable> {
        let server = Server::open(kubeconfig)?;
        let refused = |refusal: Refusal| Unusable::Refused { message: refusal.message };
        let issuer = server.get("/.well-known/openid-configuration").await.map_err(refused)?;
        let issuer = issuer["issuer"].as_str().unwrap_or_default().to_owned();
        let nodes = server.get("/api/v1/nodes").await.map_err(refused)?;
        let mut nodes = nodes["items"].as_array().into_iter().flatten();
        let plays_node = nodes.all(|node| node["metadata"]["name"] == node::NODE);
        let plays_webhook = plays_webhook(&server).await.map_err(refused)?;
        let real = Real { server, plays_node, plays_webhook, seen: Mutex::default() };
        if plays_node {
            node::join(&real.server, clock.now()).await.map_err(refused)?;
        }
        let state = State::new(Settings { issuer, ..settings });
        Ok(Self { clock, state: Arc::new(Mutex::new(state)), real: Some(Arc::new(real)) })
    }

    /// What a real server refused us last: then what the sandbox shows of it may be old.
    pub fn trouble(&self) -> Option<String> {
        self.real.as_ref()?.seen().trouble.clone()
    }
}

/// Marks the webhook configuration that stands for ours.
const PLAYED: &str = "forerunner.dev/sandbox";

/// Where nobody installed the webhook we play it, and the cluster shows one, as every cluster with workload identity does.
async fn plays_webhook(server: &Server) -> Result<bool, Refusal> {
    let webhooks = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    match server.get(&format!("{webhooks}/{}", super::WEBHOOK)).await {
        Ok(found) => Ok(found["metadata"]["labels"][PLAYED] == "played"),
        Err(refusal) if refusal.status == 404 => {
            let configuration = json!({
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "MutatingWebhookConfiguration",
                "metadata": {"name": super::WEBHOOK, "labels": {PLAYED: "played"}},
                "webhooks": [],
            });
            match server.post(webhooks, &configuration).await {
                Err(refusal) if refusal.status != 409 => Err(refusal),
                Ok(_) | Err(_) => Ok(true),
            }
        }
        Err(refusal) => Err(refusal),
    }
}

impl Real {
    pub(super) fn router(self: &Arc<Self>, kubernetes: &Kubernetes) -> Router {
        proxy::router(self.clone(), kubernetes.clone())
    }

    pub(super) fn pod_exited(&self, uid: &str) {
        self.seen().exited.insert(uid.to_owned());
    }

    /// Where the cluster has nodes of its own, its kubelets run what is in pods.
    pub(super) fn plays_node(&self) -> bool {
        self.plays_node
    }

    /// A token from the server's own TokenRequest API, bound to the pod.
    pub(super) async fn token(
        &self,
        namespace: &str,
        account: &str,
        audience: &str,
        pod: Option<(&str, Value)>,
    ) -> Option<String> {
        let mut request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": [audience], "expirationSeconds": 3600},
        });
        if let Some((name, pod)) = pod {
            request["spec"]["boundObjectRef"] = json!({
                "apiVersion": "v1", "kind": "Pod", "name": name, "uid": pod["metadata"]["uid"],
            });
        }
        let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
        match self.server.post(&path, &request).await {
            Ok(made) => made["status"]["token"].as_str().map(str::to_owned),
            Err(refusal) => {
                self.seen().trouble = Some(refusal.message);
                None
            }
        }
    }

    /// Looks at the cluster and does a node's part, until its controllers come to rest; whether anything changed.
    ///
    /// Controllers work at their own pace while the sandbox's clock leaps: it waits for them here.
    pub(super) async fn act(&self, kubernetes: &Kubernetes, now: Timestamp) -> bool {
        let mut changed = false;
        let mut last_change = Instant::now();
        loop {
            let look = match mirror::look(self, kubernetes, now).await {
                Ok(look) => look,
                Err(refusal) => {
                    self.seen().trouble = Some(refusal.message);
                    return changed;
                }
            };
            if look.changed {
                (changed, last_change) = (true, Instant::now());
            }
            if !look.busy || self.gives_up(look.versions, last_change.elapsed() > PATIENCE) {
                return changed;
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "a real cluster's controllers work at their own pace"
            )]
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether waiting longer is in vain, now or already before the cluster looked like this.
    fn gives_up(&self, versions: u64, waited: bool) -> bool {
        let mut seen = self.seen();
        seen.trouble = None;
        if waited {
            seen.given_up = Some(versions);
        }
        seen.given_up == Some(versions)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
