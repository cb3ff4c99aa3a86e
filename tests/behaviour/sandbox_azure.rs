//! The sandbox's Azure refuses what the real one refuses, and lets in only whom role assignments let in.

#![expect(clippy::unwrap_used, reason = "in a test whatever is not there ends it")]

use super::descriptions::{self, Watched};
use axum::{Json, Router, routing::get};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use forerunner::{
    clock::Clock,
    sandbox::{
        azure::{Azure, ClusterSettings, Credential, Lag, Settings},
        wire::{Server, Service, Wire},
    },
};
use jiff::{SignedDuration, Timestamp};
use rsa::{Pkcs1v15Sign, RsaPrivateKey, traits::PublicKeyParts};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::OnceLock, time::Duration};
use uuid::Uuid;

const SUBSCRIPTION: &str = "11111111-1111-1111-1111-111111111111";
const TENANT: &str = "b6c948ef-f6b5-4384-8354-da3a15eca969";
const APP: &str = "99999999-0000-4000-8000-00000000000a";
const ISSUER: &str = "https://westeurope.oic.example/tenant/cluster/";
const SUBJECT: &str = "system:serviceaccount:team-a:runner";
const AUDIENCE: &str = "api://AzureADTokenExchange";
const OWNER: &str = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635";
const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";
const CONTRIBUTOR: &str = "b24988ac-6180-42a0-ab88-20f7382dd24c";
const ACR_PULL: &str = "7f951dda-4ed3-4680-a7ca-43fe172d538d";
const RBAC_ADMIN: &str = "f58310d9-a9f6-439a-9e8d-f62e7b41a168";
const SECRETS_USER: &str = "4633458b-17de-408a-b874-0445c86b69e6";
const SECRETS_OFFICER: &str = "b86a8fe4-44ce-4948-aee5-eccb2c155cd7";
const ARM: &str = "https://management.azure.com";
const VAULT: &str = "https://vault.azure.net";
const MSI: &str = "providers/Microsoft.ManagedIdentity/userAssignedIdentities";
const V_MSI: &str = "api-version=2024-11-30";
const V_AUTH: &str = "api-version=2022-04-01";
const V_VAULT: &str = "api-version=2025-07-01";

/// One Azure with all its servers, and forerunner's own identity in it.
struct World {
    azure: Azure,
    clock: Clock,
    principal: Uuid,
    arm: Server,
    identity: Server,
    entra: Server,
    vault: Server,
    http: reqwest::Client,
    wire: Wire,
    _watched: Watched,
}

struct Reply {
    status: u16,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Reply {
    fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or_default()
    }

    #[track_caller]
    fn is(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.code()), (status, code), "{}", self.body);
        self
    }
}

impl World {
    async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let clock = Clock::frozen("2026-11-24T06:00:00Z".parse().unwrap());
        let mut settings = Settings { tenant: TENANT.parse().ok(), ..Settings::default() };
        change(&mut settings);
        let azure = Azure::new(clock.clone(), settings);
        azure.add_subscription(SUBSCRIPTION, "Sandbox");
        for group in ["rg-runners", "rg-app", "rg-aks"] {
            azure.add_resource_group(SUBSCRIPTION, group);
        }
        let principal = azure.add_managed_identity_for_app(APP.parse().unwrap());
        let wire = Wire::new(clock.clone());
        let arm = wire.serve(Service::Arm, None, azure.arm_router()).await.unwrap();
        let identity = wire.serve(Service::Identity, None, azure.identity_router()).await.unwrap();
        let entra = wire.serve(Service::Entra, None, azure.entra_router()).await.unwrap();
        let vault = wire.serve(Service::KeyVault, None, azure.key_vault_router()).await.unwrap();
        let _watched = descriptions::watch(&wire);
        Self {
            azure,
            clock,
            principal,
            arm,
            identity,
            entra,
            vault,
            http: client(),
            wire,
            _watched,
        }
    }

    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// The same, where forerunner's identity is Owner of the subscription.
    async fn owned() -> Self {
        let world = Self::new().await;
        world.give(OWNER, &at("")).await;
        world
    }

    async fn give(&self, role: &str, scope: &str) -> Uuid {
        self.azure.assign_role(scope, role.parse().unwrap(), self.principal, None)
    }

    fn pass(&self, seconds: i64) {
        self.clock.turn_to(self.clock.now() + SignedDuration::from_secs(seconds));
    }

    async fn token_reply(&self, resource: &str, client_id: &str, header: &str) -> Reply {
        let url = format!(
            "http://{}/msi/token?api-version=2019-08-01&resource={resource}&client_id={client_id}",
            self.identity.address
        );
        reply(self.http.get(url).header("X-IDENTITY-HEADER", header)).await
    }

    async fn token(&self, resource: &str) -> String {
        let reply = self.token_reply(resource, APP, &self.azure.identity_header()).await;
        reply.body["access_token"].as_str().unwrap().to_owned()
    }

    async fn arm_as(&self, token: &str, method: &str, path: &str, body: Value) -> Reply {
        let url = format!("http://{}{path}", self.arm.address);
        let method = method.parse().unwrap();
        let mut request = self.http.request(method, url).header("Host", "management.azure.com");
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        request = if body.is_null() {
            request.header("Content-Length", "0")
        } else {
            request.json(&body)
        };
        reply(request).await
    }

    async fn arm(&self, method: &str, path: &str, body: Value) -> Reply {
        self.arm_as(&self.token(ARM).await, method, path, body).await
    }

    async fn create_identity(&self, name: &str) -> Reply {
        let path = at(&format!("/resourceGroups/rg-runners/{MSI}/{name}?{V_MSI}"));
        self.arm("PUT", &path, json!({"location": "westeurope"})).await
    }

    async fn put_credential(&self, identity: &str, name: &str, properties: Value) -> Reply {
        let path = at(&format!(
            "/resourceGroups/rg-runners/{MSI}/{identity}/federatedIdentityCredentials/{name}?{V_MSI}"
        ));
        self.arm("PUT", &path, json!({"properties": properties})).await
    }

    async fn assign(&self, name: Uuid, scope: &str, properties: Value) -> Reply {
        let path =
            format!("{scope}/providers/Microsoft.Authorization/roleAssignments/{name}?{V_AUTH}");
        self.arm("PUT", &path, json!({"properties": properties})).await
    }

    async fn vault_call(&self, token: &str, method: &str, path: &str, body: Value) -> Reply {
        let url = format!("http://{}{path}", self.vault.address);
        let method = method.parse().unwrap();
        let mut request =
            self.http.request(method, url).header("Host", "kv-runners.vault.azure.net");
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        request = if body.is_null() {
            request.header("Content-Length", "0")
        } else {
            request.json(&body)
        };
        reply(request).await
    }

    async fn exchange(&self, tenant: &str, form: &[(&str, &str)]) -> Reply {
        let url = format!("http://{}/{tenant}/oauth2/v2.0/token", self.entra.address);
        reply(self.http.post(url).form(form)).await
    }

    async fn sign_in(&self, client_id: Uuid, assertion: &str) -> Reply {
        let client_id = client_id.to_string();
        self.exchange(TENANT, &exchange_form(&client_id, assertion)).await
    }
}

