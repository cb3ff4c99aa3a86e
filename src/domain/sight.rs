//! What a settled unit looks like from outside, in three digests: the sweep compares them with what its lists show, and
//! wakes only what looks otherwise. A digest says *changed*, never *how*: the round that it wakes reads for itself.

use super::{
    azure::{FederatedCredential, Identity},
    claim,
    gitlab::Entity,
    ids::{FleetName, RunnerKey},
    kubernetes::{Kind, Object, ObjectName},
    marker::Marker,
    names,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    hash::{DefaultHasher, Hash, Hasher},
};

/// The digests. `None`: the unit has nothing there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gitlab: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub azure: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<Digest>,
}

/// 64 bits, written as sixteen hexadecimal digits. Whatever else a record holds reads as a digest too, one that nothing looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Digest(u64);

impl From<String> for Digest {
    fn from(text: String) -> Self {
        Self(u64::from_str_radix(&text, 16).unwrap_or_else(|_| mark(&text)))
    }
}

impl From<Digest> for String {
    fn from(Digest(digest): Digest) -> Self {
        format!("{digest:016x}")
    }
}

/// Digests of single things, in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks(BTreeSet<u64>);

/// Digest of one thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    pub fn of(object: &Object) -> Self {
        Self(object_mark(object))
    }
}

impl Marks {
    /// The whole, or nothing where there is nothing.
    pub fn digest(&self) -> Option<Digest> {
        (!self.0.is_empty()).then(|| Digest(mark(&self.0)))
    }

    /// Takes an object in.
    pub fn object(&mut self, object: &Object) {
        self.mark(Mark::of(object));
    }

    pub fn mark(&mut self, Mark(mark): Mark) {
        self.0.insert(mark);
    }

    /// The cluster's token issuer is part of how whatever trusts it looks.
    pub fn issuer(&mut self, issuer: &str) {
        self.0.insert(mark(&("issuer", issuer)));
    }

    /// Takes an entity of ours in, with every setting; who polls and what runs is none.
    pub fn entity(&mut self, entity: &Entity) {
        let mut tags = entity.tags.clone();
        tags.sort();
        let Entity { id, description, kind, owners, paused, run_untagged, locked, .. } = entity;
        let note = entity.maintenance_note.as_deref().unwrap_or_default();
        let settings = (paused, run_untagged, locked, entity.protected, entity.maximum_timeout);
        let text = format!("{id} {description} {kind:?} {owners:?} {tags:?} {settings:?} {note}");
        self.0.insert(mark(&text));
    }

    pub fn identity(&mut self, identity: &Identity) {
        let Identity { id, principal_id, client_id, tags, .. } = identity;
        self.0.insert(mark(&(id.lower(), principal_id, client_id, tags)));
    }

    /// Who an administrator's identity is; its tags are theirs.
    pub fn principal(&mut self, identity: &Identity) {
        let Identity { principal_id, client_id, .. } = identity;
        self.0.insert(mark(&("principal", principal_id, client_id)));
    }

    pub fn credential(&mut self, credential: &FederatedCredential) {
        let FederatedCredential { name, issuer, subject, audiences } = credential;
        self.0.insert(mark(&(name, issuer, subject, audiences)));
    }
}

/// The runner that an entity is beyond doubt: only then do all lists agree on it.
pub fn whose(entity: &Entity, fleet: &FleetName) -> Option<RunnerKey> {
    let marker = Marker::find(&entity.description).filter(|marker| marker.fleet == *fleet)?;
    claim::belongs_to(entity, marker.key.target).then_some(marker.key)
}

/// Whether it is this one.
pub fn is_of(entity: &Entity, fleet: &FleetName, key: &RunnerKey) -> bool {
    whose(entity, fleet).as_ref() == Some(key)
}

/// Whose object it is, by its labels.
pub fn key_of<'a>(object: &'a Object, fleet: &FleetName) -> Option<&'a str> {
    let ours = object.label(names::LABEL_FLEET) == Some(fleet.as_str());
    object.label(names::LABEL_KEY).filter(|_| ours)
}

