//! Where processes and what is in their pods are found.

use super::here::Here;
use crate::sandbox::kubernetes::{Kubernetes, ManagerPod};
use std::{net::SocketAddr, sync::Arc};

/// The sandbox plays the processes of all pods, or it is the process of one.
#[derive(Clone)]
pub enum Place {
    /// Which pods run, and what is mounted in them. All writes go over HTTP to `api`.
    Cluster { kubernetes: Kubernetes, api: SocketAddr },
    /// The pod that this process is in.
    Here(Arc<Here>),
}

impl Place {
    pub(super) fn pods(&self) -> Vec<ManagerPod> {
        match self {
            Self::Cluster { kubernetes, .. } => kubernetes.running_manager_pods(),
            Self::Here(here) => here.pod().into_iter().collect(),
        }
    }

    pub(super) fn exited(&self, pod: &ManagerPod) {
        match self {
            Self::Cluster { kubernetes, .. } => kubernetes.pod_exited(&pod.namespace, &pod.name),
            Self::Here(here) => here.exit(),
        }
    }
}
