//! What a manager and a job live through on the node.

use super::{image, machine};
use crate::{
    harness::{FLEET, Sandbox},
    real_kubernetes::cluster::{Cluster, cluster},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use forerunner::sandbox::gitlab::{JobStatus, NewJob};
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::net::{TcpListener, TcpStream};

pub(super) const NAME: &str = "node";
pub(super) const MANAGERS: &str = "forerunner-node";
/// Ports of the node behind which services of the sandbox are.
pub(super) const GITLAB: u16 = 8001;
pub(super) const ENTRA: u16 = 8002;
pub(super) const ARM: u16 = 8003;
pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(250);
pub(super) const MERGE: &str = "application/merge-patch+json";

/// How long the job runs that a manager has in hand when its pod has to go, and what it says every second.
const SECONDS: u32 = 20;
const JOB: &str = "n=0; while [ $n -lt 20 ]; do n=$((n+1)); echo second $n.; sleep 1; done";

/// Why a manager's pod has to go.
#[derive(Clone, Copy, Debug)]
enum End {
    Roll,
    Deletion,
}

pub(super) struct Scene {
    pub(super) cluster: &'static Cluster,
    pub(super) sandbox: Sandbox,
}

pub(super) async fn tell() {
    let cluster = cluster().expect("asked for, or this would not run");
    let folder = cluster.kubeconfig.parent().unwrap();
    let archive = image::archive(
        folder,
        &image::played_manager(&format!("gitlab.example.com={NODE}:{GITLAB}")),
        &[],
    );
    let node = machine::join(folder, &archive);
    assert_eq!(node.address, NODE);
    let fleet = FLEET.replace("fleet: nonprod", &format!("fleet: {NAME}"));
    let sandbox = Sandbox::on_cluster(&fleet, &cluster.kubeconfig).await;
    for (port, service) in [(GITLAB, "gitlab"), (ENTRA, "entra"), (ARM, "arm")] {
        pass_on(port, sandbox.world.address(service).unwrap()).await;
    }
    let scene = Scene { cluster, sandbox };
    let group = scene.sandbox.world.gitlab.create_group(Some(42), "payments");
    let project = scene.sandbox.world.gitlab.create_project(group, "ledger");
    scene.manager_starts(group).await;
    scene.jobs_token_is_exchanged().await;
    scene.manager_drains(project, End::Roll).await;
    scene.manager_drains(project, End::Deletion).await;
    scene.idle_manager_ends_at_once_when_deleted().await;
    scene.file_changes_in_the_running_pod().await;
    scene.what_keeps_a_manager_from_running_is_told(group).await;
}

/// Connections to a port of the node go to a server that listens on loopback only.
pub(super) async fn pass_on(port: u16, to: SocketAddr) {
    let listener = TcpListener::bind((NODE, port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut inner, _)) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(mut outer) = TcpStream::connect(to).await else { return };
                let _ended = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
            });
        }
    });
}

