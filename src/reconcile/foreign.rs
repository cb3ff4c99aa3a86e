//! Keeps what was on our queue and is no message of ours, with its reason: never redelivered for ever, never lost.

use super::{Failure, Rounds, observe};
use crate::{
    adapters::kubernetes::{DryRun, Force},
    domain::{names, records, render::Context},
    telemetry::audit,
};

/// A body that nobody could read. Unknown text may be a secret that somebody typed: it goes into a Secret.
pub struct Foreign<'a> {
    pub function: &'a str,
    pub message_id: Option<&'a str>,
    pub reason: &'a str,
    pub body: &'a [u8],
}

impl Rounds {
    /// Writes it down under a name made of its content, so that a redelivery writes the same again.
    pub async fn keep_foreign(&self, foreign: &Foreign<'_>) -> Result<String, Failure> {
        let fleet = self.fleet().map_err(Failure::retry)?;
        let installation = observe::installation(self.clients(), fleet.settings()).await?;
        let context = Context {
            fleet: fleet.settings(),
            installation: &installation,
            api_server: &[],
            gitlab_ca: None,
        };
        let object = records::foreign(
            &context,
            foreign.function,
            foreign.message_id,
            foreign.reason,
            foreign.body,
        );
        let kubernetes = self.clients().kubernetes();
        let applied = kubernetes.apply(&object, names::FIELD_MANAGER, Force::Yes, DryRun::No);
        audit::recording(applied).await?;
        Ok(object.name.to_string())
    }
}
