//! The report as lines for a spreadsheet: RFC 4180, and no cell that a spreadsheet would take for a formula.

use super::{giver_word, kind_word, standing_word};
use crate::reconcile::{AccessReport, IdentityAccess, Reach, Right};

const HEADER: [&str; 20] = [
    "fleet",
    "identity",
    "kind",
    "identity_id",
    "principal_id",
    "role",
    "role_id",
    "scope",
    "given_by",
    "given_by_principal",
    "standing",
    "condition",
    "exception",
    "exception_until",
    "target",
    "path",
    "profile",
    "branches",
    "isolation",
    "held",
];

/// One line a right and a target whose jobs have it; an identity without either still has a line.
pub(super) fn of(fleet: &str, report: &AccessReport) -> String {
    let mut text = line(&HEADER.map(str::to_owned));
    for identity in &report.identities {
        let rights: Vec<Option<&Right>> = or_none(&identity.rights);
        for right in rights {
            for reach in or_none(&identity.reached_by) {
                text.push_str(&line(&cells(fleet, identity, right, reach)));
            }
        }
    }
    text
}

fn or_none<T>(all: &[T]) -> Vec<Option<&T>> {
    match all {
        [] => vec![None],
        all => all.iter().map(Some).collect(),
    }
}

fn cells(
    fleet: &str,
    identity: &IdentityAccess,
    right: Option<&Right>,
    reach: Option<&Reach>,
) -> [String; 20] {
    let of_right = |cell: &dyn Fn(&Right) -> String| right.map(cell).unwrap_or_default();
    let of_reach = |cell: &dyn Fn(&Reach) -> String| reach.map(cell).unwrap_or_default();
    let exceptions = |part: &dyn Fn(&crate::reconcile::Answerable) -> String| {
        of_right(&|right| right.exceptions.iter().map(part).collect::<Vec<_>>().join("; "))
    };
    [
        fleet.to_owned(),
        identity.id.name().to_owned(),
        kind_word(identity.kind).to_owned(),
        identity.id.to_string(),
        identity.principal_id.map(|id| id.to_string()).unwrap_or_default(),
        of_right(&|right| right.role.clone()),
        of_right(&|right| right.role_id.to_string()),
        of_right(&|right| right.scope.to_string()),
        of_right(&|right| giver_word(right.given_by).to_owned()),
        of_right(&|right| right.given_by_principal.map(|id| id.to_string()).unwrap_or_default()),
        of_right(&|right| standing_word(right.standing).to_owned()),
        of_right(&|right| right.condition.clone().unwrap_or_default()),
        exceptions(&|one| one.name.clone()),
        exceptions(&|one| one.until.to_string()),
        of_reach(&|reach| reach.target.to_string()),
        of_reach(&|reach| reach.path.clone()),
        of_reach(&|reach| reach.profile.to_string()),
        of_reach(&|reach| if reach.protected { "protected" } else { "every" }.to_owned()),
        of_reach(&|reach| reach.isolation.to_owned()),
        of_reach(&|reach| reach.held.clone().unwrap_or_default()),
    ]
}

fn line(cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| quoted(&harmless(cell))).collect();
    format!("{}\r\n", cells.join(","))
}

/// A spreadsheet calculates what begins so; with an apostrophe before it, it is text.
fn harmless(cell: &str) -> String {
    match cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => format!("'{cell}"),
        false => cell.to_owned(),
    }
}

fn quoted(cell: &str) -> String {
    match cell.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_text_to_any_spreadsheet_and_reads_back() {
        let check = |cell: &str, expected: &str| {
            assert_eq!(line(&[cell.to_owned(), "x".to_owned()]), format!("{expected},x\r\n"));
        };
        check("platform/payments", "platform/payments");
        check("a,b", "\"a,b\"");
        check("say \"no\"\nnever", "\"say \"\"no\"\"\nnever\"");
        check("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\"");
        check("@SUM(1)", "'@SUM(1)");
        check("-1", "'-1");
        check("+1", "'+1");
        check("", "");
    }
}
