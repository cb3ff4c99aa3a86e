//! Who forerunner is in Azure: on App Service, in a pod, at a desk, and in another cloud.

use super::{
    azure_answers::{CLIENT, credential, identity},
    stub::{Reply, Seen, Stub, clock, reply},
};
use async_trait::async_trait;
use azure_identity::Executor;
use forerunner::{
    adapters::{
        azure::{Arm, KeyVault},
        cloud::{Cloud, CloudName},
        service_bus::{Letter, ServiceBus},
        tokens::{AUDIENCE_AKS, Credential, Tokens},
    },
    domain::class::Class,
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use std::{collections::BTreeMap, ffi::OsStr, io, path::PathBuf, process::Output, sync::Arc};
use uuid::Uuid;

const AUDIENCE: &str = "https://management.azure.com";
/// 2026-11-23T10:00:00Z, the time of the tests' clock.
const NOW: i64 = 1_795_428_000;

fn managed(stub: &Stub, client_id: Option<Uuid>) -> Credential {
    let endpoint = format!("http://127.0.0.1:{}/msi/token", stub.port).parse().unwrap();
    Credential::ManagedIdentity { endpoint, header: SecretString::from("made-up"), client_id }
}

fn given(expires_on: i64) -> Reply {
    let text = expires_on.to_string();
    reply(
        200,
        json!({"access_token": "made-up", "expires_on": text, "resource": "r", "token_type": "Bearer"}),
    )
}

#[tokio::test]
async fn a_system_assigned_identity_names_nobody_and_a_user_assigned_one_its_client() {
    let check = async |client_id: Option<Uuid>, expected: &str| {
        let stub = Stub::answering(|_, _| given(NOW + 3600)).await;
        let tokens = Tokens::new(stub.http(&[]), clock(), managed(&stub, client_id));
        tokens.bearer(AUDIENCE).await.unwrap();
        let resource = "resource=https%3A%2F%2Fmanagement.azure.com";
        let line = format!("GET /msi/token?api-version=2019-08-01&{resource}{expected}");
        assert_eq!(stub.lines(), [line]);
    };
    check(None, "").await;
    check(Some(CLIENT.parse().unwrap()), &format!("&client_id={CLIENT}")).await;
}

#[tokio::test]
async fn a_token_is_kept_until_five_minutes_before_its_end() {
    let check = async |seconds_left: i64, calls: usize| {
        let stub = Stub::answering(move |_, _| given(NOW + seconds_left)).await;
        let tokens = Tokens::new(stub.http(&[]), clock(), managed(&stub, None));
        for _ in 0..3 {
            tokens.bearer(AUDIENCE).await.unwrap();
        }
        assert_eq!(stub.seen().len(), calls, "{seconds_left} s left");
    };
    check(301, 1).await;
    check(300, 3).await;
    check(-10, 3).await;
}

#[tokio::test]
async fn a_token_is_used_to_its_end_where_its_renewal_fails() {
    let check = async |seconds_left: i64, good: bool| {
        let stub = Stub::answering(move |before, _| match before {
            0 => given(NOW + seconds_left),
            _ => reply(400, json!({"error": "invalid_request"})),
        })
        .await;
        let tokens = Tokens::new(stub.http(&[]), clock(), managed(&stub, None));
        tokens.bearer(AUDIENCE).await.unwrap();
        assert_eq!(tokens.bearer(AUDIENCE).await.is_ok(), good, "{seconds_left} s left");
    };
    check(200, true).await;
    check(-10, false).await;
}

#[tokio::test]
async fn many_callers_ask_for_one_token_once() {
    let stub = Stub::answering(|_, _| given(NOW + 3600)).await;
    let tokens = Tokens::new(stub.http(&[]), clock(), managed(&stub, None));
    let asked = (0..20).map(|_| tokens.bearer(AUDIENCE));
    assert!(futures::future::join_all(asked).await.iter().all(Result::is_ok));
    assert_eq!(stub.seen().len(), 1);
}

/// A service account's token in a file that is gone with this.
struct TokenFile(PathBuf);

impl TokenFile {
    fn new() -> Self {
        let file = std::env::temp_dir().join(format!("forerunner-assertion-{}", Uuid::new_v4()));
        std::fs::write(&file, "made-up-assertion").unwrap();
        Self(file)
    }

    fn credential(&self) -> Credential {
        Credential::WorkloadIdentity {
            tenant_id: Uuid::from_u128(1),
            client_id: CLIENT.parse().unwrap(),
            token_file: self.0.clone(),
        }
    }
}

impl Drop for TokenFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn is_token_call(call: &Seen) -> bool {
    call.uri.contains("/oauth2/v2.0/token")
}

fn form(call: &Seen) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(call.body.as_bytes()).into_owned().collect()
}

