//! What a manager may do, asked of the real server as its own account: every call of gitlab-runner's Kubernetes executor
//! (runner-observed.md §1), one by one, and calls that nobody should make with a stolen token of it.
//!
//! `real_node` has the executor itself; this needs neither a node nor gitlab-runner.

use super::{
    cluster::{Cluster, cluster},
    path::ALONE,
    target::JSON,
};
use crate::harness::{FLEET, Sandbox};
use forerunner::{domain::names::MANAGER_CLUSTER_ROLE, sandbox::world::World};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const MERGE: &str = "application/merge-patch+json";
const NAME: &str = "calls";
const MANAGERS: &str = "forerunner-calls";

/// API group, resource and verb.
type Right = (String, String, String);

/// A manager as its pod is: its namespace of jobs, and a token of its account.
struct Manager {
    cluster: &'static Cluster,
    /// Where its jobs are.
    jobs: String,
    token: String,
    _sandbox: Sandbox,
}

impl Manager {
    async fn new(cluster: &'static Cluster) -> Self {
        let fleet = FLEET.replace("fleet: nonprod", &format!("fleet: {NAME}"));
        let sandbox = Sandbox::on_cluster(&fleet, &cluster.kubeconfig).await;
        sandbox.world.gitlab.create_group(Some(42), "payments");
        sandbox.settle().await;
        let jobs = job_namespace(&sandbox.world);
        let binding = find(&sandbox.world, "rolebindings", &jobs);
        let account = binding["subjects"][0]["name"].as_str().unwrap();
        let path = format!("/api/v1/namespaces/{MANAGERS}/serviceaccounts/{account}/token");
        let ask =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let (status, answer) =
            cluster.call(&cluster.administrator_token, "POST", &path, JSON, &ask).await;
        assert_eq!(status, 201, "{answer}");
        let token = answer["status"]["token"].as_str().unwrap().to_owned();
        Self { cluster, jobs, token, _sandbox: sandbox }
    }

    async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let path = path.replace("JOBS", &self.jobs).replace("MANAGERS", MANAGERS);
        let kind = if method == "PATCH" { MERGE } else { JSON };
        self.cluster.call(&self.token, method, &path, kind, body).await
    }

    /// What the server says that it may do there, beside asking what it may do.
    async fn rules(&self, namespace: &str) -> BTreeSet<Right> {
        let ask = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": namespace}});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews";
        let (status, answer) = self.call("POST", path, &ask).await;
        assert_eq!(status, 201, "{answer}");
        let mut rules = rights(&answer["status"]["resourceRules"]);
        rules.retain(|(group, _, _)| {
            group != "authorization.k8s.io" && group != "authentication.k8s.io"
        });
        rules
    }
}

/// What rules say, one by one.
fn rights(rules: &Value) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for rule in rules.as_array().unwrap() {
        let texts = |key: &str| -> Vec<String> {
            let list = rule[key].as_array().unwrap();
            list.iter().map(|one| one.as_str().unwrap().to_owned()).collect()
        };
        for group in texts("apiGroups") {
            for resource in texts("resources") {
                let verbs = texts("verbs").into_iter();
                rights.extend(verbs.map(|verb| (group.clone(), resource.clone(), verb)));
            }
        }
    }
    rights
}

fn job_namespace(world: &World) -> String {
    let namespaces = world.kubernetes.list("namespaces", "");
    let mut names = namespaces.iter().filter_map(|one| one["metadata"]["name"].as_str());
    let start = format!("ci-{NAME}--");
    names.find(|name| name.starts_with(&start)).unwrap().to_owned()
}

fn find(world: &World, plural: &str, namespace: &str) -> Value {
    let found = world.kubernetes.list(plural, "");
    found.into_iter().find(|one| one["metadata"]["namespace"] == *namespace).unwrap()
}

/// What a job's pod is like that `restricted` lets in.
fn pod() -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "job", "labels": {"job": "1"}},
    "spec": {
        "serviceAccountName": "job", "automountServiceAccountToken": false,
        "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [{"name": "build", "image": "forerunner.test/none:1",
            "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
        }],
    }})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_may_make_every_call_of_the_executor_and_no_other() {
    let Some(cluster) = cluster() else { return };
    let _alone = ALONE.lock().await;
    let manager = Manager::new(cluster).await;
    every_call_of_the_executor(&manager).await;
    no_other_call(&manager).await;

    let role = format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{MANAGER_CLUSTER_ROLE}");
    let token = &cluster.administrator_token;
    let (_, role) = cluster.call(token, "GET", &role, JSON, &Value::Null).await;
    let granted = rights(&role["rules"]);
    assert_eq!(manager.rules(&manager.jobs).await, granted, "in its job namespace");
    for elsewhere in [MANAGERS, "default", "kube-system"] {
        assert_eq!(manager.rules(elsewhere).await, BTreeSet::new(), "in {elsewhere}");
    }
}

