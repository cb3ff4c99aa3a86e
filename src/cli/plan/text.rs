//! A plan as people read it: like a diff, units that change first by their own order, healthy ones only counted.

use super::{Counts, Shown};
use crate::{
    cli::colour::Paint,
    domain::{fleet::Fleet, status::ConditionKind},
    reconcile::{Action, Change, FieldChange, Preview, Standing},
};
use std::fmt::Write;

/// Fields of one change that are told; more are counted.
const FIELDS_MAX: usize = 20;

pub(super) fn text(shown: &Shown, fleet: &Fleet, colour: bool) -> String {
    let paint = Paint(colour);
    let mut text = String::new();
    for preview in shown.previews.iter().filter(|preview| !is_quiet(preview)) {
        unit(&mut text, preview, paint);
        text.push('\n');
    }
    for clash in &shown.clashes {
        let word = match clash.identity {
            true => paint.red("error: "),
            false => paint.yellow("warning: "),
        };
        line(&mut text, &format!("{word}{clash}"));
    }
    if !shown.clashes.is_empty() {
        line(&mut text, "  give them different tags, or let only one reach the project");
        text.push('\n');
    }
    if !shown.calls.is_empty() {
        let calls: Vec<String> =
            shown.calls.iter().map(|(service, count)| format!("{service} {count}")).collect();
        line(&mut text, &format!("Calls that write: {}", calls.join(", ")));
    }
    line(
        &mut text,
        &paint.bold(&format!("fleet {}: {}", fleet.settings().name, counts(&shown.counts))),
    );
    text
}

/// As it should be: only counted.
fn is_quiet(preview: &Preview) -> bool {
    preview.is_as_it_should_be()
        && preview.needs_administrator().is_none()
        && preview.parked.is_none()
}

fn unit(text: &mut String, preview: &Preview, paint: Paint) {
    let path = preview.path.as_deref().map_or(String::new(), |path| format!("  {path}"));
    let mode = match (preview.observing, preview.frozen_until) {
        (true, _) => "  (observe: nothing is carried out)".to_owned(),
        (false, Some(day)) => format!("  (frozen until {day}: nothing is carried out)"),
        (false, None) => String::new(),
    };
    line(text, &format!("{}{path}{mode}", paint.bold(&preview.unit.to_string())));
    for change in &preview.changes {
        one_change(text, change, paint);
    }
    let mut told = Vec::new();
    match &preview.standing {
        Standing::Blocked { reason } => {
            told.push(reason.clone());
            line(text, &format!("  {} {reason}", paint.red("blocked:")));
        }
        Standing::Unread { reason } => {
            line(text, &format!("  {} it could not be read: {reason}", paint.red("error:")));
        }
        Standing::Waits { what, after } => {
            line(text, &format!("  then: looked at again after {after} s, for {what}"));
        }
        Standing::Settled | Standing::Kept => {}
    }
    if let Some(parked) = &preview.parked {
        let (since, next) = (parked.since, parked.next);
        let words = paint.yellow("parked");
        line(text, &format!("  {words} since {since}, next try {next}: {}", parked.reason));
    }
    // *Progressing* says no more than the changes and the wait do.
    for said in &preview.conditions {
        let administrator = said.kind == ConditionKind::NeedsAdministrator;
        if said.status && administrator {
            line(text, &format!("  {} {}", paint.yellow("administrator:"), said.reason));
            // Each is a command of its own.
            said.message.split("; ").for_each(|step| line(text, &format!("    {step}")));
        } else if !said.status
            && !administrator
            && said.reason != "Progressing"
            && !told.contains(&said.message)
        {
            line(text, &format!("  {:?}: {} ({})", said.kind, said.message, said.reason));
        }
    }
}

fn one_change(text: &mut String, change: &Change, paint: Paint) {
    let sign = match change.action {
        Action::Create => paint.green("+"),
        Action::Change => paint.yellow("~"),
        Action::Delete => paint.red("-"),
        Action::Note => paint.dim("."),
    };
    line(text, &format!("  {sign} {:<10} {}", change.service, change.what));
    for field in change.fields.iter().take(FIELDS_MAX) {
        line(text, &format!("      {}", one_field(field)));
    }
    let more = change.fields.len().saturating_sub(FIELDS_MAX);
    if more > 0 {
        line(text, &format!("      and {more} more"));
    }
}

fn one_field(field: &FieldChange) -> String {
    let FieldChange { path, old, new } = field;
    match (old, new) {
        (Some(old), Some(new)) => format!("{path}: {old} → {new}"),
        (None, Some(new)) => format!("{path}: {new}"),
        (Some(old), None) => format!("{path}: {old} → (gone)"),
        (None, None) => path.clone(),
    }
}

fn counts(counts: &Counts) -> String {
    let mut words = vec![
        format!("{} to create", counts.create),
        format!("{} to change", counts.change),
        format!("{} to delete", counts.delete),
    ];
    let mut some = |count: usize, text: &str| {
        if count > 0 {
            words.push(format!("{count} {text}"));
        }
    };
    let one = counts.needs_administrator == 1;
    some(
        counts.needs_administrator,
        if one { "needs an administrator" } else { "need an administrator" },
    );
    some(counts.blocked, "blocked");
    some(counts.unread, "could not be read");
    some(counts.wait, "on the way");
    some(counts.kept, "left as they are");
    words.push(format!("{} as they should be", counts.as_they_should_be));
    words.join(", ")
}

fn line(text: &mut String, words: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{words}");
}
