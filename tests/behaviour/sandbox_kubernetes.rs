//! The simulated API server refuses what a real one refuses (runner-on-kubernetes.md §9 and §12, runner-observed.md).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use forerunner::{
    clock::Clock,
    sandbox::{
        actor::{Actor, Due},
        kubernetes::{Confinement, Kubernetes, Settings, User},
        wire::{Server, Service, Wire},
    },
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::sync::Arc;

const APPLY: &str = "application/apply-patch+yaml";
const MERGE: &str = "application/merge-patch+json";
const JSON: &str = "application/json";
const FLEET: &str = "forerunner.example/fleet";
const LEVEL: &str = "pod-security.kubernetes.io/enforce";

/// A cluster behind the wire, and whoever asks it.
struct Cluster {
    clock: Clock,
    kubernetes: Kubernetes,
    server: Server,
    client: reqwest::Client,
}

impl Cluster {
    async fn start() -> Self {
        let _installed_by_another_test = rustls::crypto::ring::default_provider().install_default();
        let clock = Clock::frozen("2026-11-24T08:00:00Z".parse().unwrap());
        let kubernetes = Kubernetes::new(clock.clone(), Settings::default());
        let masters = vec!["system:masters".to_owned()];
        kubernetes.add_token("admin", User { name: "root".to_owned(), groups: masters });
        kubernetes.add_token("ann", User { name: "ann".to_owned(), groups: Vec::new() });
        let wire = Wire::new(clock.clone());
        let server = wire.serve(Service::Kubernetes, None, kubernetes.router()).await.unwrap();
        Self { clock, kubernetes, server, client: reqwest::Client::new() }
    }

    async fn ask_as(
        &self,
        token: &str,
        method: &str,
        path: &str,
        media_type: &str,
        body: &Value,
    ) -> (u16, Value) {
        let method = method.parse().unwrap();
        let url = format!("http://{}{path}", self.server.address);
        let mut request = self.client.request(method, url).header("user-agent", "kubectl/v1");
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.header("content-type", media_type).body(body.to_string());
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        self.ask_as("admin", method, path, JSON, &body).await
    }

    async fn get(&self, path: &str) -> Value {
        self.ask("GET", path, Value::Null).await.1
    }

    async fn apply(&self, path: &str, query: &str, body: Value) -> (u16, Value) {
        let separator = if query.is_empty() { "" } else { "&" };
        let path = format!("{path}?fieldManager=forerunner{separator}{query}");
        self.ask_as("admin", "PATCH", &path, APPLY, &body).await
    }

    /// Lets everything happen at its own time.
    async fn turn(&self, seconds: i64) {
        let end = self.clock.now() + SignedDuration::from_secs(seconds);
        self.kubernetes.act(self.clock.now()).await;
        while let Some(due) = self.kubernetes.due().filter(|due| due.at() <= end) {
            self.clock.turn_to(due.at());
            self.kubernetes.act(due.at()).await;
        }
        self.clock.turn_to(end);
    }

    /// Until no controller has work left.
    async fn settle(&self) {
        while let Some(Due::Work(at)) = self.kubernetes.due() {
            self.clock.turn_to(at);
            self.kubernetes.act(self.clock.now()).await;
        }
    }

    async fn seconds_to_settle(&self) -> i64 {
        let begun = self.clock.now();
        self.settle().await;
        self.clock.now().duration_since(begun).as_secs()
    }

    fn admin(&self, object: Value) -> Value {
        self.kubernetes.apply_as_admin(object).unwrap()
    }

    fn namespace(&self, name: &str, labels: Value) {
        self.admin(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
        }));
    }

    fn account(&self, namespace: &str, name: &str, annotations: Value) {
        self.admin(json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
        }));
    }
}

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn secret(name: &str, content: &str) -> Value {
    let content = base64::engine::general_purpose::STANDARD.encode(content);
    json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": "default"}, "data": {"config.toml": content},
    })
}

fn deployment(image: &str) -> Value {
    let labels = json!({"app": "manager"});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "m", "namespace": "default", "labels": {"runner": "42"}},
        "spec": {
            "replicas": 1,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "serviceAccountName": "default", "terminationGracePeriodSeconds": 3600,
                    "containers": [{
                        "name": "gitlab-runner", "image": image, "args": ["run"],
                        "env": [{"name": "HOME", "value": "/home"}],
                        "ports": [{"name": "metrics", "containerPort": 9252}],
                        "resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}},
                        "volumeMounts": [{"name": "config", "mountPath": "/etc/gitlab-runner"}],
                    }],
                    "volumes": [{"name": "config", "secret": {"secretName": "config"}}],
                },
            },
        },
    })
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/default/deployments/m";

#[tokio::test]
async fn version_and_health_are_public_and_token_keys_for_those_who_may() {
    let cluster = Cluster::start().await;
    for (token, path, pointer, value) in [
        ("", "/version", "/gitVersion", json!("v1.34.4")),
        ("", "/readyz", "", json!("ok")),
        ("admin", "/openid/v1/jwks", "/keys/0/alg", json!("RS256")),
        (
            "admin",
            "/.well-known/openid-configuration",
            "/issuer",
            json!(cluster.kubernetes.issuer()),
        ),
        ("ann", "/.well-known/openid-configuration", "/reason", json!("Forbidden")),
        ("", "/openid/v1/jwks", "/reason", json!("Forbidden")),
    ] {
        let (_, body) = cluster.ask_as(token, "GET", path, JSON, &Value::Null).await;
        assert_eq!(body.pointer(pointer), Some(&value), "{token} {path} {body}");
    }
}

#[tokio::test]
async fn who_may_not_is_told_so_in_the_servers_words() {
    let cluster = Cluster::start().await;
    for (token, path, status, message) in [
        ("nobody", MAPS, 401, "Unauthorized"),
        (
            "ann",
            MAPS,
            403,
            "configmaps is forbidden: User \"ann\" cannot list resource \"configmaps\" in API \
             group \"\" in the namespace \"default\"",
        ),
        (
            "ann",
            "/apis/apps/v1/namespaces/default/deployments/m",
            403,
            "deployments.apps \"m\" is forbidden: User \"ann\" cannot get resource \
             \"deployments\" in API group \"apps\" in the namespace \"default\"",
        ),
        (
            "ann",
            "/api/v1/namespaces",
            403,
            "namespaces is forbidden: User \"ann\" cannot list resource \"namespaces\" in API \
             group \"\" at the cluster scope",
        ),
        (
            "",
            "/api/v1/pods",
            403,
            "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API \
             group \"\" at the cluster scope",
        ),
    ] {
        let (got, body) = cluster.ask_as(token, "GET", path, JSON, &Value::Null).await;
        assert_eq!((got, body["message"].as_str()), (status, Some(message)), "{token} {path}");
        assert_eq!(body["kind"], "Status");
    }
}

