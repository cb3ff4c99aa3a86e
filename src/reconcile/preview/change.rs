//! A step as a change: what is made, changed or taken away, and which fields differ from what is there.

use super::mask;
use crate::{
    domain::{
        gitlab::{Entity, EntityChange, EntitySettings},
        ids::RunnerId,
        kubernetes::{Kind, Object, ObjectName},
        names,
        render::{self, Difference, Entry},
        step::{Given, RolloutWord, Service, Step},
    },
    reconcile::{act::Scene, prepare::Seen},
};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What becomes of the thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Create,
    Change,
    Delete,
    /// Nothing that anybody would miss: a rehearsal, an entry in the ledger.
    Note,
}

/// One step of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Change {
    pub action: Action,
    pub service: &'static str,
    /// One line for people; never a token.
    pub what: String,
    pub fields: Vec<FieldChange>,
}

/// Values as text, what is sensitive masked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    pub path: String,
    /// Nothing: it is not there, or not looked at.
    pub old: Option<String>,
    /// Nothing: it goes.
    pub new: Option<String>,
}

/// What stands where a value is known only once another step is done.
const KNOWN_LATER: &str = "(known once the identity is made)";

pub(super) fn service_name(service: Service) -> &'static str {
    match service {
        Service::Gitlab => "GitLab",
        Service::Azure => "Azure",
        Service::Kubernetes => "Kubernetes",
    }
}

/// Which services a step writes to, a call each.
pub(super) fn calls(step: &Step) -> Vec<Service> {
    match step {
        // The token's new home, and the question whether it is good.
        Step::KeepToken { .. } => vec![Service::Kubernetes, Service::Gitlab],
        // The place is taken, and given away in the end.
        Step::NoteRollout { word: RolloutWord::Begins { .. }, .. } => {
            vec![Service::Kubernetes; 2]
        }
        Step::BookCreation { .. }
        | Step::NoteRollout { word: RolloutWord::Failed { .. } | RolloutWord::Ends, .. }
        | Step::NoteRevoked { .. }
        | Step::RehearseSecret { .. }
        | Step::CreateRunner { .. }
        | Step::ReplaceToken { .. }
        | Step::RewriteSecret { .. }
        | Step::UpdateRunner { .. }
        | Step::PauseRunner { .. }
        | Step::DeleteTwin { .. }
        | Step::CreateIdentity { .. }
        | Step::TagIdentity { .. }
        | Step::TrustServiceAccount { .. }
        | Step::AssignRole { .. }
        | Step::Apply { .. }
        | Step::ScaleToZero { .. }
        | Step::MarkSettling { .. }
        | Step::AnswerAccount { .. }
        | Step::MarkLeaving { .. }
        | Step::RestartManager { .. }
        | Step::DropAnnotations { .. }
        | Step::RemoveObject { .. }
        | Step::RemoveRole { .. }
        | Step::RemoveCredential { .. }
        | Step::RemoveIdentity { .. }
        | Step::RemoveRunner { .. } => vec![step.service()],
    }
}