/// Whether a RoleBinding or NetworkPolicy in a job namespace of ours, the one of `domain`, is somebody else's: it lacks the
/// name that we would give it there, whatever its labels say.
pub fn is_strange(object: &Object, fleet: &FleetName, domain: &str) -> bool {
    is_named_strangely(&object.name, key_of(object, fleet), domain)
}

/// The same, of an object whose labels give this key or none.
pub fn is_named_strangely(object: &ObjectName, key: Option<&str>, domain: &str) -> bool {
    let Some(key) = key else { return true };
    let name = &object.name;
    let is_ours = match object.kind {
        Kind::NetworkPolicy => key == domain && *name == names::job_bounds_of(domain),
        Kind::RoleBinding => key.parse::<RunnerKey>().is_ok_and(|runner| {
            let here = key == domain || names::shared_domain_key(&runner.profile) == domain;
            here && *name == names::manager(&runner)
        }),
        Kind::Namespace
        | Kind::ServiceAccount
        | Kind::ClusterRole
        | Kind::ResourceQuota
        | Kind::LimitRange
        | Kind::Secret
        | Kind::ConfigMap
        | Kind::Deployment
        | Kind::Pod
        | Kind::ValidatingAdmissionPolicy
        | Kind::ValidatingAdmissionPolicyBinding
        | Kind::MutatingWebhookConfiguration => true,
    };
    !is_ours
}

fn mark(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Everything but what the server counts and a controller reports. A Secret is known by its version: its content is in
/// no digest.
fn object_mark(object: &Object) -> u64 {
    let mut hasher = DefaultHasher::new();
    object.name.hash(&mut hasher);
    let metadata = &object.body["metadata"];
    metadata["labels"].hash(&mut hasher);
    metadata["annotations"].hash(&mut hasher);
    if object.name.kind == Kind::Secret {
        metadata["resourceVersion"].hash(&mut hasher);
        return hasher.finish();
    }
    let own = |key: &str| !["apiVersion", "kind", "metadata", "status"].contains(&key);
    let fields = object.body.as_object().into_iter().flatten();
    for (key, value) in fields.filter(|(key, _)| own(key)) {
        (key, value as &Value).hash(&mut hasher);
    }
    object.is_terminating().hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_controller_reports_is_no_change_and_what_a_person_edits_is() {
        let of = |body: Value| {
            let name = ObjectName::new(Kind::Deployment, "managers", "runner-g42-plan");
            let mut marks = Marks::default();
            marks.object(&Object { name, body });
            marks.digest()
        };
        let base = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 1},
            "metadata": {"labels": {"a": "b"}, "resourceVersion": "7", "generation": 2}});
        let with = |path: &str, value: Value| {
            let mut body = base.clone();
            *body.pointer_mut(path).unwrap() = value;
            of(body)
        };
        let mut reported = base.clone();
        reported["status"] = json!({"replicas": 1});
        reported.as_object_mut().unwrap().remove("kind");
        assert_eq!(of(reported), of(base.clone()), "lists leave the kind out");
        assert_eq!(with("/metadata/resourceVersion", json!("8")), of(base.clone()));
        assert_ne!(with("/spec/replicas", json!(2)), of(base.clone()));
        assert_ne!(with("/metadata/labels/a", json!("c")), of(base.clone()));
        assert_eq!(Marks::default().digest(), None);
    }

    #[test]
    fn a_digest_is_read_as_it_was_written_and_one_that_somebody_edited_is_another() {
        let read = |text: &str| serde_json::from_value::<Digest>(json!(text)).unwrap();
        assert_eq!(serde_json::to_value(Digest(7)).unwrap(), json!("0000000000000007"));
        assert_eq!(read("0000000000000007"), Digest(7));
        assert_ne!(read("somebody was here"), read("0000000000000000"));
    }
}
