//! Keeps a unit's conditions, written only when they change. Losing them loses history, never correctness.

use super::{Clients, Failure};
use crate::{
    adapters::kubernetes::{DryRun, Force},
    domain::{names, records, render::Context, status::Status},
    telemetry::audit,
};

/// Writes `next` unless it says what `before` said.
pub(super) async fn save(
    clients: &Clients,
    context: &Context<'_>,
    before: Option<&Status>,
    next: &Status,
) -> Result<bool, Failure> {
    if before == Some(next) {
        return Ok(false);
    }
    let object = records::status(context, next);
    let kubernetes = clients.kubernetes();
    let applied = kubernetes.apply(&object, names::FIELD_MANAGER, Force::Yes, DryRun::No);
    audit::recording(applied).await?;
    Ok(true)
}