fn exchange_form<'form>(
    client_id: &'form str,
    assertion: &'form str,
) -> [(&'form str, &'form str); 5] {
    [
        ("grant_type", "client_credentials"),
        ("client_id", client_id),
        ("scope", "https://management.azure.com/.default"),
        ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
        ("client_assertion", assertion),
    ]
}

fn at(tail: &str) -> String {
    format!("/subscriptions/{SUBSCRIPTION}{tail}")
}

fn registry() -> String {
    at("/resourceGroups/rg-app/providers/Microsoft.ContainerRegistry/registries/acr1")
}

fn client() -> reqwest::Client {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().build().unwrap()
}

async fn reply(request: reqwest::RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap_or_default();
    Reply { status, headers, body }
}

fn credential(issuer: &str, subject: &str) -> Value {
    json!({"issuer": issuer, "subject": subject, "audiences": [AUDIENCE]})
}

fn role_body(role: &str, principal: Uuid, kind: Option<&str>) -> Value {
    json!({
        "roleDefinitionId": at(&format!("/providers/Microsoft.Authorization/roleDefinitions/{role}")),
        "principalId": principal,
        "principalType": kind,
    })
}

/// One key for the whole test process: making one is slow.
fn key() -> &'static RsaPrivateKey {
    static KEY: OnceLock<RsaPrivateKey> = OnceLock::new();
    KEY.get_or_init(|| RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap())
}

fn jwt(header: Value, claims: Value) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(header), part(claims));
    let prefix = [
        0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01,
        0x05, 0x00, 0x04, 0x20,
    ];
    let scheme = Pkcs1v15Sign { hash_len: Some(32), prefix: Box::new(prefix) };
    let signature = key().sign(scheme, &Sha256::digest(&signed)).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A service account's token as an API server would project it, with some claims changed.
fn assertion(now: Timestamp, changes: Value) -> String {
    let mut claims = json!({
        "iss": ISSUER,
        "sub": SUBJECT,
        "aud": [AUDIENCE],
        "iat": now.as_second(),
        "nbf": now.as_second(),
        "exp": now.as_second() + 3600,
    });
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    jwt(json!({"alg": "RS256", "kid": "first"}), claims)
}

/// Publishes the key as `key_id` under the issuer's name.
async fn issuer_server(wire: &Wire, issuer: &'static str, key_id: &'static str) -> Server {
    let number = |of: &rsa::BigUint| URL_SAFE_NO_PAD.encode(of.to_bytes_be());
    let keys = json!({"keys": [{
        "kty": "RSA", "alg": "RS256", "use": "sig", "kid": key_id,
        "n": number(key().n()), "e": number(key().e()),
    }]});
    let discovery = json!({"issuer": issuer, "jwks_uri": format!("{issuer}openid/v1/jwks")});
    let path = "/tenant/cluster/openid/v1/jwks";
    let router = Router::new()
        .route("/.well-known/openid-configuration", get(move || async move { Json(discovery) }))
        .route(path, get(move || async move { Json(keys) }));
    wire.serve(Service::Kubernetes, None, router).await.unwrap()
}

#[tokio::test]
async fn the_identity_endpoint_gives_a_token_as_the_app_service_does_and_gives_it_again() {
    let world = World::new().await;
    let header = world.azure.identity_header();
    let first = world.token_reply(ARM, APP, &header).await;
    assert_eq!(first.status, 200);
    for member in ["access_token", "expires_on", "resource", "token_type", "client_id"] {
        assert!(first.body[member].is_string(), "{member} is a string in {}", first.body);
    }
    let day_later = world.clock.now().as_second() + 24 * 3600;
    assert_eq!(first.body["expires_on"], day_later.to_string());
    world.pass(3600);
    let second = world.token_reply(ARM, APP, &header).await;
    assert_eq!(first.body, second.body, "the platform keeps tokens");
    world.pass(23 * 3600);
    let third = world.token_reply(ARM, APP, &header).await;
    assert_ne!(first.body["access_token"], third.body["access_token"]);
}

#[tokio::test]
async fn the_identity_endpoint_refuses_whoever_lacks_the_header_or_asks_for_another_identity() {
    let world = World::new().await;
    let header = world.azure.identity_header();
    assert_eq!(world.token_reply(ARM, APP, "").await.status, 401);
    assert_eq!(world.token_reply(ARM, APP, "guessed").await.status, 401);
    assert_eq!(world.token_reply(ARM, TENANT, &header).await.status, 400);
    assert_eq!(world.token_reply("https://example.com", APP, &header).await.status, 400);
}

#[tokio::test]
async fn arm_wants_a_living_token_of_its_own_and_a_known_version() {
    let world = World::owned().await;
    let path = at(&format!("/{MSI}?{V_MSI}"));
    let token = world.token(ARM).await;
    world.arm_as("", "GET", &path, Value::Null).await.is(401, "AuthenticationFailed");
    world
        .arm_as("made.up.token", "GET", &path, Value::Null)
        .await
        .is(401, "InvalidAuthenticationToken");
    let other = world.token(VAULT).await;
    world
        .arm_as(&other, "GET", &path, Value::Null)
        .await
        .is(401, "InvalidAuthenticationTokenAudience");
    let bare = at(&format!("/{MSI}"));
    world.arm("GET", &bare, Value::Null).await.is(400, "MissingApiVersionParameter");
    let unknown = format!("{bare}?api-version=1999-01-01");
    world.arm("GET", &unknown, Value::Null).await.is(400, "InvalidApiVersionParameter");
    assert_eq!(world.arm_as(&token, "GET", &path, Value::Null).await.status, 200);
    world.pass(24 * 3600);
    world.arm_as(&token, "GET", &path, Value::Null).await.is(401, "ExpiredAuthenticationToken");
}

