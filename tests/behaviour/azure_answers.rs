//! The Azure adapters against recorded answers: what they ask and what they make of it.

use super::stub::{Reply, Seen, Stub, clock, reply};
use base64::Engine;
use forerunner::{
    adapters::{
        azure::{Arm, KeyVault},
        service_bus::{Letter, ServiceBus},
        tokens::{Credential, Tokens},
    },
    domain::{
        azure::{FederatedCredential, ResourceId, RoleAssignment},
        class::Class,
    },
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::Path};
use uuid::Uuid;

pub(crate) const HOSTS: &[&str] = &[
    "management.azure.com",
    "*.vault.azure.net",
    "*.servicebus.windows.net",
    "login.microsoftonline.com",
    "evil.example",
];
const AUDIENCE_ARM: &str = "https://management.azure.com";
pub(crate) const CLIENT: &str = "4024ab25-56a8-4370-aea6-6389221caf29";
pub(crate) const SUBSCRIPTION: &str = "11111111-1111-1111-1111-111111111111";

fn vector(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/azure");
    let text = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// Plays the token endpoint and, for everything else, `answer`.
pub(crate) async fn azure(answer: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Stub {
    Stub::answering(
        move |before, call| {
            if call.uri.starts_with("/msi/token") { token() } else { answer(before, call) }
        },
    )
    .await
}

fn token() -> Reply {
    reply(200, vector("01-msi-token-app-service")["response"]["body"].clone())
}

pub(crate) fn tokens(stub: &Stub) -> Tokens {
    let endpoint = format!("http://127.0.0.1:{}/msi/token/", stub.port).parse().unwrap();
    let header = SecretString::from("made-up-header");
    let client_id = Some(CLIENT.parse().unwrap());
    let credential = Credential::ManagedIdentity { endpoint, header, client_id };
    Tokens::new(stub.http(HOSTS), clock(), credential)
}

pub(crate) fn arm(stub: &Stub) -> Arm {
    Arm::new(stub.http(HOSTS), tokens(stub))
}

pub(crate) fn id(text: &str) -> ResourceId {
    ResourceId::new(text).unwrap()
}

pub(crate) fn identity(name: &str) -> ResourceId {
    id(&format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-runners/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
    ))
}

fn recorded(vector: &Value) -> Reply {
    let response = &vector["response"];
    let body = response["body"].clone();
    let mut answer = reply(
        response["status"].as_u64().unwrap() as u16,
        if body.is_null() { String::new() } else { body.to_string() },
    );
    for (name, value) in response["headers"].as_object().unwrap() {
        answer = answer.header(name, value.as_str().unwrap());
    }
    answer
}

fn class_name(outcome: Result<(), Class>) -> &'static str {
    match outcome {
        Ok(()) => "ok",
        Err(Class::Retry { .. }) => "retry",
        Err(Class::Wait { .. }) => "wait",
        Err(Class::Conflict) => "conflict",
        Err(Class::Permanent) => "permanent",
    }
}

/// Makes the call that the vector records, and holds request and outcome against it.
async fn replay(
    name: &'static str,
    call: impl AsyncFnOnce(&Stub) -> Result<(), Class>,
) -> Vec<Seen> {
    let vector = vector(name);
    let played = vector.clone();
    let stub = azure(move |_, _| recorded(&played)).await;
    let outcome = call(&stub).await;
    assert_eq!(class_name(outcome), vector["expect"]["class"], "{name}");
    let calls = stub.seen().into_iter().filter(|call| !call.uri.starts_with("/msi/token"));
    let calls: Vec<Seen> = calls.collect();
    let url: url::Url = vector["request"]["url"].as_str().unwrap().parse().unwrap();
    assert_eq!(calls[0].method, vector["request"]["method"], "{name}");
    assert_eq!(calls[0].uri.split('?').next().unwrap(), url.path(), "{name}");
    assert_eq!(calls[0].header("host"), url.host_str(), "{name}");
    assert_eq!(calls[0].header("authorization"), Some("Bearer eyJ0eXAi.sample.token"), "{name}");
    calls
}