pub(in crate::reconcile) fn of_step(step: &Step, seen: &Seen, scene: &Scene<'_>) -> Change {
    let (action, fields) = match step {
        Step::BookCreation { .. }
        | Step::NoteRollout { .. }
        | Step::NoteRevoked { .. }
        | Step::RehearseSecret { .. } => (Action::Note, vec![]),
        Step::CreateRunner { settings, .. } => (Action::Create, of_settings(settings)),
        Step::ReplaceToken { .. } => (Action::Change, vec![sensitive("token")]),
        Step::KeepToken { secret, .. } => {
            let action = exists(seen, secret);
            (action, vec![sensitive("data[config.toml]")])
        }
        Step::RewriteSecret { secret, entries, .. } => {
            (Action::Change, of_config(seen.object(secret), entries, scene))
        }
        Step::UpdateRunner { runner, change, .. } => {
            (Action::Change, of_entity(seen.entity(*runner), change))
        }
        Step::PauseRunner { runner, note, .. } => {
            let change = EntityChange {
                paused: Some(true),
                maintenance_note: Some(note.clone()),
                ..EntityChange::default()
            };
            (Action::Change, of_entity(seen.entity(*runner), &change))
        }
        Step::DeleteTwin { .. } => (Action::Delete, vec![]),
        Step::CreateIdentity { location, tags, .. } => {
            let mut fields = vec![new("location", &json!(location))];
            fields.extend(
                tags.iter().map(|(name, value)| new(&format!("tags.{name}"), &json!(value))),
            );
            (Action::Create, fields)
        }
        Step::TagIdentity { tags, .. } => (Action::Change, of_tags(seen, tags)),
        Step::TrustServiceAccount { credential, .. } => {
            let live = seen.credential(&credential.name);
            let fields = of_values(
                &json!({ "issuer": credential.issuer, "subject": credential.subject, "audiences": credential.audiences }),
                live.as_ref(),
            );
            (if live.is_some() { Action::Change } else { Action::Create }, fields)
        }
        Step::AssignRole { principal, .. } => {
            let principal = match principal {
                Given::Known(principal) => FieldChange {
                    path: "principal".to_owned(),
                    old: None,
                    new: Some(principal.to_string()),
                },
                Given::From(_) => later("principal"),
            };
            (Action::Create, vec![principal])
        }
        Step::Apply { object, client } => {
            let mut fields = of_object(object, seen.object(&object.name));
            if client.is_some() {
                fields.push(later("metadata.annotations[azure.workload.identity/client-id]"));
            }
            (exists(seen, &object.name), fields)
        }
        Step::ScaleToZero { deployment } => {
            let live = seen.object(deployment).map(|live| live.body["spec"]["replicas"].clone());
            (Action::Change, vec![field("spec.replicas", live.as_ref(), Some(&json!(0)))])
        }
        Step::MarkSettling { mark, .. } => {
            let path = format!("metadata.annotations[{}]", names::ANNOTATION_SETTLING_SINCE);
            (Action::Change, vec![new(&path, &json!(mark.to_string()))])
        }
        Step::AnswerAccount { account, answer } => {
            let key = names::ANNOTATION_IDENTITY_ANSWER;
            let live = seen.object(account).and_then(|live| live.annotation(key));
            let path = format!("metadata.annotations[{key}]");
            let live = live.map(|live| json!(live));
            (Action::Change, vec![field(&path, live.as_ref(), Some(&json!(answer)))])
        }
        Step::MarkLeaving { object, at } => {
            let key = names::ANNOTATION_LEAVING_SINCE;
            let live = seen.object(object).and_then(|live| live.annotation(key));
            let live = live.map(|live| json!(live));
            let at = at.map(|at| json!(at.to_string()));
            let path = format!("metadata.annotations[{key}]");
            (Action::Change, vec![field(&path, live.as_ref(), at.as_ref())])
        }
        Step::RestartManager { at, .. } => {
            let key = names::ANNOTATION_RESTARTED_AT;
            let path = format!("spec.template.metadata.annotations[{key}]");
            (Action::Change, vec![new(&path, &json!(at.to_string()))])
        }
        Step::DropAnnotations { object, keys } => {
            let live = seen.object(object);
            let gone = keys.iter().map(|key| {
                let value = live.and_then(|live| live.annotation(key)).map(|value| json!(value));
                field(&format!("metadata.annotations[{key}]"), value.as_ref(), None)
            });
            (Action::Change, gone.collect())
        }
        Step::RemoveObject { .. }
        | Step::RemoveRole { .. }
        | Step::RemoveCredential { .. }
        | Step::RemoveIdentity { .. }
        | Step::RemoveRunner { .. } => (Action::Delete, vec![]),
    };
    Change { action, service: service_name(step.service()), what: step.to_string(), fields }
}

fn exists(seen: &Seen, name: &ObjectName) -> Action {
    if seen.object(name).is_some() { Action::Change } else { Action::Create }
}

/// A field with its values as they may be shown.
fn field(path: &str, old: Option<&Value>, new: Option<&Value>) -> FieldChange {
    let shown = |value: Option<&Value>| value.map(|value| mask::shown(path, value));
    FieldChange { path: path.to_owned(), old: shown(old), new: shown(new) }
}

fn new(path: &str, value: &Value) -> FieldChange {
    field(path, None, Some(value))
}

fn later(path: &str) -> FieldChange {
    FieldChange { path: path.to_owned(), old: None, new: Some(KNOWN_LATER.to_owned()) }
}

fn sensitive(path: &str) -> FieldChange {
    FieldChange { path: path.to_owned(), old: None, new: Some(mask::SENSITIVE.to_owned()) }
}

fn of_settings(settings: &EntitySettings) -> Vec<FieldChange> {
    let mut fields = vec![
        new("tags", &json!(settings.tags)),
        new("run_untagged", &json!(settings.run_untagged)),
        new("protected", &json!(settings.protected)),
        new("locked", &json!(settings.locked)),
        new("paused", &json!(settings.paused)),
    ];
    fields.extend(settings.maximum_timeout.map(|seconds| new("maximum_timeout", &json!(seconds))));
    fields
}

