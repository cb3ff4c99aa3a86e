//! Bulk reads for the sweep (azure.md §10.4). Answers lag behind writes and show only what we may read: they find
//! suspects and prove nothing.

use super::{
    arm::{Arm, Call, api_version},
    error::Error,
    identities, role_assignments,
};
use crate::domain::{
    azure::{GivenRole, Identity, ResourceId, RoleAssignment},
    ids::FleetName,
    names::TAG_FLEET,
};
use http::Method;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use uuid::Uuid;

const PATH: &str = "/providers/Microsoft.ResourceGraph/resources";
const ASSIGNMENTS: &str = "authorizationresources | where type =~ 'microsoft.authorization/roleassignments' | project id, name, properties | order by id asc";
const ROWS_PER_PAGE: usize = 1000;
const PAGES_MAX: usize = 100;

impl Arm {
    /// The identities that carry a fleet's tag, a thousand a call.
    pub async fn graph_identities(
        &self,
        subscriptions: &[Uuid],
        fleet: &FleetName,
    ) -> Result<Vec<Identity>, Error> {
        // A fleet's name is a DNS label, so it cannot end the text it stands in.
        let query = format!(
            "resources | where type =~ 'microsoft.managedidentity/userassignedidentities' | where tags['{TAG_FLEET}'] =~ '{fleet}' | project id, name, location, tags, properties | order by id asc"
        );
        let what = format!("the identities of fleet `{fleet}` in Resource Graph");
        let rows: Vec<identities::Wire> = self.graph(&what, Some(subscriptions), &query).await?;
        rows.into_iter().map(|row| row.read(&what)).collect()
    }

    /// Role assignments whose description begins so, wherever we may read them, but for those at and below the scopes.
    pub async fn graph_described(
        &self,
        description: &str,
        beyond: &[ResourceId],
    ) -> Result<Vec<RoleAssignment>, Error> {
        let mut query = format!(
            "authorizationresources | where type =~ 'microsoft.authorization/roleassignments' | where tostring(properties.description) startswith {}",
            quoted(description)
        );
        for scope in beyond {
            let (at, below) = (quoted(scope.as_str()), quoted(&format!("{scope}/")));
            query += &format!(
                " | where tostring(properties.scope) !~ {at} | where tostring(properties.scope) !startswith {below}"
            );
        }
        query += " | project id, name, properties | order by id asc";
        let what = "the role assignments of ours in Resource Graph";
        let rows: Vec<role_assignments::Wire> = self.graph(what, None, &query).await?;
        rows.into_iter().map(|row| row.read(what)).collect()
    }

    /// All role assignments of the subscriptions, a thousand a call.
    pub async fn graph_assignments(
        &self,
        subscriptions: &[Uuid],
    ) -> Result<Vec<RoleAssignment>, Error> {
        let what = "the role assignments in Resource Graph";
        let rows: Vec<role_assignments::Wire> =
            self.graph(what, Some(subscriptions), ASSIGNMENTS).await?;
        rows.into_iter().map(|row| row.read(what)).collect()
    }

    /// The same, with who made each.
    pub async fn graph_given(&self, subscriptions: &[Uuid]) -> Result<Vec<GivenRole>, Error> {
        let what = "the role assignments in Resource Graph";
        let rows: Vec<role_assignments::Wire> =
            self.graph(what, Some(subscriptions), ASSIGNMENTS).await?;
        rows.into_iter().map(|row| row.read_given(what)).collect()
    }

    /// `subscriptions`: `None` for all that we may read.
    async fn graph<T: DeserializeOwned>(
        &self,
        what: &str,
        subscriptions: Option<&[Uuid]>,
        query: &str,
    ) -> Result<Vec<T>, Error> {
        let mut rows = Vec::new();
        let mut skip_token = None;
        for _ in 0..PAGES_MAX {
            let body = request(subscriptions, query, skip_token.as_deref());
            let call = Call::new(Method::POST, PATH, api_version::RESOURCE_GRAPH, what).body(body);
            let page: Page<T> = self.write(&call).await?;
            rows.extend(page.data);
            match page.skip_token {
                Some(token) if skip_token.as_ref() != Some(&token) => skip_token = Some(token),
                Some(_) => break,
                // Cut short without a way to go on: part of the truth must not pass for the whole.
                None if page.result_truncated == "true" => break,
                None => return Ok(rows),
            }
        }
        Err(Error::Unreadable {
            what: what.to_owned(),
            reason: "the answer is cut short".to_owned(),
        })
    }
}

/// A text of the query language.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

fn request(subscriptions: Option<&[Uuid]>, query: &str, skip_token: Option<&str>) -> Value {
    let mut options = json!({"$top": ROWS_PER_PAGE, "resultFormat": "objectArray"});
    if let Some(token) = skip_token {
        options["$skipToken"] = Value::from(token);
    }
    let mut body = json!({"query": query, "options": options});
    if let Some(subscriptions) = subscriptions {
        body["subscriptions"] = json!(subscriptions);
    }
    body
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", bound = "T: DeserializeOwned")]
struct Page<T> {
    data: Vec<T>,
    #[serde(rename = "$skipToken")]
    skip_token: Option<String>,
    /// `"true"` or `"false"`, a string.
    #[serde(default)]
    result_truncated: String,
}
