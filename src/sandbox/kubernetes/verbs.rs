//! The verbs on objects: what each changes, after everything that may refuse it.

use super::{
    User, admission,
    apply::{self, stamp},
    confinement::Write,
    defaults, fields,
    kinds::Kind,
    merge, pods, rbac, schema,
    schema::Form,
    status::Status,
    store::{Key, State, Task},
    validate,
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Who writes, under which name, when, and whether in earnest.
pub(super) struct Call<'a> {
    pub(super) user: &'a User,
    pub(super) manager: String,
    pub(super) dry_run: bool,
    pub(super) now: Timestamp,
}

/// Metadata that only the server sets.
const SERVER_METADATA: [&str; 7] = [
    "uid",
    "creationTimestamp",
    "generation",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
];

pub(super) fn create(
    state: &mut State,
    call: &Call<'_>,
    kind: &'static Kind,
    namespace: &str,
    mut object: Value,
) -> Result<Value, Status> {
    check_shape(kind, &object, namespace, None)?;
    let stem = object["metadata"]["generateName"].as_str().map(str::to_owned);
    if let (Some(stem), true) = (stem, object["metadata"]["name"].is_null()) {
        object["metadata"]["name"] = format!("{stem}{}", state.next_suffix()).into();
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if !object["metadata"]["resourceVersion"].is_null() {
        let why = "resourceVersion should not be set on objects to be created";
        return Err(Status::bad_request(why));
    }
    if state.find(kind.plural, namespace, &name).is_some() {
        return Err(Status::already_exists(kind, &name));
    }
    finish(state, call, kind, namespace, None, object, Some("Update"))
}

pub(super) fn update(
    state: &mut State,
    call: &Call<'_>,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
    object: Value,
) -> Result<Value, Status> {
    check_shape(kind, &object, namespace, Some(name))?;
    let live = existing(state, kind, namespace, name)?;
    check_version(kind, name, &object, &live)?;
    finish(state, call, kind, namespace, Some(live), object, Some("Update"))
}

pub(super) fn merge_patch(
    state: &mut State,
    call: &Call<'_>,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
    patch: &Value,
) -> Result<Value, Status> {
    let live = existing(state, kind, namespace, name)?;
    check_version(kind, name, patch, &live)?;
    let mut object = live.clone();
    merge::merge_patch(&mut object, patch);
    check_shape(kind, &object, namespace, Some(name))?;
    finish(state, call, kind, namespace, Some(live), object, Some("Update"))
}

/// Server-side apply; the second value says whether the object is new.
pub(super) fn apply(
    state: &mut State,
    call: &Call<'_>,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
    mut config: Value,
    force: bool,
) -> Result<(Value, bool), Status> {
    merge::strip_nulls(&mut config);
    if !config["metadata"]["managedFields"].is_null() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    check_shape(kind, &config, namespace, Some(name)).map_err(|refusal| {
        let about = format!("{namespace}/{name}; {}, Kind={}", kind.api_version(), kind.kind);
        match refusal.message().split_once("unknown field ") {
            Some((_, fields)) => Status::untyped(format!(
                "failed to create typed patch object ({about}): {fields}: field not declared in \
                 schema"
            )),
            None => refusal,
        }
    })?;
    check_duplicates(&config, kind.fields(), "")?;
    defaults::normalise(kind, &mut config);
    let live = state.find(kind.plural, namespace, name).cloned();
    let version = config["metadata"]["resourceVersion"].clone();
    match &live {
        Some(live) => check_version(kind, name, &config, live)?,
        None if !version.is_null() => return Err(Status::not_found(kind, name)),
        None => {}
    }
    if let Some(fields) = config.as_object_mut() {
        fields.remove("status");
    }
    let mut asked = config.clone();
    if let Some(metadata) = asked["metadata"].as_object_mut() {
        metadata.retain(|name, _| !SERVER_METADATA.contains(&name.as_str()));
        metadata.insert("name".to_owned(), name.into());
        if kind.namespaced {
            metadata.insert("namespace".to_owned(), namespace.into());
        }
    }
    let object = apply::apply(live.as_ref(), &asked, kind, &call.manager, force, call.now)?;
    let new = live.is_none();
    Ok((finish(state, call, kind, namespace, live, object, None)?, new))
}

/// Replaces the status alone.
pub(super) fn update_status(
    state: &mut State,
    call: &Call<'_>,
    key: Key,
    kind: &Kind,
    sent: &Value,
) -> Result<Value, Status> {
    let mut object = existing(state, kind, &key.namespace, &key.name)?;
    check_version(kind, &key.name, sent, &object)?;
    object["status"] = sent["status"].clone();
    if !call.dry_run {
        state.put_changed(key, object.clone(), call.now);
    }
    Ok(object)
}

pub(super) fn existing(
    state: &State,
    kind: &Kind,
    namespace: &str,
    name: &str,
) -> Result<Value, Status> {
    let found = state.find(kind.plural, namespace, name).cloned();
    found.ok_or_else(|| Status::not_found(kind, name))
}

/// Stores what the cluster itself makes: no admission, no manager.
pub(super) fn store_new(state: &mut State, key: Key, mut object: Value, now: Timestamp) -> Value {
    object["metadata"]["uid"] = state.next_uid().into();
    object["metadata"]["creationTimestamp"] = stamp(now).into();
    state.put(key, object, now)
}

/// Kind, name and namespace as the path has them, and no field that the kind lacks.
fn check_shape(
    kind: &Kind,
    object: &Value,
    namespace: &str,
    name: Option<&str>,
) -> Result<(), Status> {
    let said = |field: &str| object[field].as_str().unwrap_or_default();
    if said("kind") != kind.kind || said("apiVersion") != kind.api_version() {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): {}, Kind={}",
            kind.kind,
            said("apiVersion"),
            said("kind")
        )));
    }
    let metadata = &object["metadata"];
    if !metadata.is_null() && !metadata.is_object() {
        return Err(Status::bad_request("metadata: expected an object"));
    }
    let of_object = metadata["namespace"].as_str().unwrap_or(namespace);
    if of_object != namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if let (Some(name), Some(own)) = (name, metadata["name"].as_str())
        && name != own
    {
        return Err(Status::bad_request(format!(
            "the name of the object ({own}) does not match the name on the URL ({name})"
        )));
    }
    let mut unknown = Vec::new();
    schema::unknown_fields(object, kind.fields(), "", &mut unknown);
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Status::bad_request(format!("strict decoding error: unknown field {}", unknown.join(", "))))
}

