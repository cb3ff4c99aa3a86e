//! Entra's token endpoint: exchanges a service account's token for an Azure token (azure.md §4.4).

mod assertion;
pub(super) mod issuers;
mod refusal;

use super::{
    Azure,
    answer::{Answer, Answered},
    call::Call,
    state::{Credential, State},
    token,
};
use assertion::Assertion;
use axum::{body::Body, http::Request};
use refusal::refuse;
use serde_json::json;
use std::time::Duration;
use uuid::Uuid;

/// How long an exchanged token lives, in seconds.
const LIFETIME_SECONDS: u64 = 3599;
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

pub(super) async fn answer(azure: &Azure, request: Request<Body>) -> Answer {
    let call = Call::read(request).await;
    let tenant = azure.tenant_id();
    match (call.method.as_str(), call.segments().as_slice()) {
        ("POST", [named, "oauth2", "v2.0", "token"]) => {
            exchange(azure, named, &call).await.unwrap_or_else(|refusal| refusal)
        }
        ("GET", [_, "v2.0", ".well-known", "openid-configuration"]) => {
            let base = format!("https://login.microsoftonline.com/{tenant}");
            Answer::json(
                200,
                json!({
                    "issuer": format!("{base}/v2.0"),
                    "token_endpoint": format!("{base}/oauth2/v2.0/token"),
                    "token_endpoint_auth_methods_supported": ["private_key_jwt"],
                    "jwks_uri": format!("{base}/discovery/v2.0/keys"),
                }),
            )
        }
        _ => Answer::empty(404),
    }
}

async fn exchange(azure: &Azure, tenant: &str, call: &Call) -> Answered {
    let form = call.form();
    let field = |name: &str| {
        form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
    };
    let own_tenant = azure.tenant_id();
    if Uuid::parse_str(tenant) != Ok(own_tenant) {
        return Err(refuse(azure, 90002, format!("Tenant '{tenant}' not found.")));
    }
    if field("grant_type") != "client_credentials" {
        let message = format!("The grant type '{}' is not supported here.", field("grant_type"));
        return Err(refuse(azure, 70003, message));
    }
    for name in ["client_id", "scope"] {
        if field(name).is_empty() {
            let message = format!("The request body must contain the parameter '{name}'.");
            return Err(refuse(azure, 900_144, message));
        }
    }
    if field("client_assertion").is_empty() || field("client_assertion_type") != ASSERTION_TYPE {
        let message = "The request body must contain 'client_assertion' and its type.";
        return Err(refuse(azure, 7_000_218, message.to_owned()));
    }
    let Some(audience) = field("scope").strip_suffix("/.default") else {
        let message = format!("The scope '{}' is not valid.", field("scope"));
        return Err(refuse(azure, 70011, message));
    };
    if !token::is_known(audience) {
        let message = format!("The resource principal named {audience} was not found.");
        return Err(refuse(azure, 500_011, message));
    }
    let Some(assertion) = Assertion::parse(field("client_assertion")) else {
        return Err(refuse(azure, 50027, "JWT token is invalid or malformed.".to_owned()));
    };
    let (principal, client) = trusted(azure, field("client_id"), &assertion)?;
    assertion.check_times(azure)?;
    verify(azure, &assertion).await?;
    let lifetime = Duration::from_secs(LIFETIME_SECONDS);
    let issued = token::issue(azure, principal, client, audience, lifetime);
    Ok(Answer::json(
        200,
        json!({
            "token_type": "Bearer",
            "expires_in": LIFETIME_SECONDS,
            "ext_expires_in": LIFETIME_SECONDS,
            "access_token": issued.text,
        }),
    ))
}

/// The identity behind `client_id`, if one of its credentials takes the assertion.
fn trusted(azure: &Azure, client_id: &str, assertion: &Assertion) -> Result<(Uuid, Uuid), Answer> {
    let client = Uuid::parse_str(client_id).ok();
    let found = find(&azure.state(), client).map(|found| (found.0, usable(azure, found.1)));
    let (Some(principal), Some(client)) = (found.as_ref().map(|found| found.0), client) else {
        let message = format!("Application with identifier '{client_id}' was not found.");
        return Err(refuse(azure, 700_016, message));
    };
    let credentials = found.map(|found| found.1).unwrap_or_default();
    let Assertion { issuer, subject, audience, .. } = assertion;
    if issuer.starts_with("https://login.microsoftonline.com/")
        || issuer.starts_with("https://sts.windows.net/")
    {
        let message = format!("A token issued by '{issuer}' cannot be used as an assertion.");
        return Err(refuse(azure, 700_222, message));
    }
    if credentials.is_empty() {
        let message = format!(
            "No matching federated identity record found for presented assertion. Assertion Issuer: '{issuer}'. Assertion Subject: '{subject}'. Assertion Audience: '{audience}'."
        );
        return Err(refuse(azure, 70021, message));
    }
    let none_matches = |what: &str, value: &str| {
        format!(
            "No matching federated identity record found for presented assertion {what} '{value}'."
        )
    };
    let mut left: Vec<&Credential> = credentials.iter().collect();
    left.retain(|credential| credential.issuer == *issuer);
    if left.is_empty() {
        return Err(refuse(azure, 700_211, none_matches("issuer", issuer)));
    }
    left.retain(|credential| credential.subject == *subject);
    if left.is_empty() {
        return Err(refuse(azure, 700_213, none_matches("subject", subject)));
    }
    left.retain(|credential| credential.audiences.contains(audience));
    if left.is_empty() {
        return Err(refuse(azure, 700_212, none_matches("audience", audience)));
    }
    Ok((principal, client))
}

type Known = (Credential, jiff::Timestamp);

fn find(state: &State, client: Option<Uuid>) -> Option<(Uuid, Vec<Known>)> {
    let mut identities = state.identities.values();
    let record = identities.find(|record| Some(record.identity.client_id) == client)?;
    let credentials = record.credentials.values();
    let credentials = credentials.map(|known| (known.credential.clone(), known.usable_at));
    Some((record.identity.principal_id, credentials.collect()))
}

fn usable(azure: &Azure, known: Vec<Known>) -> Vec<Credential> {
    let now = azure.0.clock.now();
    known.into_iter().filter(|(_, at)| *at <= now).map(|(credential, _)| credential).collect()
}

/// Checks the signature against the issuer's published keys, fetched anew once if the key is not among them.
async fn verify(azure: &Azure, assertion: &Assertion) -> Result<(), Answer> {
    let issuer = &assertion.issuer;
    let keys = azure.0.issuers.keys(issuer, &assertion.key_id, azure.0.clock.now()).await;
    let keys = keys.map_err(|why| {
        let message = format!("Request to External OIDC endpoint failed: '{issuer}': {why}.");
        refuse(azure, 90061, message)
    })?;
    let failed = |why: &str| {
        let message = format!("Client assertion failed signature validation. [Reason - {why}]");
        refuse(azure, 700_027, message)
    };
    let mut named = keys.iter().filter(|key| key.id == assertion.key_id).peekable();
    if named.peek().is_none() {
        return Err(failed("The key was not found."));
    }
    if named.any(|key| assertion.is_signed_by(&key.public)) {
        Ok(())
    } else {
        Err(failed("The key was found, but it did not make this signature."))
    }
}
