//! Whose hands carry an order out: the functions', through a queue and followed from here, or this process's own.

mod follow;

use super::{
    answer::Answer,
    desk::Place,
    load::{self, AtDesk},
    plan,
};
use crate::{
    adapters::service_bus::{Letter, ServiceBus},
    config,
    domain::{
        command::Order,
        ids::Unit,
        message::{Message, Reason},
    },
    reconcile::{Failure, Here, Outbox, Outcome, Rounds},
};
pub(super) use follow::Goal;
use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::PathBuf,
    sync::Arc,
};
use uuid::Uuid;

/// How many units are worked on at once.
const AT_ONCE: usize = 8;
/// The longest nap between two looks at the clock.
const NAP: SignedDuration = SignedDuration::from_millis(250);

/// How what was asked is carried out.
#[derive(Clone, Debug, clap::Args)]
pub struct How {
    #[command(flatten)]
    pub whose: Whose,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Whose hands carry it out.
#[derive(Clone, Debug, clap::Args)]
pub struct Whose {
    /// Do it from here, without any queue, beside the functions or without them
    #[arg(long)]
    pub local: bool,
    /// Minutes to wait for what takes time, such as an identity that settles
    #[arg(long, value_name = "MINUTES", default_value_t = 30)]
    pub timeout: i64,
    /// Where every write from here (--local) is told, one JSON line each; else forerunner-audit.jsonl beside the policy file
    #[arg(long, value_name = "FILE", requires = "local")]
    pub audit: Option<PathBuf>,
}

pub(super) enum Hands {
    /// This process's own rounds.
    Own { here: Arc<Here>, rounds: Box<Rounds> },
    /// Those of the functions.
    Theirs(ServiceBus),
}

/// What became of an order at once.
pub(super) enum Ordered {
    Queued {
        message_id: String,
    },
    /// What it did or would do, a line each.
    Done(Vec<String>),
}

/// How it ended, of the units that were asked for.
#[derive(Debug, Default)]
pub(super) struct End {
    /// What failed, of a unit or as a whole.
    pub(super) failures: Vec<String>,
    /// Units that are not where they should be, and why, as far as this is known.
    pub(super) undone: BTreeMap<Unit, String>,
}

impl Hands {
    /// Errors: what to print instead.
    pub(super) fn open(whose: &Whose, place: &Place, desk: &AtDesk) -> Result<Self, Answer> {
        if !whose.local {
            return match &desk.service_bus {
                Ok(bus) => Ok(Self::Theirs(bus.clone())),
                Err(missing) => {
                    let text =
                        format!("{missing}; or say --local to do it from here, without any queue");
                    Err(Answer::failed(2, text))
                }
            };
        }
        let settings = place.settings()?;
        place.audited(whose.audit.as_deref())?;
        let here = Arc::new(Here::default());
        let rounds = load::rounds_here(&settings, settings.clock(), Outbox::Here(here.clone()));
        let rounds = Box::new(rounds.map_err(|error| Answer::failed(1, error))?);
        Ok(Self::Own { here, rounds })
    }

    /// Has these units looked at; what comes of it is still to be waited for.
    pub(super) async fn wake(&self, units: &[&Unit], order: &Order) -> Result<(), Failure> {
        match self {
            // From here no list of the whole fleet is needed to find them.
            Self::Own { rounds, .. } => {
                let units = units.iter().map(|unit| (*unit).clone()).collect();
                rounds.wake(units, &order.cause()).await
            }
            Self::Theirs(_) => self.order(order).await.map(drop),
        }
    }

    /// Has parked units looked at.
    pub(super) async fn release(
        &self,
        desk: &AtDesk,
        units: &BTreeSet<Unit>,
    ) -> Result<(), Failure> {
        let outbox = match self {
            Self::Own { here, .. } => Outbox::Here(here.clone()),
            Self::Theirs(bus) => Outbox::Queue(bus.clone()),
        };
        desk.view.wake(&outbox, units.iter().cloned()).await
    }

    /// Has the order carried out; what it wakes is still to be waited for.
    pub(super) async fn order(&self, order: &Order) -> Result<Ordered, Failure> {
        match self {
            Self::Own { rounds, .. } => match rounds.command(order).await {
                Ok(Outcome::Done(lines)) => Ok(Ordered::Done(lines)),
                Ok(Outcome::Failed(text)) => Err(Failure::permanent(text)),
                Err(refused) => Err(Failure::permanent(refused.to_string())),
            },
            Self::Theirs(bus) => {
                let message_id = Uuid::new_v4().to_string();
                let letter = Letter {
                    body: order.encode(),
                    message_id: message_id.clone(),
                    session_id: None,
                    scheduled_for: None,
                };
                bus.send(order.queue(), &[letter]).await?;
                Ok(Ordered::Queued { message_id })
            }
        }
    }

    /// Waits until the units have reached the goal, nothing more is to be expected, or it is `end`. Tells what is done on the
    /// way, a line a step.
    pub(super) async fn see_through(
        &self,
        desk: &AtDesk,
        units: &BTreeSet<Unit>,
        goal: Goal,
        since: Timestamp,
        end: Timestamp,
    ) -> Result<End, Failure> {
        match self {
            Self::Own { here, rounds } => Ok(work_off(desk, here, rounds, end).await),
            Self::Theirs(_) => follow::follow(desk, units, goal, since, end).await,
        }
    }
}

impl Whose {
    /// When waiting ends.
    pub(super) fn end(&self, now: Timestamp) -> Timestamp {
        now.saturating_add(SignedDuration::from_mins(self.timeout)).unwrap_or(Timestamp::MAX)
    }

    /// Why it stops at its end.
    fn stopped(minutes: SignedDuration) -> String {
        format!("stopped after {} minutes; run it again", minutes.as_mins())
    }
}

/// Who is at this desk.
pub(super) fn who() -> String {
    config::user().unwrap_or_else(|| "somebody at a desk".to_owned())
}

async fn work_off(desk: &AtDesk, here: &Here, rounds: &Rounds, end: Timestamp) -> End {
    let began = desk.view.now();
    let mut failures = Vec::new();
    while let Some(next) = here.next_at() {
        let now = desk.view.now();
        if now >= end {
            failures.push(Whose::stopped(now.duration_since(began)));
            break;
        }
        let due = here.due(now);
        if due.is_empty() {
            nap(next.duration_since(now)).await;
            continue;
        }
        let worked = stream::iter(due).map(|message| round(rounds, message));
        let outcomes: Vec<Option<String>> = worked.buffer_unordered(AT_ONCE).collect().await;
        failures.extend(outcomes.into_iter().flatten());
    }
    End { failures, undone: BTreeMap::new() }
}

/// One round; answers what failed.
async fn round(rounds: &Rounds, message: Message) -> Option<String> {
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

async fn nap(at_most: SignedDuration) {
    plan::sleep(at_most.clamp(SignedDuration::ZERO, NAP)).await;
}

/// Progress, as it happens.
fn say(line: &str) {
    // A reader that went away wants no more.
    let _ = writeln!(std::io::stderr(), "{line}");
}