/// Two items of one key in a keyed list.
fn check_duplicates(value: &Value, types: &schema::Type, path: &str) -> Result<(), Status> {
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match types.get(name.as_str()) {
            Some(Form::Struct(of)) => check_duplicates(value, schema::of(of), &path)?,
            Some(Form::Keyed(keys, of)) => {
                let mut seen = std::collections::BTreeSet::new();
                for item in value.as_array().into_iter().flatten() {
                    let key = fields::key_of(item, keys);
                    let shown = fields::display(std::slice::from_ref(&key));
                    if !seen.insert(key) {
                        return Err(Status::untyped(format!(
                            "failed to create typed patch object: {path}: duplicate entries for \
                             key {shown}"
                        )));
                    }
                    check_duplicates(item, schema::of(of), &format!("{path}{shown}"))?;
                }
            }
            Some(
                Form::Leaf | Form::AtomicStruct(_) | Form::Map | Form::Set | Form::AtomicList(_),
            )
            | None => {}
        }
    }
    Ok(())
}

fn check_version(kind: &Kind, name: &str, sent: &Value, live: &Value) -> Result<(), Status> {
    let asked = &sent["metadata"]["resourceVersion"];
    let uid = &sent["metadata"]["uid"];
    if !uid.is_null() && *uid != live["metadata"]["uid"] {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            live["metadata"]["uid"]
        );
        return Err(Status::conflict(kind, name, &why));
    }
    if asked.is_null() || asked == "" || *asked == live["metadata"]["resourceVersion"] {
        return Ok(());
    }
    let why = "the object has been modified; please apply your changes to the latest version and \
               try again";
    Err(Status::conflict(kind, name, why))
}

