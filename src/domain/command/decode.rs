//! Reads an order strictly: every key known, and none that means nothing for what is asked.

use super::{Deed, Door, Order, Refused};
use crate::domain::{ids::ProfileName, selector::NotASelector};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::error::Category;

/// A hold ends by itself.
const HOLD_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);
const TEXT_MAX: usize = 160;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    command: String,
    #[serde(default)]
    targets: Vec<String>,
    profile: Option<String>,
    by: Option<String>,
    why: Option<String>,
    #[serde(default)]
    dry_run: bool,
    until: Option<String>,
    plan: Option<String>,
}

impl Order {
    /// Reads a body strictly.
    pub fn decode(body: &[u8], door: Door, now: Timestamp) -> Result<Self, Refused> {
        let raw: Raw = serde_json::from_slice(body).map_err(|error| Refused::Shape {
            // serde names the key, or where the text stops being JSON; a value is never shown.
            reason: match error.classify() {
                Category::Data => shape(&error.to_string()),
                Category::Io | Category::Syntax | Category::Eof => {
                    format!("line {}, column {} is no JSON", error.line(), error.column())
                }
            },
        })?;
        let deed = deed(&raw, now)?;
        if deed.door() != door {
            let queue = deed.door().queue();
            return Err(Refused::OtherDoor { deed: deed.as_str(), queue });
        }
        let of = raw.targets.iter().map(|text| text.parse()).collect::<Result<Vec<_>, _>>();
        let of = of.map_err(|_: NotASelector| Refused::Key {
            key: "targets",
            wrong: "holds a word that is no id (`g42`), no path, no pattern (`platform/*`), no unit and not `all`",
        })?;
        let of_units = deed.wants_targets();
        let needless = [
            ("targets", !of.is_empty() && !of_units),
            ("profile", raw.profile.is_some() && !of_units),
            ("until", raw.until.is_some() && !matches!(deed, Deed::Hold { .. })),
            ("plan", raw.plan.is_some() && !matches!(deed, Deed::Confirm { .. })),
        ];
        if let Some((key, _)) = needless.into_iter().find(|(_, needless)| *needless) {
            return Err(Refused::Needless { key, deed: deed.as_str() });
        }
        if of.is_empty() && of_units {
            return Err(Refused::Key {
                key: "targets",
                wrong: "is missing: name ids, paths, patterns, units or `all`",
            });
        }
        let profile = raw.profile.as_deref().map(ProfileName::new).transpose();
        let profile =
            profile.map_err(|_| Refused::Key { key: "profile", wrong: "is no profile's name" })?;
        Ok(Self {
            deed,
            of,
            profile,
            by: said("by", raw.by)?,
            why: said("why", raw.why)?,
            dry_run: raw.dry_run,
            sent_at: None,
        })
    }
}

/// The message up to the value that it quotes.
fn shape(error: &str) -> String {
    let known = ["unknown field", "missing field", "invalid type", "duplicate field"];
    let kind = known.into_iter().find(|kind| error.starts_with(kind)).unwrap_or("a wrong value");
    let place = error.rfind(" at line").map_or("", |at| &error[at..]);
    format!("{kind}{place}")
}

fn deed(raw: &Raw, now: Timestamp) -> Result<Deed, Refused> {
    Ok(match raw.command.as_str() {
        "sweep" => Deed::Sweep,
        "reprovision" => Deed::Reprovision,
        "pause" => Deed::Pause,
        "resume" => Deed::Resume,
        "remove" => Deed::Remove,
        "revoke" => Deed::Revoke,
        "hold" => Deed::Hold { until: until(raw, now)? },
        "confirm" => match (&raw.plan, raw.targets.is_empty()) {
            (Some(id), true) if id.len() <= 64 && !id.is_empty() => {
                Deed::Confirm { plan: id.clone() }
            }
            (None, false) => Deed::ConfirmUnits,
            (Some(_) | None, _) => {
                return Err(Refused::Key {
                    key: "plan",
                    wrong: "is to be the id of the parked plan (`forerunner parked list`), or `targets` the units to confirm, and not both",
                });
            }
        },
        "rotate" => return Err(Refused::NotYet("rotate")),
        _ => return Err(Refused::Unknown),
    })
}

fn until(raw: &Raw, now: Timestamp) -> Result<Timestamp, Refused> {
    let until = raw.until.as_deref().and_then(|text| text.parse::<Timestamp>().ok());
    let until = until.ok_or(Refused::Key {
        key: "until",
        wrong: "is missing or no time such as 2026-12-01T08:00:00Z",
    })?;
    let left = until.duration_since(now);
    if !left.is_positive() || left > HOLD_MAX {
        return Err(Refused::Key { key: "until", wrong: "does not lie within the next 7 days" });
    }
    Ok(until)
}

fn said(key: &'static str, text: Option<String>) -> Result<String, Refused> {
    let text = text.unwrap_or_default();
    let fine = !text.trim().is_empty()
        && text.chars().count() <= TEXT_MAX
        && !text.chars().any(char::is_control);
    if fine {
        Ok(text)
    } else {
        Err(Refused::Key { key, wrong: "is missing, or no text of one line and 160 characters" })
    }
}
