//! Rounds that look at many: a target's fan-out, the sweep over the whole fleet, dead letters, and the fleet's status.

use super::{
    Clients, Failure,
    deadline::Deadline,
    fleet_status::{self, Told},
    gone,
    inventory::{self, Inventory},
    permits, rivals,
    round::{Outcome, Rounds, wake},
    survey::{self, Survey},
    target, tell,
    tree::descendants,
    watch,
};
use crate::domain::{
    fleet::{Fleet, TargetFacts},
    ids::{RunnerKey, TargetId, Unit},
    kubernetes::Kind,
    ledger::Leave,
    marker::Marker,
    message::{Message, Outgoing, Reason},
    names,
};
use crate::telemetry::{
    audit::{self, Origin},
    meters,
    words::SweepEnd,
};
use futures::try_join;
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use tracing::{error, info, warn};

/// Hook events after which the paths of everything below have changed without a word.
const MOVES: [&str; 4] = ["group_rename", "project_rename", "project_transfer", "group_update"];

/// What came of one sweep.
struct Looked {
    /// The units to wake.
    wakes: BTreeSet<Unit>,
    /// What a person should know.
    told: Vec<String>,
    /// Whether the whole fleet was seen.
    whole: bool,
    /// How long it took to hold what was read against what is asked.
    planning: Duration,
}

impl Rounds {
    /// Wakes every runner of the target that a rule gives it or a marker shows it has; after a move, of its
    /// descendants too.
    pub(super) async fn target_round(
        &self,
        fleet: &Fleet,
        target: TargetId,
        message: &Message,
    ) -> Result<Vec<Outgoing>, Failure> {
        let (gitlab, now) = (self.clients().gitlab(), self.clock.now());
        let (read, made) =
            try_join!(target::read(self.clients(), target), made_runners(self.clients(), fleet))?;
        let mut keys: BTreeSet<RunnerKey> =
            made.iter().filter(|key| key.target == target).cloned().collect();
        if let Some(read) = &read {
            keys.extend(wanted_keys(fleet, &read.facts, now));
            let listed = gitlab.runners_of(target).await?;
            let marked = listed.iter().filter_map(|one| Marker::find(&one.description));
            keys.extend(
                marked
                    .filter(|marker| {
                        marker.fleet == fleet.settings().name && marker.key.target == target
                    })
                    .map(|marker| marker.key),
            );
        }
        let moved = message.event.as_deref().is_some_and(|event| MOVES.contains(&event));
        if let (true, TargetId::Group(id), Some(_)) = (moved, target, &read) {
            let below = descendants(self.clients(), id).await?;
            keys.extend(
                made.iter().filter(|key| below.iter().any(|facts| facts.id == key.target)).cloned(),
            );
            keys.extend(below.iter().flat_map(|facts| wanted_keys(fleet, facts, now)));
        }
        if read.is_none() {
            // Its managers may be gone too; what is told of its units is not.
            let told = fleet_status::told(self.clients(), fleet).await?.units.into_iter();
            keys.extend(told.filter_map(|status| match status.unit {
                Unit::Runner(key) => Some(key).filter(|key| key.target == target),
                Unit::Target(_) | Unit::Domain(_) | Unit::Identity(_) => None,
            }));
        }
        // That a target is destroyed is worth remembering; what else its events say the round reads for itself.
        let event = message.event.clone().filter(|event| event.ends_with("_destroy"));
        let wakes = keys.into_iter().map(|key| {
            Message { event: event.clone(), ..wake(message, Unit::Runner(key)) }.send(now)
        });
        Ok(wakes.collect())
    }

    /// Looks over the whole fleet: wakes units that drift or are due, and permits what leaves to be taken away.
    ///
    /// A list that fails ends the sweep: what it did not see is neither absent nor settled.
    pub async fn sweep(&self) -> Outcome {
        let fleet = match self.fleet() {
            Ok(fleet) => fleet.clone(),
            Err(reason) => {
                meters::sweep(SweepEnd::Failed, 0, Duration::ZERO);
                error!("nothing was swept, because fleet.yaml is not valid: {reason}");
                return Outcome::Done(vec!["fleet.yaml is not valid".to_owned()]);
            }
        };
        let origin = tell::origin_of_sweep(&fleet, self.clock.now());
        self.sweep_because(&fleet, origin).await
    }

    /// The same for whoever asks for it.
    pub(super) async fn sweep_because(&self, fleet: &Fleet, origin: Origin) -> Outcome {
        let (began, cause) = (Instant::now(), origin.cause.clone());
        let looked = audit::because(origin, Box::pin(self.look_over(fleet))).await;
        let (how, woken) = match &looked {
            Ok(looked) if looked.whole => (SweepEnd::Whole, looked.wakes.len()),
            Ok(looked) => (SweepEnd::Partial, looked.wakes.len()),
            Err(_) => (SweepEnd::Failed, 0),
        };
        meters::sweep(how, woken, began.elapsed());
        match looked {
            Ok(Looked { wakes, told, planning, .. }) => {
                let now = self.clock.now();
                let planning = planning.as_secs_f64() * 1000.0;
                info!(
                    units = wakes.len(),
                    planning_ms = planning,
                    "the sweep wakes {} unit(s)",
                    wakes.len()
                );
                let mut lines = vec![format!("woke {} unit(s)", wakes.len())];
                lines.extend(told);
                let wakes = wakes
                    .into_iter()
                    .map(|unit| Message::wake(unit, Reason::Sweep, cause.clone()).send(now));
                self.send(wakes.collect(), lines).await
            }
            Err(failure) => {
                // The next sweep tries again; an answer of failure would only be logged by the host.
                error!("the sweep did not see the whole fleet: {}", failure.text);
                Outcome::Failed(failure.text)
            }
        }
    }

