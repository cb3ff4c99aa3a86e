//! `forerunner apply`: carries out what `plan` shows, from here and without any queue.

use super::{
    answer::{Answer, Colour},
    desk::{self, Place},
    load::{self, AtDesk},
    plan::{self, Plan},
};
use crate::{
    config,
    domain::{
        command::{Deed, Order, Selector},
        ids::Unit,
        message::{Message, Reason},
        status::ConditionKind,
    },
    reconcile::{Here, Outbox, Outcome, Rounds},
};
use futures::{StreamExt, stream};
use jiff::SignedDuration;
use std::{
    collections::BTreeSet,
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

/// Carry out what `plan` shows.
///
/// Works through the same rounds as the functions do, and may run beside them: every write is safe against a second writer.
/// May be stopped at any moment and run again. What needs a permit still needs one.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  forerunner apply --local platform/payments
  forerunner apply --local --yes --timeout 10
  forerunner apply --local --confirm g42-plan

Exit codes: 0 every unit is as fleet.yaml says, 1 one is not yet, or something failed, 2 misused or declined.")]
pub struct Apply {
    /// As of `plan`
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// From here; to ask the functions instead, `forerunner send reprovision TARGET`
    #[arg(long, required = true)]
    pub local: bool,
    /// Also permit what the plan stops at, of the targets that are named: removals that wait for a permit, and entities that
    /// somebody polls with
    #[arg(long, requires = "targets")]
    pub confirm: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Minutes to wait for what takes time, such as an identity that settles
    #[arg(long, value_name = "MINUTES", default_value_t = 30)]
    pub timeout: i64,
    /// Where every write is told, one JSON line each; else forerunner-audit.jsonl beside the policy file
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
    #[command(flatten)]
    pub place: Place,
}

/// How many units are worked on at once.
const AT_ONCE: usize = 8;
/// The longest nap between two looks at the clock.
const NAP: SignedDuration = SignedDuration::from_millis(250);

/// Runs the subcommand on the real terminal.
pub async fn run(arguments: &Apply) -> ExitCode {
    let opened = arguments.place.open().and_then(|desk| {
        let here = Arc::new(Here::default());
        let settings = arguments.place.settings()?;
        arguments.place.audited(arguments.audit.as_deref())?;
        let rounds = load::rounds_here(&settings, settings.clock(), Outbox::Here(here.clone()));
        Ok((desk, here, rounds.map_err(|error| Answer::failed(1, error))?))
    });
    let answer = match opened {
        Ok((desk, here, rounds)) => answer(arguments, &desk, &here, &rounds).await,
        Err(answer) => answer,
    };
    ExitCode::from(answer.print())
}

async fn answer(arguments: &Apply, desk: &AtDesk, here: &Here, rounds: &Rounds) -> Answer {
    let shown = Plan {
        targets: arguments.targets.clone(),
        json: false,
        detailed_exitcode: true,
        place: arguments.place.clone(),
    };
    let plan = plan::answer(&shown, desk, Colour::here(), plan::sleep).await;
    if plan.code != 2 && !(arguments.confirm && plan.code == 0) {
        return Answer { code: plan.code, ..plan };
    }
    plan.print();
    if !arguments.yes {
        match ask() {
            Some(true) => {}
            Some(false) => return Answer::failed(2, "nothing was changed"),
            None => return Answer::failed(2, "nobody is here to ask: say --yes to apply the plan"),
        }
    }
    let selectors = match desk::selectors(&arguments.targets) {
        Ok(selectors) => selectors,
        Err(answer) => return answer,
    };
    let units = desk.view.select(&selectors).await.units;
    let end = desk.view.now().saturating_add(SignedDuration::from_mins(arguments.timeout));
    // As an operator's message would say it.
    let who = config::user().map(|who| format!("apply by {who}: from a desk"));
    let cause = who.unwrap_or_else(|| "apply".to_owned());
    if arguments.confirm
        && let Outcome::Failed(text) = rounds.command(&confirmation(&units)).await
    {
        return Answer::failed(1, text);
    }
    if let Err(failure) = rounds.wake(units.iter().cloned().collect(), &cause).await {
        return Answer::failed(1, failure.text);
    }
    let mut failures = Vec::new();
    while let Some(next) = here.next_at() {
        let now = desk.view.now();
        if end.as_ref().is_ok_and(|end| now >= *end) {
            failures.push(format!("stopped after {} minutes; run it again", arguments.timeout));
            break;
        }
        let due = here.due(now);
        if due.is_empty() {
            plan::sleep(next.duration_since(now).clamp(SignedDuration::ZERO, NAP)).await;
            continue;
        }
        let worked = stream::iter(due).map(|message| work(rounds, message));
        let outcomes: Vec<Option<String>> = worked.buffer_unordered(AT_ONCE).collect().await;
        failures.extend(outcomes.into_iter().flatten());
    }
    sum_up(desk, &units, failures).await
}

/// A person's word for these units.
fn confirmation(units: &BTreeSet<Unit>) -> Order {
    let named = units.iter().filter(|unit| matches!(unit, Unit::Runner(_) | Unit::Domain(_)));
    Order {
        deed: Deed::ConfirmUnits,
        of: named.cloned().map(Selector::Unit).collect(),
        profile: None,
        by: config::user().unwrap_or_else(|| "somebody at a desk".to_owned()),
        why: "apply --confirm".to_owned(),
        dry_run: false,
    }
}

/// One round; answers what failed.
async fn work(rounds: &Rounds, message: Message) -> Option<String> {
    let unit = message.unit.to_string();
    match rounds.round(&Message { reason: Reason::Command, ..message }).await {
        Outcome::Done(lines) => {
            for line in lines {
                say(&format!("{unit}  {line}"));
            }
            None
        }
        Outcome::Failed(text) => Some(format!("`{unit}`: {text}")),
    }
}

/// How the units stand now; one that is gone stands well.
async fn sum_up(desk: &AtDesk, units: &BTreeSet<Unit>, mut failures: Vec<String>) -> Answer {
    let statuses = match desk.view.statuses().await {
        Ok(statuses) => statuses,
        Err(failure) => return Answer::failed(1, failure.text),
    };
    let mut ready = 0;
    for status in statuses.iter().filter(|status| units.contains(&status.unit)) {
        match status.condition(ConditionKind::Ready) {
            Some(told) if told.status => ready += 1,
            Some(told) => failures.push(format!("`{}`: {}", status.unit, told.message)),
            None => failures.push(format!("`{}`: nothing is known of it", status.unit)),
        }
    }
    let talk: String = failures.iter().map(|failure| format!("error: {failure}\n")).collect();
    let out = format!("{ready} unit(s) as fleet.yaml says, {} not yet\n", failures.len());
    Answer { code: u8::from(!failures.is_empty()), out, talk }
}

fn say(line: &str) {
    // A reader that went away wants no more.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn ask() -> Option<bool> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    super::parked::ask("Apply this plan?")
}
