//! `forerunner parked`: what is kept for a person, why, and what lets it go on.

mod messages;
mod units;

use super::{
    answer::{Answer, Colour, pretty},
    colour::Paint,
    desk::{self, Place},
    hands::Whose,
    load::AtDesk,
};
use crate::{
    domain::{standing::from_now, status::Status},
    reconcile::Failure,
};
use serde_json::{Value, json};
use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

/// List what is parked and why, look at it, and let it go on.
///
/// Also messages on our queues that nobody could act on: they are kept as Secrets, and seeing them takes the right to list
/// Secrets in the managers' namespace.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  forerunner parked list
  forerunner parked show runner/g42-tf
  forerunner parked release runner/g42-tf
  forerunner parked release --all --local
  forerunner parked drop foreign-0123456789abcdef --yes")]
pub struct ParkedArguments {
    #[command(subcommand)]
    pub action: Action,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum Action {
    /// List parked units and kept messages
    List,
    /// Show one, with its last rounds and what would release it
    Show {
        /// A unit (runner/g42-tf) or a kept message (foreign-…)
        #[arg(value_name = "UNIT")]
        name: String,
        /// Print the body of a kept message as it came
        #[arg(long)]
        reveal: bool,
    },
    /// Wake parked units now
    Release {
        #[arg(value_name = "UNIT", required_unless_present = "all")]
        units: Vec<String>,
        /// Every parked unit
        #[arg(long, conflicts_with = "units")]
        all: bool,
        #[command(flatten)]
        whose: Whose,
    },
    /// Delete a kept message for good
    Drop {
        #[arg(value_name = "NAME")]
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Where the deletion is told, one JSON line; else forerunner-audit.jsonl beside the policy file
        #[arg(long, value_name = "FILE")]
        audit: Option<PathBuf>,
    },
}

/// Runs the subcommand on the real terminal.
pub async fn run(arguments: &ParkedArguments) -> ExitCode {
    let told = match &arguments.action {
        Action::Drop { audit, .. } => arguments.place.audited(audit.as_deref()),
        Action::List | Action::Show { .. } | Action::Release { .. } => Ok(()),
    };
    let work = async |desk: &AtDesk| answer(arguments, desk, Colour::here(), ask).await;
    match told {
        Ok(()) => desk::run(&arguments.place, work).await,
        Err(answer) => ExitCode::from(answer.print()),
    }
}

/// `ask` puts a question to a person; `None` where there is none to ask.
pub async fn answer(
    arguments: &ParkedArguments,
    desk: &AtDesk,
    colour: Colour,
    ask: impl FnOnce(&str) -> Option<bool>,
) -> Answer {
    let paint = Paint(colour.out);
    let done = match &arguments.action {
        Action::List => list(desk, arguments.json, paint).await,
        Action::Show { name, reveal } => match name.starts_with("foreign-") {
            true => messages::show(desk, name, *reveal, arguments.json).await,
            false => units::show(desk, name, arguments.json, paint).await,
        },
        Action::Release { units, all, whose } => {
            let asked = units::Asked { units, all: *all, whose };
            units::release(arguments, &asked, desk).await.or_else(Ok)
        }
        Action::Drop { name, yes, .. } => {
            messages::drop_for_good(desk, name, *yes, arguments.json, ask).await
        }
    };
    done.unwrap_or_else(|failure| Answer::failed(1, failure.text))
}

/// Asks on the terminal; the answer of nobody is none.
pub fn ask(question: &str) -> Option<bool> {
    let (stdin, mut talk) = (std::io::stdin(), std::io::stderr());
    if !stdin.is_terminal()
        || write!(talk, "{question} [y/N] ").and_then(|()| talk.flush()).is_err()
    {
        return None;
    }
    let mut line = String::new();
    stdin.read_line(&mut line).ok()?;
    Some(matches!(line.trim(), "y" | "Y" | "yes"))
}

async fn parked(desk: &AtDesk) -> Result<Vec<Status>, Failure> {
    let mut statuses = desk.view.statuses().await?;
    statuses.retain(|status| status.parked.is_some());
    statuses.sort_by(|left, right| left.unit.cmp(&right.unit));
    Ok(statuses)
}

async fn list(desk: &AtDesk, as_json: bool, paint: Paint) -> Result<Answer, Failure> {
    let units = parked(desk).await?;
    let now = desk.view.now();
    // Who may not see Secrets still sees the units.
    let (kept, talk) = match desk.view.kept().await {
        Ok(kept) => (kept, String::new()),
        Err(failure) => (
            vec![],
            format!(
                "warning: kept messages are not shown, which takes the right to list Secrets: {}\n",
                failure.text
            ),
        ),
    };
    let plan = desk.view.parked_plan().await?;
    if as_json {
        let units: Vec<Value> = units.iter().map(|status| json!({ "unit": status.unit, "path": status.path, "parked": status.parked })).collect();
        let messages: Vec<Value> = kept.iter().map(messages::head).collect();
        let out = pretty(&json!({ "units": units, "messages": messages, "removals": plan }));
        return Ok(Answer { code: 0, out, talk });
    }
    let mut out = String::new();
    for status in &units {
        let Some(parked) = &status.parked else { continue };
        let path = status.path.as_deref().map_or(String::new(), |path| format!("  {path}"));
        out.push_str(&format!("{}{path}\n", paint.bold(&status.unit.to_string())));
        out.push_str(&format!("  {}\n", parked.reason));
        out.push_str(&format!(
            "  since {} ({}), tried {} time(s), next {} ({})\n",
            parked.since,
            from_now(parked.since, now),
            parked.tries,
            parked.next,
            from_now(parked.next, now),
        ));
    }
    for kept in &kept {
        out.push_str(&format!("{}\n", paint.bold(&kept.name)));
        out.push_str(&format!("  a message to `{}` is kept: {}\n", kept.function, kept.reason));
    }
    if let Some(plan) = plan {
        out.push_str(&format!("{}\n", paint.bold(&format!("removals, plan {}", plan.id))));
        out.push_str(&format!("  {}\n", plan.words()));
        for (unit, why) in &plan.wants {
            out.push_str(&format!("    {unit}: {}\n", why.as_str()));
        }
        out.push_str(&format!("  {}\n", plan.remedy()));
    }
    let line = format!("{} unit(s) parked, {} message(s) kept\n", units.len(), kept.len());
    out.push_str(&line);
    Ok(Answer { code: 0, out, talk })
}
