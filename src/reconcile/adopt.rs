//! Takes over what another installation of this fleet made: after its cluster was rebuilt nothing else knows whose it is.
//! What is rewritten is exactly what was listed before, and only while it is still another installation's.

use super::{Failure, View, anchors, observe, permits, sweep, target::TargetRead, tell, tree};
use crate::{
    adapters::gitlab::{self, Where},
    domain::{
        azure::Identity,
        claim,
        gitlab::{Entity, EntityChange},
        ids::{InstallationId, RunnerId, Unit},
        ledger::Book,
        marker::Marker,
        names, records,
    },
    telemetry::audit,
};
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream, try_join};
use jiff::Timestamp;
use std::collections::BTreeSet;

/// What bears our fleet's name and another installation's id.
#[derive(Clone, Debug)]
pub struct Adoption {
    /// The installation that takes over.
    pub installation: InstallationId,
    pub entities: Vec<Orphan>,
    pub identities: Vec<Identity>,
}

/// A runner entity of another installation of this fleet, on its own target.
#[derive(Clone, Debug)]
pub struct Orphan {
    pub runner: RunnerId,
    pub marker: Marker,
    /// When somebody last polled with its token: a cluster that still runs shows here.
    pub contacted_at: Option<Timestamp>,
}

/// How many are read, and rewritten, at once.
const AT_ONCE: usize = 8;

impl View {
    /// What there is to take over. Reads only.
    pub async fn adoption(&self) -> Result<Adoption, Failure> {
        let settings = self.fleet.settings();
        let (installation, entities, identities) = try_join!(
            observe::installation(&self.clients, settings),
            self.marked(),
            self.tagged(),
        )?;
        let mut orphans: Vec<Orphan> = entities
            .into_iter()
            .filter_map(|entity| orphan(&entity, &settings.name, &installation))
            .collect();
        orphans.sort_by_key(|orphan| orphan.runner);
        // A group's list has those of the groups above, too.
        orphans.dedup_by_key(|orphan| orphan.runner);
        let identities = identities.into_iter().filter(|one| {
            let of = one.tags.get(names::TAG_INSTALLATION);
            of.is_some_and(|of| *of != installation.0)
        });
        Ok(Adoption { entities: orphans, identities: identities.collect(), installation })
    }

    /// Rewrites the markers, and permits what follows from a lost cluster: the tokens went with its Secrets. `done` hears
    /// each line of what was done; `by` is whoever asks, as claimed.
    ///
    /// May end anywhere and be done again: the permits come first, and what bears our id is not listed any more.
    pub async fn adopt(
        &self,
        adoption: &Adoption,
        by: Option<String>,
        done: impl Fn(String),
    ) -> Result<(), Failure> {
        let origin = tell::origin_of_person(&self.fleet, "adopt", by, self.clock.now());
        audit::because(origin, self.take_over(adoption, done)).await
    }

    async fn take_over(&self, adoption: &Adoption, done: impl Fn(String)) -> Result<(), Failure> {
        let (fleet, settings) = (&self.fleet, self.fleet.settings());
        let now = self.clock.now();
        let partings: BTreeSet<(Unit, RunnerId)> = adoption
            .entities
            .iter()
            .map(|orphan| (Unit::Runner(orphan.marker.key.clone()), orphan.runner))
            .collect();
        if !partings.is_empty() {
            let ledger = self.clients.ledger(&records::ledger_name(settings)).await?;
            let with = |book: &Book| book.parting_with(&partings, now);
            permits::write(&self.clients, fleet, &adoption.installation, ledger, with).await?;
            done(format!("permitted {} runner(s) a new token", partings.len()));
        }
        let rewritten = stream::iter(&adoption.entities)
            .map(|orphan| self.mark(orphan, &adoption.installation))
            .buffer_unordered(AT_ONCE);
        rewritten
            .try_for_each(async |line| {
                done(line);
                Ok(())
            })
            .await?;
        let tagged = stream::iter(&adoption.identities)
            .map(|identity| self.tag(identity, &adoption.installation))
            .buffer_unordered(AT_ONCE);
        tagged
            .try_for_each(async |line| {
                done(line);
                Ok(())
            })
            .await
    }

    async fn mark(
        &self,
        orphan: &Orphan,
        installation: &InstallationId,
    ) -> Result<String, Failure> {
        let gitlab = self.clients.gitlab();
        // Only what is still as it was listed: somebody else may have taken it over or away meanwhile.
        let live = gitlab.entity(orphan.runner).await?;
        let still = live.and_then(|live| self::orphan(&live, &orphan.marker.fleet, installation));
        if still.is_none_or(|still| still.marker != orphan.marker) {
            return Ok(format!("runner {} is left alone: it has changed since", orphan.runner));
        }
        let marker = Marker { installation: installation.clone(), ..orphan.marker.clone() };
        let change =
            EntityChange { description: Some(marker.description()), ..EntityChange::default() };
        let deed = tell::remarking(
            format!("adopt runner {}", orphan.runner),
            "description",
            orphan.marker.description(),
            marker.description(),
        );
        audit::doing(deed, gitlab.update_runner(orphan.runner, &change)).await?;
        Ok(format!("runner {} is `{}` of this installation", orphan.runner, marker.key))
    }

