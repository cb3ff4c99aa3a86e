//! `forerunner remove`: takes runners away for good, and lists what stays and why.

use super::{
    answer::{Answer, pretty},
    desk::Place,
    hands::{self, End, Goal, Hands, How},
    load::AtDesk,
    parked,
};
use crate::{
    domain::{
        command::{self, Deed, Order},
        fleet_status::Finding,
        ids::Unit,
        status::{ConditionKind, Status},
    },
    reconcile::{Failure, Meant},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
};

/// Take runners away for good, with their tokens, identities, rights and namespaces.
///
/// Lists what goes and asks. Then the functions are told by the queue `approvals` and followed until it is gone; with --local
/// the same rounds run here, beside the functions or without them. A running job is waited for; there is no grace. What
/// fleet.yaml still gives is made anew a day later, unless forerunner is stopped or its mode is `observe`. May be stopped at
/// any moment and run again.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  forerunner remove platform/payments --why SEC-1182
  forerunner remove g42 --profile plan --why 'moved away' --dry-run
  forerunner remove --all --local --why 'the installation ends'

Exit codes: 0 all of it is gone, 1 something stays, or something failed, 2 misused or declined.")]
pub struct Remove {
    /// Ids (g42), paths, patterns (platform/*) or units
    #[arg(value_name = "TARGET", required_unless_present = "all", conflicts_with = "all")]
    pub targets: Vec<String>,
    /// The whole fleet
    #[arg(long)]
    pub all: bool,
    /// Only runners of this profile
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub why: String,
    /// Only list what would go
    #[arg(long)]
    pub dry_run: bool,
    /// Print JSON; needs --yes or --dry-run
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub how: How,
    #[command(flatten)]
    pub place: Place,
}

/// Runs the subcommand on the real terminal.
pub async fn run(arguments: &Remove) -> ExitCode {
    let answer = match arguments.place.open() {
        Ok(desk) => answer(arguments, &desk).await.unwrap_or_else(|answer| answer),
        Err(answer) => answer,
    };
    ExitCode::from(answer.print())
}

/// Errors: what to print instead.
async fn answer(arguments: &Remove, desk: &AtDesk) -> Result<Answer, Answer> {
    let failed = |failure: Failure| Answer::failed(1, failure.text);
    let order = arguments.order(desk)?;
    if arguments.json && !arguments.how.yes && !arguments.dry_run {
        return Err(Answer::failed(2, "--json asks nobody: say --yes or --dry-run with it"));
    }
    let hands = match arguments.dry_run {
        true => None,
        false => Some(Hands::open(&arguments.how.whose, &arguments.place, desk)?),
    };
    let meant = desk.view.meant(&order).await.map_err(failed)?;
    if let Some(reason) = meant.unseen.first().filter(|_| arguments.all) {
        // Half a list would leave behind what nobody was told of.
        return Err(Answer::failed(
            1,
            format!("the whole fleet was not seen: {reason}; run it again"),
        ));
    }
    if let Some(mistake) = &meant.mistake {
        let unseen = meant.unseen.iter().map(|reason| format!("error: not seen: {reason}\n"));
        let answer = Answer::failed(2, mistake);
        return Err(Answer {
            talk: format!("{}{}", answer.talk, unseen.collect::<String>()),
            ..answer
        });
    }
    let told = desk.view.statuses().await.map_err(failed)?;
    let listed = list(&meant, &told);
    let Some(hands) = hands else {
        return Ok(match arguments.json {
            true => Answer::out(pretty(&json!({
                "wouldRemove": meant.units,
                "protected": meant.protected,
            }))),
            false => Answer::out(listed),
        });
    };
    if !arguments.how.yes && !meant.units.is_empty() {
        match parked::ask(&format!("{listed}Remove these {} unit(s)?", meant.units.len())) {
            Some(true) => {}
            Some(false) => return Err(Answer::failed(2, "nothing was changed")),
            None => {
                return Err(Answer::failed(2, "nobody is here to ask: say --yes to remove them"));
            }
        }
    }
    let since = desk.view.now();
    let mut end = End::default();
    // Also where nothing is there yet: what is just being made must not be made.
    hands.order(&order).await.map_err(failed)?;
    if !meant.units.is_empty() {
        let until = arguments.how.whose.end(since);
        let seen = hands.see_through(desk, &meant.units, Goal::Gone, since, until);
        end = seen.await.map_err(failed)?;
    }
    let after = desk.view.meant(&order).await.map_err(failed)?;
    let told = desk.view.statuses().await.map_err(failed)?;
    Ok(arguments.sum_up(&meant, &after, &stays(&after, &end, &told), &end))
}

