//! `gitlab.caFile`: GitLab's authority is trusted for GitLab alone, and one that cannot be read is a fault of the file.

use crate::{
    fakes::settings,
    stub::clock,
    tls::{TlsServer, certified},
};
use forerunner::{
    adapters::http::{Http, HttpSettings, Request},
    cli::load,
};
use std::{fs, path::PathBuf};

const FLEET: &str = include_str!("../../examples/minimal.yaml");

/// A folder with a fleet file that names `ca`, and that authority where there is one.
fn folder(name: &str, ca: Option<&str>) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("forerunner-ca-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let fleet = FLEET.replacen("\ngitlab:\n", "\ngitlab:\n  caFile: root.pem\n", 1);
    assert_ne!(fleet, FLEET, "the example has a block of its own for GitLab");
    fs::write(folder.join("fleet.yaml"), fleet).unwrap();
    if let Some(ca) = ca {
        fs::write(folder.join("root.pem"), ca).unwrap();
    }
    folder
}

#[test]
fn one_that_cannot_be_read_is_told_and_loses_no_hook() {
    let check = |name: &str, ca: Option<&str>, words: &[&str]| {
        let folder = folder(name, ca);
        let loaded = load::load(
            &settings(&[
                ("FORERUNNER_FLEET", folder.join("fleet.yaml").to_str().unwrap()),
                ("ServiceBus__fullyQualifiedNamespace", "sb-fleet.servicebus.windows.net"),
                ("IDENTITY_ENDPOINT", "http://127.0.0.1:42356/msi/token"),
                ("IDENTITY_HEADER", "a made-up identity header"),
            ]),
            clock(),
        );
        fs::remove_dir_all(&folder).unwrap();
        let problems = loaded.unwrap_or_else(|error| panic!("{error}")).fleet_problems.join("\n");
        for word in words {
            assert!(problems.contains(word), "no `{word}` in `{problems}`");
        }
        assert_eq!(problems.is_empty(), words.is_empty(), "{problems}");
    };
    check("none", None, &["gitlab.caFile", "root.pem", "relative to fleet.yaml"]);
    check("text", Some("not a certificate\n"), &["gitlab.caFile", "it holds no PEM certificate"]);
    check("good", Some(&certified("gitlab.example.com").pem), &[]);
}

#[tokio::test]
async fn it_is_trusted_by_gitlabs_client_alone() {
    let certified = certified("localhost");
    let server = TlsServer::start(&certified, &[]).await;
    let url = || format!("https://localhost:{}/", server.port).parse().unwrap();
    let everyone = Http::new(HttpSettings::default(), clock());
    let gitlab = everyone.trusting_also(certified.pem.as_bytes()).unwrap();
    assert!(gitlab.send(Request::get(url())).await.is_ok());
    assert!(everyone.send(Request::get(url())).await.is_err(), "Azure's client is another");
}
