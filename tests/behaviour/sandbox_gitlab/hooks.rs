//! System hooks: what they say, when, and how they get there.

use super::{World, members};
use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use forerunner::sandbox::{
    gitlab::{Gitlab, Mischief, Outcome, Settings, Version},
    wire::{Server, Service},
};
use hmac::{Hmac, Mac};
use jiff::SignedDuration;
use serde_json::{Value, json};
use sha2::Sha256;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

const SIGNING_TOKEN: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// One delivery as it came in.
type Got = (HeaderMap, Vec<u8>);

/// A receiver that keeps what it gets.
struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<Got>>>,
    _server: Server,
}

impl Receiver {
    async fn new(world: &World, answer: StatusCode) -> Self {
        let got = Arc::new(Mutex::new(Vec::new()));
        let kept = got.clone();
        let router = Router::new().fallback(move |headers: HeaderMap, body: Bytes| {
            kept.lock().unwrap().push((headers, body.to_vec()));
            std::future::ready(answer)
        });
        let server = world.wire.serve(Service::Host, None, router).await.unwrap();
        Self { url: format!("http://{}/api/gitlab_hook", server.address), got, _server: server }
    }

    fn take(&self) -> Vec<(HeaderMap, Value)> {
        let got = std::mem::take(&mut *self.got.lock().unwrap());
        got.into_iter()
            .map(|(headers, body)| (headers, serde_json::from_slice(&body).unwrap()))
            .collect()
    }

    /// Names of events, as they came.
    fn events(&self) -> Vec<String> {
        let name = |body: &Value| body["event_name"].as_str().unwrap().to_owned();
        self.take().iter().map(|(_, body)| name(body)).collect()
    }
}

async fn hooked(settings: Settings) -> (World, Receiver) {
    let world = World::with(settings).await;
    let receiver = Receiver::new(&world, StatusCode::OK).await;
    world.gitlab.add_system_hook(&receiver.url, Some("test-secret-token"), None);
    (world, receiver)
}

async fn check(change: impl FnOnce(&Gitlab, u64, u64, u64), expected: &[&str]) {
    let (world, receiver) = hooked(Settings::default()).await;
    let top = world.gitlab.create_group(None, "acme");
    let team = world.gitlab.create_group(Some(top), "team");
    let project = world.gitlab.create_project(team, "app");
    world.settle().await;
    assert_eq!(receiver.events(), ["group_create", "group_create", "project_create"]);
    change(&world.gitlab, top, team, project);
    world.settle().await;
    assert_eq!(receiver.events(), expected);
}

#[tokio::test]
async fn each_change_sends_what_gitlab_sends_and_transfers_send_nothing() {
    check(|gitlab, top, _, _| gitlab.rename_group(top, "corp"), &["group_rename"]).await;
    check(|gitlab, top, _, _| gitlab.rename_group(top, "acme"), &[]).await;
    check(|gitlab, _, team, _| gitlab.transfer_group(team, None), &[]).await;
    check(|gitlab, top, _, _| gitlab.archive_group(top), &["group_update"]).await;
    check(|gitlab, top, _, _| gitlab.schedule_group_deletion(top), &["group_rename"]).await;
    let images = |gitlab: &Gitlab, top, _, project| {
        gitlab.set_registry_images(project, true);
        gitlab.schedule_group_deletion(top);
        gitlab.restore_group(top);
    };
    check(images, &[]).await;
    let back = |gitlab: &Gitlab, top, _, _| {
        gitlab.schedule_group_deletion(top);
        gitlab.restore_group(top);
    };
    check(back, &["group_rename", "group_rename"]).await;
    let destroyed = ["project_destroy", "group_destroy", "group_destroy"];
    check(|gitlab, top, _, _| gitlab.destroy_group(top), &destroyed).await;
    check(|gitlab, _, _, project| gitlab.rename_project(project, "b"), &["project_rename"]).await;
    check(|gitlab, top, _, project| gitlab.transfer_project(project, top), &["project_transfer"])
        .await;
    let archived = |gitlab: &Gitlab, _, _, project| gitlab.set_project_archived(project, true);
    check(archived, &["project_update"]).await;
    let scheduled = |gitlab: &Gitlab, _, _, project| gitlab.schedule_project_deletion(project);
    check(scheduled, &["project_rename"]).await;
    check(|gitlab, _, _, project| gitlab.push(project), &[]).await;
    let people = |gitlab: &Gitlab, top, _, _| {
        let user = gitlab.add_user("jo", false);
        gitlab.add_group_member(top, user, 30);
        gitlab.add_group_member(top, user, 50);
        gitlab.add_key(user);
        gitlab.remove_group_member(top, user);
    };
    let expected = [
        "user_create",
        "user_add_to_group",
        "user_update_for_group",
        "key_create",
        "user_remove_from_group",
    ];
    check(people, &expected).await;
}

