//! `forerunner send`: puts an operator's message on its queue, checked before it goes.

use super::{
    answer::{Answer, pretty},
    desk::Place,
    load::AtDesk,
};
use crate::{
    adapters::service_bus::Letter,
    config,
    domain::command::{Door, Order, Refused},
    reconcile::Failure,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Ask forerunner for something, as a message of your own would.
///
/// sweep, reprovision, pause and resume go to the queue `commands`; remove, revoke, hold and confirm to `approvals`, which
/// has a send right of its own. Service Bus does not tell who sent: --by is recorded as claimed.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  forerunner send sweep --why 'the hook was down'
  forerunner send pause platform/payments --why CHG0012345
  forerunner send remove g42 --profile plan --why SEC-1182 --dry-run
  forerunner send revoke g42-plan --why 'SEC-1183: its token was in a log'
  forerunner send hold 'platform/*' --until 2026-12-01T08:00:00Z --why 'incident 7'
  forerunner send confirm --plan 0123456789ab --why 'moved on purpose'
  forerunner send confirm g42-plan --why 'nobody needs that twin'")]
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
    /// Only say what would be done, in the function's log
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

/// Which queue takes it.
///
/// Errors: what the function would refuse it for.
fn door(body: &str, now: Timestamp) -> Result<Door, Refused> {
    match Order::decode(body.as_bytes(), Door::Commands, now) {
        Err(Refused::OtherDoor { .. }) => {
            Order::decode(body.as_bytes(), Door::Approvals, now).map(|_| Door::Approvals)
        }
        read => read.map(|_| Door::Commands),
    }
}

/// Exit code 0: it is on its queue; 1: it could not be sent; 2: it asks for nothing.
pub async fn answer(arguments: &Send, desk: &AtDesk) -> Answer {
    let body = arguments.body().to_string();
    let door = match door(&body, desk.view.now()) {
        Ok(door) => door,
        Err(refused) => return Answer::failed(2, refused),
    };
    let bus = match &desk.service_bus {
        Ok(bus) => bus,
        Err(missing) => return Answer::failed(1, missing),
    };
    let message_id = Uuid::new_v4().to_string();
    let letter =
        Letter { body, message_id: message_id.clone(), session_id: None, scheduled_for: None };
    let queue = door.queue();
    match bus.send(queue, &[letter]).await {
        Ok(()) if arguments.json => Answer {
            code: 0,
            out: pretty(&json!({ "queue": queue, "messageId": message_id })),
            talk: String::new(),
        },
        Ok(()) => Answer {
            code: 0,
            out: format!(
                "`{}` is on the queue `{queue}`; `forerunner status` shows what becomes of it\n",
                arguments.command
            ),
            talk: String::new(),
        },
        Err(error) => Answer::failed(1, Failure::from(error).text),
    }
}
