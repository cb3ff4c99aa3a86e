//! A kubeconfig, what we use of it: the current context's server, CA and token.

use super::{Error, exec::Plugin};
use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use url::Url;

/// What the current context means.
pub(super) struct Context {
    pub(super) server: Url,
    pub(super) authority: Option<Authority>,
    pub(super) user: User,
}

/// Where the CA is.
pub(super) enum Authority {
    /// Base64 of PEM.
    Inline(String),
    File(PathBuf),
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct User {
    token: Option<String>,
    #[serde(alias = "tokenFile")]
    token_file: Option<PathBuf>,
    exec: Option<Plugin>,
    auth_provider: Option<Value>,
    client_certificate: Option<Value>,
    client_certificate_data: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Wire {
    #[serde(default)]
    current_context: String,
    #[serde(default)]
    clusters: Vec<NamedCluster>,
    #[serde(default)]
    contexts: Vec<NamedContext>,
    #[serde(default)]
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    server: String,
    certificate_authority_data: Option<String>,
    certificate_authority: Option<PathBuf>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    context: Names,
}

#[derive(Deserialize)]
struct Names {
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: Option<User>,
}

pub(super) fn unusable(reason: impl Into<String>) -> Error {
    Error::Kubeconfig { reason: reason.into() }
}

/// Reads YAML or JSON. Without a current context the only one counts.
pub(super) fn parse(text: &str) -> Result<Context, Error> {
    // The parser's own words may quote a token.
    let wire: Wire =
        serde_saphyr::from_str(text).map_err(|_| unusable("it is not in the form we know"))?;
    let context = match wire.contexts.as_slice() {
        [only] if wire.current_context.is_empty() => Some(only),
        all => all.iter().find(|context| context.name == wire.current_context),
    };
    let names = &context.ok_or_else(|| unusable("it has no current context"))?.context;
    let cluster = wire.clusters.into_iter().find(|cluster| cluster.name == names.cluster);
    let cluster =
        cluster.ok_or_else(|| unusable(format!("it has no cluster `{}`", names.cluster)))?.cluster;
    if cluster.insecure_skip_tls_verify {
        return Err(unusable(
            "it skips the check of the server's certificate, which we do not; name its CA instead",
        ));
    }
    let server = Url::parse(&cluster.server).ok().filter(|url| url.host_str().is_some());
    let user = wire.users.into_iter().find(|user| user.name == names.user);
    Ok(Context {
        server: server
            .ok_or_else(|| unusable(format!("`{}` is no server address", cluster.server)))?,
        authority: cluster
            .certificate_authority_data
            .map(Authority::Inline)
            .or(cluster.certificate_authority.map(Authority::File)),
        user: user.and_then(|user| user.user).unwrap_or_default(),
    })
}

impl Authority {
    /// The CA as PEM; a path is relative to the kubeconfig `beside`.
    pub(super) fn read(&self, beside: Option<&Path>) -> Result<Vec<u8>, Error> {
        match (self, beside) {
            (Self::Inline(data), _) => {
                BASE64_STANDARD.decode(data.trim()).map_err(|_| unusable("its CA is no base64"))
            }
            (Self::File(file), Some(beside)) => {
                let file = relative(beside, file);
                std::fs::read(&file)
                    .map_err(|error| unusable(format!("{}: {error}", file.display())))
            }
            (Self::File(_), None) => Err(unusable("its CA is a file on another machine")),
        }
    }
}

impl User {
    /// The token: inline, from a file beside the kubeconfig, or from a credential plugin, which is run anew each time.
    pub(super) async fn token(&self, kubeconfig: &Path) -> Result<SecretString, Error> {
        if let Some(token) = self.token.as_deref().filter(|token| !token.is_empty()) {
            return Ok(SecretString::from(token));
        }
        if let Some(file) = &self.token_file {
            let file = relative(kubeconfig, file);
            let token = std::fs::read_to_string(&file)
                .map_err(|error| unusable(format!("{}: {error}", file.display())))?;
            return Ok(SecretString::from(token.trim()));
        }
        if let Some(plugin) = &self.exec {
            return plugin.token(kubeconfig).await;
        }
        let other = [
            (self.auth_provider.is_some(), "an auth provider"),
            (self.client_certificate.is_some(), "a client certificate"),
            (self.client_certificate_data.is_some(), "a client certificate"),
        ];
        let used = other.into_iter().find_map(|(used, name)| used.then_some(name));
        Err(unusable(match used {
            Some(name) => format!(
                "its user signs in by {name}, which forerunner cannot use; give it a `token`, a `tokenFile` or an `exec` plugin that gives one"
            ),
            None => "its user has neither `token` nor `tokenFile` nor `exec`".to_owned(),
        }))
    }
}

pub(super) fn relative(kubeconfig: &Path, file: &Path) -> PathBuf {
    kubeconfig.parent().map_or_else(|| file.to_owned(), |folder| folder.join(file))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn file(user: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context: {{cluster: k, user: u}}\nclusters:\n- name: k\n  cluster:\n    server: https://api.example.com:443\n    certificate-authority-data: Y2E=\nusers:\n- name: u\n  user: {user}\n"
        )
    }

    #[tokio::test]
    async fn the_current_context_says_server_ca_and_token() {
        let found = parse(&file("{token: made-up}")).unwrap();
        assert_eq!(found.server.as_str(), "https://api.example.com/");
        assert_eq!(found.authority.unwrap().read(None).unwrap(), b"ca");
        let token = found.user.token(Path::new("kubeconfig")).await.unwrap();
        assert_eq!(token.expose_secret(), "made-up");
    }

    #[tokio::test]
    async fn a_user_without_a_token_is_told_what_to_give() {
        for (user, words) in [
            ("{auth-provider: {name: gcp}}", "an auth provider"),
            ("{client-certificate-data: eA==}", "client certificate"),
            ("{}", "neither `token` nor `tokenFile` nor `exec`"),
        ] {
            let found = parse(&file(user)).unwrap();
            let error = found.user.token(Path::new("kubeconfig")).await.unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn what_is_no_kubeconfig_is_refused() {
        for text in ["", "[]", "current-context: c", "{", "contexts: [{name: c, context: {}}]"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
