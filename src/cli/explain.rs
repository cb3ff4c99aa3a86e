//! `forerunner explain`: why a target has the runners it has, and why a job waits.

use super::{
    answer::{Answer, Colour, pretty},
    colour::Paint,
    desk::{self, Place},
    load::AtDesk,
};
use crate::{
    domain::{
        fleet::{Fleet, RuleReason, TargetFacts, WantedState},
        standing::from_now,
        status::Status,
    },
    reconcile::{Candidate, Explained, Had, JobExplained},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Say why a target has the runners it has, or why a job waits and who had it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  forerunner explain platform/payments
  forerunner explain runner/g42-tf
  forerunner explain 9dce7741-427b-4833-8c6d-d75a6f95fe35    a hook's delivery: what it caused
  forerunner explain https://gitlab.example.com/platform/payments/web/-/jobs/7")]
pub struct Explain {
    /// A path (platform/payments), a target (g42, p7, instance), a unit (runner/g42-tf), a
    /// hook's delivery id or another cause (sweep-1789000000), or the address of a job's page
    #[arg(value_name = "TARGET|DELIVERY|JOB-URL")]
    pub what: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
}

pub async fn answer(arguments: &Explain, desk: &AtDesk, colour: Colour) -> Answer {
    let paint = Paint(colour.out);
    let what = &arguments.what;
    if what.starts_with("https://") || what.starts_with("http://") {
        return match desk.view.explain_job(what).await {
            Ok(explained) if arguments.json => Answer::out(pretty(&job_json(&explained))),
            Ok(explained) => Answer::out(job_text(&explained, paint)),
            Err(failure) => Answer::failed(1, failure.text),
        };
    }
    if is_cause(what) {
        return match desk.view.statuses().await {
            Ok(statuses) => cause(what, &statuses, arguments.json, desk.view.now(), paint),
            Err(failure) => Answer::failed(1, failure.text),
        };
    }
    let selector = match desk::selectors(std::slice::from_ref(what)) {
        Ok(mut selectors) => selectors.remove(0),
        Err(answer) => return answer,
    };
    match desk.view.explain(&selector).await {
        Ok(explained) if arguments.json => {
            Answer::out(pretty(&target_json(&explained, desk.view.fleet())))
        }
        Ok(explained) => {
            Answer::out(target_text(&explained, desk.view.fleet(), desk.view.now(), paint))
        }
        Err(failure) => Answer::failed(1, failure.text),
    }
}

/// A hook's delivery id, or what a sweep or a command calls itself.
fn is_cause(what: &str) -> bool {
    let number = |prefix: &str| {
        let rest = what.strip_prefix(prefix);
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    uuid::Uuid::try_parse(what).is_ok() || number("sweep-") || number("release-")
}

/// Every round that one cause began, of the last that units keep.
fn cause(what: &str, statuses: &[Status], as_json: bool, now: Timestamp, paint: Paint) -> Answer {
    let mut rounds: Vec<_> = statuses
        .iter()
        .flat_map(|status| status.rounds.iter().map(move |round| (&status.unit, round)))
        .filter(|(_, round)| round.cause == what)
        .collect();
    rounds.sort_by(|left, right| (left.1.at, left.0).cmp(&(right.1.at, right.0)));
    if rounds.is_empty() {
        let reason = "is the cause of no round that a unit still keeps: each keeps its last five that did something or failed";
        return Answer::failed(1, format!("`{what}` {reason}"));
    }
    if as_json {
        let rounds: Vec<Value> =
            rounds.iter().map(|(unit, round)| json!({ "unit": unit, "round": round })).collect();
        return Answer::out(pretty(&json!({ "cause": what, "rounds": rounds })));
    }
    let mut text = String::new();
    for (unit, round) in rounds {
        let end = round.failure.as_deref().unwrap_or("done");
        let unit = paint.bold(&unit.to_string());
        text.push_str(&format!("{unit}, {}: {end}\n", from_now(round.at, now)));
        round.did.iter().for_each(|step| text.push_str(&format!("  {step}\n")));
    }
    Answer::out(text)
}

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
        WantedState::OutsideGuardrails { problems } => (
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

fn target_text(explained: &Explained, fleet: &Fleet, now: Timestamp, paint: Paint) -> String {
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
        let word = match (condition.status, condition.kind) {
            (true, _) => "yes",
            (false, _) => "no ",
        };
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
        let end = round.failure.as_deref().unwrap_or("done");
        let (at, cause) = (from_now(round.at, now), &round.cause);
        text.push_str(&format!(
            "  round {at}, caused by {cause}: {} step(s), {end}\n",
            round.did.len()
        ));
    }
    text
}

fn target_json(explained: &Explained, fleet: &Fleet) -> Value {
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

fn job_text(explained: &JobExplained, paint: Paint) -> String {
    let JobExplained { job, path, candidates, unread, had } = explained;
    let tags = if job.tags.is_empty() {
        "no tags".to_owned()
    } else {
        format!("tags {}", job.tags.join(", "))
    };
    let protected = match job.protected {
        Some(true) => "protected",
        Some(false) => "not protected",
        None => "whether it is protected could not be read",
    };
    let title = format!("job {} `{}` of {path}: {}", job.id, job.name, job.status);
    let mut text = format!("{}\n", paint.bold(&title));
    text.push_str(&format!("  {tags}; ref `{}` ({protected})\n", job.reference));
    if let Some(failure) = &job.failure {
        text.push_str(&format!("  failed: {failure}\n"));
    }
    if let Some(had) = had {
        text.push_str(&had_text(had, paint));
    }
    let able = candidates.iter().filter(|candidate| candidate.refusals.is_empty()).count();
    text.push_str(&format!("  {able} of {} runner(s) may take it\n", candidates.len()));
    for candidate in candidates {
        let sign =
            if candidate.refusals.is_empty() { paint.green("yes") } else { paint.dim("no ") };
        text.push_str(&format!("    {sign} {}\n", candidate_name(candidate)));
        candidate.refusals.iter().for_each(|reason| text.push_str(&format!("        {reason}\n")));
    }
    unread.iter().for_each(|unread| text.push_str(&format!("  not looked at: {unread}\n")));
    text
}

fn candidate_name(candidate: &Candidate) -> String {
    match &candidate.key {
        Some(key) => format!("runner/{key} (GitLab's runner {})", candidate.entity.id),
        None => format!(
            "GitLab's runner {}, not ours: {}",
            candidate.entity.id, candidate.entity.description
        ),
    }
}

fn had_text(had: &Had, paint: Paint) -> String {
    let runner = had.runner.map_or(String::new(), |runner| runner.to_string());
    let Some(key) = &had.key else {
        return format!("  it ran on GitLab's runner {runner}, which is none of ours\n");
    };
    let mut text = format!("  it ran on runner/{key} (GitLab's runner {runner})\n");
    match (&had.system_id, had.our_manager) {
        (Some(_), true) => text.push_str("    taken by our manager\n"),
        (Some(id), false) => {
            let words = paint.red("taken by a process that is not our manager:");
            text.push_str(&format!(
                "    {words} system id {id}; its token may be in foreign hands\n"
            ));
        }
        (None, _) => text.push_str("    by which process, GitLab does not say\n"),
    }
    if let (Some(namespace), Some(account)) = (&had.namespace, &had.account) {
        text.push_str(&format!("    namespace {namespace}, service account {account}\n"));
    }
    let identity = had.identity.as_deref().unwrap_or("none");
    let client = had.client_id.as_ref().map_or(String::new(), |id| format!(" (client id {id})"));
    text.push_str(&format!("    identity {identity}{client}\n"));
    text
}

fn job_json(explained: &JobExplained) -> Value {
    let JobExplained { job, path, candidates, unread, had } = explained;
    let candidates: Vec<Value> = candidates
        .iter()
        .map(|candidate| {
            json!({
                "runner": candidate.entity.id,
                "unit": candidate.key.as_ref().map(|key| format!("runner/{key}")),
                "mayTake": candidate.refusals.is_empty(),
                "reasons": candidate.refusals,
            })
        })
        .collect();
    let had = had.as_ref().map(|had| {
        json!({
            "runner": had.runner,
            "unit": had.key.as_ref().map(|key| format!("runner/{key}")),
            "ourManager": had.our_manager,
            "systemId": had.system_id,
            "namespace": had.namespace,
            "account": had.account,
            "identity": had.identity,
            "clientId": had.client_id,
        })
    });
    json!({
        "job": job.id,
        "name": job.name,
        "project": path,
        "status": job.status,
        "tags": job.tags,
        "ref": job.reference,
        "protected": job.protected,
        "runners": candidates,
        "had": had,
        "unread": unread,
    })
}
