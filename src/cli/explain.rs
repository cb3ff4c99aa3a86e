//! `forerunner explain`: why a target has the runners it has, and why a job waits.

mod job;
mod target;

use super::{
    answer::{Answer, Colour, pretty},
    colour::Paint,
    desk::{self, Place},
    load::AtDesk,
};
use crate::domain::{command::Order, standing::from_now, status::Status};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Say why a target has the runners it has, or why a job waits and who had it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  forerunner explain platform/payments
  forerunner explain runner/g42-tf
  forerunner explain 9dce7741-427b-4833-8c6d-d75a6f95fe35    a hook's delivery: what it caused
  forerunner explain 'reprovision by jane: SEC-1182'          the same of a command, as status names it
  forerunner explain https://gitlab.example.com/platform/payments/web/-/jobs/7")]
pub struct Explain {
    /// A path (platform/payments), a target (g42, p7, instance), a unit (runner/g42-tf), a
    /// hook's delivery id or another cause (sweep-1789000000, 'pause by jane: why'), or the address of a job's page
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
            Ok(explained) if arguments.json => Answer::out(pretty(&job::json(&explained))),
            Ok(explained) => Answer::out(job::text(&explained, paint)),
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
            Answer::out(pretty(&target::json(&explained, desk.view.fleet())))
        }
        Ok(explained) => {
            Answer::out(target::text(&explained, desk.view.fleet(), desk.view.now(), paint))
        }
        Err(failure) => Answer::failed(1, failure.text),
    }
}

/// A hook's delivery id, what a sweep calls itself, or a command with who asked and why.
fn is_cause(what: &str) -> bool {
    let number = |prefix: &str| {
        let rest = what.strip_prefix(prefix);
        rest.is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    };
    uuid::Uuid::try_parse(what).is_ok()
        || number("sweep-")
        || number("release-")
        || Order::claimed_in(what).is_some()
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
        let end = round.end();
        let unit = paint.bold(&unit.to_string());
        text.push_str(&format!("{unit}, {}: {end}\n", from_now(round.at, now)));
        round.did.iter().for_each(|step| text.push_str(&format!("  {step}\n")));
    }
    Answer::out(text)
}
