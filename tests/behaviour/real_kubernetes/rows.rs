//! Kubernetes' rows of docs/drift.md, and every way out, on a real API server: with forerunner's own rights, the audit and the
//! admission policy on.

use super::{
    cluster::{Cluster, cluster},
    path::{ALONE, Right, granted, used, versions},
    target::JSON,
};
use crate::{
    disturbed::entries,
    harness::{FLEET, Sandbox},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use forerunner::domain::names::LABEL_FLEET;
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

mod leaving;
mod managers;
mod tokens;
mod watched;

const NAME: &str = "rows";
const MANAGERS: &str = "forerunner-rows";
const ROLE: &str = "forerunner-manager-rows";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";
const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";

/// A fleet of its own on the server that all tests share, with a ClusterRole of its own. Who leaves rests for an hour.
fn fleet() -> String {
    let subscription = "values: { subscription: 00000000-0000-4000-8000-000000002222 }";
    let groups = ["network", "waiting"]
        .map(|name| format!("  platform/{name}: {{ {subscription} }}\n"))
        .concat();
    FLEET
        .replace("fleet: nonprod", &format!("fleet: {NAME}"))
        .replace("groups:\n", &format!("groups:\n{groups}"))
        .replace("  images: {", &format!("  managerClusterRole: {ROLE}\n  images: {{"))
        .replace("guardrails:\n", "guardrails:\n  grace: 1h\n")
}

/// A settled runner on the real server.
struct Settled {
    cluster: &'static Cluster,
    sandbox: Sandbox,
    key: String,
}

impl Settled {
    async fn new(cluster: &'static Cluster) -> Self {
        let sandbox = Sandbox::on_cluster(&fleet(), &cluster.kubeconfig).await;
        let group = sandbox.world.gitlab.create_group(Some(42), "payments");
        sandbox.settle().await;
        sandbox.lose_hooks();
        let settled = Self { cluster, sandbox, key: format!("g{group}-plan") };
        settled.assert_ready();
        settled
    }

    fn unit(&self) -> String {
        format!("runner/{}", self.key)
    }

    fn assert_ready(&self) {
        let unit = self.unit();
        assert!(self.sandbox.is_ready(&unit), "{}", self.sandbox.status(&unit));
    }

    /// Nobody does anything meanwhile: on a real server each second that passes is looked at.
    fn wait_minutes(&self, minutes: i64) {
        let clock = &self.sandbox.world.clock;
        clock.turn_to(clock.now() + SignedDuration::from_mins(minutes));
    }

    fn place(&self, path: &str) -> String {
        let jobs = format!("ci-{NAME}--{}", self.key);
        path.replace("JOBS", &jobs).replace("MANAGERS", MANAGERS).replace("KEY", &self.key)
    }

    /// As an administrator.
    async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let token = &self.cluster.administrator_token;
        self.cluster.call(token, method, &self.place(path), JSON, body).await
    }

    async fn get(&self, path: &str) -> Value {
        let (status, object) = self.call("GET", path, &Value::Null).await;
        assert_eq!(status, 200, "{path}: {object}");
        object
    }

    async fn make(&self, path: &str, object: &Value) {
        let (status, answer) = self.call("POST", path, object).await;
        assert_eq!(status, 201, "{path}: {answer}");
    }

    async fn delete(&self, path: &str) {
        let (status, answer) = self.call("DELETE", path, &Value::Null).await;
        assert!([200, 202].contains(&status), "{path}: {status} {answer}");
    }

    /// As a person with an editor: again, where a controller was faster.
    async fn edit(&self, path: &str, change: impl Fn(&mut Value)) {
        loop {
            let mut object = self.get(path).await;
            change(&mut object);
            let (status, answer) = self.call("PUT", path, &object).await;
            match status {
                409 => {}
                200 => return,
                _ => panic!("{path}: {status} {answer}"),
            }
        }
    }

    /// Everything that bears the fleet's label, without what a server or a second making changes.
    async fn whole(&self) -> BTreeMap<String, Value> {
        let mut whole = BTreeMap::new();
        for name in versions(self.cluster, NAME).await.keys() {
            let mut parts = name.split(' ');
            let mut part = || parts.next().unwrap().trim_matches('"').to_owned();
            let (list, namespace, name) = (part(), part(), part());
            if list.ends_with("/configmaps") {
                continue;
            }
            let (root, plural) = list.rsplit_once('/').unwrap();
            let path = match namespace.as_str() {
                "null" => format!("{list}/{name}"),
                namespace => format!("{root}/namespaces/{namespace}/{plural}/{name}"),
            };
            let (status, mut object) = self.call("GET", &path, &Value::Null).await;
            if status == 404 {
                continue;
            }
            let metadata = object["metadata"].take();
            let annotations = metadata["annotations"].as_object().into_iter().flatten();
            let stable = |key: &str| {
                key.starts_with("azure.workload.identity/")
                    || key.starts_with("forerunner.dev/") && !key.ends_with("settling-since")
            };
            let kept: BTreeMap<_, _> = annotations.filter(|(key, _)| stable(key)).collect();
            object["metadata"] = json!([metadata["labels"], kept, metadata["deletionTimestamp"]]);
            object.as_object_mut().unwrap().remove("status");
            whole.insert(path, object);
        }
        whole
    }

    async fn findings(&self, kind: &str) -> Vec<String> {
        let path = "/api/v1/namespaces/MANAGERS/configmaps/fleet-status";
        let (status, map) = self.call("GET", path, &Value::Null).await;
        if status == 404 {
            return vec![];
        }
        let told: Value =
            serde_json::from_str(map["data"]["record.json"].as_str().unwrap()).unwrap();
        let all = told["findings"].as_array().cloned().unwrap_or_default().into_iter();
        let of_kind = all.filter(|one| one["kind"] == kind);
        of_kind.map(|one| format!("{}\n{}", one["message"], one["remedy"])).collect()
    }
}

