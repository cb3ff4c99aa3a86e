//! What a unit's round is to do: reads the world and plans. Writes nothing, so that it also serves who only wants to see.

use super::{
    Clients, Failure,
    act::Scene,
    desire::Desires,
    observe,
    target::{self, TargetRead},
};
use crate::{
    clock::Clock,
    domain::{
        fleet::{Fleet, WantedState},
        ids::{IdentityName, InstallationId, ProfileName, RunnerKey, Unit},
        kubernetes::Object,
        observed::{DomainObserved, Observed},
        plan::{
            self, Plan,
            hold::{HeldObserved, Hold},
            identity::IdentityRound,
            runner::Ceilings,
        },
        spec::RunnerSpec,
        status::{ConditionKind, Finding, Status},
    },
};
use futures::try_join;
use std::net::IpAddr;

/// A plan with all that its steps may still have to render.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub(super) installation: InstallationId,
    /// The target's path when read.
    pub(super) path: Option<String>,
    pub(super) plan: Plan,
    /// What was told of the unit before.
    pub(super) before: Option<Status>,
    /// Digest of what was asked, where the unit is one that the sweep compares.
    pub(super) desire: Option<String>,
    /// What the plan was made from, for who shows it.
    pub(super) seen: Seen,
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
            plan,
            before,
            desire: None,
            seen: Seen::Nothing,
            api_server: vec![],
            spec: None,
        }
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
        Unit::Domain(profile) => Some(domain(clients, fleet, profile).await?),
        Unit::Identity(name) => Some(identity(clients, fleet, name).await?),
    })
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
    let (installation, read) = try_join!(observe::installation(clients, settings), read)?;
    let desires = Desires::of(fleet);
    let Some(read) = read else {
        let finding = Finding::fails(
            ConditionKind::Ready,
            "LostSightOf",
            format!(
                "GitLab shows no {} to our token: gone, or hidden from us; nothing is changed",
                key.target
            ),
        );
        let before = observe::status(clients, settings, &Unit::Runner(key.clone())).await?;
        let prepared = Prepared::only_say(installation, before, finding);
        return Ok(Prepared { desire: Some(desires.digest(None, None)), ..prepared });
    };
    let path = Some(read.facts.path.clone()).filter(|path| !path.is_empty());
    let now = clock.now();
    let wanted = fleet.wanted_at(&read.facts, now);
    let state = wanted.into_iter().find(|wanted| wanted.profile == key.profile);
    let state = state.map(|wanted| wanted.state);
    let desire = Some(desires.digest(state.as_ref(), read.hold.as_ref()));
    let prepared = match stance(state, read.hold) {
        Stance::Serve(spec) => {
            let observed = observe::runner(clients, settings, &spec, installation.clone()).await?;
            let plan = plan::runner::plan(&spec, settings, &observed, ceilings(fleet), now);
            let before = observed.status.clone();
            Prepared {
                api_server: observed.domain.api_server.clone(),
                spec: Some(*spec),
                seen: Seen::Runner(Box::new(observed)),
                ..Prepared::new(installation, before, plan)
            }
        }
        Stance::Hold(hold) => {
            let observed = observe::held(clients, settings, key, installation.clone()).await?;
            let plan = plan::hold::plan(key, settings, &observed, &hold);
            let before = observed.status.clone();
            let seen = Seen::Held(Box::new(observed));
            Prepared { seen, ..Prepared::new(installation, before, plan) }
        }
        Stance::Say(reason, message) => {
            let before = observe::status(clients, settings, &Unit::Runner(key.clone())).await?;
            let finding = Finding::fails(ConditionKind::Ready, reason, message);
            Prepared::only_say(installation, before, finding)
        }
    };
    Ok(Prepared { path, desire, ..prepared })
}

