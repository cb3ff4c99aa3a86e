//! What units look like in a sweep's lists, to be compared with what their last settled round saw.

use super::{entities::Entities, lent::Lent};
use crate::domain::{
    azure::{Identity, RoleAssignment},
    ids::{IdentityName, RunnerKey, Unit},
    kubernetes::{Kind, Object},
    names,
    observed::{DomainObserved, Observed, SecretObserved},
    plan::{
        identity::IdentityRound,
        rights::{foreign_rights, missing_grants, surplus_rights},
    },
    sight::{self, Digest, Marks, Sight},
    spec::{FleetSettings, Grant},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use uuid::Uuid;

/// What a sweep saw of each unit. What it did not look at this time is not judged.
#[derive(Debug, Default)]
pub(super) struct Looks {
    gitlab: BTreeMap<RunnerKey, Option<Digest>>,
    azure: Option<BTreeMap<String, Option<Digest>>>,
    kubernetes: BTreeMap<String, Option<Digest>>,
    lent: BTreeMap<IdentityName, Option<Digest>>,
    /// Whose principal an identity's key has.
    principals: BTreeMap<String, Uuid>,
    /// Who may do what, as far as forerunner may look, by principal.
    assignments: Option<Arc<[RoleAssignment]>>,
    /// Runners whose manager does not run, polls no more or is too old, or with whose tokens others poll.
    odd: BTreeSet<RunnerKey>,
    /// Keys of identities whose credentials are others than their tags say.
    changed_credentials: BTreeSet<String>,
}

/// What the parts of a sweep saw, each in its own way.
pub(super) struct Seen<'a> {
    pub(super) objects: BTreeMap<String, Option<Digest>>,
    /// Runners whose manager does not run.
    pub(super) down: BTreeSet<RunnerKey>,
    pub(super) identities: Option<&'a [Identity]>,
    pub(super) entities: Entities,
    pub(super) changed_credentials: BTreeSet<String>,
    pub(super) lent: Option<&'a BTreeMap<IdentityName, Lent>>,
    /// Sorted by principal.
    pub(super) assignments: Option<Arc<[RoleAssignment]>>,
    /// Without it nothing that trusts it is judged.
    pub(super) issuer: Option<&'a str>,
}

impl Looks {
    pub(super) fn of(seen: Seen<'_>) -> Self {
        let Seen {
            objects,
            down,
            identities,
            entities,
            changed_credentials,
            lent,
            assignments,
            issuer,
        } = seen;
        let Entities { looks: gitlab, mut odd, .. } = entities;
        odd.extend(down);
        let digest = |lent: &Lent, issuer: &str| {
            let mut marks = Marks::default();
            lent.identity.iter().for_each(|one| marks.principal(one));
            lent.credentials.iter().for_each(|one| marks.credential(one));
            marks.issuer(issuer);
            marks.digest()
        };
        let lent = lent
            .into_iter()
            .flatten()
            .filter_map(|(name, lent)| Some((name.clone(), digest(lent, issuer?))));
        let lent = lent.collect();
        let kubernetes = objects;
        let mut looks = Self {
            gitlab,
            odd,
            lent,
            changed_credentials,
            kubernetes,
            assignments,
            ..Self::default()
        };
        looks.azure = identities.zip(issuer).map(|(identities, issuer)| {
            let mut azure: BTreeMap<String, Marks> = BTreeMap::new();
            for identity in identities {
                if let Some(key) = identity.tags.get(names::TAG_KEY) {
                    let marks = azure.entry(key.clone()).or_default();
                    marks.identity(identity);
                    marks.issuer(issuer);
                    looks.principals.insert(key.clone(), identity.principal_id);
                }
            }
            azure.into_iter().map(|(key, marks)| (key, marks.digest())).collect()
        });
        looks
    }

    /// Whether an identity of ours has exactly these roles, as far as forerunner may look: none is missing, and nobody gave it
    /// another.
    pub(super) fn has_roles(&self, key: &str, roles: &[Grant]) -> bool {
        let Some(held) = self.principals.get(key).and_then(|principal| self.held_by(*principal))
        else {
            return true;
        };
        missing_grants(roles, held).is_empty()
            && foreign_rights(roles, held).is_empty()
            && surplus_rights(roles, held).is_empty()
    }

    /// What a principal has where forerunner may give roles; `None`: not looked at.
    pub(super) fn held_by(&self, principal: Uuid) -> Option<&[RoleAssignment]> {
        let all = self.assignments.as_deref()?;
        let begin = all.partition_point(|one| one.principal_id < principal);
        let held = &all[begin..];
        Some(&held[..held.partition_point(|one| one.principal_id == principal)])
    }

