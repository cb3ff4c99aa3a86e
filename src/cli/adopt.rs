//! `forerunner adopt --fleet`: takes over what this fleet made under another installation id.

use super::{
    answer::{Answer, pretty},
    desk::{self, Place},
    load::AtDesk,
    parked,
};
use crate::{
    config,
    domain::{ids::Unit, names},
    reconcile::{Adoption, Failure, Outbox},
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::{
    cell::RefCell, collections::BTreeSet, fmt::Write as _, path::PathBuf, process::ExitCode,
};

/// Take over what this fleet made in a cluster that is gone.
///
/// The installation id is the uid of the managers' namespace: a rebuilt cluster has another one, and what GitLab and Azure
/// hold still bears the old. Lists that, asks, rewrites the markers and permits new tokens, as the old ones went with the
/// cluster's Secrets. May be stopped and run again. Never while the old cluster still runs.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  forerunner adopt --fleet --dry-run
  forerunner adopt --fleet

Exit codes: 0 done, or nothing to do; 1 something failed; 2 misused or declined.")]
pub struct Adopt {
    /// All of it: a fleet is of one installation
    #[arg(long, required = true)]
    pub fleet: bool,
    /// Only list it
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
    /// Print JSON; needs --yes or --dry-run
    #[arg(long)]
    pub json: bool,
    /// Settings as KEY=value lines; else the environment's
    #[arg(long, value_name = "FILE")]
    pub env_file: Option<PathBuf>,
    /// The policy file, elsewhere called --fleet; else what FORERUNNER_FLEET says, or fleet.yaml
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Where every write is told, one JSON line each; else forerunner-audit.jsonl beside the policy file
    #[arg(long, value_name = "FILE")]
    pub audit: Option<PathBuf>,
}

impl Adopt {
    fn place(&self) -> Place {
        Place { env_file: self.env_file.clone(), fleet: self.policy.clone() }
    }
}

/// A poll this young says that somebody still runs with the old tokens.
const ALIVE: SignedDuration = SignedDuration::from_mins(70);

/// Runs the subcommand on the real terminal.
pub async fn run(arguments: &Adopt) -> ExitCode {
    let place = arguments.place();
    let told = match arguments.dry_run {
        true => Ok(()),
        false => place.audited(arguments.audit.as_deref()),
    };
    match told {
        Ok(()) => desk::run(&place, async |desk| answer(arguments, desk, parked::ask).await).await,
        Err(answer) => ExitCode::from(answer.print()),
    }
}

/// Lists, asks, and takes over.
pub async fn answer(
    arguments: &Adopt,
    desk: &AtDesk,
    ask: impl FnOnce(&str) -> Option<bool>,
) -> Answer {
    match work(arguments, desk, ask).await {
        Ok(answer) => answer,
        Err(failure) => Answer::failed(1, failure.text),
    }
}

async fn work(
    arguments: &Adopt,
    desk: &AtDesk,
    ask: impl FnOnce(&str) -> Option<bool>,
) -> Result<Answer, Failure> {
    let adoption = desk.view.adoption().await?;
    let now = desk.view.now();
    let listed = if arguments.json { pretty(&json(&adoption)) } else { text(&adoption, now) };
    let nothing = adoption.entities.is_empty() && adoption.identities.is_empty();
    if nothing || arguments.dry_run {
        return Ok(Answer::out(listed));
    }
    if arguments.json && !arguments.yes {
        return Ok(Answer::failed(2, "--json asks nobody: say --yes or --dry-run with it"));
    }
    if !arguments.yes {
        let question = format!("{listed}Make these installation {}'s?", adoption.installation);
        match ask(&question) {
            Some(true) => {}
            Some(false) => return Ok(Answer::failed(2, "nothing was changed")),
            None => return Ok(Answer::failed(2, "there is nobody to ask: give --yes")),
        }
    }
    let done = RefCell::new(Vec::new());
    desk.view.adopt(&adoption, config::user(), |line| done.borrow_mut().push(line)).await?;
    let done = done.into_inner();
    let woken = wake(&adoption, desk).await?;
    let out = if arguments.json {
        pretty(&json!({ "adopted": json(&adoption), "did": done }))
    } else {
        let did: String = done.iter().map(|line| format!("{line}\n")).collect();
        let next = match woken {
            true => "A round looks at each within a minute.",
            false => {
                "No queue is configured here: `forerunner parked release --all --local` lets rounds go on."
            }
        };
        format!("{did}{next}\n")
    };
    Ok(Answer::out(out))
}

/// What was parked for its old marker goes on at once. Answers whether there is a queue to say so.
async fn wake(adoption: &Adoption, desk: &AtDesk) -> Result<bool, Failure> {
    let Ok(bus) = &desk.service_bus else { return Ok(false) };
    let runners = adoption.entities.iter().map(|orphan| Unit::Runner(orphan.marker.key.clone()));
    let tagged = adoption.identities.iter().filter_map(|one| one.tags.get(names::TAG_KEY));
    let units: BTreeSet<Unit> =
        runners.chain(tagged.filter_map(|key| names::unit_of_key(key))).collect();
    desk.view.wake(&Outbox::Queue(bus.clone()), units).await?;
    Ok(true)
}

fn text(adoption: &Adoption, now: Timestamp) -> String {
    let mut out = String::new();
    for orphan in &adoption.entities {
        let polled = match orphan.contacted_at {
            Some(at) if now.duration_since(at) < ALIVE => {
                format!("POLLED WITH at {at}: is the old cluster gone?")
            }
            Some(at) => format!("last polled with at {at}"),
            None => "never polled with".to_owned(),
        };
        let (runner, marker) = (orphan.runner, &orphan.marker);
        let _ = writeln!(
            out,
            "  ~ GitLab runner {runner}, `{}` of installation {}; a new token; {polled}",
            marker.key, marker.installation
        );
    }
    for identity in &adoption.identities {
        let of = identity.tags.get(names::TAG_INSTALLATION).map_or("", String::as_str);
        let _ = writeln!(out, "  ~ Azure identity {} of installation {of}", identity.id.name());
    }
    let _ = writeln!(
        out,
        "{} runner(s) and {} identities of other installations; this one is {}",
        adoption.entities.len(),
        adoption.identities.len(),
        adoption.installation
    );
    out
}

fn json(adoption: &Adoption) -> Value {
    let entities: Vec<Value> = adoption
        .entities
        .iter()
        .map(|orphan| {
            json!({
                "runner": orphan.runner.0,
                "unit": format!("runner/{}", orphan.marker.key),
                "installation": orphan.marker.installation.0,
                "contactedAt": orphan.contacted_at,
            })
        })
        .collect();
    let identities: Vec<Value> = adoption
        .identities
        .iter()
        .map(|one| {
            json!({ "id": one.id.to_string(), "installation": one.tags.get(names::TAG_INSTALLATION) })
        })
        .collect();
    json!({
        "installation": adoption.installation.0,
        "runners": entities,
        "identities": identities,
    })
}
