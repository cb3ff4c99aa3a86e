//! One thing that is not as its description says.

use boon::{ErrorKind, ValidationError};
use std::fmt;

/// What is wrong. The words are those of `exceptions.toml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// No description has this method and path.
    Undescribed,
    /// The operation declares no such status.
    Status,
    /// A body where none is declared, none where one is, or one that is no JSON.
    Body,
    /// A member or parameter that is not declared.
    Unknown,
    /// A member or parameter that must be there.
    Missing,
    /// A member that only the service sets was sent.
    ReadOnly,
    Type,
    /// Null where the description knows no null.
    Null,
    /// Not one of the listed values, or not the fixed one.
    Enum,
    Pattern,
    Length,
    Range,
    Format,
}

/// Where and what. `value` says where in the value, as a JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) kind: Kind,
    /// Inside the description, such as `definitions/Identity/properties/location`, or the operation and its part, such as
    /// `GET /api/v4/groups/{id} query page`.
    pub(super) at: String,
    /// Always the operation and its part, with the member behind it: the second name under which an exception finds it.
    pub(super) part: String,
    pub(super) value: String,
    pub(super) text: String,
}

impl Violation {
    /// One that is about no value.
    pub(super) fn plain(kind: Kind, part: &str, text: &str) -> Self {
        let [at, part, text] = [part, part, text].map(str::to_owned);
        Self { kind, at, part, value: String::new(), text }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, at, part, text, .. } = self;
        write!(f, "{part}: {text} ({kind:?}")?;
        if at != part {
            write!(f, ", see `{at}`")?;
        }
        f.write_str(")")
    }
}

/// The single findings of one validation; `name` translates a place in the compiled schemas to one in the description.
pub(super) fn leaves(
    error: &ValidationError<'_, '_>,
    part: &str,
    name: &dyn Fn(&str) -> String,
) -> Vec<Violation> {
    let mut found = Vec::new();
    collect(error, part, name, &mut found);
    found
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the library's enum, of which we cause few")]
fn collect(
    error: &ValidationError<'_, '_>,
    part: &str,
    name: &dyn Fn(&str) -> String,
    found: &mut Vec<Violation>,
) {
    for cause in &error.causes {
        collect(cause, part, name, found);
    }
    let at = name(error.schema_url);
    let value = error.instance_location.to_string();
    let mut add = |kind, at: String, value: String, text: String| {
        let part = format!("{part}{}", without_numbers(&value));
        found.push(Violation { kind, at, part, value, text });
    };
    let kind = match &error.kind {
        ErrorKind::AdditionalProperties { got } => {
            for member in got {
                let at = format!("{at}/properties/{member}");
                let value = format!("{value}/{}", escaped(member));
                add(Kind::Unknown, at, value, format!("`{member}` is not declared"));
            }
            return;
        }
        ErrorKind::Required { want } => {
            for member in want {
                let at = format!("{at}/properties/{member}");
                add(Kind::Missing, at, value.clone(), format!("`{member}` is missing"));
            }
            return;
        }
        ErrorKind::FalseSchema => {
            return add(Kind::ReadOnly, at, value, "only the service may set it".to_owned());
        }
        ErrorKind::Type { got: boon::Type::Null, .. } => Kind::Null,
        ErrorKind::Type { .. } => Kind::Type,
        ErrorKind::Enum { .. } | ErrorKind::Const { .. } => Kind::Enum,
        ErrorKind::Pattern { .. } => Kind::Pattern,
        ErrorKind::Format { .. } => Kind::Format,
        ErrorKind::MinLength { .. }
        | ErrorKind::MaxLength { .. }
        | ErrorKind::MinItems { .. }
        | ErrorKind::MaxItems { .. } => Kind::Length,
        ErrorKind::Minimum { .. } | ErrorKind::Maximum { .. } => Kind::Range,
        // Only groups its causes, or a keyword that `translate` never writes.
        kind => {
            assert!(!error.causes.is_empty(), "a keyword nobody translates: {kind}");
            return;
        }
    };
    add(kind, at, value, error.kind.to_string());
}

/// `/0/tags/1` → `//tags/`: all rows of a list are one place.
fn without_numbers(pointer: &str) -> String {
    let is_number = |segment: &str| segment.chars().all(|c| c.is_ascii_digit());
    let segments = pointer.split('/').map(|each| if is_number(each) { "" } else { each });
    segments.collect::<Vec<_>>().join("/")
}

fn escaped(member: &str) -> String {
    member.replace('~', "~0").replace('/', "~1")
}
