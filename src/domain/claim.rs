//! Whose runner entity this is. A marker alone proves nothing: who may edit a description may copy one.

use super::{
    gitlab::{Entity, EntityKind, Listed},
    ids::{FleetName, InstallationId, RunnerId, RunnerKey, TargetId},
    marker::Marker,
};

/// What an entity with a marker of our fleet for this key is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Made by this installation: type and only owner are the target.
    Ours { generation: u32 },
    /// Made under our fleet's name by another installation: nothing is written until a person adopts it.
    OtherInstallation,
    /// The marker stands on somebody else's runner: reported, never adopted, reset or deleted.
    LookAlike,
}

/// Whether a listed entity is worth reading whole: it bears a marker of this fleet for this key, or our Secret knows it.
pub fn concerns(listed: &Listed, fleet: &FleetName, key: &RunnerKey, known: &[RunnerId]) -> bool {
    let marked = Marker::find(&listed.description);
    known.contains(&listed.id)
        || marked.is_some_and(|marker| marker.fleet == *fleet && marker.key == *key)
}

/// Judges an entity read whole. `None`: it bears no marker of this fleet for this key.
pub fn judge(
    entity: &Entity,
    fleet: &FleetName,
    key: &RunnerKey,
    installation: &InstallationId,
) -> Option<Claim> {
    let marker = Marker::find(&entity.description)?;
    if marker.fleet != *fleet || marker.key != *key {
        return None;
    }
    if !belongs_to(entity, key.target) {
        return Some(Claim::LookAlike);
    }
    if marker.installation != *installation {
        return Some(Claim::OtherInstallation);
    }
    Some(Claim::Ours { generation: marker.generation })
}

/// Whether the entity's type and only owner are `target`.
pub fn belongs_to(entity: &Entity, target: TargetId) -> bool {
    is_owned(entity.kind, &entity.owners, target)
}

/// The one of these that is the runner's own.
pub fn own(
    entities: &[Entity],
    fleet: &FleetName,
    key: &RunnerKey,
    installation: &InstallationId,
) -> Option<RunnerId> {
    let is_ours = |entity: &&Entity| {
        matches!(judge(entity, fleet, key, installation), Some(Claim::Ours { .. }))
    };
    entities.iter().find(is_ours).map(|entity| entity.id)
}

/// The one of these that our own records name, and whose marker a person edited away.
pub fn taken(
    entities: &[Entity],
    named: impl Fn(RunnerId) -> bool,
    target: TargetId,
) -> Option<RunnerId> {
    let is_taken = |entity: &&Entity| {
        named(entity.id)
            && Marker::find(&entity.description).is_none()
            && belongs_to(entity, target)
    };
    entities.iter().find(is_taken).map(|entity| entity.id)
}

/// The same of a type and owners.
pub fn is_owned(kind: EntityKind, owners: &[TargetId], target: TargetId) -> bool {
    let owner = match target {
        TargetId::Instance => owners.is_empty(),
        TargetId::Group(_) | TargetId::Project(_) => owners == [target],
    };
    kind == EntityKind::of(target) && owner
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::domain::ids::{GroupId, ProjectId};

    pub(crate) fn entity(id: u64, description: &str, owner: TargetId) -> Entity {
        Entity {
            id: RunnerId(id),
            description: description.to_owned(),
            kind: EntityKind::of(owner),
            owners: if owner == TargetId::Instance { vec![] } else { vec![owner] },
            paused: true,
            tags: vec![],
            run_untagged: false,
            locked: false,
            protected: false,
            maximum_timeout: None,
            maintenance_note: None,
            contacted_at: None,
            created_at: None,
            busy: None,
        }
    }

    #[test]
    fn a_marker_counts_only_on_the_targets_own_runner() {
        let [fleet, key] = ["nonprod", "g42-tf"];
        let (fleet, key) = (FleetName::new(fleet).unwrap(), key.parse::<RunnerKey>().unwrap());
        let here = InstallationId("uid-1".into());
        let group = TargetId::Group(GroupId(42));
        let cases = [
            ("tf [forerunner:nonprod:uid-1:g42-tf:1]", group, Some(Claim::Ours { generation: 1 })),
            ("tf [forerunner:nonprod:uid-2:g42-tf:1]", group, Some(Claim::OtherInstallation)),
            (
                "tf [forerunner:nonprod:uid-1:g42-tf:1]",
                TargetId::Group(GroupId(7)),
                Some(Claim::LookAlike),
            ),
            (
                "tf [forerunner:nonprod:uid-1:g42-tf:1]",
                TargetId::Project(ProjectId(42)),
                Some(Claim::LookAlike),
            ),
            ("tf [forerunner:nonprod:uid-1:g42-tf:1]", TargetId::Instance, Some(Claim::LookAlike)),
            ("tf [forerunner:other:uid-1:g42-tf:1]", group, None),
            ("tf [forerunner:nonprod:uid-1:g43-tf:1]", group, None),
            ("made by hand", group, None),
        ];
        for (description, owner, expected) in cases {
            let judged = judge(&entity(1, description, owner), &fleet, &key, &here);
            assert_eq!(judged, expected, "{description} of {owner}");
        }
    }
}