    async fn look_over(&self, fleet: &Fleet) -> Result<Looked, Failure> {
        let deadline = self.deadline();
        let mut inventory = Box::pin(inventory::take(self.clients(), fleet, deadline)).await?;
        let now = self.clock.now();
        tell::swept(self.clients(), &inventory, now).await;
        let began = Instant::now();
        let mut survey = survey::survey(fleet, &inventory, now);
        let planning = inventory.planning + began.elapsed();
        let (orphans, rivals) = tokio::join!(
            deadline.wait(watch::orphans(self.clients(), fleet, &inventory, now)),
            rivals::findings(self.clients(), fleet, &inventory, &survey, (now, deadline)),
        );
        let mut findings = watch::findings(fleet, &inventory, &survey, now);
        findings.extend(orphans.unwrap_or_default());
        findings.extend(rivals);
        let mut wakes = std::mem::take(&mut survey.wakes);
        if !self.observes_all(fleet) && inventory.unseen.is_empty() {
            match self.permit(fleet, &inventory, &survey, (now, deadline)).await {
                Ok(permitted) => wakes.extend(survey::moving(&inventory, &permitted, now)),
                // What drifts does not wait for what leaves.
                Err(failure) => {
                    inventory.unseen.push(failure.during("no permit was given").text);
                }
            }
        }
        let told = fleet_status::keep(self.clients(), fleet, &inventory, findings, now).await;
        Ok(Looked { wakes, told, whole: inventory.unseen.is_empty(), planning })
    }

    /// Permits what wants removal, as far as the brake allows, and answers which units may go now.
    async fn permit(
        &self,
        fleet: &Fleet,
        inventory: &Inventory,
        survey: &Survey,
        (now, deadline): (Timestamp, Deadline),
    ) -> Result<BTreeSet<Unit>, Failure> {
        let wants = self.with_gone(fleet, inventory, survey, now);
        let wants = deadline.hold("what is destroyed", wants).await?;
        let all = (&wants, &survey.unread);
        permits::give(self.clients(), fleet, inventory, all, now).await
    }

    /// Every unit that wants removal now, and why.
    pub(super) async fn wants_removal(
        &self,
        fleet: &Fleet,
        inventory: &Inventory,
        now: Timestamp,
    ) -> Result<BTreeMap<Unit, Leave>, Failure> {
        let survey = survey::survey(fleet, inventory, now);
        self.with_gone(fleet, inventory, &survey, now).await
    }

    async fn with_gone(
        &self,
        fleet: &Fleet,
        inventory: &Inventory,
        survey: &Survey,
        now: Timestamp,
    ) -> Result<BTreeMap<Unit, Leave>, Failure> {
        let gone =
            gone::confirm_gone(self.clients(), fleet, inventory, &survey.missing, now).await?;
        let may = |unit: &Unit| {
            !survey::is_protected(fleet, unit) && inventory.ledger.book.held(unit, now).is_none()
        };
        let gone = gone.into_iter().filter(may).map(|unit| (unit, Leave::Gone));
        Ok(survey.wants.clone().into_iter().chain(gone).collect())
    }

    /// A message that the broker gave up on: its unit is parked with the reason. If that cannot be written down it
    /// is logged and forgotten here: the sweep finds the unit again.
    pub async fn dead_letter(&self, message: &Message, reason: &str) -> Outcome {
        error!("`{}` went to the dead letters: {reason}", message.unit);
        let Ok(fleet) = self.fleet() else { return Outcome::Done(vec![reason.to_owned()]) };
        let text = format!("its message went to the dead letters: {reason}");
        if let Err(failure) = self.park(fleet, message, &text, None, self.clock.now()).await {
            warn!(
                "`{}` could not be parked; the sweep finds it again: {}",
                message.unit, failure.text
            );
        }
        Outcome::Done(vec![text])
    }

    /// What is told of every unit and of the fleet as a whole.
    pub async fn told(&self) -> Result<Told, Failure> {
        match self.fleet() {
            Ok(fleet) => fleet_status::told(self.clients(), fleet).await,
            Err(_) => Ok(Told::default()),
        }
    }

    /// Wakes units by hand, as the sweep would.
    pub async fn wake(&self, units: Vec<Unit>, cause: &str) -> Result<(), Failure> {
        let now = self.clock.now();
        let wakes: Vec<Outgoing> = units
            .into_iter()
            .map(|unit| Message::wake(unit, Reason::Command, cause.to_owned()).send(now))
            .collect();
        self.outbox.send(&wakes).await
    }
}

pub(super) fn wanted_keys(fleet: &Fleet, facts: &TargetFacts, now: Timestamp) -> Vec<RunnerKey> {
    let target = facts.id;
    fleet
        .wanted_at(facts, now)
        .into_iter()
        .map(|wanted| RunnerKey { target, profile: wanted.profile })
        .collect()
}

/// The keys of all runners that have a manager.
pub(super) async fn made_runners(
    clients: &Clients,
    fleet: &Fleet,
) -> Result<Vec<RunnerKey>, Failure> {
    let settings = fleet.settings();
    let selector = format!("{}={}", names::LABEL_FLEET, settings.name);
    let kubernetes = clients.kubernetes();
    let namespace = Some(settings.cluster.managers_namespace.as_str());
    let found = kubernetes.list(Kind::Deployment, namespace, Some(&selector)).await?;
    Ok(found.iter().filter_map(|one| one.label(names::LABEL_KEY)?.parse().ok()).collect())
}
