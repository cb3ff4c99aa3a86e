//! Who we are in Azure: one bearer token an audience, from `azure_identity` over our own client.

mod error;
mod transport;

pub use error::Error;

use super::http::Http;
use crate::clock::Clock;
use azure_core::{
    credentials::TokenCredential,
    http::{ClientOptions, RetryOptions, Transport},
};
use azure_identity::{
    ClientAssertionCredentialOptions, ManagedIdentityCredential, ManagedIdentityCredentialOptions,
    UserAssignedId, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions,
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

/// ARM and Resource Graph (azure.md §2.2).
pub const AUDIENCE_ARM: &str = "https://management.azure.com";
pub const AUDIENCE_KEY_VAULT: &str = "https://vault.azure.net";
pub const AUDIENCE_SERVICE_BUS: &str = "https://servicebus.azure.net";
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
}

/// Bearer tokens, kept until shortly before they expire. Cheap to clone; clones share what is kept.
#[derive(Clone)]
pub struct Tokens(Arc<Inner>);

struct Inner {
    http: Http,
    clock: Clock,
    credential: Credential,
    kept: Mutex<HashMap<String, Arc<Slot>>>,
}

/// One audience. The lock is held while a token is fetched, so that many callers make one call.
type Slot = tokio::sync::Mutex<Option<Kept>>;

struct Kept {
    token: SecretString,
    expires_at: Timestamp,
}

impl Tokens {
    pub fn new(http: Http, clock: Clock, credential: Credential) -> Self {
        Self(Arc::new(Inner { http, clock, credential, kept: Mutex::default() }))
    }

    /// A token for `audience`, such as [`AUDIENCE_ARM`].
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
        let fetched = self.fetch(audience).await?;
        Ok(kept.insert(fetched).token.clone())
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
        let credential = self.credential().map_err(failed)?;
        let token = credential.get_token(&[&scope], None).await.map_err(failed)?;
        let expires_at = Timestamp::from_second(token.expires_on.unix_timestamp());
        Ok(Kept {
            token: SecretString::from(token.token.secret().to_owned()),
            expires_at: expires_at.unwrap_or(Timestamp::MAX),
        })
    }

    fn credential(&self) -> azure_core::Result<Arc<dyn TokenCredential>> {
        match &self.0.credential {
            Credential::ManagedIdentity { endpoint, header, client_id } => {
                let endpoint = Some((endpoint.clone(), header.clone()));
                let options = ManagedIdentityCredentialOptions {
                    user_assigned_id: client_id.map(|id| UserAssignedId::ClientId(id.to_string())),
                    client_options: self.client_options(endpoint),
                };
                Ok(ManagedIdentityCredential::new(Some(options))?)
            }
            Credential::WorkloadIdentity { tenant_id, client_id, token_file } => {
                let options = WorkloadIdentityCredentialOptions {
                    credential_options: ClientAssertionCredentialOptions {
                        client_options: self.client_options(None),
                    },
                    client_id: Some(client_id.to_string()),
                    tenant_id: Some(tenant_id.to_string()),
                    token_file_path: Some(token_file.clone()),
                };
                Ok(WorkloadIdentityCredential::new(Some(options))?)
            }
        }
    }

    fn client_options(&self, endpoint: Option<(Url, SecretString)>) -> ClientOptions {
        let transport = TokenTransport { http: self.0.http.clone(), endpoint };
        ClientOptions {
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
