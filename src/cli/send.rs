//! `forerunner send`: puts an operator's message on its queue, checked before it goes, or does from here what it asks for.

use super::{
    answer::{Answer, pretty},
    desk::Place,
    hands::{Goal, Hands, Ordered, Whose},
    load::AtDesk,
};
use crate::{
    config,
    domain::command::{Door, Order, Refused},
    reconcile::Failure,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::{collections::BTreeSet, fmt};

/// Ask forerunner for something, as a message of your own would.
///
/// sweep, reprovision, pause and resume go to the queue `commands`; remove, revoke, hold and confirm to `approvals`, which
/// has a send right of its own. Service Bus does not tell who sent: --by is recorded as claimed. With --local no queue is
/// needed: it is done from here, with the rounds that follow of it.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  forerunner send sweep --why 'the hook was down'
  forerunner send pause platform/payments --why CHG0012345
  forerunner send remove g42 --profile plan --why SEC-1182 --dry-run
  forerunner send revoke g42-plan --why 'SEC-1183: its token was in a log'
  forerunner send hold 'platform/*' --until 2026-12-01T08:00:00Z --why 'incident 7'
  forerunner send confirm --plan 0123456789ab --why 'moved on purpose'
  forerunner send confirm g42-plan --why 'nobody needs that twin'
  forerunner send sweep --local --why 'the app is down'

Exit codes: 0 it is on its queue, or done, 1 it could not be sent or done, 2 it is no order.")]
pub struct Send {
    /// sweep, reprovision, pause, resume, remove, revoke, hold or confirm
    pub command: String,
    /// Ids (g42), paths, patterns (platform/*), units or `all`
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Only runners of this profile
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Who asks; else the name you are signed in with here
    #[arg(long, value_name = "WHO")]
    pub by: Option<String>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub why: String,
    /// Only say what would be done, in the function's log or, with --local, here
    #[arg(long)]
    pub dry_run: bool,
    /// When a hold ends, within 7 days
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// The parked plan to confirm: `forerunner parked list` shows its id
    #[arg(long, value_name = "ID")]
    pub plan: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub whose: Whose,
    #[command(flatten)]
    pub place: Place,
}

impl Send {
    /// The message, without what was not said.
    fn body(&self) -> Value {
        let by = self.by.clone().or_else(config::user).unwrap_or_default();
        let mut body = Map::from_iter([
            ("command".to_owned(), json!(self.command)),
            ("by".to_owned(), json!(by)),
            ("why".to_owned(), json!(self.why)),
        ]);
        if self.dry_run {
            body.insert("dryRun".to_owned(), json!(true));
        }
        if !self.targets.is_empty() {
            body.insert("targets".to_owned(), json!(self.targets));
        }
        let told = [("profile", &self.profile), ("until", &self.until), ("plan", &self.plan)];
        let told = told.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
        body.extend(told.map(|(key, value)| (key.to_owned(), json!(value))));
        Value::Object(body)
    }
}

/// Reads it as the function does that its queue wakes.
///
/// Errors: what the function would refuse it for.
fn read(body: &str, now: Timestamp) -> Result<Order, Refused> {
    match Order::decode(body.as_bytes(), Door::Commands, now) {
        Err(Refused::OtherDoor { .. }) => Order::decode(body.as_bytes(), Door::Approvals, now),
        read => read,
    }
}

pub async fn answer(arguments: &Send, desk: &AtDesk) -> Answer {
    sent(arguments, desk).await.unwrap_or_else(|answer| answer)
}

/// Errors: what to print instead.
async fn sent(arguments: &Send, desk: &AtDesk) -> Result<Answer, Answer> {
    let failed = |failure: Failure| Answer::failed(1, failure.text);
    let since = desk.view.now();
    let order = read(&arguments.body().to_string(), since);
    let order = order.map_err(|refused: Refused| Answer::failed(2, refused))?;
    let hands = Hands::open(&arguments.whose, &arguments.place, desk)?;
    let done = match hands.order(&order).await.map_err(failed)? {
        Ordered::Done(lines) => lines,
        Ordered::Queued { message_id } => {
            let (queue, command) = (order.queue(), &arguments.command);
            return Ok(Answer::out(match arguments.json {
                true => pretty(&json!({ "queue": queue, "messageId": message_id })),
                false => format!(
                    "`{command}` is on the queue `{queue}`; `forerunner status` shows what becomes of it\n"
                ),
            }));
        }
    };
    let until = arguments.whose.end(since);
    let units = BTreeSet::new();
    let end = hands.see_through(desk, &units, Goal::AsTheFileSays, since, until);
    let failures = end.await.map_err(failed)?.failures;
    let lines = |lines: &[String], of: &dyn fmt::Display| -> String {
        lines.iter().map(|line| format!("{of}{line}\n")).collect()
    };
    let out = match arguments.json {
        true => pretty(&json!({ "did": done, "failures": failures })),
        false => lines(&done, &""),
    };
    Ok(Answer { code: u8::from(!failures.is_empty()), out, talk: lines(&failures, &"error: ") })
}