#[tokio::test]
async fn a_role_gives_its_rights_where_it_is_bound_and_only_there() {
    let cluster = Cluster::start().await;
    cluster.namespace("other", json!({}));
    cluster.admin(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "reader"},
        "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}],
    }));
    cluster.admin(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "b", "namespace": "default"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"kind": "User", "name": "ann", "apiGroup": "rbac.authorization.k8s.io"}],
    }));
    for (verb, namespace, allowed) in
        [("list", "default", true), ("list", "other", false), ("get", "default", false)]
    {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {
                "namespace": namespace, "verb": verb, "group": "", "resource": "configmaps"}},
        });
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let (status, body) = cluster.ask_as("ann", "POST", path, JSON, &review).await;
        assert_eq!(
            (status, &body["status"]["allowed"]),
            (201, &json!(allowed)),
            "{verb} {namespace}"
        );
    }
    let (status, _) = cluster.ask_as("ann", "GET", MAPS, JSON, &Value::Null).await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn binding_needs_the_verb_bind_or_the_rights_themselves() {
    let cluster = Cluster::start().await;
    let role = |name: &str, rules: Value| {
        cluster.admin(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name}, "rules": rules,
        }));
    };
    let group = "rbac.authorization.k8s.io";
    role(
        "binder",
        json!([
            {"apiGroups": [group], "resources": ["rolebindings"], "verbs": ["create", "patch"]},
            {"apiGroups": [group], "resources": ["clusterroles"], "verbs": ["bind"],
                "resourceNames": ["manager"]},
        ]),
    );
    let pods = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get"]}]);
    role("manager", pods.clone());
    role("stranger", pods);
    cluster.admin(json!({
        "apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding",
        "metadata": {"name": "ann"},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "binder"},
        "subjects": [{"kind": "User", "name": "ann"}],
    }));
    for (bound, status) in [("manager", 201), ("stranger", 403)] {
        let binding = json!({
            "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
            "metadata": {"name": bound, "namespace": "default"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": bound},
            "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}],
        });
        let path = format!(
            "/apis/{group}/v1/namespaces/default/rolebindings/{bound}?fieldManager=f&force=true"
        );
        let (got, body) = cluster.ask_as("ann", "PATCH", &path, APPLY, &binding).await;
        assert_eq!(got, status, "{body}");
        if status == 403 {
            let message = body["message"].as_str().unwrap();
            let words = "is attempting to grant RBAC permissions not currently held:\n\
                         {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"create\" \"get\"]}";
            assert!(message.ends_with(words), "{message}");
        }
    }
}

#[tokio::test]
async fn objects_are_made_read_changed_and_deleted_once() {
    let cluster = Cluster::start().await;
    let one = format!("{MAPS}/a");
    let (status, made) = cluster.ask("POST", MAPS, config_map("a", json!({"k": "1"}))).await;
    assert_eq!((status, made["metadata"]["uid"].is_string()), (201, true));
    let (status, body) = cluster.ask("POST", MAPS, config_map("a", json!({}))).await;
    assert_eq!((status, &body["reason"]), (409, &json!("AlreadyExists")));

    let mut stale = made.clone();
    let (status, merged) = cluster
        .ask_as("admin", "PATCH", &one, MERGE, &json!({"data": {"k": null, "n": "2"}}))
        .await;
    assert_eq!((status, &merged["data"]), (200, &json!({"n": "2"})));
    stale["data"]["k"] = json!("3");
    let (status, body) = cluster.ask("PUT", &one, stale).await;
    assert_eq!((status, &body["reason"]), (409, &json!("Conflict")), "{body}");

    let wrong = json!({"preconditions": {"uid": "another"}});
    assert_eq!(cluster.ask("DELETE", &one, wrong).await.0, 409);
    let (status, body) = cluster.ask("DELETE", &one, Value::Null).await;
    assert_eq!((status, &body["status"]), (200, &json!("Success")));
    let (status, body) = cluster.ask("GET", &one, Value::Null).await;
    assert_eq!((status, &body["message"]), (404, &json!("configmaps \"a\" not found")));
    let (status, _) = cluster
        .ask_as("admin", "POST", MAPS, "application/vnd.kubernetes.protobuf", &json!({}))
        .await;
    assert_eq!(status, 415);
}

#[tokio::test]
async fn applying_the_same_again_changes_nothing() {
    let cluster = Cluster::start().await;
    let (status, made) = cluster.apply(DEPLOYMENT, "", deployment("runner:1")).await;
    assert_eq!((status, &made["metadata"]["generation"]), (201, &json!(1)), "{made}");
    cluster.clock.turn_to(cluster.clock.now() + SignedDuration::from_secs(60));
    let before = cluster.get(DEPLOYMENT).await;
    let (status, again) = cluster.apply(DEPLOYMENT, "force=true", deployment("runner:1")).await;
    assert_eq!((status, again), (200, before.clone()));

    let container = &before["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["resources"]["requests"], json!({"cpu": "1", "memory": "1Gi"}));
    assert_eq!(container["ports"][0]["protocol"], "TCP");
    assert_eq!(before["spec"]["progressDeadlineSeconds"], 600);
    let owned = &before["metadata"]["managedFields"][0];
    assert_eq!((&owned["manager"], &owned["operation"]), (&json!("forerunner"), &json!("Apply")));
    assert_eq!(owned["fieldsV1"].pointer("/f:spec/f:progressDeadlineSeconds"), None);
    let containers = &owned["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"];
    let container = &containers["k:{\"name\":\"gitlab-runner\"}"];
    assert_eq!(container["f:image"], json!({}));
    assert!(container["f:ports"]["k:{\"containerPort\":9252,\"protocol\":\"TCP\"}"].is_object());
}

#[tokio::test]
async fn what_is_no_longer_applied_goes_unless_another_owns_it() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/a");
    cluster.apply(&path, "", config_map("a", json!({"mine": "1", "shared": "1"}))).await;
    let other = format!("{path}?fieldManager=other");
    let theirs = config_map("a", json!({"shared": "1", "theirs": "1"}));
    let (status, _) = cluster.ask_as("admin", "PATCH", &other, APPLY, &theirs).await;
    assert_eq!(status, 200);
    let (_, left) = cluster.apply(&path, "", config_map("a", json!({"new": "1"}))).await;
    assert_eq!(left["data"], json!({"shared": "1", "theirs": "1", "new": "1"}));

    let path = DEPLOYMENT;
    cluster.apply(path, "", deployment("runner:1")).await;
    cluster.kubernetes.edit("deployments", "default", "m", |found| {
        let env = &mut found["spec"]["template"]["spec"]["containers"][0]["env"];
        env.as_array_mut().unwrap().push(json!({"name": "ADDED", "value": "x"}));
    });
    let mut without = deployment("runner:1");
    without["spec"]["template"]["spec"]["containers"][0]["env"].take();
    let (_, left) = cluster.apply(path, "", without).await;
    let env = &left["spec"]["template"]["spec"]["containers"][0]["env"];
    assert_eq!(*env, json!([{"name": "ADDED", "value": "x"}]), "{left}");
}