/// What somebody does behind forerunner's back.
enum Damage {
    Gone,
    Edit(fn(&mut Value)),
}

struct Row {
    path: &'static str,
    damage: Damage,
}

const fn gone(path: &'static str) -> Row {
    Row { path, damage: Damage::Gone }
}

const fn edit(path: &'static str, change: fn(&mut Value)) -> Row {
    Row { path, damage: Damage::Edit(change) }
}

const DEPLOYMENT: &str = "/apis/apps/v1/namespaces/MANAGERS/deployments/runner-KEY";
const ACCOUNT: &str = "/api/v1/namespaces/JOBS/serviceaccounts/job";
const DEFAULT_ACCOUNT: &str = "/api/v1/namespaces/JOBS/serviceaccounts/default";
const MANAGER_ACCOUNT: &str = "/api/v1/namespaces/MANAGERS/serviceaccounts/runner-KEY";
const QUOTA: &str = "/api/v1/namespaces/JOBS/resourcequotas/jobs-KEY";
const LIMITS: &str = "/api/v1/namespaces/JOBS/limitranges/jobs-KEY";
const POLICY: &str = "/apis/networking.k8s.io/v1/namespaces/JOBS/networkpolicies/jobs-KEY";
const MANAGER_POLICY: &str =
    "/apis/networking.k8s.io/v1/namespaces/MANAGERS/networkpolicies/runner-KEY";
const BINDING: &str = "/apis/rbac.authorization.k8s.io/v1/namespaces/JOBS/rolebindings/runner-KEY";
const SECRET: &str = "/api/v1/namespaces/MANAGERS/secrets/runner-KEY-config";
const JOBS: &str = "/api/v1/namespaces/JOBS";

fn container(deployment: &mut Value) -> &mut Value {
    &mut deployment["spec"]["template"]["spec"]["containers"][0]
}

/// The manager's file with other words in it.
fn rewrite(secret: &mut Value, change: impl FnOnce(String) -> String) {
    let text = secret["data"]["config.toml"].as_str().unwrap();
    let text = String::from_utf8(BASE64_STANDARD.decode(text).unwrap()).unwrap();
    secret["data"]["config.toml"] = BASE64_STANDARD.encode(change(text)).into();
}

/// The one entity that a manager serves, and the token that its Secret holds.
async fn entry(settled: &Settled, key: &str) -> (u64, String) {
    entries(&settled.get(&SECRET.replace("KEY", key)).await).remove(0)
}