#[tokio::test]
async fn a_claims_challenge_is_met_once() {
    // {"access_token":{"nbf":{"essential":true}}}
    let challenge = r#"Bearer realm="", error="insufficient_claims", claims="eyJhY2Nlc3NfdG9rZW4iOnsibmJmIjp7ImVzc2VudGlhbCI6dHJ1ZX19fQ==""#;
    let check = async |met: bool| {
        let stub = Stub::answering(move |_, call| {
            if is_token_call(call) {
                let kind = if form(call).contains_key("claims") { "with" } else { "without" };
                return reply(
                    200,
                    json!({"access_token": kind, "token_type": "Bearer", "expires_in": 3600}),
                );
            }
            if met && call.header("authorization") == Some("Bearer with") {
                return reply(404, json!({"error": {"code": "ResourceNotFound"}}));
            }
            reply(401, json!({"error": {"code": "InvalidAuthenticationToken", "message": "words"}}))
                .header("www-authenticate", challenge)
        })
        .await;
        let file = TokenFile::new();
        let http = stub.http(&["management.azure.com", "login.microsoftonline.com"]);
        let tokens = Tokens::new(http.clone(), clock(), file.credential());
        let found = Arm::new(http, tokens).identity(&identity("id-a")).await;
        if met {
            assert_eq!(found.unwrap(), None);
        } else {
            assert_eq!(found.unwrap_err().class(), Class::Retry { after: None });
        }
        let seen = stub.seen();
        let asked: Vec<&Seen> = seen.iter().filter(|call| is_token_call(call)).collect();
        assert_eq!((asked.len(), seen.len()), (2, 4), "one challenge, one more try");
        assert_eq!(form(asked[0]).get("claims"), None);
        assert_eq!(form(asked[1])["claims"], r#"{"access_token":{"nbf":{"essential":true}}}"#);
    };
    check(true).await;
    check(false).await;
}

#[tokio::test]
async fn another_cloud_has_its_own_authority_manager_vaults_and_audiences() {
    let stub = Stub::answering(|_, call| {
        if is_token_call(call) {
            let scope = &form(call)["scope"];
            return reply(
                200,
                json!({"access_token": scope, "token_type": "Bearer", "expires_in": 3600}),
            );
        }
        match call.header("host").unwrap() {
            "management.usgovcloudapi.net" => {
                reply(201, json!({"name": "aks1-team-a", "properties": call.json()["properties"]}))
            }
            "kv-fleet.vault.usgovcloudapi.net" => reply(200, json!({"value": "v", "id": "i"})),
            _ => reply(201, ""),
        }
    })
    .await;
    let file = TokenFile::new();
    let hosts = [
        "login.microsoftonline.us",
        "management.usgovcloudapi.net",
        "*.vault.usgovcloudapi.net",
        "*.servicebus.usgovcloudapi.net",
    ];
    let http = stub.http(&hosts);
    let cloud = Cloud::named(CloudName::UsGovernment);
    let tokens = Tokens::of_cloud(http.clone(), clock(), file.credential(), cloud);

    let wanted = credential("aks1-team-a", "team-a");
    let arm = Arm::new(http.clone(), tokens.clone());
    let made = arm.put_credential(&identity("id-a"), &wanted).await.unwrap();
    assert_eq!(made, wanted, "what the cloud calls the audience is the adapter's alone");
    let vault = KeyVault::new(http.clone(), tokens.clone(), "kv-fleet");
    assert!(vault.secret("gitlab-token").await.unwrap().is_some());
    let bus = ServiceBus::new(http, tokens.clone(), "sb-x.servicebus.usgovcloudapi.net");
    bus.send("rounds", &[letter("a")]).await.unwrap();
    tokens.bearer(AUDIENCE_AKS).await.unwrap();

    let seen = stub.seen();
    let asked: Vec<(&str, String)> = seen
        .iter()
        .filter(|call| is_token_call(call))
        .map(|call| (call.header("host").unwrap(), form(call)["scope"].clone()))
        .collect();
    let scope = |audience: &str| ("login.microsoftonline.us", format!("{audience}/.default"));
    assert_eq!(
        asked,
        [
            scope("https://management.usgovcloudapi.net"),
            scope("https://vault.usgovcloudapi.net"),
            scope("https://servicebus.azure.net"),
            scope(AUDIENCE_AKS),
        ]
    );
    let written = seen.iter().find(|call| call.method == "PUT").unwrap().json();
    assert_eq!(written["properties"]["audiences"], json!(["api://AzureADTokenExchangeUSGov"]));
}

fn letter(id: &str) -> Letter {
    Letter {
        body: "{}".to_owned(),
        message_id: id.to_owned(),
        session_id: None,
        scheduled_for: None,
    }
}

#[tokio::test]
async fn a_credential_for_another_clouds_audience_looks_wrong() {
    let check = async |audience: &'static str, looks_right: bool| {
        let stub = Stub::answering(move |_, call| {
            if call.uri.starts_with("/msi") {
                return given(NOW + 3600);
            }
            let properties = json!({"issuer": "i", "subject": "s", "audiences": [audience]});
            reply(200, json!({"value": [{"name": "n", "properties": properties}]}))
        })
        .await;
        let http = stub.http(&["management.usgovcloudapi.net"]);
        let cloud = Cloud::named(CloudName::UsGovernment);
        let tokens = Tokens::of_cloud(http.clone(), clock(), managed(&stub, None), cloud);
        let found = Arm::new(http, tokens).credentials(&identity("id-a")).await.unwrap().unwrap();
        let right = found[0].audiences == credential("", "").audiences;
        assert_eq!(right, looks_right, "{audience}");
    };
    check("api://AzureADTokenExchangeUSGov", true).await;
    check("api://AzureADTokenExchange", false).await;
}

