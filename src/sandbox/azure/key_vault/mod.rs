//! Key Vault's secrets (azure.md §8).

pub(super) mod vault;

use super::{
    Azure, Settings,
    answer::{Answer, Answered},
    authorization,
    call::Call,
    state::State,
    token::{self, Caller},
};
use axum::{body::Body, http::Request};
use jiff::Timestamp;
use serde_json::{Value, json};
use vault::{Presence, Secret, Vault, Version};

const AUDIENCE: &str = "https://vault.azure.net";
const PAGE_MAX: usize = 25;
const VALUE_BYTES_MAX: usize = 25_600;

pub(super) async fn answer(azure: &Azure, request: Request<Body>) -> Answer {
    let call = Call::read(request).await;
    if call.lacks_length() {
        return Answer::empty(411);
    }
    let now = azure.0.clock.now();
    give(&mut azure.state(), &azure.0.settings, &call, now).unwrap_or_else(|refusal| refusal)
}

/// One authorized call to one vault.
struct Work<'work> {
    settings: &'work Settings,
    state: &'work mut State,
    call: &'work Call,
    caller: &'work Caller,
    /// The vault's key in the state.
    vault: String,
    now: Timestamp,
}

fn give(state: &mut State, settings: &Settings, call: &Call, now: Timestamp) -> Answered {
    let host = call.header("host").unwrap_or_default();
    let name = host.split(['.', ':']).next().unwrap_or_default().to_ascii_lowercase();
    let new_version = state.random_hex();
    let tenant = state.tenant;
    let vault = state.vaults.get_mut(&name).ok_or_else(|| {
        Answer::refusal(404, "VaultNotFound", format!("No vault answers to the host '{host}'."))
    })?;
    vault.purge(now);
    let challenge = |message: &str| {
        let challenge = format!(
            "Bearer authorization=\"https://login.microsoftonline.com/{tenant}\", resource=\"{AUDIENCE}\""
        );
        Answer::refusal(401, "Unauthorized", message).with_header("www-authenticate", challenge)
    };
    let text = call
        .bearer()
        .ok_or_else(|| challenge("AKV10000: Request is missing a Bearer or PoP token."))?;
    let caller = token::read(&state.signing_key, text)
        .ok_or_else(|| challenge("The token cannot be validated."))?;
    if !token::is_for(&caller.audience, AUDIENCE) {
        return Err(challenge(&format!("The token is for the audience '{}'.", caller.audience)));
    }
    if caller.expires_at <= now {
        return Err(challenge("The token has expired."));
    }
    check_version(call)?;
    let mut work = Work { settings, state, call, caller: &caller, vault: name, now };
    route(&mut work, new_version)
}

fn check_version(call: &Call) -> Result<(), Answer> {
    let Some(version) = call.query("api-version") else {
        return Err(Answer::refusal(400, "BadParameter", "api-version must be specified"));
    };
    let known = ["7.4", "7.5", "7.6", "2025-07-01", "2026-03-01-preview", "2026-04-01"];
    if known.contains(&version) {
        return Ok(());
    }
    let message = format!("The specified version ({version}) is not recognized.");
    Err(Answer::refusal(400, "BadParameter", message))
}

fn route(work: &mut Work<'_>, new_version: String) -> Answered {
    let path = work.call.path.clone();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    let method = work.call.method.clone();
    match (method.as_str(), segments.as_slice()) {
        ("GET", ["secrets"]) => list(work),
        ("GET", ["secrets", name, "versions"]) => list_versions(work, name),
        ("GET", ["secrets", name]) => read(work, name, ""),
        ("GET", ["secrets", name, version]) => read(work, name, version),
        ("PUT", ["secrets", name]) => set(work, name, new_version),
        ("PATCH", ["secrets", name]) => update(work, name, ""),
        ("PATCH", ["secrets", name, version]) => update(work, name, version),
        ("DELETE", ["secrets", name]) => delete(work, name),
        ("GET", ["deletedsecrets", name]) => read_deleted(work, name),
        ("DELETE", ["deletedsecrets", name]) => purge(work, name),
        ("POST", ["deletedsecrets", name, "recover"]) => recover(work, name),
        _ => Err(Answer::refusal(404, "NotFound", "There is no such operation.")),
    }
}

