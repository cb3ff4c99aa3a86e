//! What the Azure workload-identity webhook adds to a labelled pod (runner-observed.md §9).

use super::store::State;
use serde_json::{Value, json};

const LABEL: &str = "azure.workload.identity/use";
const DIRECTORY: &str = "/var/run/secrets/azure/wi";
const FILE: &str = "token/azure-identity-token";

/// Gives every container that is not skipped the variables and the mount, and the pod the volume.
pub(super) fn inject(state: &State, account: &Value, pod: &mut Value) {
    if !state.settings.workload_identity || pod["metadata"]["labels"][LABEL] != "true" {
        return;
    }
    let of_pod = &pod["metadata"]["annotations"];
    let of_account = &account["metadata"]["annotations"];
    let annotation = |of: &Value, name: &str| {
        of[format!("azure.workload.identity/{name}")].as_str().map(str::to_owned)
    };
    let skipped = annotation(of_pod, "skip-containers").unwrap_or_default();
    let skipped: Vec<String> = skipped.split(';').map(|name| name.trim().to_owned()).collect();
    let lifetime = "service-account-token-expiration";
    let lifetime = annotation(of_pod, lifetime).or_else(|| annotation(of_account, lifetime));
    let lifetime: u64 = lifetime.and_then(|seconds| seconds.parse().ok()).unwrap_or(3600);
    let tenant =
        annotation(of_account, "tenant-id").unwrap_or_else(|| state.settings.tenant_id.clone());
    let variables = [
        ("AZURE_CLIENT_ID", annotation(of_account, "client-id").unwrap_or_default()),
        ("AZURE_TENANT_ID", tenant),
        ("AZURE_FEDERATED_TOKEN_FILE", format!("{DIRECTORY}/{FILE}")),
        ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/".to_owned()),
    ];
    let identity = format!("{}/{}", account["metadata"]["uid"], pod["metadata"]["name"]);
    let identity = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, identity.as_bytes());
    let hex = identity.simple().to_string();
    let volume = format!("azure-workload-identity-reserved-{}", &hex[..30]);

    let spec = &mut pod["spec"];
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let name = container["name"].as_str().unwrap_or_default();
            if skipped.iter().any(|skipped| skipped == name) {
                continue;
            }
            for (name, value) in &variables {
                let named = |variable: &Value| variable["name"] == *name;
                if !container["env"].as_array().is_some_and(|env| env.iter().any(named)) {
                    push(container, "env", json!({"name": name, "value": value}));
                }
            }
            let mount = json!({"name": volume, "mountPath": DIRECTORY, "readOnly": true});
            push(container, "volumeMounts", mount);
        }
    }
    let token = json!({
        "audience": "api://AzureADTokenExchange", "expirationSeconds": lifetime, "path": FILE,
    });
    let projected = json!({"defaultMode": 420, "sources": [{"serviceAccountToken": token}]});
    push(spec, "volumes", json!({"name": volume, "projected": projected}));
}

fn push(object: &mut Value, list: &str, item: Value) {
    if let Some(items) = object[list].as_array_mut() {
        items.push(item);
    } else {
        object[list] = json!([item]);
    }
}
