//! `forerunner status`: the fleet at a glance, from what its rounds wrote down.

use super::{
    answer::{Answer, Colour, pretty},
    colour::Paint,
    desk::{self, Place},
    load::AtDesk,
};
use crate::{
    domain::{
        fleet_status::FleetStatus,
        records::ParkedPlan,
        standing::{Standing, from_now, telling},
        status::Status,
    },
    reconcile::Told,
};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::fmt::Write;

/// Show the fleet at a glance, what is wrong first.
///
/// Reads what rounds told of each unit, in one list; asks neither GitLab nor Azure. `plan` looks at the world itself.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "Examples:
  forerunner status                     the whole fleet
  forerunner status 'platform/*'        what a pattern of paths matches
  forerunner status --problems --json   what is not ready, for a program")]
pub struct StatusOf {
    /// A path or pattern (platform/payments, 'platform/*'), a target (g42, p7, instance) or a unit (runner/g42-tf)
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Leave out what is ready
    #[arg(long)]
    pub problems: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
}

pub async fn answer(arguments: &StatusOf, desk: &AtDesk, colour: Colour) -> Answer {
    let selectors = match desk::selectors(&arguments.targets) {
        Ok(selectors) => selectors,
        Err(answer) => return answer,
    };
    let Told { units: mut statuses, fleet: whole, removals, .. } = match desk.view.told().await {
        Ok(told) => told,
        Err(failure) => return Answer::failed(1, failure.text),
    };
    // Who asks for some units hears of these.
    let whole = Whole { status: whole, removals };
    let whole = Some(whole).filter(|_| selectors.is_empty()).unwrap_or_default();
    if !selectors.is_empty() {
        statuses.retain(|status| {
            selectors.iter().any(|selector| selector.takes(&status.unit, status.path.as_deref()))
        });
    }
    if statuses.is_empty() && !selectors.is_empty() {
        return Answer::failed(
            1,
            "no unit of the fleet is meant by that: `forerunner status` lists all",
        );
    }
    let mut standing: Vec<(Standing, &Status)> =
        statuses.iter().map(|status| (Standing::of(status), status)).collect();
    standing.sort_by(|left, right| (left.0, &left.1.unit).cmp(&(right.0, &right.1.unit)));
    let counts =
        Standing::ALL.map(|one| (one, standing.iter().filter(|(of, _)| *of == one).count()));
    if arguments.problems {
        standing.retain(|(of, _)| *of != Standing::Ready);
    }
    let name = desk.view.fleet().settings().name.to_string();
    match arguments.json {
        true => Answer::out(pretty(&as_json(&name, &standing, &counts, &whole))),
        false => {
            let (now, paint) = (desk.view.now(), Paint(colour.out));
            Answer::out(text(&name, &standing, &counts, &whole, now, paint))
        }
    }
}

type Counts = [(Standing, usize); 4];

/// What is told of the fleet as a whole.
#[derive(Default)]
struct Whole {
    status: Option<FleetStatus>,
    removals: Option<ParkedPlan>,
}

fn as_json(fleet: &str, standing: &[(Standing, &Status)], counts: &Counts, whole: &Whole) -> Value {
    let units: Vec<Value> = standing
        .iter()
        .map(|(of, status)| {
            let mut unit = json!(status);
            unit["is"] = json!(of);
            unit
        })
        .collect();
    let counted = counts.iter().map(|(of, count)| {
        let key = serde_json::to_value(of).unwrap_or_default();
        (key.as_str().unwrap_or_default().to_owned(), json!(count))
    });
    json!({
        "fleet": fleet,
        "counts": Value::Object(counted.collect()),
        "fleet_status": whole.status,
        "removals": whole.removals,
        "units": units,
    })
}

fn text(
    fleet: &str,
    standing: &[(Standing, &Status)],
    counts: &Counts,
    whole: &Whole,
    now: Timestamp,
    paint: Paint,
) -> String {
    let total: usize = counts.iter().map(|(_, count)| count).sum();
    let words: Vec<String> = counts
        .iter()
        .filter(|(of, count)| *count > 0 || *of == Standing::Ready)
        .map(|(of, count)| format!("{count} {}", of.word()))
        .collect();
    let heading = format!("fleet {fleet}: {total} unit(s): {}", words.join(", "));
    let mut text = format!("{}\n", paint.bold(&heading));
    whole.removals.iter().for_each(|plan| text.push_str(&removals(plan, now, paint)));
    whole.status.iter().for_each(|whole| text.push_str(&fleet_as_a_whole(whole, now, paint)));
    let width = standing.iter().map(|(_, status)| status.unit.to_string().len()).max();
    let width = width.unwrap_or_default();
    for (of, status) in standing {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}", unit(*of, status, width, now, paint));
    }
    text
}

/// What the brake holds, before all else.
fn removals(plan: &ParkedPlan, now: Timestamp, paint: Paint) -> String {
    let word = paint.red(&format!("{:<22}", "the brake holds"));
    let since = from_now(plan.since, now);
    format!("  {word}  plan {}  {since}\n    {}\n    {}\n", plan.id, plan.words(), plan.remedy())
}

/// What sweeps found that is no unit's, before any unit.
fn fleet_as_a_whole(whole: &FleetStatus, now: Timestamp, paint: Paint) -> String {
    let mut text = String::new();
    let word = paint.red(&format!("{:<22}", "the whole fleet"));
    for finding in &whole.findings {
        let since = from_now(finding.since, now);
        text.push_str(&format!("  {word}  {:?}  {since}\n", finding.kind));
        text.push_str(&format!("    {}\n    {}\n", finding.message, finding.remedy));
    }
    if whole.more > 0 {
        text.push_str(&format!("  {word}  and {} more\n", whole.more));
    }
    for (reason, since) in whole.unseen() {
        let (when, since) = (from_now(whole.swept_at, now), from_now(since, now));
        text.push_str(&format!(
            "  {word}  not seen by the sweep {when}, for the first time {since}, so it permits nothing\n"
        ));
        text.push_str(&format!("    {reason}\n"));
    }
    for (kind, slice) in &whole.slices {
        let when = from_now(whole.swept_at, now);
        text.push_str(&format!("  {:<22}  {kind}, by the sweep {when}:\n", "looked at in turn"));
        text.push_str(&format!("    {}\n", slice.words()));
    }
    text
}

fn unit(of: Standing, status: &Status, width: usize, now: Timestamp, paint: Paint) -> String {
    let word = format!("{:<22}", of.word());
    let word = match of {
        Standing::Parked => paint.red(&word),
        Standing::NeedsAdministrator | Standing::NotReady => paint.yellow(&word),
        Standing::Ready => paint.green(&word),
    };
    let path = status.path.as_deref().unwrap_or_default();
    let name = status.unit.to_string();
    let told = telling(status, of);
    let since = told.map(|condition| from_now(condition.since, now)).unwrap_or_default();
    let mut text = format!("  {word}  {name:<width$}  {since:<10}  {path}\n");
    let reason = told.filter(|_| of != Standing::Ready);
    if let Some(condition) = reason {
        text.push_str(&format!("    {}: {}\n", condition.reason, condition.message));
    }
    if let Some(parked) = &status.parked {
        let next = from_now(parked.next, now);
        text.push_str(&format!("    tried {} time(s) since, next {next}\n", parked.tries));
    }
    text
}
