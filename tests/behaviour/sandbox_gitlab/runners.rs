//! Runners: made, changed, reset, contacted and removed.

use super::{World, members};
use forerunner::sandbox::{
    gitlab::{Owner, RunnerEdit, Settings, Version},
    wire::{Fault, Service, What},
};
use jiff::SignedDuration;
use serde_json::{Value, json};

#[tokio::test]
async fn a_token_is_shown_once() {
    let world = World::new().await;
    let group = world.gitlab.create_group(None, "acme");
    let (id, token) = world.create_group_runner(group).await;
    assert!(token.starts_with("glrt-"));
    for path in
        [format!("runners/{id}"), "runners/all".to_owned(), format!("groups/{group}/runners")]
    {
        assert!(!world.get(&path).await.text.contains(&token), "{path}");
    }
    assert!(world.gitlab.token_is_valid(&token));
}

#[tokio::test]
async fn creating_twice_makes_two() {
    let world = World::new().await;
    let group = world.gitlab.create_group(None, "acme");
    let body = json!({ "runner_type": "group_type", "group_id": group, "description": "same" });
    let first = world.send("POST", "user/runners", body.clone()).await.expect(201);
    let second = world.send("POST", "user/runners", body).await.expect(201);
    assert_ne!(first["id"], second["id"]);
    assert_ne!(first["token"], second["token"]);
    assert_eq!(world.gitlab.runners().len(), 2);
}

#[tokio::test]
async fn a_lost_answer_leaves_a_runner_whose_token_nobody_has() {
    let world = World::new().await;
    let group = world.gitlab.create_group(None, "acme");
    world.wire.add_fault(Fault {
        service: Service::Gitlab,
        method: Some("POST"),
        path: "/user/runners".to_owned(),
        times: 1,
        what: What::DropAfterEffect,
    });
    let url = format!("http://{}/api/v4/user/runners", world.server.address);
    let body = json!({ "runner_type": "group_type", "group_id": group, "description": "mine" });
    let request = world.client.post(url).header("PRIVATE-TOKEN", world.gitlab.admin_token());
    assert!(request.json(&body).send().await.is_err());
    let left = world.gitlab.runners();
    assert_eq!(left[0].description, "mine");
    let reset = format!("runners/{}/reset_authentication_token", left[0].id);
    let healed = world.send("POST", &reset, json!({})).await.expect(201);
    assert!(world.gitlab.token_is_valid(healed["token"].as_str().unwrap()));
}

async fn check_refusal(body: Value, status: u16, expected: Value) {
    let world = World::new().await;
    world.gitlab.create_group(None, "acme");
    world.send("POST", "user/runners", body).await.refuses(status, expected);
    assert_eq!(world.gitlab.runners(), []);
}