/// The rest of every write: server metadata, defaults, admission, validation, storage.
/// `operation` names how the fields are to be owned, unless apply has done it.
fn finish(
    state: &mut State,
    call: &Call<'_>,
    kind: &'static Kind,
    namespace: &str,
    live: Option<Value>,
    mut object: Value,
    operation: Option<&str>,
) -> Result<Value, Status> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let name = match &live {
        Some(live) => live["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
        None => name,
    };
    complete(state, call, kind, namespace, live.as_ref(), &mut object);
    object["metadata"]["name"] = name.clone().into();
    if live.is_none() {
        admission::check_namespace(state, kind, namespace, &name)?;
    }
    defaults::fill(kind, &mut object);
    if live.is_none() {
        admission::mutate(state, kind, namespace, &mut object);
    }
    if operation.is_some() {
        apply::track_update(live.as_ref(), &mut object, kind, &call.manager, call.now);
    }
    if kind.has_generation {
        let generation = match &live {
            None => 1,
            Some(live) => {
                let before = live["metadata"]["generation"].as_u64().unwrap_or(1);
                before + u64::from(live["spec"] != object["spec"])
            }
        };
        object["metadata"]["generation"] = generation.into();
    }
    let write = Write {
        kind,
        subresource: "",
        namespace,
        name: &name,
        object: Some(&object),
        old: live.as_ref(),
    };
    // In the real server's order: who may grant, what is valid, and only then what policies say.
    let grants_more = live.as_ref().is_none_or(|live| {
        ["rules", "roleRef", "subjects"].iter().any(|field| live[*field] != object[*field])
    });
    if grants_more {
        rbac::refuse_escalation(state, call.user, kind, &object)?;
    }
    validate::check(kind, &object, live.as_ref())?;
    admission::validate(state, call.user, &write)?;
    if call.dry_run || live.as_ref() == Some(&object) {
        return Ok(object);
    }
    let key = Key::new(kind.plural, namespace, &name);
    let finalizers = object["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
    if !object["metadata"]["deletionTimestamp"].is_null()
        && !finalizers
        && !["Namespace", "Pod"].contains(&kind.kind)
    {
        state.remove(&key, call.now);
        return Ok(object);
    }
    let new = live.is_none();
    let stored = state.put(key, object, call.now);
    if new && kind.kind == "Namespace" {
        let delay = std::time::Duration::from_millis(500);
        state.schedule_in(Task::Furnish(name.clone()), delay, call.now);
    }
    if new && kind.kind == "Pod" {
        state.schedule(Task::StartPod(namespace.to_owned(), name), call.now);
    }
    Ok(stored)
}

/// What the server says about the object, whatever the client sent.
fn complete(
    state: &mut State,
    call: &Call<'_>,
    kind: &Kind,
    namespace: &str,
    live: Option<&Value>,
    object: &mut Value,
) {
    if object["metadata"].is_null() {
        object["metadata"] = json!({});
    }
    let Some(metadata) = object["metadata"].as_object_mut() else { return };
    metadata.retain(|name, _| !SERVER_METADATA.contains(&name.as_str()));
    for empty in ["labels", "annotations", "finalizers", "ownerReferences"] {
        let nothing = metadata.get(empty).is_some_and(|value| {
            value.is_null()
                || value.as_object().is_some_and(serde_json::Map::is_empty)
                || value.as_array().is_some_and(Vec::is_empty)
        });
        if nothing {
            metadata.remove(empty);
        }
    }
    if kind.namespaced {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    match live {
        Some(live) => {
            for name in SERVER_METADATA {
                if let Some(value) = live["metadata"].get(name) {
                    metadata.insert(name.to_owned(), value.clone());
                }
            }
        }
        None => {
            metadata.insert("uid".to_owned(), state.next_uid().into());
            metadata.insert("creationTimestamp".to_owned(), stamp(call.now).into());
        }
    }
    if let Some(fields) = object.as_object_mut()
        && kind.has_status
    {
        fields.remove("status");
        let status = match live {
            Some(live) => live.get("status").cloned(),
            None if kind.kind == "Pod" => {
                Some(json!({"phase": "Pending", "qosClass": "BestEffort"}))
            }
            None => None,
        };
        if let Some(status) = status {
            fields.insert("status".to_owned(), status);
        }
    }
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|name, value| !(name == "data" && value.is_null()));
    }
}

