//! All that this Azure knows.

use super::{
    condition::Condition,
    graph::index::Index,
    key_vault::vault::Vault,
    obstacles::Obstacles,
    roles::{self, Role},
    scope,
    settings::{Lag, Settings},
    throttle::Throttle,
};
use jiff::{SignedDuration, Timestamp};
use rand::{Rng, RngCore, SeedableRng, rngs::StdRng};
use serde_json::Value;
use std::{collections::BTreeMap, time::Duration};
use uuid::Uuid;

pub(super) struct State {
    pub(super) tenant: Uuid,
    pub(super) identity_header: String,
    pub(super) signing_key: Vec<u8>,
    random: StdRng,
    /// By lower-case id: the display name.
    pub(super) subscriptions: BTreeMap<String, Subscription>,
    /// By lower-case id.
    pub(super) groups: BTreeMap<String, Resource>,
    /// By lower-case id; clusters and vaults included, identities not.
    pub(super) resources: BTreeMap<String, Resource>,
    pub(super) clusters: BTreeMap<String, super::ClusterSettings>,
    /// By lower-case id.
    pub(super) identities: BTreeMap<String, IdentityRecord>,
    pub(super) principals: BTreeMap<Uuid, Principal>,
    pub(super) assignments: BTreeMap<Uuid, AssignmentRecord>,
    pub(super) roles: Vec<Role>,
    /// By lower-case name.
    pub(super) vaults: BTreeMap<String, Vault>,
    /// Client ids of the identities that the function app has, with their principals.
    pub(super) attached: BTreeMap<Uuid, Uuid>,
    /// What the app service has in store: by client id and resource.
    pub(super) stored_tokens: BTreeMap<(Uuid, String), (String, Timestamp)>,
    pub(super) graph: Index,
    pub(super) throttle: Throttle,
    pub(super) obstacles: Obstacles,
}

#[derive(Clone, Debug)]
pub(super) struct Subscription {
    pub(super) id: String,
    pub(super) name: String,
}

/// A resource, or a resource group, as ARM shows it.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    pub(super) id: String,
    pub(super) body: Value,
}

/// Somebody the directory knows.
#[derive(Clone, Debug)]
pub(super) struct Principal {
    pub(super) kind: &'static str,
    pub(super) visible_at: Timestamp,
}

/// A user-assigned managed identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// As ARM spells it: with `/resourcegroups/`.
    pub id: String,
    pub name: String,
    pub location: String,
    pub tags: BTreeMap<String, String>,
    pub principal_id: Uuid,
    pub client_id: Uuid,
}

/// A federated identity credential, stored verbatim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    pub name: String,
    pub issuer: String,
    pub subject: String,
    pub audiences: Vec<String>,
}

/// One role given to one principal at one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    pub name: Uuid,
    pub scope: String,
    pub role: Uuid,
    pub principal_id: Uuid,
    pub principal_type: String,
    pub description: Option<String>,
    pub condition: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct IdentityRecord {
    pub(super) identity: Identity,
    pub(super) isolation_scope: String,
    pub(super) readable_at: Timestamp,
    /// A write of one of its credentials is under way.
    pub(super) busy: bool,
    /// By lower-case name.
    pub(super) credentials: BTreeMap<String, CredentialRecord>,
}

#[derive(Clone, Debug)]
pub(super) struct CredentialRecord {
    pub(super) credential: Credential,
    pub(super) usable_at: Timestamp,
}

#[derive(Clone, Debug)]
pub(super) struct AssignmentRecord {
    pub(super) assignment: Assignment,
    /// How its role was written when it was made.
    pub(super) role_definition_id: String,
    /// `Some(None)`: it has a condition that nobody understands.
    pub(super) parsed: Option<Option<Condition>>,
    pub(super) created_at: Timestamp,
    pub(super) updated_at: Timestamp,
    pub(super) created_by: Uuid,
    pub(super) updated_by: Uuid,
}