#[tokio::test]
async fn an_identity_is_made_updated_found_in_any_case_and_gone_when_deleted() {
    let world = World::owned().await;
    let made = world.create_identity("id-team-a").await;
    assert_eq!(made.status, 201);
    let id = made.body["id"].as_str().unwrap();
    assert!(id.contains("/resourcegroups/rg-runners/"), "{id}");
    let path = at(&format!("/RESOURCEGROUPS/RG-RUNNERS/{MSI}/ID-Team-A?{V_MSI}"));
    let again =
        world.arm("PUT", &path, json!({"location": "westeurope", "tags": {"a": "b"}})).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.body["properties"], made.body["properties"]);
    assert_eq!(world.arm("GET", &path, Value::Null).await.body["tags"]["a"], "b");
    world
        .arm("PUT", &path, json!({"location": "northeurope"}))
        .await
        .is(409, "InvalidResourceLocation");
    world.arm("PUT", &path, json!({})).await.is(400, "LocationRequired");
    assert_eq!(world.arm("DELETE", &path, Value::Null).await.status, 200);
    assert_eq!(world.arm("DELETE", &path, Value::Null).await.status, 204);
    world.arm("GET", &path, Value::Null).await.is(404, "ResourceNotFound");
    let anew = world.create_identity("id-team-a").await;
    assert_ne!(anew.body["properties"]["principalId"], made.body["properties"]["principalId"]);
    let nowhere = at(&format!("/resourceGroups/rg-no/{MSI}/id-x?{V_MSI}"));
    world
        .arm("PUT", &nowhere, json!({"location": "westeurope"}))
        .await
        .is(404, "ResourceGroupNotFound");
    let elsewhere = format!("/subscriptions/{TENANT}/{MSI}?{V_MSI}");
    world.arm("GET", &elsewhere, Value::Null).await.is(404, "SubscriptionNotFound");
}

#[tokio::test]
async fn lists_come_in_pages_with_absolute_links() {
    let world = World::with(|settings| settings.page_size = 2).await;
    world.give(OWNER, &at("")).await;
    for name in ["id-1", "id-2", "id-3"] {
        assert_eq!(world.create_identity(name).await.status, 201);
    }
    let first = world.arm("GET", &at(&format!("/{MSI}?{V_MSI}")), Value::Null).await;
    assert_eq!(first.body["value"].as_array().unwrap().len(), 2);
    let next = first.body["nextLink"].as_str().unwrap().strip_prefix(ARM).unwrap().to_owned();
    let second = world.arm("GET", &next, Value::Null).await;
    assert_eq!(second.body["value"].as_array().unwrap().len(), 1);
    assert!(second.body["nextLink"].is_null());
}

#[tokio::test]
async fn credentials_are_refused_for_each_documented_reason() {
    let world = World::owned().await;
    world.create_identity("id-a").await;
    let good = credential(ISSUER, SUBJECT);
    let made = world.put_credential("id-a", "aks1-a", good.clone()).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.body["properties"]["issuer"], ISSUER, "stored verbatim");
    assert_eq!(world.put_credential("id-a", "aks1-a", good.clone()).await.status, 200);
    let check = async |name: &str, properties: Value, text: &str| {
        let reply = world.put_credential("id-a", name, properties).await.is(400, "BadRequest");
        assert!(reply.message().contains(text), "{}", reply.message());
    };
    check("aks1-b", good.clone(), "Issuer and subject combination already exists").await;
    check("-bad", credential(ISSUER, "other"), "name '-bad' is invalid").await;
    check("aks1-c", json!({}), "has empty properties").await;
    check(
        "aks1-c",
        json!({"issuer": "i", "subject": "s", "audiences": []}),
        "exactly one audience",
    )
    .await;
    check("aks1-c", json!({"issuer": "i", "subject": "s", "audiences": ["a", "b"]}), "exactly one")
        .await;
    check("aks1-c", credential(ISSUER, &"s".repeat(601)), "600 characters").await;
    world.put_credential("id-no", "aks1-a", good).await.is(404, "ParentResourceNotFound");
    for number in 1..20 {
        let subject = format!("{SUBJECT}-{number}");
        let name = format!("aks1-{number:02}");
        assert_eq!(
            world.put_credential("id-a", &name, credential(ISSUER, &subject)).await.status,
            201
        );
    }
    check("aks1-one-more", credential(ISSUER, "one more"), "already has 20").await;
    let list =
        at(&format!("/resourceGroups/rg-runners/{MSI}/id-a/federatedIdentityCredentials?{V_MSI}"));
    let listed = world.arm("GET", &list, Value::Null).await;
    assert_eq!(listed.body["value"].as_array().unwrap().len(), 20);
    let one = list.replace("Credentials?", "Credentials/aks1-a?");
    assert_eq!(world.arm("DELETE", &one, Value::Null).await.status, 200);
    assert_eq!(world.arm("DELETE", &one, Value::Null).await.status, 204);
    assert_eq!(world.arm("GET", &one, Value::Null).await.status, 404);
}

#[tokio::test]
async fn the_same_pair_may_be_a_conflict_instead() {
    let world = World::with(|settings| settings.duplicate_pair_status = 409).await;
    world.give(OWNER, &at("")).await;
    world.create_identity("id-a").await;
    world.put_credential("id-a", "aks1-a", credential(ISSUER, SUBJECT)).await;
    world.put_credential("id-a", "aks1-b", credential(ISSUER, SUBJECT)).await.is(409, "Conflict");
}

