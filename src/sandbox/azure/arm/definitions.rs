//! Role definitions, to be read.

use super::work::Work;
use crate::sandbox::azure::{
    answer::{Answer, Answered},
    roles::Role,
    scope,
};
use serde_json::{Value, json};

const TYPE: &str = "Microsoft.Authorization/roleDefinitions";

/// `GET {scope}/…/roleDefinitions[/{guid}]`; the list takes `$filter=roleName eq '…'`.
pub(super) fn answer(work: &Work<'_>, at: &str, tail: &[&str]) -> Answered {
    if work.call.method != "GET" {
        return Err(work.method_not_allowed());
    }
    // Everybody who is signed in may read the built-in roles by id.
    if let [id] = tail {
        let found = scope::last_guid(id).and_then(|id| work.state.role(id));
        let found = found.map(|role| Answer::json(200, body(role)));
        return found.ok_or_else(|| {
            let message = format!("The specified role definition with ID '{id}' does not exist.");
            Answer::refusal(404, "RoleDefinitionDoesNotExist", message)
        });
    }
    work.require(&format!("{TYPE}/read"), if at.is_empty() { "/" } else { at })?;
    let filter = work.call.query("$filter").unwrap_or_default().trim();
    let name = filter.strip_prefix("roleName eq ").map(|name| name.trim().trim_matches('\''));
    let roles = work.state.roles.iter().filter(|role| {
        filter.is_empty() || name.is_some_and(|name| role.name.eq_ignore_ascii_case(name))
    });
    Ok(work.page(roles.map(body).collect(), "$skipToken"))
}

fn body(role: &Role) -> Value {
    json!({
        "id": format!("/providers/{TYPE}/{}", role.id),
        "name": role.id,
        "type": TYPE,
        "properties": {
            "roleName": role.name,
            "type": if role.custom { "CustomRole" } else { "BuiltInRole" },
            "assignableScopes": ["/"],
            "permissions": [{
                "actions": role.actions,
                "notActions": role.not_actions,
                "dataActions": role.data_actions,
                "notDataActions": [],
            }],
        },
    })
}
