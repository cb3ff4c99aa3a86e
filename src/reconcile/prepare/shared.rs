//! Rounds of what runners share: a profile's domain, and an existing identity.

use super::{
    Prepared, Seen, Stance, beyond, deed, lenders, outside, put_off, said, scopes, stance,
    waits_for,
};
use crate::{
    domain::{
        fleet::Fleet,
        gate::{self, Deed, Leaving, Pass},
        ids::{IdentityName, InstallationId, ProfileName, Unit},
        kubernetes::Object,
        ledger::Leave,
        names,
        plan::{self, identity::Resting, removal::Departing},
        spec::{FleetSettings, RunnerSpec},
        status::{ConditionKind, Finding},
    },
    reconcile::{Clients, Failure, desire::Desires, leaving, looks, observe},
};
use futures::try_join;
use jiff::Timestamp;

pub(super) async fn domain(
    clients: &Clients,
    fleet: &Fleet,
    profile: &ProfileName,
    now: Timestamp,
) -> Result<Prepared, Failure> {
    let settings = fleet.settings();
    let installation = observe::installation(clients, settings).await?;
    let unit = Unit::Domain(profile.clone());
    let ledger = observe::ledger(clients, settings).await?;
    let say = async |finding| {
        let before = observe::status(clients, settings, &unit).await?;
        Ok(Prepared::only_say(installation.clone(), before, finding))
    };
    if let Some(finding) = said::held(&ledger.book, &unit, now) {
        return say(finding).await;
    }
    let state = fleet.shared_state(profile, now);
    let outside = outside(state.as_ref());
    let why = match (&state, &outside) {
        (None, _) => Some(Leave::Unmatched),
        (Some(_), Some(_)) => Some(Leave::Outside),
        (Some(_), None) => None,
    };
    let protected = fleet.profile(profile).is_some_and(|profile| profile.protect);
    let open = |why| {
        let leaving = Leaving { unit: &unit, why, protected };
        gate::open(&ledger.book, fleet.guardrails(), leaving, now)
    };
    let may_go = open(why);
    if let Ok(pass) = may_go
        && pass.why() != Leave::Outside
    {
        return leaving_domain(clients, fleet, profile, installation, pass, now).await;
    }
    let key = names::shared_domain_key(profile);
    let desire = Some(Desires::of(fleet).of_domain(state.as_ref()));
    let Some(state) = state else {
        let waits = waits_for("NotWanted", may_go);
        let message = format!("no profile `{profile}` shares a domain{waits}");
        let said = say(Finding::fails(ConditionKind::Ready, "NotWanted", message)).await?;
        // Runners that rest outside the guardrails do not move out, and their jobs were somebody here.
        let beyond = beyond::left(clients, fleet, &installation, &key).await?;
        let may_go = may_go.or_else(|_| open(Some(Leave::Outside)));
        let plan = plan::beyond::add(said.plan, &beyond, may_go);
        let desire = desire.filter(|_| put_off(may_go).is_none());
        return Ok(Prepared { plan, desire, deed: Deed::Revoke, ..said });
    };
    let (reason, message, desire) = match (put_off(may_go), stance(Some(state), None)) {
        (None, Stance::Serve(spec)) => {
            return served(clients, settings, &spec, installation, &unit, desire).await;
        }
        // As of what an operator holds: the sweep looks again, and finds the end of the freeze.
        (Some(hold), _) => (hold.reason(), hold.message(), None),
        (None, Stance::Hold(hold)) => (hold.reason(), hold.message(), desire),
        (None, Stance::Say(reason, message)) => (reason, message, desire),
    };
    let mut said = say(Finding::fails(ConditionKind::Ready, reason, message)).await?;
    if let Some(identity) = outside {
        let held = beyond::read(clients, fleet, &installation, &key, &identity).await?;
        said.plan = plan::beyond::add(said.plan, &held, may_go);
    }
    Ok(Prepared { desire, deed: Deed::Revoke, ..said })
}

