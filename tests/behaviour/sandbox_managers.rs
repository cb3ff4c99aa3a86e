//! Simulated managers and their jobs, against the sandbox's own GitLab, Kubernetes and Azure, provisioned by hand.

use super::descriptions::{self, Watched};
use base64::Engine;
use forerunner::{
    clock::Clock,
    sandbox::{
        actor::{self, Actor},
        azure::{self, Azure, Credential},
        gitlab::{self, Gitlab, JobStatus, JobView, NewJob},
        kubernetes::{self, Kubernetes},
        managers::{Managers, ManagersSettings, Place, ProcessView, RunState},
        wire::{Server, Service, Wire},
    },
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const SUBSCRIPTION: &str = "11111111-1111-1111-1111-111111111111";
const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
const SYSTEM_ID: &str = "s_abcdef012345";

struct World {
    clock: Clock,
    wire: Wire,
    kubernetes: Kubernetes,
    gitlab: Gitlab,
    azure: Azure,
    managers: Managers,
    gitlab_server: Server,
    _servers: Vec<Server>,
    project: u64,
    group: u64,
    _watched: Watched,
}

impl World {
    /// Everything but the role binding of the manager.
    async fn without_binding() -> Self {
        let clock = Clock::frozen("2026-11-24T08:00:00Z".parse().unwrap());
        let wire = Wire::new(clock.clone());
        let kubernetes = Kubernetes::new(clock.clone(), kubernetes::Settings::default());
        let gitlab = Gitlab::new(clock.clone(), gitlab::Settings::default());
        let azure = Azure::new(clock.clone(), azure::Settings::default());
        let api = wire.serve(Service::Kubernetes, None, kubernetes.router()).await.unwrap();
        let gitlab_server = wire.serve(Service::Gitlab, None, gitlab.router()).await.unwrap();
        let entra = wire.serve(Service::Entra, None, azure.entra_router()).await.unwrap();
        let arm = wire.serve(Service::Arm, None, azure.arm_router()).await.unwrap();
        azure.trust_issuer(&kubernetes.issuer(), api.address);
        let managers = Managers::new(ManagersSettings {
            clock: clock.clone(),
            place: Place::Cluster { kubernetes: kubernetes.clone(), api: api.address },
            gitlab: gitlab_server.address,
            gitlab_host: "gitlab.example.com".to_owned(),
            entra: entra.address,
            arm: arm.address,
            az_shim: Some(env!("CARGO_BIN_EXE_forerunner").into()),
            seed: 1,
        });
        let group = gitlab.create_group(None, "platform");
        let project = gitlab.create_project(group, "network");
        let _servers = vec![api, entra, arm];
        let world = Self {
            _watched: descriptions::watch(&wire),
            clock,
            wire,
            kubernetes,
            gitlab,
            azure,
            managers,
            gitlab_server,
            _servers,
            project,
            group,
        };
        world.provision_azure();
        world.provision_cluster();
        // New namespaces get their contents.
        world.pass(1).await;
        world
    }

    async fn new() -> Self {
        let world = Self::without_binding().await;
        world.bind();
        world
    }

    /// An identity that may read the subscription, and trusts the job's account.
    fn provision_azure(&self) {
        self.azure.add_subscription(SUBSCRIPTION, "Landing zone");
        let group = self.azure.add_resource_group(SUBSCRIPTION, "rg-app");
        let id = format!("{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/job");
        let identity = self.azure.add_existing_identity(&id, BTreeMap::new());
        let credential = Credential {
            name: "job".to_owned(),
            issuer: self.kubernetes.issuer(),
            subject: "system:serviceaccount:ci-a:job".to_owned(),
            audiences: vec!["api://AzureADTokenExchange".to_owned()],
        };
        self.azure.edit_credential(&id, credential);
        let scope = format!("/subscriptions/{SUBSCRIPTION}");
        self.azure.assign_role(&scope, READER.parse().unwrap(), identity.principal_id, None);
        for (namespace, labels) in [
            ("managers", json!({})),
            ("ci-a", json!({"pod-security.kubernetes.io/enforce": "restricted"})),
        ] {
            self.admin(json!({"apiVersion": "v1", "kind": "Namespace",
                "metadata": {"name": namespace, "labels": labels}}));
        }
        let annotations = json!({
            "azure.workload.identity/client-id": identity.client_id,
            "azure.workload.identity/tenant-id": self.azure.tenant_id(),
        });
        self.admin(json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "job", "namespace": "ci-a", "annotations": annotations}}));
    }

    fn provision_cluster(&self) {
        self.admin(json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "manager", "namespace": "managers"}}));
        self.admin(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "runner-manager"},
            "rules": [
                {"apiGroups": [""], "resources": ["pods"],
                    "verbs": ["create", "delete", "get", "list", "watch"]},
                {"apiGroups": [""], "resources": ["pods/attach", "pods/exec"], "verbs": ["create"]},
                {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["get"]},
                {"apiGroups": [""], "resources": ["events"], "verbs": ["list", "watch"]},
            ],
        }));
    }

    /// Its pod starts once the Secret is there.
    fn deploy(&self) {
        let labels = json!({"app": "manager"});
        self.admin(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "manager", "namespace": "managers"},
            "spec": {
                "replicas": 1, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {
                    "serviceAccountName": "manager", "terminationGracePeriodSeconds": 3600,
                    "containers": [{
                        "name": "gitlab-runner", "image": "gitlab/gitlab-runner:alpine-v19.4.0",
                        "args": ["run", "--config=/etc/gitlab-runner/config.toml"],
                        "volumeMounts": [{"name": "config", "mountPath": "/etc/gitlab-runner"}],
                    }],
                    "volumes": [{"name": "config", "secret": {"secretName": "config"}}],
                }},
            },
        }));
    }

    fn bind(&self) {
        self.admin(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "managers", "namespace": "ci-a"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                "name": "runner-manager"},
            "subjects": [{"kind": "ServiceAccount", "name": "manager", "namespace": "managers"}],
        }));
    }

    fn admin(&self, object: Value) {
        self.kubernetes.apply_as_admin(object).unwrap();
    }

    /// A runner for the group; its token.
    async fn create_runner(&self) -> String {
        let _already_there = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let url = format!("http://{}/api/v4/user/runners", self.gitlab_server.address);
        let body =
            json!({"runner_type": "group_type", "group_id": self.group, "run_untagged": true});
        let request = client.post(url).header("PRIVATE-TOKEN", self.gitlab.admin_token());
        let made: Value = request.json(&body).send().await.unwrap().json().await.unwrap();
        made["token"].as_str().unwrap().to_owned()
    }

    fn write_secret(&self, config: &str) {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        self.admin(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "config", "namespace": "managers"},
            "data": {"config.toml": encode(config), ".runner_system_id": encode(SYSTEM_ID)},
        }));
        if self.kubernetes.get("deployments", "managers", "manager").is_none() {
            self.deploy();
        }
    }

    fn actors(&self) -> Vec<Box<dyn Actor>> {
        vec![Box::new(self.kubernetes.clone()), Box::new(self.managers.clone())]
    }

    /// Lets this many seconds pass, and everybody act when it is time.
    async fn pass(&self, seconds: i64) {
        let actors = self.actors();
        let end = self.clock.now() + SignedDuration::from_secs(seconds);
        loop {
            actor::exhaust(&actors, &self.clock).await;
            match actor::next(&actors).0 {
                Some(at) if at <= end => self.clock.turn_to(at),
                Some(_) | None => break,
            }
        }
        self.clock.turn_to(end);
        actor::exhaust(&actors, &self.clock).await;
    }

    fn create_job(&self, script: &[&str]) -> u64 {
        let script = script.iter().map(|line| (*line).to_owned()).collect();
        let new = NewJob { name: "hello".to_owned(), script, ..NewJob::default() };
        self.gitlab.create_job(self.project, new)
    }

    async fn run_job(&self, script: &[&str]) -> JobView {
        let job = self.create_job(script);
        self.pass(30).await;
        self.gitlab.job(job).unwrap()
    }

    fn process(&self) -> ProcessView {
        let [process] = self.managers.processes().try_into().unwrap();
        process
    }

    fn polls(&self) -> usize {
        let calls = self.wire.calls();
        calls.iter().filter(|call| call.path == "/api/v4/jobs/request").count()
    }
}