#[tokio::test]
async fn a_conflict_names_manager_and_field_and_force_ends_it() {
    let cluster = Cluster::start().await;
    let path = format!("{MAPS}/a");
    cluster.apply(&path, "", config_map("a", json!({"config.toml": "1"}))).await;
    cluster.kubernetes.edit("configmaps", "default", "a", |map| {
        map["data"]["config.toml"] = json!("edited");
    });
    let wanted = config_map("a", json!({"config.toml": "2"}));
    let (status, body) = cluster.apply(&path, "", wanted.clone()).await;
    assert_eq!((status, &body["reason"]), (409, &json!("Conflict")));
    let cause = &body["details"]["causes"][0];
    assert_eq!(cause["reason"], "FieldManagerConflict");
    assert_eq!(cause["field"], ".data.config.toml");
    assert_eq!(cause["message"], "conflict with \"kubectl-edit\" using v1 at 2026-11-24T08:00:00Z");
    let (status, forced) = cluster.apply(&path, "force=true&dryRun=All", wanted.clone()).await;
    assert_eq!((status, &forced["data"]["config.toml"]), (200, &json!("2")));
    assert_eq!(cluster.get(&path).await["data"]["config.toml"], "edited");
    let (status, _) = cluster.apply(&path, "force=true", wanted.clone()).await;
    assert_eq!(status, 200);
    assert_eq!(cluster.apply(&path, "", wanted).await.0, 200);
}

#[tokio::test]
async fn an_apply_that_does_not_fit_is_refused() {
    let cluster = Cluster::start().await;
    cluster.apply(DEPLOYMENT, "", deployment("runner:1")).await;
    let change = |pointer: &str, value: Value| {
        let mut object = deployment("runner:1");
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        object.pointer_mut(parent).unwrap()[name] = value;
        object
    };
    let twice = json!([{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]);
    for (object, status, words) in [
        (change("/spec/colour", json!("red")), 500, ".spec.colour: field not declared in schema"),
        (
            change("/spec/template/spec/containers/0/env", twice).clone(),
            500,
            "duplicate entries for key [name=\"A\"]",
        ),
        (change("/metadata/managedFields", json!([])), 400, "managedFields must be nil"),
        (change("/metadata/resourceVersion", json!("1")), 409, "has been modified"),
        (change("/spec/selector/matchLabels", json!({"x": "y"})), 422, "field is immutable"),
        (
            change("/spec/template/metadata/labels", json!({"app": "other"})),
            422,
            "`selector` does not match template `labels`",
        ),
        (
            change("/spec/template/spec/volumes", json!([])),
            422,
            "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"config\"",
        ),
    ] {
        let object = match object.pointer("/spec/template/spec/containers") {
            Some(_) => object,
            None => continue,
        };
        // A list that is left out goes: so the volume is really gone for the last case.
        let (got, body) = cluster.apply(DEPLOYMENT, "fieldValidation=Strict", object).await;
        let message = body["message"].as_str().unwrap_or_default();
        assert!(got == status && message.contains(words), "{got} {message}");
    }
    let path = format!("{DEPLOYMENT}?force=true");
    let (status, _) = cluster.ask_as("admin", "PATCH", &path, APPLY, &deployment("runner:1")).await;
    assert_eq!(status, 422, "an apply needs a manager");
}

#[tokio::test]
async fn types_and_role_references_never_change() {
    let cluster = Cluster::start().await;
    let group = "rbac.authorization.k8s.io";
    let binding = |role: &str| {
        json!({
            "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
            "metadata": {"name": "b", "namespace": "default"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        })
    };
    let immutable = |content: &str| {
        let mut secret = secret("fixed", content);
        secret["immutable"] = json!(true);
        secret
    };
    let mut typed = secret("config", "x");
    typed["type"] = json!("example.com/other");
    for (path, first, second, words) in [
        (
            format!("/apis/{group}/v1/namespaces/default/rolebindings/b"),
            binding("cluster-admin"),
            binding("another"),
            "cannot change roleRef",
        ),
        (
            "/api/v1/namespaces/default/secrets/config".to_owned(),
            secret("config", "x"),
            typed,
            "type: Invalid value: \"example.com/other\": field is immutable",
        ),
        (
            "/api/v1/namespaces/default/secrets/fixed".to_owned(),
            immutable("x"),
            immutable("y"),
            "data: Forbidden: field is immutable when `immutable` is set",
        ),
    ] {
        assert_eq!(cluster.apply(&path, "", first).await.0, 201);
        let (status, body) = cluster.apply(&path, "force=true", second).await;
        let message = body["message"].as_str().unwrap_or_default();
        assert!(status == 422 && message.contains(words), "{status} {message}");
        assert_eq!(body["reason"], "Invalid");
    }
}

#[tokio::test]
async fn lists_come_in_pages_until_their_token_is_too_old() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        let mut map = config_map(name, json!({}));
        map["metadata"]["labels"] = json!({"part": if name == "c" { "odd" } else { "even" }});
        cluster.ask("POST", MAPS, map).await;
    }
    let names = |page: &Value| -> Vec<String> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    };
    let first = cluster.get(&format!("{MAPS}?limit=2&labelSelector=part%3Deven")).await;
    assert_eq!(names(&first), ["a", "b"]);
    let token = first["metadata"]["continue"].as_str().unwrap();
    let next = format!("{MAPS}?limit=2&labelSelector=part%3Deven&continue={token}");
    let second = cluster.get(&next).await;
    assert_eq!(names(&second), ["d", "e"]);
    assert_eq!(second["metadata"]["continue"], Value::Null);
    cluster.kubernetes.expire_continue_tokens();
    let (status, body) = cluster.ask("GET", &next, Value::Null).await;
    assert_eq!((status, &body["reason"]), (410, &json!("Expired")));
    let one = cluster.get(&format!("{MAPS}?fieldSelector=metadata.name%3Dc")).await;
    assert_eq!(names(&one), ["c"]);
}

