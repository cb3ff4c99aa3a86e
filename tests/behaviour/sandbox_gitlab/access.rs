//! Who is let in, and how the others are told.

use super::World;
use forerunner::sandbox::gitlab::{Limit, Limits, NewJob, Settings, Version};
use jiff::SignedDuration;
use serde_json::json;

/// One row of the matrix of scopes and endpoints, on a group, a project and a runner of its own.
async fn check(world: &World, scope: &str, method: &str, path: &str, allowed: bool) {
    let name = format!("{scope} {method} {path}").replace(|c: char| !c.is_alphanumeric(), "-");
    let group = world.gitlab.create_group(None, &name);
    let project = world.gitlab.create_project(group, "app");
    let (runner, _) = world.create_group_runner(group).await;
    let token = world.gitlab.create_access_token(world.gitlab.admin_user(), &[scope]);
    let path = path
        .replace("{group}", &group.to_string())
        .replace("{project}", &project.to_string())
        .replace("{runner}", &runner.to_string());
    let body = (method != "GET" && method != "DELETE").then(|| {
        json!({ "runner_type": "instance_type", "description": "other", "url": "http://127.0.0.1:1" })
    });
    let answer = world.call(&token, method, &format!("v4/{path}"), body).await;
    let what = format!("{scope}: {method} {path}: {}", answer.text);
    if allowed {
        assert!((200..300).contains(&answer.status), "{what}");
    } else {
        assert_eq!(answer.status, 403, "{what}");
        assert_eq!(answer.json()["error"], "insufficient_scope", "{what}");
    }
}

#[tokio::test]
async fn each_scope_opens_its_endpoints_and_no_other() {
    const CREATE: &[&str] = &["api", "create_runner"];
    const READ: &[&str] = &["api", "read_api"];
    const READ_ONE: &[&str] = &["api", "read_api", "manage_runner"];
    const WRITE_ONE: &[&str] = &["api", "manage_runner"];
    const ROTATE: &[&str] = &["api", "self_rotate"];
    const ALL: &[&str] = &["api", "read_api", "create_runner", "manage_runner", "self_rotate"];
    let world = World::new().await;
    for (method, path, scopes) in [
        ("GET", "personal_access_tokens/self", ALL),
        ("POST", "personal_access_tokens/self/rotate", ROTATE),
        ("POST", "user/runners", CREATE),
        ("GET", "runners/{runner}", READ_ONE),
        ("GET", "runners/{runner}/managers", READ_ONE),
        ("GET", "runners/{runner}/jobs", READ_ONE),
        ("PUT", "runners/{runner}", WRITE_ONE),
        ("POST", "runners/{runner}/reset_authentication_token", WRITE_ONE),
        ("DELETE", "runners/{runner}", WRITE_ONE),
        ("GET", "runners/all", READ),
        ("GET", "runners", READ),
        ("GET", "groups/{group}/runners", READ),
        ("GET", "projects/{project}/runners", READ),
        ("GET", "groups", READ),
        ("GET", "groups/{group}", READ),
        ("GET", "projects", READ),
        ("GET", "projects/{project}", READ),
        ("GET", "hooks", READ),
        ("GET", "version", READ),
        ("POST", "hooks", &["api"]),
        ("DELETE", "groups/{group}", &["api"]),
    ] {
        for scope in ALL {
            check(&world, scope, method, path, scopes.contains(scope)).await;
        }
    }
}

#[tokio::test]
async fn a_bad_credential_is_401_and_a_blocked_user_403() {
    let world = World::new().await;
    let user = world.gitlab.add_user("jo", false);
    let token = world.gitlab.create_access_token(user, &["api"]);
    let unauthorized = json!({ "message": "401 Unauthorized" });
    world.call("", "GET", "v4/version", None).await.refuses(401, unauthorized.clone());
    world.call("nonsense", "GET", "v4/version", None).await.refuses(401, unauthorized);
    let bearer = format!("http://{}/api/v4/version", world.server.address);
    let request = world.client.get(bearer).bearer_auth(&token);
    let version = World::read(request).await.expect(200);
    assert_eq!(version["version"], "19.4.0-ee");

    world.gitlab.block_user(user);
    let blocked = world.call(&token, "GET", "v4/version", None).await;
    assert_eq!(blocked.status, 403);
    assert!(blocked.json()["message"].as_str().unwrap().contains("blocked"));
}

