//! What jobs a runner has in hand (gitlab.md §3.7).

use super::{Call, Error, Gitlab};
use crate::domain::gitlab::Entity;
use serde::de::IgnoredAny;

/// While a job has one of these states, its runner has it.
const IN_HAND: [&str; 2] = ["running", "canceling"];

impl Gitlab {
    /// Whether no job runs on it: what the entity itself says, else, before GitLab 18 told that, what the lists of its jobs
    /// do; `GET /runners/:id/jobs` → 200, one call a state.
    ///
    /// The lists show only jobs of projects that our token may read: without an administrator's or an owner's, an empty one
    /// is no proof.
    pub async fn is_idle(&self, entity: &Entity) -> Result<bool, Error> {
        if let Some(busy) = entity.busy {
            return Ok(!busy);
        }
        let path = format!("/runners/{}/jobs", entity.id);
        for state in IN_HAND {
            let call = Call::get(&path, format!("the {state} jobs of runner {}", entity.id));
            let query = format!("status={state}&per_page=1");
            let jobs: Vec<IgnoredAny> = self.ask(&call.query(&query)).await?;
            if !jobs.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
