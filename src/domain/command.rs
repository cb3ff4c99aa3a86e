//! What an operator asks for by a message of their own: typed by hand into the portal, or sent by the CLI.
//!
//! `{"command":"remove","targets":["platform/payments"],"profile":"plan","by":"jane","why":"SEC-1182","dryRun":true}`
//! Service Bus does not tell who sent a message: *who* and *why* are recorded as claimed.

mod decode;

use super::{
    ids::{ProfileName, Unit},
    selector::Selector,
};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::fmt;

/// Which queue it came by: each has a send right of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// `commands`: what can be undone.
    Commands,
    /// `approvals`: what destroys or overrides.
    Approvals,
}

impl Door {
    /// The queue's name.
    pub fn queue(self) -> &'static str {
        match self {
            Self::Commands => "commands",
            Self::Approvals => "approvals",
        }
    }
}

/// What is asked for, of whom, by whom and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub deed: Deed,
    pub of: Vec<Selector>,
    /// Only runners of this profile.
    pub profile: Option<ProfileName>,
    pub by: String,
    pub why: String,
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// When it came in, as its queue has it; `None`: now.
    pub sent_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Look over the whole fleet now.
    Sweep,
    /// Look at these anew, parked or not.
    Reprovision,
    /// Let GitLab give these runners no job.
    Pause,
    /// Let them have jobs again, unless a round paused them, and release what is parked.
    Resume,
    /// Take these away, without the grace.
    Remove,
    /// Make the tokens of these runners worthless, and give their managers others.
    Revoke,
    /// Write nothing to these until then.
    Hold { until: Timestamp },
    /// Let the parked plan of this id go ahead.
    Confirm { plan: String },
    /// Permit what the rounds of these stop at: their removal, or an entity of theirs that somebody polls with.
    ConfirmUnits,
}

impl Deed {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Sweep => "sweep",
            Self::Reprovision => "reprovision",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Remove => "remove",
            Self::Revoke => "revoke",
            Self::Hold { .. } => "hold",
            Self::Confirm { .. } | Self::ConfirmUnits => "confirm",
        }
    }

    fn door(&self) -> Door {
        match self {
            Self::Sweep | Self::Reprovision | Self::Pause | Self::Resume => Door::Commands,
            Self::Remove
            | Self::Revoke
            | Self::Hold { .. }
            | Self::Confirm { .. }
            | Self::ConfirmUnits => Door::Approvals,
        }
    }

    fn wants_targets(&self) -> bool {
        !matches!(self, Self::Sweep | Self::Confirm { .. })
    }

    /// Whether it can be done to such a unit. An identity that is not ours can only be looked at.
    pub fn is_for(&self, unit: &Unit) -> bool {
        match unit {
            Unit::Runner(_) => true,
            Unit::Domain(_) => !matches!(self, Self::Pause | Self::Resume | Self::Revoke),
            Unit::Identity(_) => *self == Self::Reprovision,
            Unit::Target(_) => false,
        }
    }
}

/// Why a message asks for nothing that is done. Names our keys and words, never the message's own text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("it is not a JSON object with the keys that a command has: {reason}")]
    Shape { reason: String },
    #[error(
        "`command` is none of sweep, reprovision, pause, resume, remove, revoke, hold and confirm"
    )]
    Unknown,
    #[error("this version does not act on `{0}` yet")]
    NotYet(&'static str),
    #[error("`{deed}` belongs on the queue `{queue}`, which has a send right of its own")]
    OtherDoor { deed: &'static str, queue: &'static str },
    #[error("`{key}` {wrong}")]
    Key { key: &'static str, wrong: &'static str },
    #[error("`{key}` is not for `{deed}`")]
    Needless { key: &'static str, deed: &'static str },
    #[error(
        "word {word} of `targets` means nothing that `{deed}` could be done to: `forerunner status` lists the units of the fleet"
    )]
    Nobody { word: usize, deed: &'static str },
    #[error("`profile` is none of fleet.yaml, and no unit of the fleet is of it")]
    NoProfile,
}

impl Order {
    /// The message that `decode` reads this from.
    pub fn encode(&self) -> String {
        let mut body = Map::from_iter([
            ("command".to_owned(), json!(self.deed.as_str())),
            ("by".to_owned(), json!(self.by)),
            ("why".to_owned(), json!(self.why)),
        ]);
        if !self.of.is_empty() {
            let targets: Vec<String> = self.of.iter().map(ToString::to_string).collect();
            body.insert("targets".to_owned(), json!(targets));
        }
        if let Some(profile) = &self.profile {
            body.insert("profile".to_owned(), json!(profile.to_string()));
        }
        if self.dry_run {
            body.insert("dryRun".to_owned(), json!(true));
        }
        match &self.deed {
            Deed::Hold { until } => drop(body.insert("until".to_owned(), json!(until))),
            Deed::Confirm { plan } => drop(body.insert("plan".to_owned(), json!(plan))),
            Deed::Sweep
            | Deed::Reprovision
            | Deed::Pause
            | Deed::Resume
            | Deed::Remove
            | Deed::Revoke
            | Deed::ConfirmUnits => {}
        }
        Value::Object(body).to_string()
    }

