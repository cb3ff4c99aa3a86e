//! What people do to a manager's Secret, which holds the only copy of a token.

use super::{disturb::nth, event::SecretEdit};
use crate::{disturbed::entries, harness::Sandbox, invariants::snapshot::MANAGERS};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use toml::Table;

const FILE: &str = "config.toml";

/// Names of the managers' Secrets, and the token that each holds.
fn kept(sandbox: &Sandbox) -> Vec<(String, Option<String>)> {
    let all = sandbox.world.kubernetes.list("secrets", MANAGERS).into_iter();
    let named = all.map(|secret| {
        let token = entries(&secret).pop().map(|(_, token)| token);
        (secret["metadata"]["name"].as_str().unwrap_or_default().to_owned(), token)
    });
    named.filter(|(name, _)| name.starts_with("runner-") && name.ends_with("-config")).collect()
}

pub(super) fn edit_secret(sandbox: &Sandbox, number: usize, edit: SecretEdit) {
    let all = kept(sandbox);
    let tokens: Vec<String> = all.iter().filter_map(|(_, token)| token.clone()).collect();
    let Some((name, own)) = nth(all, number) else { return };
    let another = tokens.into_iter().find(|token| Some(token) != own.as_ref());
    sandbox.world.kubernetes.edit("secrets", MANAGERS, &name, |secret| {
        let data = &mut secret["data"];
        match edit {
            SecretEdit::Concurrent => rewrite(data, |file| {
                file.insert("concurrent".to_owned(), 7.into());
            }),
            SecretEdit::Id => rewrite(data, |file| put(file, "id", 999_999)),
            SecretEdit::TokenOfNobody => {
                rewrite(data, |file| put(file, "token", "glrt-of-a-person-0123"));
            }
            SecretEdit::TokenOfAnother => {
                if let Some(token) = another {
                    rewrite(data, |file| put(file, "token", token));
                }
            }
            SecretEdit::NoEntry => rewrite(data, |file| _ = file.remove("runners")),
            SecretEdit::Broken => data[FILE] = BASE64_STANDARD.encode("concurrent = ").into(),
            SecretEdit::NoFile => {
                data.as_object_mut().into_iter().for_each(|data| _ = data.remove(FILE));
            }
            SecretEdit::SystemId => {
                data[".runner_system_id"] = BASE64_STANDARD.encode("s_0123456789ab").into();
            }
        }
    });
}

/// Changes the file, where there is one and nobody broke it.
fn rewrite(data: &mut Value, change: impl FnOnce(&mut Table)) {
    let Some(text) = data[FILE].as_str() else { return };
    let text = String::from_utf8(BASE64_STANDARD.decode(text).unwrap()).unwrap();
    if let Ok(mut file) = text.parse::<Table>() {
        change(&mut file);
        data[FILE] = BASE64_STANDARD.encode(file.to_string()).into();
    }
}

/// Puts a value into the file's entry, where there is one.
fn put(file: &mut Table, key: &str, value: impl Into<toml::Value>) {
    let entries = file.get_mut("runners").and_then(|all| all.as_array_mut());
    if let Some(entry) = entries.and_then(|all| all.first_mut()?.as_table_mut()) {
        entry.insert(key.to_owned(), value.into());
    }
}
