//! Subscriptions and resource groups.

use super::work::Work;
use crate::sandbox::azure::{
    answer::{Answer, Answered},
    scope,
    state::{Resource, Subscription},
};
use serde_json::{Value, json};

const GROUPS: &str = "Microsoft.Resources/subscriptions/resourceGroups";

/// Those in which the caller has any right at all.
pub(super) fn list(work: &Work<'_>) -> Answered {
    let all = work.state.subscriptions.values();
    let seen = all.filter(|subscription| sees(work, &subscription.id));
    Ok(work.page(seen.map(|subscription| body(work, subscription)).collect(), "$skiptoken"))
}

pub(super) fn get(work: &Work<'_>, id: &str) -> Answered {
    if !sees(work, id) {
        work.require("Microsoft.Resources/subscriptions/read", &format!("/subscriptions/{id}"))?;
    }
    let found = work.state.subscriptions.get(&id.to_ascii_lowercase());
    found.map(|found| Answer::json(200, body(work, found))).ok_or_else(|| work.not_routed())
}

fn sees(work: &Work<'_>, id: &str) -> bool {
    let at = format!("/subscriptions/{id}");
    work.may("Microsoft.Resources/subscriptions/read", &at)
        || work.state.assignments.values().any(|record| {
            record.assignment.principal_id == work.caller.principal_id
                && scope::contains(&at, &record.assignment.scope)
        })
}

fn body(work: &Work<'_>, subscription: &Subscription) -> Value {
    json!({
        "id": format!("/subscriptions/{}", subscription.id),
        "subscriptionId": subscription.id,
        "tenantId": work.state.tenant,
        "displayName": subscription.name,
        "state": "Enabled",
    })
}

/// `GET|PUT|HEAD|DELETE …/resourceGroups/{name}`, `GET …/resourceGroups`.
pub(super) fn groups(work: &mut Work<'_>, name: Option<&str>) -> Answered {
    let id = work.call.path.clone();
    let method = work.call.method.clone();
    let Some(name) = name else {
        let subscription = id.rsplit_once('/').map_or("", |(above, _)| above).to_owned();
        work.require(&format!("{GROUPS}/read"), &subscription)?;
        let all = work.state.groups.values();
        let below = all.filter(|group| scope::contains(&subscription, &group.id));
        let bodies = below.map(|group| group.body.clone()).collect();
        return Ok(work.page(bodies, "$skiptoken"));
    };
    let present = work.state.groups.get(&scope::lower(&id)).cloned();
    let missing = || {
        let message = format!("Resource group '{name}' could not be found.");
        Answer::refusal(404, "ResourceGroupNotFound", message)
    };
    match method.as_str() {
        "GET" => {
            work.require(&format!("{GROUPS}/read"), &id)?;
            present.map(|group| Answer::json(200, group.body)).ok_or_else(missing)
        }
        "HEAD" => {
            work.require(&format!("{GROUPS}/read"), &id)?;
            Ok(Answer::empty(if present.is_some() { 204 } else { 404 }))
        }
        "PUT" => {
            work.require(&format!("{GROUPS}/write"), &id)?;
            let asked = work.call.json();
            let Some(location) = asked["location"].as_str() else {
                let message = "The location property is required for this definition.";
                return Err(Answer::refusal(400, "LocationRequired", message));
            };
            let status = if present.is_some() { 200 } else { 201 };
            let shown_id = present.map_or_else(|| id.clone(), |group| group.id);
            let body = group_body(&shown_id, location, &asked["tags"]);
            let group = Resource { id: shown_id, body: body.clone() };
            work.state.groups.insert(scope::lower(&id), group);
            Ok(Answer::json(status, body))
        }
        _ => Err(work.method_not_allowed()),
    }
}

pub(in crate::sandbox::azure) fn group_body(id: &str, location: &str, tags: &Value) -> Value {
    json!({
        "id": id,
        "name": scope::name(id),
        "type": "Microsoft.Resources/resourceGroups",
        "location": location,
        "tags": if tags.is_object() { tags.clone() } else { json!({}) },
        "properties": {"provisioningState": "Succeeded"},
    })
}
