//! Which entities are the unit's own, and which a person has to look at first.

use super::{Departing, Remains};
use crate::domain::{
    claim::{self, Claim},
    gitlab::{Entity, EntityKind},
    ids::RunnerId,
    marker::Marker,
    status::{ConditionKind, Finding},
};

/// Our entities; `None` where one is another installation's.
pub(super) fn entities<'a>(what: &Departing<'_>, remains: &'a Remains) -> Option<Vec<&'a Entity>> {
    let Some(key) = what.runner else { return Some(vec![]) };
    let mut ours = Vec::new();
    for entity in &remains.entities {
        match claim::judge(entity, &what.fleet.name, key, &remains.installation) {
            Some(Claim::Ours { .. }) => ours.push(entity),
            Some(Claim::OtherInstallation) => return None,
            Some(Claim::LookAlike) if is_orphan(remains, entity) => ours.push(entity),
            None if remains.proven.contains(&entity.id)
                && (claim::belongs_to(entity, key.target) || is_orphan(remains, entity)) =>
            {
                ours.push(entity);
            }
            Some(Claim::LookAlike) | None => {}
        }
    }
    Some(ours)
}

/// Its target is gone and it belongs to nobody: our marker and our Secret's own entry say that it is ours.
fn is_orphan(remains: &Remains, entity: &Entity) -> bool {
    entity.kind != EntityKind::Instance
        && entity.owners.is_empty()
        && remains.entries.contains(&entity.id)
}

/// No list shows an orphan, and no marker an entity whose marker was edited away.
pub(super) fn only_secret_knows(remains: &Remains, entity: &Entity) -> bool {
    is_orphan(remains, entity) || remains.proven.contains(&entity.id)
}

/// Entities that our Secret or the unit's status names, without a marker and without proof: somebody edited it away, and their token is dead, or
/// GitLab judges it no more because the target is gone.
pub(super) fn unproven<'a>(
    what: &'a Departing<'_>,
    remains: &'a Remains,
) -> impl Iterator<Item = &'a Entity> {
    remains.entities.iter().filter(move |entity| {
        let at_target = what.runner.is_some_and(|key| claim::belongs_to(entity, key.target));
        remains.entries.contains(&entity.id)
            && !remains.proven.contains(&entity.id)
            && Marker::find(&entity.description).is_none()
            && (at_target || is_orphan(remains, entity))
    })
}

/// The entity that is the unit's own, or else one that a person took from it.
pub fn own(what: &Departing<'_>, remains: &Remains) -> Option<RunnerId> {
    let ours = entities(what, remains).unwrap_or_default().into_iter();
    ours.chain(unproven(what, remains)).next().map(|entity| entity.id)
}

/// A person's to look at: nothing without a marker and without proof is touched.
pub(super) fn unproven_finding(what: &Departing<'_>, remains: &Remains) -> Option<Finding> {
    let told = unproven(what, remains).map(|entity| {
        format!(
            "runner {0} was this unit's, its description bears no marker any more, and no token proves it ours: look at it first; glab api --method DELETE runners/{0}",
            entity.id
        )
    });
    let told: Vec<String> = told.collect();
    let message = told.join("; ");
    (!told.is_empty())
        .then(|| Finding::holds(ConditionKind::NeedsAdministrator, "UnprovenRunner", message))
}
