//! `forerunner plan`: what the next rounds would do, read off the world and written nowhere.

mod text;

use super::{
    answer::{Answer, Colour, pretty},
    desk::{self, Place, Progress},
    load::AtDesk,
};
use crate::{
    domain::fleet::Clash,
    reconcile::{Action, Preview, Standing},
};
use jiff::SignedDuration;
use serde::Serialize;
use serde_json::json;
use std::{collections::BTreeMap, process::ExitCode};

/// Show what forerunner would change, and change nothing.
///
/// Reads GitLab, Azure and the cluster as a round does, eight units at once. Overlaps are judged on the real groups and
/// projects; a target is held against all that lies above and below it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  forerunner plan                          every runner that a rule gives or that has a manager
  forerunner plan platform/payments g42    by path or id
  forerunner plan runner/g42-tf --json     one unit, for a program

Exit codes: 0 done, 1 something could not be read, 2 misused.
With --detailed-exitcode: 0 nothing to change, 1 failed, 2 something to change.")]
pub struct Plan {
    /// A path or pattern (platform/payments, 'platform/*'), a target (g42, p7, instance) or a unit (runner/g42-tf)
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// End with 2 where something is to change, with 0 where nothing is
    #[arg(long)]
    pub detailed_exitcode: bool,
    #[command(flatten)]
    pub place: Place,
}

/// How much of what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Counts {
    create: usize,
    change: usize,
    delete: usize,
    needs_administrator: usize,
    blocked: usize,
    unread: usize,
    /// On their way, with nothing to do just now.
    wait: usize,
    /// Not ready, and left as they are.
    kept: usize,
    as_they_should_be: usize,
}

impl Counts {
    fn of(previews: &[Preview]) -> Self {
        let mut counts = Self::default();
        for preview in previews {
            for change in &preview.changes {
                match change.action {
                    Action::Create => counts.create += 1,
                    Action::Change => counts.change += 1,
                    Action::Delete => counts.delete += 1,
                    Action::Note => {}
                }
            }
            counts.needs_administrator += usize::from(preview.needs_administrator().is_some());
            match &preview.standing {
                Standing::Blocked { .. } => counts.blocked += 1,
                Standing::Unread { .. } => counts.unread += 1,
                Standing::Waits { .. } if preview.changes.is_empty() => counts.wait += 1,
                Standing::Waits { .. } => {}
                Standing::Kept => counts.kept += 1,
                Standing::Settled => {
                    counts.as_they_should_be += usize::from(preview.is_as_it_should_be())
                }
            }
        }
        counts
    }

    fn changes(&self) -> usize {
        self.create + self.change + self.delete
    }
}

/// All that a plan has to say.
pub(super) struct Shown {
    pub(super) previews: Vec<Preview>,
    clashes: Vec<Clash>,
    /// What could not be looked up, each with its reason.
    pub(super) problems: Vec<String>,
    /// A list of the whole fleet is among that.
    pub(super) partial: bool,
    counts: Counts,
    calls: BTreeMap<&'static str, usize>,
}

/// Runs the subcommand on the real terminal.
pub async fn run(arguments: &Plan) -> ExitCode {
    let answer = match arguments.place.open() {
        Ok(desk) => answer(arguments, &desk, Colour::here(), sleep).await,
        Err(answer) => arguments.failed(answer),
    };
    ExitCode::from(answer.print())
}

pub(super) async fn sleep(pause: SignedDuration) {
    #[expect(clippy::disallowed_methods, reason = "a person at a desk waits, and has no queue")]
    tokio::time::sleep(pause.unsigned_abs()).await;
}

impl Plan {
    /// Where 2 means *something to change*, misuse is a failure like any other.
    fn failed(&self, answer: Answer) -> Answer {
        if self.detailed_exitcode { Answer { code: 1, ..answer } } else { answer }
    }
}

/// Reads and shows; the exit code is as the arguments ask for it. `wait` lets time pass.
pub async fn answer(
    arguments: &Plan,
    desk: &AtDesk,
    colour: Colour,
    wait: impl AsyncFn(SignedDuration),
) -> Answer {
    match read(&arguments.targets, desk, wait).await {
        Ok(shown) => shown.answer(arguments, desk, colour),
        Err(answer) => arguments.failed(answer),
    }
}

/// Reads what the targets' next rounds would do.
///
/// Errors: what to print instead, for words that name no target.
pub(super) async fn read(
    targets: &[String],
    desk: &AtDesk,
    wait: impl AsyncFn(SignedDuration),
) -> Result<Shown, Answer> {
    let selectors = desk::selectors(targets)?;
    let selected = desk.view.select(&selectors).await;
    let progress = Progress::of(selected.units.len());
    let waits = async |pause| {
        progress.say(&format!("a service limits our calls; going on in {pause:#}"));
        wait(pause).await;
    };
    let previews = desk.view.preview(&selected, |done| progress.tell(done), waits).await;
    let mut calls = BTreeMap::new();
    for (service, count) in previews.iter().flat_map(|preview| &preview.calls) {
        *calls.entry(*service).or_default() += count;
    }
    let counts = Counts::of(&previews);
    Ok(Shown {
        counts,
        previews,
        clashes: selected.clashes,
        problems: selected.problems,
        partial: selected.partial,
        calls,
    })
}

impl Shown {
    /// Not all of it could be read.
    fn failed(&self) -> bool {
        !self.problems.is_empty() || self.counts.unread > 0
    }

    fn answer(&self, arguments: &Plan, desk: &AtDesk, colour: Colour) -> Answer {
        let code = match (self.failed(), arguments.detailed_exitcode) {
            (true, _) => 1,
            (false, true) if self.counts.changes() > 0 => 2,
            (false, _) => 0,
        };
        match arguments.json {
            true => Answer { code, ..Answer::out(pretty(&self.json(desk))) },
            false => Answer { code, ..self.text(desk, colour) },
        }
    }

    pub(super) fn text(&self, desk: &AtDesk, colour: Colour) -> Answer {
        let talk = self.problems.iter().map(|problem| format!("error: {problem}\n")).collect();
        Answer { code: 0, out: text::text(self, desk.view.fleet(), colour.out), talk }
    }

    pub(super) fn json(&self, desk: &AtDesk) -> serde_json::Value {
        json(self, desk)
    }
}

fn json(shown: &Shown, desk: &AtDesk) -> serde_json::Value {
    let overlaps: Vec<_> = shown
        .clashes
        .iter()
        .map(|clash| {
            json!({
                "runners": [clash.runners.0, clash.runners.1],
                "error": clash.identity,
                "message": clash.to_string(),
            })
        })
        .collect();
    json!({
        "fleet": desk.view.fleet().settings().name.to_string(),
        "configuration": desk.view.fleet().settings().digest,
        "units": shown.previews,
        "overlaps": overlaps,
        "problems": shown.problems,
        "counts": shown.counts,
        "calls": shown.calls,
    })
}
