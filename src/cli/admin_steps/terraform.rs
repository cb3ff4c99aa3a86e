//! The same as a file for Terraform: `azurerm_role_assignment` and `kubernetes_manifest`.

use super::{Waiting, rights::Right};
use crate::domain::{fleet_status::Finding, names};
use serde_json::Value;
use std::fmt::Write;
use uuid::Uuid;

const PRINCIPAL: &str = "var.forerunner_principal_id";

pub(super) fn file(
    rights: &[Right],
    waiting: &[Waiting<'_>],
    found: &[Finding],
    objects: &[Value],
    principal: Option<Uuid>,
) -> String {
    let mut text = String::from(
        "# Written by `forerunner admin-steps --terraform`. Providers: hashicorp/azurerm, hashicorp/kubernetes.\n\n",
    );
    let default = principal.map_or(String::new(), |id| format!("  default     = \"{id}\"\n"));
    block(
        &mut text,
        &format!(
            "variable \"forerunner_principal_id\" {{\n  description = \"Object id of forerunner's own identity\"\n  type        = string\n{default}}}"
        ),
    );
    for vault in rights.iter().filter_map(Right::vault) {
        block(
            &mut text,
            &format!(
                "variable \"vault_id_{}\" {{\n  description = \"ARM id of the vault {vault}\"\n  type        = string\n}}",
                slug(vault)
            ),
        );
    }
    for right in rights {
        let scope = match right.vault() {
            Some(vault) => format!("var.vault_id_{}", slug(vault)),
            None => quoted(&right.scope),
        };
        let condition = right.condition.as_ref().map(|condition| {
            quoted(condition).replace("{principal}", &format!("${{{PRINCIPAL}}}"))
        });
        assignment(&mut text, right.purpose, right.role, &scope, PRINCIPAL, condition.as_deref());
    }
    for one in waiting {
        for step in &one.steps {
            let unit = one.status.unit.to_string();
            match Grant::read(step) {
                Some(grant) => {
                    let (scope, principal) = (quoted(grant.scope), quoted(grant.principal));
                    assignment(&mut text, &unit, grant.role, &scope, &principal, None);
                }
                None => block(&mut text, &format!("# {unit}: {step}")),
            }
        }
    }
    for finding in found {
        let Finding { kind, message, remedy, .. } = finding;
        block(&mut text, &format!("# {kind:?}: {message}\n# {remedy}"));
    }
    for object in objects {
        let kind = object["kind"].as_str().unwrap_or_default();
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let mut object = object.clone();
        // What the provider refuses to be given.
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
        }
        let body = format!("{object:#}").replace("${", "$${").replace("%{", "%%{");
        let resource = format!("{}_{}", slug(kind), slug(name));
        block(
            &mut text,
            &format!(
                "resource \"kubernetes_manifest\" \"{resource}\" {{\n  manifest = jsondecode(<<-OBJECT\n{body}\nOBJECT\n  )\n}}"
            ),
        );
    }
    text
}

/// `scope`, `principal` and `condition` are expressions.
fn assignment(
    text: &mut String,
    purpose: &str,
    role: &str,
    scope: &str,
    principal: &str,
    condition: Option<&str>,
) {
    let digest = &names::hash(&format!("{role}|{scope}|{principal}"))[..8];
    let condition = condition.map_or(String::new(), |condition| {
        format!("  condition_version    = \"2.0\"\n  condition            = {condition}\n")
    });
    block(
        text,
        &format!(
            "# {purpose}\nresource \"azurerm_role_assignment\" \"{}_{digest}\" {{\n  scope                = {scope}\n  role_definition_name = {}\n  principal_id         = {principal}\n  principal_type       = \"ServicePrincipal\"\n{condition}}}",
            slug(role),
            quoted(role)
        ),
    );
}

/// What a step of ours asks for, if it asks for a role.
struct Grant<'a> {
    role: &'a str,
    scope: &'a str,
    principal: &'a str,
}

impl<'a> Grant<'a> {
    fn read(step: &'a str) -> Option<Self> {
        let rest = step.strip_prefix("az role assignment create ")?;
        let value = |option: &str| {
            let (_, after) = rest.split_once(&format!("{option} "))?;
            match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').map(|(value, _)| value),
                None => after.split(' ').next(),
            }
        };
        let principal = value("--assignee-object-id")?;
        Some(Self { role: value("--role")?, scope: value("--scope")?, principal })
    }
}

/// A string of Terraform's, without templates.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", text.replace("${", "$${").replace("%{", "%%{"))
}

/// Letters, digits and underscores: a name of Terraform's.
fn slug(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    text.chars().map(plain).collect()
}

fn block(text: &mut String, block: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "{block}\n");
}