fn entry(token: &str) -> String {
    format!(
        r#"
[[runners]]
name = "platform"
url = "https://gitlab.example.com"
token = "{token}"
executor = "kubernetes"
limit = 2
unhealthy_interval = "10m"
environment = ["FROM_FILE=yes"]
[runners.kubernetes]
namespace = "ci-a"
service_account = "job"
automount_service_account_token = false
image = "registry.example.com/ci/base:1"
allow_privilege_escalation = false
cap_drop = ["ALL"]
resource_availability_check_max_attempts = 0
[runners.kubernetes.pod_labels]
"azure.workload.identity/use" = "true"
[runners.kubernetes.pod_security_context]
run_as_non_root = true
run_as_user = 1000
[runners.kubernetes.pod_security_context.seccomp_profile]
type = "RuntimeDefault"
"#
    )
}

fn config(tokens: &[&str]) -> String {
    let entries: String = tokens.iter().map(|token| entry(token)).collect();
    format!("concurrent = 2\ncheck_interval = 3\nnot_a_key = true\n{entries}")
}

const SIGN_IN: &str = "az login --service-principal --username \"$AZURE_CLIENT_ID\" \
    --tenant \"$AZURE_TENANT_ID\" --federated-token \"$(cat \"$AZURE_FEDERATED_TOKEN_FILE\")\" \
    --output none";

