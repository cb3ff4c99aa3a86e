//! `forerunner apply`: has what `plan` shows carried out, by the functions or from here.

use super::{
    answer::{Answer, Colour, pretty},
    desk::Place,
    hands::{self, End, Goal, Hands, How},
    load::AtDesk,
    parked,
    plan::{self, Shown},
};
use crate::{
    domain::{
        command::{Deed, Order},
        ids::Unit,
        selector::Selector,
        status::{ConditionKind, Status},
    },
    reconcile::{Failure, Preview, Standing},
};
use serde_json::json;
use std::{collections::BTreeSet, process::ExitCode};

/// Carry out what `plan` shows.
///
/// Shows the plan and asks. Then the functions are told by the queue `commands` to look at what is not as it should be, and are
/// followed until it is; with --local the same rounds run here, beside the functions or without them. May be stopped at any
/// moment and run again: every write is safe against a second writer. What needs a permit still needs one. What cannot be
/// read is told at the end and holds up nothing else, but where it is a list of the whole fleet.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  forerunner apply platform/payments
  forerunner apply --yes --timeout 10
  forerunner apply --local --confirm g42-plan

Exit codes: 0 every unit is as fleet.yaml says, 1 one is not yet, or something failed, 2 misused or declined.")]
pub struct Apply {
    /// As of `plan`
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Also permit what the plan stops at, of the targets that are named: removals that wait for a permit, and entities that
    /// somebody polls with. Needs the queue `approvals`, or --local
    #[arg(long, requires = "targets")]
    pub confirm: bool,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "apply from a desk")]
    pub why: String,
    /// Print JSON; needs --yes
    #[arg(long, requires = "yes")]
    pub json: bool,
    #[command(flatten)]
    pub how: How,
    #[command(flatten)]
    pub place: Place,
}

/// Units that one message names: a few dozen kilobytes, of the 256 that Service Bus takes.
const UNITS_MAX: usize = 500;

/// Runs the subcommand on the real terminal.
pub async fn run(arguments: &Apply) -> ExitCode {
    let answer = match arguments.place.open() {
        Ok(desk) => answer(arguments, &desk).await.unwrap_or_else(|answer| answer),
        Err(answer) => answer,
    };
    ExitCode::from(answer.print())
}

/// Errors: what to print instead.
async fn answer(arguments: &Apply, desk: &AtDesk) -> Result<Answer, Answer> {
    // Whoever can do it is known before anybody reads a plan for nothing.
    let hands = Hands::open(&arguments.how.whose, &arguments.place, desk)?;
    let shown = plan::read(&arguments.targets, desk, plan::sleep).await?;
    if !arguments.json {
        shown.text(desk, Colour::here()).print();
    }
    if shown.partial {
        return Err(leave_alone(arguments, desk, &shown));
    }
    let units = match arguments.confirm {
        true => readable(&shown.previews),
        false => open(&shown.previews),
    };
    if !units.is_empty() && !arguments.how.yes {
        match parked::ask("Apply this plan?") {
            Some(true) => {}
            Some(false) => return Err(Answer::failed(2, "nothing was changed")),
            None => {
                return Err(Answer::failed(
                    2,
                    "nobody is here to ask: say --yes to apply the plan",
                ));
            }
        }
    }
    let done = carry_out(arguments, desk, &hands, &shown, &units).await;
    done.map_err(|failure| Answer::failed(1, failure.text))
}

/// All but what could not be read: of that nobody has seen what would be permitted.
fn readable(previews: &[Preview]) -> BTreeSet<Unit> {
    let readable = previews.iter().filter(|preview| match preview.standing {
        Standing::Unread { .. } => false,
        Standing::Settled | Standing::Kept | Standing::Waits { .. } | Standing::Blocked { .. } => {
            true
        }
    });
    readable.map(|preview| preview.unit.clone()).collect()
}

/// What work may bring further: all that is not as it should be, but for what only a person, a right or a changed file helps.
fn open(previews: &[Preview]) -> BTreeSet<Unit> {
    let open = previews.iter().filter(|preview| match preview.standing {
        Standing::Waits { .. } => true,
        Standing::Settled | Standing::Kept | Standing::Blocked { .. } => {
            !preview.changes.is_empty()
        }
        Standing::Unread { .. } => false,
    });
    open.map(|preview| preview.unit.clone()).collect()
}

