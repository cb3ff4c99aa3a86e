//! Another hand that wants a field of ours again and again, and a cluster none of whose nodes takes a manager.

use super::{DEPLOYMENT, MANAGERS, SECRET, Settled, entry, mended};
use crate::real_kubernetes::target::APPLY;
use forerunner::domain::names::FIELD_MANAGER;
use serde_json::{Value, json};

const THEIRS: &str = "somebodys-tool";
/// The one there is; the sandbox plays its kubelet.
const NODE: &str = "/api/v1/nodes/sandbox-node";
const MERGE: &str = "application/merge-patch+json";

impl Settled {
    /// Applies to the manager's Deployment with force, as another tool does that believes it its own.
    async fn apply_as_theirs(&self, spec: &Value) {
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": spec,
            "metadata": {"name": format!("runner-{}", self.key), "namespace": MANAGERS}});
        let path = format!("{}?fieldManager={THEIRS}&force=true", self.place(DEPLOYMENT));
        let token = &self.cluster.administrator_token;
        let (status, answer) = self.cluster.call(token, "PATCH", &path, APPLY, &deployment).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// How often forerunner wrote the manager's Deployment.
    fn deployment_writes(&self) -> usize {
        let name = format!("runner-{}", self.key);
        let events = self.cluster.audited(self.sandbox.world.forerunner_user());
        let writes = events.iter().filter(|event| {
            let (object, verb) = (&event["objectRef"], event["verb"].as_str().unwrap());
            let is_deployment = object["resource"] == "deployments" && object["name"] == *name;
            is_deployment && !["get", "list"].contains(&verb)
        });
        writes.count()
    }

    /// Who has ever asked for what the manager's Deployment says at this pointer into `managedFields`.
    async fn owners(&self, field: &str) -> Vec<String> {
        let deployment = self.get(DEPLOYMENT).await;
        let all = deployment["metadata"]["managedFields"].as_array().unwrap().iter();
        let owners = all.filter(|one| one["fieldsV1"].pointer(field).is_some());
        owners.map(|one| one["manager"].as_str().unwrap().to_owned()).collect()
    }

    async fn cordon(&self, cordoned: bool) {
        // The scheduler goes by what the Node says; the kubelet that is played binds pods too.
        self.sandbox.world.kubernetes.set_unschedulable(cordoned);
        let node = json!({"spec": {"unschedulable": cordoned}});
        let token = &self.cluster.administrator_token;
        let (status, answer) = self.cluster.call(token, "PATCH", NODE, MERGE, &node).await;
        assert_eq!(status, 200, "{answer}");
    }
}

/// Each time that another field manager takes a field, one write takes it back; who asks for the same is let be.
pub(super) async fn fights_once_for_each_field_taken(settled: &Settled) {
    let before = settled.whole().await;
    let container =
        settled.get(DEPLOYMENT).await["spec"]["template"]["spec"]["containers"][0]["name"].clone();
    let image = "/f:spec/f:template/f:spec/f:containers".to_owned()
        + &format!("/k:{{\"name\":{container}}}/f:image");
    let other_image =
        json!({"template": {"spec": {"containers": [{"name": container, "image": "evil"}]}}});
    for (field, spec) in [
        ("/f:spec/f:replicas", &json!({"replicas": 3})),
        ("/f:spec/f:replicas", &json!({"replicas": 3})),
        (&image, &other_image),
    ] {
        settled.apply_as_theirs(spec).await;
        assert_eq!(settled.owners(field).await, [THEIRS], "{field} is taken");
        let writes = settled.deployment_writes();
        mended(settled, field, &before).await;
        assert_eq!(settled.owners(field).await, [FIELD_MANAGER], "{field} is ours again");
        assert_eq!(settled.deployment_writes() - writes, 1, "{field}: one write");
    }
    settled.apply_as_theirs(&json!({"replicas": 1})).await;
    let writes = settled.deployment_writes();
    settled.sandbox.sweep().await;
    assert_eq!(settled.owners("/f:spec/f:replicas").await.len(), 2, "both ask for one");
    assert_eq!(settled.deployment_writes(), writes, "nothing to fight for");
    settled.assert_ready();
}

/// What the cluster's own scheduler says is told; a token that nobody has polled with meanwhile is replaced unasked.
/// Answers the group whose manager waited.
pub(super) async fn waits_for_a_node(settled: &Settled) -> u64 {
    let sandbox = &settled.sandbox;
    settled.cordon(true).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "waiting");
    let (key, unit) = (format!("g{group}-plan"), format!("runner/g{group}-plan"));
    assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
    sandbox.pass_minutes(1).await;
    // What is on its way is told anew every five minutes.
    settled.wait_minutes(5);
    sandbox.pass_minutes(1).await;
    let told = sandbox.condition(&unit, "Deployed");
    assert_eq!(told["reason"], "Unschedulable", "{}", sandbox.status(&unit));
    let words = "no node takes the manager's pod: 0/1 nodes are available";
    assert!(told["message"].as_str().unwrap().starts_with(words), "{told}");

    let (id, lost) = entry(settled, &key).await;
    settled.delete(&SECRET.replace("KEY", &key)).await;
    assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
    sandbox.pass_minutes(1).await;
    assert!(!sandbox.is_parked(&unit), "{}", sandbox.status(&unit));
    let (again, token) = entry(settled, &key).await;
    let gitlab = &sandbox.world.gitlab;
    assert_eq!(again, id, "the entity stays");
    assert!(gitlab.token_is_valid(&token) && !gitlab.token_is_valid(&lost), "another token");

    settled.cordon(false).await;
    sandbox.sweep().await;
    sandbox.assert_ready(&unit);
    group
}