impl Work<'_> {
    fn vault(&mut self) -> &mut Vault {
        self.state.vaults.get_mut(&self.vault).expect("the call was let in for this vault")
    }

    fn url(&mut self) -> String {
        self.vault().url()
    }

    /// 403 unless the caller may do `action` with this secret.
    fn require(&mut self, action: &str, name: &str) -> Result<(), Answer> {
        let action = format!("Microsoft.KeyVault/vaults/secrets/{action}");
        let id = self.vault().id.clone();
        let at = if name.is_empty() { id } else { format!("{id}/secrets/{name}") };
        let caller = self.caller;
        if authorization::may_with_data(self.state, caller.principal_id, &action, &at) {
            return Ok(());
        }
        let message = format!(
            "Caller is not authorized to perform action on resource.\r\nCaller: appid={};oid={}\r\nAction: '{action}'\r\nResource: '{at}'\r\nAssignment: (not found)\r\nVault: {};location={}",
            caller.client_id, caller.principal_id, self.vault, self.settings.location
        );
        Err(Answer::vault_refusal(403, "Forbidden", "ForbiddenByRbac", message))
    }

    /// The secret and where it stands.
    fn find(&mut self, name: &str) -> Option<(&mut Secret, Presence)> {
        let (now, deletion) = (self.now, self.settings.secret_deletion);
        let secret = self.vault().secrets.get_mut(&name.to_ascii_lowercase())?;
        let presence = secret.presence(now, deletion);
        Some((secret, presence))
    }

    /// The secret if it is there.
    fn present(&mut self, name: &str) -> Result<&mut Secret, Answer> {
        let found = self.find(name).filter(|(_, presence)| *presence == Presence::There);
        found.map(|(secret, _)| secret).ok_or_else(|| not_found(name))
    }

    /// The secret if it is deleted and that is done.
    fn recoverable(&mut self, name: &str) -> Result<&mut Secret, Answer> {
        let found = self.find(name).filter(|(_, presence)| *presence == Presence::Recoverable);
        found.map(|(secret, _)| secret).ok_or_else(|| {
            let message = format!("Deleted Secret not found: {name}");
            Answer::refusal(404, "SecretNotFound", message)
        })
    }

    fn page(&mut self, items: Vec<Value>) -> Answered {
        let asked = self.call.query("maxresults").map(str::parse::<usize>);
        let size = match asked {
            None => PAGE_MAX,
            Some(Ok(size)) if (1..=PAGE_MAX).contains(&size) => size,
            Some(_) => {
                let message = format!("maxresults must be between 1 and {PAGE_MAX}.");
                return Err(Answer::refusal(400, "BadParameter", message));
            }
        };
        let token = self.call.query("$skiptoken");
        let start = token.and_then(|text| text.parse().ok()).unwrap_or(0_usize);
        let total = items.len();
        let value: Vec<Value> = items.into_iter().skip(start).take(size).collect();
        let host = format!("{}.vault.azure.net", self.vault().name);
        let next =
            (start + size < total).then(|| self.call.next_link(&host, "$skiptoken", start + size));
        Ok(Answer::json(200, json!({"value": value, "nextLink": next})))
    }
}

fn not_found(name: &str) -> Answer {
    let message = format!(
        "A secret with (name/id) {name} was not found in this key vault. If you recently deleted this secret you may be able to recover it using the correct recovery command."
    );
    Answer::refusal(404, "SecretNotFound", message)
}

fn list(work: &mut Work<'_>) -> Answered {
    work.require("readMetadata/action", "")?;
    let (url, now, deletion) = (work.url(), work.now, work.settings.secret_deletion);
    let secrets = work.vault().secrets.values();
    let present = secrets.filter(|secret| secret.presence(now, deletion) == Presence::There);
    let items = present.filter_map(|secret| Some(secret.item(&url, secret.version("")?, false)));
    let items = items.collect();
    work.page(items)
}

fn list_versions(work: &mut Work<'_>, name: &str) -> Answered {
    work.require("readMetadata/action", name)?;
    let url = work.url();
    let items = match work.present(name) {
        Ok(secret) => {
            secret.versions.iter().map(|version| secret.item(&url, version, true)).collect()
        }
        Err(_) => Vec::new(), // the real list of a secret that is not there is empty
    };
    work.page(items)
}

