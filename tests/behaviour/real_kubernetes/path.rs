//! The whole path on a real API server: what forerunner does there, and with which rights.

use super::{
    cluster::{Cluster, cluster},
    target::APPLY,
};
use crate::harness::{FLEET, Sandbox};
use base64::{Engine, prelude::BASE64_STANDARD};
use forerunner::sandbox::gitlab::{JobStatus, NewJob};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    time::Duration,
};

/// API group, resource and verb.
pub(super) type Right = (String, String, String);

/// An identity and a namespace that an administrator made, beside the managed ones.
const EXISTING: &str = "
  tf:
    runner: { tags: [terraform] }
    identity:
      existing: [/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-existing/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-tf]
      expect: [{ role: Reader, scope: /subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/app }]
    isolation: profile
    kubernetes: { namespace: given-by-a-person }
";

/// A fleet of its own on the server that all tests share.
fn fleet(name: &str) -> String {
    FLEET
        .replace("fleet: nonprod", &format!("fleet: {name}"))
        .replace("groups:\n", "groups:\n  platform/network: { values: { subscription: 00000000-0000-4000-8000-000000002222 } }\n")
        .replace("profiles: [plan] }", "profiles: [plan, tf] }")
        .replace("\nguardrails:", &format!("{EXISTING}guardrails:"))
}

/// Two sandboxes would each play the one node.
pub(super) static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runner_is_made_a_job_signs_in_and_a_second_round_changes_nothing() {
    let Some(cluster) = cluster() else { return };
    let _alone = ALONE.lock().await;
    let sandbox = Sandbox::on_cluster(&fleet("path"), &cluster.kubeconfig).await;
    let given = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "given-by-a-person",
        "labels": {"forerunner.dev/fleet": "path", "pod-security.kubernetes.io/enforce": "restricted"}}});
    let administrator = &cluster.administrator_token;
    cluster.call(administrator, "POST", "/api/v1/namespaces", "application/json", &given).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    for profile in ["plan", "tf"] {
        assert!(sandbox.is_ready(&format!("runner/g{group}-{profile}")), "{}", sandbox.story());
    }

    let project = sandbox.world.gitlab.create_project(group, "ledger");
    let job = sandbox.world.gitlab.create_job(
        project,
        NewJob {
            tags: vec!["azure-plan".to_owned()],
            script: vec![
                "az login --service-principal --username $AZURE_CLIENT_ID --tenant $AZURE_TENANT_ID \
                 --federated-token \"$(cat $AZURE_FEDERATED_TOKEN_FILE)\" > /dev/null"
                    .to_owned(),
                "az account show --query id --output tsv".to_owned(),
            ],
            ..NewJob::default()
        },
    );
    sandbox.pass(SignedDuration::from_secs(60)).await;
    let job = sandbox.world.gitlab.job(job).unwrap();
    assert_eq!(job.status, JobStatus::Success, "{}\n{}", job.trace, sandbox.story());

    let before = versions(cluster, "path").await;
    assert!(before.len() > 10, "{before:?}");
    sandbox.world.gitlab.archive_group(group);
    sandbox.world.gitlab.unarchive_group(group);
    sandbox.settle().await;
    sandbox.sweep().await;
    assert_eq!(versions(cluster, "path").await, before, "{}", sandbox.story());

    // What else a unit comes to on its way: it is held, and taken up again.
    sandbox.world.gitlab.archive_group(group);
    sandbox.settle().await;
    sandbox.world.gitlab.unarchive_group(group);
    sandbox.settle().await;
    // A message that is none of ours is kept.
    sandbox.put_on_queue("hello, is this thing on?", "x");
    // A manager's configuration was edited by hand.
    let secret = "/api/v1/namespaces/forerunner-path/secrets";
    let token = &cluster.administrator_token;
    let (_, secrets) = cluster.call(token, "GET", secret, "", &Value::Null).await;
    let edited = &secrets["items"][0];
    let config = BASE64_STANDARD.decode(edited["data"]["config.toml"].as_str().unwrap()).unwrap();
    let config =
        String::from_utf8(config).unwrap().replacen("check_interval = ", "check_interval = 1", 1);
    let edit = json!({"data": {"config.toml": BASE64_STANDARD.encode(config)}});
    let path = format!("{secret}/{}", edited["metadata"]["name"].as_str().unwrap());
    cluster.call(token, "PATCH", &path, "application/merge-patch+json", &edit).await;
    sandbox.world.gitlab.archive_group(group);
    sandbox.world.gitlab.unarchive_group(group);
    sandbox.settle().await;
    sandbox.sweep().await;
    assert!(sandbox.is_ready(&format!("runner/g{group}-plan")), "{}", sandbox.story());
    // An operator takes it all away.
    let order = json!({"command": "remove", "targets": ["all"], "by": "jane", "why": "a test"});
    sandbox.order("approvals", &order);
    sandbox.settle().await;
    let left = versions(cluster, "path").await;
    let left: Vec<_> = left.keys().filter(|name| name.contains(&format!("g{group}-"))).collect();
    assert!(left.is_empty(), "{left:?}\n{}", sandbox.story());
    assert!(sandbox.world.gitlab.runners().is_empty(), "{}", sandbox.story());
    let given = "/api/v1/namespaces/given-by-a-person";
    let (status, _) = cluster.call(administrator, "GET", given, "", &Value::Null).await;
    assert_eq!(status, 200, "a person's namespace stays");
    let granted = granted(cluster, "forerunner-path", sandbox.world.forerunner_user()).await;
    let used = used(&cluster.audited(sandbox.world.forerunner_user()));
    let unused: BTreeSet<&Right> = granted.difference(&used).collect();
    // Asking for a binding needs it, and no request shows it: see below.
    let bind = ("rbac.authorization.k8s.io", "clusterroles", "bind");
    let bind = (bind.0.to_owned(), bind.1.to_owned(), bind.2.to_owned());
    assert_eq!(unused, BTreeSet::from([&bind]), "granted and unused");
    let missing: BTreeSet<&Right> = used.difference(&granted).collect();
    assert_eq!(missing, BTreeSet::new(), "used and not granted by us");

    let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/forerunner-path";
    let (_, mut object) = cluster.call(token, "GET", role, "", &Value::Null).await;
    let rules = object["rules"].as_array_mut().unwrap();
    rules.retain(|rule| !rule["verbs"].as_array().unwrap().contains(&json!("bind")));
    cluster.call(token, "PUT", role, "application/json", &object).await;
    sandbox.world.gitlab.create_group(Some(42), "network");
    let refusal = "attempting to grant RBAC permissions not currently held";
    sandbox.settle().await;
    let refused = sandbox.whole_story();
    assert!(refused.contains(refusal), "without `bind` no manager is bound:\n{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_runs_on_a_real_server() {
    let Some(cluster) = cluster() else { return };
    let _alone = ALONE.lock().await;
    let mut demo = tokio::process::Command::new(env!("CARGO_BIN_EXE_forerunner"));
    demo.args(["sandbox", "--demo", "--kubeconfig"]).arg(&cluster.kubeconfig);
    let output = demo.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(180), output).await.unwrap().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{out}\n{err}");
    for part in ["ok Ready: as fleet.yaml says", "AuthorizationFailed", "Job succeeded"] {
        assert!(out.contains(part), "no `{part}` in\n{out}");
    }
}

