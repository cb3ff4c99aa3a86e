//! User-assigned managed identities (azure.md §3).

use super::work::{Work, not_found, strings};
use crate::sandbox::azure::{
    answer::{Answer, Answered},
    scope,
    state::{IdentityRecord, State},
};
use serde_json::{Value, json};

const TYPE: &str = "Microsoft.ManagedIdentity/userAssignedIdentities";
/// How many of 100 reads within the lag find a new identity after all.
const SEEN_EARLY_PERCENT: u8 = 30;

pub(super) fn answer(work: &mut Work<'_>, group: &str, name: Option<&str>) -> Answered {
    let Some(name) = name else { return list(work, group) };
    let id = format!("{group}/providers/{TYPE}/{name}");
    match work.call.method.as_str() {
        "GET" => read(work, &id),
        "PUT" => write(work, &id),
        "PATCH" => patch(work, &id),
        "DELETE" => delete(work, &id),
        _ => Err(work.method_not_allowed()),
    }
}

/// All identities at or below `at` that the caller may read.
pub(super) fn list(work: &Work<'_>, at: &str) -> Answered {
    if work.call.method != "GET" {
        return Err(work.method_not_allowed());
    }
    work.require(&format!("{TYPE}/read"), at)?;
    work.require_group(at)?;
    let records = work.state.identities.values();
    let below = records.filter(|record| scope::contains(at, &record.identity.id));
    Ok(work.page(below.map(|record| body(work.state, record)).collect(), "$skiptoken"))
}

fn read(work: &mut Work<'_>, id: &str) -> Answered {
    work.require(&format!("{TYPE}/read"), id)?;
    work.require_group(id)?;
    let found = work.state.identity(id).ok_or_else(|| not_found(id))?;
    let hidden = work.now < found.readable_at;
    if hidden && !work.state.chance(SEEN_EARLY_PERCENT) {
        return Err(not_found(id));
    }
    let found = work.state.identity(id).ok_or_else(|| not_found(id))?;
    Ok(Answer::json(200, body(work.state, found)))
}

fn write(work: &mut Work<'_>, id: &str) -> Answered {
    work.require(&format!("{TYPE}/write"), id)?;
    work.require_group(id)?;
    let name = scope::name(id);
    if !is_name(name) {
        let message = format!("The managed identity name '{name}' is invalid.");
        return Err(Answer::refusal(400, "InvalidResourceName", message));
    }
    let asked = work.call.json();
    let location = asked["location"].as_str().unwrap_or_default();
    if location.is_empty() {
        let message = "The location property is required for this definition.";
        return Err(Answer::refusal(400, "LocationRequired", message));
    }
    let isolation = asked["properties"]["isolationScope"].as_str();
    if isolation.is_some_and(|isolation| isolation != "None" && isolation != "Regional") {
        return Err(Answer::refusal(400, "BadRequest", "isolationScope is None or Regional."));
    }
    let tags = strings(&asked["tags"]);
    let (now, settings) = (work.now, work.settings);
    let status = if let Some(present) = work.state.identity_mut(id) {
        if !present.identity.location.eq_ignore_ascii_case(location) {
            let message = format!(
                "The resource '{name}' already exists in location '{}'. A resource with the same name cannot be created in location '{location}'. Please select a new resource name.",
                present.identity.location
            );
            return Err(Answer::refusal(409, "InvalidResourceLocation", message));
        }
        present.identity.tags = tags;
        200
    } else {
        work.state.create_identity(settings, now, id, location, tags);
        201
    };
    let record = work.state.identity_mut(id).ok_or_else(|| not_found(id))?;
    if let Some(isolation) = isolation {
        record.isolation_scope = isolation.to_owned();
    }
    Ok(changed(work, id, status))
}

fn patch(work: &mut Work<'_>, id: &str) -> Answered {
    work.require(&format!("{TYPE}/write"), id)?;
    work.require_group(id)?;
    let asked = work.call.json();
    let record = work.state.identity_mut(id).ok_or_else(|| not_found(id))?;
    if asked["tags"].is_object() {
        record.identity.tags = strings(&asked["tags"]);
    }
    if let Some(isolation) = asked["properties"]["isolationScope"].as_str() {
        record.isolation_scope = isolation.to_owned();
    }
    Ok(changed(work, id, 200))
}

/// Tells the graph and answers with the identity.
fn changed(work: &mut Work<'_>, id: &str, status: u16) -> Answer {
    work.state.show_identity(work.settings, work.now, id);
    match work.state.identity(id) {
        Some(record) => Answer::json(status, body(work.state, record)),
        None => not_found(id),
    }
}

fn delete(work: &mut Work<'_>, id: &str) -> Answered {
    work.require(&format!("{TYPE}/delete"), id)?;
    work.require_group(id)?;
    if work.state.delete_identity(id).is_none() {
        return Ok(Answer::empty(204));
    }
    work.state.show_identity(work.settings, work.now, id);
    Ok(Answer::empty(200))
}

pub(in crate::sandbox::azure) fn body(state: &State, record: &IdentityRecord) -> Value {
    let identity = &record.identity;
    json!({
        "id": identity.id,
        "location": identity.location,
        "name": identity.name,
        "properties": {
            "tenantId": state.tenant,
            "principalId": identity.principal_id,
            "clientId": identity.client_id,
            "isolationScope": record.isolation_scope,
        },
        "tags": identity.tags,
        "type": TYPE,
    })
}

/// 3 to 128 letters, digits, `-` and `_`, the first a letter or digit.
fn is_name(name: &str) -> bool {
    (3..=128).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}
