//! forerunner's own GitLab token: read when first needed, read again when GitLab stops accepting it.

use super::Error;
use crate::adapters::azure::KeyVault;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::RwLock;

/// Where the token is kept.
#[derive(Clone, Debug)]
pub enum TokenSource {
    Vault {
        vault: KeyVault,
        secret: String,
    },
    /// Given by hand, for a GitLab tried from a desk.
    Given(SecretString),
}

/// The token as last read.
pub(super) struct Token {
    source: TokenSource,
    kept: RwLock<Option<SecretString>>,
}

impl Token {
    pub(super) fn new(source: TokenSource) -> Self {
        Self { source, kept: RwLock::new(None) }
    }

    pub(super) async fn current(&self, what: &str) -> Result<SecretString, Error> {
        if let Some(token) = &*self.kept.read().await {
            return Ok(token.clone());
        }
        let mut kept = self.kept.write().await;
        if let Some(token) = &*kept {
            return Ok(token.clone());
        }
        let token = self.read(what).await?;
        Ok(kept.insert(token).clone())
    }

    /// The token the source has now, if it is another than `refused`.
    pub(super) async fn newer_than(
        &self,
        refused: &SecretString,
        what: &str,
    ) -> Result<Option<SecretString>, Error> {
        let same = |token: &SecretString| token.expose_secret() == refused.expose_secret();
        let mut kept = self.kept.write().await;
        if let Some(token) = kept.as_ref().filter(|token| !same(token)) {
            return Ok(Some(token.clone()));
        }
        let token = self.read(what).await?;
        if same(&token) {
            return Ok(None);
        }
        Ok(Some(kept.insert(token).clone()))
    }

    async fn read(&self, what: &str) -> Result<SecretString, Error> {
        match &self.source {
            TokenSource::Given(token) => Ok(token.clone()),
            TokenSource::Vault { vault, secret } => {
                let found = vault.secret(secret).await.map_err(|source| Error::NoToken {
                    what: what.to_owned(),
                    source: Box::new(source),
                })?;
                found.ok_or_else(|| Error::TokenMissing { secret: secret.clone() })
            }
        }
    }
}
