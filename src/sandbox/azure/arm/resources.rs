//! Any other resource: kept as it was put, so that a job can show what it may and may not do.

use super::{
    identities,
    work::{Work, not_found},
};
use crate::sandbox::azure::{
    answer::{Answer, Answered},
    scope,
    state::Resource,
};
use serde_json::Value;

/// `GET|HEAD|PUT|PATCH|DELETE` of one resource; `tail` is namespace, type, name and so on.
pub(super) fn answer(work: &mut Work<'_>, group: &str, tail: &[&str]) -> Answered {
    let id = format!("{group}/providers/{}", tail.join("/"));
    let kind = scope::resource_type(&id).unwrap_or_default();
    let method = work.call.method.clone();
    let verb = match method.as_str() {
        "GET" | "HEAD" => "read",
        "PUT" | "PATCH" => "write",
        "DELETE" => "delete",
        _ => return Err(work.method_not_allowed()),
    };
    work.require(&format!("{kind}/{verb}"), &id)?;
    work.require_group(&id)?;
    let present = work.state.resources.get(&scope::lower(&id)).cloned();
    match method.as_str() {
        "GET" | "HEAD" => {
            present.map(|found| Answer::json(200, found.body)).ok_or_else(|| not_found(&id))
        }
        "DELETE" => {
            if work.state.resources.remove(&scope::lower(&id)).is_none() {
                return Ok(Answer::empty(204));
            }
            work.state.show_resource(work.settings, work.now, &id);
            Ok(Answer::empty(200))
        }
        _ if method == "PATCH" && present.is_none() => Err(not_found(&id)),
        _ => Ok(put(work, &id, &kind, present)),
    }
}

fn put(work: &mut Work<'_>, id: &str, kind: &str, present: Option<Resource>) -> Answer {
    let asked = work.call.json();
    let status = if present.is_some() { 200 } else { 201 };
    let shown_id = present.as_ref().map_or_else(|| id.to_owned(), |found| found.id.clone());
    let mut body = match present {
        Some(found) if work.call.method == "PATCH" => found.body,
        Some(_) | None => serde_json::json!({}),
    };
    if let (Some(body), Some(asked)) = (body.as_object_mut(), asked.as_object()) {
        body.extend(asked.clone());
    }
    body["id"] = Value::from(shown_id.as_str());
    body["name"] = Value::from(scope::name(&shown_id));
    body["type"] = Value::from(kind);
    if !body["properties"].is_object() {
        body["properties"] = serde_json::json!({});
    }
    body["properties"]["provisioningState"] = Value::from("Succeeded");
    let resource = Resource { id: shown_id, body: body.clone() };
    work.state.resources.insert(scope::lower(id), resource);
    work.state.show_resource(work.settings, work.now, id);
    Answer::json(status, body)
}

/// All resources of one type at or below `at`; `tail` ends in a type.
pub(super) fn list_type(work: &mut Work<'_>, at: &str, tail: &[&str]) -> Answered {
    let kind = tail.join("/");
    if kind.eq_ignore_ascii_case("Microsoft.ManagedIdentity/userAssignedIdentities") {
        return identities::list(work, at);
    }
    if work.call.method != "GET" || tail.len() != 2 {
        return Err(work.method_not_allowed());
    }
    work.require(&format!("{kind}/read"), at)?;
    work.require_group(at)?;
    let all = work.state.resources.values().filter(|found| scope::contains(at, &found.id));
    let of_kind = all.filter(|found| {
        scope::resource_type(&found.id).is_some_and(|other| other.eq_ignore_ascii_case(&kind))
    });
    Ok(work.page(of_kind.map(|found| found.body.clone()).collect(), "$skiptoken"))
}

/// `GET …/resourceGroups/{name}/resources`: what the caller may read there.
pub(super) fn list_group(work: &mut Work<'_>) -> Answered {
    let path = work.call.path.clone();
    let group = path.rsplit_once('/').map_or("", |(above, _)| above);
    work.require("Microsoft.Resources/subscriptions/resourceGroups/resources/read", group)?;
    work.require_group(group)?;
    let others = work.state.resources.values().map(|found| found.body.clone());
    let identities = work.state.identities.values();
    let identities = identities.map(|record| identities::body(work.state, record));
    let here = others
        .chain(identities)
        .filter(|body| body["id"].as_str().is_some_and(|id| scope::contains(group, id)));
    Ok(work.page(here.collect(), "$skiptoken"))
}
