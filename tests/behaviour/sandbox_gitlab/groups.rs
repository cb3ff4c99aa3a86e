//! Groups and projects: made, moved, archived, scheduled for deletion and destroyed.

use super::{World, ids};
use forerunner::sandbox::gitlab::{Settings, Version};
use jiff::SignedDuration;
use serde_json::{Value, json};

#[tokio::test]
async fn a_person_with_curl_makes_a_group_and_a_subgroup() {
    let world = World::new().await;
    let token = world.gitlab.admin_token();
    let form = |pairs: &[(&str, &str)]| {
        let url = format!("http://{}/api/v4/groups", world.server.address);
        let body =
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        let request = world.client.post(url).header("PRIVATE-TOKEN", &token);
        World::read(request.header("content-type", "application/x-www-form-urlencoded").body(body))
    };
    let top = form(&[("name", "Acme Ltd"), ("path", "acme")]).await.expect(201);
    let parent = top["id"].to_string();
    let below = form(&[("name", "Team"), ("path", "team"), ("parent_id", &parent)]).await;
    let below = below.expect(201);
    assert_eq!(below["full_path"], "acme/team");
    assert_eq!(below["parent_id"], top["id"]);
    assert!(below["id"].as_u64() > top["id"].as_u64());
    let read = world.get("groups/acme%2Fteam?with_projects=false").await.expect(200);
    assert_eq!(read["id"], below["id"]);
    assert_eq!(read.get("projects"), None);
    let taken = form(&[("name", "Other"), ("path", "ACME")]).await;
    assert_eq!(taken.status, 400);
    let missing = form(&[]).await;
    missing.refuses(400, json!({ "error": "name is missing, path is missing" }));
}

#[tokio::test]
async fn renaming_or_moving_a_group_moves_all_that_is_below() {
    let world = World::new().await;
    let top = world.gitlab.create_group(None, "acme");
    let other = world.gitlab.create_group(None, "other");
    let team = world.gitlab.create_group(Some(top), "team");
    let project = world.gitlab.create_project(team, "app");
    let renamed = world.send("PUT", &format!("groups/{top}"), json!({ "path": "corp" })).await;
    assert_eq!(renamed.expect(200)["full_path"], "corp");
    let shown = world.get(&format!("projects/{project}")).await.expect(200);
    assert_eq!(shown["path_with_namespace"], "corp/team/app");
    assert_eq!(shown["namespace"]["kind"], "group");
    assert_eq!(world.get("groups/acme").await.status, 404);

    let moved = world.get("projects/acme%2Fteam%2Fapp").await;
    assert_eq!(moved.status, 301);
    let location = format!("https://gitlab.example.com/api/v4/projects/{project}");
    assert_eq!(moved.header("location"), Some(location.as_str()));

    let path = format!("groups/{team}/transfer");
    world.send("POST", &path, json!({ "group_id": other })).await.expect(201);
    let before = world.get(&format!("groups/{team}")).await.expect(200);
    assert_eq!(before["full_path"], "corp/team", "the answer precedes the move");
    world.settle().await;
    let after = world.get(&format!("groups/{team}")).await.expect(200);
    assert_eq!(after["full_path"], "other/team");
    let path = format!("groups/{other}/transfer");
    let below = world.send("POST", &path, json!({ "group_id": team })).await;
    assert_eq!(below.status, 400, "not below itself");
}

#[tokio::test]
async fn nobody_creates_a_runner_in_an_archived_group() {
    let world = World::new().await;
    let top = world.gitlab.create_group(None, "acme");
    let team = world.gitlab.create_group(Some(top), "team");
    let (runner, _) = world.create_group_runner(team).await;
    let archived = world.send("POST", &format!("groups/{top}/archive"), json!({})).await;
    assert_eq!(archived.expect(200)["archived"], true);
    assert_eq!(world.get(&format!("groups/{team}")).await.expect(200)["archived"], true);
    assert_eq!(world.send("POST", &format!("groups/{top}/archive"), json!({})).await.status, 422);
    assert_eq!(world.send("POST", &format!("groups/{team}/archive"), json!({})).await.status, 422);

    for group in [top, team] {
        let body = json!({ "runner_type": "group_type", "group_id": group });
        let answer = world.send("POST", "user/runners", body).await;
        answer.refuses(403, json!({ "message": "403 Forbidden - Insufficient permissions" }));
    }
    let reset = format!("runners/{runner}/reset_authentication_token");
    world.send("POST", &reset, json!({})).await.expect(201);
    world.send("DELETE", &format!("runners/{runner}"), json!({})).await.expect(204);

    world.send("POST", &format!("groups/{top}/unarchive"), json!({})).await.expect(200);
    world.create_group_runner(team).await;
}

