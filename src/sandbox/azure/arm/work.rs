//! One call that has passed the door: what its handler needs.

use crate::sandbox::azure::{
    ARM_HOST, Settings, answer::Answer, authorization, call::Call, condition::Judged, scope,
    state::State, token::Caller,
};
use jiff::Timestamp;
use serde_json::{Value, json};

pub(in crate::sandbox::azure) struct Work<'work> {
    pub(in crate::sandbox::azure) settings: &'work Settings,
    pub(in crate::sandbox::azure) state: &'work mut State,
    pub(in crate::sandbox::azure) call: &'work Call,
    pub(in crate::sandbox::azure) caller: &'work Caller,
    pub(in crate::sandbox::azure) now: Timestamp,
}

impl Work<'_> {
    pub(super) fn require(&self, action: &str, at: &str) -> Result<(), Answer> {
        authorization::require(self.state, self.caller, action, at)
    }

    pub(in crate::sandbox::azure) fn may(&self, action: &str, at: &str) -> bool {
        let judged = Judged::default();
        authorization::may(self.state, self.caller.principal_id, action, at, &judged)
    }

    /// 404 unless the resource group of `id`, where it has one, exists.
    pub(super) fn require_group(&self, id: &str) -> Result<(), Answer> {
        let (Some(subscription), Some(group)) =
            (scope::segment(id, "subscriptions"), scope::segment(id, "resourceGroups"))
        else {
            return Ok(());
        };
        let key = scope::lower(&format!("/subscriptions/{subscription}/resourceGroups/{group}"));
        if self.state.groups.contains_key(&key) {
            return Ok(());
        }
        let message = format!("Resource group '{group}' could not be found.");
        Err(Answer::refusal(404, "ResourceGroupNotFound", message))
    }

    /// One page of `items` with the absolute link to the next; `token` is the query's name for where it starts.
    pub(super) fn page(&self, items: Vec<Value>, token: &str) -> Answer {
        let start = self.call.query(token).and_then(|text| text.parse().ok()).unwrap_or(0_usize);
        let asked =
            self.call.query("$top").and_then(|text| text.parse().ok()).unwrap_or(usize::MAX);
        let size = asked.min(self.settings.page_size).max(1);
        let total = items.len();
        let value: Vec<Value> = items.into_iter().skip(start).take(size).collect();
        let mut body = json!({"value": value});
        if start.saturating_add(size) < total {
            body["nextLink"] = json!(self.call.next_link(ARM_HOST, token, start + size));
        }
        Answer::json(200, body)
    }

    pub(super) fn not_routed(&self) -> Answer {
        let message = format!("No route of this sandbox takes {}.", self.call.path);
        Answer::refusal(404, "InvalidResourceType", message)
    }

    pub(super) fn method_not_allowed(&self) -> Answer {
        let message =
            format!("The http method '{}' is not supported for this resource.", self.call.method);
        Answer::refusal(405, "HttpMethodNotSupported", message)
    }
}

/// The 404 of a resource that is not there.
pub(super) fn not_found(id: &str) -> Answer {
    let kind = scope::resource_type(id).unwrap_or_default();
    let group = scope::segment(id, "resourceGroups").unwrap_or_default();
    let message = format!(
        "The Resource '{kind}/{}' under resource group '{group}' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
        scope::name(id)
    );
    Answer::refusal(404, "ResourceNotFound", message)
}

/// The string members of an object: tags.
pub(super) fn strings(value: &Value) -> std::collections::BTreeMap<String, String> {
    let members = value.as_object().into_iter().flatten();
    members.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}
