//! A kubeconfig's credential plugin: a program that prints a token (`client.authentication.k8s.io`, v1 and v1beta1).

use super::{
    Error,
    kubeconfig::{relative, unusable},
};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

/// As the kubeconfig has it. What it may say of asking a person does not matter: there is none.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Plugin {
    command: PathBuf,
    #[serde(default)]
    args: Option<Vec<String>>,
    #[serde(default)]
    env: Option<Vec<Variable>>,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    install_hint: Option<String>,
    #[serde(default)]
    provide_cluster_info: bool,
}

#[derive(Deserialize)]
struct Variable {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct Credential {
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    token: Option<String>,
    client_certificate_data: Option<serde::de::IgnoredAny>,
}

const VERSIONS: [&str; 2] =
    ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];
/// A plugin that has asked nobody by then asks a person.
const PATIENCE: Duration = Duration::from_secs(30);

impl Plugin {
    /// Runs the plugin, a relative path as seen from the kubeconfig. Expired tokens are no concern: the API server answers
    /// 401, and then it is run again.
    pub(super) async fn token(&self, kubeconfig: &Path) -> Result<SecretString, Error> {
        let name = self.command.display();
        if !VERSIONS.contains(&self.api_version.as_str()) {
            return Err(unusable(format!(
                "its plugin `{name}` speaks `{}`; we know {}",
                self.api_version,
                VERSIONS.join(" and ")
            )));
        }
        if self.provide_cluster_info {
            return Err(unusable(format!(
                "its plugin `{name}` wants to be told about the cluster (`provideClusterInfo`), which forerunner does not do"
            )));
        }
        let bare = self.command.components().count() == 1;
        let program = if bare { self.command.clone() } else { relative(kubeconfig, &self.command) };
        let info = json!({"apiVersion": self.api_version, "kind": "ExecCredential", "spec": {"interactive": false}});
        let run = tokio::process::Command::new(program)
            .args(self.args.iter().flatten())
            .envs(self.env.iter().flatten().map(|one| (&one.name, &one.value)))
            .env("KUBERNETES_EXEC_INFO", info.to_string())
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let Ok(ended) = tokio::time::timeout(PATIENCE, run).await else {
            return Err(unusable(format!(
                "its plugin `{name}` did not end within {} s; can it sign in without a person?",
                PATIENCE.as_secs()
            )));
        };
        let output = ended.map_err(|error| {
            let hint = self.install_hint.as_deref().map(str::trim).unwrap_or_default();
            unusable(format!("its plugin `{name}` cannot be run: {error}. {hint}").trim_end())
        })?;
        if !output.status.success() {
            // Its words are for people; a plugin that prints secrets there prints them to every terminal.
            let words = String::from_utf8_lossy(&output.stderr);
            let line = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            return Err(unusable(format!(
                "its plugin `{name}` failed ({}): {line}",
                output.status
            )));
        }
        let credential: Option<Credential> = serde_json::from_slice(&output.stdout).ok();
        let status = credential.and_then(|credential| credential.status);
        let status = status.ok_or_else(|| {
            unusable(format!("its plugin `{name}` printed no ExecCredential with a status"))
        })?;
        let certificate = status.client_certificate_data.is_some();
        status.token.map(SecretString::from).ok_or_else(|| {
            unusable(if certificate {
                format!(
                    "its plugin `{name}` gives a client certificate, which forerunner cannot use"
                )
            } else {
                format!("its plugin `{name}` gives no token")
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    /// A plugin that is a shell script, run with `sh -c`.
    fn plugin(script: &str, version: &str) -> Plugin {
        Plugin {
            command: "sh".into(),
            args: Some(vec!["-c".to_owned(), script.to_owned()]),
            env: Some(vec![Variable { name: "WHO".to_owned(), value: "made-up".to_owned() }]),
            api_version: format!("client.authentication.k8s.io/{version}"),
            install_hint: None,
            provide_cluster_info: false,
        }
    }

    #[tokio::test]
    async fn a_plugin_gives_a_token_or_a_reason() {
        async fn check(plugin: Plugin, expected: Result<&str, &str>) {
            let given = plugin.token(Path::new("kubeconfig")).await;
            match (given, expected) {
                (Ok(token), Ok(expected)) => assert_eq!(token.expose_secret(), expected),
                (Err(error), Err(words)) => {
                    assert!(error.to_string().contains(words), "{error}");
                }
                (given, expected) => panic!("{given:?} instead of {expected:?}"),
            }
        }
        let echo = r#"echo "{\"status\": {\"token\": \"$WHO\"}}""#;
        check(plugin(echo, "v1"), Ok("made-up")).await;
        check(plugin(echo, "v1beta1"), Ok("made-up")).await;
        check(plugin(echo, "v1alpha1"), Err("v1alpha1")).await;
        let asked = r#"case "$KUBERNETES_EXEC_INFO" in *'"interactive":false'*) echo '{"status":{"token":"asked"}}';; esac"#;
        check(plugin(asked, "v1"), Ok("asked")).await;
        check(plugin("echo sign in first >&2; exit 3", "v1"), Err("sign in first")).await;
        check(plugin("echo nothing", "v1"), Err("no ExecCredential")).await;
        check(plugin(r#"echo '{"status":{}}'"#, "v1"), Err("gives no token")).await;
        let certificate = r#"echo '{"status":{"clientCertificateData":"made-up"}}'"#;
        check(plugin(certificate, "v1"), Err("client certificate")).await;
        let missing = Plugin {
            command: "./no-such-plugin".into(),
            install_hint: Some("Install it first.".to_owned()),
            ..plugin("", "v1")
        };
        check(missing, Err("Install it first.")).await;
    }
}
