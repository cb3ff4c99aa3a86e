//! What a unit's round is to do: reads the world and plans. Writes nothing, so that it also serves who only wants to see.

mod beyond;
mod said;
mod shared;
mod stance;

pub(super) use stance::leave;

use super::{
    Clients, Failure,
    act::Scene,
    desire::Desires,
    leaving, looks, observe,
    target::{self, TargetRead},
    tell,
};
use crate::{
    clock::Clock,
    domain::{
        azure::ResourceId,
        claim,
        fleet::{Fleet, WantedState},
        gate::{self, Closed, Deed, Leaving, Pass},
        gitlab::Entity,
        ids::{InstallationId, ProfileName, RunnerId, RunnerKey, Unit},
        ledger::Leave,
        observed::{DomainObserved, Observed},
        plan::{
            self, Node, Plan,
            hold::{HeldObserved, Hold},
            identity::IdentityRound,
            removal::Departing,
            runner::Ceilings,
        },
        sight::Sight,
        spec::RunnerSpec,
        status::{ConditionKind, Finding, Missing, Status},
        step::Step,
    },
};
use futures::try_join;
use jiff::Timestamp;
use stance::{Stance, outside, put_off, stance, waits_for};
use std::{collections::BTreeSet, net::IpAddr};
use tracing::warn;

/// A plan with all that its steps may still have to render.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) installation: InstallationId,
    /// The target's path when read.
    pub(super) path: Option<String>,
    /// Which rules of the file give it, for the audit.
    pub(super) rule: Option<String>,
    pub(super) plan: Plan,
    /// What was told of the unit before.
    pub(super) before: Option<Status>,
    /// Digest of what was asked of a runner or a shared domain.
    pub(super) desire: Option<String>,
    /// What a freeze may allow of it.
    pub(super) deed: Deed,
    /// What the unit looks like from outside.
    pub(super) sight: Option<Sight>,
    /// The target was not to be found.
    pub(super) missing: Option<Missing>,
    /// What the plan was made from, for who shows it.
    pub(super) seen: Seen,
    /// The entity that was seen to be the runner's own, or that a person took from it.
    pub(super) entity: Option<RunnerId>,
    api_server: Vec<IpAddr>,
    /// Missing where nothing is rendered.
    spec: Option<RunnerSpec>,
}

/// What a round read of its unit.
#[derive(Clone, Debug, Default)]
pub(super) enum Seen {
    #[default]
    Nothing,
    Runner(Box<Observed>),
    Held(Box<HeldObserved>),
    Domain(Box<DomainObserved>),
    Identity(Box<IdentityRound>),
}

impl Prepared {
    /// A state to wait in: it is said, and nothing else is done.
    fn only_say(installation: InstallationId, before: Option<Status>, finding: Finding) -> Self {
        let plan = Plan { findings: vec![finding], ..Plan::default() };
        Self::new(installation, before, plan)
    }

    fn new(installation: InstallationId, before: Option<Status>, plan: Plan) -> Self {
        Self {
            installation,
            path: None,
            rule: None,
            plan,
            before,
            desire: None,
            deed: Deed::Restore,
            sight: None,
            missing: None,
            seen: Seen::Nothing,
            entity: None,
            api_server: vec![],
            spec: None,
        }
    }

    /// With a step that needs no other one.
    fn also(mut self, step: Option<Step>) -> Self {
        self.plan.steps.extend(step.map(|step| Node { step, needs: vec![] }));
        self
    }

    pub(super) fn scene<'a>(&'a self, fleet: &'a Fleet, clients: &'a Clients) -> Scene<'a> {
        Scene {
            fleet: fleet.settings(),
            installation: &self.installation,
            api_server: &self.api_server,
            gitlab_ca: clients.gitlab_ca(),
            spec: self.spec.as_ref(),
        }
    }
}

/// Reads what the unit needs and plans its round. A target has no plan of its own: its round wakes others.
pub(super) async fn prepare(
    clients: &Clients,
    fleet: &Fleet,
    clock: &Clock,
    unit: &Unit,
) -> Result<Option<Prepared>, Failure> {
    Ok(match unit {
        Unit::Target(_) => None,
        Unit::Runner(key) => Some(runner(clients, fleet, clock, key, None).await?),
        Unit::Domain(profile) => Some(shared::domain(clients, fleet, profile, clock.now()).await?),
        Unit::Identity(name) => Some(shared::identity(clients, fleet, name, clock.now()).await?),
    })
}

