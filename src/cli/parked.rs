//! `forerunner parked`: what is kept for a person, why, and what lets it go on.

use super::{
    answer::{Answer, Colour, pretty},
    colour::Paint,
    desk::Place,
    load::AtDesk,
};
use crate::{
    domain::{ids::Unit, records::Kept, standing::from_now, status::Status},
    reconcile::Failure,
};
use serde_json::{Value, json};
use std::io::{IsTerminal, Write};

/// List what is parked and why, look at it, and let it go on.
///
/// Also messages on our queues that were none of ours: they are kept as Secrets, and seeing them takes the right to list
/// Secrets in the managers' namespace.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  forerunner parked list
  forerunner parked show runner/g42-tf
  forerunner parked release runner/g42-tf    needs the setting ServiceBus__fullyQualifiedNamespace
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
    /// Wake parked units now, through the queue
    Release {
        #[arg(value_name = "UNIT", required_unless_present = "all")]
        units: Vec<String>,
        /// Every parked unit
        #[arg(long, conflicts_with = "units")]
        all: bool,
    },
    /// Delete a kept message for good
    Drop {
        #[arg(value_name = "NAME")]
        name: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
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
            true => show_kept(desk, name, *reveal, arguments.json).await,
            false => show_unit(desk, name, arguments.json, paint).await,
        },
        Action::Release { units, all } => release(desk, units, *all, arguments.json).await,
        Action::Drop { name, yes } => drop_kept(desk, name, *yes, ask).await,
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
    if as_json {
        let units: Vec<Value> = units.iter().map(|status| json!({ "unit": status.unit, "path": status.path, "parked": status.parked })).collect();
        let messages: Vec<Value> = kept.iter().map(head).collect();
        let out = pretty(&json!({ "units": units, "messages": messages }));
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
        out.push_str(&format!(
            "  a message to `{}` that is none of ours: {}\n",
            kept.function, kept.reason
        ));
    }
    let line = format!("{} unit(s) parked, {} message(s) kept\n", units.len(), kept.len());
    out.push_str(&line);
    Ok(Answer { code: 0, out, talk })
}

async fn show_unit(
    desk: &AtDesk,
    name: &str,
    as_json: bool,
    paint: Paint,
) -> Result<Answer, Failure> {
    let Ok(unit) = name.parse::<Unit>() else { return Ok(not_a_unit(name)) };
    let statuses = parked(desk).await?;
    let Some(status) = statuses.iter().find(|status| status.unit == unit) else {
        return Ok(Answer::failed(1, format!("`{unit}` is not parked")));
    };
    let Some(parked) = &status.parked else { return Ok(Answer::failed(1, "it is not parked")) };
    let now = desk.view.now();
    let releases = releases(status, &desk.view.fleet().settings().digest);
    if as_json {
        let mut document = json!(status);
        document["releasedBy"] = json!(releases);
        return Ok(Answer::out(pretty(&document)));
    }
    let mut out = format!("{}  {}\n", paint.bold(name), status.path.as_deref().unwrap_or_default());
    out.push_str(&format!("  reason    {}\n", parked.reason));
    out.push_str(&format!("  since     {} ({})\n", parked.since, from_now(parked.since, now)));
    out.push_str(&format!("  tried     {} time(s) again\n", parked.tries));
    out.push_str(&format!("  next try  {} ({})\n", parked.next, from_now(parked.next, now)));
    out.push_str("  goes on with\n");
    releases.iter().for_each(|by| out.push_str(&format!("    {by}\n")));
    if !status.rounds.is_empty() {
        out.push_str("  last rounds\n");
    }
    for round in &status.rounds {
        let end = round.failure.as_deref().unwrap_or("done");
        out.push_str(&format!(
            "    {} by {}: {} step(s), {end}\n",
            round.at,
            round.cause,
            round.did.len()
        ));
    }
    Ok(Answer::out(out))
}

/// What lets a parked unit go on.
fn releases(status: &Status, digest: &str) -> Vec<String> {
    let Some(parked) = &status.parked else { return vec![] };
    let mut by = Vec::new();
    if parked.fleet != digest {
        by.push("the next sweep: fleet.yaml is another than it was parked under".to_owned());
    }
    by.push(format!("the first sweep after {}", parked.next));
    by.push("a changed fleet.yaml".to_owned());
    if let Unit::Runner(key) = &status.unit {
        by.push(format!("a hook for {}", key.target));
    }
    by.push(format!("forerunner parked release {}", status.unit));
    by
}

