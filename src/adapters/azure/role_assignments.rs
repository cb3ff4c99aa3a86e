//! Role assignments (azure.md §5).

use super::{
    arm::{Arm, Call, api_version},
    error::Error,
};
use crate::domain::azure::{GivenRole, ResourceId, RoleAssignment};
use http::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

const COLLECTION: &str = "providers/Microsoft.Authorization/roleAssignments";

impl Arm {
    /// What a principal has at, above or below `scope`, every page; `None` when the scope is absent.
    pub async fn assignments_of(
        &self,
        scope: &ResourceId,
        principal: Uuid,
    ) -> Result<Option<Vec<RoleAssignment>>, Error> {
        let path = format!("{scope}/{COLLECTION}");
        let filter = format!("principalId eq '{principal}'");
        let what = format!("the roles of {principal} at `{scope}`");
        let query = [("$filter", filter.as_str())];
        let call = Call::new(Method::GET, &path, api_version::AUTHORIZATION, what).query(&query);
        self.list_assignments(&call).await
    }

    /// All assignments at, above and below `scope`, whoever has them, every page; `None` when the scope is absent.
    pub async fn assignments_at(
        &self,
        scope: &ResourceId,
    ) -> Result<Option<Vec<RoleAssignment>>, Error> {
        let path = format!("{scope}/{COLLECTION}");
        let what = format!("the role assignments at `{scope}`");
        let call = Call::new(Method::GET, &path, api_version::AUTHORIZATION, what);
        self.list_assignments(&call).await
    }

    /// The same, with who made each.
    pub async fn given_at(&self, scope: &ResourceId) -> Result<Option<Vec<GivenRole>>, Error> {
        let path = format!("{scope}/{COLLECTION}");
        let what = format!("the role assignments at `{scope}`");
        let call = Call::new(Method::GET, &path, api_version::AUTHORIZATION, what);
        let Some(rows) = self.list::<Wire>(&call).await? else { return Ok(None) };
        rows.into_iter().map(|wire| wire.read_given(&call.what)).collect::<Result<_, _>>().map(Some)
    }

    /// Gives a role; `PUT {scope}/…/{name}` → 201 or 200, safe to repeat. The principal is said to be a service
    /// principal, without which a new identity is unknown for minutes.
    ///
    /// Errors: `PrincipalNotFound` is passing; another name for the same three is a conflict that
    /// [`Error::existing_assignment`] may name.
    pub async fn put_assignment(
        &self,
        assignment: &RoleAssignment,
    ) -> Result<RoleAssignment, Error> {
        let RoleAssignment { name, scope, role, principal_id, description, condition } = assignment;
        let path = format!("{scope}/{COLLECTION}/{name}");
        let definition = "providers/Microsoft.Authorization/roleDefinitions";
        let role_definition_id = scope.subscription().map_or_else(
            || format!("/{definition}/{role}"),
            |subscription| format!("/subscriptions/{subscription}/{definition}/{role}"),
        );
        let mut properties = json!({
            "roleDefinitionId": role_definition_id,
            "principalId": principal_id,
            "principalType": "ServicePrincipal",
        });
        if let Some(description) = description {
            properties["description"] = Value::from(description.as_str());
        }
        if let Some(condition) = condition {
            properties["condition"] = Value::from(condition.as_str());
            properties["conditionVersion"] = Value::from("2.0");
        }
        let what = format!("role {role} for {principal_id} at `{scope}`");
        let call = Call::new(Method::PUT, &path, api_version::AUTHORIZATION, what)
            .body(json!({"properties": properties}));
        self.write::<Wire>(&call).await?.read(&call.what)
    }

    /// `DELETE` → 200, 204 or 404, all the same.
    pub async fn delete_assignment(&self, scope: &ResourceId, name: Uuid) -> Result<(), Error> {
        let path = format!("{scope}/{COLLECTION}/{name}");
        let what = format!("role assignment {name} at `{scope}`");
        let call = Call::new(Method::DELETE, &path, api_version::AUTHORIZATION, what);
        self.send(&call).await.map(drop)
    }

    async fn list_assignments(
        &self,
        call: &Call<'_>,
    ) -> Result<Option<Vec<RoleAssignment>>, Error> {
        let Some(rows) = self.list::<Wire>(call).await? else { return Ok(None) };
        rows.into_iter().map(|wire| wire.read(&call.what)).collect::<Result<_, _>>().map(Some)
    }
}

/// An assignment as ARM and Resource Graph spell it.
#[derive(Deserialize)]
pub(super) struct Wire {
    name: Uuid,
    properties: Properties,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    scope: String,
    role_definition_id: String,
    principal_id: Uuid,
    description: Option<String>,
    condition: Option<String>,
    /// An object id; empty where nobody is known.
    created_by: Option<String>,
}

impl Wire {
    pub(super) fn read_given(self, what: &str) -> Result<GivenRole, Error> {
        let by = self.properties.created_by.as_deref().and_then(|by| by.parse().ok());
        let by = by.filter(|by: &Uuid| !by.is_nil());
        Ok(GivenRole { assignment: self.read(what)?, by })
    }

    pub(super) fn read(self, what: &str) -> Result<RoleAssignment, Error> {
        let properties = self.properties;
        let unreadable = |text: &str| Error::Unreadable {
            what: what.to_owned(),
            reason: format!("`{text}` is not what it should be"),
        };
        let scope = match properties.scope.as_str() {
            "/" => Some(ResourceId::root()),
            text => ResourceId::new(text),
        };
        let role = properties.role_definition_id.rsplit('/').next();
        Ok(RoleAssignment {
            name: self.name,
            scope: scope.ok_or_else(|| unreadable(&properties.scope))?,
            role: role
                .and_then(|role| Uuid::try_parse(role).ok())
                .ok_or_else(|| unreadable(&properties.role_definition_id))?,
            principal_id: properties.principal_id,
            description: properties.description.filter(|text| !text.is_empty()),
            condition: properties.condition.filter(|text| !text.is_empty()),
        })
    }
}