const ROWS: [Row; 22] = [
    gone(DEPLOYMENT),
    gone(MANAGER_POLICY),
    gone(POLICY),
    gone(BINDING),
    gone(QUOTA),
    gone(LIMITS),
    gone(ACCOUNT),
    gone(DEFAULT_ACCOUNT),
    gone(MANAGER_ACCOUNT),
    gone(JOBS),
    edit(DEPLOYMENT, |object| object["spec"]["replicas"] = 3.into()),
    edit(DEPLOYMENT, |object| container(object)["image"] = "evil".into()),
    edit(DEPLOYMENT, |object| container(object)["env"][0]["value"] = "elsewhere".into()),
    edit(JOBS, |object| {
        object["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "privileged".into();
    }),
    edit(ACCOUNT, |object| object["automountServiceAccountToken"] = true.into()),
    edit(ACCOUNT, |object| {
        object["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "somebody".into();
    }),
    edit(ACCOUNT, |object| {
        object["metadata"]["annotations"]["azure.workload.identity/client-id"] =
            "00000000-0000-4000-8000-00000000dead".into();
    }),
    edit(POLICY, |object| object["spec"]["egress"] = json!([{}])),
    edit(MANAGER_POLICY, |object| object["spec"]["egress"] = json!([{}])),
    edit(QUOTA, |object| object["spec"]["hard"]["pods"] = "500".into()),
    edit(BINDING, |object| object["subjects"][0]["name"] = "somebody".into()),
    edit(SECRET, |object| {
        rewrite(object, |text| text.replacen("check_interval = ", "check_interval = 1", 1));
    }),
];

/// One sweep mends it, and the next writes nothing.
async fn mended(settled: &Settled, row: &str, before: &BTreeMap<String, Value>) {
    assert_ne!(settled.whole().await, *before, "{row}: the damage shows");
    settled.sandbox.sweep().await;
    let after = settled.whole().await;
    for (path, object) in before {
        assert_eq!(after.get(path), Some(object), "{row}: {path}");
    }
    assert_eq!(after.len(), before.len(), "{row}: {:?}", after.keys());
    settled.assert_ready();
    let left = versions(settled.cluster, NAME).await;
    settled.sandbox.sweep().await;
    assert_eq!(versions(settled.cluster, NAME).await, left, "{row}: and then nothing more");
}

async fn mends_every_row(settled: &Settled) {
    let before = settled.whole().await;
    assert!(before.len() > 10, "{:?}", before.keys());
    for Row { path, damage } in &ROWS {
        match damage {
            Damage::Gone => settled.delete(path).await,
            Damage::Edit(change) => settled.edit(path, change).await,
        }
        mended(settled, path, &before).await;
    }
    // A role cannot be edited, so somebody put another binding in its place.
    let mut wider = settled.get(BINDING).await;
    settled.delete(BINDING).await;
    let (labels, annotations) =
        (wider["metadata"]["labels"].take(), wider["metadata"]["annotations"].take());
    wider["metadata"] = json!({"name": wider["metadata"]["name"],
        "namespace": wider["metadata"]["namespace"], "labels": labels, "annotations": annotations});
    wider["roleRef"]["name"] = "view".into();
    settled.make(BINDING.rsplit_once('/').unwrap().0, &wider).await;
    mended(settled, "another role", &before).await;
}

/// Without our label nothing tells an object from a stranger's: it is left, and its unit parked until the label is back.
async fn waits_for_its_label(settled: &Settled) {
    for path in [JOBS, BINDING, DEPLOYMENT, SECRET] {
        settled
            .edit(path, |object| {
                object["metadata"]["labels"].as_object_mut().unwrap().remove(LABEL_FLEET);
            })
            .await;
        let before = settled.get(path).await;
        settled.sandbox.sweep().await;
        let status = settled.sandbox.status(&settled.unit());
        let reason = status["parked"]["reason"].as_str().unwrap_or_default();
        assert!(reason.contains(LABEL_FLEET), "{path}: {status}");
        assert_eq!(settled.get(path).await, before, "{path} is left");
        settled.edit(path, |object| object["metadata"]["labels"][LABEL_FLEET] = NAME.into()).await;
        settled.wait_minutes(11);
        settled.sandbox.sweep().await;
        settled.assert_ready();
    }
}

/// Told with this in it, left as it is, and over when it is gone.
async fn told(settled: &Settled, path: &str, object: &Value, reason: &str) {
    let at = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
    settled.make(path, object).await;
    let before = settled.get(&at).await;
    settled.sandbox.sweep().await;
    let condition = settled.sandbox.condition(&settled.unit(), "NeedsAdministrator");
    assert_eq!(condition["reason"], reason, "{}", settled.sandbox.status(&settled.unit()));
    assert_eq!(settled.get(&at).await, before, "theirs");
    settled.delete(&at).await;
    settled.sandbox.sweep().await;
    assert!(settled.sandbox.condition(&settled.unit(), "NeedsAdministrator").is_null(), "{reason}");
}

async fn tells_strangers(settled: &Settled) {
    let metadata = json!({"name": "theirs", "namespace": settled.place("JOBS")});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": metadata, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        "subjects": [{"kind": "ServiceAccount", "name": "job", "namespace": settled.place("JOBS")}]});
    let bindings = format!("{RBAC}/namespaces/JOBS/rolebindings");
    told(settled, &bindings, &binding, "ForeignBinding").await;
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata,
        "spec": {"podSelector": {}, "policyTypes": ["Egress"], "egress": [{}]}});
    let policies = "/apis/networking.k8s.io/v1/namespaces/JOBS/networkpolicies";
    told(settled, policies, &policy, "ForeignPolicy").await;
}

