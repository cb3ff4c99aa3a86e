//! The units of which anything is left, whatever `fleet.yaml` says now: a sweep looks at each, so a plan shows each.

use super::View;
use crate::{
    domain::{ids::Unit, kubernetes::Kind, names},
    reconcile::{Failure, inventory, observe},
};
use futures::try_join;
use std::collections::BTreeSet;

impl View {
    /// A manager, a job namespace, an identity or a status makes a unit known. What cannot be read is a problem, and hides
    /// nothing else.
    pub(super) async fn known_units(&self, problems: &mut Vec<String>) -> BTreeSet<Unit> {
        let managers = self.fleet.settings().cluster.managers_namespace.as_str();
        let (made, namespaces, tagged, told) = tokio::join!(
            self.by_label(Kind::Deployment, Some(managers)),
            self.by_label(Kind::Namespace, None),
            self.by_tag(),
            self.by_status(),
        );
        let reads = [
            ("the managers of the fleet", made),
            ("the job namespaces of the fleet", namespaces),
            ("the identities of the fleet", tagged),
            ("what is told of units", told),
        ];
        let mut known = BTreeSet::new();
        for (what, read) in reads {
            match read {
                Ok(units) => known.extend(units),
                Err(failure) => problems.push(format!("{what}: {}", failure.text)),
            }
        }
        known
    }

    async fn by_label(&self, kind: Kind, namespace: Option<&str>) -> Result<Vec<Unit>, Failure> {
        let selector = format!("{}={}", names::LABEL_FLEET, self.fleet.settings().name);
        let found = self.clients.kubernetes().list(kind, namespace, Some(&selector)).await?;
        let keys = found.iter().filter_map(|object| object.label(names::LABEL_KEY));
        Ok(keys.filter_map(names::unit_of_key).collect())
    }

    async fn by_tag(&self) -> Result<Vec<Unit>, Failure> {
        let (installation, identities) = try_join!(
            observe::installation(&self.clients, self.fleet.settings()),
            inventory::identities(&self.clients, &self.fleet),
        )?;
        let ours =
            identities.iter().filter(|one| inventory::is_ours(one, &self.fleet, &installation));
        let keys = ours.filter_map(|one| one.tags.get(names::TAG_KEY));
        Ok(keys.filter_map(|key| names::unit_of_key(key)).collect())
    }

    /// A target has no plan of its own.
    async fn by_status(&self) -> Result<Vec<Unit>, Failure> {
        let units = self.statuses().await?.into_iter().map(|status| status.unit);
        Ok(units.filter(|unit| !matches!(unit, Unit::Target(_))).collect())
    }
}