/// Of everything that carries the fleet's label: path and `resourceVersion`. A Deployment's, without its status.
pub(super) async fn versions(cluster: &Cluster, fleet: &str) -> BTreeMap<String, Value> {
    let mut versions = BTreeMap::new();
    for list in [
        "/api/v1/namespaces",
        "/api/v1/serviceaccounts",
        "/api/v1/secrets",
        "/api/v1/configmaps",
        "/api/v1/resourcequotas",
        "/api/v1/limitranges",
        "/apis/networking.k8s.io/v1/networkpolicies",
        "/apis/rbac.authorization.k8s.io/v1/rolebindings",
        "/apis/apps/v1/deployments",
    ] {
        let path = format!("{list}?labelSelector=forerunner.dev/fleet={fleet}");
        let (_, found) =
            cluster.call(&cluster.administrator_token, "GET", &path, "", &Value::Null).await;
        for item in found["items"].as_array().unwrap() {
            let metadata = &item["metadata"];
            // A quota counts what others make in its namespace.
            let version = match list.ends_with("resourcequotas") {
                true => metadata["generation"].clone(),
                false => metadata["resourceVersion"].clone(),
            };
            versions
                .insert(format!("{list} {} {}", metadata["namespace"], metadata["name"]), version);
        }
    }
    versions
}

/// What forerunner's role and its Role in the managers' namespace let it do.
pub(super) async fn granted(cluster: &Cluster, name: &str, user: &str) -> BTreeSet<Right> {
    let root = "/apis/rbac.authorization.k8s.io/v1";
    let mut granted = BTreeSet::new();
    for path in
        [format!("{root}/clusterroles/{name}"), format!("{root}/namespaces/{name}/roles/{name}")]
    {
        let (status, role) =
            cluster.call(&cluster.administrator_token, "GET", &path, APPLY, &Value::Null).await;
        assert_eq!(status, 200, "{user}: {role}");
        for rule in role["rules"].as_array().unwrap() {
            let texts = |key: &str| -> Vec<String> {
                let list = rule[key].as_array().unwrap();
                list.iter().map(|text| text.as_str().unwrap().to_owned()).collect()
            };
            for group in texts("apiGroups") {
                for resource in texts("resources") {
                    granted.extend(
                        texts("verbs")
                            .into_iter()
                            .map(|verb| (group.clone(), resource.clone(), verb)),
                    );
                }
            }
        }
    }
    granted
}

/// What was asked for, as rights. An apply that made something needed `create` too. Asking who one is, and what the
/// server is, everybody may.
pub(super) fn used(events: &[Value]) -> BTreeSet<Right> {
    let mut used = BTreeSet::new();
    for event in events {
        let reference = &event["objectRef"];
        let text = |key: &str| reference[key].as_str().unwrap_or_default().to_owned();
        if reference.is_null() || event["responseStatus"]["code"] == 403 {
            continue;
        }
        let verb = event["verb"].as_str().unwrap().to_owned();
        if verb == "patch" && event["responseStatus"]["code"] == 201 {
            used.insert((text("apiGroup"), text("resource"), "create".to_owned()));
        }
        used.insert((text("apiGroup"), text("resource"), verb));
    }
    used
}
