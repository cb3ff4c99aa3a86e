//! A target as it is explained.

use crate::{
    cli::colour::Paint,
    domain::{
        fleet::{Fleet, RuleReason, TargetFacts, WantedState},
        standing::from_now,
        status::Status,
    },
    reconcile::Explained,
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// What the file makes of a profile here, and what would change that.
fn decision(state: &WantedState) -> (&'static str, String) {
    match state {
        WantedState::Runner(_) => ("runner", "gets a runner".to_owned()),
        WantedState::NeedsValue { placeholder } => (
            "needs-value",
            format!(
                "waits: it needs `{placeholder}`; give it under `groups:` or `projects:` of fleet.yaml"
            ),
        ),
        WantedState::Withdrawn { reason } => (
            "withdrawn",
            format!("paused: withdrawn ({reason}); take it out of `withdrawn` to give it back"),
        ),
        WantedState::OutsideGuardrails { problems, .. } => (
            "outside-guardrails",
            format!("paused: {}; lower the profile, or raise `guardrails`", problems.join("; ")),
        ),
        WantedState::ExceptionEnded { exception, until } => (
            "exception-ended",
            format!(
                "paused: its exception {exception} ended on {until}; renew it, or lower the profile"
            ),
        ),
        WantedState::AnchorMoved { anchor, expected, found } => (
            "anchor-moved",
            format!(
                "kept as it is: anchor group {anchor} is at `{found}`, and the file says `{expected}`; put the new path into `anchors`"
            ),
        ),
    }
}

pub(super) fn text(explained: &Explained, fleet: &Fleet, now: Timestamp, paint: Paint) -> String {
    let mut text = String::new();
    if let Some(facts) = &explained.facts {
        text.push_str(&format!("{}\n", paint.bold(&heading(facts))));
        if let Some(hold) = &explained.hold {
            text.push_str(&format!("  {}: {}\n", paint.yellow("held"), hold.message()));
        }
        text.push_str("  rules\n");
        for (number, (rule, reason)) in (1..).zip(fleet.reasons(facts)) {
            let sign = if reason.matches() { paint.green("yes") } else { paint.dim("no ") };
            let profiles: Vec<String> = rule.profiles.iter().map(ToString::to_string).collect();
            text.push_str(&format!(
                "    {sign} rule {number} → {}: {reason}\n",
                profiles.join(", ")
            ));
        }
        text.push_str("  profiles\n");
        if explained.wanted.is_empty() {
            text.push_str("    none\n");
        }
        for wanted in &explained.wanted {
            text.push_str(&format!("    {}: {}\n", wanted.profile, decision(&wanted.state).1));
        }
    } else {
        text.push_str("GitLab shows no such target to our token: gone, or hidden from us\n");
    }
    for status in &explained.statuses {
        text.push_str(&unit_text(status, now, paint));
    }
    text
}

fn heading(facts: &TargetFacts) -> String {
    match facts.path.as_str() {
        "" => "the instance (i)".to_owned(),
        path => format!("{path} ({})", facts.id),
    }
}

fn unit_text(status: &Status, now: Timestamp, paint: Paint) -> String {
    let mut text = format!("{}\n", paint.bold(&status.unit.to_string()));
    for condition in &status.conditions {
        let word = if condition.status { "yes" } else { "no " };
        text.push_str(&format!(
            "  {word} {:?}: {} ({}, {})\n",
            condition.kind,
            condition.message,
            condition.reason,
            from_now(condition.since, now)
        ));
    }
    if let Some(parked) = &status.parked {
        text.push_str(&format!(
            "  {}: {}\n    next try {}; sooner with `forerunner parked release {}`\n",
            paint.red("parked"),
            parked.reason,
            from_now(parked.next, now),
            status.unit
        ));
    }
    for round in &status.rounds {
        let end = round.end();
        let (at, cause) = (from_now(round.at, now), &round.cause);
        text.push_str(&format!(
            "  round {at}, caused by {cause}: {} step(s), {end}\n",
            round.did.len()
        ));
    }
    text
}

pub(super) fn json(explained: &Explained, fleet: &Fleet) -> Value {
    let rules: Vec<Value> = explained
        .facts
        .iter()
        .flat_map(|facts| fleet.reasons(facts))
        .map(|(rule, reason): (_, RuleReason)| {
            let profiles: Vec<String> = rule.profiles.iter().map(ToString::to_string).collect();
            json!({ "matches": reason.matches(), "reason": reason.to_string(), "profiles": profiles })
        })
        .collect();
    let profiles: Vec<Value> = explained
        .wanted
        .iter()
        .map(|wanted| {
            let (is, message) = decision(&wanted.state);
            json!({ "profile": wanted.profile.to_string(), "is": is, "message": message })
        })
        .collect();
    json!({
        "target": explained.facts.as_ref().map(|facts| facts.id),
        "path": explained.facts.as_ref().map(|facts| &facts.path),
        "held": explained.hold.as_ref().map(|hold| hold.message()),
        "rules": rules,
        "profiles": profiles,
        "units": explained.statuses,
    })
}
