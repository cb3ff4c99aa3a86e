//! What is kept for a person: units out of the fast loop, and messages that nobody could act on.

use super::View;
use crate::{
    adapters::kubernetes::Preconditions,
    domain::{
        ids::Unit,
        kubernetes::{Kind, ObjectName},
        message::{Message, Outgoing, Reason},
        names,
        records::{self, Kept},
    },
    reconcile::{Failure, outbox::Outbox, tell},
    telemetry::audit,
};

impl View {
    /// Messages on our queues that nobody could act on. Needs the right to list Secrets in the managers' namespace, which
    /// forerunner itself does not have.
    pub async fn kept(&self) -> Result<Vec<Kept>, Failure> {
        let settings = self.fleet.settings();
        let (fleet, label, foreign) =
            (&settings.name, records::LABEL_RECORD, records::RECORD_FOREIGN);
        let selector = format!("{}={fleet},{label}={foreign}", names::LABEL_FLEET);
        let namespace = Some(settings.cluster.managers_namespace.as_str());
        let found =
            self.clients.kubernetes().list(Kind::Secret, namespace, Some(&selector)).await?;
        Ok(found.iter().filter_map(records::read_foreign).collect())
    }

    /// Deletes a kept message for good, the very one that was read; `by` is whoever asks, as claimed.
    pub async fn drop_kept(&self, kept: &Kept, by: Option<String>) -> Result<(), Failure> {
        let namespace = &self.fleet.settings().cluster.managers_namespace;
        let name = ObjectName::new(Kind::Secret, namespace, &kept.name);
        let same = Preconditions { uid: kept.uid.clone(), resource_version: None };
        let what = format!("delete the kept message {}", kept.name);
        let deed = audit::Deed { what, action: audit::Action::Delete, changes: vec![] };
        let origin = tell::origin_of_person(&self.fleet, "drop", by, self.clock.now());
        let delete = self.clients.kubernetes().delete(&name, &same);
        audit::because(origin, audit::doing(deed, delete)).await?;
        Ok(())
    }

    /// Asks for a round of each unit, as the sweep would.
    pub async fn wake(
        &self,
        outbox: &Outbox,
        units: impl IntoIterator<Item = Unit>,
    ) -> Result<(), Failure> {
        let now = self.clock.now();
        let cause = format!("release-{}", now.as_second());
        let wakes: Vec<Outgoing> = units
            .into_iter()
            .map(|unit| Message::wake(unit, Reason::Command, cause.clone()).send(now))
            .collect();
        outbox.send(&wakes).await
    }
}
