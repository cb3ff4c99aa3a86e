//! A GitLab system hook and what it wakes (gitlab.md §1.5).

pub mod proof;

use super::ids::{GroupId, ProjectId, TargetId};
use serde::Deserialize;
use serde_json::Value;

/// The only value of `X-Gitlab-Event` that a system hook has, whatever its event.
pub const SYSTEM_HOOK: &str = "System Hook";

/// The events that can change what a target's runners should be (gitlab.md §1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    GroupCreate,
    GroupDestroy,
    GroupRename,
    GroupUpdate,
    ProjectCreate,
    ProjectDestroy,
    ProjectRename,
    ProjectTransfer,
    ProjectUpdate,
}

impl Event {
    const ALL: [Self; 9] = [
        Self::GroupCreate,
        Self::GroupDestroy,
        Self::GroupRename,
        Self::GroupUpdate,
        Self::ProjectCreate,
        Self::ProjectDestroy,
        Self::ProjectRename,
        Self::ProjectTransfer,
        Self::ProjectUpdate,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::GroupCreate => "group_create",
            Self::GroupDestroy => "group_destroy",
            Self::GroupRename => "group_rename",
            Self::GroupUpdate => "group_update",
            Self::ProjectCreate => "project_create",
            Self::ProjectDestroy => "project_destroy",
            Self::ProjectRename => "project_rename",
            Self::ProjectTransfer => "project_transfer",
            Self::ProjectUpdate => "project_update",
        }
    }

    /// Whether a path that no rule can match says that nothing is to be done. A destroyed, renamed or moved
    /// target may have runners under its old path.
    fn is_settled_by_path(self) -> bool {
        match self {
            Self::GroupCreate | Self::GroupUpdate | Self::ProjectCreate | Self::ProjectUpdate => {
                true
            }
            Self::GroupDestroy
            | Self::GroupRename
            | Self::ProjectDestroy
            | Self::ProjectRename
            | Self::ProjectTransfer => false,
        }
    }

    fn target(self, body: &Body) -> Option<TargetId> {
        match self {
            Self::GroupCreate | Self::GroupDestroy | Self::GroupRename | Self::GroupUpdate => {
                id(&body.group_id).map(|id| TargetId::Group(GroupId(id)))
            }
            Self::ProjectCreate
            | Self::ProjectDestroy
            | Self::ProjectRename
            | Self::ProjectTransfer
            | Self::ProjectUpdate => {
                id(&body.project_id).map(|id| TargetId::Project(ProjectId(id)))
            }
        }
    }
}

/// What a genuine delivery asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Wake {
        target: TargetId,
        event: Event,
        /// The present full path; `None` where the payload has none. A hint: the id decides.
        full_path: Option<String>,
    },
    /// Nothing that concerns a runner.
    Ignore,
    /// Not JSON, or an event of the allow-list without its id.
    Malformed,
}

#[derive(Deserialize)]
struct Body {
    event_name: Option<Value>,
    object_kind: Option<Value>,
    full_path: Option<Value>,
    path_with_namespace: Option<Value>,
    group_id: Option<Value>,
    project_id: Option<Value>,
}

/// Reads a delivery that [`proof::verify`] let pass. `kind` is `X-Gitlab-Event`: group webhooks send another one and are
/// dropped. `could_match` says whether any rule can match a target of that path, now or by what lies below it.
pub fn judge(
    kind: Option<&[u8]>,
    body: &[u8],
    could_match: impl Fn(TargetId, &str) -> bool,
) -> Verdict {
    if kind != Some(SYSTEM_HOOK.as_bytes()) {
        return Verdict::Ignore;
    }
    let is_object = body.trim_ascii_start().starts_with(b"{"); // serde would take an array for a struct
    let Some(body) = serde_json::from_slice::<Body>(body).ok().filter(|_| is_object) else {
        return Verdict::Malformed;
    };
    let name = body.event_name.as_ref().or(body.object_kind.as_ref()).and_then(Value::as_str);
    let Some(event) = Event::ALL.into_iter().find(|event| Some(event.as_str()) == name) else {
        return Verdict::Ignore;
    };
    let Some(target) = event.target(&body) else { return Verdict::Malformed };
    let path = match target {
        TargetId::Project(_) => &body.path_with_namespace,
        TargetId::Group(_) | TargetId::Instance => &body.full_path,
    };
    let full_path = path.as_ref().and_then(Value::as_str).filter(|path| !path.is_empty());
    let hopeless = full_path.is_some_and(|path| !could_match(target, path));
    if hopeless && event.is_settled_by_path() {
        return Verdict::Ignore;
    }
    Verdict::Wake { target, event, full_path: full_path.map(str::to_owned) }
}