#[tokio::test]
async fn what_a_caller_may_not_see_is_not_there() {
    let world = World::new().await;
    let group = world.gitlab.create_group(None, "secret");
    let below = world.gitlab.create_group(Some(group), "team");
    let project = world.gitlab.create_project(below, "app");
    let (runner, _) = world.create_group_runner(below).await;
    let user = world.gitlab.add_user("jo", false);
    let token = world.gitlab.create_access_token(user, &["api"]);
    let get = async |path: String| world.call(&token, "GET", &format!("v4/{path}"), None).await;

    let hidden = json!({ "message": "404 Group Not Found" });
    get(format!("groups/{below}")).await.refuses(404, hidden.clone());
    get("groups/4711".to_owned()).await.refuses(404, hidden.clone());
    get(format!("groups/{below}/runners")).await.refuses(404, hidden);
    let hidden = json!({ "message": "404 Project Not Found" });
    get(format!("projects/{project}")).await.refuses(404, hidden);
    assert_eq!(get("groups".to_owned()).await.expect(200), json!([]));
    let refused = json!({ "message": "403 Forbidden - No access granted" });
    get(format!("runners/{runner}")).await.refuses(403, refused);
    get("runners/all".to_owned()).await.refuses(403, json!({ "message": "403 Forbidden" }));
    get("hooks".to_owned()).await.refuses(403, json!({ "message": "403 Forbidden" }));

    world.gitlab.add_group_member(below, user, 30);
    get(format!("groups/{below}")).await.expect(200);
    get(format!("groups/{group}")).await.expect(200);
    let refused = json!({ "message": "403 Forbidden" });
    get(format!("groups/{below}/runners")).await.refuses(403, refused);

    world.gitlab.add_group_member(below, user, 50);
    assert_eq!(super::ids(&get(format!("groups/{below}/runners")).await.expect(200)), [runner]);
    assert_eq!(super::ids(&get("runners".to_owned()).await.expect(200)), [runner]);
    let details = get(format!("runners/{runner}")).await.expect(200);
    assert_eq!(details["groups"][0]["id"], below);

    world.gitlab.remove_group_member(below, user);
    assert_eq!(get(format!("groups/{below}")).await.status, 404);
}

#[tokio::test]
async fn an_owner_may_create_runners_only_where_registration_is_allowed() {
    for (allowed, expected) in [(true, 201), (false, 403)] {
        let settings = Settings { registration_allowed: allowed, ..Settings::default() };
        let world = World::with(settings).await;
        let group = world.gitlab.create_group(None, "acme");
        let user = world.gitlab.add_user("owner", false);
        world.gitlab.add_group_member(group, user, 50);
        let token = world.gitlab.create_access_token(user, &["create_runner"]);
        let body = json!({ "runner_type": "group_type", "group_id": group });
        let answer = world.call(&token, "POST", "v4/user/runners", Some(body)).await;
        assert_eq!(answer.status, expected, "allowed: {allowed}");
        let body = json!({ "runner_type": "instance_type" });
        let answer = world.call(&token, "POST", "v4/user/runners", Some(body)).await;
        answer.refuses(403, json!({ "message": "403 Forbidden - Insufficient permissions" }));
    }
}

#[tokio::test]
async fn too_many_calls_of_one_user_are_429_with_an_object_for_a_message() {
    let limits = Limits { group: Limit { calls: 2, period_seconds: 60 }, ..Limits::default() };
    let world = World::with(Settings { limits, ..Settings::default() }).await;
    let group = world.gitlab.create_group(None, "acme");
    let path = format!("groups/{group}?with_projects=false");
    for _ in 0..2 {
        world.get(&path).await.expect(200);
    }
    let answer = world.get(&path).await;
    assert_eq!(answer.header("ratelimit-limit"), None);
    let text = "This endpoint has been requested too many times. Try again later.";
    answer.refuses(429, json!({ "message": { "error": text } }));
    world.get("groups").await.expect(200);

    let other = world.gitlab.create_access_token(world.gitlab.add_user("jo", true), &["api"]);
    world.call(&other, "GET", &format!("v4/{path}"), None).await.expect(200);
    world.turn(SignedDuration::from_secs(60));
    world.get(&path).await.expect(200);
}

#[tokio::test]
async fn old_versions_do_not_limit_single_reads() {
    let limits = Limits { group: Limit { calls: 1, period_seconds: 60 }, ..Limits::default() };
    let version = Version::V17;
    let world = World::with(Settings { limits, version, ..Settings::default() }).await;
    let group = world.gitlab.create_group(None, "acme");
    for _ in 0..5 {
        world.get(&format!("groups/{group}")).await.expect(200);
    }
}

#[tokio::test]
async fn unknown_routes_and_methods_are_refused_with_error() {
    let world = World::new().await;
    world.get("groups/acme/unescaped/path").await.refuses(404, json!({ "error": "404 Not Found" }));
    let answer = world.send("PATCH", "groups", json!({})).await;
    answer.refuses(405, json!({ "error": "405 Not Allowed" }));
    world.get("runners/abc").await.refuses(400, json!({ "error": "id is invalid" }));
}

#[tokio::test]
async fn the_dump_holds_no_token() {
    let world = World::new().await;
    let group = world.gitlab.create_group(None, "acme");
    let project = world.gitlab.create_project(group, "app");
    let (_, runner_token) = world.create_group_runner(group).await;
    world.gitlab.create_job(project, NewJob { name: "build".to_owned(), ..NewJob::default() });
    world.gitlab.add_system_hook("http://127.0.0.1:1/", Some("hook secret"), None);
    let job = world.poll(&runner_token, "r_1").await.expect(201);
    let dump = world.gitlab.dump().to_string();
    assert!(dump.contains("acme/app"));
    for secret in [
        runner_token.as_str(),
        &world.gitlab.admin_token(),
        "hook secret",
        job["token"].as_str().unwrap(),
    ] {
        assert!(!dump.contains(secret));
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_tokens() {
    let admin = async |seed| {
        World::with(Settings { seed, ..Settings::default() }).await.gitlab.admin_token()
    };
    assert_eq!(admin(7).await, admin(7).await);
    assert_ne!(admin(7).await, admin(8).await);
}