async fn find_kept(desk: &AtDesk, name: &str) -> Result<Kept, Failure> {
    let found = desk.view.kept().await?.into_iter().find(|kept| kept.name == name);
    found.ok_or_else(|| Failure::permanent(format!("no message is kept as `{name}`")))
}

async fn show_kept(
    desk: &AtDesk,
    name: &str,
    reveal: bool,
    as_json: bool,
) -> Result<Answer, Failure> {
    let kept = find_kept(desk, name).await?;
    let body = match reveal {
        true => String::from_utf8_lossy(&kept.body).into_owned(),
        false => masked(&kept.body),
    };
    if as_json {
        let mut document = head(&kept);
        document["body"] = json!(body);
        return Ok(Answer::out(pretty(&document)));
    }
    let since = kept.since.map_or("an unknown time".to_owned(), |since| since.to_string());
    let id = kept.message_id.as_deref().unwrap_or("(none)");
    Ok(Answer::out(format!(
        "{name}\n  to        {}\n  since     {since}\n  id        {id}\n  reason    {}\n  body      {body}\n",
        kept.function, kept.reason
    )))
}

fn head(kept: &Kept) -> Value {
    json!({
        "name": kept.name,
        "function": kept.function,
        "messageId": kept.message_id,
        "reason": kept.reason,
        "since": kept.since,
        "bytes": kept.body.len(),
    })
}

/// The shape alone: anything in it may be a secret that somebody typed.
fn masked(body: &[u8]) -> String {
    fn shape(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields = fields.iter().map(|(key, value)| (key.clone(), shape(value)));
                Value::Object(fields.collect())
            }
            Value::Array(items) => items.iter().map(shape).collect(),
            Value::Null | Value::Bool(_) => value.clone(),
            Value::String(_) | Value::Number(_) => Value::from("(sensitive)"),
        }
    }
    let shown = match serde_json::from_slice::<Value>(body) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => shape(&value).to_string(),
        Ok(_) | Err(_) => "(sensitive)".to_owned(),
    };
    format!("{shown}  {} bytes; --reveal shows them", body.len())
}

async fn release(
    desk: &AtDesk,
    names: &[String],
    all: bool,
    as_json: bool,
) -> Result<Answer, Failure> {
    let mut asked = Vec::new();
    for name in names {
        match name.parse::<Unit>() {
            Ok(unit) => asked.push(unit),
            Err(_) => return Ok(not_a_unit(name)),
        }
    }
    let bus = match &desk.service_bus {
        Ok(bus) => bus,
        Err(missing) => {
            return Ok(Answer::failed(
                1,
                format!("a unit is woken through the queue, and {missing}"),
            ));
        }
    };
    let parked = parked(desk).await?;
    let is_parked = |unit: &Unit| parked.iter().any(|status| status.unit == *unit);
    let (woken, others): (Vec<Unit>, Vec<Unit>) = match all {
        true => (parked.iter().map(|status| status.unit.clone()).collect(), vec![]),
        false => asked.into_iter().partition(is_parked),
    };
    desk.view.wake(bus, woken.iter().cloned()).await?;
    let mut talk: String =
        others.iter().map(|unit| format!("error: `{unit}` is not parked\n")).collect();
    if !woken.is_empty() {
        talk.push_str(
            "hint: a round looks at each within a minute; what parked it and is still so parks it again\n",
        );
    }
    let out = match as_json {
        true => pretty(&json!({ "woken": woken, "notParked": others })),
        false if woken.is_empty() && others.is_empty() => "nothing is parked\n".to_owned(),
        false => woken.iter().map(|unit| format!("woke {unit}\n")).collect(),
    };
    Ok(Answer { code: u8::from(!others.is_empty()), out, talk })
}

async fn drop_kept(
    desk: &AtDesk,
    name: &str,
    yes: bool,
    ask: impl FnOnce(&str) -> Option<bool>,
) -> Result<Answer, Failure> {
    let kept = find_kept(desk, name).await?;
    let question = format!("Delete `{name}` ({}) for good?", kept.reason);
    match if yes { Some(true) } else { ask(&question) } {
        Some(true) => {}
        Some(false) => return Ok(Answer::failed(1, "nothing was deleted")),
        None => return Ok(Answer::failed(2, "there is nobody to ask: give --yes")),
    }
    desk.view.drop_kept(&kept).await?;
    Ok(Answer::out(format!("deleted {name}\n")))
}

fn not_a_unit(name: &str) -> Answer {
    Answer::failed(
        2,
        format!("`{name}` is no unit, such as runner/g42-tf; `forerunner parked list` names them"),
    )
}
