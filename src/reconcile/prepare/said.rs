//! Rounds that only say why nothing is done for a runner, and keep what nobody else would remember.

use super::Prepared;
use crate::{
    domain::{
        gate::Closed,
        ids::{InstallationId, RunnerId, RunnerKey, Unit},
        ledger::Book,
        plan, render, sight,
        spec::FleetSettings,
        status::{ConditionKind, Finding, Missing, Status},
    },
    reconcile::{Clients, Failure, observe},
};
use jiff::Timestamp;

/// An operator wants the unit left alone.
pub(super) fn held(book: &Book, unit: &Unit, now: Timestamp) -> Option<Finding> {
    let held = book.held(unit, now)?;
    let message = format!("held until {} by {}: {}", held.until, held.by, held.reason);
    Some(Finding::fails(ConditionKind::Ready, "Held", message))
}

/// The target is gone, or hidden from us: it is written down since when, and nothing is changed.
pub(super) async fn missing(
    clients: &Clients,
    settings: &FleetSettings,
    key: &RunnerKey,
    installation: InstallationId,
    closed: Closed,
    now: Timestamp,
) -> Result<Prepared, Failure> {
    let before = observe::status(clients, settings, &Unit::Runner(key.clone())).await?;
    let known = before.as_ref().and_then(|status| status.missing.clone());
    let missing = known.unwrap_or(Missing { since: now, destroyed: None });
    let kept = match closed {
        Closed::Protected => "`protect: true` keeps its runner".to_owned(),
        Closed::Frozen | Closed::PutOff => {
            "`guardrails.freeze` keeps its runner for now".to_owned()
        }
        Closed::NoPermit if missing.destroyed.is_some() => {
            "its runner is kept until a sweep permits its removal".to_owned()
        }
        Closed::NoPermit => format!(
            "its runner is kept until a sweep proves its end and permits its removal, or `forerunner send confirm {key} --why …` says that it is destroyed"
        ),
    };
    let message = format!(
        "GitLab has shown no such target to our token since {}: gone, or hidden from us; {kept}",
        missing.since
    );
    let finding = Finding::fails(ConditionKind::Ready, "LostSightOf", message);
    let entity = named(clients, settings, key, before.as_ref()).await?;
    let prepared = Prepared::only_say(installation, before, finding);
    Ok(Prepared { missing: Some(missing), entity, ..prepared })
}

/// The entity of a runner that a round only says something of: where its status names none, the one whose token its Secret keeps.
/// Marker and Secret may both be gone when somebody looks next.
pub(super) async fn named(
    clients: &Clients,
    settings: &FleetSettings,
    key: &RunnerKey,
    before: Option<&Status>,
) -> Result<Option<RunnerId>, Failure> {
    if before.is_some_and(|status| status.entity.is_some()) {
        return Ok(None);
    }
    let name = plan::runner::secret_name(settings, key);
    let secret = clients.kubernetes().get(&name).await?;
    let secret = secret.filter(|one| sight::key_of(one, &settings.name) == Some(&key.to_string()));
    let entries = secret.as_ref().and_then(|secret| render::read_entries(secret).ok());
    Ok(entries.and_then(|entries| Some(entries.last()?.0)))
}
