//! Lists in pages.
//! Source: <https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks>

use super::{kinds::Kind, selectors::Selector, status::Status, store::State};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// What a list asks for.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Empty for all namespaces.
    pub(super) namespace: String,
    pub(super) selector: Selector,
    /// 0 for no limit.
    pub(super) limit: usize,
    pub(super) continued: String,
}

/// One page. Errors: 410 for a continue token from before the last compaction, 400 for one that is none.
pub(super) fn list(state: &State, kind: &Kind, wanted: &Wanted) -> Result<Value, Status> {
    let namespace = (!wanted.namespace.is_empty()).then_some(wanted.namespace.as_str());
    let (version, start) = match wanted.continued.as_str() {
        "" => (state.version(), None),
        token => {
            let (version, start) = read_token(token).ok_or_else(|| {
                Status::bad_request("continue key is not valid: no token of this server")
            })?;
            if version < state.compacted && version != AT_PRESENT {
                return Err(Status::expired(write_token(AT_PRESENT, &start)));
            }
            (version, Some(start))
        }
    };
    let place = |object: &Value| {
        let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
        (text("namespace"), text("name"))
    };
    let mut found: Vec<&Value> = state
        .list(kind.plural, namespace)
        .filter(|object| start.as_ref().is_none_or(|start| place(object) > *start))
        .filter(|object| wanted.selector.matches(object))
        .collect();
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if wanted.limit > 0 && found.len() > wanted.limit {
        metadata["remainingItemCount"] = (found.len() - wanted.limit).into();
        found.truncate(wanted.limit);
        if let Some(last) = found.last() {
            metadata["continue"] = write_token(version, &place(last)).into();
        }
    }
    // The items of a list of built-in kinds do not repeat what the list says.
    let items: Vec<Value> = found
        .into_iter()
        .cloned()
        .map(|mut item| {
            if let Some(fields) = item.as_object_mut() {
                fields.remove("kind");
                fields.remove("apiVersion");
            }
            item
        })
        .collect();
    Ok(json!({
        "kind": format!("{}List", kind.kind), "apiVersion": kind.api_version(),
        "metadata": metadata, "items": items,
    }))
}

/// The version of a token that goes on with whatever there is.
const AT_PRESENT: u64 = 0;

fn write_token(version: u64, (namespace, name): &(String, String)) -> String {
    let token = json!({"v": "meta.k8s.io/v1", "rv": version, "start": [namespace, name]});
    URL_SAFE_NO_PAD.encode(token.to_string())
}

fn read_token(token: &str) -> Option<(u64, (String, String))> {
    let token: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let text = |index: usize| token["start"][index].as_str().map(str::to_owned);
    Some((token["rv"].as_u64()?, (text(0)?, text(1)?)))
}
