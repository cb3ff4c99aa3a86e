//! A GitLab system hook: whether it is genuine, and what it wakes (gitlab.md §1).

use super::ids::{GroupId, ProjectId, TargetId};
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

/// How far `webhook-timestamp` may lie from now, in seconds, either way.
pub const TOLERANCE_SECONDS: u64 = 300;
/// The only value of `X-Gitlab-Event` that a system hook has, whatever its event.
pub const SYSTEM_HOOK: &str = "System Hook";
const SECRET_LENGTH_MIN: usize = 16;
const SECRETS_MAX: usize = 2;
const UNRESOLVED: &str = "@Microsoft.KeyVault(";

/// What proves that a delivery is GitLab's: of each kind none, one, or two while one is being replaced.
#[derive(Debug, Default)]
pub struct Secrets {
    tokens: Vec<SecretString>,
    signing: Vec<SecretBox<[u8; 32]>>,
}

/// Why a list of secrets is not taken. Never holds any of their text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSecret {
    #[error("is a Key Vault reference that nobody resolved")]
    Unresolved,
    #[error("has an empty element")]
    Empty,
    #[error("has a value shorter than {SECRET_LENGTH_MIN} characters")]
    Short,
    #[error("has more than {SECRETS_MAX} values")]
    TooMany,
    #[error("has a value that is not `whsec_` and the base64 of 32 bytes")]
    NotASigningToken,
}

impl Secrets {
    /// Takes comma-separated lists; an absent list leaves its kind unset.
    pub fn parse_tokens(list: Option<&str>) -> Result<Vec<SecretString>, BadSecret> {
        Ok(elements(list)?.into_iter().map(SecretString::from).collect())
    }

    pub fn parse_signing(list: Option<&str>) -> Result<Vec<SecretBox<[u8; 32]>>, BadSecret> {
        elements(list)?.into_iter().map(signing_key).collect()
    }

    pub fn new(tokens: Vec<SecretString>, signing: Vec<SecretBox<[u8; 32]>>) -> Self {
        Self { tokens, signing }
    }
}

fn elements(list: Option<&str>) -> Result<Vec<&str>, BadSecret> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let elements: Vec<_> = list.split(',').map(str::trim).collect();
    if elements.iter().any(|element| element.starts_with(UNRESOLVED)) {
        return Err(BadSecret::Unresolved);
    }
    if elements.iter().any(|element| element.is_empty()) {
        return Err(BadSecret::Empty);
    }
    if elements.iter().any(|element| element.chars().count() < SECRET_LENGTH_MIN) {
        return Err(BadSecret::Short);
    }
    if elements.len() > SECRETS_MAX { Err(BadSecret::TooMany) } else { Ok(elements) }
}

fn signing_key(text: &str) -> Result<SecretBox<[u8; 32]>, BadSecret> {
    let encoded = text.strip_prefix("whsec_").ok_or(BadSecret::NotASigningToken)?;
    let key = STANDARD.decode(encoded).map_err(|_| BadSecret::NotASigningToken)?;
    let key = <[u8; 32]>::try_from(key).map_err(|_| BadSecret::NotASigningToken)?;
    Ok(SecretBox::new(Box::new(key)))
}

/// The headers of a delivery that prove it, as they came.
#[derive(Clone, Copy, Default)]
pub struct Proof<'a> {
    /// `X-Gitlab-Token`.
    pub token: Option<&'a [u8]>,
    /// `webhook-id`.
    pub id: Option<&'a [u8]>,
    /// `webhook-timestamp`: Unix seconds, decimal.
    pub timestamp: Option<&'a [u8]>,
    /// `webhook-signature`: `v1,` and base64, several separated by blanks.
    pub signature: Option<&'a [u8]>,
}

/// Which check a delivery failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    NothingConfigured,
    Token,
    Time,
    Signature,
}

/// Checks every configured kind; an unset kind is skipped, and with none set nothing passes. Takes the same time
/// wherever a wrong secret differs from ours, and whichever of two secrets is right.
pub fn verify(
    secrets: &Secrets,
    proof: Proof<'_>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), Refused> {
    if secrets.tokens.is_empty() && secrets.signing.is_empty() {
        return Err(Refused::NothingConfigured);
    }
    if !secrets.tokens.is_empty() && !token_matches(&secrets.tokens, proof.token) {
        return Err(Refused::Token);
    }
    if secrets.signing.is_empty() { Ok(()) } else { verify_signature(secrets, proof, body, now) }
}

