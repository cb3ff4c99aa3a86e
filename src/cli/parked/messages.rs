//! Messages that nobody could act on: unknown text, which may be a secret that somebody typed.

use crate::{
    cli::{
        answer::{Answer, pretty},
        load::AtDesk,
    },
    config,
    domain::records::Kept,
    reconcile::Failure,
};
use serde_json::{Value, json};

async fn find_kept(desk: &AtDesk, name: &str) -> Result<Kept, Failure> {
    let found = desk.view.kept().await?.into_iter().find(|kept| kept.name == name);
    found.ok_or_else(|| Failure::permanent(format!("no message is kept as `{name}`")))
}

pub(super) async fn show(
    desk: &AtDesk,
    name: &str,
    reveal: bool,
    as_json: bool,
) -> Result<Answer, Failure> {
    let kept = find_kept(desk, name).await?;
    let body = match reveal {
        true => String::from_utf8_lossy(&kept.body).into_owned(),
        false => masked(&kept.body),
    };
    if as_json {
        let mut document = head(&kept);
        document["body"] = json!(body);
        return Ok(Answer::out(pretty(&document)));
    }
    let since = kept.since.map_or("an unknown time".to_owned(), |since| since.to_string());
    let id = kept.message_id.as_deref().unwrap_or("(none)");
    Ok(Answer::out(format!(
        "{name}\n  to        {}\n  since     {since}\n  id        {id}\n  reason    {}\n  body      {body}\n",
        kept.function, kept.reason
    )))
}

pub(super) fn head(kept: &Kept) -> Value {
    json!({
        "name": kept.name,
        "function": kept.function,
        "messageId": kept.message_id,
        "reason": kept.reason,
        "since": kept.since,
        "bytes": kept.body.len(),
    })
}

/// The shape alone: anything in it may be a secret that somebody typed.
fn masked(body: &[u8]) -> String {
    fn shape(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let fields = fields.iter().map(|(key, value)| (key.clone(), shape(value)));
                Value::Object(fields.collect())
            }
            Value::Array(items) => items.iter().map(shape).collect(),
            Value::Null | Value::Bool(_) => value.clone(),
            Value::String(_) | Value::Number(_) => Value::from("(sensitive)"),
        }
    }
    let shown = match serde_json::from_slice::<Value>(body) {
        Ok(value @ (Value::Object(_) | Value::Array(_))) => shape(&value).to_string(),
        Ok(_) | Err(_) => "(sensitive)".to_owned(),
    };
    format!("{shown}  {} bytes; --reveal shows them", body.len())
}

pub(super) async fn drop_for_good(
    desk: &AtDesk,
    name: &str,
    yes: bool,
    as_json: bool,
    ask: impl FnOnce(&str) -> Option<bool>,
) -> Result<Answer, Failure> {
    let kept = find_kept(desk, name).await?;
    if as_json && !yes {
        return Ok(Answer::failed(2, "--json asks nobody: say --yes with it"));
    }
    let question = format!("Delete `{name}` ({}) for good?", kept.reason);
    match if yes { Some(true) } else { ask(&question) } {
        Some(true) => {}
        Some(false) => return Ok(Answer::failed(1, "nothing was deleted")),
        None => return Ok(Answer::failed(2, "there is nobody to ask: give --yes")),
    }
    desk.view.drop_kept(&kept, config::user()).await?;
    Ok(Answer::out(match as_json {
        true => pretty(&json!({ "deleted": name })),
        false => format!("deleted {name}\n"),
    }))
}