#[tokio::test]
async fn two_writes_of_one_identitys_credentials_at_once_are_one_too_many() {
    let world =
        World::with(|settings| settings.credential_write = Duration::from_millis(300)).await;
    world.give(OWNER, &at("")).await;
    for name in ["id-a", "id-b"] {
        world.create_identity(name).await;
    }
    let (first, second, other) = tokio::join!(
        world.put_credential("id-a", "aks1-a", credential(ISSUER, "a")),
        world.put_credential("id-a", "aks1-b", credential(ISSUER, "b")),
        world.put_credential("id-b", "aks1-a", credential(ISSUER, "a")),
    );
    let mut statuses = [first.status, second.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409]);
    assert_eq!(other.status, 201, "another identity is free");
    let refused = if first.status == 409 { first } else { second };
    refused.is(409, "ConcurrentFederatedIdentityCredentialsWritesForSingleManagedIdentity");
    let later = world.put_credential("id-a", "aks1-c", credential(ISSUER, "c")).await;
    assert_eq!(later.status, 201, "the hold ended with the answer");
}

#[tokio::test]
async fn a_role_assignment_is_made_once_and_every_other_way_is_refused() {
    let world = World::owned().await;
    let made = world.create_identity("id-a").await;
    let principal: Uuid = made.body["properties"]["principalId"].as_str().unwrap().parse().unwrap();
    let (name, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let body = role_body(ACR_PULL, principal, Some("ServicePrincipal"));
    let created = world.assign(name, &registry(), body.clone()).await;
    assert_eq!(created.status, 201, "{}", created.body);
    assert_eq!(created.body["properties"]["principalType"], "ServicePrincipal");
    assert_eq!(world.assign(name, &registry(), body.clone()).await.status, 201);
    let twice =
        world.assign(other, &registry(), body.clone()).await.is(409, "RoleAssignmentExists");
    assert!(twice.message().contains("00000000000000000000000000000001"), "{}", twice.message());
    world
        .assign(name, &registry(), role_body(ACR_PULL, world.principal, Some("ServicePrincipal")))
        .await
        .is(400, "RoleAssignmentUpdateNotPermitted");
    world.assign(name, &at(""), body).await.is(400, "RoleAssignmentUpdateNotPermitted");
    let nobody = role_body(ACR_PULL, Uuid::from_u128(7), Some("ServicePrincipal"));
    world.assign(other, &registry(), nobody).await.is(400, "PrincipalNotFound");
    let person = role_body(ACR_PULL, world.azure.add_user(), Some("ServicePrincipal"));
    world.assign(other, &registry(), person).await.is(400, "UnmatchedPrincipalType");
    let no_role = role_body(TENANT, principal, Some("ServicePrincipal"));
    world.assign(other, &registry(), no_role).await.is(404, "RoleDefinitionDoesNotExist");
    let path =
        format!("{}/providers/Microsoft.Authorization/roleAssignments/{name}?{V_AUTH}", registry());
    assert_eq!(world.arm("GET", &path, Value::Null).await.status, 200);
    let deleted = world.arm("DELETE", &path, Value::Null).await;
    assert_eq!((deleted.status, &deleted.body["name"]), (200, &json!(name)));
    assert_eq!(world.arm("DELETE", &path, Value::Null).await.status, 204);
    world.arm("GET", &path, Value::Null).await.is(404, "RoleAssignmentNotFound");
}

#[tokio::test]
async fn a_subscription_takes_so_many_role_assignments_and_no_more() {
    let world = World::with(|settings| {
        settings.assignments_max = 2;
        settings.repeated_assignment_status = 200;
    })
    .await;
    world.give(OWNER, &at("")).await;
    let body = |role: &str| role_body(role, world.principal, Some("ServicePrincipal"));
    let one = Uuid::from_u128(1);
    assert_eq!(world.assign(one, &registry(), body(READER)).await.status, 201);
    assert_eq!(world.assign(one, &registry(), body(READER)).await.status, 200);
    world
        .assign(Uuid::from_u128(2), &registry(), body(ACR_PULL))
        .await
        .is(400, "RoleAssignmentLimitExceeded");
}

#[tokio::test]
async fn the_lists_of_role_assignments_reach_as_far_as_their_filter_says() {
    let world = World::owned().await;
    let group = at("/resourceGroups/rg-app");
    let somebody = Uuid::from_u128(9);
    let above = world.azure.assign_role("/", READER.parse().unwrap(), somebody, None);
    let here = world.azure.assign_role(&group, READER.parse().unwrap(), somebody, None);
    let below = world.azure.assign_role(&registry(), ACR_PULL.parse().unwrap(), somebody, None);
    let other = at("/resourceGroups/rg-aks");
    let beside = world.azure.assign_role(&other, READER.parse().unwrap(), somebody, None);
    let check = async |scope: &str, filter: &str, expected: &[Uuid]| {
        let path =
            format!("{scope}/providers/Microsoft.Authorization/roleAssignments?{V_AUTH}{filter}");
        let listed = world.arm("GET", &path, Value::Null).await;
        let mut names: Vec<Uuid> = listed.body["value"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["properties"]["principalId"] == json!(somebody))
            .map(|one| one["name"].as_str().unwrap().parse().unwrap())
            .collect();
        let mut expected = expected.to_vec();
        names.sort_unstable();
        expected.sort_unstable();
        assert_eq!(names, expected, "{path}");
    };
    check(&group, "", &[above, here, below]).await;
    check(&group, "&$filter=atScope()", &[above, here]).await;
    check(&at(""), "", &[above, here, below, beside]).await;
    let by = format!("&$filter=principalId%20eq%20'{somebody}'");
    check(&registry(), &by, &[above, here, below]).await;
    let nobody = format!("&$filter=principalId%20eq%20'{}'", Uuid::from_u128(10));
    check(&at(""), &nobody, &[]).await;
}

#[tokio::test]
async fn a_right_reaches_down_from_its_scope_and_no_further() {
    let world = World::new().await;
    let group = at("/resourceGroups/rg-app");
    world.give(CONTRIBUTOR, &group).await;
    let storage = |group: &str| {
        at(&format!(
            "/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/st1?api-version=2024-01-01"
        ))
    };
    let put = world.arm("PUT", &storage("RG-APP"), json!({"location": "westeurope"})).await;
    assert_eq!(put.status, 201, "{}", put.body);
    let refused = world.arm("PUT", &storage("rg-aks"), json!({"location": "westeurope"})).await;
    let refused = refused.is(403, "AuthorizationFailed");
    assert!(refused.message().contains("Microsoft.Storage/storageAccounts/write"));
    assert!(refused.message().contains(&world.principal.to_string()));
    let grant = role_body(ACR_PULL, world.principal, Some("ServicePrincipal"));
    world.assign(Uuid::from_u128(1), &group, grant).await.is(403, "AuthorizationFailed");
    let nothing = format!(
        "{group}/providers/Microsoft.Authorization/roleAssignments/{}?{V_AUTH}",
        Uuid::from_u128(1)
    );
    world.arm("DELETE", &nothing, Value::Null).await.is(403, "AuthorizationFailed");
    let path = at("/resourceGroups/rg-app?api-version=2024-07-01");
    assert_eq!(world.arm("GET", &path, Value::Null).await.status, 200);
    let subscriptions =
        world.arm("GET", "/subscriptions?api-version=2022-12-01", Value::Null).await;
    assert_eq!(subscriptions.body["value"][0]["subscriptionId"], SUBSCRIPTION);
}

#[tokio::test]
async fn a_condition_lets_its_holder_give_and_take_only_what_it_lists() {
    let world = World::new().await;
    let half = |source: &str, verb: &str| {
        let of = format!("@{source}[Microsoft.Authorization/roleAssignments:");
        format!(
            "((!(ActionMatches{{'Microsoft.Authorization/roleAssignments/{verb}'}})) OR ({of}RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {{{ACR_PULL}, {READER}}} AND {of}PrincipalType] ForAnyOfAnyValues:StringEqualsIgnoreCase {{'ServicePrincipal'}}))"
        )
    };
    let condition = format!("{} AND {}", half("Request", "write"), half("Resource", "delete"));
    let admin = RBAC_ADMIN.parse().unwrap();
    world.azure.assign_role(&at(""), admin, world.principal, Some(&condition));
    let job = world.azure.add_existing_identity(
        &at(&format!("/resourceGroups/rg-runners/{MSI}/id-job")),
        BTreeMap::new(),
    );
    let user = world.azure.add_user();
    let give = async |number: u128, role: &str, principal: Uuid, kind: Option<&str>| {
        let body = role_body(role, principal, kind);
        world.assign(Uuid::from_u128(number), &registry(), body).await
    };
    let allowed = give(1, ACR_PULL, job.principal_id, Some("ServicePrincipal")).await;
    assert_eq!(allowed.status, 201, "{}", allowed.body);
    let refused = give(2, OWNER, job.principal_id, Some("ServicePrincipal")).await;
    let refused = refused.is(403, "AuthorizationFailed");
    assert!(refused.message().contains("or an ABAC condition not fulfilled"));
    give(3, ACR_PULL, user, Some("User")).await.is(403, "AuthorizationFailed");
    give(4, READER, job.principal_id, None).await.is(403, "AuthorizationFailed");
    let owner = world.azure.assign_role(&registry(), OWNER.parse().unwrap(), user, None);
    for (name, status) in [(Uuid::from_u128(1), 200), (Uuid::from_u128(1), 204), (owner, 403)] {
        let path = format!(
            "{}/providers/Microsoft.Authorization/roleAssignments/{name}?{V_AUTH}",
            registry()
        );
        assert_eq!(world.arm("DELETE", &path, Value::Null).await.status, status);
    }
}

#[tokio::test]
async fn a_condition_that_nobody_understands_gives_nothing() {
    let world = World::new().await;
    let admin = RBAC_ADMIN.parse().unwrap();
    world.azure.assign_role(&at(""), admin, world.principal, Some("@Principal[x] Equals 'y'"));
    let body = role_body(ACR_PULL, world.principal, Some("ServicePrincipal"));
    world.assign(Uuid::from_u128(1), &registry(), body).await.is(403, "AuthorizationFailed");
}

#[tokio::test]
async fn a_service_accounts_token_becomes_an_azure_token_with_the_identitys_rights() {
    let world = World::owned().await;
    let server = issuer_server(&world.wire, ISSUER, "first").await;
    world.azure.trust_issuer(ISSUER, server.address);
    let made = world.create_identity("id-a").await;
    let guid =
        |name: &str| made.body["properties"][name].as_str().unwrap().parse::<Uuid>().unwrap();
    world.put_credential("id-a", "aks1-a", credential(ISSUER, SUBJECT)).await;
    let proof = assertion(world.clock.now(), json!({}));
    let signed_in = world.sign_in(guid("clientId"), &proof).await;
    assert_eq!(signed_in.status, 200, "{}", signed_in.body);
    assert_eq!(signed_in.body["token_type"], "Bearer");
    let token = signed_in.body["access_token"].as_str().unwrap();
    let app = at("/resourceGroups/rg-app?api-version=2024-07-01");
    world.arm_as(token, "GET", &app, Value::Null).await.is(403, "AuthorizationFailed");
    let reader = READER.parse().unwrap();
    world.azure.assign_role(&at("/resourceGroups/rg-app"), reader, guid("principalId"), None);
    assert_eq!(world.arm_as(token, "GET", &app, Value::Null).await.status, 200);
    world.arm_as(token, "PUT", &app, json!({"location": "x"})).await.is(403, "AuthorizationFailed");
    let caller = world.azure.authenticate(token, ARM).unwrap();
    assert_eq!(caller.principal_id, guid("principalId"));
    assert_eq!(world.azure.authenticate(token, VAULT), None);
    world.pass(3600);
    world.arm_as(token, "GET", &app, Value::Null).await.is(401, "ExpiredAuthenticationToken");
}

#[tokio::test]
async fn every_assertion_that_does_not_fit_is_refused_with_its_number() {
    let world = World::owned().await;
    let server = issuer_server(&world.wire, ISSUER, "first").await;
    world.azure.trust_issuer(ISSUER, server.address);
    let made = world.create_identity("id-a").await;
    let client: Uuid = made.body["properties"]["clientId"].as_str().unwrap().parse().unwrap();
    let now = world.clock.now();
    let refused = |reply: Reply, code: u32| {
        assert_eq!(reply.body["error_codes"], json!([code]), "{} {}", reply.status, reply.body);
        let text = reply.body["error_description"].as_str().unwrap();
        assert!(text.starts_with(&format!("AADSTS{code}: ")), "{text}");
        assert!((400..=401).contains(&reply.status));
    };
    let good = assertion(now, json!({}));
    refused(world.sign_in(client, &good).await, 70021);
    let identity = made.body["id"].as_str().unwrap();
    for (name, issuer) in [("one", ISSUER), ("untrusted", "https://nobody.example/")] {
        let credential = Credential {
            name: name.to_owned(),
            issuer: issuer.to_owned(),
            subject: SUBJECT.to_owned(),
            audiences: vec![AUDIENCE.to_owned()],
        };
        world.azure.edit_credential(identity, credential);
    }
    assert_eq!(world.sign_in(client, &good).await.status, 200);
    let second = now.as_second();
    let cases = [
        (json!({"iss": ISSUER.trim_end_matches('/')}), 700_211),
        (json!({"sub": SUBJECT.to_uppercase()}), 700_213),
        (json!({"aud": ["api://AKSIdentityBinding"]}), 700_212),
        (json!({"iss": "https://login.microsoftonline.com/x/v2.0"}), 700_222),
        (json!({"iss": "https://nobody.example/"}), 90061),
        (json!({"iat": second - 7200, "nbf": second - 7200, "exp": second - 3600}), 700_024),
        (json!({"nbf": second + 3600}), 700_024),
        (json!({"exp": second + 26 * 3600}), 70023),
        (json!({"aud": [AUDIENCE, "another"]}), 50027),
    ];
    for (changes, code) in cases {
        refused(world.sign_in(client, &assertion(now, changes)).await, code);
    }
    let claims = json!({
        "iss": ISSUER, "sub": SUBJECT, "aud": AUDIENCE, "iat": second, "exp": second + 60,
    });
    let unknown_key = jwt(json!({"alg": "RS256", "kid": "second"}), claims.clone());
    refused(world.sign_in(client, &unknown_key).await, 700_027);
    let unsigned = jwt(json!({"alg": "none", "kid": "first"}), claims);
    refused(world.sign_in(client, &unsigned).await, 50027);
    refused(world.sign_in(client, "no token").await, 50027);
    let (head, tail) = good.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let forged_claims = json!({
        "iss": ISSUER, "sub": SUBJECT, "aud": AUDIENCE, "iat": second, "exp": second + 61,
    });
    let forged = format!("{header}.{}.{tail}", URL_SAFE_NO_PAD.encode(forged_claims.to_string()));
    refused(world.sign_in(client, &forged).await, 700_027);
    refused(world.sign_in(Uuid::from_u128(1), &good).await, 700_016);
    let id = client.to_string();
    refused(world.exchange(SUBSCRIPTION, &exchange_form(&id, &good)).await, 90002);
    for (field, value, code) in [
        ("grant_type", "password", 70003),
        ("scope", "", 900_144),
        ("scope", "https://management.azure.com/read", 70011),
        ("scope", "https://example.com/.default", 500_011),
        ("client_assertion", "", 7_000_218),
    ] {
        let mut form = exchange_form(&id, &good);
        form.iter_mut().filter(|(name, _)| *name == field).for_each(|pair| pair.1 = value);
        refused(world.exchange(TENANT, &form).await, code);
    }
}

#[tokio::test]
async fn what_was_just_written_is_seen_elsewhere_only_after_its_lag() {
    let world = World::with(|settings| {
        settings.lags.identity_read = Lag::exactly(Duration::from_secs(10));
        settings.lags.principal = Lag::exactly(Duration::from_secs(60));
        settings.lags.credential = Lag::exactly(Duration::from_secs(30));
        settings.lags.graph = Lag::exactly(Duration::from_secs(30));
    })
    .await;
    world.give(OWNER, &at("")).await;
    world.pass(31);
    let server = issuer_server(&world.wire, ISSUER, "first").await;
    world.azure.trust_issuer(ISSUER, server.address);
    let made = world.create_identity("id-a").await;
    let guid =
        |name: &str| made.body["properties"][name].as_str().unwrap().parse::<Uuid>().unwrap();
    let path = at(&format!("/resourceGroups/rg-runners/{MSI}/id-a?{V_MSI}"));
    let mut misses = 0;
    for _ in 0..20 {
        misses += u32::from(world.arm("GET", &path, Value::Null).await.status == 404);
    }
    assert!((1..20).contains(&misses), "reads flap: {misses} of 20 missed");
    let untyped = role_body(ACR_PULL, guid("principalId"), None);
    let name = Uuid::from_u128(1);
    world.assign(name, &registry(), untyped.clone()).await.is(400, "PrincipalNotFound");
    world.put_credential("id-a", "aks1-a", credential(ISSUER, SUBJECT)).await;
    let proof = assertion(world.clock.now(), json!({}));
    let early = world.sign_in(guid("clientId"), &proof).await;
    assert_eq!(early.body["error_codes"], json!([70021]));
    let graph = async || {
        let query = json!({
            "subscriptions": [SUBSCRIPTION],
            "query": "resources | where type =~ 'microsoft.managedidentity/userassignedidentities' | project id",
        });
        let path = "/providers/Microsoft.ResourceGraph/resources?api-version=2024-04-01";
        world.arm("POST", path, query).await.body["count"].clone()
    };
    assert_eq!(graph().await, 0);
    world.pass(60);
    assert_eq!(graph().await, 1);
    assert_eq!(world.arm("GET", &path, Value::Null).await.status, 200);
    assert_eq!(world.assign(name, &registry(), untyped).await.status, 201);
    assert_eq!(world.sign_in(guid("clientId"), &proof).await.status, 200);
}

#[tokio::test]
async fn the_graph_answers_in_pages_and_shows_only_what_the_caller_may_read() {
    let world = World::new().await;
    for (group, name) in [("rg-app", "id-1"), ("rg-app", "id-2"), ("rg-aks", "id-3")] {
        let id = at(&format!("/resourceGroups/{group}/{MSI}/{name}"));
        let tags = BTreeMap::from([("forerunner-fleet".to_owned(), "nonprod".to_owned())]);
        world.azure.add_existing_identity(&id, tags);
    }
    let ask = async |options: Value| {
        let body = json!({
            "subscriptions": [SUBSCRIPTION],
            "query": "resources | where type =~ 'microsoft.managedidentity/userassignedidentities' | where tags['forerunner-fleet'] =~ 'NonProd' | project id, name, location, tags, properties | order by id asc",
            "options": options,
        });
        let path = "/providers/Microsoft.ResourceGraph/resources?api-version=2024-04-01";
        world.arm("POST", path, body).await
    };
    assert_eq!(ask(json!({})).await.body["totalRecords"], 0, "a lost right is an empty world");
    world.give(READER, &at("/resourceGroups/rg-app")).await;
    let first = ask(json!({"$top": 1})).await;
    assert_eq!(first.body["resultTruncated"], "false");
    assert_eq!(first.body["totalRecords"], 2);
    assert_eq!(first.body["data"][0]["name"], "id-1");
    assert!(first.headers.contains_key("x-ms-user-quota-remaining"));
    let second = ask(json!({"$top": 1, "$skipToken": first.body["$skipToken"]})).await;
    assert_eq!(second.body["data"][0]["name"], "id-2");
    assert!(second.body["$skipToken"].is_null());
    ask(json!({"$top": 5000})).await.is(400, "BadRequest");
    let body = json!({"subscriptions": [SUBSCRIPTION], "query": "authorizationresources | where type =~ 'microsoft.authorization/roleassignments' | project id, name, properties | order by id asc"});
    let path = "/providers/Microsoft.ResourceGraph/resources?api-version=2024-04-01";
    let assignments = world.arm("POST", path, body).await;
    let principal = &assignments.body["data"][0]["properties"]["principalId"];
    assert_eq!(principal, &json!(world.principal));
}

#[tokio::test]
async fn too_many_calls_are_told_to_wait() {
    let world = World::with(|settings| settings.throttling = true).await;
    world.give(OWNER, &at("")).await;
    let token = world.token(ARM).await;
    assert_eq!(world.create_identity("id-a").await.status, 201);
    let again = world.create_identity("id-a").await.is(429, "TooManyRequests");
    assert_eq!(again.headers["retry-after"], "4", "one write of one identity in four seconds");
    world.pass(5);
    assert_eq!(world.create_identity("id-a").await.status, 200);
    let path = at("/resourceGroups?api-version=2024-07-01");
    let mut last = world.arm_as(&token, "GET", &path, Value::Null).await;
    for _ in 0..250 {
        last = world.arm_as(&token, "GET", &path, Value::Null).await;
    }
    let last = last.is(429, "SubscriptionRequestsThrottled");
    assert_eq!(last.headers["retry-after"], "1");
}

#[tokio::test]
async fn a_cluster_shows_its_issuer_and_gives_its_address_to_whoever_may_have_it() {
    let world = World::new().await;
    let id = at("/resourceGroups/rg-aks/providers/Microsoft.ContainerService/managedClusters/aks1");
    world.azure.add_cluster(ClusterSettings::new(&id, ISSUER, "https://aks1.example:443", "UEVN"));
    let version = "api-version=2026-04-01";
    let path = format!("{id}?{version}");
    world.arm("GET", &path, Value::Null).await.is(403, "AuthorizationFailed");
    world.give(READER, &id).await;
    let shown = world.arm("GET", &path, Value::Null).await;
    assert_eq!(shown.body["properties"]["oidcIssuerProfile"]["issuerURL"], ISSUER);
    assert_eq!(shown.body["properties"]["securityProfile"]["workloadIdentity"]["enabled"], true);
    let list = format!("{id}/listClusterUserCredential?{version}&format=exec");
    world.arm("POST", &list, Value::Null).await.is(403, "AuthorizationFailed");
    world.give("4abbcc35-e782-43d8-92c5-2d3f1bd2253f", &id).await;
    let unmeasured = world.http.post(format!("http://{}{list}", world.arm.address));
    let unmeasured = unmeasured.header("Host", "management.azure.com").send().await.unwrap();
    assert_eq!(unmeasured.status(), 411, "an empty body has a length too");
    let given = world.arm("POST", &list, Value::Null).await;
    let config = given.body["kubeconfigs"][0]["value"].as_str().unwrap();
    let config = base64::engine::general_purpose::STANDARD.decode(config).unwrap();
    let config = String::from_utf8(config).unwrap();
    assert!(config.contains("server: https://aks1.example:443"), "{config}");
    assert!(config.contains("certificate-authority-data: UEVN"), "{config}");
}

#[tokio::test]
async fn a_vault_challenges_checks_rights_and_keeps_every_version() {
    let world = World::new().await;
    let id = world.azure.add_vault(&at("/resourceGroups/rg-app"), "kv-runners");
    world.azure.set_secret("kv-runners", "gitlab-token", "first");
    let path = format!("/secrets/gitlab-token/?{V_VAULT}");
    let challenged = world.vault_call("", "GET", &path, Value::Null).await.is(401, "Unauthorized");
    let challenge = challenged.headers["www-authenticate"].to_str().unwrap();
    assert_eq!(
        challenge,
        format!(
            "Bearer authorization=\"https://login.microsoftonline.com/{TENANT}\", resource=\"{VAULT}\""
        )
    );
    let wrong = world.token(ARM).await;
    world.vault_call(&wrong, "GET", &path, Value::Null).await.is(401, "Unauthorized");
    let token = world.token(VAULT).await;
    let refused = world.vault_call(&token, "GET", &path, Value::Null).await.is(403, "Forbidden");
    assert_eq!(refused.body["error"]["innererror"]["code"], "ForbiddenByRbac");
    world.give(SECRETS_USER, &id).await;
    let first = world.vault_call(&token, "GET", &path, Value::Null).await;
    assert_eq!(first.body["value"], "first");
    let put = format!("/secrets/gitlab-token?{V_VAULT}");
    let body =
        json!({"value": "second", "tags": {"hash": "abc"}, "attributes": {"exp": 1_900_000_000}});
    world.vault_call(&token, "PUT", &put, body.clone()).await.is(403, "Forbidden");
    world.give(SECRETS_OFFICER, &id).await;
    let second = world.vault_call(&token, "PUT", &put, body).await;
    assert_eq!((second.status, &second.body["attributes"]["exp"]), (200, &json!(1_900_000_000)));
    let now = world.vault_call(&token, "GET", &path, Value::Null).await;
    assert_eq!((&now.body["value"], &now.body["tags"]["hash"]), (&json!("second"), &json!("abc")));
    let old = first.body["id"].as_str().unwrap().rsplit('/').next().unwrap();
    let old_path = format!("/secrets/gitlab-token/{old}?{V_VAULT}");
    assert_eq!(
        world.vault_call(&token, "GET", &old_path, Value::Null).await.body["value"],
        "first"
    );
    let versions = format!("/secrets/gitlab-token/versions?{V_VAULT}");
    let versions = world.vault_call(&token, "GET", &versions, Value::Null).await;
    assert_eq!(versions.body["value"].as_array().unwrap().len(), 2);
    assert!(versions.body["value"][0]["value"].is_null());
    let missing = format!("/secrets/nothing?{V_VAULT}");
    world.vault_call(&token, "GET", &missing, Value::Null).await.is(404, "SecretNotFound");
    let disabled = json!({"attributes": {"enabled": false}});
    assert_eq!(world.vault_call(&token, "PATCH", &old_path, disabled).await.status, 200);
    world.vault_call(&token, "GET", &old_path, Value::Null).await.is(403, "Forbidden");
    let dump = world.azure.dump().to_string();
    assert!(!dump.contains("second") && !dump.contains(&token), "secrets stay out of the dump");
}

#[tokio::test]
async fn a_deleted_secret_keeps_its_name_until_it_is_recovered_or_purged() {
    let world = World::with(|settings| settings.secret_deletion = Duration::from_secs(20)).await;
    let id = world.azure.add_vault(&at("/resourceGroups/rg-app"), "kv-runners");
    world.give(SECRETS_OFFICER, &id).await;
    world.azure.set_secret("kv-runners", "token", "kept");
    let token = world.token(VAULT).await;
    let path = format!("/secrets/token?{V_VAULT}");
    let deleted_path = format!("/deletedsecrets/token?{V_VAULT}");
    let deleted = world.vault_call(&token, "DELETE", &path, Value::Null).await;
    assert!(deleted.body["recoveryId"].is_string() && deleted.body["deletedDate"].is_number());
    world.vault_call(&token, "GET", &path, Value::Null).await.is(404, "SecretNotFound");
    let put = async |inner: &str| {
        let reply = world.vault_call(&token, "PUT", &path, json!({"value": "new"})).await;
        let reply = reply.is(409, "Conflict");
        assert_eq!(reply.body["error"]["innererror"]["code"], inner);
    };
    put("ObjectIsBeingDeleted").await;
    assert_eq!(world.vault_call(&token, "GET", &deleted_path, Value::Null).await.status, 404);
    world.pass(20);
    put("ObjectIsDeletedButRecoverable").await;
    assert_eq!(world.vault_call(&token, "GET", &deleted_path, Value::Null).await.status, 200);
    let recover = format!("/deletedsecrets/token/recover?{V_VAULT}");
    assert_eq!(world.vault_call(&token, "POST", &recover, Value::Null).await.status, 200);
    assert_eq!(world.vault_call(&token, "GET", &path, Value::Null).await.body["value"], "kept");
    world.vault_call(&token, "DELETE", &path, Value::Null).await;
    world.pass(20);
    assert_eq!(world.vault_call(&token, "DELETE", &deleted_path, Value::Null).await.status, 204);
    assert_eq!(world.vault_call(&token, "PUT", &path, json!({"value": "new"})).await.status, 200);
}

#[tokio::test]
async fn the_rights_of_a_deleted_identity_stay_behind_as_orphans() {
    let world = World::owned().await;
    let id = at(&format!("/resourceGroups/rg-runners/{MSI}/id-a"));
    let identity = world.azure.add_existing_identity(&id, BTreeMap::new());
    let reader = READER.parse().unwrap();
    let name = world.azure.assign_role(&registry(), reader, identity.principal_id, None);
    assert_eq!(world.arm("DELETE", &format!("{id}?{V_MSI}"), Value::Null).await.status, 200);
    assert!(world.azure.identities().is_empty());
    assert!(world.azure.assignments().iter().any(|one| one.name == name));
    assert!(world.azure.remove_assignment(name));
    assert!(!world.azure.remove_assignment(name));
}

/// The recorded answers that describe what this Azure says: same status, same members.
#[tokio::test]
async fn answers_have_the_status_and_the_members_of_the_recorded_ones() {
    for file in [
        "02-identity-create-201",
        "03-identity-delete-204",
        "04-fic-create-201",
        "06-role-assignment-create-201",
        "07-role-assignment-principal-not-found-400",
        "08-aks-get-200",
    ] {
        let path = format!("{}/tests/vectors/azure/{file}.json", env!("CARGO_MANIFEST_DIR"));
        let vector: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let world = World::owned().await;
        if file.starts_with("04") {
            world.create_identity("id-team-a").await;
        }
        let mut body = vector["request"]["body"].clone();
        if file.starts_with("06") {
            let made = world.create_identity("id-team-a").await;
            body["properties"]["principalId"] = made.body["properties"]["principalId"].clone();
        }
        if file.starts_with("08") {
            let id = vector["response"]["body"]["id"].as_str().unwrap();
            world.azure.add_cluster(ClusterSettings::new(id, ISSUER, "https://aks1.example", ""));
        }
        let request = &vector["request"];
        let path = request["url"].as_str().unwrap().strip_prefix(ARM).unwrap();
        let reply = world.arm(request["method"].as_str().unwrap(), path, body).await;
        let expected = &vector["response"];
        assert_eq!(json!(reply.status), expected["status"], "{file}: {}", reply.body);
        assert_eq!(members(&reply.body), members(&expected["body"]), "{file}");
        for header in ["x-ms-request-id", "x-ms-correlation-request-id"] {
            assert!(reply.headers.contains_key(header), "{file}: {header}");
        }
        if expected["body"]["error"].is_object() {
            let (own, recorded) = (&reply.body["error"], &expected["body"]["error"]);
            assert_eq!(own, recorded, "{file}");
        }
    }
}

/// The paths of all members, tags and volatile ones aside.
fn members(value: &Value) -> Vec<String> {
    fn collect(value: &Value, path: &str, into: &mut Vec<String>) {
        for (name, inner) in value.as_object().into_iter().flatten() {
            if name == "eTag" || path.ends_with("/tags") {
                continue;
            }
            let path = format!("{path}/{name}");
            collect(inner, &path, into);
            into.push(path);
        }
    }
    let mut found = Vec::new();
    collect(value, "", &mut found);
    found.sort_unstable();
    found
}