fn read(work: &mut Work<'_>, name: &str, version: &str) -> Answered {
    work.require("getSecret/action", name)?;
    let url = work.url();
    let secret = work.present(name)?;
    let found = secret.version(version).ok_or_else(|| not_found(&format!("{name}/{version}")))?;
    if !found.enabled {
        let message = "Operation get is not allowed on a disabled secret.";
        return Err(Answer::vault_refusal(403, "Forbidden", "SecretDisabled", message));
    }
    Ok(Answer::json(200, secret.bundle(&url, found)))
}

fn set(work: &mut Work<'_>, name: &str, version: String) -> Answered {
    work.require("setSecret/action", name)?;
    let known = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if name.is_empty() || name.len() > 127 || !name.chars().all(known) {
        let message = format!("The request URI contains an invalid name: {name}");
        return Err(Answer::refusal(400, "BadParameter", message));
    }
    let body = work.call.json();
    let Some(value) = body["value"].as_str().filter(|value| value.len() <= VALUE_BYTES_MAX) else {
        let message =
            format!("Property value must be a string of {VALUE_BYTES_MAX} bytes at most.");
        return Err(Answer::refusal(400, "BadParameter", message));
    };
    match work.find(name).map(|(_, presence)| presence) {
        Some(Presence::BeingDeleted) => {
            let message = format!("Secret {name} is currently being deleted.");
            return Err(Answer::vault_refusal(409, "Conflict", "ObjectIsBeingDeleted", message));
        }
        Some(Presence::Recoverable) => {
            let message = format!(
                "Secret {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this state, the secret can only be recovered or purged."
            );
            let inner = "ObjectIsDeletedButRecoverable";
            return Err(Answer::vault_refusal(409, "Conflict", inner, message));
        }
        Some(Presence::There) | None => {}
    }
    let version = Version::new(version, value, &body, work.now.as_second());
    work.vault().set(name, version);
    let url = work.url();
    let secret = work.present(name)?;
    let newest = secret.version("").ok_or_else(|| not_found(name))?;
    Ok(Answer::json(200, secret.bundle(&url, newest)))
}

fn update(work: &mut Work<'_>, name: &str, version: &str) -> Answered {
    work.require("update/action", name)?;
    let (body, url, now) = (work.call.json(), work.url(), work.now.as_second());
    let secret = work.present(name)?;
    let missing = || not_found(&format!("{name}/{version}"));
    secret.version_mut(version).ok_or_else(missing)?.update(&body, now);
    let found = secret.version(version).ok_or_else(missing)?;
    Ok(Answer::json(200, secret.item(&url, found, true)))
}

fn delete(work: &mut Work<'_>, name: &str) -> Answered {
    work.require("delete", name)?;
    let now = work.now;
    work.present(name)?.deleted_at = Some(now);
    deleted(work, name)
}

fn deleted(work: &mut Work<'_>, name: &str) -> Answered {
    let url = work.url();
    let (secret, _) = work.find(name).ok_or_else(|| not_found(name))?;
    let newest = secret.version("").ok_or_else(|| not_found(name))?;
    let mut body = secret.item(&url, newest, true);
    if let (Some(body), Some(more)) = (body.as_object_mut(), secret.deleted(&url).as_object()) {
        body.extend(more.clone());
    }
    Ok(Answer::json(200, body))
}

fn read_deleted(work: &mut Work<'_>, name: &str) -> Answered {
    work.require("readMetadata/action", name)?;
    work.recoverable(name)?;
    deleted(work, name)
}

fn purge(work: &mut Work<'_>, name: &str) -> Answered {
    work.require("purge/action", name)?;
    work.recoverable(name)?;
    work.vault().secrets.remove(&name.to_ascii_lowercase());
    Ok(Answer::empty(204))
}

fn recover(work: &mut Work<'_>, name: &str) -> Answered {
    work.require("recover/action", name)?;
    work.recoverable(name)?.deleted_at = None;
    let url = work.url();
    let secret = work.present(name)?;
    let newest = secret.version("").ok_or_else(|| not_found(name))?;
    Ok(Answer::json(200, secret.item(&url, newest, true)))
}
