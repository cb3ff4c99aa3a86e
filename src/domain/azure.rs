//! What Azure holds, in our words.

use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt};
use uuid::Uuid;

/// An ARM id such as `/subscriptions/…/resourceGroups/rg/providers/…`, or any scope.
/// Kept as written, compared without regard to case (azure.md §0).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceId(String);

impl ResourceId {
    /// Takes a text that starts with `/`; a trailing `/` is dropped.
    pub fn new(text: &str) -> Option<Self> {
        let trimmed = text.trim_end_matches('/');
        (trimmed.starts_with('/') && trimmed.len() > 1).then(|| Self(trimmed.to_owned()))
    }

    /// The scope `/` above everything, where Azure shows a right over the whole tenant. No file may name it.
    pub fn root() -> Self {
        Self("/".to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn lower(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// The last segment: the resource's own name.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The segment after `key`, such as the name after `resourceGroups`.
    pub fn segment(&self, key: &str) -> Option<&str> {
        let mut segments = self.0.split('/');
        segments.find(|segment| segment.eq_ignore_ascii_case(key))?;
        segments.next()
    }

    pub fn subscription(&self) -> Option<&str> {
        self.segment("subscriptions")
    }

    /// The resource group it lies in, as a scope.
    pub fn group_scope(&self) -> Option<Self> {
        let (subscription, group) = (self.subscription()?, self.segment("resourceGroups")?);
        Some(Self(format!("/subscriptions/{subscription}/resourceGroups/{group}")))
    }

    /// Whether `other` is this scope or lies below it, segment by segment.
    pub fn contains(&self, other: &Self) -> bool {
        if self.0 == "/" {
            return true;
        }
        let (own, other) = (self.lower(), other.lower());
        other.strip_prefix(&own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl PartialEq for ResourceId {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}
impl Eq for ResourceId {}
impl PartialOrd for ResourceId {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for ResourceId {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.lower().cmp(&other.lower())
    }
}
impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A user-assigned managed identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub id: ResourceId,
    /// Object id of the service principal: role assignments name it. New whenever the identity is made anew.
    pub principal_id: Uuid,
    /// Application id: the service account's annotation names it.
    pub client_id: Uuid,
    pub tenant_id: Uuid,
    pub location: String,
    pub tags: BTreeMap<String, String>,
}

/// Lets one Kubernetes service account sign in as an identity. Comparison is exact, trailing slash included.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FederatedCredential {
    pub name: String,
    pub issuer: String,
    /// Missing on a flexible credential, which we never make (azure.md §4.5).
    pub subject: Option<String>,
    pub audiences: Vec<String>,
}

/// One role given to one principal at one scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleAssignment {
    /// The assignment's own GUID.
    pub name: Uuid,
    pub scope: ResourceId,
    pub role: Uuid,
    pub principal_id: Uuid,
    pub description: Option<String>,
    pub condition: Option<String>,
}

/// A role assignment, and who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenRole {
    pub assignment: RoleAssignment,
    /// The principal that made it, where Azure says.
    pub by: Option<Uuid>,
}

/// What we need to know of an AKS cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedCluster {
    pub id: ResourceId,
    /// `None` where the issuer is not enabled. Trailing slash kept.
    pub oidc_issuer: Option<String>,
    pub workload_identity: bool,
    pub provisioning_state: String,
    pub power_state: Option<String>,
    /// The only ranges that the API server takes calls from; empty means all.
    pub authorized_ranges: Vec<String>,
    /// Whether the API server has an address in a virtual network only.
    pub private: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_contains_itself_and_what_lies_below_segment_by_segment() {
        let check = |scope: &ResourceId, other: &str, expected: bool| {
            let other = ResourceId::new(other).unwrap();
            assert_eq!(scope.contains(&other), expected, "{scope} {other}");
        };
        let group = ResourceId::new("/subscriptions/1/resourceGroups/rg").unwrap();
        check(&group, "/Subscriptions/1/resourcegroups/RG", true);
        check(&group, "/subscriptions/1/resourceGroups/rg/providers/x", true);
        check(&group, "/subscriptions/1/resourceGroups/rg-other", false);
        check(&group, "/subscriptions/1", false);
        check(&ResourceId::root(), "/subscriptions/1", true);
        assert!(!group.contains(&ResourceId::root()));
        assert_eq!(ResourceId::new("/"), None);
    }
}