impl Remove {
    /// Errors: code 2, and what would be understood.
    fn order(&self, desk: &AtDesk) -> Result<Order, Answer> {
        let targets = match self.all {
            true => vec!["all".to_owned()],
            false => self.targets.clone(),
        };
        let body = json!({
            "command": Deed::Remove.as_str(),
            "targets": targets,
            "profile": self.profile,
            "by": hands::who(),
            "why": self.why,
        });
        let door = command::Door::Approvals;
        Order::decode(body.to_string().as_bytes(), door, desk.view.now())
            .map_err(|refused| Answer::failed(2, refused))
    }

    fn sum_up(
        &self,
        before: &Meant,
        after: &Meant,
        stays: &BTreeMap<Unit, String>,
        end: &End,
    ) -> Answer {
        let gone: BTreeSet<&Unit> =
            before.units.iter().filter(|unit| !after.units.contains(*unit)).collect();
        let leftovers: &[Finding] = if self.all { &after.leftovers } else { &[] };
        let all_gone = stays.is_empty() && leftovers.is_empty() && end.failures.is_empty();
        let code = u8::from(!all_gone || !after.unseen.is_empty());
        if self.json {
            let stays: Vec<Value> =
                stays.iter().map(|(unit, why)| json!({ "unit": unit, "why": why })).collect();
            let told = json!({
                "removed": gone,
                "stays": stays,
                "leftovers": leftovers,
                "failures": end.failures,
                "unseen": after.unseen,
            });
            return Answer { code, ..Answer::out(pretty(&told)) };
        }
        let mut out = format!("{} unit(s) are gone, {} stay\n", gone.len(), stays.len());
        if self.all {
            out.push_str(NOT_OURS);
        }
        let talk = end
            .failures
            .iter()
            .cloned()
            .chain(stays.iter().map(|(unit, why)| format!("`{unit}` stays: {why}")))
            .chain(leftovers.iter().map(|one| format!("{}; {}", one.message, one.remedy)))
            .chain(after.unseen.iter().map(|reason| format!("not seen: {reason}")))
            .map(|line| format!("error: {line}\n"))
            .collect();
        Answer { code, out, talk }
    }
}

/// What forerunner was given, and did not make.
const NOT_OURS: &str = "Left to its administrator: the app, its queues and its identity; the managers' namespace, with the \
                        ledger; what `admin-steps` asked for.\n";

/// Why each unit stays that does.
fn stays(after: &Meant, end: &End, told: &[Status]) -> BTreeMap<Unit, String> {
    let why = |unit: &Unit| {
        let status = told.iter().find(|status| status.unit == *unit);
        let ready = || Some(status?.condition(ConditionKind::Ready)?.message.clone());
        end.undone.get(unit).cloned().or_else(ready)
    };
    let unknown = || "something of it is still there".to_owned();
    let open = after.units.iter().map(|unit| (unit.clone(), why(unit).unwrap_or_else(unknown)));
    let protected =
        after.protected.iter().map(|unit| (unit.clone(), "`protect: true` keeps it".to_owned()));
    open.chain(protected).collect()
}

fn list(meant: &Meant, told: &[Status]) -> String {
    let path = |unit: &Unit| {
        let status = told.iter().find(|status| status.unit == *unit);
        status.and_then(|status| status.path.as_deref()).unwrap_or_default().to_owned()
    };
    let goes = meant.units.iter().map(|unit| format!("  - {unit}  {}", path(unit)));
    let kept = meant
        .protected
        .iter()
        .map(|unit| format!("    {unit}  {}  stays: `protect: true` keeps it", path(unit)));
    let lines = goes.chain(kept).map(|line| format!("{}\n", line.trim_end()));
    format!(
        "{}{} unit(s) to take away for good, {} kept\n",
        lines.collect::<String>(),
        meant.units.len(),
        meant.protected.len()
    )
}