    async fn tag(
        &self,
        identity: &Identity,
        installation: &InstallationId,
    ) -> Result<String, Failure> {
        let arm = self.clients.arm();
        let before = identity.tags.get(names::TAG_INSTALLATION);
        let live = arm.identity(&identity.id).await?;
        let Some(live) = live.filter(|live| live.tags.get(names::TAG_INSTALLATION) == before)
        else {
            return Ok(format!(
                "identity {} is left alone: it has changed since",
                identity.id.name()
            ));
        };
        let mut tags = live.tags;
        tags.insert(names::TAG_INSTALLATION.to_owned(), installation.0.clone());
        let deed = tell::remarking(
            format!("adopt identity {}", identity.id.name()),
            names::TAG_INSTALLATION,
            before.cloned().unwrap_or_default(),
            installation.0.clone(),
        );
        audit::doing(deed, arm.patch_identity_tags(&identity.id, &tags)).await?;
        Ok(format!("identity {} is of this installation", identity.id.name()))
    }

    /// Every entity with a marker of our fleet: everywhere at once where our token may, else below the anchors, and on every target
    /// outside of them that a rule gives one.
    async fn marked(&self) -> Result<Vec<Entity>, Failure> {
        let gitlab = self.clients.gitlab();
        if let Some(entities) = self.marked_in_bulk(Where::Everywhere).await? {
            return Ok(entities);
        }
        let now = self.clock.now();
        let targets = tree::targets(&self.clients, &self.fleet).await?;
        let targets = targets.into_iter().map(|read| (read.facts.id, read)).collect();
        let (mut listed, mut shown) = (Vec::new(), Vec::new());
        for anchor in anchors::top(&self.clients, &self.fleet, &targets).await? {
            if let Some(found) = self.marked_in_bulk(Where::Below(&anchor)).await? {
                listed.extend(found);
                shown.push(anchor.id);
            }
        }
        let is_shown =
            |read: &TargetRead| shown.iter().any(|anchor| anchors::holds(*anchor, &read.facts));
        let wanted = targets
            .into_values()
            .filter(|read| !is_shown(read))
            .filter(|read| !sweep::wanted_keys(&self.fleet, &read.facts, now).is_empty())
            .map(|read| read.facts.id);
        let lists = stream::iter(wanted.collect::<Vec<_>>()).map(|target| async move {
            let listed = gitlab.runners_of(target).await?;
            let marked = listed.iter().filter(|one| Marker::find(&one.description).is_some());
            let read = try_join_all(marked.map(|one| gitlab.entity(one.id))).await?;
            Ok::<_, Failure>(read.into_iter().flatten().collect::<Vec<_>>())
        });
        let found: Vec<Vec<Entity>> = lists.buffer_unordered(AT_ONCE).try_collect().await?;
        listed.extend(found.into_iter().flatten());
        Ok(listed)
    }

    /// The same of one place. `None`: our token may not read there, or was shown nothing, which may be a refusal.
    async fn marked_in_bulk(&self, place: Where<'_>) -> Result<Option<Vec<Entity>>, Failure> {
        let search = format!("[forerunner:{}:", self.fleet.settings().name);
        match self.clients.gitlab().runners_bulk(place, &search).await {
            Ok(found) => Ok(Some(found).filter(|found| !found.is_empty())),
            Err(gitlab::Error::Unreadable { .. } | gitlab::Error::Forbidden { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The identities of our fleet's name where managed ones lie.
    async fn tagged(&self) -> Result<Vec<Identity>, Failure> {
        let settings = self.fleet.settings();
        let Some(azure) = &settings.azure else { return Ok(vec![]) };
        let found =
            self.clients.arm().identities_in(azure.subscription, &azure.resource_group).await?;
        let ours = found.unwrap_or_default().into_iter().filter(|one| {
            one.tags.get(names::TAG_FLEET).map(String::as_str) == Some(settings.name.as_str())
        });
        Ok(ours.collect())
    }
}

fn orphan(
    entity: &Entity,
    fleet: &crate::domain::ids::FleetName,
    installation: &InstallationId,
) -> Option<Orphan> {
    let marker = Marker::find(&entity.description)?;
    let is_orphan = marker.fleet == *fleet
        && marker.installation != *installation
        && claim::belongs_to(entity, marker.key.target);
    let contacted_at = entity.contacted_at;
    is_orphan.then_some(Orphan { runner: entity.id, marker, contacted_at })
}
