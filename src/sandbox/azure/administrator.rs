//! What an administrator does in this Azure past every check: seeds, views, and the changes that drift is made of.

use super::{
    Assignment, Azure, Credential, Identity, arm,
    key_vault::vault::{Vault, Version},
    roles::Role,
    scope,
    state::{CredentialRecord, Principal, Resource, SERVICE_PRINCIPAL, Subscription},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// An AKS cluster as it shall show itself.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    pub resource_id: String,
    pub location: String,
    /// `None` where the issuer is not enabled.
    pub issuer: Option<String>,
    pub workload_identity: bool,
    /// Where its API server is, as a kubeconfig says it.
    pub server_url: String,
    pub ca_pem_base64: String,
    pub azure_rbac: bool,
    pub provisioning_state: String,
    pub power_state: String,
}

impl ClusterSettings {
    /// A running cluster with issuer and workload identity.
    pub fn new(resource_id: &str, issuer: &str, server_url: &str, ca_pem_base64: &str) -> Self {
        Self {
            resource_id: resource_id.to_owned(),
            location: "westeurope".to_owned(),
            issuer: Some(issuer.to_owned()),
            workload_identity: true,
            server_url: server_url.to_owned(),
            ca_pem_base64: ca_pem_base64.to_owned(),
            azure_rbac: false,
            provisioning_state: "Succeeded".to_owned(),
            power_state: "Running".to_owned(),
        }
    }
}

impl Azure {
    pub fn add_subscription(&self, id: &str, name: &str) {
        let subscription = Subscription { id: id.to_owned(), name: name.to_owned() };
        self.state().subscriptions.insert(id.to_ascii_lowercase(), subscription);
    }

    /// Answers the group's id.
    pub fn add_resource_group(&self, subscription: &str, name: &str) -> String {
        let id = format!("/subscriptions/{subscription}/resourceGroups/{name}");
        let location = &self.0.settings.location;
        let body = arm::subscriptions::group_body(&id, location, &Value::Null);
        self.state().groups.insert(scope::lower(&id), Resource { id: id.clone(), body });
        id
    }

    /// Any resource, such as a registry, with nothing in it.
    pub fn add_resource(&self, id: &str) {
        let body = json!({
            "id": id,
            "name": scope::name(id),
            "type": scope::resource_type(id),
            "location": self.0.settings.location,
            "properties": {"provisioningState": "Succeeded"},
        });
        self.put_resource(id, body);
    }

    fn put_resource(&self, id: &str, body: Value) {
        let now = self.0.clock.now();
        let mut state = self.state();
        state.resources.insert(scope::lower(id), Resource { id: id.to_owned(), body });
        state.show_resource(&self.0.settings, now, id);
    }

    /// Adds the cluster, or puts another in its place: one that was rebuilt has another issuer.
    pub fn add_cluster(&self, cluster: ClusterSettings) {
        let id = cluster.resource_id.clone();
        let body = arm::clusters::body(&self.state(), &cluster);
        self.state().clusters.insert(scope::lower(&id), cluster);
        self.put_resource(&id, body);
    }

    /// Every cluster shows this issuer from now on.
    pub fn show_issuer(&self, issuer: &str) {
        let clusters: Vec<ClusterSettings> = self.state().clusters.values().cloned().collect();
        for cluster in clusters {
            self.add_cluster(ClusterSettings { issuer: Some(issuer.to_owned()), ..cluster });
        }
    }

    /// A vault in the resource group with this id; answers the vault's own id.
    pub fn add_vault(&self, resource_group_id: &str, name: &str) -> String {
        let id = format!("{resource_group_id}/providers/Microsoft.KeyVault/vaults/{name}");
        let vault = Vault { name: name.to_owned(), id: id.clone(), secrets: BTreeMap::new() };
        self.state().vaults.insert(name.to_ascii_lowercase(), vault);
        self.add_resource(&id);
        id
    }

    /// Adds a version. Nothing happens where there is no such vault.
    pub fn set_secret(&self, vault: &str, name: &str, value: &str) {
        let now = self.0.clock.now().as_second();
        let mut state = self.state();
        let version = Version::new(state.random_hex(), value, &Value::Null, now);
        if let Some(vault) = state.vaults.get_mut(&vault.to_ascii_lowercase()) {
            vault.set(name, version);
        }
    }

    /// The newest value, whether or not it may be read.
    pub fn secret(&self, vault: &str, name: &str) -> Option<String> {
        let state = self.state();
        let vault = state.vaults.get(&vault.to_ascii_lowercase())?;
        let secret = vault.secrets.get(&name.to_ascii_lowercase())?;
        secret.versions.last().map(|version| version.value.clone())
    }

    /// Gives the function app an identity with this client id, known to everybody at once; answers its principal.
    pub fn add_managed_identity_for_app(&self, client_id: Uuid) -> Uuid {
        let now = self.0.clock.now();
        let mut state = self.state();
        let principal_id = state.random_guid();
        let principal = Principal { kind: SERVICE_PRINCIPAL, visible_at: now };
        state.principals.insert(principal_id, principal);
        state.attached.insert(client_id, principal_id);
        principal_id
    }

