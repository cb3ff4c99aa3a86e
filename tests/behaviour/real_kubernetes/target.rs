//! The two servers that the suite runs against: the sandbox's, and a real one where there is one.

use super::cluster::{Cluster, USER, answer, cluster};
use axum::body::Bytes;
use forerunner::{
    adapters::{
        http::{Http, HttpSettings, Loopback},
        kubernetes::{Access, Kubernetes},
    },
    clock::Clock,
    domain::{
        ids::FleetName,
        render::administrator::{AdministratorInput, administrator},
    },
    sandbox::{
        actor::Actor,
        kubernetes::{self as played, Confinement, User},
        wire::{Server, Service, Wire},
    },
};
use http_body_util::StreamBody;
use hyper::body::Frame;
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::{convert::Infallible, path::Path, time::Duration};
use tokio::sync::OnceCell;

const HOST: &str = "api.example.com";
const FORERUNNER: &str = "made-up-forerunner";
const ADMINISTRATOR: &str = "made-up-administrator";
pub(crate) const MANAGERS: &str = "forerunner-nonprod";
pub(crate) const FLEET: (&str, &str) = ("forerunner.dev/fleet", "nonprod");
pub(crate) const APPLY: &str = "application/apply-patch+yaml";
pub(crate) const JSON: &str = "application/json";
/// Somebody with every right, and a policy that holds them back.
const MIGHTY: &str = "00000000-0000-0000-0000-0000000000ff";
/// Longer than any controller takes.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// A server with `deploy/kubernetes` applied.
pub(crate) enum Target {
    Sandbox(Box<Played>),
    Real(&'static Cluster),
}

pub(crate) struct Played {
    clock: Clock,
    kubernetes: played::Kubernetes,
    server: Server,
    folder: std::path::PathBuf,
}

/// Runs `check` against the sandbox's server, and against a real one where that was asked for.
pub(crate) async fn both(check: impl AsyncFn(&Target)) {
    check(&Target::sandbox().await).await;
    if let Some(cluster) = cluster() {
        static PREPARED: OnceCell<()> = OnceCell::const_new();
        let target = Target::Real(cluster);
        PREPARED.get_or_init(|| target.prepare()).await;
        check(&target).await;
    }
}

/// All of `deploy/kubernetes`, in the order of its README.
pub(crate) fn shipped() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes");
    let files = [
        "10-managers-namespace",
        "20-managers-role",
        "40-admission-policy",
        "30-forerunner-rights",
    ];
    let read = |file: &&str| {
        let text = std::fs::read_to_string(folder.join(format!("{file}.yaml"))).unwrap();
        serde_saphyr::from_multiple::<Value>(&text).unwrap()
    };
    files.iter().flat_map(read).collect()
}

/// Where an object is, as the API has it.
pub(crate) fn path(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let version = text(&object["apiVersion"]);
    let root = if version.contains('/') { "apis" } else { "api" };
    let kind = text(&object["kind"]).to_lowercase();
    let plural = if kind.ends_with('y') {
        format!("{}ies", kind.trim_end_matches('y'))
    } else {
        format!("{kind}s")
    };
    let name = text(&object["metadata"]["name"]);
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("/{root}/{version}/namespaces/{namespace}/{plural}/{name}"),
        None => format!("/{root}/{version}/{plural}/{name}"),
    }
}