#[tokio::test]
async fn changes_over_http_send_the_same() {
    let (world, receiver) = hooked(Settings::default()).await;
    let body = json!({ "name": "Acme", "path": "acme" });
    let group = world.send("POST", "groups", body).await.expect(201)["id"].clone();
    world.send("PUT", &format!("groups/{group}"), json!({ "name": "Acme Ltd" })).await.expect(200);
    world.send("PUT", &format!("groups/{group}"), json!({ "path": "corp" })).await.expect(200);
    let body = json!({ "path": "app", "namespace_id": group });
    let project = world.send("POST", "projects", body).await.expect(201)["id"].clone();
    let path = format!("projects/{project}");
    world.send("PUT", &path, json!({ "description": "same" })).await.expect(200);
    world.send("PUT", &path, json!({ "path": "application" })).await.expect(200);
    world.settle().await;
    let expected =
        ["group_create", "group_rename", "project_create", "project_update", "project_rename"];
    assert_eq!(receiver.events(), expected);
}

fn vectors() -> Vec<Value> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/gitlab-hooks");
    let files = std::fs::read_dir(directory).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .map(|text| serde_json::from_slice(&text).unwrap())
        .collect()
}

fn header_names(headers: &Value) -> BTreeSet<String> {
    members(headers).iter().map(|name| name.to_lowercase()).collect()
}

#[tokio::test]
async fn every_vector_has_the_shape_of_what_this_sends() {
    let mut compared = 0;
    for vector in vectors() {
        let agent = vector["headers"]["User-Agent"].as_str().unwrap();
        let version = match &agent["GitLab/".len().."GitLab/".len() + 2] {
            "16" => Version::V16,
            "17" => Version::V17,
            "19" => Version::V19,
            other => panic!("no vector of version {other} was known"),
        };
        let (world, receiver) = hooked(Settings { version, ..Settings::default() }).await;
        let top = world.gitlab.create_group(None, "acme");
        let other = world.gitlab.create_group(None, "other");
        let project = world.gitlab.create_project(top, "app");
        let user = world.gitlab.add_user("jo", false);
        world.gitlab.add_group_member(top, user, 50);
        world.gitlab.rename_group(top, "corp");
        world.gitlab.transfer_project(project, other);
        world.gitlab.set_project_archived(project, true);
        let hook = json!({ "url": receiver.url, "push_events": true });
        world.send("POST", "hooks", hook).await.expect(201);
        world.gitlab.push(project);
        world.gitlab.destroy_group(top);
        world.settle().await;
        let event = &vector["body"]["event_name"];
        let got = receiver.take();
        let (headers, body) =
            got.iter().find(|(_, body)| body["event_name"] == *event).expect("it was sent");
        let mut expected = members(&vector["body"]);
        if version == Version::V16 {
            expected.remove("project_namespace_id");
        }
        assert_eq!(members(body), expected, "{}", vector["name"]);
        let mut expected = header_names(&vector["headers"]);
        if event == "push" {
            expected.remove("x-gitlab-token");
        }
        let sent: BTreeSet<String> = headers
            .keys()
            .map(|name| name.as_str().to_owned())
            .filter(|name| !["host", "accept", "content-length"].contains(&name.as_str()))
            .collect();
        assert_eq!(sent, expected, "{}", vector["name"]);
        assert_eq!(headers["user-agent"], agent);
        assert_eq!(headers["x-gitlab-event"], "System Hook");
        assert_eq!(headers["x-gitlab-instance"], "https://gitlab.example.com");
        compared += 1;
    }
    assert_eq!(compared, 8);
}

