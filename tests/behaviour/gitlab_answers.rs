//! The GitLab adapter against answers in GitLab's shapes: what it asks and what it makes of them.

use super::stub::{Reply, Seen, Stub, clock, reply};
use forerunner::{
    adapters::{
        azure::KeyVault,
        gitlab::{Error, Gitlab, TokenSource, Verified, Where},
        tokens::{Credential, Tokens},
    },
    domain::{
        class::Class,
        gitlab::{EntityChange, EntityKind, EntitySettings, GroupAt},
        ids::{GroupId, ProjectId, RunnerId, TargetId},
    },
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

fn gitlab(stub: &Stub) -> Gitlab {
    gitlab_at(stub, "https://gitlab.example.com")
}

fn gitlab_at(stub: &Stub, url: &str) -> Gitlab {
    let http = stub.http(&["gitlab.example.com"]);
    let token = TokenSource::Given(SecretString::from("made-up"));
    Gitlab::new(http, url.parse().unwrap(), token)
}

async fn answering(answer: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Stub {
    Stub::answering(answer).await
}

fn group(id: u64) -> Value {
    json!({"id": id, "full_path": "acme/team", "parent_id": 1, "archived": false,
        "marked_for_deletion_on": "2026-12-01", "runners_token": "made-up", "new_field": {}})
}

#[tokio::test]
async fn a_group_is_found_or_not_by_its_id() {
    let stub = answering(|_, call| match call.uri.as_str() {
        "/api/v4/groups/42?with_projects=false" => reply(200, group(42)),
        _ => reply(404, json!({"message": "404 Group Not Found"})),
    })
    .await;
    let found = gitlab(&stub).group(GroupId(42)).await.unwrap().unwrap();
    assert_eq!((found.parent, found.full_path.as_str()), (Some(GroupId(1)), "acme/team"));
    assert!(found.marked_for_deletion_on.is_some());
    assert_eq!(gitlab(&stub).group(GroupId(7)).await.unwrap(), None);
    assert_eq!(stub.seen()[0].header("private-token"), Some("made-up"));
}

#[tokio::test]
async fn a_path_is_one_segment_and_a_root_is_kept() {
    let stub = answering(|_, _| reply(200, group(42))).await;
    let gitlab = gitlab_at(&stub, "https://gitlab.example.com/git");
    gitlab.group_by_path("acme/team.x").await.unwrap();
    let expected = "GET /git/api/v4/groups/acme%2Fteam%2Ex?with_projects=false";
    assert_eq!(stub.lines(), [expected]);
}

#[tokio::test]
async fn a_project_in_a_personal_namespace_has_no_group() {
    let stub = answering(|_, call| {
        let kind = if call.uri.ends_with('7') { "group" } else { "user" };
        reply(
            200,
            json!({"id": 7, "path_with_namespace": "a/b", "archived": true,
            "namespace": {"id": 3, "kind": kind}, "marked_for_deletion_at": "2026-12-01"}),
        )
    })
    .await;
    let found = gitlab(&stub).project(ProjectId(7)).await.unwrap().unwrap();
    assert_eq!((found.group, found.archived), (Some(GroupId(3)), true));
    assert!(found.marked_for_deletion_on.is_some(), "the old name counts too");
    let personal = gitlab(&stub).project(ProjectId(8)).await.unwrap().unwrap();
    assert_eq!(personal.group, None);
}

fn row(id: u64) -> Value {
    json!({"id": id, "description": "d", "runner_type": "group_type", "ip_address": null})
}

#[tokio::test]
async fn a_list_is_whole_or_an_error() {
    let check = async |last_status: u16, expected: Option<Vec<u64>>| {
        let stub = answering(move |_, call| {
            if call.uri.contains("page=2") {
                return reply(last_status, json!([row(3)]));
            }
            let outside = "<https://outside.example/api/v4/x?type=group_type&per_page=100&page=2>; rel=\"next\"";
            reply(200, json!([row(1), row(2)])).header("link", outside).header("x-next-page", "2")
        })
        .await;
        let listed = gitlab(&stub).runners_of(TargetId::Group(GroupId(42))).await;
        let ids = listed.ok().map(|rows| rows.iter().map(|row| row.id.0).collect::<Vec<_>>());
        assert_eq!(ids, expected, "{last_status}");
        assert_eq!(
            stub.lines()[..2],
            [
                "GET /api/v4/groups/42/runners?type=group_type&per_page=100",
                "GET /api/v4/groups/42/runners?type=group_type&per_page=100&page=2",
            ]
        );
    };
    check(200, Some(vec![1, 2, 3])).await;
    check(404, None).await;
    check(502, None).await;
}

#[tokio::test]
async fn each_target_has_its_own_list_of_runners() {
    let check = async |target: TargetId, line: &str| {
        let stub = answering(|_, _| reply(200, "[]")).await;
        gitlab(&stub).runners_of(target).await.unwrap();
        assert_eq!(stub.lines(), [line]);
    };
    check(TargetId::Instance, "GET /api/v4/runners/all?type=instance_type&per_page=100").await;
    check(
        TargetId::Project(ProjectId(7)),
        "GET /api/v4/projects/7/runners?type=project_type&per_page=100",
    )
    .await;
}

#[tokio::test]
async fn an_endless_list_is_given_up() {
    let stub = answering(|_, _| reply(200, "[]").header("x-next-page", "2")).await;
    let error = gitlab(&stub).groups().all().await.unwrap_err();
    assert!(error.to_string().contains("never end"), "{error}");
    assert_eq!(stub.seen().len(), 2);
}

fn settings() -> EntitySettings {
    EntitySettings {
        description: "marker".to_owned(),
        tags: vec!["a".to_owned(), "b".to_owned()],
        run_untagged: false,
        locked: true,
        protected: true,
        maximum_timeout: Some(3600),
        maintenance_note: None,
        paused: true,
    }
}

#[tokio::test]
async fn a_runner_is_made_once_with_every_setting() {
    let stub = answering(|_, _| {
        reply(201, json!({"id": 9171, "token": "made-up-token", "token_expires_at": null}))
    })
    .await;
    let target = TargetId::Group(GroupId(42));
    let made = gitlab(&stub).create_runner(target, &settings()).await.unwrap();
    assert_eq!((made.id, made.token.expose_secret()), (RunnerId(9171), "made-up-token"));
    assert!(!format!("{made:?}").contains("made-up-token"));
    assert_eq!(
        stub.seen()[0].json(),
        json!({"runner_type": "group_type", "group_id": 42, "description": "marker",
            "tag_list": ["a", "b"], "run_untagged": false, "locked": true,
            "access_level": "ref_protected", "maximum_timeout": 3600, "paused": true})
    );
}

#[tokio::test]
async fn a_creation_that_failed_is_never_repeated() {
    for (status, class) in [(500, Class::Retry { after: None }), (403, Class::Permanent)] {
        let stub = answering(move |_, _| reply(status, "<html>no</html>")).await;
        let error = gitlab(&stub).create_runner(TargetId::Instance, &settings()).await.unwrap_err();
        assert_eq!((error.class(), stub.seen().len()), (class, 1));
    }
}

#[tokio::test]
async fn a_change_sends_only_what_changes() {
    let stub = answering(|_, _| reply(200, r#"{"id": 8}"#)).await;
    let change = EntityChange { paused: Some(false), ..EntityChange::default() };
    gitlab(&stub).update_runner(RunnerId(8), &change).await.unwrap();
    assert_eq!(stub.lines(), ["PUT /api/v4/runners/8"]);
    assert_eq!(stub.seen()[0].json(), json!({"paused": false}));
}

#[tokio::test]
async fn an_entity_is_read_with_its_owner() {
    let stub = answering(|_, _| {
        reply(
            200,
            json!({"id": 8, "description": "d", "runner_type": "group_type",
            "paused": false, "tag_list": ["x"], "run_untagged": true, "locked": false,
            "access_level": "not_protected", "maximum_timeout": null, "maintenance_note": "",
            "contacted_at": "2026-11-23T10:00:00.000Z", "projects": [],
            "groups": [{"id": 42, "web_url": "u", "name": "n"}], "job_execution_status": "active"}),
        )
    })
    .await;
    let entity = gitlab(&stub).entity(RunnerId(8)).await.unwrap().unwrap();
    assert_eq!(entity.owners, [TargetId::Group(GroupId(42))]);
    assert_eq!((entity.kind, entity.busy), (EntityKind::Group, Some(true)));
    assert_eq!((entity.created_at, entity.maintenance_note), (None, None));
}

#[tokio::test]
async fn a_token_is_verified_as_the_runner_itself() {
    let check = async |status: u16, body: Value, expected: Option<Verified>| {
        let stub = answering(move |_, _| reply(status, &body)).await;
        let token = SecretString::from("made-up-token");
        let verified = gitlab(&stub).verify(&token, "s_verifier").await;
        assert_eq!(verified.ok(), expected, "{status}");
        let call = &stub.seen()[0];
        assert_eq!(call.header("private-token"), None);
        assert_eq!(call.json(), json!({"token": "made-up-token", "system_id": "s_verifier"}));
    };
    let valid = Verified::Valid { id: RunnerId(8), token_expires_at: None };
    check(200, json!({"id": 8, "token": "made-up-token", "token_expires_at": null}), Some(valid))
        .await;
    check(403, json!({"message": "403 Forbidden"}), Some(Verified::Refused)).await;
    // An orphan's, in whatever words.
    check(422, json!({}), Some(Verified::Refused)).await;
    check(503, json!({}), None).await;
}

#[tokio::test]
async fn what_is_gone_already_is_deleted() {
    for status in [204, 404] {
        let stub = answering(move |_, _| reply(status, "")).await;
        gitlab(&stub).delete_runner(RunnerId(8)).await.unwrap();
    }
    let stub = answering(|_, _| reply(403, "{}")).await;
    assert!(gitlab(&stub).delete_runner(RunnerId(8)).await.is_err());
}

#[tokio::test]
async fn a_bulk_answer_with_errors_or_without_a_list_proves_nothing() {
    let check = async |answer: Value, expected: Option<usize>| {
        let stub = answering(move |_, _| reply(200, &answer)).await;
        let read = gitlab(&stub).runners_bulk(Where::Everywhere, "forerunner").await;
        assert_eq!(read.ok().map(|rows| rows.len()), expected);
        assert_eq!(stub.lines()[0], "POST /api/graphql");
    };
    let node = json!({"id": "gid://gitlab/Ci::Runner/8", "description": "d",
        "runnerType": "GROUP_TYPE", "paused": true, "contactedAt": null, "createdAt": null,
        "tagList": ["x"], "runUntagged": false, "locked": null, "accessLevel": "REF_PROTECTED",
        "maximumTimeout": 3600, "maintenanceNote": null, "jobExecutionStatus": "IDLE",
        "groups": {"nodes": [{"id": "gid://gitlab/Group/42"}]}, "projects": null});
    let page = |nodes: Value, more: bool| {
        json!({"data": {"runners": {"nodes": nodes,
            "pageInfo": {"hasNextPage": more, "endCursor": "c"}}}})
    };
    check(page(json!([node]), false), Some(1)).await;
    check(page(json!([node]), true), None).await;
    check(json!({"data": {"runners": null}}), None).await;
    check(json!({"data": {"runners": null}, "errors": [{"message": "no"}]}), None).await;
    check(json!({"data": null}), None).await;
}

#[tokio::test]
async fn a_groups_list_is_that_groups_or_proves_nothing() {
    let list = json!({"nodes": [], "pageInfo": {"hasNextPage": false, "endCursor": null}});
    let of = |id: u64, runners: &Value| json!({"data": {"group": {"id": format!("gid://gitlab/Group/{id}"), "runners": runners}}});
    let refused = json!({"data": {"group": {"id": "gid://gitlab/Group/42", "runners": null}},
        "errors": [{"message": "no"}]});
    for (answer, whole) in [
        (of(42, &list), true),
        // By now another group has the path.
        (of(43, &list), false),
        (of(42, &Value::Null), false),
        (refused, false),
        (json!({"data": {"group": null}}), false),
        (json!({"data": {"runners": list}}), false),
    ] {
        let group = GroupAt { id: GroupId(42), path: "platform/cloud".to_owned() };
        for (place, membership) in [
            (Where::Below(&group), "membership: DESCENDANTS"),
            (Where::Around(&group), "membership: ALL_AVAILABLE"),
        ] {
            let said = answer.clone();
            let stub = answering(move |_, _| reply(200, &said)).await;
            let gitlab = gitlab(&stub);
            let read = gitlab.runners_bulk(place, "forerunner").await;
            assert_eq!(read.is_ok(), whole, "{answer}: {read:?}");
            let asked = stub.seen()[0].json();
            assert!(asked["query"].as_str().unwrap().contains(membership), "{asked}");
            assert_eq!(asked["variables"]["group"], "platform/cloud");
        }
    }
}

/// GitLab accepts only the token `new`; the vault's value at each read comes from `values`.
async fn gitlab_with_vault(values: &'static [&'static str]) -> (Stub, Gitlab) {
    let reads = std::sync::atomic::AtomicUsize::new(0);
    let stub = answering(move |_, call| {
        if call.uri.starts_with("/msi") {
            return reply(
                200,
                json!({"access_token": "azure", "expires_on": "1999999999",
                "resource": "r", "token_type": "Bearer"}),
            );
        }
        if call.uri.starts_with("/secrets") {
            let read = reads.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            let value = values[read.min(values.len() - 1)];
            return reply(200, json!({"value": value, "id": "i"}));
        }
        if call.header("private-token") == Some("new") {
            reply(200, json!({"version": "19.4.0-ee", "revision": "x"}))
        } else {
            reply(401, json!({"error": "invalid_token", "error_description": "Token was revoked."}))
        }
    })
    .await;
    let http = stub.http(&["gitlab.example.com", "*.vault.azure.net"]);
    let endpoint = format!("http://127.0.0.1:{}/msi/token", stub.port).parse().unwrap();
    let header = SecretString::from("made-up");
    let credential = Credential::ManagedIdentity { endpoint, header, client_id: None };
    let tokens = Tokens::new(http.clone(), clock(), credential);
    let vault = KeyVault::new(http.clone(), tokens, "kv-fleet");
    let source = TokenSource::Vault { vault, secret: "gitlab-token".to_owned() };
    let url = "https://gitlab.example.com".parse().unwrap();
    (stub, Gitlab::new(http, url, source))
}

#[tokio::test]
async fn a_rotated_token_is_read_from_the_vault_again() {
    let (stub, gitlab) = gitlab_with_vault(&["old", "new"]).await;
    assert!(stub.seen().is_empty(), "nothing is asked before it is needed");
    assert_eq!(gitlab.version().await.unwrap(), "19.4.0-ee");
    assert_eq!(gitlab.version().await.unwrap(), "19.4.0-ee");
    let reads = stub.lines().iter().filter(|line| line.contains("/secrets")).count();
    assert_eq!(reads, 2);
}

#[tokio::test]
async fn a_dead_token_is_an_error_after_one_more_look() {
    let (stub, gitlab) = gitlab_with_vault(&["old"]).await;
    let error = gitlab.version().await.unwrap_err();
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    let asked = stub.lines().iter().filter(|line| line.contains("/version")).count();
    assert_eq!(asked, 1, "the same token is not tried twice");
}