async fn served(
    clients: &Clients,
    settings: &FleetSettings,
    spec: &RunnerSpec,
    installation: InstallationId,
    unit: &Unit,
    desire: Option<String>,
) -> Result<Prepared, Failure> {
    let (observed, left, before) = try_join!(
        observe::domain(clients, settings, spec, installation.clone()),
        observe::left_by_domain(clients, settings, spec),
        observe::status(clients, settings, unit),
    )?;
    let plan = plan::domain::plan(spec, settings, &observed, left.as_ref());
    let key = names::shared_domain_key(&spec.key.profile);
    Ok(Prepared {
        deed: deed(before.as_ref(), desire.as_ref()),
        desire,
        sight: Some(looks::of_domain(&observed, settings, &key)),
        api_server: observed.api_server.clone(),
        spec: Some(spec.clone()),
        seen: Seen::Domain(Box::new(observed)),
        ..Prepared::new(installation, before, plan)
    })
}

async fn leaving_domain(
    clients: &Clients,
    fleet: &Fleet,
    profile: &ProfileName,
    installation: InstallationId,
    pass: Pass,
    now: Timestamp,
) -> Result<Prepared, Failure> {
    let (settings, unit) = (fleet.settings(), Unit::Domain(profile.clone()));
    let (key, scopes) = (names::shared_domain_key(profile), scopes(fleet));
    let lenders = lenders(fleet, profile);
    let search = leaving::Search {
        unit: &unit,
        key: &key,
        runner: None,
        scopes: &scopes,
        lenders: &lenders,
    };
    let remains = leaving::remains(clients, settings, installation.clone(), search).await?;
    let grace = fleet.guardrails().grace;
    let departing = Departing { key: &key, runner: None, fleet: settings, grace };
    let plan = plan::removal::plan(&departing, &remains, pass, now);
    Ok(Prepared::new(installation, remains.status, plan))
}

pub(super) async fn identity(
    clients: &Clients,
    fleet: &Fleet,
    name: &IdentityName,
    now: Timestamp,
) -> Result<Prepared, Failure> {
    let settings = fleet.settings();
    let installation = observe::installation(clients, settings).await?;
    let unit = Unit::Identity(name.clone());
    let listed = fleet.existing_identities().remove(name).map(|(id, _)| id);
    let id = match listed {
        Some(id) => Some(id),
        None => observe::returned_identity(clients, settings, name).await?,
    };
    let Some(id) = id else {
        let finding = Finding::fails(
            ConditionKind::Ready,
            "NotWanted",
            format!("no profile lists an existing identity `{name}`"),
        );
        let before = observe::status(clients, settings, &unit).await?;
        return Ok(Prepared::only_say(installation, before, finding));
    };
    let place = |account: &Object| plan::identity::place(fleet, &id, account);
    let (observed, before, ledger) = try_join!(
        observe::existing_identity(clients, settings, id.clone(), place),
        observe::status(clients, settings, &unit),
        observe::ledger(clients, settings),
    )?;
    // It writes what is many units': each is held by its own hold, and a freeze leaves what may be put back to be planned.
    let held = ledger.book.holds.iter().filter(|one| now < one.until);
    let resting = Resting {
        held: held.map(|one| one.unit.clone()).collect(),
        frozen: gate::frozen_until(fleet.guardrails(), Deed::Change, now).is_some(),
    };
    let plan = plan::identity::plan(&settings.name, &observed, &resting);
    // Without a sight the sweep looks again, and finds the end of what it waits for.
    let is_whole = plan.finding(ConditionKind::Ready).is_some_and(|ready| ready.status);
    let sight = is_whole.then(|| looks::of_identity(&observed));
    let seen = Seen::Identity(Box::new(observed));
    Ok(Prepared { sight, seen, ..Prepared::new(installation, before, plan) })
}