#[tokio::test]
async fn payloads_carry_ids_and_old_paths() {
    let (world, receiver) = hooked(Settings::default()).await;
    let top = world.gitlab.create_group(None, "acme");
    let team = world.gitlab.create_group(Some(top), "team");
    let project = world.gitlab.create_project(team, "app");
    world.gitlab.rename_group(team, "crew");
    world.gitlab.schedule_group_deletion(top);
    world.settle().await;
    let bodies: Vec<Value> = receiver.take().into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies[1]["full_path"], "acme/team");
    assert_eq!(bodies[1]["path"], "team");
    assert_eq!(bodies[1]["created_at"], "2026-11-24T06:00:00Z");
    assert_eq!(bodies[2]["project_id"], project);
    assert_eq!(bodies[2]["project_namespace_id"], team);
    assert_eq!(bodies[2]["owner_email"], "");
    assert_eq!(bodies[3]["old_full_path"], "acme/team");
    assert_eq!(bodies[3]["old_path"], "team");
    assert_eq!(bodies[3]["group_id"], team);
    assert_eq!(bodies[4]["path"], format!("acme-deletion_scheduled-{top}"));
    assert_eq!(bodies[4]["old_path"], "acme");
}

#[tokio::test]
async fn a_signature_verifies_over_id_timestamp_and_body() {
    let world = World::new().await;
    let receiver = Receiver::new(&world, StatusCode::OK).await;
    world.gitlab.add_system_hook(&receiver.url, None, Some(SIGNING_TOKEN));
    world.gitlab.create_group(None, "acme");
    world.settle().await;
    let got = receiver.got.lock().unwrap().clone();
    let (headers, body) = &got[0];
    assert_eq!(headers["webhook-id"], headers["idempotency-key"]);
    assert_eq!(headers["webhook-timestamp"], world.now().as_second().to_string());
    assert_eq!(headers.get("x-gitlab-token"), None);
    let key = STANDARD.decode(SIGNING_TOKEN.trim_start_matches("whsec_")).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let id = headers["webhook-id"].to_str().unwrap();
    mac.update(format!("{id}.{}.", world.now().as_second()).as_bytes());
    mac.update(body);
    let signature = headers["webhook-signature"].to_str().unwrap().strip_prefix("v1,").unwrap();
    mac.verify_slice(&STANDARD.decode(signature).unwrap()).unwrap();
}

#[tokio::test]
async fn a_failed_delivery_is_not_tried_again() {
    let world = World::new().await;
    let receiver = Receiver::new(&world, StatusCode::SERVICE_UNAVAILABLE).await;
    world.gitlab.add_system_hook(&receiver.url, None, None);
    world.gitlab.add_system_hook("http://127.0.0.1:1/nobody", None, None);
    world.gitlab.create_group(None, "acme");
    world.settle().await;
    world.turn(SignedDuration::from_hours(24));
    world.settle().await;
    assert_eq!(receiver.events().len(), 1);
    let outcomes: Vec<Outcome> =
        world.gitlab.deliveries().into_iter().map(|delivery| delivery.outcome).collect();
    assert_eq!(outcomes, [Outcome::Answered(503), Outcome::Failed("no connection".to_owned())]);
}

#[tokio::test]
async fn deliveries_can_be_late_twice_lost_and_out_of_order() {
    let (world, receiver) = hooked(Settings::default()).await;
    let mischief = |mischief| world.gitlab.set_mischief(mischief);
    mischief(Mischief { delay: SignedDuration::from_secs(5), ..Mischief::default() });
    world.gitlab.create_group(None, "a");
    world.settle().await;
    assert_eq!(receiver.events().len(), 0);
    world.turn(SignedDuration::from_secs(5));
    world.settle().await;
    assert_eq!(receiver.events().len(), 1);

    mischief(Mischief { duplicate_percent: 100, ..Mischief::default() });
    world.gitlab.create_group(None, "b");
    world.settle().await;
    let twice = receiver.take();
    assert_eq!(twice.len(), 2);
    let header = |at: usize, name: &str| twice[at].0[name].to_str().unwrap().to_owned();
    assert_eq!(header(0, "idempotency-key"), header(1, "idempotency-key"));
    assert_ne!(header(0, "x-gitlab-webhook-uuid"), header(1, "x-gitlab-webhook-uuid"));

    mischief(Mischief { loss_percent: 100, ..Mischief::default() });
    world.gitlab.create_group(None, "c");
    world.settle().await;
    assert_eq!(receiver.events().len(), 0);
    assert_eq!(world.gitlab.deliveries().last().unwrap().outcome, Outcome::Lost);

    mischief(Mischief { disorder: SignedDuration::from_secs(60), ..Mischief::default() });
    let made: Vec<u64> =
        (0..20).map(|number| world.gitlab.create_group(None, &format!("d{number}"))).collect();
    world.turn(SignedDuration::from_secs(60));
    world.settle().await;
    let mut arrived: Vec<u64> =
        receiver.take().iter().map(|(_, body)| body["group_id"].as_u64().unwrap()).collect();
    assert_ne!(arrived, made);
    arrived.sort_unstable();
    assert_eq!(arrived, made);
}

