//! The runner's entity in GitLab: its settings, whether it is open, and its twins.

use super::{AT_CEILING, Ours};
use crate::domain::{
    gitlab::{Entity, EntityChange, EntitySettings},
    ids::{FleetName, InstallationId, Unit},
    marker::Marker,
    observed::Observed,
    pause::{self, PausedBy},
    plan::Draft,
    spec::{FleetSettings, RunnerSpec},
    step::Step,
};
use jiff::Timestamp;

/// The note of an entity that we made and have not opened yet.
pub const NOTE_NOT_OPEN: &str = "forerunner: paused until a job can sign in";

/// What GitLab should hold of the entity.
pub(super) fn settings(
    spec: &RunnerSpec,
    fleet: &FleetName,
    installation: &InstallationId,
    paused: bool,
) -> EntitySettings {
    let marker = Marker {
        fleet: fleet.clone(),
        installation: installation.clone(),
        key: spec.key.clone(),
        generation: 1,
    };
    EntitySettings {
        description: marker.description(),
        tags: spec.runner.tags.clone(),
        run_untagged: spec.runner.run_untagged,
        locked: spec.runner.locked,
        protected: spec.runner.protected,
        maximum_timeout: Some(spec.runner.maximum_timeout),
        maintenance_note: Some(if paused { NOTE_NOT_OPEN.to_owned() } else { String::new() }),
        paused,
    }
}

pub(super) fn draft_twins(
    draft: &mut Draft,
    spec: &RunnerSpec,
    observed: &Observed,
    ours: &Ours<'_>,
    now: Timestamp,
) {
    for twin in &ours.twins {
        draft.add(Step::DeleteTwin { runner: twin.id }, []);
    }
    for twin in &ours.used_twins {
        draft_used_twin(draft, spec, observed, twin, now);
    }
}

/// A twin that somebody polls with goes once an operator lets it, and its last job is done.
fn draft_used_twin(
    draft: &mut Draft,
    spec: &RunnerSpec,
    observed: &Observed,
    twin: &Entity,
    now: Timestamp,
) {
    let unit = Unit::Runner(spec.key.clone());
    if !observed.ledger.book.may_part(&unit, twin.id, now) {
        let reason = format!(
            "runner {} is a twin of ours that somebody polls with: `forerunner send confirm {} --why …` permits its removal",
            twin.id, spec.key
        );
        draft.block_until_parting(twin.id, reason);
    } else if !twin.paused {
        let note = format!("{} paused, a twin that goes when its last job is done", pause::OURS);
        draft.add(Step::PauseRunner { runner: twin.id, note, may_be_refused: false }, []);
    } else if observed.busy.contains(&twin.id) {
        draft.wait_patiently(AT_CEILING, format!("the last job of twin {}", twin.id));
    } else {
        draft.add(Step::DeleteTwin { runner: twin.id }, []);
    }
}

/// Opens the entity when a job can sign in, mends its settings.
pub(super) fn draft_entity(
    draft: &mut Draft,
    spec: &RunnerSpec,
    fleet: &FleetSettings,
    ours: &Ours<'_>,
    may_open: bool,
) {
    let Some(keep) = ours.keep else { return };
    let may_resume = match pause::paused_by(keep) {
        Some(PausedBy::Us) => true,
        Some(PausedBy::Person) => spec.resume_paused,
        Some(PausedBy::Operator) | None => false,
    };
    let stays_paused = keep.paused && !(may_resume && may_open);
    let wanted = settings(spec, &fleet.name, ours.installation, stays_paused);
    let opens = keep.paused && !stays_paused;
    let is_stale = pause::has_stale_note(keep);
    if !opens && !is_stale && !differs(keep, &wanted) {
        return;
    }
    // Only what we wrote is ours to clear: a person's note stays, and so does a person's pause.
    let change = EntityChange {
        paused: opens.then_some(false),
        maintenance_note: (opens || is_stale).then(String::new),
        ..EntityChange::from(&wanted)
    };
    let why = if opens { "open" } else { "mend the settings of" };
    draft.add(Step::UpdateRunner { runner: keep.id, change, why }, []);
}

fn differs(entity: &Entity, wanted: &EntitySettings) -> bool {
    let sorted = |tags: &[String]| {
        let mut tags: Vec<String> = tags.to_vec();
        tags.sort();
        tags.dedup();
        tags
    };
    entity.description != wanted.description
        || sorted(&entity.tags) != sorted(&wanted.tags)
        || entity.run_untagged != wanted.run_untagged
        || entity.locked != wanted.locked
        || entity.protected != wanted.protected
        || entity.maximum_timeout != wanted.maximum_timeout
}