/// A credential for another issuer than the one that the server itself names is put right.
async fn mends_a_credential_of_another_issuer(settled: &Settled) {
    let azure = &settled.sandbox.world.azure;
    let identity = azure.identities().remove(0);
    let before = azure.credentials(&identity.id);
    let mut other = before[0].clone();
    other.issuer = "https://another.example.com/".to_owned();
    azure.edit_credential(&identity.id, other);
    settled.sandbox.sweep().await;
    assert_eq!(azure.credentials(&identity.id), before);
    settled.assert_ready();
}

/// A namespace that somebody's controller does not let go of is waited for.
async fn waits_for_a_namespace(settled: &Settled) {
    let before = settled.whole().await;
    let held = json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "held", "finalizers": ["example.com/cleanup"]}});
    settled.make("/api/v1/namespaces/JOBS/configmaps", &held).await;
    settled.delete(JOBS).await;
    let host = settled.sandbox.world.host();
    assert!(host.is_some_and(|host| host.run_timer_now("sweep")));
    settled.sandbox.pass_minutes(1).await;
    settled.wait_minutes(10);
    settled.sandbox.pass_minutes(1).await;
    assert_eq!(settled.get(JOBS).await["status"]["phase"], "Terminating");
    let unit = settled.unit();
    assert!(!settled.sandbox.is_parked(&unit), "{}", settled.sandbox.status(&unit));
    settled
        .edit("/api/v1/namespaces/JOBS/configmaps/held", |object| {
            object["metadata"]["finalizers"] = json!([]);
        })
        .await;
    mended(settled, "going away", &before).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_on_a_real_server_is_mended_or_told_and_all_of_it_goes_whole() {
    let Some(cluster) = cluster() else { return };
    let _alone = ALONE.lock().await;
    let settled = Settled::new(cluster).await;
    mends_every_row(&settled).await;
    waits_for_a_namespace(&settled).await;
    mends_a_credential_of_another_issuer(&settled).await;
    tells_strangers(&settled).await;
    waits_for_its_label(&settled).await;
    watched::watches_what_administrators_applied(&settled).await;
    managers::fights_once_for_each_field_taken(&settled).await;
    let network = settled.sandbox.world.gitlab.create_group(Some(42), "network");
    let other = format!("g{network}-plan");
    settled.sandbox.sweep().await;
    settled.sandbox.assert_ready(&format!("runner/{other}"));
    tokens::keeps_its_token_beside_another_entitys(&settled, &other).await;
    tokens::makes_a_lost_token_anew_once_confirmed(&settled).await;
    let waited = managers::waits_for_a_node(&settled).await;
    leaving::goes_the_ordinary_way(&settled, waited).await;
    leaving::goes_from_a_desk(&settled, &other).await;
    let user = settled.sandbox.world.forerunner_user();
    let audited = cluster.audited(user);
    let refused: Vec<&Value> =
        audited.iter().filter(|event| event["responseStatus"]["code"] == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let granted = granted(cluster, MANAGERS, user).await;
    let missing: BTreeSet<Right> = used(&audited).difference(&granted).cloned().collect();
    assert_eq!(missing, BTreeSet::new(), "used and not granted by us");
}
