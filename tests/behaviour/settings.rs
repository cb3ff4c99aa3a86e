//! Settings are read once, with defaults; one that cannot be meant stops the start with one line.

use crate::fakes::{TOKEN, World, settings};
use forerunner::{
    cli::handler,
    clock::Clock,
    config::{Mode, Settings},
};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

const SIGNING: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn refusal(name: &str, value: &str) -> String {
    let pairs = BTreeMap::from([(name, value)]);
    let read = Settings::read(|name| pairs.get(name).map(|value| (*value).to_owned()));
    read.expect_err(name).to_string()
}

#[test]
fn nothing_set_gives_the_defaults() {
    let defaults = settings(&[]);
    assert_eq!(defaults.fleet, PathBuf::from("fleet.yaml"));
    assert_eq!(defaults.mode, None);
    assert_eq!(defaults.sweep_schedule, "0 */10 * * * *");
    assert!(defaults.loopback.is_empty() && defaults.clock_file.is_none());
    assert!(defaults.identity.is_none() && defaults.otlp_endpoint.is_none());
}

#[test]
fn everything_set_is_read() {
    let all = settings(&[
        ("FUNCTIONS_APP_ROOT_PATH", "/home/site/wwwroot"),
        ("FORERUNNER_MODE", "observe"),
        ("GITLAB_HOOK_TOKENS", TOKEN),
        ("GITLAB_HOOK_SIGNING_SECRETS", SIGNING),
        ("ServiceBus__fullyQualifiedNamespace", "SB-fleet.servicebus.windows.net"),
        ("SweepSchedule", "0 */5 * * * *"),
        ("AZURE_CLIENT_ID", "11111111-2222-4333-8444-000000000001"),
        ("IDENTITY_ENDPOINT", "http://127.0.0.1:42356/msi/token"),
        ("IDENTITY_HEADER", "a made-up identity header"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4318"),
        ("FUNCTIONS_CUSTOMHANDLER_PORT", "42511"),
        ("FORERUNNER_LOOPBACK", "gitlab.example.com=8080,*.vault.azure.net=8081"),
        ("FORERUNNER_CLOCK", "/tmp/clock"),
    ]);
    assert_eq!(all.fleet, PathBuf::from("/home/site/wwwroot/fleet.yaml"));
    assert_eq!(all.mode, Some(Mode::Observe));
    assert_eq!(all.service_bus().unwrap(), "sb-fleet.servicebus.windows.net");
    assert_eq!(all.port(), Ok(42511));
    assert_eq!(all.loopback.len(), 2);
    let shown = format!("{all:?}");
    for secret in [TOKEN, SIGNING, "a made-up identity header", "[0, 1, 2"] {
        assert!(!shown.contains(secret), "{shown}");
    }
    assert_eq!(settings(&[("FUNCTIONS_HTTPWORKER_PORT", "42512")]).port(), Ok(42512));
    let given =
        settings(&[("FORERUNNER_FLEET", "/etc/fleet.yaml"), ("FUNCTIONS_APP_ROOT_PATH", "/x")]);
    assert_eq!(given.fleet, PathBuf::from("/etc/fleet.yaml"));
}

#[test]
fn a_setting_that_cannot_be_meant_stops_the_start_in_one_line_without_its_value() {
    let cases = [
        ("FORERUNNER_MODE", "made-up-value"),
        ("GITLAB_HOOK_TOKENS", ""),
        ("GITLAB_HOOK_TOKENS", "made-up-value"),
        ("GITLAB_HOOK_TOKENS", "a-long-made-up-value,,another-made-up-value"),
        ("GITLAB_HOOK_TOKENS", "@Microsoft.KeyVault(SecretUri=https://made-up-value/)"),
        ("GITLAB_HOOK_SIGNING_SECRETS", "a-long-made-up-value"),
        (
            "GITLAB_HOOK_SIGNING_SECRETS",
            "@Microsoft.KeyVault(VaultName=made-up-value,SecretName=x)",
        ),
        ("ServiceBus__fullyQualifiedNamespace", "https://made-up-value/"),
        ("SweepSchedule", "every made-up-value"),
        ("RotateSchedule", "* * * * *"),
        ("AZURE_CLIENT_ID", "made-up-value"),
        ("AZURE_TENANT_ID", "made-up-value"),
        ("IDENTITY_ENDPOINT", "http://made-up-value/"),
        ("IDENTITY_HEADER", "made-up-value"),
        ("HTTPS_PROXY", "made-up-value"),
        ("FORERUNNER_AZURE_CLOUD", "made-up-value"),
        ("FORERUNNER_AZURE_AUTHORITY", "http://made-up-value/"),
        ("AZURE_AUTHORITY_HOST", "https://login.example.com/made-up-value"),
        ("FORERUNNER_AZURE_RESOURCE_MANAGER", "made-up-value"),
        ("FORERUNNER_AZURE_KEY_VAULT_DOMAIN", "https://made-up-value"),
        ("FORERUNNER_AZURE_SERVICE_BUS_AUDIENCE", "made-up-value"),
        ("FORERUNNER_AZURE_TOKEN_EXCHANGE_AUDIENCE", "made-up-value"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "made-up-value"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "grpc://made-up-value"),
        ("FUNCTIONS_CUSTOMHANDLER_PORT", "made-up-value"),
        ("FORERUNNER_LOOPBACK", "made-up-value"),
        ("FORERUNNER_LOOPBACK", "made-up-value=0"),
        ("FORERUNNER_CLOCK", "made-up-value"),
    ];
    for (name, value) in cases {
        let line = refusal(name, value);
        let names_it =
            line.contains(name) || (name.starts_with("IDENTITY_") && line.contains("IDENTITY_"));
        assert!(names_it && !line.contains('\n') && line.contains(": "), "{line}");
        assert!(!line.contains("made-up-value"), "{line}");
    }
}

#[test]
fn one_setting_names_a_cloud_and_each_endpoint_can_be_another() {
    let check = |pairs: &[(&str, &str)], expected: [&str; 5]| {
        let cloud = settings(pairs).cloud;
        let found = [
            cloud.authority.as_str(),
            cloud.resource_manager_audience(),
            &cloud.key_vault_domain,
            &cloud.service_bus_audience,
            &cloud.token_exchange_audience,
        ];
        assert_eq!(found, expected, "{pairs:?}");
    };
    let bus = "https://servicebus.azure.net";
    let public = [
        "https://login.microsoftonline.com/",
        "https://management.azure.com",
        "vault.azure.net",
        bus,
        "api://AzureADTokenExchange",
    ];
    check(&[], public);
    check(&[("FORERUNNER_AZURE_CLOUD", "azurecloud")], public);
    check(
        &[("FORERUNNER_AZURE_CLOUD", "AzureUSGovernment")],
        [
            "https://login.microsoftonline.us/",
            "https://management.usgovcloudapi.net",
            "vault.usgovcloudapi.net",
            bus,
            "api://AzureADTokenExchangeUSGov",
        ],
    );
    check(
        &[
            ("FORERUNNER_AZURE_CLOUD", "AzureChinaCloud"),
            ("AZURE_AUTHORITY_HOST", "https://login.partner.microsoftonline.cn/"),
            ("FORERUNNER_AZURE_RESOURCE_MANAGER", "https://arm.example.com"),
            ("FORERUNNER_AZURE_KEY_VAULT_DOMAIN", "Vault.Example.com"),
            ("FORERUNNER_AZURE_SERVICE_BUS_AUDIENCE", "https://bus.example.com"),
            ("FORERUNNER_AZURE_TOKEN_EXCHANGE_AUDIENCE", "api://Own"),
        ],
        [
            "https://login.partner.microsoftonline.cn/",
            "https://arm.example.com",
            "vault.example.com",
            "https://bus.example.com",
            "api://Own",
        ],
    );
    let own = settings(&[
        ("FORERUNNER_AZURE_AUTHORITY", "https://login.example.com"),
        ("AZURE_AUTHORITY_HOST", "https://login.microsoftonline.com/"),
    ]);
    assert_eq!(own.cloud.authority.as_str(), "https://login.example.com/");
}

#[test]
fn a_proxy_is_read_in_either_spelling_and_never_shown_with_its_password() {
    for (address, except) in [("HTTPS_PROXY", "NO_PROXY"), ("https_proxy", "no_proxy")] {
        let all = settings(&[(address, "http://made:up@proxy.example.com:3128"), (except, "a.b")]);
        let shown = format!("{:?}", all.proxy);
        assert_eq!(shown, "Some(Proxy(proxy.example.com except for `a.b`))");
    }
    assert!(settings(&[]).proxy.is_none());
}

#[test]
fn what_only_the_handler_needs_is_asked_for_only_there() {
    let bare = settings(&[]);
    assert!(
        bare.service_bus().unwrap_err().to_string().contains("ServiceBus__fullyQualifiedNamespace")
    );
    assert!(bare.port().unwrap_err().to_string().contains("FUNCTIONS_CUSTOMHANDLER_PORT"));
}

#[tokio::test]
async fn the_handler_never_ends_with_success() {
    let world = Arc::new(World::default());
    let code = handler::run(settings(&[]), world.clone(), world, Clock::system()).await;
    assert_ne!(format!("{code:?}"), format!("{:?}", std::process::ExitCode::SUCCESS));
}

#[test]
fn a_clock_file_is_followed() {
    let file = std::env::temp_dir().join(format!("forerunner-clock-{}", std::process::id()));
    std::fs::write(&file, "3600000").unwrap();
    let followed = settings(&[
        ("FORERUNNER_LOOPBACK", "gitlab.example.com=8080"),
        ("FORERUNNER_CLOCK", file.to_str().unwrap()),
    ]);
    let ahead = followed.clock().now().duration_since(settings(&[]).clock().now());
    std::fs::remove_file(file).unwrap();
    let ahead = Duration::try_from(ahead).unwrap();
    assert!(ahead > Duration::from_secs(3500) && ahead <= Duration::from_secs(3600), "{ahead:?}");
}
