//! The Secret that holds the manager's `config.toml`, and what can be read back from it.

use super::{
    Context,
    config::{CA_KEY, Entry, config_toml},
    metadata::{metadata, object, runner_labels},
};
use crate::domain::{
    ids::RunnerId,
    kubernetes::{Kind, Object, ObjectName},
    names,
    spec::RunnerSpec,
};
use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use secrecy::{ExposeSecret, SecretString};
use std::collections::BTreeMap;
use toml::Table;

const CONFIG_KEY: &str = "config.toml";
const SYSTEM_ID_KEY: &str = ".runner_system_id";

/// Why a Secret's `config.toml` cannot be read. Never quotes the file: a parser's own message would show a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error("the Secret has no key `config.toml`")]
    Missing,
    #[error("the Secret's `config.toml` is not base64 of UTF-8 text")]
    NotText,
    #[error("the Secret's `config.toml` is not TOML")]
    NotToml,
}

/// `config.toml`, the manager's stable id, and the CA of a private GitLab, to be mounted as one directory.
/// `data` rather than `stringData`, which is write-only and never prunes a key.
pub fn config_secret(spec: &RunnerSpec, ctx: &Context<'_>, entries: &[Entry<'_>]) -> Object {
    let namespace = &ctx.fleet.cluster.managers_namespace;
    let name = ObjectName::new(Kind::Secret, namespace, &names::config_secret(&spec.key));
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    let config = config_toml(spec, ctx, entries);
    let mut data = BTreeMap::from([
        (CONFIG_KEY.to_owned(), bytes(config.expose_secret())),
        (SYSTEM_ID_KEY.to_owned(), bytes(&names::system_id(ctx.installation, &spec.key))),
    ]);
    data.extend(ctx.gitlab_ca.map(|pem| (CA_KEY.to_owned(), bytes(pem))));
    let typed = Secret {
        metadata: metadata(&name, runner_labels(spec, ctx)),
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    object(name, &typed)
}

/// The runner entities and tokens of a live Secret, in the file's order. Bears a file that somebody edited: an entry
/// without a numeric id or with a blank token is left out, unknown keys do not matter.
pub fn read_entries(secret: &Object) -> Result<Vec<(RunnerId, SecretString)>, ReadError> {
    let config = read_config(secret)?;
    let runners = config.get("runners").and_then(|runners| runners.as_array());
    let entry = |runner: &toml::Value| {
        let id = u64::try_from(runner.get("id")?.as_integer()?).ok()?;
        let token = runner.get("token")?.as_str()?.trim();
        (!token.is_empty()).then(|| (RunnerId(id), SecretString::from(token)))
    };
    Ok(runners.into_iter().flatten().filter_map(entry).collect())
}

/// Whether somebody else wrote the file last, as its managed fields say: then whose token it holds is an open question.
pub fn was_edited(secret: &Object) -> bool {
    let managers = secret.body["metadata"]["managedFields"].as_array().into_iter().flatten();
    let mut writers = managers.filter(|one| !one["fieldsV1"]["f:data"]["f:config.toml"].is_null());
    writers.any(|one| one["manager"] != names::FIELD_MANAGER)
}

/// The namespace where a live Secret's first entry runs jobs.
pub fn jobs_run_in(secret: &Object) -> Option<String> {
    let config = read_config(secret).ok()?;
    let entry = config.get("runners")?.as_array()?.first()?;
    Some(entry.get("kubernetes")?.get("namespace")?.as_str()?.to_owned())
}

/// Whether a live Secret says what we would write for the entries it holds: compares what the files mean, not how they
/// are laid out. False for a file that cannot be read.
pub fn expected_config_matches(spec: &RunnerSpec, ctx: &Context<'_>, secret: &Object) -> bool {
    let Ok(found) = read_entries(secret) else { return false };
    let entries: Vec<_> =
        found.iter().map(|(runner, token)| Entry { runner: *runner, token }).collect();
    let expected = config_secret(spec, ctx, &entries);
    read_config(&expected) == read_config(secret)
        && [SYSTEM_ID_KEY, CA_KEY].iter().all(|key| text(&expected, key) == text(secret, key))
}

/// What a live Secret's `config.toml` says and what it should say for these entries, as JSON, both without a token: for
/// people who want to see what differs. The live one is null where it cannot be read.
pub fn config_values(
    spec: &RunnerSpec,
    ctx: &Context<'_>,
    entries: &[Entry<'_>],
    live: &Object,
) -> (serde_json::Value, serde_json::Value) {
    let wanted = config_secret(spec, ctx, entries);
    let value = |secret: &Object| {
        let mut table = read_config(secret).unwrap_or_default();
        let runners = table.get_mut("runners").and_then(|runners| runners.as_array_mut());
        for runner in runners.into_iter().flatten().filter_map(toml::Value::as_table_mut) {
            if let Some(token) = runner.get_mut("token") {
                *token = toml::Value::from("(sensitive)");
            }
        }
        let files = [SYSTEM_ID_KEY, CA_KEY].map(|key| {
            let text = text(secret, key).ok();
            (key, text.map(|text| text.expose_secret().trim().to_owned()))
        });
        serde_json::json!({
            CONFIG_KEY: serde_json::to_value(table).unwrap_or_default(),
            files[0].0: files[0].1,
            files[1].0: files[1].1,
        })
    };
    (value(&wanted), value(live))
}

fn read_config(secret: &Object) -> Result<Table, ReadError> {
    let text = text(secret, CONFIG_KEY)?;
    text.expose_secret().parse().map_err(|_| ReadError::NotToml)
}

fn text(secret: &Object, key: &str) -> Result<Text, ReadError> {
    let data = secret.body["data"][key].as_str().ok_or(ReadError::Missing)?;
    let bytes = BASE64_STANDARD.decode(data).map_err(|_| ReadError::NotText)?;
    let text = String::from_utf8(bytes).map_err(|_| ReadError::NotText)?;
    Ok(Text(text.into()))
}

/// A text of a Secret that can be compared but not printed.
struct Text(SecretString);

impl Text {
    fn expose_secret(&self) -> &str {
        self.0.expose_secret()
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.expose_secret().trim() == other.expose_secret().trim()
    }
}
