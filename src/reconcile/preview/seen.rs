//! What a round read, looked up by what a step is about to change.

use crate::{
    domain::{
        gitlab::Entity,
        ids::RunnerId,
        kubernetes::{Object, ObjectName},
        observed::{DomainObserved, IdentityObserved, SecretObserved},
    },
    reconcile::prepare::Seen,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

impl Seen {
    pub(super) fn object(&self, name: &ObjectName) -> Option<&Object> {
        match self {
            Self::Nothing => None,
            Self::Runner(seen) => {
                let secret = match &seen.secret {
                    SecretObserved::Present { object, .. } => Some(object),
                    SecretObserved::Absent | SecretObserved::Foreign => None,
                };
                let own = [
                    secret,
                    seen.deployment.as_ref(),
                    seen.manager_account.as_ref(),
                    seen.manager_policy.as_ref(),
                    seen.binding.as_ref(),
                ];
                let own = own.into_iter().flatten().find(|object| object.name == *name);
                own.or_else(|| seen.domain.object(name))
            }
            Self::Held(seen) => seen.deployment.as_ref().filter(|object| object.name == *name),
            Self::Domain(seen) => seen.object(name),
            Self::Identity(seen) => seen.accounts.iter().find(|account| account.name == *name),
        }
    }

    pub(super) fn entity(&self, runner: RunnerId) -> Option<&Entity> {
        let entities = match self {
            Self::Runner(seen) => &seen.entities,
            Self::Held(seen) => &seen.entities,
            Self::Nothing | Self::Domain(_) | Self::Identity(_) => return None,
        };
        entities.iter().find(|entity| entity.id == runner)
    }

    fn domain(&self) -> Option<&DomainObserved> {
        match self {
            Self::Runner(seen) => Some(&seen.domain),
            Self::Domain(seen) => Some(seen),
            Self::Nothing | Self::Held(_) | Self::Identity(_) => None,
        }
    }

    pub(super) fn tags(&self) -> Option<&BTreeMap<String, String>> {
        Some(&self.domain()?.identity.managed()?.tags)
    }

    pub(super) fn credential(&self, name: &str) -> Option<Value> {
        let all = match self {
            Self::Identity(seen) => seen.credentials.as_deref().unwrap_or_default(),
            Self::Nothing | Self::Runner(_) | Self::Held(_) | Self::Domain(_) => {
                match &self.domain()?.identity {
                    IdentityObserved::Managed { credentials, .. } => credentials,
                    IdentityObserved::NotWanted | IdentityObserved::Existing { .. } => return None,
                }
            }
        };
        let found = all.iter().find(|credential| credential.name == name)?;
        Some(
            json!({ "issuer": found.issuer, "subject": found.subject, "audiences": found.audiences }),
        )
    }
}
