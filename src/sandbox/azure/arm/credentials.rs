//! Federated identity credentials (azure.md §4).

use super::work::Work;
use crate::sandbox::azure::{
    answer::{Answer, Answered},
    scope,
    state::{Credential, CredentialRecord, IdentityRecord},
};
use serde_json::{Value, json};

const TYPE: &str = "Microsoft.ManagedIdentity/userAssignedIdentities/federatedIdentityCredentials";
const CREDENTIALS_MAX: usize = 20;
const TEXT_MAX: usize = 600;

pub(super) fn answer(
    work: &mut Work<'_>,
    group: &str,
    identity: &str,
    name: Option<&str>,
) -> Answered {
    let parent =
        format!("{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{identity}");
    let method = work.call.method.clone();
    let verb = match (method.as_str(), name) {
        ("GET", _) => "read",
        ("PUT", Some(_)) => "write",
        ("DELETE", Some(_)) => "delete",
        _ => return Err(work.method_not_allowed()),
    };
    let at = name.map_or_else(
        || parent.clone(),
        |name| format!("{parent}/federatedIdentityCredentials/{name}"),
    );
    work.require(&format!("{TYPE}/{verb}"), &at)?;
    work.require_group(&at)?;
    let Some(record) = work.state.identity(&parent) else {
        if verb == "delete" {
            return Ok(Answer::empty(204));
        }
        let message = "The parent user-assigned identity doesn't exist.";
        return Err(Answer::refusal(404, "ParentResourceNotFound", message));
    };
    let Some(name) = name else {
        let bodies = record.credentials.values().map(|known| body(record, &known.credential));
        return Ok(work.page(bodies.collect(), "$skiptoken"));
    };
    match verb {
        "read" => read(record, name),
        "write" => write(work, &parent, name),
        _ => delete(work, &parent, name),
    }
}

fn read(record: &IdentityRecord, name: &str) -> Answered {
    let found = record.credentials.get(&name.to_ascii_lowercase());
    let found = found.map(|known| Answer::json(200, body(record, &known.credential)));
    found.ok_or_else(|| {
        let message = format!("The federated identity credential '{name}' was not found.");
        Answer::refusal(404, "NotFound", message)
    })
}

fn write(work: &mut Work<'_>, parent: &str, name: &str) -> Answered {
    hold(work, parent)?;
    let written = store(work, parent, name);
    finish(work, parent, written)
}

fn delete(work: &mut Work<'_>, parent: &str, name: &str) -> Answered {
    hold(work, parent)?;
    let gone = work
        .state
        .identity_mut(parent)
        .and_then(|record| record.credentials.remove(&name.to_ascii_lowercase()));
    let status = if gone.is_some() { 200 } else { 204 };
    finish(work, parent, Ok(Answer::empty(status)))
}

/// Takes the identity, or refuses because another write has it.
fn hold(work: &mut Work<'_>, parent: &str) -> Result<(), Answer> {
    let Some(record) = work.state.identity_mut(parent) else { return Ok(()) };
    if record.busy {
        let shown = scope::lower(&record.identity.id);
        let message = format!(
            "Too many Federated Identity Credentials are written concurrently for the managed identity '{shown}'. Concurrent Federated Identity Credentials writes under the same managed identity are not supported."
        );
        let code = "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity";
        return Err(Answer::refusal(409, code, message));
    }
    record.busy = true;
    Ok(())
}

/// A write that was accepted holds on to the identity for as long as it takes; a refused one lets go at once.
fn finish(work: &mut Work<'_>, parent: &str, written: Answered) -> Answered {
    match written {
        Ok(mut answer) if !work.settings.credential_write.is_zero() => {
            answer.holds = Some(scope::lower(parent));
            Ok(answer)
        }
        other => {
            if let Some(record) = work.state.identity_mut(parent) {
                record.busy = false;
            }
            other
        }
    }
}

fn store(work: &mut Work<'_>, parent: &str, name: &str) -> Answered {
    let bad = |message: &str| Answer::refusal(400, "BadRequest", message);
    if !is_name(name) {
        return Err(bad(&format!("Federated Identity Credential name '{name}' is invalid.")));
    }
    let asked = work.call.json();
    let properties = &asked["properties"];
    if properties.as_object().is_none_or(serde_json::Map::is_empty) {
        return Err(bad("Federated Identity Credential from HTTP body has empty properties"));
    }
    let text = |name: &str| properties[name].as_str().unwrap_or_default().to_owned();
    let (issuer, subject) = (text("issuer"), text("subject"));
    let audiences = properties["audiences"].as_array().into_iter().flatten();
    let audiences: Vec<String> =
        audiences.filter_map(|audience| audience.as_str().map(str::to_owned)).collect();
    if audiences.len() != 1 {
        return Err(bad("Federated identity credentials must have exactly one audience."));
    }
    for (what, value) in [("issuer", &issuer), ("subject", &subject), ("audience", &audiences[0])] {
        if value.is_empty() || value.chars().count() > TEXT_MAX {
            return Err(bad(&format!("The {what} must have 1 to {TEXT_MAX} characters.")));
        }
    }
    let key = name.to_ascii_lowercase();
    let usable_at = work.state.after(work.now, work.settings.lags.credential);
    let duplicate = work.settings.duplicate_pair_status;
    let Some(record) = work.state.identity_mut(parent) else {
        return Err(bad("The parent user-assigned identity doesn't exist."));
    };
    let mut others = record.credentials.iter().filter(|(other, _)| **other != key);
    if others
        .any(|(_, known)| known.credential.issuer == issuer && known.credential.subject == subject)
    {
        let message = "Issuer and subject combination already exists for this Managed Identity.";
        let code = if duplicate == 409 { "Conflict" } else { "BadRequest" };
        return Err(Answer::refusal(duplicate, code, message));
    }
    let present = record.credentials.get(&key);
    if present.is_none() && record.credentials.len() >= CREDENTIALS_MAX {
        return Err(bad(&format!(
            "The managed identity already has {CREDENTIALS_MAX} federated identity credentials, which is the most it can have."
        )));
    }
    let status = if present.is_some() { 200 } else { 201 };
    let name = present.map_or(name, |known| known.credential.name.as_str()).to_owned();
    let credential = Credential { name, issuer, subject, audiences };
    let usable_at = match present {
        Some(known) if known.credential == credential => known.usable_at,
        Some(_) | None => usable_at,
    };
    let shown = body(record, &credential);
    record.credentials.insert(key, CredentialRecord { credential, usable_at });
    Ok(Answer::json(status, shown))
}

fn body(record: &IdentityRecord, credential: &Credential) -> Value {
    json!({
        "id": format!(
            "{}/federatedIdentityCredentials/{}",
            record.identity.id, credential.name
        ),
        "name": credential.name,
        "properties": {
            "issuer": credential.issuer,
            "subject": credential.subject,
            "audiences": credential.audiences,
        },
        "type": TYPE,
    })
}

/// `^[a-zA-Z0-9]{1}[a-zA-Z0-9-_]{2,119}$`
fn is_name(name: &str) -> bool {
    (3..=120).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
}