#[tokio::test]
async fn a_namespace_is_furnished_and_goes_with_all_that_is_in_it() {
    let cluster = Cluster::start().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
    cluster.ask("POST", "/api/v1/namespaces", namespace).await;
    assert!(cluster.kubernetes.get("serviceaccounts", "n", "default").is_none());
    cluster.settle().await;
    assert!(cluster.kubernetes.get("serviceaccounts", "n", "default").is_some());
    assert!(cluster.kubernetes.get("configmaps", "n", "kube-root-ca.crt").is_some());

    let (status, going) = cluster.ask("DELETE", "/api/v1/namespaces/n", Value::Null).await;
    assert_eq!((status, &going["status"]["phase"]), (200, &json!("Terminating")));
    let path = "/api/v1/namespaces/n/configmaps";
    let (status, body) = cluster.ask("POST", path, config_map("late", json!({}))).await;
    assert_eq!((status, &body["reason"]), (403, &json!("Forbidden")));
    assert_eq!(body["details"]["causes"][0]["reason"], "NamespaceTerminating");
    let begun = cluster.clock.now();
    cluster.settle().await;
    assert_eq!(cluster.ask("GET", "/api/v1/namespaces/n", Value::Null).await.0, 404);
    assert_eq!(cluster.clock.now().duration_since(begun).as_secs(), 5);
    let (status, body) = cluster.ask("POST", path, config_map("later", json!({}))).await;
    assert_eq!((status, &body["message"]), (404, &json!("namespaces \"n\" not found")));
}

fn pod(spec: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "labels": {"azure.workload.identity/use": "true"}},
        "spec": spec,
    })
}

#[tokio::test]
async fn pods_are_checked_when_they_are_made() {
    let cluster = Cluster::start().await;
    cluster.namespace("strict", json!({"pod-security.kubernetes.io/enforce": "restricted"}));
    cluster.namespace("full", json!({}));
    cluster.settle().await;
    cluster.admin(json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "bounds", "namespace": "full"}, "spec": {"hard": {"pods": "0"}},
    }));
    let spec = json!({"containers": [{"name": "build", "image": "i"}]});
    let mut missing = spec.clone();
    missing["serviceAccountName"] = json!("missing");
    for (namespace, spec, words) in [
        (
            "strict",
            &spec,
            "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": \
             allowPrivilegeEscalation != false (container \"build\" must set \
             securityContext.allowPrivilegeEscalation=false)",
        ),
        (
            "full",
            &spec,
            "pods \"p\" is forbidden: exceeded quota: bounds, requested: pods=1, used: pods=0, \
             limited: pods=0",
        ),
        (
            "default",
            &missing,
            "pods \"p\" is forbidden: error looking up service account default/missing: \
             serviceaccount \"missing\" not found",
        ),
    ] {
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        let (status, body) = cluster.ask("POST", &path, pod(spec.clone())).await;
        let message = body["message"].as_str().unwrap_or_default();
        assert!(status == 403 && message.starts_with(words), "{status} {message}");
    }
}

#[tokio::test]
async fn a_labelled_pod_gets_its_workload_identity_unless_skipped() {
    let cluster = Cluster::start().await;
    cluster.account("default", "job", json!({"azure.workload.identity/client-id": "c-1"}));
    let mut wanted = pod(json!({
        "serviceAccountName": "job",
        "initContainers": [{"name": "init-permissions", "image": "i"}],
        "containers": [{"name": "build", "image": "i", "env": [{"name": "AZURE_TENANT_ID", "value": "own"}]}],
    }));
    wanted["metadata"]["annotations"] =
        json!({"azure.workload.identity/skip-containers": "init-permissions;svc-0"});
    let (status, made) = cluster.ask("POST", "/api/v1/namespaces/default/pods", wanted).await;
    assert_eq!(status, 201, "{made}");
    let build = &made["spec"]["containers"][0];
    assert_eq!(
        build["env"],
        json!([
            {"name": "AZURE_TENANT_ID", "value": "own"},
            {"name": "AZURE_CLIENT_ID", "value": "c-1"},
            {"name": "AZURE_FEDERATED_TOKEN_FILE",
                "value": "/var/run/secrets/azure/wi/token/azure-identity-token"},
            {"name": "AZURE_AUTHORITY_HOST", "value": "https://login.microsoftonline.com/"},
        ])
    );
    assert_eq!(made["spec"]["initContainers"][0].get("env"), None);
    let volume = &made["spec"]["volumes"][0];
    let token = &volume["projected"]["sources"][0]["serviceAccountToken"];
    assert_eq!(token["audience"], "api://AzureADTokenExchange");
    assert_eq!(build["volumeMounts"][0]["name"], volume["name"]);
    assert_eq!(build["volumeMounts"][0]["readOnly"], true);
}

#[tokio::test]
async fn a_requested_token_says_who_it_is_and_opens_the_door() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let request = |audiences: Value| {
        json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"audiences": audiences, "expirationSeconds": 3600},
        })
    };
    let audience = "api://AzureADTokenExchange";
    let (status, body) = cluster.ask("POST", path, request(json!([audience]))).await;
    assert_eq!(status, 201);
    let token = body["status"]["token"].as_str().unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    assert_eq!(claims["iss"], cluster.kubernetes.issuer().as_str());
    assert_eq!(claims["sub"], "system:serviceaccount:default:default");
    assert_eq!(claims["aud"], json!([audience]));
    assert_eq!(claims["kubernetes.io"]["serviceaccount"]["name"], "default");
    let foreign = cluster.ask_as(token, "GET", MAPS, JSON, &Value::Null).await;
    assert_eq!(foreign.0, 401, "it is for another audience");

    let (_, body) = cluster.ask("POST", path, request(json!([]))).await;
    let token = body["status"]["token"].as_str().unwrap();
    let (status, refused) = cluster.ask_as(token, "GET", MAPS, JSON, &Value::Null).await;
    assert_eq!(status, 403);
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("User \"system:serviceaccount:default:default\""), "{message}");
    cluster.turn(3601).await;
    assert_eq!(cluster.ask_as(token, "GET", MAPS, JSON, &Value::Null).await.0, 401);
}