fn of_entity(live: Option<&Entity>, change: &EntityChange) -> Vec<FieldChange> {
    let pairs = [
        (
            "description",
            change.description.as_ref().map(|it| json!(it)),
            live.map(|live| json!(live.description)),
        ),
        (
            "tags",
            change.tags.as_ref().map(|tags| sorted(tags)),
            live.map(|live| sorted(&live.tags)),
        ),
        (
            "run_untagged",
            change.run_untagged.map(|it| json!(it)),
            live.map(|live| json!(live.run_untagged)),
        ),
        ("locked", change.locked.map(|it| json!(it)), live.map(|live| json!(live.locked))),
        ("protected", change.protected.map(|it| json!(it)), live.map(|live| json!(live.protected))),
        (
            "maximum_timeout",
            change.maximum_timeout.map(|it| json!(it)),
            live.map(|live| json!(live.maximum_timeout)),
        ),
        (
            "maintenance_note",
            change.maintenance_note.as_ref().map(|it| json!(it)),
            live.map(|live| json!(live.maintenance_note.clone().unwrap_or_default())),
        ),
        ("paused", change.paused.map(|it| json!(it)), live.map(|live| json!(live.paused))),
    ];
    let changed = pairs.into_iter().filter(|(_, new, old)| new.is_some() && new != old);
    changed.map(|(path, new, old)| field(path, old.as_ref(), new.as_ref())).collect()
}

fn sorted(tags: &[String]) -> Value {
    let mut tags = tags.to_vec();
    tags.sort();
    json!(tags)
}

fn of_tags(seen: &Seen, tags: &BTreeMap<String, String>) -> Vec<FieldChange> {
    let live = seen.tags();
    if live.is_none() {
        // The identity is made with the rest of them in this very plan.
        let digest = tags.get(names::TAG_CREDENTIALS);
        let path = format!("tags.{}", names::TAG_CREDENTIALS);
        return digest.map(|digest| new(&path, &json!(digest))).into_iter().collect();
    }
    let changed =
        tags.iter().filter(|(name, value)| live.and_then(|live| live.get(*name)) != Some(value));
    let fields = changed.map(|(name, value)| {
        let old = live.and_then(|live| live.get(name)).map(|old| json!(old));
        field(&format!("tags.{name}"), old.as_ref(), Some(&json!(value)))
    });
    fields.collect()
}

/// Fields of a flat value that differ from the live one.
fn of_values(wanted: &Value, live: Option<&Value>) -> Vec<FieldChange> {
    match live {
        Some(live) => shown(&render::value_differences(wanted, live)),
        None => {
            let fields = wanted.as_object().into_iter().flatten();
            fields.map(|(path, value)| new(path, value)).collect()
        }
    }
}

/// Digests of ours that only say that something else changed.
const DIGESTS: [&str; 2] = [names::ANNOTATION_APPLIED, names::ANNOTATION_RESTART];

fn of_object(wanted: &Object, live: Option<&Object>) -> Vec<FieldChange> {
    let Some(live) = live else { return vec![] };
    if wanted.name.kind == Kind::Secret {
        return vec![sensitive("data")];
    }
    let all = render::differences(wanted, live);
    let is_digest = |one: &Difference<'_>| DIGESTS.iter().any(|digest| one.path.contains(digest));
    let (digests, told): (Vec<_>, Vec<_>) = all.into_iter().partition(is_digest);
    // Where nothing else differs, the file no longer asks for some field, and the digest alone shows it.
    shown(if told.is_empty() { &digests } else { &told })
}

fn shown(differences: &[Difference<'_>]) -> Vec<FieldChange> {
    differences.iter().map(|one| field(&one.path, one.live, one.wanted)).collect()
}

/// Which settings of `config.toml` differ. What stands in the live file may be anything that somebody put there, so
/// only numbers and switches of it are shown.
fn of_config(
    live: Option<&Object>,
    entries: &[(RunnerId, SecretString)],
    scene: &Scene<'_>,
) -> Vec<FieldChange> {
    let (Some(live), Some(spec)) = (live, scene.spec) else { return vec![] };
    let entries: Vec<Entry<'_>> =
        entries.iter().map(|(runner, token)| Entry { runner: *runner, token }).collect();
    let (wanted, live) = render::config_values(spec, &scene.context(), &entries, live);
    let differences = render::value_differences(&wanted, &live);
    let plain = |value: &Value| value.is_boolean() || value.is_number();
    let fields = differences.iter().map(|one| FieldChange {
        old: one.live.filter(|live| !live.is_null()).map(|live| match plain(live) {
            true => live.to_string(),
            false => mask::SENSITIVE.to_owned(),
        }),
        ..field(&one.path, None, one.wanted.filter(|wanted| !wanted.is_null()))
    });
    fields.collect()
}