impl State {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut random = StdRng::seed_from_u64(settings.seed);
        let drawn = guid(&mut random);
        let mut signing_key = vec![0; 32];
        random.fill_bytes(&mut signing_key);
        let identity_header = guid(&mut random).simple().to_string();
        Self {
            tenant: settings.tenant.unwrap_or(drawn),
            identity_header,
            signing_key,
            random,
            subscriptions: BTreeMap::new(),
            groups: BTreeMap::new(),
            resources: BTreeMap::new(),
            clusters: BTreeMap::new(),
            identities: BTreeMap::new(),
            principals: BTreeMap::new(),
            assignments: BTreeMap::new(),
            roles: roles::built_in(),
            vaults: BTreeMap::new(),
            attached: BTreeMap::new(),
            stored_tokens: BTreeMap::new(),
            graph: Index::default(),
            throttle: Throttle::default(),
            obstacles: Obstacles::default(),
        }
    }

    pub(super) fn random_guid(&mut self) -> Uuid {
        guid(&mut self.random)
    }

    /// 32 hex digits.
    pub(super) fn random_hex(&mut self) -> String {
        self.random_guid().simple().to_string()
    }

    /// True in `percent` of 100 draws.
    pub(super) fn chance(&mut self, percent: u8) -> bool {
        self.random.random_range(0..100) < percent
    }

    /// `now` plus a lag drawn between its bounds.
    pub(super) fn after(&mut self, now: Timestamp, lag: Lag) -> Timestamp {
        let (least, most) = (lag.least.as_millis(), lag.most.as_millis());
        let drawn = if most > least { self.random.random_range(least..=most) } else { least };
        let drawn = Duration::from_millis(u64::try_from(drawn).unwrap_or(u64::MAX));
        later(now, drawn)
    }

    pub(super) fn role(&self, id: Uuid) -> Option<&Role> {
        self.roles.iter().find(|role| role.id == id)
    }

    pub(super) fn identity(&self, id: &str) -> Option<&IdentityRecord> {
        self.identities.get(&scope::lower(id))
    }

    pub(super) fn identity_mut(&mut self, id: &str) -> Option<&mut IdentityRecord> {
        self.identities.get_mut(&scope::lower(id))
    }

    /// Makes an identity, or makes it anew: always with new ids.
    pub(super) fn create_identity(
        &mut self,
        settings: &Settings,
        now: Timestamp,
        id: &str,
        location: &str,
        tags: BTreeMap<String, String>,
    ) -> &mut IdentityRecord {
        let (principal_id, client_id) = (self.random_guid(), self.random_guid());
        let readable_at = self.after(now, settings.lags.identity_read);
        let visible_at = self.after(now, settings.lags.principal);
        let principal = Principal { kind: SERVICE_PRINCIPAL, visible_at };
        self.principals.insert(principal_id, principal);
        let identity = Identity {
            id: scope::with_lower_resource_groups(id),
            name: scope::name(id).to_owned(),
            location: location.to_owned(),
            tags,
            principal_id,
            client_id,
        };
        let record = IdentityRecord {
            identity,
            isolation_scope: "None".to_owned(),
            readable_at,
            busy: false,
            credentials: BTreeMap::new(),
        };
        self.identities.insert(scope::lower(id), record);
        self.identities.get_mut(&scope::lower(id)).expect("it was inserted a line ago")
    }

    /// The identity goes, and its principal with it; its role assignments stay as orphans (azure.md §3.3).
    pub(super) fn delete_identity(&mut self, id: &str) -> Option<IdentityRecord> {
        let gone = self.identities.remove(&scope::lower(id))?;
        self.principals.remove(&gone.identity.principal_id);
        Some(gone)
    }
}

pub(super) const SERVICE_PRINCIPAL: &str = "ServicePrincipal";

pub(super) fn later(now: Timestamp, by: Duration) -> Timestamp {
    let by = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    now.saturating_add(by).unwrap_or(Timestamp::MAX)
}

fn guid(random: &mut StdRng) -> Uuid {
    let mut bytes = [0; 16];
    random.fill_bytes(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}