#[tokio::test]
async fn tokens_of_others_are_left_to_whoever_knows_them() {
    let cluster = Cluster::start().await;
    cluster.kubernetes.accept_tokens(Arc::new(|token: &str| {
        let masters = vec!["system:masters".to_owned()];
        (token == "of-entra").then(|| User { name: "object-id".to_owned(), groups: masters })
    }));
    for (token, status) in [("of-entra", 200), ("of-nobody", 401)] {
        let got = cluster.ask_as(token, "GET", MAPS, JSON, &Value::Null).await;
        assert_eq!(got.0, status, "{token}");
    }
}

/// The fleet's namespaces `managers` and `ci`, one that is not the fleet's, and forerunner, whom nothing but the policy
/// holds back, as soon as it is bound.
async fn fleet() -> Cluster {
    let cluster = Cluster::start().await;
    let masters = vec!["system:masters".to_owned()];
    cluster.kubernetes.add_token("own", User { name: "forerunner".to_owned(), groups: masters });
    cluster.kubernetes.confine(Confinement {
        policy: "forerunner".to_owned(),
        user: "forerunner".to_owned(),
        fleet_label: FLEET.to_owned(),
        fleet: "f".to_owned(),
        managers_namespace: "managers".to_owned(),
        managers_cluster_role: "forerunner-manager".to_owned(),
    });
    for name in ["managers", "ci"] {
        cluster.namespace(name, json!({FLEET: "f", LEVEL: "restricted"}));
    }
    cluster.namespace("foreign", json!({}));
    cluster.settle().await;
    cluster
}

fn bind_policy(cluster: &Cluster) {
    cluster.admin(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "forerunner"},
        "spec": {"validations": [{"expression": "true"}]},
    }));
    cluster.admin(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "forerunner"},
        "spec": {"policyName": "forerunner", "validationActions": ["Deny"]},
    }));
}

#[tokio::test]
async fn the_policy_confines_forerunner_to_its_fleet() {
    let cluster = fleet().await;
    let level = LEVEL;
    let namespace = |name: &str, labels: Value| {
        let object = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels},
        });
        (format!("/api/v1/namespaces/{name}"), object)
    };
    let in_namespace = |namespace: &str, plural: &str, mut object: Value| {
        object["metadata"]["namespace"] = namespace.into();
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        let prefix = match object["apiVersion"].as_str().unwrap() {
            "v1" => "/api/v1".to_owned(),
            version => format!("/apis/{version}"),
        };
        (format!("{prefix}/namespaces/{namespace}/{plural}/{name}"), object)
    };
    let binding = |role: &str, subjects: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "b"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": "m", "namespace": subjects}],
        })
    };
    let bare = pod(json!({"containers": [{"name": "a", "image": "i"}]}));
    let attempts = [
        (in_namespace("managers", "configmaps", config_map("a", json!({}))), true),
        (in_namespace("ci", "configmaps", config_map("a", json!({}))), false),
        (in_namespace("foreign", "configmaps", config_map("a", json!({}))), false),
        (namespace("new", json!({FLEET: "f", level: "baseline"})), true),
        (namespace("unlabelled", json!({level: "baseline"})), false),
        (namespace("open", json!({FLEET: "f", level: "privileged"})), false),
        (namespace("no-level", json!({FLEET: "f"})), false),
        (namespace("foreign", json!({FLEET: "f", level: "baseline"})), false),
        (namespace("ci", json!({FLEET: "f", level: "privileged"})), false),
        (namespace("managers", json!({FLEET: "f", level: "baseline"})), false),
        (in_namespace("ci", "rolebindings", binding("forerunner-manager", "managers")), true),
        (in_namespace("ci", "rolebindings", binding("cluster-admin", "managers")), false),
        (in_namespace("ci", "rolebindings", binding("forerunner-manager", "ci")), false),
        (in_namespace("ci", "pods", bare), false),
    ];
    let mut refused = 0;
    for held in [true, false] {
        if held {
            bind_policy(&cluster);
        } else {
            cluster.kubernetes.delete_as_admin(
                "validatingadmissionpolicybindings",
                "",
                "forerunner",
            );
        }
        for ((path, object), allowed) in &attempts {
            let path = format!("{path}?fieldManager=f&force=true&dryRun=All");
            let (status, body) = cluster.ask_as("own", "PATCH", &path, APPLY, object).await;
            let message = body["message"].as_str().unwrap_or_default();
            let words = "ValidatingAdmissionPolicy 'forerunner' with binding 'forerunner' denied";
            let denied = message.contains(words);
            assert_eq!(denied, held && !allowed, "{path} {status} {message}");
            if denied {
                assert_eq!((status, &body["reason"]), (422, &json!("Invalid")));
                refused += 1;
            }
        }
    }
    assert_eq!(refused, attempts.iter().filter(|(_, allowed)| !allowed).count());
}

#[tokio::test]
async fn the_policy_refuses_what_a_stolen_identity_would_delete_or_ask_for() {
    let cluster = fleet().await;
    let bare = pod(json!({"containers": [{"name": "a", "image": "i"}]}));
    let (made, _) = cluster.ask("POST", "/api/v1/namespaces/foreign/pods", bare).await;
    assert_eq!(made, 201);
    bind_policy(&cluster);
    let token = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"audiences": ["api://AzureADTokenExchange"]},
    });
    let unlabel = json!({"metadata": {"labels": {FLEET: null}}});
    for (method, path, body, status) in [
        ("DELETE", "namespaces/ci", Value::Null, 200),
        ("DELETE", "namespaces/managers", Value::Null, 422),
        ("PATCH", "namespaces/managers", unlabel, 422),
        ("DELETE", "namespaces/foreign", Value::Null, 422),
        ("DELETE", "namespaces/managers/configmaps/kube-root-ca.crt", Value::Null, 200),
        ("DELETE", "namespaces/ci/configmaps/kube-root-ca.crt", Value::Null, 422),
        ("DELETE", "namespaces/foreign/configmaps/kube-root-ca.crt", Value::Null, 422),
        ("DELETE", "namespaces/foreign/pods", Value::Null, 422),
        ("POST", "namespaces/ci/serviceaccounts/default/token", token.clone(), 422),
        ("POST", "namespaces/managers/serviceaccounts/default/token", token, 422),
    ] {
        let path = format!("/api/v1/{path}?dryRun=All");
        let media_type = if method == "PATCH" { MERGE } else { JSON };
        let (got, answer) = cluster.ask_as("own", method, &path, media_type, &body).await;
        assert_eq!(got, status, "{method} {path} {answer}");
        let message = answer["message"].as_str().unwrap_or_default();
        let words = "ValidatingAdmissionPolicy 'forerunner' with binding 'forerunner' denied";
        assert_eq!(message.contains(words), status == 422, "{message}");
    }
}

