//! What is, as one round saw it. Every absence here is known, never guessed: a read that failed ends the round.

use super::{
    azure::{FederatedCredential, Identity, ResourceId, RoleAssignment},
    gitlab::{Entity, Manager},
    ids::{InstallationId, RunnerId, Unit},
    kubernetes::{Object, ObjectName},
    ledger::Ledger,
    status::Status,
};
use secrecy::SecretString;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// All that a runner's round looks at, beside the target itself.
#[derive(Clone, Debug)]
pub struct Observed {
    pub domain: DomainObserved,
    /// Entities in the target's own complete list whose description carries a marker of our fleet for this key.
    pub entities: Vec<Entity>,
    /// Those of them that run a job; only asked for where an operator let one go.
    pub busy: BTreeSet<RunnerId>,
    /// Who polls with each of those entities' tokens.
    pub managers: BTreeMap<RunnerId, Vec<Manager>>,
    pub secret: SecretObserved,
    pub deployment: Option<Object>,
    /// The manager's pods; only asked for where it does not run.
    pub pods: Vec<Object>,
    pub manager_account: Option<Object>,
    pub manager_policy: Option<Object>,
    pub binding: Option<Object>,
    /// The identity of its own that it may have had before, if the file gives it none.
    pub left: Option<Candidate>,
    /// Where its jobs ran before.
    pub left_places: Vec<LeftPlace>,
    pub ledger: Ledger,
    /// The runners of the fleet that have a manager; only asked for where this one has no Secret.
    pub runners: BTreeSet<Unit>,
    pub status: Option<Status>,
    /// Units whose managers wait to be rolled; only asked for where this one's was rolled and runs.
    pub waiting: Vec<Unit>,
}

/// Where a runner's jobs ran before the file gave them another namespace: in its own, or in the one that its profile shares.
#[derive(Clone, Debug)]
pub struct LeftPlace {
    /// The namespace, where it was the runner's own.
    pub namespace: Option<Object>,
    /// What lets its manager run jobs there.
    pub binding: Option<Object>,
    /// Pods of its jobs there that have not ended.
    pub job_pods: usize,
}

/// What a trust domain's round looks at; a runner that has one of its own looks at it too.
#[derive(Clone, Debug)]
pub struct DomainObserved {
    pub installation: InstallationId,
    /// Addresses of the API server as resolved in this round.
    pub api_server: Vec<IpAddr>,
    /// PEM text of `gitlab.caFile`, which managers trust too.
    pub gitlab_ca: Option<String>,
    /// Each object of the domain that was looked for; `None` is a 404 by its own name.
    pub objects: BTreeMap<ObjectName, Option<Object>>,
    /// RoleBindings and NetworkPolicies that others put into a job namespace of ours.
    pub strangers: Vec<Object>,
    pub identity: IdentityObserved,
}

/// The identity that jobs sign in as.
#[derive(Clone, Debug)]
pub enum IdentityObserved {
    /// The profile has none.
    NotWanted,
    Managed {
        issuer: String,
        id: ResourceId,
        identity: Option<Identity>,
        credentials: Vec<FederatedCredential>,
        assignments: Vec<RoleAssignment>,
    },
    Existing {
        issuer: String,
        candidates: Vec<Candidate>,
    },
}

/// One of the existing identities that a profile lists.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub id: ResourceId,
    /// `None`: no such identity, or none that we may see.
    pub identity: Option<Identity>,
    pub credentials: Vec<FederatedCredential>,
    pub assignments: Vec<RoleAssignment>,
}

/// The manager's Secret, the only home of its token.
#[derive(Clone, Debug)]
pub enum SecretObserved {
    /// 404 by its own name, in a namespace that was read as present.
    Absent,
    /// Somebody else's object under our name.
    Foreign,
    Present {
        object: Object,
        entries: Vec<EntryObserved>,
    },
}

/// One `[[runners]]` entry of the Secret's `config.toml`.
#[derive(Clone, Debug)]
pub struct EntryObserved {
    pub runner: RunnerId,
    pub token: SecretString,
    pub check: TokenCheck,
}

/// What GitLab said of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenCheck {
    /// Not asked: the manager polls with it.
    NotAsked,
    /// It is the token of this entity.
    BelongsTo(RunnerId),
    /// 403: unknown, reset or expired.
    Refused,
}

impl DomainObserved {
    pub fn object(&self, name: &ObjectName) -> Option<&Object> {
        self.objects.get(name).and_then(Option::as_ref)
    }
}

impl IdentityObserved {
    /// Who issues the tokens of the cluster's accounts, where jobs sign in.
    pub fn issuer(&self) -> Option<&str> {
        match self {
            Self::NotWanted => None,
            Self::Managed { issuer, .. } | Self::Existing { issuer, .. } => Some(issuer),
        }
    }

    /// The identity a job signs in as, once it is known which.
    pub fn managed(&self) -> Option<&Identity> {
        match self {
            Self::Managed { identity, .. } => identity.as_ref(),
            Self::NotWanted | Self::Existing { .. } => None,
        }
    }
}