#[tokio::test]
async fn a_runner_that_does_not_validate_is_not_made() {
    let message = |text: &str| json!({ "message": format!("400 Bad request - {text}") });
    let error = |text: &str| json!({ "error": text });
    let instance = |more: Value| {
        let mut body = json!({ "runner_type": "instance_type" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let cases = [
        (json!({}), error("runner_type is missing")),
        (json!({ "group_id": "x" }), error("runner_type is missing, group_id is invalid")),
        (json!({ "runner_type": "any" }), error("runner_type does not have a valid value")),
        (json!({ "runner_type": "group_type" }), error("group_id is missing")),
        (json!({ "runner_type": "project_type" }), error("project_id is missing")),
        (
            json!({ "runner_type": "group_type", "group_id": 4711 }),
            message("Missing/invalid group"),
        ),
        (
            json!({ "runner_type": "project_type", "project_id": 4711 }),
            message("Missing/invalid project"),
        ),
        (
            instance(json!({ "access_level": "any" })),
            error("access_level does not have a valid value"),
        ),
        (instance(json!({ "paused": "perhaps" })), error("paused is invalid")),
        (
            instance(json!({ "run_untagged": false, "tag_list": "" })),
            message("Tags list can not be empty when runner is not allowed to pick untagged jobs"),
        ),
        (
            instance(json!({ "maximum_timeout": 599, "description": "x".repeat(1025) })),
            message(
                "Description is too long (maximum is 1024 characters) and Maximum timeout needs to be at least 10 minutes",
            ),
        ),
    ];
    for (body, expected) in cases {
        check_refusal(body, 400, expected).await;
    }
}

#[tokio::test]
async fn details_have_every_setting_and_put_answers_without_projects() {
    let world = World::new().await;
    let group = world.gitlab.create_group(None, "acme");
    let body = json!({
        "runner_type": "group_type",
        "group_id": group,
        "description": "made",
        "maintenance_note": "by us",
        "paused": true,
        "access_level": "ref_protected",
        "run_untagged": false,
        "tag_list": ["a", "b"],
        "maximum_timeout": 3600,
    });
    let id = world.send("POST", "user/runners", body).await.expect(201)["id"].clone();
    let shown = world.get(&format!("runners/{id}")).await.expect(200);
    assert_eq!(shown["tag_list"], json!(["a", "b"]));
    assert_eq!(shown["maintenance_note"], "by us");
    assert_eq!((&shown["paused"], &shown["active"]), (&json!(true), &json!(false)));
    assert_eq!(shown["access_level"], "ref_protected");
    assert_eq!(shown["run_untagged"], false);
    assert_eq!(shown["maximum_timeout"], 3600);
    assert_eq!(shown["groups"][0]["id"], group);
    assert_eq!(shown["projects"], json!([]));
    assert_eq!(shown.get("token_expires_at"), None);

    let put = async |body: Value| world.send("PUT", &format!("runners/{id}"), body).await;
    let changed = put(json!({ "paused": false, "tag_list": ["c"] })).await.expect(200);
    assert_eq!(changed.get("projects"), None);
    assert_eq!(changed["tag_list"], json!(["c"]), "replaced, not added to");
    assert_eq!(changed["maintenance_note"], "by us");
    let text = "can not be empty when runner is not allowed to pick untagged jobs";
    put(json!({ "tag_list": [] }))
        .await
        .refuses(400, json!({ "message": { "tags_list": [text] } }));
    assert_eq!(put(json!({})).await.status, 400);
    assert_eq!(put(json!({ "active": true, "paused": true })).await.status, 400);
}

#[tokio::test]
async fn versions_differ_in_what_a_list_has_and_how_a_missing_runner_is_told() {
    for (version, has_created_at, text) in [
        (Version::V17, false, "404 Not found"),
        (Version::V18, true, "404 Not found"),
        (Version::V19, true, "404 Runner Not Found"),
    ] {
        let world = World::with(Settings { version, ..Settings::default() }).await;
        let group = world.gitlab.create_group(None, "acme");
        let (_, token) = world.create_group_runner(group).await;
        let list = world.get("runners/all").await.expect(200);
        assert_eq!(members(&list[0]).contains("created_at"), has_created_at, "{version:?}");
        assert_eq!(token.contains('.'), version >= Version::V18, "{version:?}");
        world.get("runners/4711").await.refuses(404, json!({ "message": text }));
    }
}

#[tokio::test]
async fn a_reset_kills_the_old_token_at_once() {
    let world = World::new().await;
    let group = world.gitlab.create_group(None, "acme");
    let (id, old) = world.create_group_runner(group).await;
    let path = format!("runners/{id}/reset_authentication_token");
    let new = world.send("POST", &path, json!({})).await.expect(201);
    let new = new["token"].as_str().unwrap();
    let forbidden = json!({ "message": "403 Forbidden" });
    world.poll(&old, "r_1").await.refuses(403, forbidden.clone());
    let verify = |token: &str| {
        let body = json!({ "token": token, "system_id": "r_1" });
        world.bare("POST", "runners/verify", body)
    };
    verify(&old).await.refuses(403, forbidden.clone());
    let verified = verify(new).await.expect(200);
    assert_eq!(verified, json!({ "id": id, "token": new, "token_expires_at": null }));

    let body = json!({ "token": new });
    let newest = world.bare("POST", "runners/reset_authentication_token", body).await.expect(201);
    verify(new).await.refuses(403, forbidden);
    verify(newest["token"].as_str().unwrap()).await.expect(200);
}

#[tokio::test]
async fn a_deleted_runner_is_gone_for_its_token_too() {
    let world = World::new().await;
    let group = world.gitlab.create_group(None, "acme");
    let (id, token) = world.create_group_runner(group).await;
    let stale = world
        .client
        .delete(format!("http://{}/api/v4/runners/{id}", world.server.address))
        .header("PRIVATE-TOKEN", world.gitlab.admin_token())
        .header("If-Unmodified-Since", "Mon, 23 Nov 2026 06:00:00 GMT");
    assert_eq!(World::read(stale).await.status, 412);
    world.send("DELETE", &format!("runners/{id}"), json!({})).await.expect(204);
    let answer = world.send("DELETE", &format!("runners/{id}"), json!({})).await;
    answer.refuses(404, json!({ "message": "404 Runner Not Found" }));
    assert_eq!(world.poll(&token, "r_1").await.status, 403);

    let (_, token) = world.create_group_runner(group).await;
    world.bare("DELETE", "runners", json!({ "token": token })).await.expect(204);
    assert_eq!(world.gitlab.runners(), []);
    assert_eq!(world.bare("DELETE", "runners", json!({ "token": token })).await.status, 403);
}

#[tokio::test]
async fn an_expired_token_is_as_good_as_unknown() {
    let lifetime = SignedDuration::from_hours(1);
    let settings = Settings { runner_token_lifetime: Some(lifetime), ..Settings::default() };
    let world = World::with(settings).await;
    let group = world.gitlab.create_group(None, "acme");
    let body = json!({ "runner_type": "group_type", "group_id": group });
    let made = world.send("POST", "user/runners", body).await.expect(201);
    assert_eq!(made["token_expires_at"], "2026-11-24T07:00:00.000Z");
    let token = made["token"].as_str().unwrap();
    assert_eq!(world.poll(token, "r_1").await.status, 204);
    world.turn(lifetime);
    assert_eq!(world.poll(token, "r_1").await.status, 403);
    let own = world.bare("POST", "runners/reset_authentication_token", json!({ "token": token }));
    assert_eq!(own.await.status, 403);
    let path = format!("runners/{}/reset_authentication_token", made["id"]);
    let renewed = world.send("POST", &path, json!({})).await.expect(201);
    assert_eq!(renewed["token_expires_at"], "2026-11-24T08:00:00.000Z");
}

#[tokio::test]
async fn every_system_id_is_a_manager_and_a_contact_ages() {
    let world = World::new().await;
    let group = world.gitlab.create_group(None, "acme");
    let (id, token) = world.create_group_runner(group).await;
    let status = async || {
        let shown = world.get(&format!("runners/{id}")).await.expect(200);
        (shown["status"].as_str().unwrap().to_owned(), shown["online"].clone())
    };
    assert_eq!(status().await, ("never_contacted".to_owned(), Value::Null));
    world.poll(&token, "s_1").await;
    world.bare("POST", "runners/verify", json!({ "token": token })).await.expect(200);
    assert_eq!(status().await, ("online".to_owned(), json!(true)));
    let managers = world.get(&format!("runners/{id}/managers")).await.expect(200);
    assert_eq!(managers[0]["system_id"], "s_1");
    assert_eq!(managers[0]["version"], "19.4.0");
    assert_eq!(managers[1]["system_id"], "<legacy>");
    let shown = world.get(&format!("runners/{id}")).await.expect(200);
    assert_eq!(shown["contacted_at"], "2026-11-24T06:00:00.000Z");

    world.gitlab.edit_runner(id, RunnerEdit { paused: Some(true), ..RunnerEdit::default() });
    assert_eq!(status().await, ("paused".to_owned(), json!(true)));
    world.turn(SignedDuration::from_hours(2));
    assert_eq!(status().await, ("paused".to_owned(), json!(false)));
    world.gitlab.edit_runner(id, RunnerEdit { paused: Some(false), ..RunnerEdit::default() });
    assert_eq!(status().await, ("offline".to_owned(), json!(false)));
    world.turn(SignedDuration::from_hours(24 * 7));
    assert_eq!(status().await.0, "stale");

    let remove = async |system_id: &str| {
        let body = json!({ "token": token, "system_id": system_id });
        world.bare("DELETE", "runners/managers", body).await.status
    };
    assert_eq!(remove("s_1").await, 204);
    assert_eq!(remove("s_1").await, 404);
    let without = world.bare("DELETE", "runners/managers", json!({ "token": token })).await;
    assert_eq!(without.status, 400);
    let long = json!({ "token": token, "system_id": "x".repeat(65) });
    assert_eq!(world.bare("POST", "jobs/request", long).await.status, 400);
}

#[tokio::test]
async fn a_project_runner_goes_to_another_project_unless_it_is_locked() {
    let world = World::new().await;
    let group = world.gitlab.create_group(None, "acme");
    let [first, second] = ["a", "b"].map(|path| world.gitlab.create_project(group, path));
    let body = json!({ "runner_type": "project_type", "project_id": first, "locked": true });
    let id = world.send("POST", "user/runners", body).await.expect(201)["id"].as_u64().unwrap();
    let enable = async || {
        let path = format!("projects/{second}/runners");
        world.send("POST", &path, json!({ "runner_id": id })).await.status
    };
    assert_eq!(enable().await, 403);
    world.gitlab.edit_runner(id, RunnerEdit { locked: Some(false), ..RunnerEdit::default() });
    assert_eq!(enable().await, 201);
    let shown = world.get(&format!("runners/{id}")).await.expect(200);
    assert_eq!(super::ids(&shown["projects"]), [first, second]);
    assert_eq!(world.gitlab.runner(id).unwrap().owner, Owner::Project(first));
    let path = format!("projects/{first}/runners/{id}");
    assert_eq!(world.send("DELETE", &path, json!({})).await.status, 403);
    let path = format!("projects/{second}/runners/{id}");
    world.send("DELETE", &path, json!({})).await.expect(204);
}

#[tokio::test]
async fn registration_tokens_are_gone() {
    let world = World::new().await;
    assert_eq!(world.bare("POST", "runners", json!({ "token": "any" })).await.status, 410);
}
