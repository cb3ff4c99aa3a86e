//! The whole state as JSON, secrets masked.

use super::{Azure, arm};
use serde_json::{Map, Value, json};

impl Azure {
    /// Everything this Azure holds. The values of secrets are told by their length alone, tokens not at all.
    pub fn dump(&self) -> Value {
        let state = self.state();
        let identities = state.identities.values().map(|record| {
            let mut body = arm::identities::body(&state, record);
            let credentials = record.credentials.values().map(|known| {
                let own = &known.credential;
                json!({
                    "name": own.name,
                    "issuer": own.issuer,
                    "subject": own.subject,
                    "audiences": own.audiences,
                    "usableAt": known.usable_at.to_string(),
                })
            });
            body["federatedIdentityCredentials"] = credentials.collect();
            body
        });
        let vaults = state.vaults.values().map(|vault| {
            let secrets = vault.secrets.iter().map(|(name, secret)| {
                let lengths = secret.versions.iter().map(|version| version.value.len());
                let shown = json!({
                    "versions": lengths.map(|length| format!("*** ({length} bytes)")).collect::<Vec<_>>(),
                    "deletedAt": secret.deleted_at.map(|at| at.to_string()),
                });
                (name.clone(), shown)
            });
            json!({"id": vault.id, "secrets": secrets.collect::<Map<_, _>>()})
        });
        json!({
            "tenantId": state.tenant,
            "subscriptions": state
                .subscriptions
                .values()
                .map(|one| json!({"id": one.id, "name": one.name}))
                .collect::<Vec<_>>(),
            "resourceGroups": state.groups.values().map(|one| one.body.clone()).collect::<Vec<_>>(),
            "resources": state.resources.values().map(|one| one.body.clone()).collect::<Vec<_>>(),
            "identities": identities.collect::<Vec<_>>(),
            "roleAssignments": state.assignments.values().map(arm::assignments::body).collect::<Vec<_>>(),
            "vaults": vaults.collect::<Vec<_>>(),
            "calls": {"admitted": state.throttle.admitted, "refused": state.throttle.refused},
        })
    }
}