#[tokio::test]
async fn a_job_signs_in_and_may_do_what_its_identity_may() {
    let world = World::new().await;
    let token = world.create_runner().await;
    world.write_secret(&config(&[&token]));
    world.pass(20).await;
    assert_eq!(world.process().system_id, SYSTEM_ID);
    let job = world
        .run_job(&[
            SIGN_IN,
            "echo \"subscription $(az account show --query id -o tsv)\"",
            "echo \"groups $(az group list --query '[].name' -o tsv)\"",
            "az group create --name rg-new --location westeurope || echo \"exit $?\"",
            "echo \"$FROM_FILE $CI_PROJECT_PATH\"",
        ])
        .await;
    assert_eq!(job.status, JobStatus::Success, "{}", job.trace);
    for part in [
        "subscription 11111111-1111-1111-1111-111111111111\n",
        "groups rg-app\n",
        "ERROR: (AuthorizationFailed) The client '",
        "exit 1\n",
        "yes platform/network\n",
        "Job succeeded\n",
    ] {
        assert!(job.trace.contains(part), "{part} is not in\n{}", job.trace);
    }
    assert_eq!(job.system_id.as_deref(), Some(SYSTEM_ID));
    world.pass(60).await;
    assert!(world.kubernetes.list("pods", "ci-a").is_empty(), "the pod is gone");
    assert!(world.gitlab.token_is_valid(&token));
    let dump = world.managers.dump().to_string();
    assert!(!dump.contains(&token), "a dump holds no token");
}

#[tokio::test]
async fn a_failing_script_fails_the_job_with_its_exit_code() {
    let world = World::new().await;
    world.write_secret(&config(&[&world.create_runner().await]));
    world.pass(20).await;
    let job = world.run_job(&["echo before", "exit 7", "echo after"]).await;
    assert_eq!((job.status, job.exit_code), (JobStatus::Failed, Some(7)), "{}", job.trace);
    assert_eq!(job.failure_reason.as_deref(), Some("script_failure"));
    assert!(job.trace.contains("before\n$ exit 7\n") && !job.trace.contains("after"));
}

