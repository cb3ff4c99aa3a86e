//! Who we are in Azure: one bearer token an audience, from `azure_identity` over our own client.

mod challenge;
mod error;
mod transport;

pub use error::Error;

use super::{
    cloud::Cloud,
    http::{Http, Response},
};
use crate::{clock::Clock, telemetry::words::Called};
use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    credentials::TokenCredential,
    http::{ClientOptions, RetryOptions, Transport},
};
use azure_identity::{
    ClientAssertionCredentialOptions, DeveloperToolsCredential, DeveloperToolsCredentialOptions,
    Executor, ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId,
    WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
};
use jiff::{SignedDuration, Timestamp};
use secrecy::SecretString;
use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};
use transport::TokenTransport;
use url::Url;
use uuid::Uuid;

/// The API server of every AKS cluster, the same in all clouds.
pub const AUDIENCE_AKS: &str = "6dae42f8-4368-4678-94ff-3960e28e3630";

/// A token is renewed when less than this is left.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);

/// Where tokens come from.
#[derive(Clone, Debug)]
pub enum Credential {
    /// The token endpoint of Functions (`IDENTITY_ENDPOINT`, `IDENTITY_HEADER`), azure.md §2.1. Without a client id
    /// it answers for the system-assigned identity.
    ManagedIdentity { endpoint: Url, header: SecretString, client_id: Option<Uuid> },
    /// A projected service-account token that is exchanged at Entra.
    WorkloadIdentity { tenant_id: Uuid, client_id: Uuid, token_file: PathBuf },
    /// Whoever is signed in to `az` or else `azd` on this machine. Without an executor the programs are run as they are.
    DeveloperTools { executor: Option<Arc<dyn Executor>> },
}

/// Bearer tokens, kept until shortly before they expire. Cheap to clone; clones share what is kept.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    http: Http,
    clock: Clock,
    credential: Credential,
    cloud: Cloud,
    kept: Mutex<HashMap<String, Arc<Slot>>>,
    /// What the next token for an audience must fulfil, because a service asked for it.
    claims: Mutex<HashMap<String, String>>,
}

/// One audience. The lock is held while a token is fetched, so that many callers make one call.
type Slot = tokio::sync::Mutex<Option<Kept>>;

struct Kept {
    token: SecretString,
    expires_at: Timestamp,
}

impl Tokens {
    /// Tokens of the public cloud.
    pub fn new(http: Http, clock: Clock, credential: Credential) -> Self {
        Self::of_cloud(http, clock, credential, Cloud::default())
    }

    pub fn of_cloud(http: Http, clock: Clock, credential: Credential, cloud: Cloud) -> Self {
        let (kept, claims) = (Mutex::default(), Mutex::default());
        let http = http.to(Called::Entra);
        Self(Arc::new(Inner { http, clock, credential, cloud, kept, claims }))
    }

    /// The cloud that the tokens are for, and so every client that uses them.
    pub fn cloud(&self) -> &Cloud {
        &self.0.cloud
    }

    pub(super) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// A token for `audience`, such as [`Cloud::resource_manager_audience`].
    ///
    /// `GET {IDENTITY_ENDPOINT}?api-version=2019-08-01&resource=…`, or `POST {authority}/{tenant}/oauth2/v2.0/token`;
    /// no call while a kept token has five minutes left.
    pub async fn bearer(&self, audience: &str) -> Result<SecretString, Error> {
        let slot = self.slot(audience);
        let mut kept = slot.lock().await;
        let fresh_until = self.0.clock.now() + MARGIN;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.expires_at > fresh_until) {
            return Ok(kept.token.clone());
        }
        match (self.fetch(audience).await, kept.as_ref()) {
            (Ok(fetched), _) => Ok(kept.insert(fetched).token.clone()),
            // Renewal was early: what is there is still good.
            (Err(_), Some(old)) if old.expires_at > self.0.clock.now() => Ok(old.token.clone()),
            (Err(error), _) => Err(error),
        }
    }

    /// Drops the token that a service answered 401 to. If the answer says which claims it misses, the next token is asked
    /// for with them; an App Service endpoint takes none, and whatever it gives is tried.
    pub(super) fn refused(&self, audience: &str, answer: &Response) {
        if let Some(claims) = challenge::claims(answer) {
            let mut all = self.0.claims.lock().unwrap_or_else(PoisonError::into_inner);
            all.insert(audience.to_owned(), claims);
        }
        self.forget(audience);
    }

    /// Drops the token for `audience`, because a service answered 401 to it.
    pub fn forget(&self, audience: &str) {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).remove(audience);
    }

    fn slot(&self, audience: &str) -> Arc<Slot> {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.entry(audience.to_owned()).or_default().clone()
    }

    /// Asks a credential made for this one call: the crate's own cache goes by the system's clock and cannot be told
    /// to forget.
    async fn fetch(&self, audience: &str) -> Result<Kept, Error> {
        let failed = |error| Error::from_identity(audience, error);
        let scope = format!("{}/.default", audience.trim_end_matches('/'));
        let claims = self.0.claims.lock().unwrap_or_else(PoisonError::into_inner).remove(audience);
        let credential = self.credential(claims).map_err(failed)?;
        let token = credential.get_token(&[&scope], None).await.map_err(failed)?;
        let expires_at = Timestamp::from_second(token.expires_on.unix_timestamp());
        Ok(Kept {
            token: SecretString::from(token.token.secret().to_owned()),
            expires_at: expires_at.unwrap_or(Timestamp::MAX),
        })
    }

    fn credential(&self, claims: Option<String>) -> azure_core::Result<Arc<dyn TokenCredential>> {
        match &self.0.credential {
            Credential::ManagedIdentity { endpoint, header, client_id } => {
                let endpoint = Some((endpoint.clone(), header.clone()));
                let options = ManagedIdentityCredentialOptions {
                    user_assigned_id: client_id.map(|id| UserAssignedId::ClientId(id.to_string())),
                    client_options: self.client_options(endpoint, None),
                };
                Ok(ManagedIdentityCredential::new(Some(options))?)
            }
            Credential::WorkloadIdentity { tenant_id, client_id, token_file } => {
                let options = WorkloadIdentityCredentialOptions {
                    credential_options: ClientAssertionCredentialOptions {
                        client_options: self.client_options(None, claims),
                    },
                    client_id: Some(client_id.to_string()),
                    tenant_id: Some(tenant_id.to_string()),
                    token_file_path: Some(token_file.clone()),
                };
                Ok(WorkloadIdentityCredential::new(Some(options))?)
            }
            Credential::DeveloperTools { executor } => {
                let options = DeveloperToolsCredentialOptions { executor: executor.clone() };
                Ok(DeveloperToolsCredential::new(Some(options))?)
            }
        }
    }

    fn client_options(
        &self,
        endpoint: Option<(Url, SecretString)>,
        claims: Option<String>,
    ) -> ClientOptions {
        let transport = TokenTransport { http: self.0.http.clone(), endpoint, claims };
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host = self.0.cloud.authority.to_string();
        ClientOptions {
            cloud: Some(Arc::new(CloudConfiguration::from(cloud))),
            retry: RetryOptions::none(),
            transport: Some(Transport::new(Arc::new(transport))),
            ..ClientOptions::default()
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}