    /// The queue that takes it.
    pub fn queue(&self) -> &'static str {
        self.deed.door().queue()
    }

    /// What began all that follows from it: at most 256 characters.
    pub fn cause(&self) -> String {
        format!("{} by {}: {}", self.deed.as_str(), self.by, self.why).chars().take(256).collect()
    }

    /// Who asked for it, as claimed, where a command is the cause.
    pub fn claimed_in(cause: &str) -> Option<&str> {
        let (deed, rest) = cause.split_once(" by ")?;
        let (by, _why) = rest.split_once(": ")?;
        (!deed.is_empty() && deed.bytes().all(|byte| byte.is_ascii_lowercase())).then_some(by)
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dry = if self.dry_run { " (dry run)" } else { "" };
        write!(f, "{}{dry}", self.cause())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T08:00:00Z".parse().unwrap()
    }

    fn read(body: &str, door: Door) -> Result<Order, String> {
        Order::decode(body.as_bytes(), door, now()).map_err(|refused| refused.to_string())
    }

    #[test]
    fn a_command_says_what_of_whom_by_whom_and_why() {
        let order = read(
            r#"{"command":"hold","targets":["g42","platform/*","runner/p7-plan","all"],"by":"jane","why":"SEC-1","until":"2026-11-30T08:00:00Z"}"#,
            Door::Approvals,
        )
        .unwrap();
        assert_eq!(order.cause(), "hold by jane: SEC-1");
        assert_eq!(Order::claimed_in(&order.cause()), Some("jane"));
        for cause in ["sweep-1763971200", "apply", "9a1f: by jane: x", "A word by jane: x"] {
            assert_eq!(Order::claimed_in(cause), None, "{cause}");
        }
        let of: Vec<String> = order.of.iter().map(ToString::to_string).collect();
        assert_eq!(of, ["g42", "platform/*", "runner/p7-plan", "all"]);
        let is_for = |deed: Deed, unit: &str| deed.is_for(&unit.parse().unwrap());
        assert!(is_for(Deed::Revoke, "runner/g42-plan") && !is_for(Deed::Revoke, "domain/plan"));
        assert!(is_for(Deed::Remove, "domain/plan") && !is_for(Deed::Remove, "identity/id-tf.1a"));
        assert!(is_for(Deed::Reprovision, "identity/id-tf.1a"));
    }

    #[test]
    fn what_is_encoded_reads_as_it_was() {
        for (body, door) in [
            (r#"{"command":"sweep","by":"jane","why":"a \"word\""}"#, Door::Commands),
            (
                r#"{"command":"reprovision","targets":["identity/id-tf.1a2b3c4d","i","platform/*"],"by":"j","why":"x","profile":"plan","dryRun":true}"#,
                Door::Commands,
            ),
            (
                r#"{"command":"hold","targets":["g42","domain/plan","all"],"by":"jane","why":"SEC-1","until":"2026-11-30T08:00:00Z"}"#,
                Door::Approvals,
            ),
            (
                r#"{"command":"confirm","plan":"0123456789ab","by":"jane","why":"x"}"#,
                Door::Approvals,
            ),
            (r#"{"command":"confirm","targets":["p7"],"by":"jane","why":"x"}"#, Door::Approvals),
            (r#"{"command":"revoke","targets":["g42"],"by":"jane","why":"x"}"#, Door::Approvals),
        ] {
            let order = read(body, door).unwrap();
            assert_eq!(order.queue(), door.queue());
            assert_eq!(read(&order.encode(), door).as_ref(), Ok(&order), "{body}");
        }
    }

    #[test]
    fn a_mistake_is_named_and_nothing_of_the_message_shown() {
        let (commands, approvals) = (Door::Commands, Door::Approvals);
        let said = r#""by":"jane","why":"x""#;
        for (body, door, words) in [
            ("{\"command\":\"sweep\",", commands, "no JSON"),
            (r#"{"command":"sweep","secret-word":1}"#, commands, "unknown field"),
            (r#"{"by":"jane"}"#, commands, "missing field"),
            (&format!(r#"{{"command":"swep",{said}}}"#), commands, "none of sweep"),
            (&format!(r#"{{"command":"rotate",{said}}}"#), commands, "not act on `rotate`"),
            (
                &format!(r#"{{"command":"remove","targets":["all"],{said}}}"#),
                commands,
                "`approvals`",
            ),
            (&format!(r#"{{"command":"pause",{said}}}"#), commands, "`targets` is missing"),
            (
                &format!(r#"{{"command":"pause","targets":["a//b"],{said}}}"#),
                commands,
                "`targets` holds",
            ),
            (r#"{"command":"sweep","why":"x"}"#, commands, "`by` is missing"),
            (r#"{"command":"sweep","by":"jane","why":" "}"#, commands, "`why` is missing"),
            (&format!(r#"{{"command":"hold","targets":["all"],{said}}}"#), approvals, "`until`"),
            (
                &format!(
                    r#"{{"command":"hold","targets":["all"],"until":"2026-12-24T08:00:00Z",{said}}}"#
                ),
                approvals,
                "within the next 7 days",
            ),
            (&format!(r#"{{"command":"confirm",{said}}}"#), approvals, "`plan` is to be"),
            (
                &format!(r#"{{"command":"confirm","plan":"1","targets":["g1"],{said}}}"#),
                approvals,
                "not both",
            ),
            (
                &format!(r#"{{"command":"sweep","targets":["all"],{said}}}"#),
                commands,
                "`targets` is not for `sweep`",
            ),
            (
                &format!(
                    r#"{{"command":"pause","targets":["all"],"until":"2026-11-24T09:00:00Z",{said}}}"#
                ),
                commands,
                "`until` is not for `pause`",
            ),
            (
                &format!(r#"{{"command":"revoke","targets":["all"],"plan":"1",{said}}}"#),
                approvals,
                "`plan` is not for `revoke`",
            ),
        ] {
            let refused = read(body, door).unwrap_err();
            assert!(refused.contains(words), "{body}: {refused}");
            assert!(!refused.contains("secret-word") && !refused.contains("swep"), "{refused}");
        }
    }
}