#[tokio::test]
async fn a_call_caused_by_a_delivery_does_not_call_the_same_hook() {
    let (world, receiver) = hooked(Settings::default()).await;
    let group = world.gitlab.create_group(None, "acme");
    world.settle().await;
    let chain = receiver.take()[0].0["x-gitlab-event-uuid"].clone();
    let rename = async |path: &str, chain: Option<&axum::http::HeaderValue>| {
        let url = format!("http://{}/api/v4/groups/{group}", world.server.address);
        let mut request = world.client.put(url).header("PRIVATE-TOKEN", world.gitlab.admin_token());
        if let Some(chain) = chain {
            request = request.header("X-Gitlab-Event-UUID", chain);
        }
        World::read(request.json(&json!({ "path": path }))).await.expect(200);
        world.settle().await;
    };
    rename("corp", Some(&chain)).await;
    assert_eq!(receiver.events().len(), 0);
    rename("firm", None).await;
    assert_eq!(receiver.events(), ["group_rename"]);
}

#[tokio::test]
async fn hooks_are_managed_over_http_and_never_show_their_secrets() {
    let world = World::new().await;
    let receiver = Receiver::new(&world, StatusCode::OK).await;
    let create = async |body: Value| world.send("POST", "hooks", body).await;
    assert_eq!(create(json!({ "url": "ftp://x" })).await.status, 422);
    create(json!({})).await.refuses(400, json!({ "error": "url is missing" }));
    let bad = json!({ "url": receiver.url, "signing_token": "whsec_AAEC" });
    assert_eq!(create(bad).await.status, 400);
    let body = json!({
        "url": receiver.url,
        "name": "forerunner",
        "token": "test-secret-token",
        "signing_token": SIGNING_TOKEN,
        "custom_headers": [{ "key": "X-Extra", "value": "more" }, { "key": "X-Gitlab-Event", "value": "Fake" }],
    });
    let made = create(body.clone()).await.expect(201);
    create(body).await.expect(201);
    assert_eq!(made["name"], "forerunner");
    assert_eq!(made["repository_update_events"], true);
    assert_eq!(
        (&made["token_present"], &made["signing_token_present"]),
        (&json!(true), &json!(true))
    );
    let list = world.get("hooks").await;
    assert!(!list.text.contains("test-secret-token") && !list.text.contains("whsec_"));
    assert_eq!(super::ids(&list.json()).len(), 2, "the same URL twice makes two");

    let path = format!("hooks/{}", made["id"]);
    let mock = world.send("POST", &path, json!({})).await.expect(201);
    assert_eq!(mock["project_id"], 1);
    let got = receiver.take();
    assert_eq!(got[0].1, mock);
    assert_eq!(got[0].0["x-extra"], "more");
    assert_eq!(got[0].0["x-gitlab-event"], "System Hook", "custom headers cannot replace one");

    let same = world.send("PUT", &path, json!({ "name": "other" })).await.expect(200);
    assert_eq!(same["token_present"], true);
    let moved = json!({ "url": format!("{}?again", receiver.url) });
    let moved = world.send("PUT", &path, moved).await.expect(200);
    assert_eq!(moved["token_present"], false, "another URL clears the token");
    assert_eq!(moved["custom_headers"], json!([]));
    world.send("DELETE", &path, json!({})).await.expect(204);
    assert_eq!(world.get(&path).await.status, 404);
}
