//! The app service's token endpoint (azure.md §2.1).

use super::{
    Azure,
    answer::{Answer, Answered},
    call::Call,
    token,
};
use axum::{body::Body, http::Request};
use jiff::SignedDuration;
use serde_json::json;
use std::time::Duration;
use subtle::ConstantTimeEq;
use uuid::Uuid;

/// How long such a token lives.
const LIFETIME: Duration = Duration::from_hours(24);
/// The platform gives the stored token again until this long before its end.
const RENEWED_BEFORE_END: SignedDuration = SignedDuration::from_mins(5);

pub(super) async fn answer(azure: &Azure, request: Request<Body>) -> Answer {
    let call = Call::read(request).await;
    give(azure, &call).unwrap_or_else(|refusal| refusal)
}

fn give(azure: &Azure, call: &Call) -> Answered {
    if call.path != "/msi/token" || call.method != "GET" {
        return Err(refusal(404, "there is nothing here but GET /msi/token"));
    }
    let header = call.header("x-identity-header").unwrap_or_default();
    let expected = azure.identity_header();
    if !bool::from(header.as_bytes().ct_eq(expected.as_bytes())) {
        return Err(refusal(401, "the header X-IDENTITY-HEADER is missing or wrong"));
    }
    if call.query("api-version") != Some("2019-08-01") {
        return Err(refusal(400, "the query needs api-version=2019-08-01"));
    }
    let resource = call.query("resource").unwrap_or_default();
    if !token::is_known(resource) {
        return Err(refusal(400, "the query's resource is missing or unknown"));
    }
    let (client_id, principal_id) = named(azure, call)
        .ok_or_else(|| refusal(400, "this app has no managed identity by that id"))?;
    let now = azure.0.clock.now();
    let key = (client_id, resource.to_owned());
    let stored = azure.state().stored_tokens.get(&key).cloned();
    let fresh = stored.filter(|(_, end)| end.duration_since(now) > RENEWED_BEFORE_END);
    let (text, expires_at) = if let Some(fresh) = fresh {
        fresh
    } else {
        let issued = token::issue(azure, principal_id, client_id, resource, LIFETIME);
        azure.state().stored_tokens.insert(key, (issued.text.clone(), issued.expires_at));
        (issued.text, issued.expires_at)
    };
    Ok(Answer::json(
        200,
        json!({
            "access_token": text,
            "expires_on": expires_at.as_second().to_string(),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": client_id,
        }),
    ))
}

/// The identity that the query names. Naming none asks for the system-assigned one, which this app does not have.
fn named(azure: &Azure, call: &Call) -> Option<(Uuid, Uuid)> {
    let by_client = call.query("client_id");
    let by_principal = call.query("principal_id").or_else(|| call.query("object_id"));
    let state = azure.state();
    let mut attached = state.attached.iter().map(|(client, principal)| (*client, *principal));
    match (by_client, by_principal) {
        (Some(id), None) => {
            let id = Uuid::parse_str(id).ok()?;
            attached.find(|(client, _)| *client == id)
        }
        (None, Some(id)) => {
            let id = Uuid::parse_str(id).ok()?;
            attached.find(|(_, principal)| *principal == id)
        }
        (Some(_), Some(_)) | (None, None) => None,
    }
}

fn refusal(status: u16, message: &str) -> Answer {
    Answer::json(status, json!({"statusCode": status, "message": message}))
}