/// In the order of a job. A pod that does not run is entered with something else than 403.
async fn every_call_of_the_executor(manager: &Manager) {
    let core = "/api/v1/namespaces/JOBS";
    let budgets = "/apis/policy/v1/namespaces/JOBS/poddisruptionbudgets";
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": manager.jobs, "verb": "watch", "resource": "pods"}}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"},
        "type": "kubernetes.io/dockercfg", "data": {".dockercfg": "e30="}});
    let budget = json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "job-pdb"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"job": "1"}}}});
    let calls = [
        ("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".into(), review, 201),
        ("GET", "/version".into(), Value::Null, 200),
        ("GET", format!("{core}/serviceaccounts/job"), Value::Null, 200),
        ("GET", format!("{core}/secrets/registry-pull"), Value::Null, 404),
        ("POST", format!("{core}/secrets"), secret.clone(), 201),
        ("GET", format!("{core}/pods?watch=true&timeoutSeconds=1"), Value::Null, 200),
        ("GET", format!("{core}/pods"), Value::Null, 200),
        ("POST", format!("{core}/pods"), pod(), 201),
        ("PUT", format!("{core}/secrets/login"), secret, 200),
        ("POST", budgets.into(), budget, 201),
        ("GET", format!("{budgets}/job-pdb"), Value::Null, 200),
        ("GET", format!("{core}/pods/job"), Value::Null, 200),
        ("GET", format!("{core}/events"), Value::Null, 200),
        ("GET", format!("{core}/events?watch=true&timeoutSeconds=1"), Value::Null, 200),
        (
            "POST",
            format!("{core}/pods/job/exec?container=build&command=true&stdout=true"),
            Value::Null,
            400,
        ),
        ("POST", format!("{core}/pods/job/attach?container=build&stdout=true"), Value::Null, 400),
        ("DELETE", format!("{core}/secrets/login"), Value::Null, 200),
        ("DELETE", format!("{core}/pods/job?gracePeriodSeconds=0"), Value::Null, 200),
    ];
    for (method, path, body, expected) in calls {
        let (status, answer) = manager.call(method, &path, &body).await;
        assert_eq!(status, expected, "{method} {path}: {answer}");
    }
}

/// Each by the server's own authorizer: nothing of it comes to a policy.
async fn no_other_call(manager: &Manager) {
    let any = json!({});
    let calls = [
        ("GET", "/api/v1/events"),
        ("GET", "/api/v1/pods"),
        ("GET", "/api/v1/namespaces"),
        ("GET", "/api/v1/namespaces/JOBS"),
        ("POST", "/api/v1/namespaces"),
        ("GET", "/apis/scheduling.k8s.io/v1/priorityclasses/any"),
        ("GET", "/api/v1/nodes"),
        // In its own namespace it has nothing to do: the tokens of all managers are there.
        ("GET", "/api/v1/namespaces/MANAGERS/secrets"),
        ("GET", "/api/v1/namespaces/MANAGERS/secrets/runner-g43-plan"),
        ("GET", "/api/v1/namespaces/MANAGERS/configmaps"),
        ("GET", "/api/v1/namespaces/MANAGERS/pods"),
        ("POST", "/api/v1/namespaces/MANAGERS/pods"),
        ("POST", "/api/v1/namespaces/MANAGERS/pods/any/exec?command=sh"),
        ("GET", "/apis/apps/v1/namespaces/MANAGERS/deployments"),
        ("POST", "/api/v1/namespaces/default/pods"),
        ("GET", "/api/v1/namespaces/kube-system/secrets"),
        // With its jobs: no list of their Secrets, no token of their account, nobody else's rights, no way round a pod.
        ("GET", "/api/v1/namespaces/JOBS/secrets"),
        ("PATCH", "/api/v1/namespaces/JOBS/secrets/any"),
        ("GET", "/api/v1/namespaces/JOBS/serviceaccounts"),
        ("PATCH", "/api/v1/namespaces/JOBS/serviceaccounts/job"),
        ("POST", "/api/v1/namespaces/JOBS/serviceaccounts"),
        ("POST", "/api/v1/namespaces/JOBS/serviceaccounts/job/token"),
        ("POST", "/apis/rbac.authorization.k8s.io/v1/namespaces/JOBS/rolebindings"),
        ("GET", "/apis/rbac.authorization.k8s.io/v1/namespaces/JOBS/rolebindings"),
        ("GET", "/api/v1/namespaces/JOBS/pods/any/log"),
        ("GET", "/api/v1/namespaces/JOBS/pods/any/exec?command=sh"),
        ("GET", "/api/v1/namespaces/JOBS/pods/any/attach"),
        ("POST", "/api/v1/namespaces/JOBS/pods/any/portforward"),
        ("GET", "/api/v1/namespaces/JOBS/pods/any/proxy"),
        ("PATCH", "/api/v1/namespaces/JOBS/pods/any"),
        ("PATCH", "/api/v1/namespaces/JOBS/pods/any/ephemeralcontainers"),
        ("POST", "/api/v1/namespaces/JOBS/pods/any/eviction"),
        ("DELETE", "/api/v1/namespaces/JOBS/pods"),
        ("POST", "/api/v1/namespaces/JOBS/services"),
        ("GET", "/api/v1/namespaces/JOBS/configmaps"),
        ("POST", "/api/v1/namespaces/JOBS/persistentvolumeclaims"),
        ("DELETE", "/apis/policy/v1/namespaces/JOBS/poddisruptionbudgets/any"),
        ("POST", "/apis/apps/v1/namespaces/JOBS/deployments"),
        ("DELETE", "/apis/networking.k8s.io/v1/namespaces/JOBS/networkpolicies/any"),
        ("PATCH", "/api/v1/namespaces/JOBS/limitranges/any"),
        ("PATCH", "/api/v1/namespaces/JOBS/resourcequotas/any"),
    ];
    for (method, path) in calls {
        let body = if method == "GET" || method == "DELETE" { &Value::Null } else { &any };
        let (status, answer) = manager.call(method, path, body).await;
        assert_eq!(status, 403, "{method} {path}: {answer}");
        let said = answer["message"].as_str().unwrap_or_default();
        assert!(said.contains("is forbidden: User"), "{method} {path}: {said}");
    }
}
