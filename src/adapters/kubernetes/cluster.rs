//! How to reach a cluster, and as whom.

use super::{Error, kubeconfig};
use crate::{
    adapters::{
        azure::Arm,
        tokens::{AUDIENCE_AKS, Tokens},
    },
    domain::azure::{ManagedCluster, ResourceId},
};
use secrecy::{ExposeSecret, SecretString};
use std::{fmt, path::PathBuf};
use url::Url;

/// How a cluster is reached.
#[derive(Clone)]
pub enum Access {
    /// Address and CA from ARM, signing in with our own Azure identity (azure.md §6.3).
    Aks { arm: Arm, tokens: Tokens, cluster: ResourceId },
    /// All from a kubeconfig file, its current context.
    Kubeconfig(PathBuf),
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aks { cluster, .. } => write!(f, "{cluster}"),
            Self::Kubeconfig(file) => write!(f, "{}", file.display()),
        }
    }
}

/// A cluster as found.
pub(super) struct Cluster {
    pub(super) server: Url,
    /// PEM; `None` trusts what the system trusts.
    pub(super) authority: Option<Vec<u8>>,
    pub(super) identity: Identity,
}

/// As whom we speak.
#[derive(Clone)]
pub(super) enum Identity {
    Aks(Tokens),
    /// From a kubeconfig; read again from there after a 401.
    File(PathBuf, SecretString),
}

impl Access {
    /// Asks ARM or reads the file, once a process.
    pub(super) async fn find(&self) -> Result<Cluster, Error> {
        match self {
            Self::Aks { arm, tokens, cluster } => {
                let text = arm.cluster_kubeconfig(cluster).await;
                let text = text.map_err(|source| Error::Address { source: Box::new(source) })?;
                let found = kubeconfig::parse(text.expose_secret())?;
                Ok(Cluster {
                    server: found.server,
                    authority: found.authority.map(|authority| authority.read(None)).transpose()?,
                    identity: Identity::Aks(tokens.clone()),
                })
            }
            Self::Kubeconfig(file) => {
                let found = read_file(file)?;
                let token = found.user.token(file).await?;
                let authority = found.authority.map(|authority| authority.read(Some(file)));
                Ok(Cluster {
                    server: found.server,
                    authority: authority.transpose()?,
                    identity: Identity::File(file.clone(), token),
                })
            }
        }
    }

    /// Adds to an error of a cluster that cannot be reached what ARM knows of its doors; whatever ARM does not tell leaves
    /// the error as it is.
    pub(super) async fn explain(&self, error: Error) -> Error {
        let Error::Unreachable { what, reason, class } = error else { return error };
        let told = match self {
            Self::Aks { arm, cluster, .. } => arm.cluster(cluster).await.ok().flatten(),
            Self::Kubeconfig(_) => None,
        };
        let more = told.as_ref().and_then(closed_door);
        let reason = more.map_or(reason.clone(), |more| format!("{reason}; {more}"));
        Error::Unreachable { what, reason, class }
    }
}

/// Why a cluster that runs may not be reached from here.
fn closed_door(cluster: &ManagedCluster) -> Option<String> {
    let stopped = |state: &String| state.eq_ignore_ascii_case("stopped");
    if cluster.power_state.as_ref().is_some_and(stopped) {
        return Some(format!("the cluster is stopped: az aks start --ids {}", cluster.id));
    }
    if cluster.private {
        return Some(
            "it is a private cluster: the app needs integration with a virtual network that is peered with the cluster's, and that network a link to the cluster's private DNS zone"
                .to_owned(),
        );
    }
    (!cluster.authorized_ranges.is_empty()).then(|| {
        format!(
            "its API server takes calls from {} alone: add the app's outbound addresses (az aks update --ids {} --api-server-authorized-ip-ranges …)",
            cluster.authorized_ranges.join(", "),
            cluster.id
        )
    })
}

impl Identity {
    pub(super) async fn token(&self) -> Result<SecretString, Error> {
        match self {
            Self::Aks(tokens) => {
                tokens.bearer(AUDIENCE_AKS).await.map_err(|source| Error::Token { source })
            }
            Self::File(_, token) => Ok(token.clone()),
        }
    }

    /// The same identity with a token read anew, after the cluster refused the last.
    pub(super) async fn renewed(&self) -> Result<Self, Error> {
        match self {
            Self::Aks(tokens) => {
                tokens.forget(AUDIENCE_AKS);
                Ok(Self::Aks(tokens.clone()))
            }
            Self::File(file, _) => {
                let token = read_file(file)?.user.token(file).await?;
                Ok(Self::File(file.clone(), token))
            }
        }
    }
}

fn read_file(file: &PathBuf) -> Result<kubeconfig::Context, Error> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| Error::Kubeconfig { reason: format!("{}: {error}", file.display()) })?;
    kubeconfig::parse(&text)
}
