//! What forerunner makes of a GitLab that refuses, limits, moves, or is under maintenance.

use super::stub::{Reply, Seen, Stub, reply};
use forerunner::{
    adapters::gitlab::{Error, Gitlab, TokenSource, Verified, Where},
    domain::{
        class::Class,
        gitlab::EntityChange,
        ids::{GroupId, RunnerId, TargetId},
    },
};
use jiff::SignedDuration;
use secrecy::SecretString;
use serde_json::{Value, json};

const URL: &str = "https://gitlab.example.com";

fn at(stub: &Stub, url: &str) -> Gitlab {
    let token = TokenSource::Given(SecretString::from("made-up"));
    Gitlab::new(stub.http(&["gitlab.example.com"]), url.parse().unwrap(), token)
}

async fn answering(answer: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Stub {
    Stub::answering(answer).await
}

fn retry(seconds: i64) -> Class {
    Class::Retry { after: Some(SignedDuration::from_secs(seconds)) }
}

#[tokio::test]
async fn a_redirect_is_refused_with_the_right_address() {
    let check = async |url: &str, location: &'static str, words: &[&str]| {
        let stub = answering(move |_, _| reply(301, "").header("location", location)).await;
        let error = at(&stub, url).group(GroupId(42)).await.unwrap_err();
        assert!(matches!(error, Error::Redirected { .. }), "{error:?}");
        assert_eq!((error.class(), stub.seen().len()), (Class::Permanent, 1));
        for words in words {
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(!error.to_string().contains("made-up"), "{error}");
    };
    let words = ["set `gitlab.url` to https://git.example.com"];
    check(URL, "https://git.example.com/api/v4/groups/42?private_token=made-up", &words).await;
    check(URL, "/gitlab/api/v4/groups/42", &["to https://gitlab.example.com/gitlab"]).await;
    let words = ["/users/sign_in", "is a relative root such as `/gitlab` missing?"];
    check(URL, "https://gitlab.example.com/users/sign_in", &words).await;
    let words = ["https://gitlab.example.com/git/api/v4/groups/7", "renamed or moved"];
    let root = "https://gitlab.example.com/git";
    check(
        root,
        "https://x:made-up@gitlab.example.com/git/api/v4/groups/7",
        &["set `gitlab.url`"; 0],
    )
    .await;
    check(root, "/git/api/v4/groups/7", &words).await;
}

#[tokio::test]
async fn a_relative_root_stands_before_rest_and_graphql() {
    let stub = answering(|_, call| match call.method.as_str() {
        "POST" => reply(200, page(&[], None)),
        _ => reply(200, json!({"version": "19.4.0"})),
    })
    .await;
    for url in ["https://gitlab.example.com/git/lab", "https://gitlab.example.com/git/lab/"] {
        let gitlab = at(&stub, url);
        gitlab.version().await.unwrap();
        gitlab.runners_bulk(Where::Everywhere, "x").await.unwrap();
    }
    let both = ["GET /git/lab/api/v4/version", "POST /git/lab/api/graphql"];
    assert_eq!(stub.lines(), [both, both].concat());
}

#[tokio::test]
async fn a_gitlab_under_maintenance_is_waited_for_and_says_nothing_about_a_token() {
    for (status, words) in [
        (403, "You cannot perform write operations on a read-only instance"),
        (503, "GitLab is undergoing maintenance"),
    ] {
        let stub = answering(move |_, _| reply(status, json!({"message": words}))).await;
        let gitlab = at(&stub, URL);
        let change = EntityChange { paused: Some(true), ..EntityChange::default() };
        let error = gitlab.update_runner(RunnerId(8), &change).await.unwrap_err();
        assert!(matches!(error, Error::Maintenance { .. }), "{error:?}");
        assert_eq!(error.class(), retry(300));
        assert!(error.to_string().contains("read-only now"), "{error}");
        let token = SecretString::from("made-up");
        let verified = gitlab.verify(&token, "s_verifier").await;
        assert!(matches!(verified, Err(Error::Maintenance { .. })), "{verified:?}");
    }
    let stub = answering(|_, _| reply(403, json!({"message": "403 Forbidden"}))).await;
    let verified = at(&stub, URL).verify(&SecretString::from("made-up"), "s_verifier").await;
    assert_eq!(verified.unwrap(), Verified::Refused);
}

#[tokio::test]
async fn a_missing_scope_is_named_for_each_call() {
    let listed =
        r#"{"error":"insufficient_scope","error_description":"words","scope":"api read_api"}"#;
    let unlisted = r#"{"error":"insufficient_scope","error_description":"words"}"#;
    for body in [listed, unlisted] {
        let stub = answering(move |_, _| reply(403, body)).await;
        let gitlab = at(&stub, URL);
        let named = |error: Error| {
            let Error::InsufficientScope { needed, .. } = error else { panic!("{error:?}") };
            needed
        };
        let target = TargetId::Group(GroupId(42));
        assert_eq!(named(gitlab.group(GroupId(42)).await.unwrap_err()), "read_api");
        assert_eq!(named(gitlab.runners_of(target).await.unwrap_err()), "read_api");
        assert_eq!(named(gitlab.entity(RunnerId(8)).await.unwrap_err()), "manage_runner");
        assert_eq!(named(gitlab.reset_token(RunnerId(8)).await.unwrap_err()), "manage_runner");
        assert_eq!(named(gitlab.delete_runner(RunnerId(8)).await.unwrap_err()), "manage_runner");
        let bulk = gitlab.runners_bulk(Where::Everywhere, "x").await.unwrap_err();
        assert_eq!(named(bulk), "read_api");
    }
}

#[tokio::test]
async fn a_rate_limit_says_when_to_come_back_in_every_form_it_has() {
    let check = async |answer: fn() -> Reply, seconds: i64| {
        let stub = answering(move |_, _| answer()).await;
        let error = at(&stub, URL).group(GroupId(42)).await.unwrap_err();
        assert_eq!((error.class(), stub.seen().len()), (retry(seconds), 1));
    };
    check(|| reply(429, "Retry later").header("retry-after", "7"), 7).await;
    let reset = || {
        reply(429, "Retry later")
            .header("date", "Mon, 23 Nov 2026 10:00:00 GMT")
            .header("ratelimit-reset", "1795428042")
    };
    check(reset, 42).await;
    let endpoint = || {
        reply(
            429,
            json!({"message": {"error": "This endpoint has been requested too many times."}}),
        )
    };
    check(endpoint, 60).await;
}

#[tokio::test]
async fn an_error_page_of_a_proxy_is_passing_and_never_quoted() {
    for status in [502, 503, 504] {
        let page = "<html><h1>made-up words</h1></html>";
        let stub =
            answering(move |_, _| reply(status, page).header("content-type", "text/html")).await;
        let error = at(&stub, URL).group(GroupId(42)).await.unwrap_err();
        assert_eq!((error.class(), stub.seen().len()), (Class::Retry { after: None }, 2));
        assert!(!error.to_string().contains("made-up"), "{error}");
    }
}

fn node(id: u64) -> Value {
    json!({"id": format!("gid://gitlab/Ci::Runner/{id}"), "description": "d",
        "runnerType": "GROUP_TYPE", "paused": true, "contactedAt": null, "createdAt": null,
        "tagList": [], "runUntagged": false, "locked": null, "accessLevel": "NOT_PROTECTED",
        "maximumTimeout": null, "maintenanceNote": null, "jobExecutionStatus": "IDLE",
        "groups": {"nodes": [{"id": "gid://gitlab/Group/42"}]}, "projects": null})
}

fn page(ids: &[u64], next: Option<&str>) -> Value {
    let nodes: Vec<Value> = ids.iter().map(|id| node(*id)).collect();
    json!({"data": {"runners": {"nodes": nodes,
        "pageInfo": {"hasNextPage": next.is_some(), "endCursor": next}}}})
}

/// A GitLab that lets a query of at most `rows` rows pass, and what it was asked for: rows and cursor.
async fn weighing(rows: u64, words: &'static str) -> (Result<Vec<u64>, Error>, Vec<(u64, Value)>) {
    let stub = answering(move |_, call| {
        let variables = &call.json()["variables"];
        if variables["first"].as_u64().unwrap() > rows {
            return reply(200, json!({"errors": [{"message": words}]}));
        }
        match variables["after"].as_str() {
            None => reply(200, page(&[1, 2], Some("c"))),
            Some(_) => reply(200, page(&[3], None)),
        }
    })
    .await;
    let read = at(&stub, URL).runners_bulk(Where::Everywhere, "x").await;
    let seen = stub.seen();
    let asked = seen.iter().map(Seen::json).map(|body| {
        let variables = &body["variables"];
        (variables["first"].as_u64().unwrap(), variables["after"].clone())
    });
    let asked = asked.collect();
    (read.map(|rows| rows.iter().map(|row| row.id.0).collect()), asked)
}

#[tokio::test]
async fn a_query_that_is_too_complex_is_asked_again_with_fewer_rows() {
    let heavy = "Query has complexity of 412, which exceeds max complexity of 250";
    let (read, asked) = weighing(100, heavy).await;
    assert_eq!(read.unwrap(), [1, 2, 3]);
    assert_eq!(asked, [(100, Value::Null), (100, json!("c"))]);
    let (read, asked) = weighing(30, heavy).await;
    assert_eq!(read.unwrap(), [1, 2, 3]);
    let expected = [(100, Value::Null), (50, Value::Null), (25, Value::Null), (25, json!("c"))];
    assert_eq!(asked, expected);
    let (read, asked) = weighing(0, "Request timed out. Please try a less complex query.").await;
    assert!(matches!(read, Err(Error::Unreadable { .. })), "{read:?}");
    assert_eq!(asked.iter().map(|(rows, _)| *rows).collect::<Vec<_>>(), [100, 50, 25, 12]);
    let (read, asked) = weighing(0, "Field 'runners' doesn't exist").await;
    assert!(read.is_err());
    assert_eq!(asked.len(), 1);
}

#[tokio::test]
async fn data_beside_an_error_is_not_taken_for_the_whole() {
    let mut partial = page(&[1], None);
    partial["errors"] =
        json!([{"message": "Internal server error", "path": ["runners", "nodes", 1]}]);
    let stub = answering(move |_, _| reply(200, &partial)).await;
    let error = at(&stub, URL).runners_bulk(Where::Everywhere, "x").await.unwrap_err();
    assert_eq!(error.class(), Class::Retry { after: None });
    assert!(error.to_string().contains("Internal server error"), "{error}");
}

/// What stands between us and GitLab may say that all is well; only GitLab's own answer says that it was done.
#[tokio::test]
async fn a_change_or_a_deletion_is_done_only_where_gitlab_says_so() {
    let done = json!({"id": 8, "description": "d"});
    let check = async |status: u16, body: Value, changed: bool, deleted: bool| {
        let stub = answering(move |_, _| reply(status, &body)).await;
        let gitlab = at(&stub, URL);
        let change = EntityChange { paused: Some(true), ..EntityChange::default() };
        for (what, outcome, expected) in [
            ("a change", gitlab.update_runner(RunnerId(8), &change).await, changed),
            ("a deletion", gitlab.delete_runner(RunnerId(8)).await, deleted),
        ] {
            let class = outcome.as_ref().err().map(Error::class);
            let unsure = Some(Class::Retry { after: None }).filter(|_| !expected);
            assert_eq!(class, unsure, "{what}: {status}: {outcome:?}");
        }
    };
    check(200, done.clone(), true, false).await;
    check(204, Value::Null, false, true).await;
    check(202, done.clone(), false, false).await;
    check(201, done, false, false).await;
    check(200, json!({"id": 9}), false, false).await;
    check(200, json!("<html>Welcome</html>"), false, false).await;
}

/// What each line of GitLab sends of a runner, and what it leaves out (gitlab.md §8).
#[tokio::test]
async fn runners_of_every_line_from_17_to_19_are_read() {
    let base = json!({"id": 8, "description": "d", "runner_type": "group_type", "paused": false,
        "tag_list": ["x"], "run_untagged": true, "locked": false, "access_level": "not_protected",
        "maximum_timeout": null, "contacted_at": null, "projects": [],
        "groups": [{"id": 42, "web_url": "u", "name": "n"}]});
    let check = async |version: &str, more: Value, busy: Option<bool>, created: bool| {
        let mut body = base.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let stub = answering(move |_, _| reply(200, &body)).await;
        let entity = at(&stub, URL).entity(RunnerId(8)).await.unwrap().unwrap();
        assert_eq!((entity.busy, entity.created_at.is_some()), (busy, created), "{version}");
        assert_eq!(entity.owners, [TargetId::Group(GroupId(42))], "{version}");
    };
    let old = json!({"ip_address": "", "version": null, "active": true, "is_shared": false});
    check("17.0", old, None, false).await;
    let middle = json!({"job_execution_status": "idle", "created_at": "2026-01-01T00:00:00.000Z"});
    check("18.5", middle, Some(false), true).await;
    let new = json!({"job_execution_status": "active", "created_at": "2026-01-01T00:00:00.000Z",
        "created_by": {"id": 1, "username": "bot"}, "maintenance_note": "n", "brand_new": {}});
    check("19.4", new, Some(true), true).await;
}
