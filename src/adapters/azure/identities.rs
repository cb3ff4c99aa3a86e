//! User-assigned managed identities (azure.md §3).

use super::{
    arm::{Arm, Call, api_version},
    error::Error,
};
use crate::domain::azure::{Identity, ResourceId};
use http::Method;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use uuid::Uuid;

impl Arm {
    /// `GET {id}` → 200, or 404 `ResourceNotFound` as `None`. For up to two minutes after our own PUT a 404 may be lag
    /// (§3.4); the PUT's own answer is what counts then.
    pub async fn identity(&self, id: &ResourceId) -> Result<Option<Identity>, Error> {
        let call = call(Method::GET, id);
        self.ask::<Wire>(&call).await?.map(|wire| wire.read(&call.what)).transpose()
    }

    /// Makes an identity or rewrites its tags; `PUT {id}` → 201 or 200, synchronous, safe to repeat. The answer holds
    /// all ids, and a name made anew has new ones.
    pub async fn put_identity(
        &self,
        id: &ResourceId,
        location: &str,
        tags: &BTreeMap<String, String>,
    ) -> Result<Identity, Error> {
        let call = call(Method::PUT, id).body(json!({
            "location": location,
            "tags": tags,
            "properties": {"isolationScope": "None"},
        }));
        self.write::<Wire>(&call).await?.read(&call.what)
    }

    /// Replaces all tags; `PATCH {id}` → 200. One write per identity and four seconds is what the provider takes (§3.2).
    pub async fn patch_identity_tags(
        &self,
        id: &ResourceId,
        tags: &BTreeMap<String, String>,
    ) -> Result<Identity, Error> {
        let call = call(Method::PATCH, id).body(json!({"tags": tags}));
        let patched = self.ask::<Wire>(&call).await?;
        patched
            .ok_or_else(|| Error::Unreadable {
                what: call.what.clone(),
                reason: "it is gone".to_owned(),
            })?
            .read(&call.what)
    }

    /// Deletes an identity with its federated credentials, not with its role assignments; `DELETE` → 200, 204 or 404, all
    /// the same (§3.2).
    pub async fn delete_identity(&self, id: &ResourceId) -> Result<(), Error> {
        self.send(&call(Method::DELETE, id)).await.map(drop)
    }

    /// All identities of a resource group, every page. `None` when Azure shows no such list.
    pub async fn identities_in(
        &self,
        subscription: Uuid,
        resource_group: &str,
    ) -> Result<Option<Vec<Identity>>, Error> {
        let path = format!(
            "/subscriptions/{subscription}/resourceGroups/{resource_group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
        );
        let what = format!("the identities of resource group `{resource_group}`");
        let call = Call::new(Method::GET, &path, api_version::MANAGED_IDENTITY, what);
        let Some(rows) = self.list::<Wire>(&call).await? else { return Ok(None) };
        rows.into_iter().map(|wire| wire.read(&call.what)).collect::<Result<_, _>>().map(Some)
    }
}

fn call(method: Method, id: &ResourceId) -> Call<'_> {
    let what = format!("identity `{}`", id.name());
    Call::new(method, id.as_str(), api_version::MANAGED_IDENTITY, what)
}

/// An identity as ARM and Resource Graph spell it.
#[derive(Deserialize)]
pub(super) struct Wire {
    id: String,
    #[serde(default)]
    location: String,
    #[serde(default)]
    tags: Option<BTreeMap<String, String>>,
    properties: Properties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    principal_id: Uuid,
    client_id: Uuid,
    tenant_id: Uuid,
}

impl Wire {
    pub(super) fn read(self, what: &str) -> Result<Identity, Error> {
        let id = ResourceId::new(&self.id).ok_or_else(|| Error::Unreadable {
            what: what.to_owned(),
            reason: format!("`{}` is no id", self.id),
        })?;
        Ok(Identity {
            id,
            principal_id: self.properties.principal_id,
            client_id: self.properties.client_id,
            tenant_id: self.properties.tenant_id,
            location: self.location,
            tags: self.tags.unwrap_or_default(),
        })
    }
}