impl Scene {
    /// From nothing to a runner that GitLab hears, under Pod Security `restricted`.
    async fn manager_starts(&self, group: u64) {
        let gitlab = &self.sandbox.world.gitlab;
        let took = self
            .until("the manager asks GitLab for jobs", async || {
                gitlab.runners().iter().any(|runner| runner.contacted_at.is_some())
            })
            .await;
        machine::say(&format!("real node: a manager asks for jobs {took:.1?} after its group"));
        // What Azure needs minutes for may leap.
        self.sandbox.settle().await;
        assert!(self.sandbox.is_ready(&format!("runner/g{group}-plan")), "{}", self.told().await);
        let (_, namespace) = self.get(&format!("/api/v1/namespaces/{MANAGERS}")).await;
        let labels = &namespace["metadata"]["labels"];
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "restricted");
        let pod = self.manager().await;
        self.until("its probes are answered", async || is_ready(&self.manager().await)).await;
        let secret = self.config_secret().await;
        let id = STANDARD.decode(secret["data"][".runner_system_id"].as_str().unwrap()).unwrap();
        let id = String::from_utf8(id).unwrap();
        let runner = gitlab.runners().remove(0);
        assert!(runner.managers.iter().any(|one| one == id.trim()), "{id} is not in {runner:?}");
        let log = self.log(MANAGERS, &pod).await;
        assert!(log.contains("Configuration loaded: 1 entries"), "{log}");
        assert!(!log.contains("Created missing unique system ID"), "{log}");
    }

    async fn file_changes_in_the_running_pod(&self) {
        // A pod that starts later has the new file anyway.
        self.until("the manager answers", async || is_ready(&self.manager().await)).await;
        let before = self.manager().await;
        let gitlab = &self.sandbox.world.gitlab;
        let runner = gitlab.runners().remove(0);
        let secret = self.config_secret().await;
        let text = STANDARD.decode(secret["data"]["config.toml"].as_str().unwrap()).unwrap();
        let mut config: toml::Table = String::from_utf8(text).unwrap().parse().unwrap();
        let token = gitlab.reset_runner_token(runner.id).unwrap();
        config["runners"][0]["token"] = token.into();
        let text = STANDARD.encode(config.to_string());
        let name = secret["metadata"]["name"].as_str().unwrap();
        let path = format!("/api/v1/namespaces/{MANAGERS}/secrets/{name}");
        self.merge(&path, &json!({"data": {"config.toml": text}})).await;
        let written = self.sandbox.world.wire.clock().now();
        let took = self
            .until("the running manager uses the new token", async || {
                // The old token is refused by now, and forerunner itself asks for no jobs.
                self.sandbox.world.wire.calls().iter().any(|call| {
                    let asks = call.path.starts_with("/api/v4/jobs/request");
                    asks && call.at > written && call.status == Some(204)
                })
            })
            .await;
        machine::say(&format!("real node: a changed Secret is used after {took:.1?}"));
        let after = self.manager().await;
        assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"]);
        assert_eq!(after["status"]["containerStatuses"][0]["restartCount"], 0, "{after}");
    }

    /// With the token that the kubelet puts into a pod of the job's account.
    async fn jobs_token_is_exchanged(&self) {
        let namespace = self.job_namespace().await;
        let (_, accounts) =
            self.get(&format!("/api/v1/namespaces/{namespace}/serviceaccounts")).await;
        let accounts = accounts["items"].as_array().unwrap();
        let client = "azure.workload.identity/client-id";
        let account = accounts
            .iter()
            .find(|one| one["metadata"]["annotations"][client].is_string())
            .unwrap_or_else(|| panic!("{accounts:?}"));
        let script = "az login --service-principal --username $AZURE_CLIENT_ID --tenant $AZURE_TENANT_ID \
                      --federated-token \"$(cat $AZURE_FEDERATED_TOKEN_FILE)\" > /dev/null && \
                      az account show --query id --output tsv";
        let played =
            format!("management.azure.com={NODE}:{ARM},login.microsoftonline.com={NODE}:{ENTRA}");
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "signs-in", "labels": {"azure.workload.identity/use": "true"}},
            "spec": {
                "serviceAccountName": account["metadata"]["name"],
                "automountServiceAccountToken": false,
                "restartPolicy": "Never",
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "containers": [{
                    "name": "build", "image": image::NODE, "imagePullPolicy": "Never",
                    "command": ["/bin/sh", "-c", script],
                    "env": [
                        {"name": "HOME", "value": "/tmp"},
                        {"name": "FORERUNNER_LOOPBACK", "value": played},
                    ],
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                    },
                    "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
                }],
            },
        });
        // Through the sandbox, which plays the webhook.
        let api = self.sandbox.world.address("kubernetes").unwrap();
        let made = reqwest::Client::builder().no_proxy().build().unwrap();
        let made = made
            .post(format!("http://{api}/api/v1/namespaces/{namespace}/pods"))
            .bearer_auth(&self.cluster.administrator_token)
            .header("Content-Type", "application/json")
            .body(pod.to_string())
            .send()
            .await
            .unwrap();
        let status = made.status().as_u16();
        assert_eq!(status, 201, "{}", made.text().await.unwrap());
        let path = format!("/api/v1/namespaces/{namespace}/pods/signs-in");
        let last = RefCell::new(Value::Null);
        self.until("the job's pod has ended", async || {
            let (_, pod) = self.get(&path).await;
            let phase = pod["status"]["phase"].clone();
            *last.borrow_mut() = pod;
            phase == "Succeeded" || phase == "Failed"
        })
        .await;
        let pod = last.into_inner();
        let log = self.log(&namespace, &pod).await;
        assert_eq!(pod["status"]["phase"], "Succeeded", "{log}");
        assert!(log.contains("00000000-0000-4000-8000-000000002222"), "{log}");
    }

    /// A new pod takes over at once; the old one stays until its job is done, told to stop once and never cut off.
    async fn manager_drains(&self, project: u64, end: End) {
        self.until("the manager answers", async || is_ready(&self.manager().await)).await;
        let old = self.manager().await;
        let gitlab = &self.sandbox.world.gitlab;
        let job = gitlab.create_job(
            project,
            NewJob {
                tags: vec!["azure-plan".to_owned()],
                image: Some(image::NODE.to_owned()),
                script: vec![JOB.to_owned()],
                ..NewJob::default()
            },
        );
        let status = || gitlab.job(job).unwrap().status;
        let namespace = self.job_namespace().await;
        self.until("the job's pod runs", async || {
            let (_, pods) = self.get(&format!("/api/v1/namespaces/{namespace}/pods")).await;
            let pods = pods["items"].as_array().unwrap();
            assert_ne!(status(), JobStatus::Failed, "{}", gitlab.job(job).unwrap().trace);
            // The pod of a job before may be on its way out.
            status() == JobStatus::Running
                && pods.iter().any(|pod| {
                    pod["status"]["phase"] == "Running"
                        && pod["metadata"]["deletionTimestamp"].is_null()
                })
        })
        .await;
        let old_path = path_of(&old);
        match end {
            End::Roll => self.roll().await,
            End::Deletion => {
                let (status, body) = self.call("DELETE", &old_path, &Value::Null).await;
                assert_eq!(status, 200, "{body}");
            }
        }
        self.until("the old pod is told to stop", async || {
            let (_, pod) = self.get(&old_path).await;
            pod["metadata"]["deletionTimestamp"].is_string()
        })
        .await;
        assert_eq!(status(), JobStatus::Running, "{end:?} did not wait for the job");
        let log = RefCell::new(String::new());
        let took = self
            .until("the old pod is gone", async || {
                let said = self.log(MANAGERS, &old).await;
                // Of a pod that is gone there is none.
                if said.contains("Configuration loaded") {
                    *log.borrow_mut() = said;
                }
                let gone = self.get(&old_path).await.0 == 404;
                assert!(!gone || status() != JobStatus::Running, "it went before its job was done");
                gone
            })
            .await;
        machine::say(&format!(
            "real node: a manager with a job in hand went {took:.1?} after its {end:?}"
        ));
        let job = gitlab.job(job).unwrap();
        assert_eq!(job.status, JobStatus::Success, "{end:?}: {}", job.trace);
        let lines = (1..=SECONDS).map(|second| format!("second {second}.")).collect::<Vec<_>>();
        let cut = lines.iter().find(|line| !job.trace.contains(line.as_str()));
        assert_eq!(cut, None, "{end:?}: the job's log is not whole: {}", job.trace);
        let log = log.into_inner();
        assert_eq!(log.matches("SIGQUIT").count(), 1, "{end:?}: {log}");
        assert_eq!(log.matches("SIGTERM").count(), 0, "{end:?}: {log}");
        self.until("the new pod answers", async || is_ready(&self.manager().await)).await;
    }

    async fn roll(&self) {
        let deployments = format!("/apis/apps/v1/namespaces/{MANAGERS}/deployments");
        let (_, found) = self.get(&deployments).await;
        let name = found["items"][0]["metadata"]["name"].as_str().unwrap();
        let roll = json!({"spec": {"template": {"metadata": {"annotations": {"rolled": "1"}}}}});
        self.merge(&format!("{deployments}/{name}"), &roll).await;
    }

    async fn idle_manager_ends_at_once_when_deleted(&self) {
        let old = self.manager().await;
        let path = path_of(&old);
        self.call("DELETE", &path, &Value::Null).await;
        let took = self.until("it is gone", async || self.get(&path).await.0 == 404).await;
        machine::say(&format!("real node: an idle manager went after {took:.1?}"));
        // Its grace period is longer than the longest job; nothing waits for its end.
        assert!(took < Duration::from_secs(20), "{took:?}");
    }

    /// The manager's pod that is not told to stop; nothing while there is none.
    pub(super) async fn manager(&self) -> Value {
        let (_, pods) = self.get(&format!("/api/v1/namespaces/{MANAGERS}/pods")).await;
        let pods = pods["items"].as_array().unwrap();
        let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        pods.iter().find(stays).cloned().unwrap_or_default()
    }

    async fn config_secret(&self) -> Value {
        let (_, secrets) = self.get(&format!("/api/v1/namespaces/{MANAGERS}/secrets")).await;
        let mut secrets = secrets["items"].as_array().unwrap().iter();
        secrets.find(|one| one["data"]["config.toml"].is_string()).unwrap().clone()
    }

    pub(super) async fn job_namespace(&self) -> String {
        let (_, found) = self
            .get(&format!("/api/v1/namespaces?labelSelector=forerunner.dev/fleet={NAME}"))
            .await;
        let names = found["items"].as_array().unwrap().iter();
        let mut names = names.filter_map(|one| one["metadata"]["name"].as_str());
        names.find(|name| *name != MANAGERS).unwrap().to_owned()
    }

    pub(super) async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, &Value::Null).await
    }

    pub(super) async fn merge(&self, path: &str, patch: &Value) {
        let token = &self.cluster.administrator_token;
        let (status, body) = self.cluster.call(token, "PATCH", path, MERGE, patch).await;
        assert_eq!(status, 200, "{body}");
    }

    pub(super) async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let token = &self.cluster.administrator_token;
        self.cluster.call(token, method, path, "application/json", body).await
    }

    pub(super) async fn log(&self, namespace: &str, pod: &Value) -> String {
        let name = pod["metadata"]["name"].as_str().unwrap();
        let url = format!("{}/api/v1/namespaces/{namespace}/pods/{name}/log", self.cluster.server);
        let request = self.cluster.client().get(url).bearer_auth(&self.cluster.administrator_token);
        request.send().await.unwrap().text().await.unwrap()
    }

    /// Lets the world run at the system's pace until it holds; how long that took.
    pub(super) async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) -> Duration {
        let start = Instant::now();
        let waiting = async {
            while !holds().await && start.elapsed() < PATIENCE {
                #[expect(clippy::disallowed_methods, reason = "a real node takes its time")]
                tokio::time::sleep(LOOK).await;
            }
        };
        self.sandbox.world.run_until(waiting).await;
        if start.elapsed() >= PATIENCE {
            panic!("waited in vain until {what}\n{}", self.told().await);
        }
        start.elapsed()
    }

    /// For a test that fails: the pods, and what the manager said.
    pub(super) async fn told(&self) -> String {
        let (_, pods) = self.get("/api/v1/pods").await;
        let (_, events) = self.get("/api/v1/events").await;
        let events = events["items"].as_array().unwrap().iter();
        let events: Vec<String> = events
            .map(|one| {
                format!("{} {}: {}", one["involvedObject"]["name"], one["reason"], one["message"])
            })
            .collect();
        let mut log = String::new();
        for pod in pods["items"].as_array().unwrap() {
            if pod["metadata"]["namespace"] == MANAGERS {
                log += &format!("{}:\n{}", pod["metadata"]["name"], self.log(MANAGERS, pod).await);
            }
        }
        let jobs = self.sandbox.world.gitlab.jobs();
        let traces = jobs.iter().map(|job| format!("{:?}: {}", job.status, job.trace));
        log.extend(traces);
        let statuses: Vec<String> = pods["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|pod| format!("{} {}", pod["metadata"]["name"], pod["status"]))
            .collect();
        format!("{}\n{}\n{log}\n{}", statuses.join("\n"), events.join("\n"), self.sandbox.story())
    }
}

fn path_of(pod: &Value) -> String {
    let name = pod["metadata"]["name"].as_str().unwrap();
    format!("/api/v1/namespaces/{MANAGERS}/pods/{name}")
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    let mut ready = conditions.filter(|one| one["type"] == "Ready");
    ready.any(|one| one["status"] == "True")
}