#[tokio::test]
async fn a_manager_comes_up_once_its_secret_is_there() {
    let cluster = Cluster::start().await;
    cluster.apply(DEPLOYMENT, "", deployment("runner:1")).await;
    cluster.settle().await;
    let pods = cluster.kubernetes.list("pods", "default");
    let waiting = &pods[0]["status"]["containerStatuses"][0]["state"]["waiting"]["reason"];
    assert_eq!((pods.len(), waiting), (1, &json!("ContainerCreating")));
    let events = cluster.get("/api/v1/namespaces/default/events").await;
    assert_eq!(events["items"][0]["reason"], "FailedMount");
    assert_eq!(cluster.get(DEPLOYMENT).await["status"]["readyReplicas"], Value::Null);

    cluster.admin(secret("config", "concurrent = 1"));
    assert_eq!(cluster.seconds_to_settle().await, 3);
    let status = cluster.get(DEPLOYMENT).await["status"].clone();
    for (pointer, value) in [
        ("/observedGeneration", json!(1)),
        ("/updatedReplicas", json!(1)),
        ("/readyReplicas", json!(1)),
        ("/conditions/0/type", json!("Available")),
        ("/conditions/0/status", json!("True")),
        ("/conditions/1/reason", json!("NewReplicaSetAvailable")),
    ] {
        assert_eq!(status.pointer(pointer), Some(&value), "{status}");
    }
    let managers = cluster.kubernetes.running_manager_pods();
    assert_eq!(managers.len(), 1);
    assert_eq!(managers[0].secret_name.as_deref(), Some("config"));
    assert_eq!(managers[0].deployment_labels["runner"], "42");
    assert_eq!(
        (managers[0].args.as_slice(), managers[0].terminating),
        (&["run".to_owned()][..], None)
    );
}

#[tokio::test]
async fn a_rollout_starts_the_new_manager_before_the_old_one_goes() {
    let cluster = Cluster::start().await;
    cluster.admin(secret("config", "a"));
    cluster.apply(DEPLOYMENT, "", deployment("runner:1")).await;
    cluster.settle().await;
    let old = cluster.kubernetes.running_manager_pods().remove(0);
    cluster.apply(DEPLOYMENT, "", deployment("runner:2")).await;
    cluster.turn(1).await;
    assert_eq!(cluster.kubernetes.list("pods", "default").len(), 2);
    assert_eq!(cluster.kubernetes.running_manager_pods()[0].terminating, None);
    cluster.turn(2).await;
    let pods = cluster.kubernetes.running_manager_pods();
    let draining = pods.iter().find(|pod| pod.name == old.name).unwrap();
    assert_eq!((pods.len(), draining.terminating.is_some()), (2, true));
    let status = cluster.get(DEPLOYMENT).await["status"].clone();
    assert_eq!((&status["updatedReplicas"], &status["replicas"]), (&json!(1), &json!(1)));
    cluster.kubernetes.pod_exited("default", &old.name);
    let left = cluster.kubernetes.running_manager_pods();
    assert_eq!((left.len(), left[0].image.as_str()), (1, "runner:2"));

    let mut none = deployment("runner:2");
    none["spec"]["replicas"] = json!(0);
    cluster.apply(DEPLOYMENT, "", none).await;
    cluster.turn(0).await;
    assert!(cluster.kubernetes.running_manager_pods()[0].terminating.is_some());
    cluster.turn(3600).await;
    assert_eq!(cluster.kubernetes.list("pods", "default"), Vec::<Value>::new());
}

#[tokio::test]
async fn a_changed_secret_reaches_its_pods_a_minute_later() {
    let cluster = Cluster::start().await;
    cluster.admin(secret("config", "one"));
    cluster.apply(DEPLOYMENT, "", deployment("runner:1")).await;
    cluster.settle().await;
    cluster.turn(600).await;
    let seen = || cluster.kubernetes.mounted_secret("default", "config").unwrap();
    cluster.admin(secret("config", "two"));
    assert_eq!(seen().data["config.toml"], b"one");
    cluster.turn(59).await;
    assert_eq!(seen().data["config.toml"], b"one");
    cluster.turn(1).await;
    assert_eq!(seen().data["config.toml"], b"two");
    assert_eq!(seen().visible_since, cluster.clock.now());
    let dump = cluster.kubernetes.dump();
    let shown = dump["secrets/default/config"]["data"]["config.toml"].as_str().unwrap();
    assert!(shown.starts_with("sha256:"), "{shown}");
}

#[tokio::test]
async fn trouble_on_the_nodes_shows_in_the_pods_and_ends() {
    for (trouble, pointer, shown) in [
        ("image", "/status/containerStatuses/0/state/waiting/reason", "ImagePullBackOff"),
        ("crash", "/status/containerStatuses/0/state/waiting/reason", "CrashLoopBackOff"),
        ("room", "/status/conditions/0/reason", "Unschedulable"),
    ] {
        let cluster = Cluster::start().await;
        let set = |on: bool| match trouble {
            "image" => cluster.kubernetes.fail_image_pulls(on.then_some("runner:1")),
            "crash" => cluster.kubernetes.crash_containers(on.then_some("runner")),
            _ => cluster.kubernetes.set_unschedulable(on),
        };
        set(true);
        cluster.admin(secret("config", "a"));
        cluster.apply(DEPLOYMENT, "", deployment("runner:1")).await;
        cluster.settle().await;
        let pod = cluster.kubernetes.list("pods", "default").remove(0);
        assert_eq!(pod.pointer(pointer), Some(&json!(shown)), "{trouble}: {pod}");
        cluster.turn(601).await;
        let stuck = cluster.get(DEPLOYMENT).await;
        assert_eq!(stuck["status"]["conditions"][1]["reason"], "ProgressDeadlineExceeded");
        set(false);
        cluster.settle().await;
        let healed = cluster.get(DEPLOYMENT).await;
        assert_eq!(healed["status"]["readyReplicas"], 1, "{trouble}: {healed}");
    }
}

