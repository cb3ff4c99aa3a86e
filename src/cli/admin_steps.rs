//! `forerunner admin-steps`: what only a person with more rights may do, as commands or as Terraform.

mod rights;
mod terraform;

use super::{
    answer::{Answer, Colour, pretty},
    colour::Paint,
    desk::Place,
    load::AtDesk,
};
use crate::domain::{
    fleet::Fleet,
    fleet_status::{Finding, is_command},
    render::administrator::{AdministratorInput, administrator},
    status::{ConditionKind, Status},
};
use crate::reconcile::Told;
use rights::Right;
use serde_json::{Value, json};
use uuid::Uuid;

/// List what only an administrator may do, as exact commands or Terraform.
///
/// First what units wait for now, then what an installation needs once: forerunner's rights in Azure, and what is applied
/// in the cluster.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(after_help = "Examples:
  forerunner admin-steps --principal 00000000-0000-4000-8000-000000000001
  forerunner admin-steps --now              only what units wait for
  forerunner admin-steps --terraform > forerunner-rights.tf")]
pub struct AdminSteps {
    /// Object id of forerunner's own identity; without it PRINCIPAL stands in its place
    #[arg(long, value_name = "OBJECT-ID")]
    pub principal: Option<Uuid>,
    /// Only what units wait for now
    #[arg(long, conflicts_with = "terraform")]
    pub now: bool,
    /// Print a Terraform file
    #[arg(long, conflicts_with = "json")]
    pub terraform: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub place: Place,
}

/// What one unit waits for.
pub(super) struct Waiting<'a> {
    pub(super) status: &'a Status,
    pub(super) reason: &'a str,
    /// Commands, or words where there is none.
    pub(super) steps: Vec<&'a str>,
}

pub async fn answer(arguments: &AdminSteps, desk: &AtDesk, colour: Colour) -> Answer {
    let fleet = desk.view.fleet();
    // Before the cluster has anything, the rest is what a person is after.
    let (told, talk) = match desk.view.told().await {
        Ok(told) => (told, String::new()),
        Err(failure) => {
            let talk = format!("warning: what units wait for is not shown: {}\n", failure.text);
            (Told::default(), talk)
        }
    };
    let waiting = waiting(&told.units);
    let found = told.fleet.as_ref().map_or(&[][..], |whole| whole.findings.as_slice());
    let (rights, objects) = match arguments.now {
        true => (vec![], vec![]),
        false => (rights::of(fleet), objects(fleet, arguments.principal)),
    };
    let out = if arguments.terraform {
        terraform::file(&rights, &waiting, found, &objects, arguments.principal)
    } else if arguments.json {
        pretty(&as_json(&rights, &waiting, found, &objects))
    } else {
        let all = (!arguments.now).then_some((rights.as_slice(), objects.as_slice()));
        text(&waiting, found, all, arguments.principal, Paint(colour.out))
    };
    // Asked for what units wait for and nothing else, not to know it is a failure.
    let code = u8::from(arguments.now && !talk.is_empty());
    Answer { code, out, talk }
}

fn waiting(statuses: &[Status]) -> Vec<Waiting<'_>> {
    let told = statuses.iter().filter_map(|status| {
        let condition = status.condition(ConditionKind::NeedsAdministrator)?;
        let steps = condition.message.split("; ").collect();
        condition.status.then_some(Waiting { status, reason: &condition.reason, steps })
    });
    let mut waiting: Vec<Waiting<'_>> = told.collect();
    waiting.sort_by(|left, right| left.status.unit.cmp(&right.status.unit));
    waiting
}

/// What is applied in the cluster, in that order.
fn objects(fleet: &Fleet, principal: Option<Uuid>) -> Vec<Value> {
    let settings = fleet.settings();
    let user = principal.map_or_else(|| PRINCIPAL.to_owned(), |id| id.to_string());
    let privileged = fleet.privileged_namespaces();
    let input = AdministratorInput {
        fleet: &settings.name,
        managers_namespace: &settings.cluster.managers_namespace,
        manager_cluster_role: &settings.cluster.manager_cluster_role,
        forerunner_user: &user,
        privileged_namespaces: &privileged,
    };
    administrator(&input, &fleet.sample_runners())
}

/// Stands for forerunner's object id where nobody gave it.
const PRINCIPAL: &str = "PRINCIPAL";

fn text(
    waiting: &[Waiting<'_>],
    found: &[Finding],
    all: Option<(&[Right], &[Value])>,
    principal: Option<Uuid>,
    paint: Paint,
) -> String {
    let mut text = String::new();
    let heading = |text: &mut String, words: &str| {
        let words = format!("# {words}");
        text.push_str(&format!("{}\n", paint.bold(&words)));
    };
    match waiting {
        [] => heading(&mut text, "No unit waits for an administrator"),
        [_, ..] => heading(&mut text, "What units wait for"),
    }
    for Waiting { status, reason, steps } in waiting {
        let path = status.path.as_deref().map_or(String::new(), |path| format!(" ({path})"));
        text.push_str(&format!("# {}{path}: {reason}\n", status.unit));
        steps.iter().for_each(|step| text.push_str(&line(step)));
    }
    if !found.is_empty() {
        heading(&mut text, "What the fleet as a whole waits for");
    }
    for finding in found {
        text.push_str(&format!(
            "# {:?}: {}\n{}",
            finding.kind,
            finding.message,
            line(&finding.remedy)
        ));
    }
    let Some((rights, objects)) = all else { return text };
    text.push('\n');
    heading(&mut text, "forerunner's own rights in Azure, once");
    for right in rights {
        text.push_str(&format!("# {}\n{}\n", right.purpose, right.command(principal)));
    }
    text.push('\n');
    heading(&mut text, "In the cluster, once, and again when a profile needs more of its managers");
    text.push_str("kubectl apply -f - <<'OBJECTS'\n");
    text.push_str(&pretty(&json!({ "apiVersion": "v1", "kind": "List", "items": objects })));
    text.push_str("OBJECTS\n");
    text
}

/// A command as it is typed; words as a comment.
fn line(step: &str) -> String {
    let comment = if is_command(step) { "" } else { "# " };
    format!("{comment}{step}\n")
}

fn as_json(
    rights: &[Right],
    waiting: &[Waiting<'_>],
    found: &[Finding],
    objects: &[Value],
) -> Value {
    let waiting: Vec<Value> = waiting
        .iter()
        .map(|one| json!({ "unit": one.status.unit, "path": one.status.path, "reason": one.reason, "steps": one.steps }))
        .collect();
    let rights: Vec<Value> = rights
        .iter()
        .map(|right| json!({ "role": right.role, "scope": right.scope, "condition": right.condition, "purpose": right.purpose }))
        .collect();
    json!({ "waiting": waiting, "found": found, "rights": rights, "objects": objects })
}
