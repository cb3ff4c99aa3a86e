//! What a sweep sees of our objects in the cluster.

use super::tenants::Given;
use crate::{
    domain::{
        fleet::Fleet,
        ids::{FleetName, ProfileName, RunnerKey},
        kubernetes::{Kind, Object, ObjectName},
        names,
        plan::runner::is_available,
        sight::{self, Digest, Mark, Marks},
    },
    reconcile::{Clients, Failure},
};
use futures::{future::try_join_all, try_join};
use std::collections::{BTreeMap, BTreeSet};

/// What the cluster holds of each key, and which keys have a manager or a namespace.
#[derive(Default)]
pub(super) struct Objects {
    marks: BTreeMap<String, Marks>,
    /// The same once every list is read.
    pub(super) digests: BTreeMap<String, Option<Digest>>,
    /// What one list showed, each object's key and mark: far less than a map for each list.
    found: Vec<(Box<str>, Mark)>,
    pub(super) managers: BTreeSet<String>,
    /// Those whose manager does not run.
    pub(super) down: BTreeSet<RunnerKey>,
    /// Keys of job namespaces of our making, by the namespaces' names.
    pub(super) namespaces: BTreeMap<String, String>,
    /// What lies in something called like a job namespace of ours, by namespace: whose it is shows once all of those are
    /// known. Each with the domain that it would be ours in, if any.
    pub(super) furniture: Vec<Furniture>,
    /// The same in any other namespace, which is an administrator's: only what says who runs jobs there.
    pub(super) given: Given,
    /// Profiles of which a runner may still run jobs in what they share, or shared.
    pub(super) tenants: BTreeSet<ProfileName>,
}

/// A RoleBinding or NetworkPolicy: enough to tell whose it is, without the object.
pub(super) struct Furniture {
    pub(super) object: ObjectName,
    /// Whose it is by its labels.
    pub(super) key: Option<String>,
    mark: Mark,
}

impl Objects {
    /// RoleBindings and NetworkPolicies are listed whoever made them: what others add there counts.
    fn furnish(&mut self, object: &Object, fleet: &FleetName) {
        let namespace = object.name.namespace.as_deref().unwrap_or_default();
        if !namespace.starts_with(&names::job_namespace_prefix(fleet)) {
            self.given.take(object, fleet);
            return self.take(object, fleet);
        }
        let key = sight::key_of(object, fleet).map(str::to_owned);
        self.furniture.push(Furniture { object: object.name.clone(), key, mark: Mark::of(object) });
    }

    /// Gives every part to the unit that has to look at it, and sums up what each has.
    fn settle(&mut self) {
        self.tenants = self.tenants();
        for Furniture { object, key, mark } in std::mem::take(&mut self.furniture) {
            let domain = object.namespace.as_ref().and_then(|name| self.namespaces.get(name));
            let strange =
                domain.filter(|domain| sight::is_named_strangely(&object, key.as_deref(), domain));
            if let Some(key) = strange.cloned().or(key) {
                self.marks.entry(key).or_default().mark(mark);
            }
        }
        let marks = std::mem::take(&mut self.marks).into_iter();
        self.digests = marks.map(|(key, marks)| (key, marks.digest())).collect();
    }

    fn take(&mut self, object: &Object, fleet: &FleetName) {
        let Some(key) = sight::key_of(object, fleet) else { return };
        self.found.push((key.into(), Mark::of(object)));
        match object.name.kind {
            Kind::Deployment => {
                self.managers.insert(key.to_owned());
                if !is_available(object) {
                    self.down.extend(key.parse::<RunnerKey>());
                }
            }
            Kind::Namespace => {
                self.namespaces.insert(object.name.name.clone(), key.to_owned());
            }
            Kind::ServiceAccount
            | Kind::RoleBinding
            | Kind::ClusterRole
            | Kind::ResourceQuota
            | Kind::LimitRange
            | Kind::NetworkPolicy
            | Kind::Secret
            | Kind::ConfigMap
            | Kind::Pod
            | Kind::ValidatingAdmissionPolicy
            | Kind::ValidatingAdmissionPolicyBinding
            | Kind::MutatingWebhookConfiguration => {}
        }
    }

    fn join(&mut self, other: Self) {
        for (key, mark) in other.found {
            self.marks.entry(key.into()).or_default().mark(mark);
        }
        self.managers.extend(other.managers);
        self.down.extend(other.down);
        self.namespaces.extend(other.namespaces);
        self.furniture.extend(other.furniture);
        self.given.join(other.given);
    }
}

/// Kinds whose objects of ours bear the fleet's label wherever they lie, and those of the managers' namespace. Of a large
/// fleet only digests are held, never the objects.
pub(super) async fn objects(clients: &Clients, fleet: &Fleet) -> Result<Objects, Failure> {
    let settings = fleet.settings();
    let selector = format!("{}={}", names::LABEL_FLEET, settings.name);
    let managers = Some(settings.cluster.managers_namespace.as_str());
    let lists = [
        (Kind::Namespace, None),
        (Kind::ServiceAccount, None),
        (Kind::ResourceQuota, None),
        (Kind::LimitRange, None),
        (Kind::Deployment, managers),
        (Kind::Secret, managers),
    ];
    let kubernetes = clients.kubernetes();
    let take = |all: &mut Objects, object: Object| all.take(&object, &settings.name);
    let lists = lists.map(|(kind, within)| kubernetes.fold(kind, within, Some(&selector), take));
    let furnish = |all: &mut Objects, object: Object| all.furnish(&object, &settings.name);
    let furniture = [Kind::RoleBinding, Kind::NetworkPolicy];
    let furniture = furniture.map(|kind| kubernetes.fold(kind, None, None, furnish));
    let (lists, furniture) = try_join!(try_join_all(lists), try_join_all(furniture))?;
    let mut all = Objects::default();
    lists.into_iter().chain(furniture).for_each(|part| all.join(part));
    all.settle();
    Ok(all)
}