#[tokio::test]
async fn a_pod_that_may_not_be_made_shows_on_its_deployment() {
    let cluster = Cluster::start().await;
    cluster.admin(secret("config", "a"));
    let mut stranger = deployment("runner:1");
    stranger["spec"]["template"]["spec"]["serviceAccountName"] = json!("manager");
    cluster.apply(DEPLOYMENT, "", stranger).await;
    cluster.turn(0).await;
    let refused = cluster.get(DEPLOYMENT).await["status"]["conditions"][2].clone();
    assert_eq!(refused["type"], "ReplicaFailure");
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("serviceaccount \"manager\" not found"), "{message}");
    cluster.account("default", "manager", json!({}));
    cluster.settle().await;
    assert_eq!(cluster.get(DEPLOYMENT).await["status"]["readyReplicas"], 1);
}

#[tokio::test]
async fn a_refused_pod_is_tried_again_ten_seconds_later_and_not_before() {
    let cluster = Cluster::start().await;
    cluster.admin(secret("config", "a"));
    cluster.admin(json!({
        "apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "bounds", "namespace": "default"}, "spec": {"hard": {"pods": "1"}},
    }));
    let bare = pod(json!({"containers": [{"name": "a", "image": "i"}]}));
    assert_eq!(cluster.ask("POST", "/api/v1/namespaces/default/pods", bare).await.0, 201);
    cluster.settle().await;
    cluster.apply(DEPLOYMENT, "", deployment("runner:1")).await;
    cluster.turn(0).await;
    let refused = cluster.get(DEPLOYMENT).await;
    let message = refused["status"]["conditions"][2]["message"].as_str().unwrap();
    assert!(message.contains("exceeded quota: bounds"), "{message}");

    let now = json!({"gracePeriodSeconds": 0});
    assert_eq!(cluster.ask("DELETE", "/api/v1/namespaces/default/pods/p", now).await.0, 200);
    cluster.turn(9).await;
    assert_eq!(cluster.get(DEPLOYMENT).await, refused);
    cluster.turn(1).await;
    assert_eq!(cluster.kubernetes.list("pods", "default").len(), 1);
    cluster.settle().await;
    let status = cluster.get(DEPLOYMENT).await["status"].clone();
    assert_eq!((&status["readyReplicas"], &status["conditions"][2]), (&json!(1), &Value::Null));
}

#[tokio::test]
async fn another_secret_neither_hurries_nor_strands_a_pod_that_starts() {
    let cluster = Cluster::start().await;
    cluster.admin(secret("config", "a"));
    cluster.apply(DEPLOYMENT, "", deployment("runner:1")).await;
    cluster.turn(1).await;
    cluster.admin(secret("another", "b"));
    cluster.turn(0).await;
    assert_eq!(cluster.kubernetes.running_manager_pods(), []);
    assert_eq!(cluster.seconds_to_settle().await, 2);
    assert_eq!(cluster.kubernetes.running_manager_pods().len(), 1);
}

#[tokio::test]
async fn settling_waits_for_the_last_change_of_a_secret() {
    let cluster = Cluster::start().await;
    cluster.admin(secret("config", "one"));
    cluster.apply(DEPLOYMENT, "", deployment("runner:1")).await;
    cluster.settle().await;
    cluster.turn(600).await;
    cluster.admin(secret("config", "two"));
    cluster.turn(30).await;
    cluster.admin(secret("config", "three"));
    assert_eq!(cluster.seconds_to_settle().await, 60);
    let seen = cluster.kubernetes.mounted_secret("default", "config").unwrap();
    assert_eq!(seen.data["config.toml"], b"three");
}

#[tokio::test]
async fn a_lost_pod_has_the_whole_deadline_to_come_back() {
    let cluster = Cluster::start().await;
    cluster.admin(secret("config", "a"));
    cluster.apply(DEPLOYMENT, "", deployment("runner:1")).await;
    cluster.settle().await;
    cluster.turn(86_400).await;
    cluster.kubernetes.fail_image_pulls(Some("runner:1"));
    let lost = cluster.kubernetes.running_manager_pods().remove(0).name;
    let path = format!("/api/v1/namespaces/default/pods/{lost}?gracePeriodSeconds=0");
    assert_eq!(cluster.ask("DELETE", &path, Value::Null).await.0, 200);
    for (seconds, reason) in [(599, "ReplicaSetUpdated"), (2, "ProgressDeadlineExceeded")] {
        cluster.turn(seconds).await;
        let conditions = cluster.get(DEPLOYMENT).await["status"]["conditions"].clone();
        assert_eq!(conditions[1]["reason"], reason, "{conditions}");
    }
}

#[tokio::test]
async fn plain_text_of_a_secret_is_never_read_back_and_its_keys_stay() {
    let cluster = Cluster::start().await;
    let path = "/api/v1/namespaces/default/secrets/plain";
    let plain = |data: Value| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "plain"}, "stringData": data,
        })
    };
    let (status, _) = cluster.apply(path, "", plain(json!({"a": "1", "b": "2"}))).await;
    assert_eq!(status, 201);
    let (status, left) = cluster.apply(path, "", plain(json!({"a": "3"}))).await;
    assert_eq!((status, &left["data"]), (200, &json!({"a": "Mw==", "b": "Mg=="})));
    assert_eq!(left.get("stringData"), None);
    let owned = &left["metadata"]["managedFields"][0]["fieldsV1"];
    assert_eq!((&owned["f:stringData"], &owned["f:data"]), (&json!({"f:a": {}}), &Value::Null));
}

