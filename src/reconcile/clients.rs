//! Every service a round speaks to. Nothing connects before its first use.

use super::Failure;
use crate::{
    adapters::{
        azure::{Arm, KeyVault},
        gitlab::{Gitlab, TokenSource},
        http::Http,
        kubernetes::{Access, Kubernetes},
        tokens::Tokens,
    },
    clock::Clock,
    domain::{
        kubernetes::ObjectName,
        ledger::Ledger,
        records,
        spec::{ClusterAccess, FleetSettings},
    },
};
use jiff::{SignedDuration, Timestamp};
use std::{net::IpAddr, path::Path};
use tokio::sync::Mutex;

/// How long what ARM says of the cluster is believed. A rebuilt cluster has another name or is noticed this late.
const CLUSTER_KNOWN: SignedDuration = SignedDuration::from_mins(10);

/// How GitLab is reached.
pub struct GitlabTrust {
    /// A client that trusts GitLab's authority too.
    pub http: Http,
    /// PEM text of `gitlab.caFile`, for the managers.
    pub ca: Option<String>,
}

pub struct Clients {
    gitlab: Gitlab,
    kubernetes: Kubernetes,
    arm: Arm,
    access: ClusterAccess,
    http: Http,
    clock: Clock,
    issuer: Mutex<Option<(Timestamp, String)>>,
    /// PEM text of `gitlab.caFile`.
    gitlab_ca: Option<String>,
}

impl Clients {
    /// `folder` is where `fleet.yaml` lies: paths in it are relative to that.
    pub fn new(
        http: Http,
        gitlab: GitlabTrust,
        tokens: Tokens,
        clock: Clock,
        fleet: &FleetSettings,
        folder: &Path,
    ) -> Self {
        let arm = Arm::new(http.clone(), tokens.clone());
        let vault = KeyVault::new(http.clone(), tokens.clone(), &fleet.gitlab.token.vault);
        let source = TokenSource::Vault { vault, secret: fleet.gitlab.token.secret.clone() };
        let access = match &fleet.cluster.access {
            ClusterAccess::Aks(cluster) => {
                Access::Aks { arm: arm.clone(), tokens: tokens.clone(), cluster: cluster.clone() }
            }
            ClusterAccess::Kubeconfig(file) => Access::Kubeconfig(folder.join(file)),
        };
        Self {
            gitlab: Gitlab::new(gitlab.http, fleet.gitlab.url.clone(), source),
            kubernetes: Kubernetes::new(http.clone(), access),
            arm,
            access: fleet.cluster.access.clone(),
            http,
            clock,
            issuer: Mutex::default(),
            gitlab_ca: gitlab.ca,
        }
    }

    pub(super) fn gitlab(&self) -> &Gitlab {
        &self.gitlab
    }

    pub(super) fn kubernetes(&self) -> &Kubernetes {
        &self.kubernetes
    }

    pub(super) fn arm(&self) -> &Arm {
        &self.arm
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn gitlab_ca(&self) -> Option<&str> {
        self.gitlab_ca.as_deref()
    }

    /// The cluster's OIDC issuer, byte for byte, trailing slash included.
    ///
    /// Errors: a cluster whose issuer or workload identity is off, by what to turn on.
    pub(super) async fn issuer(&self) -> Result<String, Failure> {
        let mut known = self.issuer.lock().await;
        let now = self.clock.now();
        let fresh = known.as_ref().filter(|(at, _)| now.duration_since(*at) < CLUSTER_KNOWN);
        if let Some((_, issuer)) = fresh {
            return Ok(issuer.clone());
        }
        let issuer = match &self.access {
            ClusterAccess::Kubeconfig(_) => self.kubernetes.oidc_issuer().await?,
            ClusterAccess::Aks(id) => {
                let name = id.name();
                let cluster = self.arm.cluster(id).await?.ok_or_else(|| {
                    Failure::permanent(format!(
                        "cluster `{name}` does not exist, or forerunner may not read it"
                    ))
                })?;
                if !cluster.workload_identity {
                    return Err(Failure::permanent(format!(
                        "workload identity is off: az aks update --ids {id} --enable-oidc-issuer --enable-workload-identity"
                    )));
                }
                cluster.oidc_issuer.ok_or_else(|| {
                    Failure::permanent(format!(
                        "the OIDC issuer is off: az aks update --ids {id} --enable-oidc-issuer"
                    ))
                })?
            }
        };
        *known = Some((now, issuer.clone()));
        Ok(issuer)
    }

    /// Where the API server is, as its name resolves now. A public one may move: what protects it is that a job has
    /// no token and no right.
    pub(super) async fn api_server_addresses(&self) -> Result<Vec<IpAddr>, Failure> {
        let server = self.kubernetes.server().await?;
        let mut addresses = self.http.addresses(&server).await.map_err(|error| {
            Failure::retry(format!("the name of the API server does not resolve: {error}"))
        })?;
        addresses.sort();
        addresses.dedup();
        Ok(addresses)
    }

    pub(super) async fn ledger(&self, name: &ObjectName) -> Result<Ledger, Failure> {
        let found = self.kubernetes.get(name).await?;
        records::read_ledger(found.as_ref()).ok_or_else(|| {
            Failure::permanent(format!(
                "{name} cannot be read: repair or delete it; nothing is created until then"
            ))
        })
    }
}
