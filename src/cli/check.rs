//! `forerunner check`: validates a fleet's files and says what they mean, without reaching for anything outside.

use super::{
    answer::{Answer, Colour, pretty},
    meaning::Meaning,
};
use crate::domain::{
    fleet::{self, Fleet, Guardrails, Problem, Severity},
    render::manager_cluster_role,
};
use jiff::Timestamp;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Validate fleet.yaml (and guardrails.yaml beside it) and print what it means.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  forerunner check                        fleet.yaml here
  forerunner check policy/fleet.yaml --json
  forerunner check --rights               what administrators give
  forerunner check --schema > fleet.schema.json")]
pub struct Check {
    /// The fleet's file; guardrails.yaml beside it is read too if it is there.
    #[arg(default_value = "fleet.yaml")]
    pub file: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Print the JSON Schema of the file and stop.
    #[arg(long, conflicts_with = "rights")]
    pub schema: bool,
    /// Print what administrators give: the condition on forerunner's right to assign roles, and the managers' ClusterRole.
    #[arg(long)]
    pub rights: bool,
}

/// Runs the subcommand on the real terminal.
pub fn run(arguments: &Check, now: Timestamp) -> u8 {
    answer(arguments, now, Colour::here()).print()
}

/// The same without a terminal.
pub fn answer(arguments: &Check, now: Timestamp, colour: Colour) -> Answer {
    if arguments.schema {
        return Answer { code: 0, out: pretty(fleet::schema()), talk: String::new() };
    }
    let (fleet_yaml, guardrails_yaml) = match read(&arguments.file) {
        Ok(texts) => texts,
        Err(reason) => {
            let hint = "hint: name the file, `forerunner check FILE`";
            return Answer {
                code: 2,
                out: String::new(),
                talk: format!("error: {reason}\n{hint}\n"),
            };
        }
    };
    let (fleet, problems) = match Fleet::parse(&fleet_yaml, guardrails_yaml.as_deref(), now) {
        Ok((fleet, problems)) => (Some(fleet), problems),
        Err(problems) => (None, problems),
    };
    let failed = problems.iter().any(|problem| problem.severity != Severity::Warning);
    let code = u8::from(failed);
    let talk = if arguments.json && !arguments.rights {
        String::new()
    } else {
        talk(&problems, colour.talk)
    };
    let Some(fleet) = fleet else {
        let out =
            if arguments.json { pretty(&json!({ "problems": problems })) } else { String::new() };
        return Answer { code, out, talk };
    };
    let out = match (arguments.rights, arguments.json) {
        (true, json) => rights(&fleet, json),
        (false, true) => {
            let mut meaning = serde_json::to_value(Meaning::of(&fleet)).unwrap_or_default();
            meaning["problems"] = json!(problems);
            pretty(&meaning)
        }
        (false, false) => Meaning::of(&fleet).text(colour.out),
    };
    Answer { code, out, talk }
}

/// The condition on forerunner's own *Role Based Access Control Administrator*: only the roles of the guardrails, only for
/// service principals, never for itself. `{principal}` stands for forerunner's own object id.
///
/// A write is judged on `@Request`, a deletion on `@Resource`. Source: azure.md §5.8;
/// <https://learn.microsoft.com/azure/role-based-access-control/delegate-role-assignments-examples>
pub fn delegation_condition(guardrails: &Guardrails) -> String {
    let roles: Vec<String> = guardrails.roles.iter().map(|(_, id)| id.to_string()).collect();
    let roles = roles.join(", ");
    let half = |action: &str, source: &str| {
        let attribute =
            |name: &str| format!("@{source}[Microsoft.Authorization/roleAssignments:{name}]");
        format!(
            "((!(ActionMatches{{'Microsoft.Authorization/roleAssignments/{action}'}})) OR ({} \
             ForAnyOfAnyValues:GuidEquals {{{roles}}} AND {} ForAnyOfAnyValues:StringEqualsIgnoreCase \
             {{'ServicePrincipal'}} AND {} ForAnyOfAllValues:GuidNotEquals {{{{principal}}}}))",
            attribute("RoleDefinitionId"),
            attribute("PrincipalType"),
            attribute("PrincipalId"),
        )
    };
    format!("{} AND {}", half("write", "Request"), half("delete", "Resource"))
}

fn rights(fleet: &Fleet, json: bool) -> String {
    let name = &fleet.settings().cluster.manager_cluster_role;
    let cluster_role = manager_cluster_role(name, &fleet.sample_runners()).body;
    let guardrails = fleet.guardrails();
    let condition = (!guardrails.roles.is_empty()).then(|| delegation_condition(guardrails));
    let scopes: Vec<&str> = guardrails.scopes.iter().map(|scope| scope.as_str()).collect();
    if json {
        return pretty(&json!({
            "role": "Role Based Access Control Administrator",
            "conditionVersion": "2.0",
            "condition": condition,
            "scopes": scopes,
            "clusterRole": cluster_role,
        }));
    }
    let mut text = String::new();
    match &condition {
        Some(condition) => {
            text.push_str(
                "# forerunner's right to assign roles: Role Based Access Control Administrator with this condition\n\
                 # (version 2.0; put forerunner's own object id for {principal}), on each of:\n",
            );
            scopes.iter().for_each(|scope| text.push_str(&format!("#   {scope}\n")));
            text.push_str(condition);
            text.push('\n');
        }
        None => text
            .push_str("# guardrails.roles is empty: forerunner needs no right to assign roles\n"),
    }
    text.push_str("\n# The managers' ClusterRole, for kubectl apply -f -\n");
    text.push_str(&pretty(&cluster_role));
    text
}

fn read(file: &Path) -> Result<(String, Option<String>), String> {
    let cannot =
        |path: &Path, error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let fleet = std::fs::read_to_string(file).map_err(|error| cannot(file, error))?;
    let beside = file.with_file_name("guardrails.yaml");
    match std::fs::read_to_string(&beside) {
        Ok(guardrails) => Ok((fleet, Some(guardrails))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok((fleet, None)),
        Err(error) => Err(cannot(&beside, error)),
    }
}

fn talk(problems: &[Problem], colour: bool) -> String {
    let mut sorted: Vec<&Problem> = problems.iter().collect();
    sorted.sort_by_key(|problem| (problem.file, problem.line, problem.column));
    let paint = |text: String, severity: Severity| match (colour, severity) {
        (false, _) => text,
        (true, Severity::Error | Severity::Blocked) => {
            text.replacen("error:", "\x1b[31merror:\x1b[0m", 1)
        }
        (true, Severity::Warning) => text.replacen("warning:", "\x1b[33mwarning:\x1b[0m", 1),
    };
    sorted.into_iter().map(|problem| paint(format!("{problem}\n"), problem.severity)).collect()
}