/// Digests are compared, so that not even a length shows.
fn token_matches(tokens: &[SecretString], given: Option<&[u8]>) -> bool {
    let Some(given) = given else { return false };
    let given = Sha256::digest(given);
    let matches = |token: &SecretString| {
        Sha256::digest(token.expose_secret()).as_slice().ct_eq(given.as_slice())
    };
    tokens.iter().map(matches).fold(Choice::from(0), |any, this| any | this).into()
}

fn verify_signature(
    secrets: &Secrets,
    proof: Proof<'_>,
    body: &[u8],
    now: Timestamp,
) -> Result<(), Refused> {
    let (Some(id), Some(timestamp), Some(list)) = (proof.id, proof.timestamp, proof.signature)
    else {
        return Err(Refused::Signature);
    };
    let sent = std::str::from_utf8(timestamp).ok().and_then(unix_seconds).ok_or(Refused::Time)?;
    if now.as_second().abs_diff(sent) > TOLERANCE_SECONDS {
        return Err(Refused::Time);
    }
    let list = std::str::from_utf8(list).map_err(|_| Refused::Signature)?;
    let given: Vec<_> = list
        .split_ascii_whitespace()
        .filter_map(|entry| STANDARD.decode(entry.strip_prefix("v1,")?).ok())
        .collect();
    let mut genuine = Choice::from(0);
    for key in &secrets.signing {
        let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret())
            .expect("HMAC takes a key of any length");
        for part in [id, b".", timestamp, b".", body] {
            mac.update(part);
        }
        let expected = mac.finalize().into_bytes();
        for signature in &given {
            genuine |= expected.as_slice().ct_eq(signature);
        }
    }
    if bool::from(genuine) { Ok(()) } else { Err(Refused::Signature) }
}

