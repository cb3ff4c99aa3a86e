//! One vault and its secrets, with all their versions.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How long a deleted secret can be recovered.
const RECOVERABLE_DAYS: i64 = 90;

pub(in crate::sandbox::azure) struct Vault {
    pub(in crate::sandbox::azure) name: String,
    /// The ARM id: the scope of rights.
    pub(in crate::sandbox::azure) id: String,
    /// By lower-case name.
    pub(in crate::sandbox::azure) secrets: BTreeMap<String, Secret>,
}

pub(in crate::sandbox::azure) struct Secret {
    pub(super) name: String,
    /// Oldest first, never empty.
    pub(in crate::sandbox::azure) versions: Vec<Version>,
    pub(in crate::sandbox::azure) deleted_at: Option<Timestamp>,
}

pub(in crate::sandbox::azure) struct Version {
    pub(super) id: String,
    pub(in crate::sandbox::azure) value: String,
    pub(super) content_type: Option<String>,
    pub(super) enabled: bool,
    pub(super) expires: Option<i64>,
    pub(super) not_before: Option<i64>,
    pub(super) created: i64,
    pub(super) updated: i64,
    pub(super) tags: Value,
}

/// Where a secret is between being there and being gone for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    There,
    BeingDeleted,
    Recoverable,
}

impl Vault {
    pub(super) fn url(&self) -> String {
        format!("https://{}.vault.azure.net", self.name)
    }

    /// Drops what was deleted long enough ago.
    pub(super) fn purge(&mut self, now: Timestamp) {
        self.secrets.retain(|_, secret| secret.purge_at().is_none_or(|at| now < at));
    }

    pub(in crate::sandbox::azure) fn set(&mut self, name: &str, version: Version) {
        let secret = self.secrets.entry(name.to_ascii_lowercase()).or_insert_with(|| Secret {
            name: name.to_owned(),
            versions: Vec::new(),
            deleted_at: None,
        });
        secret.versions.push(version);
    }
}

impl Secret {
    pub(super) fn presence(&self, now: Timestamp, deletion: std::time::Duration) -> Presence {
        match self.deleted_at {
            None => Presence::There,
            Some(at) if now < crate::sandbox::azure::state::later(at, deletion) => {
                Presence::BeingDeleted
            }
            Some(_) => Presence::Recoverable,
        }
    }

    fn purge_at(&self) -> Option<Timestamp> {
        let after = SignedDuration::from_hours(24 * RECOVERABLE_DAYS);
        Some(self.deleted_at?.saturating_add(after).unwrap_or(Timestamp::MAX))
    }

    /// What a deleted secret shows beside its bundle.
    pub(super) fn deleted(&self, vault: &str) -> Value {
        json!({
            "recoveryId": format!("{vault}/deletedsecrets/{}", self.name),
            "deletedDate": self.deleted_at.map(Timestamp::as_second),
            "scheduledPurgeDate": self.purge_at().map(Timestamp::as_second),
        })
    }

    /// The version by its id, or the newest where the id is empty.
    pub(super) fn version(&self, id: &str) -> Option<&Version> {
        if id.is_empty() {
            return self.versions.last();
        }
        self.versions.iter().find(|version| version.id == id)
    }

    pub(super) fn version_mut(&mut self, id: &str) -> Option<&mut Version> {
        if id.is_empty() {
            return self.versions.last_mut();
        }
        self.versions.iter_mut().find(|version| version.id == id)
    }

    /// The bundle without its value.
    pub(super) fn item(&self, vault: &str, version: &Version, with_version: bool) -> Value {
        let id = if with_version { format!("/{}", version.id) } else { String::new() };
        let mut item = json!({
            "id": format!("{vault}/secrets/{}{id}", self.name),
            "attributes": {
                "enabled": version.enabled,
                "created": version.created,
                "updated": version.updated,
                "recoveryLevel": "Recoverable+Purgeable",
                "recoverableDays": RECOVERABLE_DAYS,
            },
            "tags": version.tags,
        });
        for (name, value) in [("exp", version.expires), ("nbf", version.not_before)] {
            if let Some(value) = value {
                item["attributes"][name] = json!(value);
            }
        }
        if let Some(kind) = &version.content_type {
            item["contentType"] = json!(kind);
        }
        item
    }

    pub(super) fn bundle(&self, vault: &str, version: &Version) -> Value {
        let mut bundle = self.item(vault, version, true);
        bundle["value"] = json!(version.value);
        bundle
    }
}

impl Version {
    /// A new version from a request's body.
    pub(in crate::sandbox::azure) fn new(id: String, value: &str, body: &Value, now: i64) -> Self {
        let mut version = Self {
            id,
            value: value.to_owned(),
            content_type: None,
            enabled: true,
            expires: None,
            not_before: None,
            created: now,
            updated: now,
            tags: json!({}),
        };
        version.update(body, now);
        version
    }

    /// Takes what the body names and keeps the rest; the value never changes.
    pub(super) fn update(&mut self, body: &Value, now: i64) {
        let attributes = &body["attributes"];
        self.enabled = attributes["enabled"].as_bool().unwrap_or(self.enabled);
        self.expires = attributes["exp"].as_i64().or(self.expires);
        self.not_before = attributes["nbf"].as_i64().or(self.not_before);
        if let Some(kind) = body["contentType"].as_str() {
            self.content_type = Some(kind.to_owned());
        }
        if body["tags"].is_object() {
            self.tags = body["tags"].clone();
        }
        self.updated = now;
    }
}
