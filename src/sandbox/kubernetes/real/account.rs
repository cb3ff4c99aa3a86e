//! The account that forerunner gets in a real cluster, and the kubeconfig that goes with it.

use super::{
    super::{Kubernetes, kinds},
    server::Refusal,
};
use serde_json::{Value, json};
use std::time::Duration;

const NAMESPACE: &str = "forerunner-account";
/// As long as a day's work.
const LIFETIME_SECONDS: u32 = 86_400;
/// A new policy takes effect within a second or two (runner-on-kubernetes.md §12).
const POLICY_PATIENCE: Duration = Duration::from_secs(30);

impl Kubernetes {
    /// Makes the account, one a fleet: each fleet's policy confines its own. Answers the name by which the server
    /// knows it, and its token.
    pub(in crate::sandbox) async fn make_account(
        &self,
        name: &str,
    ) -> Result<(String, String), Refusal> {
        self.administer(&json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE},
        }))
        .await?;
        self.administer(&json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": name, "namespace": NAMESPACE},
        }))
        .await?;
        let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{name}/token");
        let request = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": LIFETIME_SECONDS},
        });
        let real = self.real.as_ref().expect("only a real cluster needs an account");
        let made = real.server.post(&path, &request).await?;
        let token = made["status"]["token"].as_str().unwrap_or_default().to_owned();
        Ok((format!("system:serviceaccount:{NAMESPACE}:{name}"), token))
    }

    /// Applies an object with force as an administrator, wherever the cluster is.
    pub(in crate::sandbox) async fn administer(&self, object: &Value) -> Result<(), Refusal> {
        let Some(real) = &self.real else {
            let applied = self.apply_as_admin(object.clone()).map(drop);
            return applied.map_err(|status| Refusal {
                status: status["code"].as_u64().and_then(|code| code.try_into().ok()).unwrap_or(0),
                message: status["message"].as_str().unwrap_or_default().to_owned(),
            });
        };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let kind = kinds::find_by_name(&text(&object["apiVersion"]), &text(&object["kind"]));
        let kind = kind.ok_or_else(|| Refusal {
            status: 404,
            message: format!("{} is no kind of ours", object["kind"]),
        })?;
        let place = super::mirror::path(kind, &text(&object["metadata"]["namespace"]));
        let path = format!(
            "{place}/{}?fieldManager=administrator&force=true",
            text(&object["metadata"]["name"])
        );
        let method = reqwest::Method::PATCH;
        real.server
            .call(method, &path, "application/apply-patch+yaml", Some(object))
            .await
            .map(drop)
    }

    /// Waits until the admission policy of `user` is in force: a namespace without the fleet's label is refused.
    pub(in crate::sandbox) async fn await_policy(&self, user: &str) -> Result<(), Refusal> {
        let Some(real) = &self.real else { return Ok(()) };
        let namespace = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "forerunner-probe"},
        });
        let began = std::time::Instant::now();
        loop {
            let tried =
                real.server.create_as(user, "/api/v1/namespaces?dryRun=All", &namespace).await;
            match tried {
                Err(refusal) if refusal.status == 422 => return Ok(()),
                Err(refusal) if began.elapsed() > POLICY_PATIENCE => return Err(refusal),
                Ok(_) if began.elapsed() > POLICY_PATIENCE => {
                    return Err(Refusal {
                        status: 0,
                        message: "the admission policy does not take effect".to_owned(),
                    });
                }
                Ok(_) | Err(_) => {}
            }
            #[expect(
                clippy::disallowed_methods,
                reason = "a real API server takes a moment to know its policies"
            )]
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A kubeconfig with a token, for a server that the sandbox's loopback leads to.
pub(in crate::sandbox) fn kubeconfig(server: &str, token: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: sandbox\n\
         clusters: [{{name: sandbox, cluster: {{server: \"{server}\"}}}}]\n\
         users: [{{name: forerunner, user: {{token: \"{token}\"}}}}]\n\
         contexts: [{{name: sandbox, context: {{cluster: sandbox, user: forerunner}}}}]\n"
    )
}