#[tokio::test]
async fn scheduling_a_deletion_marks_and_renames_and_restoring_undoes_it() {
    let world = World::new().await;
    let top = world.gitlab.create_group(None, "acme");
    let team = world.gitlab.create_group(Some(top), "team");
    let answer = world.send("DELETE", &format!("groups/{top}"), json!({})).await;
    answer.refuses(202, json!({ "message": "202 Accepted" }));
    let marked = world.get(&format!("groups/{top}")).await.expect(200);
    assert_eq!(marked["marked_for_deletion_on"], "2026-11-24");
    assert_eq!(marked["path"], format!("acme-deletion_scheduled-{top}"));
    assert_eq!(marked["name"], format!("acme-deletion_scheduled-{top}"));
    let below = world.get(&format!("groups/{team}")).await.expect(200);
    assert_eq!(below["marked_for_deletion_on"], Value::Null, "doomed all the same");
    assert_eq!(below["full_path"], format!("acme-deletion_scheduled-{top}/team"));
    world.create_group_runner(team).await;

    let answer = world.send("DELETE", &format!("groups/{team}"), json!({})).await;
    answer.refuses(202, json!({ "message": "202 Accepted" }));
    let below = world.get(&format!("groups/{team}")).await.expect(200);
    assert_eq!(below["marked_for_deletion_on"], Value::Null);
    let active = world.get("groups?active=true").await.expect(200);
    assert_eq!(ids(&active), Vec::<u64>::new());

    let usurper = world.gitlab.create_group(None, "acme");
    let restored = world.send("POST", &format!("groups/{top}/restore"), json!({})).await;
    let path = restored.expect(201)["path"].as_str().unwrap().to_owned();
    assert!(path.starts_with("acme-") && path.len() == "acme-abcde".len(), "{path}");
    world.turn(SignedDuration::from_hours(24 * 60));
    world.settle().await;
    world.get(&format!("groups/{top}")).await.expect(200);
    world.get(&format!("groups/{usurper}")).await.expect(200);
}

#[tokio::test]
async fn the_end_of_the_retention_destroys_the_tree_and_orphans_its_runners() {
    let world = World::new().await;
    let top = world.gitlab.create_group(None, "acme");
    let team = world.gitlab.create_group(Some(top), "team");
    let project = world.gitlab.create_project(team, "app");
    let (runner, token) = world.create_group_runner(team).await;
    world.gitlab.schedule_group_deletion(top);
    world.turn(SignedDuration::from_hours(30 * 24));
    world.settle().await;
    for path in [format!("groups/{top}"), format!("groups/{team}"), format!("projects/{project}")] {
        assert_eq!(world.get(&path).await.status, 404, "{path}");
    }
    let orphan = world.get(&format!("runners/{runner}")).await.expect(200);
    assert_eq!(orphan["groups"], json!([]));
    let verify = world.bare("POST", "runners/verify", json!({ "token": token })).await;
    assert_eq!(verify.status, 422);
}

#[tokio::test]
async fn a_tree_with_images_keeps_its_path_when_it_is_scheduled() {
    let world = World::new().await;
    let top = world.gitlab.create_group(None, "acme");
    let team = world.gitlab.create_group(Some(top), "team");
    let project = world.gitlab.create_project(team, "app");
    world.gitlab.set_registry_images(project, true);
    world.gitlab.schedule_group_deletion(top);
    let marked = world.get(&format!("groups/{top}")).await.expect(200);
    assert_eq!(marked["path"], "acme");
    assert_eq!(marked["marked_for_deletion_on"], "2026-11-24");
}

#[tokio::test]
async fn a_subgroup_can_be_removed_for_good_once_it_is_marked() {
    let world = World::new().await;
    let top = world.gitlab.create_group(None, "acme");
    let team = world.gitlab.create_group(Some(top), "team");
    let remove = async |full_path: &str| {
        let body = json!({ "permanently_remove": true, "full_path": full_path });
        world.send("DELETE", &format!("groups/{team}"), body).await.status
    };
    assert_eq!(remove("acme/team").await, 400, "not marked");
    world.gitlab.schedule_group_deletion(team);
    assert_eq!(remove("acme/team").await, 400, "not the present path");
    assert_eq!(remove(&format!("acme/team-deletion_scheduled-{team}")).await, 202);
    assert_eq!(world.get(&format!("groups/{team}")).await.status, 404);
}

#[tokio::test]
async fn old_versions_destroy_at_once() {
    let settings = Settings { version: Version::V17, ..Settings::default() };
    let world = World::with(settings).await;
    let top = world.gitlab.create_group(None, "acme");
    world.send("DELETE", &format!("groups/{top}"), json!({})).await.expect(202);
    assert_eq!(world.get(&format!("groups/{top}")).await.status, 404);
    let next = world.gitlab.create_group(None, "acme");
    assert!(next > top, "ids are never used again");
}

#[tokio::test]
async fn a_project_is_renamed_when_it_is_scheduled_and_back_when_restored() {
    let world = World::new().await;
    let group = world.gitlab.create_group(None, "acme");
    let body = json!({ "name": "App", "path": "app", "namespace_id": group });
    let project = world.send("POST", "projects", body).await.expect(201)["id"].clone();
    world.send("DELETE", &format!("projects/{project}"), json!({})).await.expect(202);
    let marked = world.get(&format!("projects/{project}")).await.expect(200);
    assert_eq!(marked["path"], format!("app-deletion_scheduled-{project}"));
    assert_eq!(marked["marked_for_deletion_on"], "2026-11-24");
    let restored = world.send("POST", &format!("projects/{project}/restore"), json!({})).await;
    assert_eq!(restored.expect(201)["path"], "app");
    let archived = world.send("POST", &format!("projects/{project}/archive"), json!({})).await;
    assert_eq!(archived.expect(201)["archived"], true);
    let body = json!({ "runner_type": "project_type", "project_id": project });
    assert_eq!(world.send("POST", "user/runners", body).await.status, 403);
}