fn assert_asked(call: &Seen, name: &str) {
    let request = vector(name)["request"].clone();
    let url: url::Url = request["url"].as_str().unwrap().parse().unwrap();
    assert_eq!(call.uri.split('?').nth(1), url.query(), "{name}");
    assert_eq!(call.json(), request["body"], "{name}");
}

#[tokio::test]
async fn a_token_is_asked_for_as_the_platform_wants_it() {
    let stub = azure(|_, _| reply(500, "")).await;
    let tokens = tokens(&stub);
    for _ in 0..2 {
        let token = tokens.bearer(AUDIENCE_ARM).await.unwrap();
        assert_eq!(token.expose_secret(), "eyJ0eXAi.sample.token");
    }
    let seen = stub.seen();
    assert_eq!(seen.len(), 1, "the token is kept");
    let url = vector("01-msi-token-app-service")["request"]["url"].clone();
    let url: url::Url = url.as_str().unwrap().parse().unwrap();
    assert_eq!(seen[0].uri, format!("{}?{}", url.path(), url.query().unwrap()));
    assert_eq!(seen[0].header("x-identity-header"), Some("made-up-header"));
    tokens.forget(AUDIENCE_ARM);
    tokens.bearer(AUDIENCE_ARM).await.unwrap();
    assert_eq!(stub.seen().len(), 2, "a forgotten token is asked for anew");
}

