//! What administrators applied: told of until it is as it was, and never written.

use super::{ADMISSION, MANAGERS, RBAC, ROLE, Settled};
use forerunner::domain::names::IDENTITY_WEBHOOK;
use serde_json::{Value, json};

/// What is told of an edit, and the edit.
type Edit = (&'static str, fn(&mut Value));

/// An object without what the cluster's own controllers report of it, which comes when it comes.
fn written(mut object: Value) -> Value {
    let fields = object.as_object_mut().unwrap();
    fields.remove("status");
    let metadata = fields["metadata"].as_object_mut().unwrap();
    metadata.remove("resourceVersion");
    let managers = metadata["managedFields"].as_array_mut().unwrap();
    managers.retain(|manager| manager["subresource"] != "status");
    object
}

/// An administrator's object that is edited, or gone, is one finding until it is as it was.
async fn watches(settled: &Settled, kind: &str, path: &str, edits: &[Edit]) {
    let whole = settled.get(path).await;
    let put = async |object: &Value| {
        settled
            .edit(path, |live| {
                let fields = object.as_object().unwrap().iter();
                let own = ["apiVersion", "kind", "metadata", "status"];
                for (field, value) in fields.filter(|(field, _)| !own.contains(&field.as_str())) {
                    live[field.as_str()] = value.clone();
                }
            })
            .await;
    };
    settled.sandbox.sweep().await;
    assert_eq!(settled.findings(kind).await, Vec::<String>::new(), "{path}");
    for (part, change) in edits {
        settled.edit(path, change).await;
        let damaged = settled.get(path).await;
        settled.sandbox.sweep().await;
        let found = settled.findings(kind).await;
        assert!(found.len() == 1 && found[0].contains(part), "{path}: {part}: {found:?}");
        let now = settled.get(path).await;
        assert_eq!(written(now), written(damaged), "{path}: an administrator's");
        put(&whole).await;
        settled.sandbox.sweep().await;
        assert_eq!(settled.findings(kind).await, Vec::<String>::new(), "{path}: {part}");
    }
    settled.delete(path).await;
    settled.sandbox.sweep().await;
    let found = settled.findings(kind).await;
    let mut again = whole;
    again["metadata"] =
        json!({"name": again["metadata"]["name"], "labels": again["metadata"]["labels"]});
    settled.make(path.rsplit_once('/').unwrap().0, &again).await;
    assert!(found.len() == 1, "{path}: gone: {found:?}");
    settled.sandbox.sweep().await;
    assert_eq!(settled.findings(kind).await, Vec::<String>::new(), "{path}: applied again");
}

fn widen(role: &mut Value) {
    let right = json!({"apiGroups": [""], "resources": ["nodes"], "verbs": ["list"]});
    role["rules"].as_array_mut().unwrap().push(right);
}

fn narrow(role: &mut Value) {
    role["rules"].as_array_mut().unwrap().remove(0);
}

pub(super) async fn watches_what_administrators_applied(settled: &Settled) {
    let role = format!("{RBAC}/clusterroles/{ROLE}");
    let both: fn(&mut Value) = |role| {
        widen(role);
        narrow(role);
    };
    let edits: [Edit; 3] =
        [("list nodes", widen), ("lacks what managers need", narrow), ("; missing: ", both)];
    watches(settled, "ManagerRole", &role, &edits).await;
    let policy = format!("{ADMISSION}/validatingadmissionpolicies/{MANAGERS}");
    let edits: [Edit; 2] = [
        ("spec.validations", |policy| {
            policy["spec"]["validations"].as_array_mut().unwrap().remove(3);
        }),
        ("spec.failurePolicy", |policy| policy["spec"]["failurePolicy"] = "Ignore".into()),
    ];
    watches(settled, "AdmissionPolicy", &policy, &edits).await;
    let binding = format!("{ADMISSION}/validatingadmissionpolicybindings/{MANAGERS}");
    let edits: [Edit; 1] = [("spec.validationActions", |binding| {
        binding["spec"]["validationActions"] = json!(["Warn"]);
    })];
    watches(settled, "AdmissionPolicy", &binding, &edits).await;
    let webhook = format!("{ADMISSION}/mutatingwebhookconfigurations/{IDENTITY_WEBHOOK}");
    watches(settled, "IdentityWebhook", &webhook, &[]).await;
}