    /// Lets the directory know a person, for tests of the wrong principal type.
    pub fn add_user(&self) -> Uuid {
        let now = self.0.clock.now();
        let mut state = self.state();
        let id = state.random_guid();
        state.principals.insert(id, Principal { kind: "User", visible_at: now });
        id
    }

    /// A custom role.
    pub fn add_role(&self, id: Uuid, name: &str, actions: &[&str], data_actions: &[&str]) {
        let texts = |of: &[&str]| of.iter().map(|action| (*action).to_owned()).collect();
        let role = Role {
            id,
            name: name.to_owned(),
            custom: true,
            actions: texts(actions),
            not_actions: Vec::new(),
            data_actions: texts(data_actions),
        };
        let mut state = self.state();
        state.roles.retain(|other| other.id != id);
        state.roles.push(role);
    }

    /// Gives a role to a principal; answers the assignment's name.
    pub fn assign_role(
        &self,
        scope: &str,
        role: Uuid,
        principal_id: Uuid,
        condition: Option<&str>,
    ) -> Uuid {
        let (kind, name) = {
            let mut state = self.state();
            let known = state.principals.get(&principal_id);
            (known.map_or(SERVICE_PRINCIPAL, |principal| principal.kind), state.random_guid())
        };
        self.put_assignment(Assignment {
            name,
            scope: scope.to_owned(),
            role,
            principal_id,
            principal_type: kind.to_owned(),
            description: None,
            condition: condition.map(str::to_owned),
        });
        name
    }

    /// An assignment as it is, past every check.
    pub fn put_assignment(&self, assignment: Assignment) {
        let (now, name) = (self.0.clock.now(), assignment.name);
        let mut state = self.state();
        let record = arm::assignments::made_by_administrator(assignment, now);
        state.assignments.insert(name, record);
        state.show_assignment(&self.0.settings, now, name);
    }

    /// Puts a condition on an assignment or takes it off; its name stays. Whether there was such an assignment.
    pub fn narrow_assignment(&self, name: Uuid, condition: Option<&str>) -> bool {
        let now = self.0.clock.now();
        let mut state = self.state();
        let Some(record) = state.assignments.remove(&name) else { return false };
        let condition = condition.map(str::to_owned);
        let assignment = Assignment { condition, ..record.assignment };
        state.assignments.insert(name, arm::assignments::made_by_administrator(assignment, now));
        state.show_assignment(&self.0.settings, now, name);
        true
    }

    /// Whether there was such an assignment.
    pub fn remove_assignment(&self, name: Uuid) -> bool {
        let now = self.0.clock.now();
        let mut state = self.state();
        let gone = state.assignments.remove(&name).is_some();
        state.show_assignment(&self.0.settings, now, name);
        gone
    }

    /// An identity that somebody made before us: known everywhere at once.
    pub fn add_existing_identity(
        &self,
        resource_id: &str,
        tags: BTreeMap<String, String>,
    ) -> Identity {
        let now = self.0.clock.now();
        let settings = &self.0.settings;
        let mut state = self.state();
        let record = state.create_identity(settings, now, resource_id, &settings.location, tags);
        record.readable_at = now;
        let identity = record.identity.clone();
        if let Some(principal) = state.principals.get_mut(&identity.principal_id) {
            principal.visible_at = now;
        }
        state.show_identity(settings, now, resource_id);
        identity
    }

    /// Whether there was such an identity. Its role assignments stay behind.
    pub fn remove_identity(&self, id: &str) -> bool {
        let now = self.0.clock.now();
        let mut state = self.state();
        let gone = state.delete_identity(id).is_some();
        state.show_identity(&self.0.settings, now, id);
        gone
    }

    /// Puts other tags on an identity.
    pub fn edit_identity_tags(&self, id: &str, tags: BTreeMap<String, String>) {
        let now = self.0.clock.now();
        let mut state = self.state();
        if let Some(record) = state.identity_mut(id) {
            record.identity.tags = tags;
        }
        state.show_identity(&self.0.settings, now, id);
    }

    /// Puts a credential on an identity, new or in place of one of that name; usable at once.
    pub fn edit_credential(&self, identity: &str, credential: Credential) {
        let usable_at = self.0.clock.now();
        if let Some(record) = self.state().identity_mut(identity) {
            let key = credential.name.to_ascii_lowercase();
            record.credentials.insert(key, CredentialRecord { credential, usable_at });
        }
    }

    /// Whether there was such a credential.
    pub fn remove_credential(&self, identity: &str, name: &str) -> bool {
        self.state()
            .identity_mut(identity)
            .is_some_and(|record| record.credentials.remove(&name.to_ascii_lowercase()).is_some())
    }

    /// All identities, by id.
    pub fn identities(&self) -> Vec<Identity> {
        self.state().identities.values().map(|record| record.identity.clone()).collect()
    }

    /// The credentials of one identity, by name.
    pub fn credentials(&self, identity: &str) -> Vec<Credential> {
        let state = self.state();
        let records = state.identity(identity).into_iter().flat_map(|one| one.credentials.values());
        records.map(|record| record.credential.clone()).collect()
    }

    /// All role assignments, by name.
    pub fn assignments(&self) -> Vec<Assignment> {
        self.state().assignments.values().map(|record| record.assignment.clone()).collect()
    }
}