async fn carry_out(
    arguments: &Apply,
    desk: &AtDesk,
    hands: &Hands,
    shown: &Shown,
    units: &BTreeSet<Unit>,
) -> Result<Answer, Failure> {
    let since = desk.view.now();
    let order = |deed, units: &[&Unit]| Order {
        deed,
        of: units.iter().map(|unit| Selector::Unit((*unit).clone())).collect(),
        profile: None,
        by: hands::who(),
        why: arguments.why.clone(),
        dry_run: false,
        sent_at: None,
    };
    let all: Vec<&Unit> = units.iter().collect();
    for some in all.chunks(UNITS_MAX) {
        if arguments.confirm {
            hands.order(&order(Deed::ConfirmUnits, some)).await?;
        }
        hands.wake(some, &order(Deed::Reprovision, some)).await?;
    }
    let end = arguments.how.whose.end(since);
    let mut end = hands.see_through(desk, units, Goal::AsTheFileSays, since, end).await?;
    end.failures.extend(shown.problems.iter().cloned());
    let statuses = desk.view.statuses().await?;
    let left = shown.previews.iter().filter(|preview| !units.contains(&preview.unit));
    let end = told_by(&statuses, shown, told_of(left, end));
    Ok(sum_up(arguments, desk, shown, end))
}

/// Does nothing of a plan that may lack units, or show them as nobody's: a sweep permits nothing then either.
fn leave_alone(arguments: &Apply, desk: &AtDesk, shown: &Shown) -> Answer {
    let why = "what cannot be read is not applied";
    if !arguments.json {
        return Answer::failed(1, why);
    }
    let rest = shown.previews.iter().filter(|preview| !preview.is_as_it_should_be());
    let nothing = || "nothing was applied".to_owned();
    let undone = rest.clone().map(|preview| (preview.unit.clone(), nothing()));
    let failures = shown.problems.iter().cloned().chain([why.to_owned()]).collect();
    let end = End { failures, undone: undone.collect() };
    sum_up(arguments, desk, shown, told_of(rest, end))
}

/// Adds what no work can bring further, or nobody could look at: what is told of it may be older.
fn told_of<'a>(left: impl Iterator<Item = &'a Preview>, mut end: End) -> End {
    for preview in left {
        let why = match &preview.standing {
            Standing::Blocked { reason } => reason.clone(),
            Standing::Unread { reason } => format!("could not be read: {reason}"),
            Standing::Settled | Standing::Kept | Standing::Waits { .. } => continue,
        };
        end.undone.insert(preview.unit.clone(), why);
    }
    end
}

/// Adds the units of the plan that are told not to be ready; one that is gone stands well.
fn told_by(statuses: &[Status], shown: &Shown, mut end: End) -> End {
    let planned: BTreeSet<&Unit> = shown.previews.iter().map(|preview| &preview.unit).collect();
    for status in statuses.iter().filter(|status| planned.contains(&status.unit)) {
        let why = match status.condition(ConditionKind::Ready) {
            Some(told) if told.status => continue,
            Some(told) => told.message.clone(),
            None => "nothing is known of it".to_owned(),
        };
        end.undone.entry(status.unit.clone()).or_insert(why);
    }
    end
}

fn sum_up(arguments: &Apply, desk: &AtDesk, shown: &Shown, end: End) -> Answer {
    let ready = shown.previews.len() - end.undone.len();
    let code = u8::from(!end.failures.is_empty() || !end.undone.is_empty());
    if arguments.json {
        let undone = end.undone.iter().map(|(unit, why)| json!({ "unit": unit, "why": why }));
        let told = json!({
            "plan": shown.json(desk),
            "asTheFileSays": ready,
            "notYet": undone.collect::<Vec<_>>(),
            "failures": end.failures,
        });
        return Answer { code, ..Answer::out(pretty(&told)) };
    }
    let undone = end.undone.iter().map(|(unit, why)| format!("error: `{unit}`: {why}\n"));
    let failures = end.failures.iter().map(|failure| format!("error: {failure}\n"));
    let out = format!("{ready} unit(s) as fleet.yaml says, {} not yet\n", end.undone.len());
    Answer { code, out, talk: failures.chain(undone).collect() }
}