#[tokio::test]
async fn an_identity_nobody_gave_us_is_permanent_and_not_waited_for() {
    let stub = Stub::answering(|_, _| reply(400, r#"{"message":"no such identity"}"#)).await;
    let error = tokens(&stub).bearer(AUDIENCE_ARM).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent);
    assert!(error.to_string().contains("no such identity"), "{error}");
    assert_eq!(stub.seen().len(), 1);
}

#[tokio::test]
async fn an_identity_is_made_and_its_ids_are_read() {
    let tags = BTreeMap::from([("managed-by".to_owned(), "runner-reconciler".to_owned())]);
    let calls = replay("02-identity-create-201", async |stub| {
        let made = arm(stub).put_identity(&identity("id-team-a"), "westeurope", &tags).await;
        let made = made.map_err(|error| error.class())?;
        assert_eq!(made.client_id.to_string(), CLIENT);
        assert_eq!(made.principal_id.to_string(), "25cc773c-7f05-40fc-a104-32d2300754ad");
        assert_eq!(made.id, identity("ID-TEAM-A"));
        assert_eq!(made.tags, tags);
        Ok(())
    })
    .await;
    assert_asked(&calls[0], "02-identity-create-201");
}

pub(crate) fn credential(name: &str, account: &str) -> FederatedCredential {
    FederatedCredential {
        name: name.to_owned(),
        issuer: "https://westeurope.oic.prod-aks.azure.com/b6c948ef-f6b5-4384-8354-da3a15eca969/0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0/".to_owned(),
        subject: Some(format!("system:serviceaccount:{account}:runner")),
        audiences: vec!["api://AzureADTokenExchange".to_owned()],
    }
}

#[tokio::test]
async fn a_federated_credential_is_made_with_its_issuers_slash() {
    let calls = replay("04-fic-create-201", async |stub| {
        let wanted = credential("aks1-team-a", "team-a");
        let made = arm(stub).put_credential(&identity("id-team-a"), &wanted).await;
        assert_eq!(made.map_err(|error| error.class())?, wanted);
        Ok(())
    })
    .await;
    assert_asked(&calls[0], "04-fic-create-201");
    let calls = replay("05-fic-concurrent-write-409", async |stub| {
        let wanted = credential("aks1-team-b", "team-b");
        let made = arm(stub).put_credential(&identity("id-team-a"), &wanted).await;
        made.map(drop).map_err(|error| error.class())
    })
    .await;
    assert_asked(&calls[0], "05-fic-concurrent-write-409");
}

#[tokio::test]
async fn a_role_is_given_to_a_service_principal() {
    let wanted = RoleAssignment {
        name: "c52505d8-7693-5275-9ab8-8387c9fa4ec8".parse().unwrap(),
        scope: id(&format!(
            "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-app/providers/Microsoft.ContainerRegistry/registries/acr1"
        )),
        role: "7f951dda-4ed3-4680-a7ca-43fe172d538d".parse().unwrap(),
        principal_id: "25cc773c-7f05-40fc-a104-32d2300754ad".parse().unwrap(),
        description: None,
        condition: None,
    };
    let calls = replay("06-role-assignment-create-201", async |stub| {
        let given = arm(stub).put_assignment(&wanted).await.map_err(|error| error.class())?;
        assert_eq!(given, wanted);
        Ok(())
    })
    .await;
    assert_asked(&calls[0], "06-role-assignment-create-201");
    let calls = replay("07-role-assignment-principal-not-found-400", async |stub| {
        let given = arm(stub).put_assignment(&wanted).await;
        given.map(drop).map_err(|error| error.class())
    })
    .await;
    assert_eq!(calls.len(), 1, "waiting for the directory is the queue's");
}

#[tokio::test]
async fn a_clusters_issuer_is_read_byte_for_byte() {
    let calls = replay("08-aks-get-200", async |stub| {
        let cluster = id(&format!(
            "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-aks/providers/Microsoft.ContainerService/managedClusters/aks1"
        ));
        let found = arm(stub).cluster(&cluster).await.map_err(|error| error.class())?.unwrap();
        assert_eq!(found.oidc_issuer, Some(credential("", "").issuer));
        assert!(found.workload_identity);
        assert_eq!(found.power_state.as_deref(), Some("Running"));
        Ok(())
    })
    .await;
    assert_asked(&calls[0], "08-aks-get-200");
}

#[tokio::test]
async fn a_vaults_challenge_is_answered_once() {
    let calls = replay("09-keyvault-challenge-401", async |stub| {
        let vault = KeyVault::new(stub.http(HOSTS), tokens(stub), "kv-runners");
        vault.secret("glrt-team-a").await.map(drop).map_err(|error| error.class())
    })
    .await;
    assert_eq!(calls.len(), 2);
    assert_asked(&calls[0], "09-keyvault-challenge-401");
}

#[tokio::test]
async fn a_secret_is_read_written_and_missed() {
    let stub = azure(|_, call| match (call.method.as_str(), call.uri.contains("/known")) {
        ("GET", true) => {
            reply(200, json!({"value": "made-up", "id": "https://kv/secrets/known/1"}))
        }
        ("PUT", _) => reply(200, json!({"value": "new", "id": "https://kv/secrets/known/2"})),
        _ => reply(404, json!({"error": {"code": "SecretNotFound", "message": "none"}})),
    })
    .await;
    let vault = KeyVault::new(stub.http(HOSTS), tokens(&stub), "kv-fleet");
    let found = vault.secret("known").await.unwrap().unwrap();
    assert_eq!(found.expose_secret(), "made-up");
    assert!(vault.secret("other").await.unwrap().is_none());
    vault.set_secret("known", &SecretString::from("new")).await.unwrap();
    assert_eq!(stub.seen().last().unwrap().json(), json!({"value": "new"}));
    assert!(vault.secret("../keys").await.is_err(), "a path is no name");
}

#[tokio::test]
async fn a_batch_goes_out_under_the_bare_content_type() {
    let calls = replay("10-servicebus-batch-201", async |stub| {
        let host = "sb-runners.servicebus.windows.net";
        let letter = Letter {
            body: r#"{"runner":42}"#.to_owned(),
            message_id: "runner-42-gen-7".to_owned(),
            session_id: Some("id-team-a".to_owned()),
            scheduled_for: Some("2026-11-23T10:00:00Z".parse().unwrap()),
        };
        let bus = ServiceBus::new(stub.http(HOSTS), tokens(stub), host);
        bus.send("runner-work", &[letter]).await.map_err(|error| error.class())
    })
    .await;
    assert_eq!(calls[0].header("content-type"), Some("application/vnd.microsoft.servicebus.json"));
    let recorded = &vector("10-servicebus-batch-201")["request"]["body"][0];
    let sent = &calls[0].json()[0];
    assert_eq!(sent["Body"], recorded["Body"]);
    for key in ["MessageId", "SessionId", "ScheduledEnqueueTimeUtc"] {
        assert_eq!(sent["BrokerProperties"][key], recorded["BrokerProperties"][key], "{key}");
    }
}

#[tokio::test]
async fn a_refused_token_is_renewed_once_for_the_queue() {
    let stub = azure(|before, _| reply(if before < 2 { 401 } else { 201 }, "")).await;
    let bus = ServiceBus::new(stub.http(HOSTS), tokens(&stub), "sb-x.servicebus.windows.net");
    let letter = Letter {
        body: String::new(),
        message_id: "a".to_owned(),
        session_id: None,
        scheduled_for: None,
    };
    bus.send("rounds", &[letter]).await.unwrap();
    let lines: Vec<_> =
        stub.lines().iter().map(|line| line.split('?').next().unwrap().to_owned()).collect();
    let post = "POST /rounds/messages";
    assert_eq!(lines, ["GET /msi/token/", post, "GET /msi/token/", post]);
}

#[tokio::test]
async fn a_throttled_list_says_how_long_to_wait() {
    let calls = replay("11-arm-throttled-429", async |stub| {
        let subscription: Uuid = SUBSCRIPTION.parse().unwrap();
        let listed = arm(stub).identities_in(subscription, "rg-runners").await;
        let class = listed.unwrap_err().class();
        let seconds = Class::Retry { after: Some(jiff::SignedDuration::from_secs(10)) };
        assert_eq!(class, seconds);
        Err(class)
    })
    .await;
    assert_eq!(calls.len(), 1);
    assert_asked(&calls[0], "11-arm-throttled-429");
}

#[tokio::test]
async fn a_deletion_of_what_is_not_there_is_done() {
    for status in [200, 204, 404] {
        let stub = azure(move |_, _| reply(status, "")).await;
        arm(&stub).delete_credential(&identity("id-gone"), "aks1").await.unwrap();
        assert!(arm(&stub).identity(&identity("id-gone")).await.is_err() || status == 404);
    }
}

#[tokio::test]
async fn every_page_of_a_list_is_read_and_none_on_another_host() {
    let row = |name: &str| {
        json!({"id": identity(name).as_str(), "location": "westeurope", "properties":
            {"clientId": CLIENT, "principalId": CLIENT, "tenantId": CLIENT}})
    };
    let identities = identity("");
    let identities = identities.as_str();
    let check = async |next: &str, expected: Option<usize>| {
        let next = next.to_owned();
        let stub = azure(move |_, call| {
            if call.uri.contains("skiptoken=2") {
                reply(200, json!({"value": [row("b")]}))
            } else {
                reply(200, json!({"value": [row("a")], "nextLink": next}))
            }
        })
        .await;
        let subscription: Uuid = SUBSCRIPTION.parse().unwrap();
        let listed = arm(&stub).identities_in(subscription, "rg").await;
        let elsewhere = |call: &Seen| call.header("host") == Some("evil.example");
        assert!(!stub.seen().iter().any(elsewhere), "our token stays with ARM");
        match (listed, expected) {
            (Ok(listed), Some(rows)) => assert_eq!(listed.unwrap().len(), rows),
            (listed, _) => {
                let error = listed.unwrap_err().to_string();
                assert!(expected.is_none() && error.contains("another host"), "{error}");
            }
        }
    };
    let page = format!("{}?api-version=2024-11-30&$skiptoken=2", identities.trim_end_matches('/'));
    check(&format!("https://management.azure.com{page}"), Some(2)).await;
    check(&format!("https://evil.example{page}"), None).await;
    check(&format!("http://management.azure.com{page}"), None).await;
}

#[tokio::test]
async fn a_graph_answer_that_is_cut_short_is_an_error() {
    let check = async |body: Value, expected: Option<usize>| {
        let stub = azure(move |_, call| {
            let token = &call.json()["options"]["$skipToken"];
            let last = json!({"data": [], "resultTruncated": "false"});
            reply(200, if token.is_null() { body.clone() } else { last })
        })
        .await;
        let listed = arm(&stub).graph_assignments(&[SUBSCRIPTION.parse().unwrap()]).await;
        assert_eq!(listed.ok().map(|rows| rows.len()), expected);
    };
    let row = json!({"name": CLIENT, "properties": {"scope": "/subscriptions/1", "principalId": CLIENT,
        "roleDefinitionId": format!("/providers/Microsoft.Authorization/roleDefinitions/{CLIENT}")}});
    check(json!({"data": [row], "resultTruncated": "false"}), Some(1)).await;
    check(json!({"data": [row], "resultTruncated": "true", "$skipToken": "t"}), Some(1)).await;
    check(json!({"data": [row], "resultTruncated": "true"}), None).await;
    let whole_tenant = json!({"name": CLIENT, "properties": {"scope": "/", "principalId": CLIENT,
        "roleDefinitionId": format!("/providers/Microsoft.Authorization/roleDefinitions/{CLIENT}")}});
    check(json!({"data": [whole_tenant], "resultTruncated": "false"}), Some(1)).await;
    check(json!({"error": "none"}), None).await;
}

/// It takes no body; without a length the way to ARM refuses a POST.
#[tokio::test]
async fn how_to_reach_a_cluster_is_asked_without_a_body() {
    let stub = azure(|_, _| {
        let value = base64::prelude::BASE64_STANDARD.encode("a made-up kubeconfig");
        reply(200, json!({"kubeconfigs": [{"name": "clusterUser", "value": value}]}))
    })
    .await;
    let cluster = id(&format!(
        "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-aks/providers/Microsoft.ContainerService/managedClusters/aks"
    ));
    let config = arm(&stub).cluster_kubeconfig(&cluster).await.unwrap();
    assert_eq!(config.expose_secret(), "a made-up kubeconfig");
    let asked = &stub.seen()[1];
    assert_eq!((asked.body.as_str(), asked.header("content-type")), ("", None));
    assert_eq!(asked.header("content-length"), Some("0"));
}

/// Entra, as it answers the exchange of a service account's token.
async fn exchange(answer: Reply) -> (Stub, Result<String, Class>) {
    let answer = std::sync::Mutex::new(Some(answer));
    let stub = Stub::answering(move |_, _| answer.lock().unwrap().take().unwrap()).await;
    let folder = std::env::temp_dir();
    let token_file = folder.join(format!("forerunner-token-{}", Uuid::new_v4()));
    std::fs::write(&token_file, "made-up-assertion").unwrap();
    let credential = Credential::WorkloadIdentity {
        tenant_id: Uuid::from_u128(1),
        client_id: CLIENT.parse().unwrap(),
        token_file: token_file.clone(),
    };
    let http = stub.http(HOSTS);
    let token = Tokens::new(http, clock(), credential).bearer(AUDIENCE_ARM).await;
    std::fs::remove_file(token_file).unwrap();
    let token = token.map(|token| token.expose_secret().to_owned());
    (stub, token.map_err(|error| error.class()))
}

#[tokio::test]
async fn a_service_accounts_token_is_exchanged_at_entra() {
    let answer = json!({"access_token": "entra", "token_type": "Bearer", "expires_in": 3600});
    let (stub, token) = exchange(reply(200, answer)).await;
    assert_eq!(token.as_deref(), Ok("entra"));
    let seen = &stub.seen()[0];
    let path = format!("POST /{}/oauth2/v2.0/token", Uuid::from_u128(1));
    assert_eq!(seen.line(), path);
    let form: BTreeMap<_, _> = url::form_urlencoded::parse(seen.body.as_bytes()).collect();
    assert_eq!(form["client_assertion"], "made-up-assertion");
    assert_eq!(form["scope"], "https://management.azure.com/.default");
}

#[tokio::test]
async fn a_credential_that_has_not_spread_is_passing_and_a_wrong_audience_is_not() {
    let check = async |code: u64, class: Class| {
        let body = json!({"error": "invalid_request", "error_description": "words", "error_codes": [code]});
        let (stub, token) = exchange(reply(400, body)).await;
        assert_eq!((token, stub.seen().len()), (Err(class), 1), "{code}");
    };
    check(700213, Class::Retry { after: None }).await;
    check(700212, Class::Permanent).await;
}
