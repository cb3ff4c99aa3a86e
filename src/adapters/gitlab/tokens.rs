//! What GitLab says of our own token, and of itself (gitlab.md §5.3 and §8).

use super::{Call, Error, Gitlab, wire};
use jiff::civil::Date;

/// Our own token, without its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnToken {
    pub id: u64,
    pub scopes: Vec<String>,
    /// Dead from the start of this day, as far as is known.
    pub expires_at: Option<Date>,
    pub active: bool,
}

impl Gitlab {
    /// `GET /personal_access_tokens/self` → 200, with any scope.
    pub async fn token_self(&self) -> Result<OwnToken, Error> {
        let call = Call::get("/personal_access_tokens/self", "our own token");
        let wire::OwnToken { id, scopes, expires_at, active } = self.ask(&call).await?;
        Ok(OwnToken { id, scopes, expires_at, active })
    }

    /// GitLab's version, such as `19.4.0-ee`.
    pub async fn version(&self) -> Result<String, Error> {
        let version: wire::Version = self.ask(&Call::get("/version", "its version")).await?;
        Ok(version.version)
    }
}
