//! AKS clusters (azure.md §6).

use super::{
    arm::{Arm, Call, api_version},
    error::Error,
};
use crate::domain::azure::{ManagedCluster, ResourceId};
use base64::{Engine, prelude::BASE64_STANDARD};
use http::Method;
use secrecy::SecretString;
use serde::Deserialize;

impl Arm {
    /// `GET {id}` → 200, or 404 as `None`. Sub-objects may be missing.
    pub async fn cluster(&self, id: &ResourceId) -> Result<Option<ManagedCluster>, Error> {
        let what = format!("cluster `{}`", id.name());
        let call = Call::new(Method::GET, id.as_str(), api_version::CONTAINER_SERVICE, what);
        let Some(wire) = self.ask::<Wire>(&call).await? else { return Ok(None) };
        let properties = wire.properties;
        let issuer = properties.oidc_issuer_profile.filter(|profile| profile.enabled);
        let workload_identity =
            properties.security_profile.and_then(|profile| profile.workload_identity);
        let access = properties.api_server_access_profile.unwrap_or_default();
        Ok(Some(ManagedCluster {
            id: id.clone(),
            oidc_issuer: issuer
                .and_then(|profile| profile.issuer_url)
                .filter(|issuer| !issuer.is_empty()),
            workload_identity: workload_identity.is_some_and(|profile| profile.enabled),
            provisioning_state: properties.provisioning_state.unwrap_or_default(),
            power_state: properties.power_state.and_then(|state| state.code),
            authorized_ranges: access.authorized_ip_ranges.unwrap_or_default(),
            private: access.enable_private_cluster.unwrap_or_default(),
        }))
    }

    /// The kubeconfig of an ordinary user as YAML, of which only server and CA are of use: signing in is by token.
    ///
    /// `POST {id}/listClusterUserCredential?format=exec` → 200, safe to repeat.
    pub async fn cluster_kubeconfig(&self, id: &ResourceId) -> Result<SecretString, Error> {
        let path = format!("{id}/listClusterUserCredential");
        let what = format!("how to reach cluster `{}`", id.name());
        let call = Call::new(Method::POST, &path, api_version::CONTAINER_SERVICE, what)
            .query(&[("format", "exec")]);
        let unreadable =
            |reason: &str| Error::Unreadable { what: call.what.clone(), reason: reason.to_owned() };
        let answer: Kubeconfigs = self.write(&call).await?;
        let first = answer.kubeconfigs.into_iter().next();
        let encoded = first.ok_or_else(|| unreadable("it holds no kubeconfig"))?.value;
        let bytes = BASE64_STANDARD.decode(encoded).map_err(|_| unreadable("it is no base64"))?;
        String::from_utf8(bytes).map(SecretString::from).map_err(|_| unreadable("it is no text"))
    }
}

#[derive(Deserialize)]
struct Wire {
    #[serde(default)]
    properties: Properties,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Properties {
    provisioning_state: Option<String>,
    power_state: Option<PowerState>,
    oidc_issuer_profile: Option<OidcIssuerProfile>,
    security_profile: Option<SecurityProfile>,
    api_server_access_profile: Option<AccessProfile>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AccessProfile {
    /// The API's own spelling.
    #[serde(rename = "authorizedIPRanges")]
    authorized_ip_ranges: Option<Vec<String>>,
    enable_private_cluster: Option<bool>,
}

#[derive(Deserialize)]
struct PowerState {
    code: Option<String>,
}

#[derive(Deserialize)]
struct OidcIssuerProfile {
    #[serde(default)]
    enabled: bool,
    /// The API's own spelling.
    #[serde(rename = "issuerURL")]
    issuer_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecurityProfile {
    workload_identity: Option<Switch>,
}

#[derive(Deserialize)]
struct Switch {
    #[serde(default)]
    enabled: bool,
}

#[derive(Deserialize)]
struct Kubeconfigs {
    kubeconfigs: Vec<Kubeconfig>,
}

#[derive(Deserialize)]
struct Kubeconfig {
    value: String,
}
