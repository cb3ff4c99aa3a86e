//! Parked units: one looked at, and some let go on.

use super::{ParkedArguments, parked};
use crate::{
    cli::{
        answer::{Answer, pretty},
        colour::Paint,
        hands::{Goal, Hands, Whose},
        load::AtDesk,
    },
    domain::{ids::Unit, standing::from_now, status::Status},
    reconcile::Failure,
};
use serde_json::json;
use std::collections::BTreeSet;

pub(super) async fn show(
    desk: &AtDesk,
    name: &str,
    as_json: bool,
    paint: Paint,
) -> Result<Answer, Failure> {
    let Ok(unit) = name.parse::<Unit>() else { return Ok(not_a_unit(name)) };
    let statuses = parked(desk).await?;
    let Some(status) = statuses.iter().find(|status| status.unit == unit) else {
        return Ok(Answer::failed(1, format!("`{unit}` is not parked")));
    };
    let Some(parked) = &status.parked else { return Ok(Answer::failed(1, "it is not parked")) };
    let now = desk.view.now();
    let releases = releases(status, &desk.view.fleet().settings().digest);
    if as_json {
        let mut document = json!(status);
        document["releasedBy"] = json!(releases);
        return Ok(Answer::out(pretty(&document)));
    }
    let mut out = format!("{}  {}\n", paint.bold(name), status.path.as_deref().unwrap_or_default());
    out.push_str(&format!("  reason    {}\n", parked.reason));
    out.push_str(&format!("  since     {} ({})\n", parked.since, from_now(parked.since, now)));
    out.push_str(&format!("  tried     {} time(s) again\n", parked.tries));
    out.push_str(&format!("  next try  {} ({})\n", parked.next, from_now(parked.next, now)));
    if let Some(order) = &status.order {
        let (what, cause) = (order.intent.as_str(), &order.cause);
        out.push_str(&format!("  ordered   {what}, still to be carried out: `{cause}`\n"));
    }
    out.push_str("  goes on with\n");
    releases.iter().for_each(|by| out.push_str(&format!("    {by}\n")));
    if !status.rounds.is_empty() {
        out.push_str("  last rounds\n");
    }
    for round in &status.rounds {
        let end = round.end();
        out.push_str(&format!(
            "    {} by {}: {} step(s), {end}\n",
            round.at,
            round.cause,
            round.did.len()
        ));
    }
    Ok(Answer::out(out))
}

/// What lets a parked unit go on.
fn releases(status: &Status, digest: &str) -> Vec<String> {
    let Some(parked) = &status.parked else { return vec![] };
    let mut by = Vec::new();
    if parked.fleet != digest {
        by.push("the next sweep: fleet.yaml is another than it was parked under".to_owned());
    }
    by.push(format!("the first sweep after {}", parked.next));
    by.push("a changed fleet.yaml".to_owned());
    if let Unit::Runner(key) = &status.unit {
        by.push(format!("a hook for {}", key.target));
    }
    by.push(format!("forerunner parked release {}", status.unit));
    by
}

/// Which of the parked units are to go on, and by whose hands.
pub(super) struct Asked<'a> {
    pub(super) units: &'a [String],
    pub(super) all: bool,
    pub(super) whose: &'a Whose,
}

/// Errors: what to print instead.
pub(super) async fn release(
    arguments: &ParkedArguments,
    asked: &Asked<'_>,
    desk: &AtDesk,
) -> Result<Answer, Answer> {
    let failed = |failure: Failure| Answer::failed(1, failure.text);
    let mut named = BTreeSet::new();
    for name in asked.units {
        named.insert(name.parse::<Unit>().map_err(|_| not_a_unit(name))?);
    }
    let hands = Hands::open(asked.whose, &arguments.place, desk)?;
    let parked = parked(desk).await.map_err(failed)?;
    let is_parked = |unit: &Unit| parked.iter().any(|status| status.unit == *unit);
    let (woken, others): (BTreeSet<Unit>, BTreeSet<Unit>) = match asked.all {
        true => (parked.iter().map(|status| status.unit.clone()).collect(), BTreeSet::new()),
        false => named.into_iter().partition(is_parked),
    };
    let since = desk.view.now();
    hands.release(desk, &woken).await.map_err(failed)?;
    let mut failures = vec![];
    let mut talk: String =
        others.iter().map(|unit| format!("error: `{unit}` is not parked\n")).collect();
    if asked.whose.local {
        let until = asked.whose.end(since);
        let end = hands.see_through(desk, &woken, Goal::AsTheFileSays, since, until);
        failures = end.await.map_err(failed)?.failures;
        talk.extend(failures.iter().map(|failure| format!("error: {failure}\n")));
    } else if !woken.is_empty() {
        talk.push_str(
            "hint: a round looks at each within a minute; what parked it and is still so parks it again\n",
        );
    }
    let out = match arguments.json {
        true => pretty(&json!({ "woken": woken, "notParked": others, "failures": failures })),
        false if woken.is_empty() && others.is_empty() => "nothing is parked\n".to_owned(),
        false => woken.iter().map(|unit| format!("woke {unit}\n")).collect(),
    };
    Ok(Answer { code: u8::from(!others.is_empty() || !failures.is_empty()), out, talk })
}

fn not_a_unit(name: &str) -> Answer {
    Answer::failed(
        2,
        format!("`{name}` is no unit, such as runner/g42-tf; `forerunner parked list` names them"),
    )
}