/// Digits only: no sign, no blanks.
fn unix_seconds(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

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

/// Reads a delivery that [`verify`] let pass. `kind` is `X-Gitlab-Event`: group webhooks send another one and are
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
    use std::{fs, path::PathBuf};

    const TOKEN: &str = "a made-up hook token";
    const OTHER: &str = "another made-up token";

    fn vectors(folder: &str) -> Vec<Value> {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(folder);
        let mut files: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.iter().map(|file| serde_json::from_slice(&fs::read(file).unwrap()).unwrap()).collect()
    }

    fn secrets(tokens: Option<&str>, signing: Option<&str>) -> Secrets {
        Secrets::new(
            Secrets::parse_tokens(tokens).unwrap(),
            Secrets::parse_signing(signing).unwrap(),
        )
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn header<'a>(headers: &'a Value, name: &str) -> Option<&'a [u8]> {
        let headers = headers.as_object().unwrap();
        let found = headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| value.as_str()).map(str::as_bytes)
    }

    fn proof(headers: &Value) -> Proof<'_> {
        Proof {
            token: header(headers, "x-gitlab-token"),
            id: header(headers, "webhook-id"),
            timestamp: header(headers, "webhook-timestamp"),
            signature: header(headers, "webhook-signature"),
        }
    }

    #[test]
    fn signature_vectors_are_judged_as_written() {
        let cases = vectors("gitlab-signature").remove(0);
        let cases = cases.as_array().unwrap();
        assert!(cases.len() >= 3);
        for case in cases {
            let secrets = secrets(None, case["signing_token"].as_str());
            let body = case["raw_body"].as_str().unwrap().as_bytes();
            let now = at(case["now"].as_i64().unwrap());
            let valid = verify(&secrets, proof(&case["headers"]), body, now).is_ok();
            assert_eq!(Value::Bool(valid), case["expect"]["valid"], "{}", case["name"]);
        }
    }

    #[test]
    fn a_signature_counts_only_near_its_time_and_over_its_own_id_time_and_body() {
        let case = vectors("gitlab-signature").remove(0)[0].clone();
        let secrets = secrets(None, case["signing_token"].as_str());
        let body = case["raw_body"].as_str().unwrap().as_bytes();
        let headers = &case["headers"];
        let good = proof(headers);
        let sent = 1_789_000_000;
        let check = |proof: Proof<'_>, now: i64| verify(&secrets, proof, body, at(now));
        assert_eq!(check(good, sent + 300), Ok(()));
        assert_eq!(check(good, sent - 300), Ok(()));
        assert_eq!(check(good, sent + 301), Err(Refused::Time));
        assert_eq!(check(good, sent - 301), Err(Refused::Time));
        assert_eq!(check(Proof { id: Some(b"other"), ..good }, sent), Err(Refused::Signature));
        let time = Proof { timestamp: Some(b"1789000001"), ..good };
        assert_eq!(check(time, sent), Err(Refused::Signature));
        for timestamp in
            [&b""[..], b"+1789000000", b" 1789000000", b"soon", b"99999999999999999999"]
        {
            assert_eq!(
                check(Proof { timestamp: Some(timestamp), ..good }, sent),
                Err(Refused::Time)
            );
        }
        for missing in [
            Proof { id: None, ..good },
            Proof { timestamp: None, ..good },
            Proof { signature: None, ..good },
            Proof { signature: Some(b""), ..good },
            Proof { signature: Some(b"v1, v1,@@"), ..good },
        ] {
            assert_eq!(check(missing, sent), Err(Refused::Signature));
        }
        let unversioned = &good.signature.unwrap()["v1,".len()..];
        let other = [b"v2,", unversioned].concat();
        assert_eq!(check(Proof { signature: Some(&other), ..good }, sent), Err(Refused::Signature));
    }

    #[test]
    fn every_configured_kind_must_pass_and_an_unset_kind_is_skipped() {
        let case = vectors("gitlab-signature").remove(0)[0].clone();
        let signing = case["signing_token"].as_str();
        let other = "whsec_//////////////////////////////////////////8=";
        let both = format!("{},{other}", signing.unwrap());
        let body = case["raw_body"].as_str().unwrap().as_bytes();
        let signed = proof(&case["headers"]);
        let tokened = Proof { token: Some(TOKEN.as_bytes()), ..Proof::default() };
        let complete = Proof { token: Some(TOKEN.as_bytes()), ..signed };
        let two = format!("{OTHER},{TOKEN}");
        let cases = [
            (None, None, complete, Err(Refused::NothingConfigured)),
            (Some(TOKEN), None, tokened, Ok(())),
            (Some(two.as_str()), None, tokened, Ok(())),
            (Some(OTHER), None, tokened, Err(Refused::Token)),
            (Some(TOKEN), None, signed, Err(Refused::Token)),
            (None, signing, signed, Ok(())),
            (None, Some(both.as_str()), signed, Ok(())),
            (None, Some(other), signed, Err(Refused::Signature)),
            (Some(TOKEN), signing, complete, Ok(())),
            (Some(TOKEN), signing, signed, Err(Refused::Token)),
            (Some(TOKEN), signing, tokened, Err(Refused::Signature)),
        ];
        for (index, (tokens, signing, proof, expected)) in cases.into_iter().enumerate() {
            let verdict = verify(&secrets(tokens, signing), proof, body, at(1_789_000_000));
            assert_eq!(verdict, expected, "case {index}");
        }
    }

    #[test]
    fn secrets_that_cannot_be_meant_are_refused() {
        let tokens = |list| Secrets::parse_tokens(Some(list)).err();
        assert_eq!(tokens(""), Some(BadSecret::Empty));
        assert_eq!(tokens("a made-up hook token,"), Some(BadSecret::Empty));
        assert_eq!(tokens("fifteen letters"), Some(BadSecret::Short));
        assert_eq!(
            tokens("@Microsoft.KeyVault(VaultName=kv,SecretName=hook)"),
            Some(BadSecret::Unresolved)
        );
        assert_eq!(
            tokens("made-up token one,made-up token two,made-up token six"),
            Some(BadSecret::TooMany)
        );
        assert_eq!(tokens("made-up token one, made-up token two"), None);
        let signing = |list| Secrets::parse_signing(Some(list)).err();
        for bad in
            ["a made-up hook token", "whsec_AAECAwQFBgcICQoLDA0ODw==", "whsec_not base64 at all"]
        {
            assert_eq!(signing(bad), Some(BadSecret::NotASigningToken), "{bad}");
        }
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