fn id(value: &Option<Value>) -> Option<u64> {
    value.as_ref().and_then(Value::as_u64).filter(|id| *id > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn vectors(folder: &str) -> Vec<Value> {
        let folder =
            std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(folder);
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files
            .iter()
            .map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
            .collect()
    }

    pub(super) fn header<'a>(headers: &'a Value, name: &str) -> Option<&'a [u8]> {
        let headers = headers.as_object().unwrap();
        let found = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| value.as_str()).map(str::as_bytes)
    }

    #[test]
    fn hook_vectors_wake_what_they_say() {
        for vector in vectors("gitlab-hooks") {
            let (name, expect) = (&vector["name"], &vector["expect"]);
            let body = vector["body"].to_string();
            let kind = header(&vector["headers"], "x-gitlab-event");
            match judge(kind, body.as_bytes(), |_, _| true) {
                Verdict::Wake { target, event, full_path } => {
                    let kind = expect["target"]["kind"].as_str().unwrap();
                    let id = &expect["target"]["id"];
                    assert_eq!(expect["relevant"], true, "{name}");
                    assert_eq!(expect["event"], event.as_str(), "{name}");
                    assert_eq!(target.to_string(), format!("{}{id}", &kind[..1]), "{name}");
                    assert_eq!(
                        expect["target"]["full_path"],
                        full_path.unwrap_or_default().as_str()
                    );
                }
                Verdict::Ignore => assert_eq!(expect["relevant"], false, "{name}"),
                Verdict::Malformed => panic!("{name} is well formed"),
            }
        }
    }

    #[test]
    fn only_what_matters_is_read_from_a_body() {
        let system = Some(SYSTEM_HOOK.as_bytes());
        let group = |event, path: Option<&str>| Verdict::Wake {
            target: TargetId::Group(GroupId(78)),
            event,
            full_path: path.map(str::to_owned),
        };
        let cases = [
            (
                system,
                r#"{"event_name":"group_create","group_id":78}"#,
                group(Event::GroupCreate, None),
            ),
            (
                system,
                r#"{"event_name":null,"object_kind":"group_create","group_id":78,"full_path":null}"#,
                group(Event::GroupCreate, None),
            ),
            (
                system,
                r#"{"event_name":"group_create","group_id":78,"path":"yes"}"#,
                group(Event::GroupCreate, None),
            ),
            (
                system,
                r#"{"event_name":"group_create","group_id":78,"full_path":"yes/a"}"#,
                group(Event::GroupCreate, Some("yes/a")),
            ),
            (
                system,
                r#"{"event_name":"group_create","group_id":78,"full_path":"no"}"#,
                Verdict::Ignore,
            ),
            (
                system,
                r#"{"event_name":"group_update","group_id":78,"full_path":"no"}"#,
                Verdict::Ignore,
            ),
            (
                system,
                r#"{"event_name":"group_destroy","group_id":78,"full_path":"no"}"#,
                group(Event::GroupDestroy, Some("no")),
            ),
            (
                system,
                r#"{"event_name":"group_rename","group_id":78,"full_path":"no"}"#,
                group(Event::GroupRename, Some("no")),
            ),
            (
                system,
                r#"{"event_name":"group_create","object_kind":"push","group_id":78}"#,
                group(Event::GroupCreate, None),
            ),
            (system, r#"{"event_name":"user_add_to_group","group_id":78}"#, Verdict::Ignore),
            (system, r#"{"event_name":"subgroup_create","group_id":78}"#, Verdict::Ignore),
            (system, r#"{"object_kind":"merge_request"}"#, Verdict::Ignore),
            (system, "{}", Verdict::Ignore),
            (system, r#"{"event_name":"group_create"}"#, Verdict::Malformed),
            (system, r#"{"event_name":"group_create","group_id":"78"}"#, Verdict::Malformed),
            (system, r#"{"event_name":"group_create","group_id":-78}"#, Verdict::Malformed),
            (system, r#"{"event_name":"project_create","group_id":78}"#, Verdict::Malformed),
            (system, r#"{"event_name":"group_create","group_id":78"#, Verdict::Malformed),
            (system, "[]", Verdict::Malformed),
            (system, "", Verdict::Malformed),
            (
                Some(b"Subgroup Hook"),
                r#"{"event_name":"group_create","group_id":78}"#,
                Verdict::Ignore,
            ),
            (None, r#"{"event_name":"group_create","group_id":78}"#, Verdict::Ignore),
        ];
        for (kind, body, expected) in cases {
            let verdict = judge(kind, body.as_bytes(), |_, path| path.starts_with("yes"));
            assert_eq!(verdict, expected, "{body}");
        }
    }
}
