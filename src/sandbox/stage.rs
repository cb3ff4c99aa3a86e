//! What a world holds before anything happens in it: what administrators have done, and nothing that forerunner does.

use super::{
    azure::{Azure, ClusterSettings},
    gitlab::Gitlab,
    kubernetes::Kubernetes,
};
use serde_json::Value;
use uuid::Uuid;

/// Managed Identity Contributor.
const IDENTITY_CONTRIBUTOR: Uuid = Uuid::from_u128(0xe40e_c5ca_96e0_45a2_b4ff_5903_9f2c_2b59);
/// Role Based Access Control Administrator.
const RBAC_ADMINISTRATOR: Uuid = Uuid::from_u128(0xf583_10d9_a9f6_439a_9e8d_f62e_7b41_a168);
/// Azure Kubernetes Service Cluster User Role.
const CLUSTER_USER: Uuid = Uuid::from_u128(0x4abb_cc35_e782_43d8_92c5_2d3f_1bd2_253f);
/// Reader.
const READER: Uuid = Uuid::from_u128(0xacdd_72a7_3385_48ef_bd42_f606_fba8_1ae7);
/// Key Vault Secrets User.
const SECRETS_USER: Uuid = Uuid::from_u128(0x4633_458b_17de_408a_b874_0445_c86b_69e6);

/// The user that forerunner is to the API server is known only once its Azure identity is made.
pub type ObjectsFor = Box<dyn Fn(&str) -> Vec<Value> + Send + Sync>;

/// A world before the first hook. Ids of Azure resources are whole ARM ids.
pub struct Stage {
    pub seed: u64,
    /// As GitLab names itself, `https://gitlab.example.com`.
    pub gitlab_url: String,
    /// Groups that must have these ids, parents first.
    pub groups: Vec<(u64, String)>,
    /// The vault with forerunner's GitLab token, and the secret's name.
    pub vault: String,
    pub secret: String,
    /// The AKS cluster; its API server is played whatever the id.
    pub cluster: String,
    /// The resource group of the identities that forerunner makes.
    pub identities: Option<String>,
    /// Scopes that exist: their subscriptions, resource groups and resources are made.
    pub scopes: Vec<String>,
    /// Scopes at which forerunner may assign roles, with the condition on that right; `{principal}` in it is
    /// forerunner's own.
    pub delegations: Vec<(String, String)>,
    /// Scopes at which forerunner may see who has rights.
    pub watched: Vec<String>,
    /// Existing identities with what an administrator gave them: role and scope.
    pub existing: Vec<(String, Vec<(Uuid, String)>)>,
    /// What an administrator applied to the cluster, for forerunner's user.
    pub objects: ObjectsFor,
}

/// The host of the sandbox's API server.
pub(super) const API_SERVER: &str = "aks-sandbox.hcp.westeurope.azmk8s.io";
/// forerunner's user-assigned identity.
pub const CLIENT_ID: Uuid = Uuid::from_u128(0x4024_ab25_56a8_4370_aea6_6389_221c_af29);

impl Stage {
    /// Does what the administrators of GitLab and Azure did; answers the principal of forerunner's identity.
    pub(super) fn set(&self, gitlab: &Gitlab, azure: &Azure, kubernetes: &Kubernetes) -> Uuid {
        self.set_gitlab(gitlab);
        self.set_azure(gitlab, azure, kubernetes)
    }

    fn set_gitlab(&self, gitlab: &Gitlab) {
        let mut made: Vec<(&str, u64)> = Vec::new();
        for (id, path) in &self.groups {
            let (parent, name) = match path.rsplit_once('/') {
                Some((parent, name)) => (made.iter().find(|(path, _)| *path == parent), name),
                None => (None, path.as_str()),
            };
            gitlab.number_groups_from(*id);
            made.push((path, gitlab.create_group(parent.map(|(_, id)| *id), name)));
        }
    }

    fn set_azure(&self, gitlab: &Gitlab, azure: &Azure, kubernetes: &Kubernetes) -> Uuid {
        let principal = azure.add_managed_identity_for_app(CLIENT_ID);
        let subscription = segment(&self.cluster, "subscriptions")
            .unwrap_or("00000000-0000-4000-8000-00000000f00d");
        azure.add_subscription(subscription, "platform");
        let own = azure.add_resource_group(subscription, "rg-forerunner");
        let vault = azure.add_vault(&own, &self.vault);
        azure.set_secret(&self.vault, &self.secret, &gitlab.admin_token());
        azure.assign_role(&vault, SECRETS_USER, principal, None);
        make_scope(azure, &self.cluster);
        let server = format!("https://{API_SERVER}:443");
        azure.add_cluster(ClusterSettings::new(&self.cluster, &kubernetes.issuer(), &server, ""));
        azure.assign_role(&self.cluster, CLUSTER_USER, principal, None);
        azure.assign_role(&self.cluster, READER, principal, None);
        if let Some(group) = &self.identities {
            make_scope(azure, group);
            azure.assign_role(group, IDENTITY_CONTRIBUTOR, principal, None);
        }
        for scope in &self.scopes {
            make_scope(azure, scope);
        }
        for (scope, condition) in &self.delegations {
            make_scope(azure, scope);
            let condition = condition.replace("{principal}", &principal.to_string());
            azure.assign_role(scope, RBAC_ADMINISTRATOR, principal, Some(&condition));
        }
        for scope in &self.watched {
            if !scope.eq_ignore_ascii_case(&self.cluster) {
                make_scope(azure, scope);
            }
            azure.assign_role(scope, READER, principal, None);
        }
        for (id, roles) in &self.existing {
            make_scope(azure, id);
            let identity = azure.add_existing_identity(id, std::collections::BTreeMap::new());
            azure.assign_role(id, IDENTITY_CONTRIBUTOR, principal, None);
            for (role, scope) in roles {
                make_scope(azure, scope);
                azure.assign_role(scope, *role, identity.principal_id, None);
                azure.assign_role(scope, READER, principal, None);
            }
        }
        principal
    }
}

/// Makes the subscription and the resource group of a scope, and the resource itself.
fn make_scope(azure: &Azure, scope: &str) {
    let Some(subscription) = segment(scope, "subscriptions") else { return };
    azure.add_subscription(subscription, subscription);
    let Some(group) = segment(scope, "resourceGroups") else { return };
    azure.add_resource_group(subscription, group);
    if scope.contains("/providers/")
        && !scope.to_ascii_lowercase().contains("microsoft.managedidentity")
    {
        azure.add_resource(scope);
    }
}

fn segment<'a>(id: &'a str, key: &str) -> Option<&'a str> {
    let mut segments = id.split('/');
    segments.find(|segment| segment.eq_ignore_ascii_case(key))?;
    segments.next()
}
