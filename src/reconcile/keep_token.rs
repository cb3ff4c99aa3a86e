//! The only copy of a token: from GitLab's one answer into the manager's Secret, whoever else writes there.

use super::{Clients, Failure, act::Scene};
use crate::{
    adapters::{gitlab::Verified, kubernetes::DryRun},
    domain::{
        class::Class,
        ids::RunnerId,
        kubernetes::{Object, ObjectName},
        render::{self, Entry},
    },
};
use secrecy::SecretString;

pub(super) struct NewToken {
    pub(super) runner: RunnerId,
    pub(super) token: SecretString,
}

/// How often the Secret may change under us before the next round takes over.
const TRIES: usize = 4;

/// Writes the Secret by POST, or by PUT at the version it was read at, and asks GitLab whether the token is good.
///
/// Where somebody else wrote first: if the token there fails and ours passes, ours is written over it; else ours is
/// dropped, and its entity is a twin for the next round to see.
pub(super) async fn keep(
    clients: &Clients,
    scene: &Scene<'_>,
    secret: &ObjectName,
    beside: &[(RunnerId, SecretString)],
    new: NewToken,
    mut version: Option<String>,
    verifier: &str,
) -> Result<(), Failure> {
    let (kubernetes, gitlab) = (clients.kubernetes(), clients.gitlab());
    let mut entries = beside.to_vec();
    entries.push((new.runner, new.token.clone()));
    let object = render(scene, &entries)?;
    for _ in 0..TRIES {
        let written = match &version {
            None => kubernetes.create(&object, DryRun::No).await,
            Some(version) => {
                let mut object = object.clone();
                object.body["metadata"]["resourceVersion"] = version.as_str().into();
                kubernetes.replace(&object, DryRun::No).await
            }
        };
        match written {
            Ok(_) => {
                return match gitlab.verify(&new.token, verifier).await? {
                    Verified::Valid { .. } => Ok(()),
                    Verified::Refused => Err(Failure::conflict(format!(
                        "the token of runner {} was reset by somebody since it was made",
                        new.runner
                    ))),
                };
            }
            Err(error) if error.class() == Class::Conflict => {
                let Some(live) = kubernetes.get(secret).await? else {
                    version = None;
                    continue;
                };
                if holds_good_token(clients, &live, verifier).await?
                    || gitlab.verify(&new.token, verifier).await? == Verified::Refused
                {
                    return Err(Failure::conflict(format!(
                        "another round kept its token first; that of runner {} is dropped",
                        new.runner
                    )));
                }
                version = live.resource_version().map(str::to_owned);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::conflict(format!("{secret} changed under every try")))
}

/// Whether any token in the Secret is one that GitLab knows.
async fn holds_good_token(
    clients: &Clients,
    live: &Object,
    verifier: &str,
) -> Result<bool, Failure> {
    let gitlab = clients.gitlab();
    for (_, token) in render::read_entries(live).unwrap_or_default() {
        if gitlab.verify(&token, verifier).await? != Verified::Refused {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The Secret with these entries.
pub(super) fn render(
    scene: &Scene<'_>,
    entries: &[(RunnerId, SecretString)],
) -> Result<Object, Failure> {
    let spec = scene
        .spec
        .ok_or_else(|| Failure::permanent("this unit has no manager, so it has no Secret"))?;
    let entries: Vec<Entry<'_>> =
        entries.iter().map(|(runner, token)| Entry { runner: *runner, token }).collect();
    let mut object = render::config_secret(spec, &scene.context(), &entries);
    render::stamp(&mut object);
    Ok(object)
}