/// What is to be done with a runner whose target is there.
enum Stance {
    Serve(Box<RunnerSpec>),
    Hold(Hold),
    /// Neither given nor taken away: a reason and a message say why.
    Say(&'static str, String),
}

/// A group scheduled for deletion gets another path: what the rules say of that one means nothing.
fn stance(wanted: Option<WantedState>, hold: Option<Hold>) -> Stance {
    if let Some(hold) = hold {
        return Stance::Hold(hold);
    }
    match wanted {
        Some(WantedState::Runner(spec)) => Stance::Serve(spec),
        Some(WantedState::NeedsValue { placeholder }) => Stance::Say(
            "NeedsValue",
            format!("needs {placeholder}: give it under `groups:` or `projects:` of fleet.yaml"),
        ),
        Some(WantedState::AnchorMoved { anchor, expected, found }) => Stance::Say(
            "AnchorMoved",
            format!(
                "anchor group {anchor} is at `{found}`, and fleet.yaml says `{expected}`: nothing new is given, nothing taken"
            ),
        ),
        Some(WantedState::Withdrawn { reason }) => Stance::Hold(Hold::Withdrawn(reason)),
        Some(WantedState::OutsideGuardrails { problems }) => {
            Stance::Hold(Hold::OutsideGuardrails(problems.join("; ")))
        }
        Some(WantedState::ExceptionEnded { exception, until }) => {
            Stance::Hold(Hold::ExceptionEnded(format!("{exception} (until {until})")))
        }
        None => Stance::Say(
            "NotWanted",
            "no rule gives this target the profile; what is there is kept until removal is asked for"
                .to_owned(),
        ),
    }
}

async fn domain(
    clients: &Clients,
    fleet: &Fleet,
    profile: &ProfileName,
) -> Result<Prepared, Failure> {
    let settings = fleet.settings();
    let installation = observe::installation(clients, settings).await?;
    let unit = Unit::Domain(profile.clone());
    let Some(spec) = fleet.shared_domain(profile).map(|domain| domain.runner) else {
        let finding = Finding::fails(
            ConditionKind::Ready,
            "NotWanted",
            format!(
                "no profile `{profile}` shares a domain; what is there is kept until removal is asked for"
            ),
        );
        let before = observe::status(clients, settings, &unit).await?;
        return Ok(Prepared::only_say(installation, before, finding));
    };
    let (observed, before) = try_join!(
        observe::domain(clients, settings, &spec, installation.clone()),
        observe::status(clients, settings, &unit),
    )?;
    let plan = plan::domain::plan(&spec, settings, &observed);
    Ok(Prepared {
        api_server: observed.api_server.clone(),
        spec: Some(spec),
        seen: Seen::Domain(Box::new(observed)),
        ..Prepared::new(installation, before, plan)
    })
}

async fn identity(
    clients: &Clients,
    fleet: &Fleet,
    name: &IdentityName,
) -> Result<Prepared, Failure> {
    let settings = fleet.settings();
    let installation = observe::installation(clients, settings).await?;
    let unit = Unit::Identity(name.clone());
    let Some((id, _)) = fleet.existing_identities().remove(name) else {
        let finding = Finding::fails(
            ConditionKind::Ready,
            "NotWanted",
            format!("no profile lists an existing identity `{name}`"),
        );
        let before = observe::status(clients, settings, &unit).await?;
        return Ok(Prepared::only_say(installation, before, finding));
    };
    let entitled = |account: &Object| plan::identity::is_entitled(fleet, &id, account);
    let (observed, before) = try_join!(
        observe::existing_identity(clients, settings, id.clone(), entitled),
        observe::status(clients, settings, &unit),
    )?;
    let plan = plan::identity::plan(&settings.name, &observed);
    let seen = Seen::Identity(Box::new(observed));
    Ok(Prepared { seen, ..Prepared::new(installation, before, plan) })
}

fn ceilings(fleet: &Fleet) -> Ceilings {
    let guardrails = fleet.guardrails();
    Ceilings { runners: guardrails.runners, creations_per_hour: guardrails.creations_per_hour }
}
