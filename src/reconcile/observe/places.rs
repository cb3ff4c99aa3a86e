//! Where a runner's jobs ran before the file gave them another namespace.

use super::{Clients, Failure, leaving};
use crate::domain::{
    ids::{InstallationId, RunnerKey},
    kubernetes::{Kind, Object, ObjectName},
    names,
    observed::LeftPlace,
    sight,
    spec::{FleetSettings, Isolation, RunnerSpec},
};
use futures::future::try_join_all;

/// Those of the names that forerunner gives; an administrator's namespace is known by the file alone.
pub(super) async fn left(
    clients: &Clients,
    fleet: &FleetSettings,
    spec: &RunnerSpec,
    installation: &InstallationId,
) -> Result<Vec<LeftPlace>, Failure> {
    let present = names::job_namespace(&fleet.name, spec);
    let all = [Isolation::Target, Isolation::Profile]
        .map(|one| (one, names::namespace_of(&fleet.name, &spec.key, one, None)));
    let left = all.into_iter().filter(|(_, name)| *name != present);
    let read = left
        .map(|(isolation, name)| place(clients, fleet, &spec.key, installation, isolation, name));
    Ok(try_join_all(read).await?.into_iter().flatten().collect())
}

async fn place(
    clients: &Clients,
    fleet: &FleetSettings,
    key: &RunnerKey,
    installation: &InstallationId,
    isolation: Isolation,
    name: String,
) -> Result<Option<LeftPlace>, Failure> {
    let (kubernetes, label) = (clients.kubernetes(), key.to_string());
    let ours = |object: &Object| {
        sight::key_of(object, &fleet.name) == Some(label.as_str())
            && object.label(names::LABEL_INSTALLATION) == Some(installation.0.as_str())
            && object.label(names::LABEL_MANAGED_BY) == Some(names::MANAGED_BY)
    };
    let namespace = match isolation {
        Isolation::Target => {
            let found = kubernetes.get(&ObjectName::of_cluster(Kind::Namespace, &name)).await?;
            let Some(own) = found.filter(ours) else { return Ok(None) };
            Some(own)
        }
        Isolation::Profile => None,
    };
    let binding = ObjectName::new(Kind::RoleBinding, &name, &names::manager(key));
    let binding = kubernetes.get(&binding).await?.filter(ours);
    let job_pods = match (&binding, &namespace) {
        (None, None) => return Ok(None),
        (None, Some(_)) => 0,
        (Some(_), _) => leaving::job_pods_in(clients, fleet, &name, |one| one == key).await?,
    };
    Ok(Some(LeftPlace { namespace, binding, job_pods }))
}
