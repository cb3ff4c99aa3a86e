//! Access tokens: what they say of themselves, and what rotating them does.

use super::World;
use jiff::SignedDuration;
use serde_json::json;

const SELF: &str = "v4/personal_access_tokens/self";
const ROTATE: &str = "v4/personal_access_tokens/self/rotate";

#[tokio::test]
async fn a_token_tells_its_scopes_and_its_end() {
    let world = World::new().await;
    let user = world.gitlab.admin_user();
    let token = world.gitlab.create_access_token(user, &["create_runner", "self_rotate"]);
    let body = world.call(&token, "GET", SELF, None).await.expect(200);
    assert_eq!(body["scopes"], json!(["create_runner", "self_rotate"]));
    assert_eq!(body["expires_at"], "2027-11-24");
    assert_eq!((body["active"].clone(), body["revoked"].clone()), (json!(true), json!(false)));
    assert!(!body.to_string().contains(&token));

    world.call(&token, "DELETE", SELF, None).await.expect(204);
    let answer = world.call(&token, "GET", SELF, None).await;
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    answer.refuses(
        401,
        json!({
            "error": "invalid_token",
            "error_description": "Token was revoked. You have to re-authorize from the user.",
        }),
    );
}

#[tokio::test]
async fn rotation_kills_the_old_token_and_lasts_a_week_unless_told() {
    let world = World::new().await;
    let old = world.gitlab.create_access_token(world.gitlab.admin_user(), &["self_rotate"]);
    let first = world.call(&old, "POST", ROTATE, None).await.expect(200);
    assert_eq!(first["expires_at"], "2026-12-01");
    assert_eq!(world.call(&old, "GET", SELF, None).await.status, 401);

    let new = first["token"].as_str().unwrap();
    let body = json!({ "expires_at": "2027-02-01" });
    let second = world.call(new, "POST", ROTATE, Some(body)).await.expect(200);
    assert_eq!(second["expires_at"], "2027-02-01");
    assert!(second["id"].as_u64() > first["id"].as_u64());
    assert_eq!(second["scopes"], json!(["self_rotate"]));
    let newest = second["token"].as_str().unwrap();
    let body = json!({ "expires_at": "2029-01-01" });
    assert_eq!(world.call(newest, "POST", ROTATE, Some(body)).await.status, 400);
    assert!(world.gitlab.access_token_is_valid(newest));
}

#[tokio::test]
async fn rotating_with_a_dead_token_kills_its_successors() {
    let world = World::new().await;
    let user = world.gitlab.admin_user();
    let old = world.gitlab.create_access_token(user, &["api"]);
    let other = world.gitlab.create_access_token(user, &["api"]);
    let new = world.call(&old, "POST", ROTATE, None).await.expect(200);
    let new = new["token"].as_str().unwrap();
    assert_eq!(world.call(&old, "GET", SELF, None).await.status, 401);
    assert!(world.gitlab.access_token_is_valid(new), "a plain call does no harm");
    assert_eq!(world.call(&old, "POST", ROTATE, None).await.status, 401);
    assert!(!world.gitlab.access_token_is_valid(new), "the family is dead");
    assert!(world.gitlab.access_token_is_valid(&other), "a stranger lives");
}

#[tokio::test]
async fn a_second_credential_of_the_same_user_can_rotate_the_first() {
    let world = World::new().await;
    let user = world.gitlab.add_user("svc", false);
    let first = world.gitlab.create_access_token(user, &["self_rotate"]);
    let second = world.gitlab.create_access_token(user, &["api"]);
    let id = world.call(&first, "GET", SELF, None).await.expect(200)["id"].clone();
    let path = format!("v4/personal_access_tokens/{id}/rotate");
    let rotated = world.call(&second, "POST", &path, None).await.expect(200);
    assert!(world.gitlab.access_token_is_valid(rotated["token"].as_str().unwrap()));
    let stranger = world.gitlab.create_access_token(world.gitlab.add_user("jo", false), &["api"]);
    assert_eq!(world.call(&stranger, "POST", &path, None).await.status, 404);
    let again = world.call(&second, "POST", &path, None).await;
    again.refuses(400, json!({ "message": "400 Bad request - Token already revoked" }));
}

#[tokio::test]
async fn a_token_ends_with_the_beginning_of_its_day() {
    let world = World::new().await;
    let user = world.gitlab.admin_user();
    let day = "2026-11-26".parse().unwrap();
    let token = world.gitlab.create_access_token_until(user, &["api"], Some(day));
    world.turn(SignedDuration::from_hours(41));
    world.call(&token, "GET", SELF, None).await.expect(200);
    world.turn(SignedDuration::from_hours(1));
    let answer = world.call(&token, "GET", SELF, None).await;
    let body = answer.expect(401);
    assert_eq!(body["error"], "invalid_token");
    assert!(body["error_description"].as_str().unwrap().starts_with("Token is expired."));
}
