//! AKS clusters (azure.md §6).

use super::work::{Work, not_found};
use crate::sandbox::azure::{
    ClusterSettings,
    answer::{Answer, Answered},
    scope,
    state::State,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

const TYPE: &str = "Microsoft.ContainerService/managedClusters";

/// `POST {cluster}/{action}`: only the user's credential is given out.
pub(super) fn act(work: &mut Work<'_>, group: &str, name: &str, action: &str) -> Answered {
    let id = format!("{group}/providers/{TYPE}/{name}");
    let action = match action {
        "listclusterusercredential" => "listClusterUserCredential",
        "listclusteradmincredential" => "listClusterAdminCredential",
        _ => return Err(work.not_routed()),
    };
    work.require(&format!("{TYPE}/{action}/action"), &id)?;
    let cluster = work.state.clusters.get(&scope::lower(&id)).ok_or_else(|| not_found(&id))?;
    if action == "listClusterAdminCredential" {
        let message = "Getting static credential isn't allowed because this cluster is set to disable local accounts.";
        return Err(Answer::refusal(400, "BadRequest", message));
    }
    let config = kubeconfig(cluster, scope::name(&id));
    Ok(Answer::json(
        200,
        json!({"kubeconfigs": [{"name": "clusterUser", "value": STANDARD.encode(config)}]}),
    ))
}

fn kubeconfig(cluster: &ClusterSettings, name: &str) -> String {
    let ClusterSettings { server_url, ca_pem_base64, .. } = cluster;
    format!(
        "apiVersion: v1
kind: Config
current-context: {name}
clusters:
- name: {name}
  cluster:
    server: {server_url}
    certificate-authority-data: {ca_pem_base64}
contexts:
- name: {name}
  context:
    cluster: {name}
    user: clusterUser
users:
- name: clusterUser
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1beta1
      command: kubelogin
      args: [get-token, --server-id, 6dae42f8-4368-4678-94ff-3960e28e3630]
      provideClusterInfo: false
"
    )
}

/// The cluster as ARM shows it; what is not enabled has no sub-object.
pub(in crate::sandbox::azure) fn body(state: &State, cluster: &ClusterSettings) -> Value {
    let host = url::Url::parse(&cluster.server_url).ok();
    let host = host.and_then(|url| url.host_str().map(str::to_owned));
    let mut properties = json!({
        "provisioningState": cluster.provisioning_state,
        "powerState": {"code": cluster.power_state},
        "fqdn": host,
        "enableRBAC": true,
        "disableLocalAccounts": true,
        "aadProfile": {
            "managed": true,
            "enableAzureRBAC": cluster.azure_rbac,
            "adminGroupObjectIDs": null,
            "tenantID": state.tenant,
        },
        "apiServerAccessProfile": {"enablePrivateCluster": false},
    });
    if let Some(issuer) = &cluster.issuer {
        properties["oidcIssuerProfile"] = json!({"enabled": true, "issuerURL": issuer});
    }
    if cluster.workload_identity {
        properties["securityProfile"] = json!({"workloadIdentity": {"enabled": true}});
    }
    json!({
        "id": cluster.resource_id,
        "name": scope::name(&cluster.resource_id),
        "type": TYPE,
        "location": cluster.location,
        "properties": properties,
    })
}