/// Prepares what an operator asks of a runner's entities, whatever else is to be done with it; and whether that is all of it: a word
/// that reaches nobody yet is still to be carried out.
pub(super) async fn prepare_word(
    clients: &Clients,
    fleet: &Fleet,
    clock: &Clock,
    key: &RunnerKey,
    pause: bool,
    cause: &str,
) -> Result<(Prepared, bool), Failure> {
    let settings = fleet.settings();
    let unit = Unit::Runner(key.clone());
    let (installation, ledger) =
        try_join!(observe::installation(clients, settings), observe::ledger(clients, settings))?;
    if let Some(finding) = said::held(&ledger.book, &unit, clock.now()) {
        let before = observe::status(clients, settings, &unit).await?;
        return Ok((Prepared::only_say(installation, before, finding), false));
    }
    let observed = observe::held(clients, settings, key, installation.clone()).await?;
    let plan = plan::hold::by_command(key, settings, &observed, pause, cause);
    let reaches = !pause || plan::hold::is_ours_there(key, settings, &observed);
    let deed = if pause { Deed::Revoke } else { Deed::Restore };
    Ok((Prepared { deed, ..Prepared::new(installation, observed.status, plan) }, reaches))
}

/// `known` spares reading the target and all above it, for who reads many.
pub(super) async fn runner(
    clients: &Clients,
    fleet: &Fleet,
    clock: &Clock,
    key: &RunnerKey,
    known: Option<TargetRead>,
) -> Result<Prepared, Failure> {
    let settings = fleet.settings();
    let read = async {
        match known {
            Some(read) => Ok(Some(read)),
            None => target::read(clients, key.target).await,
        }
    };
    let (installation, read, ledger) = try_join!(
        observe::installation(clients, settings),
        read,
        observe::ledger(clients, settings),
    )?;
    let now = clock.now();
    let hold = read.as_ref().and_then(|read| read.hold.clone());
    let wanted = read.iter().flat_map(|read| fleet.wanted_at(&read.facts, now));
    let wanted = wanted.into_iter().find(|wanted| wanted.profile == key.profile);
    let state = wanted.map(|wanted| wanted.state).or_else(|| fleet.withdrawal(key.target));
    let desire = Some(Desires::of(fleet).digest(state.as_ref(), hold.as_ref()));
    let path = read.as_ref().map(|read| read.facts.path.clone()).filter(|path| !path.is_empty());
    let rule = read.as_ref().and_then(|read| tell::rule(fleet, &read.facts, &key.profile));
    let unit = Unit::Runner(key.clone());
    let why = leave(read.is_some(), state.as_ref(), hold.as_ref());
    let protected = fleet.protects(key);
    let leaving = Leaving { unit: &unit, why, protected };
    let passes = gate::open(&ledger.book, fleet.guardrails(), leaving, now);
    let serves = hold.is_none() && matches!(state, Some(WantedState::Runner(_)));
    let stays = passes.is_err_and(|closed| closed != Closed::PutOff);
    // A hold lets no write through but the one that makes a token worthless; a plan for that holds nothing else.
    let revokes = serves && stays && ledger.book.revokes(&unit);
    let held = said::held(&ledger.book, &unit, now).filter(|_| !revokes);
    if let Some(finding) = held {
        let before = observe::status(clients, settings, &unit).await?;
        let missing = before.as_ref().and_then(|status| status.missing.clone());
        let entity = said::named(clients, settings, key, before.as_ref()).await?;
        let prepared = Prepared::only_say(installation, before, finding);
        // Without a digest of what is asked the sweep looks again, and finds the end of the hold.
        return Ok(Prepared { path, missing, entity, ..prepared });
    }
    let place = plan::rollout::give_away(&unit, &ledger);
    let own = |entities: &[Entity], installation: &InstallationId| {
        claim::own(entities, &settings.name, key, installation)
    };
    // As of what an operator holds: the sweep looks again, and finds the end of the freeze.
    let mut desire = desire.filter(|_| passes != Err(Closed::PutOff));
    let outside = outside(state.as_ref());
    let prepared = match (passes, read.is_none()) {
        (Ok(pass), _) if pass.why() != Leave::Outside => {
            leaving_runner(clients, fleet, key, installation, read.is_some(), pass, now)
                .await?
                .also(place)
        }
        (Err(closed), true) => {
            said::missing(clients, settings, key, installation, closed, now).await?
        }
        (may_go, _) => match stance(state, hold.or_else(|| put_off(may_go))) {
            Stance::Serve(spec) => {
                let observed =
                    observe::runner(clients, settings, &spec, installation.clone(), ledger).await?;
                let plan = plan::runner::plan(&spec, settings, &observed, ceilings(fleet), now);
                let before = observed.status.clone();
                let revokes = |node: &Node| matches!(node.step, Step::NoteRevoked { .. });
                Prepared {
                    deed: match plan.steps.iter().any(revokes) {
                        true => Deed::Revoke,
                        false => deed(before.as_ref(), desire.as_ref()),
                    },
                    sight: Some(looks::of_runner(&observed, settings, key)),
                    entity: own(&observed.entities, &installation)
                        .or_else(|| plan::runner::taken(&spec, &observed)),
                    api_server: observed.domain.api_server.clone(),
                    spec: Some(*spec),
                    seen: Seen::Runner(Box::new(observed)),
                    ..Prepared::new(installation, before, plan)
                }
            }
            Stance::Hold(hold) => {
                let observed = observe::held(clients, settings, key, installation.clone()).await?;
                let mut plan = plan::hold::plan(key, settings, &observed, &hold);
                if let (Hold::OutsideGuardrails(_), Some(identity)) = (&hold, &outside) {
                    let held = beyond::of_runner(clients, fleet, &installation, key, identity);
                    match held.await {
                        Ok(held) => plan = plan::beyond::add(plan, &held, may_go),
                        // It rests whatever Azure says. Without a digest the sweep has it look there again.
                        Err(failure) => {
                            desire = None;
                            warn!("what `{unit}` may do is not known now: {}", failure.text);
                        }
                    }
                }
                let before = observed.status.clone();
                let named = |id| observed.entries.contains(&id);
                let entity = own(&observed.entities, &installation)
                    .or_else(|| claim::taken(&observed.entities, named, key.target));
                let seen = Seen::Held(Box::new(observed));
                let deed = Deed::Revoke;
                Prepared { deed, seen, entity, ..Prepared::new(installation, before, plan) }
                    .also(place)
            }
            Stance::Say(reason, message) => {
                let before = observe::status(clients, settings, &unit).await?;
                let message = format!("{message}{}", waits_for(reason, may_go));
                let finding = Finding::fails(ConditionKind::Ready, reason, message);
                let entity = said::named(clients, settings, key, before.as_ref()).await?;
                Prepared { entity, ..Prepared::only_say(installation, before, finding) }
            }
        },
    };
    Ok(Prepared { path, rule, desire, ..prepared })
}

