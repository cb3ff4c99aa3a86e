//! Which profiles have a runner that may still run jobs in what they share, or shared.

use super::objects::Objects;
use crate::domain::{
    ids::{FleetName, ProfileName, RunnerKey},
    kubernetes::{Kind, Object, ObjectName},
    names, sight,
};
use std::collections::BTreeSet;

/// What lies in namespaces that an administrator made.
#[derive(Default)]
pub(super) struct Given {
    /// Keys of the domains there, by namespace and by themselves.
    domains: BTreeSet<(String, String)>,
    /// Who is bound there.
    bound: Vec<(String, RunnerKey)>,
}

impl Given {
    pub(super) fn take(&mut self, object: &Object, fleet: &FleetName) {
        let (Some(place), Some(key)) = (&object.name.namespace, sight::key_of(object, fleet))
        else {
            return;
        };
        if object.name.kind == Kind::NetworkPolicy && object.name.name == names::job_bounds_of(key)
        {
            self.domains.insert((place.clone(), key.to_owned()));
        }
        self.bound.extend(bound_by(&object.name, Some(key)).map(|key| (place.clone(), key)));
    }

    pub(super) fn join(&mut self, other: Self) {
        self.domains.extend(other.domains);
        self.bound.extend(other.bound);
    }
}

impl Objects {
    /// Whoever has no domain of its own, or is still bound in the one that its profile shares.
    pub(super) fn tenants(&self) -> BTreeSet<ProfileName> {
        let given = self.given.domains.iter().map(|(_, key)| key);
        let own: BTreeSet<&String> = self.namespaces.values().chain(given).collect();
        let is_shared = |place: &String, key: &RunnerKey| {
            let shared = names::shared_domain_key(&key.profile);
            self.namespaces.get(place) == Some(&shared)
                || self.given.domains.contains(&(place.clone(), shared))
        };
        let furniture = self.furniture.iter().filter_map(|one| {
            let key: RunnerKey = bound_by(&one.object, one.key.as_deref())?;
            one.object.namespace.as_ref().filter(|place| is_shared(place, &key))?;
            Some(key.profile)
        });
        let bound = self.given.bound.iter().filter(|(place, key)| is_shared(place, key));
        let bound = bound.map(|(_, key)| key.profile.clone());
        let alone = self.managers.iter().filter(|key| !own.contains(key));
        let alone = alone.filter_map(|key| Some(key.parse::<RunnerKey>().ok()?.profile));
        alone.chain(furniture).chain(bound).collect()
    }
}

/// Whose manager a RoleBinding binds, by name and key.
fn bound_by(object: &ObjectName, key: Option<&str>) -> Option<RunnerKey> {
    let key: RunnerKey = key.filter(|_| object.kind == Kind::RoleBinding)?.parse().ok()?;
    (object.name == names::manager(&key)).then_some(key)
}