/// What a deletion asks for.
#[derive(Debug, Default)]
pub(super) struct Deletion {
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
    pub(super) propagation: String,
    pub(super) grace: Option<u64>,
}

/// Deletes; the answer is the object if it only begins to go, else a `Status`.
pub(super) fn delete(
    state: &mut State,
    call: &Call<'_>,
    kind: &'static Kind,
    namespace: &str,
    name: &str,
    deletion: &Deletion,
) -> Result<Value, Status> {
    let live = existing(state, kind, namespace, name)?;
    let metadata = &live["metadata"];
    for (what, wanted, found) in [
        ("UID", &deletion.uid, &metadata["uid"]),
        ("ResourceVersion", &deletion.resource_version, &metadata["resourceVersion"]),
    ] {
        if let Some(wanted) = wanted
            && *found != wanted.as_str()
        {
            let found = found.as_str().unwrap_or_default();
            let why = format!(
                "Precondition failed: {what} in precondition: {wanted}, {what} in object meta: \
                 {found}"
            );
            return Err(Status::conflict(kind, name, &why));
        }
    }
    let write = Write { kind, subresource: "", namespace, name, object: None, old: Some(&live) };
    admission::validate(state, call.user, &write)?;
    if kind.kind == "Namespace" && ["default", "kube-system", "kube-public"].contains(&name) {
        return Err(Status::forbidden(kind, name, "this namespace may not be deleted"));
    }
    if call.dry_run {
        return Ok(deleted(kind, &live));
    }
    let key = Key::new(kind.plural, namespace, name);
    match kind.kind {
        "Namespace" => delete_namespace(state, &key, live.clone(), call.now),
        "Pod" => pods::delete(state, &key, deletion.grace, call.now),
        _ => delete_object(state, &key, live.clone(), deletion, call.now),
    }
    Ok(state.find(kind.plural, namespace, name).cloned().unwrap_or_else(|| deleted(kind, &live)))
}

fn delete_namespace(state: &mut State, key: &Key, mut live: Value, now: Timestamp) {
    if !live["metadata"]["deletionTimestamp"].is_null() {
        return;
    }
    live["metadata"]["deletionTimestamp"] = stamp(now).into();
    live["status"]["phase"] = "Terminating".into();
    state.put(key.clone(), live, now);
    let end = state.settings.namespace_end;
    state.schedule(Task::EmptyNamespace(key.name.clone()), now);
    state.schedule_in(Task::EndNamespace(key.name.clone()), end, now);
}

pub(super) fn delete_object(
    state: &mut State,
    key: &Key,
    mut live: Value,
    deletion: &Deletion,
    now: Timestamp,
) {
    if deletion.propagation == "Foreground" && key.plural == "deployments" {
        let finalizers = &mut live["metadata"]["finalizers"];
        if finalizers.is_null() {
            *finalizers = json!(["foregroundDeletion"]);
        }
    }
    let held = live["metadata"]["finalizers"].as_array().is_some_and(|all| !all.is_empty());
    if !held {
        state.remove(key, now);
        return;
    }
    if live["metadata"]["deletionTimestamp"].is_null() {
        live["metadata"]["deletionTimestamp"] = stamp(now).into();
        live["metadata"]["deletionGracePeriodSeconds"] = 0.into();
        state.put(key.clone(), live, now);
    }
}

fn deleted(kind: &Kind, object: &Value) -> Value {
    let mut details = json!({
        "name": object["metadata"]["name"], "kind": kind.plural, "uid": object["metadata"]["uid"],
    });
    if !kind.group.is_empty() {
        details["group"] = kind.group.into();
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}