/// Plays `az` and `azd`: a program that is not named here is not installed.
#[derive(Debug)]
struct Desk(&'static [(&'static str, &'static str)]);

#[async_trait]
impl Executor for Desk {
    async fn run(&self, program: &OsStr, arguments: &[&OsStr]) -> io::Result<Output> {
        let whole = arguments.iter().map(|one| one.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let whole = format!("{} {whole}", program.to_string_lossy());
        let known = self.0.iter().find(|(name, _)| whole.contains(&format!("{name} ")));
        let Some((_, printed)) = known else {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        };
        let echo = std::process::Command::new("printf").arg("%s").arg(printed).output()?;
        Ok(echo)
    }
}

#[tokio::test]
async fn at_a_desk_whoever_is_signed_in_to_az_or_azd_is_who_we_are() {
    let check = async |desk: Desk, expected: Option<&str>| {
        let stub = Stub::answering(|_, _| reply(500, "")).await;
        let credential = Credential::DeveloperTools { executor: Some(Arc::new(desk)) };
        let token = Tokens::new(stub.http(&[]), clock(), credential).bearer(AUDIENCE).await;
        let found = token.as_ref().ok().map(|token| token.expose_secret());
        assert_eq!(found, expected);
        if let Err(error) = token {
            assert_eq!(error.class(), Class::Permanent, "{error}");
            assert!(error.to_string().contains(AUDIENCE), "{error}");
        }
        assert!(stub.seen().is_empty(), "nothing else is asked");
    };
    let az = r#"{"accessToken": "from-az", "expiresOn": "2026-11-23 11:00:00.000000", "expires_on": 1795431600, "subscription": "s", "tenant": "t", "tokenType": "Bearer"}"#;
    let azd = r#"{"token": "from-azd", "expiresOn": "2026-11-23T11:00:00Z"}"#;
    check(Desk(Box::leak(Box::new([("az", az), ("azd", azd)]))), Some("from-az")).await;
    check(Desk(Box::leak(Box::new([("azd", azd)]))), Some("from-azd")).await;
    check(Desk(&[]), None).await;
}
