//! `forerunner report access`: who may do what in Azure through the fleet's jobs, for an auditor.

mod csv;

use super::{
    answer::{Answer, Colour, pretty},
    colour::Paint,
    desk::{self, Place},
    load::AtDesk,
};
use crate::reconcile::{
    AccessReport, Giver, IdentityAccess, IdentityKind, Reach, Right, RightStanding,
};
use serde_json::json;

/// Answer questions about the whole fleet, from what is there now.
#[derive(Clone, Debug, clap::Args)]
pub struct Report {
    #[command(subcommand)]
    pub about: About,
}

#[derive(Clone, Debug, clap::Subcommand)]
pub enum About {
    Access(Access),
}

/// Show every identity that jobs sign in with: its rights, who gave them, and whose jobs they are.
///
/// Reads GitLab's groups and projects, the fleet's identities, and the role assignments that forerunner may see; a right
/// elsewhere is shown as Resource Graph knows it, some minutes late.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  forerunner report access                       every identity
  forerunner report access 'platform/*'          those that jobs of these groups sign in with
  forerunner report access --csv > access.csv    for a spreadsheet, one line a right and group
  forerunner report access --json                for a program

Exit codes: 0 all of it, 1 something could not be read (stderr says what), 2 misused.")]
pub struct Access {
    /// A path or pattern (platform/payments, 'platform/*'), a target (g42, p7, instance) or a unit (runner/g42-tf)
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Print JSON
    #[arg(long, conflicts_with = "csv")]
    pub json: bool,
    /// Print CSV (RFC 4180)
    #[arg(long)]
    pub csv: bool,
    #[command(flatten)]
    pub place: Place,
}

pub async fn answer(arguments: &Access, desk: &AtDesk, colour: Colour) -> Answer {
    let selectors = match desk::selectors(&arguments.targets) {
        Ok(selectors) => selectors,
        Err(answer) => return answer,
    };
    let report = match desk.view.access(&selectors).await {
        Ok(report) => report,
        Err(failure) => return Answer::failed(1, failure.text),
    };
    let fleet = desk.view.fleet().settings().name.to_string();
    let out = if arguments.json {
        let mut document = json!(report);
        document["fleet"] = json!(fleet);
        pretty(&document)
    } else if arguments.csv {
        csv::of(&fleet, &report)
    } else {
        text(&fleet, &report, Paint(colour.out))
    };
    let warned = report.problems.iter().map(|problem| format!("warning: not read: {problem}\n"));
    Answer { code: u8::from(!report.problems.is_empty()), out, talk: warned.collect() }
}

fn text(fleet: &str, report: &AccessReport, paint: Paint) -> String {
    let rights = || report.identities.iter().flat_map(|one| &one.rights);
    let count = |standing| rights().filter(|right| right.standing == standing).count();
    let heading = format!(
        "fleet {fleet}: {} identit{}; {} right(s) as asked, {} that nobody asked for, {} missing",
        report.identities.len(),
        if report.identities.len() == 1 { "y" } else { "ies" },
        count(RightStanding::AsAsked),
        count(RightStanding::NotAsked),
        count(RightStanding::Missing),
    );
    let mut text = format!("{}\n", paint.bold(&heading));
    for identity in &report.identities {
        text.push_str(&of_identity(identity, paint));
    }
    text
}

fn of_identity(identity: &IdentityAccess, paint: Paint) -> String {
    let principal = match identity.principal_id {
        Some(principal) => format!("principal {principal}"),
        None => "not there".to_owned(),
    };
    let name = paint.bold(identity.id.name());
    let mut text = format!("\n{name}  {}, {principal}\n", kind_word(identity.kind));
    if identity.reached_by.is_empty() {
        text.push_str("  no job signs in as it\n");
    }
    for reach in &identity.reached_by {
        text.push_str(&format!("  jobs of {}\n", of_reach(reach)));
    }
    let width = |of: fn(&Right) -> usize| identity.rights.iter().map(of).max().unwrap_or_default();
    let roles = width(|right| right.role.len());
    let scopes = width(|right| right.scope.as_str().len());
    if identity.rights.is_empty() {
        text.push_str("  no right that forerunner sees\n");
    }
    for right in &identity.rights {
        let line = format!(
            "{:<roles$}  {:<scopes$}  {:<11}  {}",
            right.role,
            right.scope,
            giver_word(right.given_by),
            standing_word(right.standing),
        );
        let line = match right.standing {
            RightStanding::AsAsked => line,
            RightStanding::Missing => paint.yellow(&line),
            RightStanding::NotAsked => paint.red(&line),
        };
        text.push_str(&format!("  {line}{}\n", of_details(right)));
    }
    text
}

fn of_reach(reach: &Reach) -> String {
    let path = if reach.path.is_empty() { "every project" } else { &reach.path };
    let branches = if reach.protected { "protected branches" } else { "every branch" };
    let mut text = format!("{path} ({}, profile {}), {branches}", reach.target, reach.profile);
    if reach.isolation == "profile" {
        text.push_str(", shared by the profile");
    }
    if reach.one_of_several {
        text.push_str(", or another of its list");
    }
    if let Some(held) = &reach.held {
        text.push_str(&format!("; takes none now: {held}"));
    }
    text
}

fn of_details(right: &Right) -> String {
    let mut text = String::new();
    if let Some(by) = right.given_by_principal {
        text.push_str(&format!("  by {by}"));
    }
    if right.condition.is_some() {
        text.push_str("  under a condition");
    }
    for exception in &right.exceptions {
        let end = if exception.ended { "ended" } else { "until" };
        text.push_str(&format!("  {} {end} {}", exception.name, exception.until));
    }
    text
}

fn kind_word(kind: IdentityKind) -> &'static str {
    match kind {
        IdentityKind::Managed => "managed",
        IdentityKind::Existing => "existing",
    }
}

fn giver_word(giver: Giver) -> &'static str {
    match giver {
        Giver::Forerunner => "forerunner",
        Giver::Others => "others",
        Giver::Nobody => "nobody",
    }
}

fn standing_word(standing: RightStanding) -> &'static str {
    match standing {
        RightStanding::AsAsked => "as asked",
        RightStanding::Missing => "missing",
        RightStanding::NotAsked => "not asked",
    }
}
