//! Federated identity credentials (azure.md §4).

use super::{
    arm::{Arm, Call, api_version},
    error::Error,
};
use crate::domain::{
    azure::{FederatedCredential, ResourceId},
    names,
};
use http::Method;
use serde::Deserialize;
use serde_json::json;

impl Arm {
    /// All credentials of an identity, every page; `None` when the identity is absent. Their number has a limit of 20.
    pub async fn credentials(
        &self,
        identity: &ResourceId,
    ) -> Result<Option<Vec<FederatedCredential>>, Error> {
        let path = format!("{identity}/federatedIdentityCredentials");
        let what = format!("the federated credentials of `{}`", identity.name());
        let call = Call::new(Method::GET, &path, api_version::MANAGED_IDENTITY, what);
        let rows = self.list::<Wire>(&call).await?;
        Ok(rows.map(|rows| rows.into_iter().map(|row| self.read_credential(row)).collect()))
    }

    /// Makes or replaces the credential of this name; `PUT` → 201 or 200, safe to repeat. Issuer and subject are taken
    /// as they are, trailing slash included: a wrong one only shows when a job signs in.
    ///
    /// Errors: two writes under one identity at once are refused as passing; the same issuer and subject under another
    /// name is a conflict.
    pub async fn put_credential(
        &self,
        identity: &ResourceId,
        credential: &FederatedCredential,
    ) -> Result<FederatedCredential, Error> {
        let path = path(identity, &credential.name);
        let call = call(Method::PUT, &path, identity, &credential.name).body(json!({
            "properties": {
                "issuer": credential.issuer,
                "subject": credential.subject,
                "audiences": self.swapped(&credential.audiences),
            },
        }));
        self.write::<Wire>(&call).await.map(|wire| self.read_credential(wire))
    }

    /// `DELETE` → 200, 204 or 404, all the same. Counts as a write for the rule of one at a time.
    pub async fn delete_credential(&self, identity: &ResourceId, name: &str) -> Result<(), Error> {
        let path = path(identity, name);
        self.send(&call(Method::DELETE, &path, identity, name)).await.map(drop)
    }

    fn read_credential(&self, wire: Wire) -> FederatedCredential {
        let Properties { issuer, subject, audiences } = wire.properties;
        let audiences = self.swapped(&audiences);
        FederatedCredential { name: wire.name, issuer, subject, audiences }
    }

    /// The domain knows one audience, the public cloud's; here it trades places with the one of our cloud, so that what is
    /// wrong in our cloud also looks wrong.
    fn swapped(&self, audiences: &[String]) -> Vec<String> {
        let ours = &self.cloud().token_exchange_audience;
        let swap = |audience: &String| match audience {
            audience if audience == ours => names::AUDIENCE.to_owned(),
            audience if audience == names::AUDIENCE => ours.clone(),
            audience => audience.clone(),
        };
        audiences.iter().map(swap).collect()
    }
}

fn path(identity: &ResourceId, name: &str) -> String {
    format!("{identity}/federatedIdentityCredentials/{name}")
}

fn call<'a>(method: Method, path: &'a str, identity: &ResourceId, name: &str) -> Call<'a> {
    let what = format!("federated credential `{name}` of `{}`", identity.name());
    Call::new(method, path, api_version::MANAGED_IDENTITY, what)
}

#[derive(Deserialize)]
struct Wire {
    name: String,
    properties: Properties,
}

#[derive(Deserialize)]
struct Properties {
    issuer: String,
    subject: Option<String>,
    #[serde(default)]
    audiences: Vec<String>,
}