#[tokio::test]
async fn what_the_cluster_refuses_is_a_system_failure_in_its_words() {
    let rbac = "prepare environment: setting up build pod: pods is forbidden: User \
                \"system:serviceaccount:managers:manager\" cannot create resource \"pods\" in API \
                group \"\" in the namespace \"ci-a\"";
    let check = async |world: World, change: fn(String) -> String, expected: &str| {
        world.write_secret(&change(config(&[&world.create_runner().await])));
        world.pass(20).await;
        let job = world.run_job(&["true"]).await;
        assert_eq!(job.failure_reason.as_deref(), Some("runner_system_failure"), "{}", job.trace);
        assert!(job.trace.contains(expected), "{expected} is not in\n{}", job.trace);
        let state = &world.managers.jobs()[0].state;
        assert!(matches!(state, RunState::SystemFailure { .. }), "{state:?}");
    };
    check(World::without_binding().await, |config| config, rbac).await;
    let unsafe_pod = |config: String| config.replace("cap_drop = [\"ALL\"]", "");
    check(World::new().await, unsafe_pod, "violates PodSecurity \"restricted:latest\"").await;
    let other = |config: String| config.replace("\"job\"", "\"missing\"");
    check(World::new().await, other, "serviceaccount \"missing\" not found").await;
}

#[tokio::test]
async fn a_changed_secret_brings_a_second_entry_without_a_restart() {
    let world = World::new().await;
    let (first, second) = (world.create_runner().await, world.create_runner().await);
    world.write_secret(&config(&[&first]));
    world.pass(20).await;
    let before = world.process();
    world.write_secret(&config(&[&first, &second]));
    world.pass(30).await;
    assert_eq!(world.process().entries.len(), 1, "the kubelet has not brought it yet");
    world.pass(40).await;
    let after = world.process();
    assert_eq!((after.entries.len(), &after.pod), (2, &before.pod));
    assert!(after.entries.iter().all(|entry| entry.last_status == Some(204)), "{after:?}");
    world.write_secret("concurrent = ");
    world.pass(70).await;
    let broken = world.process();
    assert_eq!((broken.entries.len(), broken.fatal), (2, None), "{:?}", broken.log);
    world.write_secret("concurrent = 0");
    world.pass(70).await;
    assert!(world.process().fatal.is_some(), "that ends the process");
}

#[tokio::test]
async fn an_entry_rests_after_three_refusals_until_the_file_changes() {
    let world = World::new().await;
    world.write_secret(&config(&["glrt-made-up"]));
    world.pass(20).await;
    let entry = &world.process().entries[0];
    assert_eq!((entry.healthy, entry.last_status), (false, Some(403)));
    let polls = world.polls();
    assert_eq!(polls, 3);
    world.pass(120).await;
    assert_eq!(world.polls(), polls, "it rests");
    world.write_secret(&config(&[&world.create_runner().await]));
    world.pass(70).await;
    let entry = &world.process().entries[0];
    assert_eq!((entry.healthy, entry.last_status), (true, Some(204)));
}

#[tokio::test]
async fn a_manager_that_is_told_to_stop_ends_its_job_first() {
    let world = World::new().await;
    world.write_secret(&config(&[&world.create_runner().await]));
    world.pass(20).await;
    let (job, manager) = (world.create_job(&["sleep 300", "echo done"]), world.process().pod);
    world.pass(20).await;
    assert_eq!(world.gitlab.job(job).unwrap().status, JobStatus::Running);
    world.kubernetes.edit("deployments", "managers", "manager", |object| {
        object["spec"]["replicas"] = 0.into();
    });
    world.pass(10).await;
    assert!(world.process().draining);
    let polls = world.polls();
    let next = world.create_job(&["true"]);
    world.pass(400).await;
    let job = world.gitlab.job(job).unwrap();
    assert_eq!(job.status, JobStatus::Success, "{}", job.trace);
    assert_eq!(world.polls(), polls, "a draining manager asks for nothing");
    assert_eq!(world.gitlab.job(next).unwrap().status, JobStatus::Pending);
    assert!(world.kubernetes.get("pods", "managers", &manager).is_none(), "and then it is gone");
}

#[tokio::test]
async fn a_cancelled_job_ends_with_the_next_word_about_it() {
    let world = World::new().await;
    world.write_secret(&config(&[&world.create_runner().await]));
    world.pass(20).await;
    let job = world.create_job(&["sleep 3000"]);
    world.pass(20).await;
    world.gitlab.cancel_job(job);
    assert_eq!(world.gitlab.job(job).unwrap().status, JobStatus::Canceling);
    world.pass(60).await;
    assert_eq!(world.gitlab.job(job).unwrap().status, JobStatus::Canceled);
    assert_eq!(world.managers.jobs()[0].state, RunState::Cancelled);
}
