//! forerunner's own rights in Azure, as far as the file says what it needs (docs/runbooks/first-hour.md).

use super::PRINCIPAL;
use crate::{
    cli::check::delegation_condition,
    domain::{
        azure::ResourceId,
        fleet::{Fleet, IdentityTemplate},
        spec::{ClusterAccess, IdentitySpec},
    },
};
use std::collections::BTreeSet;
use uuid::Uuid;

/// One role for forerunner's identity. Texts for a shell: scopes of the file are checked, and hold no quotes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Right {
    pub(super) role: &'static str,
    /// An ARM id; a vault is only known by its name.
    pub(super) scope: String,
    /// With `{principal}` for forerunner's object id.
    pub(super) condition: Option<String>,
    pub(super) purpose: &'static str,
}

impl Right {
    pub(super) fn command(&self, principal: Option<Uuid>) -> String {
        let principal = principal.map_or_else(|| PRINCIPAL.to_owned(), |id| id.to_string());
        let scope = match self.vault() {
            Some(vault) => format!("$(az keyvault show --name {vault} --query id --output tsv)"),
            None => self.scope.clone(),
        };
        let condition = self.condition.as_ref().map_or(String::new(), |condition| {
            let condition = condition.replace("{principal}", &principal);
            // A shell keeps everything between single quotes as it is, `!` too.
            let quoted = condition.replace('\'', "'\\''");
            format!(" --condition-version 2.0 --condition '{quoted}'")
        });
        format!(
            "az role assignment create --assignee-object-id {principal} --assignee-principal-type ServicePrincipal --role \"{}\" --scope \"{scope}\"{condition}",
            self.role
        )
    }

    pub(super) fn vault(&self) -> Option<&str> {
        (!self.scope.starts_with('/')).then_some(self.scope.as_str())
    }
}

pub(super) fn of(fleet: &Fleet) -> Vec<Right> {
    let settings = fleet.settings();
    let plain = |role, scope: &str, purpose| Right {
        role,
        scope: scope.to_owned(),
        condition: None,
        purpose,
    };
    let mut rights = Vec::new();
    let managed = fleet
        .profiles()
        .any(|profile| matches!(profile.identity, IdentityTemplate::Managed { .. }));
    if let (true, Some(azure)) = (managed, &settings.azure) {
        let group = format!(
            "/subscriptions/{}/resourceGroups/{}",
            azure.subscription, azure.resource_group
        );
        rights.push(plain(
            "Managed Identity Contributor",
            &group,
            "to keep identities and their federated credentials",
        ));
    }
    let guardrails = fleet.guardrails();
    if managed && !guardrails.roles.is_empty() {
        let condition = delegation_condition(guardrails);
        rights.extend(guardrails.scopes.iter().map(|scope| Right {
            role: "Role Based Access Control Administrator",
            scope: scope.to_string(),
            condition: Some(condition.clone()),
            purpose: "to assign the roles of `guardrails`, no other, and none to itself",
        }));
    }
    for (id, _) in fleet.existing_identities().values() {
        rights.push(plain(
            "Managed Identity Contributor",
            id.as_str(),
            "to keep the federated credentials of an existing identity",
        ));
    }
    let watched: BTreeSet<String> = fleet
        .sample_runners()
        .into_iter()
        .filter_map(|spec| match spec.identity {
            IdentitySpec::Existing { expect, .. } => Some(expect),
            IdentitySpec::None | IdentitySpec::Managed { .. } => None,
        })
        .flatten()
        .map(|grant| grant.scope.to_string())
        .collect();
    rights.extend(watched.iter().map(|scope| plain("Reader", scope, "to watch an expected right")));
    // The identities' group and the cluster can be seen with what keeps and finds them.
    let elsewhere = guardrails.never.iter().filter(|never| {
        !rights.iter().any(|right| right.scope.eq_ignore_ascii_case(never.as_str()))
            && !is_cluster(&settings.cluster.access, never)
    });
    let elsewhere: Vec<Right> = elsewhere
        .map(|never| {
            plain(
                "Reader",
                never.as_str(),
                "to see that no writing right reaches what `never` names",
            )
        })
        .collect();
    rights.extend(elsewhere);
    if let ClusterAccess::Aks(cluster) = &settings.cluster.access {
        rights.extend(
            ["Azure Kubernetes Service Cluster User Role", "Reader"]
                .map(|role| plain(role, cluster.as_str(), "to find the cluster and its issuer")),
        );
    }
    let vault = &settings.gitlab.token.vault;
    rights.push(plain("Key Vault Secrets User", vault, "to read its own GitLab token"));
    rights
}

fn is_cluster(access: &ClusterAccess, scope: &ResourceId) -> bool {
    match access {
        ClusterAccess::Aks(cluster) => cluster == scope,
        ClusterAccess::Kubeconfig(_) => false,
    }
}