#[tokio::test]
async fn force_takes_back_what_people_changed_and_leaves_what_they_added() {
    let cluster = Cluster::start().await;
    let mut wanted = deployment("runner:1");
    wanted["spec"]["template"]["spec"]["nodeSelector"] = json!({"pool": "ci"});
    assert_eq!(cluster.apply(DEPLOYMENT, "", wanted.clone()).await.0, 201);
    let restarted = json!({"kubectl.kubernetes.io/restartedAt": "2026-11-24T07:00:00Z"});
    assert!(cluster.kubernetes.edit("deployments", "default", "m", |found| {
        found["spec"]["replicas"] = json!(3);
        let template = &mut found["spec"]["template"];
        template["metadata"]["annotations"] = restarted.clone();
        template["spec"]["nodeSelector"]["zone"] = json!("1");
        template["spec"]["containers"][0]["args"] = json!(["run", "--debug"]);
    }));

    let (status, body) = cluster.apply(DEPLOYMENT, "", wanted.clone()).await;
    let causes = body["details"]["causes"].as_array().unwrap();
    let mut fields: Vec<&str> =
        causes.iter().map(|cause| cause["field"].as_str().unwrap()).collect();
    fields.sort_unstable();
    let pod = ".spec.template.spec";
    let args = format!("{pod}.containers[name=\"gitlab-runner\"].args");
    let selector = format!("{pod}.nodeSelector");
    assert_eq!((status, fields), (409, vec![".spec.replicas", args.as_str(), selector.as_str()]));

    for _again in 0..2 {
        let (status, forced) = cluster.apply(DEPLOYMENT, "force=true", wanted.clone()).await;
        assert_eq!((status, &forced["metadata"]["generation"]), (200, &json!(3)));
        let template = &forced["spec"]["template"];
        assert_eq!(forced["spec"]["replicas"], 1);
        assert_eq!(template["spec"]["nodeSelector"], json!({"pool": "ci"}));
        assert_eq!(template["spec"]["containers"][0]["args"], json!(["run"]));
        assert_eq!(template["metadata"]["annotations"], restarted);
    }
}

#[tokio::test]
async fn a_manager_is_refused_exactly_what_its_role_lacks() {
    let cluster = Cluster::start().await;
    for name in ["managers", "ci-a"] {
        cluster.namespace(name, json!({}));
    }
    cluster.account("managers", "manager", json!({}));
    let group = "rbac.authorization.k8s.io";
    cluster.admin(json!({
        "apiVersion": format!("{group}/v1"), "kind": "RoleBinding",
        "metadata": {"name": "manager", "namespace": "ci-a"},
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "manager"},
        "subjects": [{"kind": "ServiceAccount", "name": "manager", "namespace": "managers"}],
    }));
    let issuer = cluster.kubernetes.issuer();
    let token = cluster.kubernetes.service_account_token("managers", "manager", &issuer, None);
    let token = token.await.unwrap();
    let calls = [
        ("POST", "pods", "create", "pods", ""),
        ("DELETE", "pods/p", "delete", "pods", ""),
        ("GET", "pods/p", "get", "pods", ""),
        ("GET", "pods", "list", "pods", ""),
        ("GET", "pods?watch=true", "watch", "pods", ""),
        ("POST", "pods/p/attach", "create", "pods/attach", ""),
        ("POST", "pods/p/exec", "create", "pods/exec", ""),
        ("GET", "pods/p/log", "get", "pods/log", ""),
        ("POST", "secrets", "create", "secrets", ""),
        ("GET", "events", "list", "events", ""),
        ("GET", "events?watch=true", "watch", "events", ""),
        ("POST", "poddisruptionbudgets", "create", "poddisruptionbudgets", "policy"),
    ];
    for removed in 0..calls.len() {
        let rules: Vec<Value> = calls
            .iter()
            .enumerate()
            .filter(|(index, _)| *index != removed)
            .map(|(_, (_, _, verb, resource, group))| {
                json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]})
            })
            .collect();
        cluster.admin(json!({
            "apiVersion": format!("{group}/v1"), "kind": "Role",
            "metadata": {"name": "manager", "namespace": "ci-a"}, "rules": rules,
        }));
        for (index, (method, path, verb, resource, group)) in calls.into_iter().enumerate() {
            let prefix = if group.is_empty() { "/api/v1" } else { "/apis/policy/v1" };
            let path = format!("{prefix}/namespaces/ci-a/{path}");
            let body = if method == "POST" { json!({}) } else { Value::Null };
            let (status, answer) = cluster.ask_as(&token, method, &path, JSON, &body).await;
            assert_eq!(status == 403, index == removed, "{method} {path} {answer}");
            if index == removed {
                let about = match (path.contains("/pods/p"), group) {
                    (true, _) => "pods \"p\"".to_owned(),
                    (false, "") => resource.to_owned(),
                    (false, group) => format!("{resource}.{group}"),
                };
                let message = format!(
                    "{about} is forbidden: User \"system:serviceaccount:managers:manager\" cannot \
                     {verb} resource \"{resource}\" in API group \"{group}\" in the namespace \
                     \"ci-a\""
                );
                assert_eq!(answer["message"], message);
            }
        }
    }
}

#[tokio::test]
async fn a_token_bound_to_a_pod_names_it_and_dies_with_it() {
    let cluster = Cluster::start().await;
    let bare = pod(json!({"containers": [{"name": "a", "image": "i"}]}));
    let (_, made) = cluster.ask("POST", "/api/v1/namespaces/default/pods", bare).await;
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": "p"}},
    });
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let (status, body) = cluster.ask("POST", path, request.clone()).await;
    assert_eq!(status, 201, "{body}");
    let token = body["status"]["token"].as_str().unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let named = json!({"name": "p", "uid": made["metadata"]["uid"]});
    assert_eq!(claims["kubernetes.io"]["pod"], named);
    assert_eq!(cluster.ask_as(token, "GET", MAPS, JSON, &Value::Null).await.0, 403);
    assert!(cluster.kubernetes.delete_as_admin("pods", "default", "p"));
    assert_eq!(cluster.ask_as(token, "GET", MAPS, JSON, &Value::Null).await.0, 401);
    assert_eq!(cluster.ask("POST", path, request).await.0, 404);
}

#[tokio::test]
async fn a_foreground_deletion_waits_for_the_pods() {
    let cluster = Cluster::start().await;
    cluster.admin(secret("config", "a"));
    cluster.apply(DEPLOYMENT, "", deployment("runner:1")).await;
    cluster.settle().await;
    let options = json!({"propagationPolicy": "Foreground"});
    let (status, going) = cluster.ask("DELETE", DEPLOYMENT, options).await;
    assert_eq!((status, going["metadata"]["deletionTimestamp"].is_string()), (200, true));
    cluster.turn(10).await;
    assert_eq!(cluster.ask("GET", DEPLOYMENT, Value::Null).await.0, 200);
    let pod = cluster.kubernetes.running_manager_pods().remove(0);
    assert!(pod.terminating.is_some());
    cluster.kubernetes.pod_exited("default", &pod.name);
    cluster.turn(0).await;
    assert_eq!(cluster.ask("GET", DEPLOYMENT, Value::Null).await.0, 404);
    assert_eq!(cluster.kubernetes.list("replicasets", "default"), Vec::<Value>::new());
}
