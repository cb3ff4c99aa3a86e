//! What somebody would try who has stolen forerunner's identity: with forerunner's own rights, and with every right in
//! the cluster, so that the admission policy stands alone.

use super::target::{JSON, Target, both};
use serde_json::{Value, json};

/// Whoever has stolen the identity of a fleet.
struct Thief<'a> {
    target: &'a Target,
    fleet: String,
    /// Every right there is, for the policy to narrow.
    any_right: bool,
}

/// One thing tried: what it is, the call, and a part of the answer that refuses it.
struct Attempt {
    what: &'static str,
    method: &'static str,
    path: String,
    body: Value,
    by_policy: &'static str,
    /// With forerunner's own rights it does not even come to the policy.
    by_rights: Option<&'static str>,
}

const LABEL: &str = "forerunner.dev/fleet";
const LEVEL: &str = "pod-security.kubernetes.io/enforce";
const OUTSIDE: &str = "forerunner works only in namespaces that carry its fleet's label";
const UNLABELLED: &str =
    "forerunner makes, changes and deletes only namespaces that carry its fleet's label";
const UNSAFE: &str = "a namespace of forerunner's enforces Pod Security baseline or restricted";
const MANAGERS: &str = "the managers' namespace is an administrator's";
const BOUND: &str = "forerunner binds only managers, and only to their own role";
const NOBODY: &str = "nobody is bound to anything in the managers' namespace";
const KEPT: &str =
    "forerunner keeps Secrets, ConfigMaps and Deployments in the managers' namespace alone";
const OPAQUE: &str = "forerunner writes only Opaque Secrets";
const PODS: &str = "forerunner makes, changes and enters no pods";
const SUBRESOURCE: &str = "forerunner uses no sub-resource";
const FORBIDDEN: &str = "is forbidden: User";
const HELD: &str = "is attempting to grant RBAC permissions not currently held";

fn attempts(fleet: &str) -> Vec<Attempt> {
    let managers = format!("forerunner-{fleet}");
    let jobs = format!("ci-{fleet}-jobs");
    let namespace = |name: &str, labels: Value| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}});
    let safe = json!({LABEL: fleet, LEVEL: "restricted"});
    let pod = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "image": "i", "securityContext": {
                "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
            }}],
        }})
    };
    let binding = |name: &str, role: Value, subject: Value| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
            "roleRef": role, "subjects": [subject],
        })
    };
    let rbac = "rbac.authorization.k8s.io";
    let manager_role =
        json!({"apiGroup": rbac, "kind": "ClusterRole", "name": "forerunner-manager"});
    let any_role = json!({"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"});
    let manager = json!({"kind": "ServiceAccount", "name": "manager", "namespace": managers});
    let user = json!({"kind": "User", "name": "anybody", "apiGroup": rbac});
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "own"}});
    let map =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}, "data": {}});
    let token_secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
        "metadata": {"name": "token", "annotations": {"kubernetes.io/service-account.name": "default"}}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own"}, "type": "Opaque"});
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": ["api://AzureADTokenExchange"]}});
    let core = |namespace: &str, rest: &str| format!("/api/v1/namespaces/{namespace}/{rest}");
    let bindings = |namespace: &str| format!("/apis/{rbac}/v1/namespaces/{namespace}/rolebindings");
    let attempt = |what, method, path: String, body, by_policy, by_rights| Attempt {
        what,
        method,
        path,
        body,
        by_policy,
        by_rights,
    };
    let merge = |labels: Value| json!({"metadata": {"labels": labels}});
    vec![
        attempt(
            "a namespace without the label",
            "POST",
            "/api/v1/namespaces".into(),
            namespace("theirs", json!({LEVEL: "restricted"})),
            UNLABELLED,
            None,
        ),
        attempt(
            "a namespace of another fleet",
            "POST",
            "/api/v1/namespaces".into(),
            namespace("theirs", json!({LABEL: "other", LEVEL: "restricted"})),
            UNLABELLED,
            None,
        ),
        attempt(
            "taking over a namespace by labelling it",
            "PATCH",
            "/api/v1/namespaces/default".into(),
            merge(json!({LABEL: fleet, LEVEL: "restricted"})),
            UNLABELLED,
            None,
        ),
        attempt(
            "giving a namespace away",
            "PATCH",
            format!("/api/v1/namespaces/{jobs}"),
            merge(json!({LABEL: "other"})),
            UNLABELLED,
            None,
        ),
        attempt(
            "deleting somebody's namespace",
            "DELETE",
            "/api/v1/namespaces/somebodys".into(),
            Value::Null,
            UNLABELLED,
            None,
        ),
        attempt(
            "a privileged namespace",
            "POST",
            "/api/v1/namespaces".into(),
            namespace("wide", json!({LABEL: fleet, LEVEL: "privileged"})),
            UNSAFE,
            None,
        ),
        attempt(
            "a namespace without a level",
            "POST",
            "/api/v1/namespaces".into(),
            namespace("wide", json!({LABEL: fleet})),
            UNSAFE,
            None,
        ),
        attempt(
            "weakening a namespace",
            "PATCH",
            format!("/api/v1/namespaces/{jobs}"),
            merge(json!({LEVEL: "privileged"})),
            UNSAFE,
            None,
        ),
        attempt(
            "taking a namespace's level away",
            "PATCH",
            format!("/api/v1/namespaces/{jobs}"),
            merge(json!({LEVEL: null})),
            UNSAFE,
            None,
        ),
        attempt(
            "changing the managers' namespace",
            "PATCH",
            format!("/api/v1/namespaces/{managers}"),
            merge(json!({"x": "y"})),
            MANAGERS,
            None,
        ),
        attempt(
            "deleting the managers' namespace",
            "DELETE",
            format!("/api/v1/namespaces/{managers}"),
            Value::Null,
            MANAGERS,
            None,
        ),
        attempt(
            "an account elsewhere",
            "POST",
            core("default", "serviceaccounts"),
            account.clone(),
            OUTSIDE,
            None,
        ),
        attempt(
            "a network policy elsewhere",
            "POST",
            "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies".into(),
            json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "own"}, "spec": {"podSelector": {}}}),
            OUTSIDE,
            None,
        ),
        attempt(
            "a binding elsewhere",
            "POST",
            bindings("default"),
            binding("own", manager_role.clone(), manager.clone()),
            OUTSIDE,
            None,
        ),
        attempt(
            "a binding to a mighty role",
            "POST",
            bindings(&jobs),
            binding("own", any_role.clone(), manager.clone()),
            BOUND,
            Some(HELD),
        ),
        attempt(
            "binding somebody to the managers' role",
            "POST",
            bindings(&jobs),
            binding("own", manager_role.clone(), user),
            BOUND,
            None,
        ),
        attempt(
            "binding a job's account to it",
            "POST",
            bindings(&jobs),
            binding(
                "own",
                manager_role.clone(),
                json!({"kind": "ServiceAccount", "name": "default", "namespace": jobs}),
            ),
            BOUND,
            None,
        ),
        attempt(
            "a binding among the managers",
            "POST",
            bindings(&managers),
            binding("own", manager_role, manager),
            NOBODY,
            None,
        ),
        attempt(
            "a ConfigMap among jobs",
            "POST",
            core(&jobs, "configmaps"),
            map,
            KEPT,
            Some(FORBIDDEN),
        ),
        attempt(
            "a Secret among jobs",
            "POST",
            core(&jobs, "secrets"),
            secret.clone(),
            KEPT,
            Some(FORBIDDEN),
        ),
        attempt(
            "a Secret elsewhere",
            "POST",
            core("default", "secrets"),
            secret,
            OUTSIDE,
            Some(FORBIDDEN),
        ),
        attempt(
            "a Secret that is filled with a token",
            "POST",
            core(&managers, "secrets"),
            token_secret,
            OPAQUE,
            None,
        ),
        attempt("a pod among jobs", "POST", core(&jobs, "pods"), pod("own"), PODS, Some(FORBIDDEN)),
        attempt(
            "a pod among managers",
            "POST",
            core(&managers, "pods"),
            pod("own"),
            PODS,
            Some(FORBIDDEN),
        ),
        attempt(
            "a job's token",
            "POST",
            core(&jobs, "serviceaccounts/default/token"),
            request.clone(),
            SUBRESOURCE,
            Some(FORBIDDEN),
        ),
        attempt(
            "a manager's token",
            "POST",
            core(&managers, "serviceaccounts/default/token"),
            request,
            SUBRESOURCE,
            Some(FORBIDDEN),
        ),
        attempt(
            "a cluster-wide binding",
            "POST",
            format!("/apis/{rbac}/v1/clusterrolebindings"),
            json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "own"}, "roleRef": any_role, "subjects": []}),
            OUTSIDE,
            Some(FORBIDDEN),
        ),
        attempt(
            "the managers' role itself",
            "PATCH",
            format!("/apis/{rbac}/v1/clusterroles/forerunner-manager"),
            json!({"rules": []}),
            OUTSIDE,
            Some(FORBIDDEN),
        ),
        attempt(
            "a namespace as it should be, tried",
            "POST",
            "/api/v1/namespaces?dryRun=All".into(),
            namespace(&format!("ci-{fleet}-new"), safe),
            "",
            None,
        ),
    ]
}

