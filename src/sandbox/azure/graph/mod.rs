//! Resource Graph: a late, filtered view of what ARM holds (azure.md §10.4, §12.10).

pub(super) mod index;
mod query;

use super::{
    answer::{Answer, Answered},
    arm::Work,
    scope,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use index::Table;
use query::Query;
use serde_json::{Value, json};

const TOP_MAX: usize = 1000;
const TOP_DEFAULT: usize = 100;

/// `POST /providers/Microsoft.ResourceGraph/resources`.
pub(super) fn answer(work: &mut Work<'_>) -> Answered {
    if work.call.method != "POST" {
        return Err(Answer::refusal(405, "HttpMethodNotSupported", "Use POST."));
    }
    let (left, resets) = work.state.graph.count(work.now);
    let with_quota = |answer: Answer| {
        answer
            .with_header("x-ms-user-quota-remaining", left.unwrap_or(0).to_string())
            .with_header("x-ms-user-quota-resets-after", format!("00:00:{resets:02}"))
    };
    if left.is_none() && work.settings.throttling {
        let message = "Too many queries in the present window.";
        let refusal = Answer::refusal(429, "RateLimiting", message);
        return Err(with_quota(refusal.with_header("retry-after", resets.to_string())));
    }
    Ok(with_quota(run(work)?))
}

fn run(work: &mut Work<'_>) -> Answered {
    let body = work.call.json();
    let text = body["query"].as_str().unwrap_or_default();
    let query = Query::parse(text).map_err(|why| {
        Answer::refusal(400, "BadRequest", format!("The query is not understood: {why}."))
    })?;
    let options = &body["options"];
    let top = options["$top"].as_u64().and_then(|top| usize::try_from(top).ok());
    let top = top.unwrap_or(TOP_DEFAULT);
    if !(1..=TOP_MAX).contains(&top) {
        let message = format!("$top must be between 1 and {TOP_MAX}.");
        return Err(Answer::refusal(400, "BadRequest", message));
    }
    let start = match options["$skipToken"].as_str() {
        Some(token) => start(token).ok_or_else(|| {
            Answer::refusal(400, "BadRequest", "The $skipToken is not one of ours.")
        })?,
        None => 0,
    };
    let subscriptions: Option<Vec<String>> = body["subscriptions"].as_array().map(|named| {
        named.iter().filter_map(|id| id.as_str().map(str::to_ascii_lowercase)).collect()
    });
    let rows = work.state.graph.rows(query.table, work.now);
    let seen = rows.into_iter().filter(|row| {
        subscriptions.as_ref().is_none_or(|named| {
            row["subscriptionId"].as_str().is_some_and(|id| named.iter().any(|one| one == id))
        }) && may_read(work, query.table, row)
    });
    let rows = query.run(seen.collect());
    let total = rows.len();
    let data: Vec<Value> = rows.into_iter().skip(start).take(top).collect();
    let more = start + data.len() < total;
    let mut answer = json!({
        "totalRecords": total,
        "count": data.len(),
        "resultTruncated": if more && !query.projects_id() { "true" } else { "false" },
        "facets": [],
        "data": data,
    });
    if more && query.projects_id() {
        answer["$skipToken"] = json!(STANDARD.encode(format!("row {}", start + top)));
    }
    Ok(Answer::json(200, answer))
}

fn start(token: &str) -> Option<usize> {
    let text = String::from_utf8(STANDARD.decode(token).ok()?).ok()?;
    text.strip_prefix("row ")?.parse().ok()
}

/// A lost right looks like an empty world.
fn may_read(work: &Work<'_>, table: Table, row: &Value) -> bool {
    match table {
        Table::Resources => {
            let id = row["id"].as_str().unwrap_or_default();
            let kind = scope::resource_type(id).unwrap_or_default();
            work.may(&format!("{kind}/read"), id)
        }
        Table::Authorization => {
            let at = row["properties"]["scope"].as_str().unwrap_or_default();
            work.may("Microsoft.Authorization/roleAssignments/read", at)
        }
    }
}