impl Target {
    async fn sandbox() -> Self {
        let _installed_by_another_test = rustls::crypto::ring::default_provider().install_default();
        let clock = Clock::frozen("2026-11-24T08:00:00Z".parse().unwrap());
        let kubernetes = played::Kubernetes::new(clock.clone(), played::Settings::default());
        let masters = vec!["system:masters".to_owned()];
        kubernetes.add_token(ADMINISTRATOR, User { name: "administrator".into(), groups: masters });
        kubernetes.add_token(FORERUNNER, User { name: USER.into(), groups: vec![] });
        kubernetes.confine(Confinement {
            policy: MANAGERS.to_owned(),
            user: USER.to_owned(),
            fleet_label: FLEET.0.to_owned(),
            fleet: FLEET.1.to_owned(),
            managers_namespace: MANAGERS.to_owned(),
            managers_cluster_role: "forerunner-manager".to_owned(),
        });
        let wire = Wire::new(clock.clone());
        let server = wire.serve(Service::Kubernetes, None, kubernetes.router()).await.unwrap();
        let folder =
            std::env::temp_dir().join(format!("forerunner-target-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let target = Self::Sandbox(Box::new(Played { clock, kubernetes, server, folder }));
        target.prepare().await;
        target
    }

    /// Does what a cluster administrator does once.
    async fn prepare(&self) {
        for object in shipped() {
            let (status, body) = self.apply_as_administrator(&object).await;
            assert!(status < 300, "an administrator's {} is refused: {body}", path(&object));
        }
        let probe = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "probe"}});
        self.eventually("the admission policy takes effect", async || {
            let path = "/api/v1/namespaces?dryRun=All";
            self.call(self.forerunner_token(), "POST", path, JSON, &probe).await.0 == 422
        })
        .await;
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Sandbox(_) => "sandbox",
            Self::Real(_) => "real",
        }
    }

    pub(crate) fn issuer(&self) -> String {
        match self {
            Self::Sandbox(played) => played.kubernetes.issuer(),
            Self::Real(cluster) => cluster.issuer.clone(),
        }
    }

    pub(crate) fn forerunner_token(&self) -> &str {
        match self {
            Self::Sandbox(_) => FORERUNNER,
            Self::Real(cluster) => &cluster.forerunner_token,
        }
    }

    pub(crate) fn administrator_token(&self) -> &str {
        match self {
            Self::Sandbox(_) => ADMINISTRATOR,
            Self::Real(cluster) => &cluster.administrator_token,
        }
    }

    /// forerunner's adapter, as whoever this token belongs to.
    pub(crate) fn adapter(&self, token: &str) -> Kubernetes {
        match self {
            Self::Real(cluster) => cluster.as_token(token),
            Self::Sandbox(played) => self.adapter_at(played.server.address.port(), token),
        }
    }

    /// The same, but what it sends goes to a port of this machine.
    pub(crate) fn adapter_at(&self, port: u16, token: &str) -> Kubernetes {
        let name = format!("kubeconfig-{}", uuid::Uuid::new_v4());
        let (file, clock) = match self {
            Self::Real(cluster) => (cluster.kubeconfig.with_file_name(name), Clock::system()),
            Self::Sandbox(played) => (played.folder.join(name), played.clock.clone()),
        };
        let text = json!({"current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": format!("https://{HOST}:443")}}],
            "users": [{"name": "u", "user": {"token": token}}]});
        std::fs::write(&file, text.to_string()).unwrap();
        let settings =
            HttpSettings { loopback: vec![Loopback::new(HOST, port)], ..HttpSettings::default() };
        Kubernetes::new(Http::new(settings, clock), Access::Kubeconfig(file))
    }

    /// Makes every continue token handed out so far too old. A real server notices some time later.
    pub(crate) fn expire_continue_tokens(&self) {
        match self {
            Self::Sandbox(played) => played.kubernetes.expire_continue_tokens(),
            Self::Real(cluster) => cluster.compact(),
        }
    }

    /// Lets none of forerunner's calls about the accounts of a namespace through.
    pub(crate) async fn throttle(&self, namespace: &str) {
        if let Self::Sandbox(played) = self {
            return played.kubernetes.throttle(USER, namespace);
        }
        let api = "flowcontrol.apiserver.k8s.io/v1";
        let level = json!({
            "apiVersion": api, "kind": "PriorityLevelConfiguration", "metadata": {"name": "no-seats"},
            "spec": {"type": "Limited", "limited": {
                "nominalConcurrencyShares": 0, "lendablePercent": 0, "borrowingLimitPercent": 0,
                "limitResponse": {"type": "Reject"},
            }},
        });
        let schema = json!({
            "apiVersion": api, "kind": "FlowSchema", "metadata": {"name": "no-seats"},
            "spec": {
                "priorityLevelConfiguration": {"name": "no-seats"},
                "matchingPrecedence": 2,
                "rules": [{
                    "subjects": [{"kind": "User", "user": {"name": USER}}],
                    "resourceRules": [{"verbs": ["*"], "apiGroups": [""],
                        "resources": ["serviceaccounts"], "namespaces": [namespace]}],
                }],
            },
        });
        let mut uid = Value::Null;
        for object in [level, schema] {
            let (status, body) = self.apply_as_administrator(&object).await;
            assert!(status < 300, "{body}");
            uid = body["metadata"]["uid"].clone();
        }
        let (client, server) = self.upstream();
        let url = format!("{server}/api/v1/namespaces/{namespace}/serviceaccounts");
        self.eventually("flow control knows the schema", async || {
            let answer =
                client.get(&url).bearer_auth(self.forerunner_token()).send().await.unwrap();
            answer
                .headers()
                .get("x-kubernetes-pf-flowschema-uid")
                .is_some_and(|seen| uid == *seen.to_str().unwrap())
        })
        .await;
        // Even without seats one call is let in, if it is alone. This one's body never comes.
        let body = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let endless = client
            .post(&url)
            .bearer_auth(self.forerunner_token())
            .header("Content-Type", JSON)
            .body(reqwest::Body::wrap(body));
        tokio::spawn(endless.send());
        self.eventually("all seats are taken", async || {
            let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts");
            self.call(self.forerunner_token(), "GET", &path, JSON, &Value::Null).await.0 == 429
        })
        .await;
    }

    pub(crate) fn forerunner(&self) -> Kubernetes {
        self.adapter(self.forerunner_token())
    }

    /// Where the server is, and a client that trusts it.
    pub(crate) fn upstream(&self) -> (reqwest::Client, String) {
        match self {
            Self::Real(cluster) => (cluster.client(), cluster.server.clone()),
            Self::Sandbox(played) => {
                (reqwest::Client::new(), format!("http://{}", played.server.address))
            }
        }
    }

    /// A call past our adapter: status and body.
    pub(crate) async fn call(
        &self,
        token: &str,
        method: &str,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> (u16, Value) {
        match self {
            Self::Real(cluster) => cluster.call(token, method, path, content_type, body).await,
            Self::Sandbox(played) => {
                let url = format!("http://{}{path}", played.server.address);
                let request = reqwest::Client::new().request(method.parse().unwrap(), url);
                answer(request.bearer_auth(token), content_type, body).await
            }
        }
    }

    /// Gives a user of a policy of its own every right in the cluster; answers its fleet.
    pub(crate) async fn make_mighty(&self) -> String {
        // The sandbox's server knows one policy and is this test's own; the real one is shared.
        let (fleet, user) = match self {
            Self::Sandbox(_) => ("nonprod", USER),
            Self::Real(_) => ("mighty", MIGHTY),
        };
        if matches!(self, Self::Real(_)) {
            let input = AdministratorInput {
                fleet: &FleetName::new(fleet).unwrap(),
                managers_namespace: &format!("forerunner-{fleet}"),
                manager_cluster_role: "forerunner-manager",
                forerunner_user: user,
                privileged_namespaces: &[],
            };
            for object in administrator(&input, &[]) {
                if object["metadata"]["name"] != "forerunner-manager" {
                    let (status, body) = self.apply_as_administrator(&object).await;
                    assert!(status < 300, "{body}");
                }
            }
        }
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "mighty"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        });
        let (status, body) = self.apply_as_administrator(&binding).await;
        assert!(status < 300, "{body}");
        let probe = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "probe"}});
        self.eventually("the policy takes effect", async || {
            let path = "/api/v1/namespaces?dryRun=All";
            self.call_as_mighty("POST", path, JSON, &probe).await.0 == 422
        })
        .await;
        fleet.to_owned()
    }

    /// As the user that [`Self::make_mighty`] made.
    pub(crate) async fn call_as_mighty(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> (u16, Value) {
        match self {
            Self::Sandbox(_) => self.call(FORERUNNER, method, path, content_type, body).await,
            Self::Real(cluster) => {
                let token = &cluster.administrator_token;
                let as_user =
                    |request: reqwest::RequestBuilder| request.header("Impersonate-User", MIGHTY);
                cluster.send(token, method, path, content_type, body, as_user).await
            }
        }
    }

    pub(crate) async fn apply_as_administrator(&self, object: &Value) -> (u16, Value) {
        let path = format!("{}?fieldManager=administrator&force=true", path(object));
        self.call(self.administrator_token(), "PATCH", &path, APPLY, object).await
    }

    /// A namespace of the fleet, as forerunner makes one.
    pub(crate) async fn job_namespace(&self, name: &str) -> String {
        let name = format!("ci-nonprod-{name}");
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": name, "labels": {FLEET.0: FLEET.1, "pod-security.kubernetes.io/enforce": "restricted"},
        }});
        let (status, body) = self.apply_as_administrator(&namespace).await;
        assert!(status < 300, "{body}");
        self.eventually("the namespace has its account", async || {
            let path = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
            self.call(self.administrator_token(), "GET", &path, JSON, &Value::Null).await.0 == 200
        })
        .await;
        name
    }

    /// Lets time pass, the sandbox's or everybody's, until it holds.
    pub(crate) async fn eventually(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let clock = match self {
            Self::Sandbox(played) => played.clock.clone(),
            Self::Real(_) => Clock::system(),
        };
        let end = clock.now() + PATIENCE;
        while !holds().await {
            assert!(clock.now() < end, "{}: not even in the end: {what}", self.name());
            match self {
                Self::Sandbox(played) => {
                    played.clock.turn_to(played.clock.now() + SignedDuration::from_secs(1));
                    played.kubernetes.act(played.clock.now()).await;
                }
                #[expect(clippy::disallowed_methods, reason = "a real server has its own time")]
                Self::Real(_) => tokio::time::sleep(Duration::from_millis(30)).await,
            }
        }
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