    /// Whether a round would have something to say of its manager, or of who else polls with its token.
    pub(super) fn is_oddly_managed(&self, key: &RunnerKey) -> bool {
        self.odd.contains(key)
    }

    /// Whether a list of this sweep shows an entity with the runner's marker where it belongs; `None`: it did not look, or saw
    /// nothing that proves either.
    pub(super) fn shows_entity(&self, key: &RunnerKey) -> Option<bool> {
        self.gitlab.get(key).map(Option::is_some)
    }

    /// Whether the unit still looks as its last settled round saw it.
    pub(super) fn agree(&self, unit: &Unit, seen: &Sight) -> bool {
        let key = match unit {
            Unit::Runner(key) => key.to_string(),
            Unit::Domain(profile) => names::shared_domain_key(profile),
            Unit::Identity(name) => {
                return self.lent.get(name).is_none_or(|found| *found == seen.azure);
            }
            Unit::Target(_) => return true,
        };
        let digest = |of: &BTreeMap<String, Option<Digest>>| of.get(&key).copied().flatten();
        let gitlab = match unit {
            Unit::Runner(key) => self.gitlab.get(key).is_none_or(|found| *found == seen.gitlab),
            Unit::Domain(_) | Unit::Identity(_) | Unit::Target(_) => true,
        };
        gitlab
            && self.azure.as_ref().is_none_or(|azure| digest(azure) == seen.azure)
            && digest(&self.kubernetes) == seen.kubernetes
            && !self.changed_credentials.contains(&key)
    }
}

/// What a settled round saw of its runner.
pub(super) fn of_runner(observed: &Observed, fleet: &FleetSettings, key: &RunnerKey) -> Sight {
    let mut marks = Marks::default();
    let ours = observed.entities.iter().filter(|one| sight::is_of(one, &fleet.name, key));
    ours.for_each(|entity| marks.entity(entity));
    let secret = match &observed.secret {
        SecretObserved::Present { object, .. } => Some(object),
        SecretObserved::Absent | SecretObserved::Foreign => None,
    };
    let own = [
        &observed.deployment,
        &observed.manager_account,
        &observed.manager_policy,
        &observed.binding,
    ];
    let own = own.into_iter().flatten().chain(secret);
    let key = key.to_string();
    let domain = of_domain(&observed.domain, fleet, &key);
    let domains = observed.domain.objects.values().flatten();
    let kubernetes =
        of_objects(own.chain(domains), strangers_of(&observed.domain, fleet, &key), fleet, &key);
    Sight { gitlab: marks.digest(), azure: domain.azure, kubernetes }
}

pub(super) fn of_domain(observed: &DomainObserved, fleet: &FleetSettings, key: &str) -> Sight {
    let mut marks = Marks::default();
    let ours = |one: &&Identity| one.tags.get(names::TAG_KEY).map(String::as_str) == Some(key);
    let identity = observed.identity.managed().filter(ours);
    if let (Some(identity), Some(issuer)) = (identity, observed.identity.issuer()) {
        marks.identity(identity);
        marks.issuer(issuer);
    }
    let strangers = strangers_of(observed, fleet, key);
    let kubernetes = of_objects(observed.objects.values().flatten(), strangers, fleet, key);
    Sight { gitlab: None, azure: marks.digest(), kubernetes }
}

/// What others put into the namespace, if it is this key's own.
fn strangers_of<'a>(
    observed: &'a DomainObserved,
    fleet: &FleetSettings,
    key: &str,
) -> &'a [Object] {
    let mut objects = observed.objects.values().flatten();
    let is_own = objects.any(|object| {
        object.name.kind == Kind::Namespace && sight::key_of(object, &fleet.name) == Some(key)
    });
    if is_own { &observed.strangers } else { &[] }
}

/// Of a shared domain's objects the runner's own look has none: they bear another key.
fn of_objects<'a>(
    objects: impl Iterator<Item = &'a Object>,
    strangers: &[Object],
    fleet: &FleetSettings,
    key: &str,
) -> Option<Digest> {
    let mut marks = Marks::default();
    let ours = objects.filter(|object| sight::key_of(object, &fleet.name) == Some(key));
    ours.for_each(|object| marks.object(object));
    strangers.iter().for_each(|object| marks.object(object));
    marks.digest()
}

pub(super) fn of_identity(observed: &IdentityRound) -> Sight {
    let mut marks = Marks::default();
    observed.identity.iter().for_each(|one| marks.principal(one));
    observed.credentials.iter().flatten().for_each(|one| marks.credential(one));
    marks.issuer(&observed.issuer);
    Sight { azure: marks.digest(), ..Sight::default() }
}