impl Thief<'_> {
    async fn tries(&self) {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": format!("ci-{}-jobs", self.fleet), "labels": {LABEL: self.fleet, LEVEL: "restricted"},
        }});
        let somebodys =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "somebodys"}});
        for namespace in [namespace, somebodys] {
            let (status, body) = self.target.apply_as_administrator(&namespace).await;
            assert!(status < 300, "{body}");
        }
        for attempt in attempts(&self.fleet) {
            let Attempt { what, method, path, body, by_policy, by_rights } = attempt;
            let content_type =
                if method == "PATCH" { "application/merge-patch+json" } else { JSON };
            let (status, answer) = self.call(method, &path, content_type, &body).await;
            let context = format!("{}: {what}: {answer}", self.target.name());
            let message = answer["message"].as_str().unwrap_or_default();
            match by_rights.filter(|_| !self.any_right) {
                Some(words) => {
                    assert_eq!(status, 403, "{context}");
                    assert!(message.contains(words), "{context}");
                }
                None if by_policy.is_empty() => assert_eq!(status, 201, "{context}"),
                None => {
                    assert_eq!((status, &answer["reason"]), (422, &json!("Invalid")), "{context}");
                    assert!(message.contains(by_policy), "{context}");
                }
            }
        }
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> (u16, Value) {
        let token = self.target.forerunner_token();
        match self.any_right {
            true => self.target.call_as_mighty(method, path, content_type, body).await,
            false => self.target.call(token, method, path, content_type, body).await,
        }
    }
}

#[tokio::test]
async fn a_stolen_identity_is_refused_all_that_is_not_forerunners() {
    both(async |target| {
        Thief { target, fleet: "nonprod".to_owned(), any_right: false }.tries().await;
    })
    .await;
}

#[tokio::test]
async fn the_policy_alone_holds_back_somebody_with_every_right() {
    both(async |target| {
        let fleet = target.make_mighty().await;
        Thief { target, fleet, any_right: true }.tries().await;
    })
    .await;
}