/// What brings a unit back to what it was last settled for is no change.
fn deed(before: Option<&Status>, desire: Option<&String>) -> Deed {
    let known = before.and_then(|before| before.last_settled_for.as_ref());
    if desire.is_some() && known == desire { Deed::Restore } else { Deed::Change }
}

async fn leaving_runner(
    clients: &Clients,
    fleet: &Fleet,
    key: &RunnerKey,
    installation: InstallationId,
    target_is_there: bool,
    pass: Pass,
    now: Timestamp,
) -> Result<Prepared, Failure> {
    let (unit, label) = (Unit::Runner(key.clone()), key.to_string());
    let search = leaving::Search {
        unit: &unit,
        key: &label,
        runner: Some((key, target_is_there)),
        scopes: &scopes(fleet),
        lenders: &lenders(fleet, &key.profile),
    };
    let settings = fleet.settings();
    let remains = leaving::remains(clients, settings, installation.clone(), search).await?;
    let departing = Departing {
        key: &label,
        runner: Some(key),
        fleet: settings,
        grace: fleet.guardrails().grace,
    };
    let plan = plan::removal::plan(&departing, &remains, pass, now);
    // What was seen of a lost target stays known: the next permit asks for it, and a hook may tell of its end.
    let told = remains.status.as_ref().and_then(|status| status.missing.clone());
    let missing =
        told.or(Some(Missing { since: now, destroyed: None })).filter(|_| !target_is_there);
    let entity = plan::removal::own(&departing, &remains);
    Ok(Prepared { missing, entity, ..Prepared::new(installation, remains.status, plan) })
}

/// Everywhere that forerunner may give something: what it sees there reaches up to the root and down to the leaves.
fn scopes(fleet: &Fleet) -> BTreeSet<ResourceId> {
    fleet.guardrails().scopes.iter().cloned().collect()
}

/// The existing identities of a profile; of one that the file no longer knows it could be any.
fn lenders(fleet: &Fleet, profile: &ProfileName) -> Vec<ResourceId> {
    let is_known = fleet.profile(profile).is_some();
    let all = fleet.existing_identities().into_values();
    all.filter(|(_, by)| !is_known || by.contains(profile)).map(|(id, _)| id).collect()
}

fn ceilings(fleet: &Fleet) -> Ceilings {
    let guardrails = fleet.guardrails();
    Ceilings { runners: guardrails.runners, creations_per_hour: guardrails.creations_per_hour }
}
