//! Every name that forerunner gives to something outside. Computed from the input alone, so that a fresh process finds
//! what a dead one left; legal where it is used, whatever the input.
//!
//! `--` ends a fleet's name, and begins the hash of a name that was too long. Neither a fleet's name nor a key holds two
//! hyphens in a row, so names of two fleets never meet, and no whole name is another's cut one (docs/decisions/0013).

use super::{
    azure::ResourceId,
    ids::{FleetName, IdentityName, InstallationId, ProfileName, RunnerKey, Unit},
    spec::{Isolation, RunnerSpec},
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Whoever applies an object as us; never changed, or fields we drop would stay behind.
pub const FIELD_MANAGER: &str = "forerunner";

/// The shipped ClusterRole of managers, unless `fleet.yaml` names another.
pub const MANAGER_CLUSTER_ROLE: &str = "forerunner-manager";

/// The workload-identity webhook's configuration (runner-on-kubernetes.md §10), an administrator's or AKS' own.
pub const IDENTITY_WEBHOOK: &str = "azure-wi-webhook-mutating-webhook-configuration";

pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
pub const MANAGED_BY: &str = "forerunner";
pub const LABEL_FLEET: &str = "forerunner.dev/fleet";
pub const LABEL_INSTALLATION: &str = "forerunner.dev/installation";
/// A runner's key, or a shared domain's `domain-PROFILE`.
pub const LABEL_KEY: &str = "forerunner.dev/key";
/// Digest of the object as we applied it: tells a changed desire from an edited object.
pub const ANNOTATION_APPLIED: &str = "forerunner.dev/applied";
/// Digest of the settings that a running manager cannot reload.
pub const ANNOTATION_RESTART: &str = "forerunner.dev/restart";
/// On a manager's pods: when forerunner had them begin anew.
pub const ANNOTATION_RESTARTED_AT: &str = "forerunner.dev/restarted-at";
/// On job pods: id of the GitLab runner entity whose entry took the job.
pub const LABEL_RUNNER: &str = "forerunner.dev/runner";
/// On namespaces whose pods may read managers' metrics; an administrator's to set.
pub const LABEL_METRICS: &str = "forerunner.dev/metrics";
/// When a round first saw the credential and all roles, and whose (`settling.rs`).
pub const ANNOTATION_SETTLING_SINCE: &str = "forerunner.dev/settling-since";
/// What the workload-identity webhook reads of a job account: whom its pods sign in as.
pub const ANNOTATION_CLIENT: &str = "azure.workload.identity/client-id";
pub const ANNOTATION_TENANT: &str = "azure.workload.identity/tenant-id";
/// Since when its runner leaves.
pub const ANNOTATION_LEAVING_SINCE: &str = "forerunner.dev/leaving-since";
/// Which existing identity a job account asks for (an ARM id).
pub const ANNOTATION_IDENTITY: &str = "forerunner.dev/identity";
/// What the identity's own round answered: `granted` or `refused`, a blank and the ARM id.
pub const ANNOTATION_IDENTITY_ANSWER: &str = "forerunner.dev/identity-answer";

pub const TAG_FLEET: &str = "forerunner-fleet";
pub const TAG_INSTALLATION: &str = "forerunner-installation";
pub const TAG_KEY: &str = "forerunner-key";
/// Digest of the federated credentials, written after the credential's own answer, never before.
pub const TAG_CREDENTIALS: &str = "forerunner-credentials";

/// What a federated credential's token must be made for. Public cloud; one setting changes the cloud.
pub const AUDIENCE: &str = "api://AzureADTokenExchange";

/// What one trust domain is called: a runner's key, or `domain-PROFILE` where the profile shares it.
pub fn domain_key(key: &RunnerKey, isolation: Isolation) -> String {
    match isolation {
        Isolation::Target => key.to_string(),
        Isolation::Profile => shared_domain_key(&key.profile),
    }
}

pub fn shared_domain_key(profile: &ProfileName) -> String {
    format!("domain-{profile}")
}

/// The unit that a part with this key belongs to; nothing where it is no key.
pub fn unit_of_key(key: &str) -> Option<Unit> {
    match key.strip_prefix("domain-") {
        Some(profile) => ProfileName::new(profile).ok().map(Unit::Domain),
        None => key.parse().ok().map(Unit::Runner),
    }
}

/// The managers' namespace unless `fleet.yaml` names another.
pub fn managers_namespace(fleet: &FleetName) -> String {
    format!("forerunner-{fleet}")
}

/// forerunner's own ClusterRole, Role, bindings and admission policy, which an administrator applies.
pub fn own_rights(fleet: &FleetName) -> String {
    format!("forerunner-{fleet}")
}

/// The namespace of the job pods.
pub fn job_namespace(fleet: &FleetName, spec: &RunnerSpec) -> String {
    namespace_of(fleet, &spec.key, spec.isolation, spec.kubernetes.namespace.as_deref())
}

/// What every job namespace of our making begins with; no other fleet's does.
pub fn job_namespace_prefix(fleet: &FleetName) -> String {
    format!("ci-{fleet}--")
}

/// The same from its parts; `given` is an administrator's namespace.
pub fn namespace_of(
    fleet: &FleetName,
    key: &RunnerKey,
    isolation: Isolation,
    given: Option<&str>,
) -> String {
    let own = || fit(&format!("{}{}", job_namespace_prefix(fleet), domain_key(key, isolation)), 63);
    given.map_or_else(own, str::to_owned)
}

/// The job pods' service account unless an administrator's is named.
pub const JOB_ACCOUNT: &str = "job";

/// The job pods' service account.
pub fn job_account(spec: &RunnerSpec) -> String {
    spec.kubernetes.service_account.clone().unwrap_or_else(|| JOB_ACCOUNT.to_owned())
}

/// Deployment, service account, NetworkPolicy of the manager, and the binding in the job namespace.
pub fn manager(key: &RunnerKey) -> String {
    fit(&format!("runner-{key}"), 63)
}

/// The Secret with the manager's `config.toml`.
pub fn config_secret(key: &RunnerKey) -> String {
    format!("{}-config", fit(&format!("runner-{key}"), 56))
}

/// The small ConfigMap that keeps a unit's conditions and last rounds.
pub fn status_map(unit: &super::ids::Unit) -> String {
    fit(
        &format!("status-{}", unit.to_string().replace(['/', '_', '.'], "-").to_ascii_lowercase()),
        63,
    )
}

/// ResourceQuota, LimitRange and NetworkPolicy of a job namespace; one each a trust domain.
pub fn job_bounds(spec: &RunnerSpec) -> String {
    job_bounds_of(&domain_key(&spec.key, spec.isolation))
}

/// The same from the domain's key.
pub fn job_bounds_of(domain_key: &str) -> String {
    fit(&format!("jobs-{domain_key}"), 63)
}

/// The ConfigMap with the creations and permits of the last 24 hours.
pub const LEDGER: &str = "ledger";
/// The ConfigMap with what sweeps found of the fleet as a whole.
pub const FLEET_STATUS: &str = "fleet-status";
/// The ConfigMap with the removals that the brake holds.
pub const PARKED_PLAN: &str = "parked-plan";

/// Name of a managed identity: letters, digits and hyphens, 3 to 128 (azure.md §3.2).
pub fn identity(fleet: &FleetName, domain_key: &str) -> String {
    fit(&format!("id-{fleet}--{domain_key}"), 120)
}

/// Name of the federated credential that lets `subject` of `issuer` sign in. Another issuer gives another name.
pub fn credential(fleet: &FleetName, domain_key: &str, issuer: &str, subject: &str) -> String {
    let pair = hash(&format!("{issuer}|{subject}"));
    fit(&format!("{}{domain_key}-{}", credential_prefix(fleet), &pair[..8]), 120)
}

/// Whether a credential of this name is one of ours for this domain, whatever its issuer and subject.
pub fn is_credential_of(fleet: &FleetName, domain_key: &str, name: &str) -> bool {
    key_of_credential(fleet, name) == Some(domain_key)
}

/// The key of the domain that a credential of ours is for, by its name.
pub fn key_of_credential<'a>(fleet: &FleetName, name: &'a str) -> Option<&'a str> {
    let (key, hash) = name.strip_prefix(&credential_prefix(fleet))?.rsplit_once('-')?;
    (hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())).then_some(key)
}

/// What every credential of ours on an existing identity starts with; no other fleet's does.
pub fn credential_prefix(fleet: &FleetName) -> String {
    format!("forerunner-{fleet}--")
}

pub fn subject(namespace: &str, account: &str) -> String {
    format!("system:serviceaccount:{namespace}:{account}")
}

/// Deterministic GUID of a role assignment. The principal is part of it: an identity made anew needs new ones.
pub fn role_assignment(scope: &ResourceId, principal: Uuid, role: Uuid) -> Uuid {
    let space = Uuid::new_v5(&Uuid::NAMESPACE_URL, b"https://forerunner.dev/role-assignment");
    Uuid::new_v5(&space, format!("{}|{principal}|{role}", scope.lower()).as_bytes())
}

/// What a role assignment of ours says in its description.
pub fn assignment_description(
    fleet: &FleetName,
    installation: &InstallationId,
    domain_key: &str,
) -> String {
    format!("forerunner:{fleet}:{installation}:{domain_key}")
}

/// The manager's stable id in GitLab (runner-on-kubernetes.md §2.3).
pub fn system_id(installation: &InstallationId, key: &RunnerKey) -> String {
    format!("s_{}", &hash(&format!("{installation}|{key}"))[..12])
}

/// The id under which we verify a token: never the manager's, that would fake *online*.
pub fn verifier_system_id(installation: &InstallationId, key: &RunnerKey) -> String {
    format!("s_{}", &hash(&format!("{installation}|{key}|verifier"))[..12])
}

/// Short name of an existing identity, for its unit.
pub fn identity_unit(id: &ResourceId) -> IdentityName {
    let own: String = id
        .name()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        .take(100)
        .collect();
    IdentityName::new(&format!("{own}.{}", &hash(&id.lower())[..8]))
        .expect("made of the characters it accepts")
}

/// Cuts a name that is too long and keeps it distinct by a hash of the whole.
fn fit(name: &str, length_max: usize) -> String {
    if name.len() <= length_max {
        return name.to_owned();
    }
    let kept = name[..length_max - 10].trim_end_matches(['-', '.']);
    format!("{kept}--{}", &hash(name)[..8])
}

/// Hex of SHA-256.
pub fn hash(text: &str) -> String {
    hex::encode(Sha256::digest(text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assignment_id_ignores_case_and_follows_the_principal() {
        let scope = ResourceId::new("/subscriptions/1111/resourceGroups/RG").unwrap();
        let same = ResourceId::new("/Subscriptions/1111/resourcegroups/rg").unwrap();
        let [principal, other, role] = [1, 2, 3].map(Uuid::from_u128);
        assert_eq!(
            role_assignment(&scope, principal, role),
            role_assignment(&same, principal, role)
        );
        assert_ne!(role_assignment(&scope, principal, role), role_assignment(&scope, other, role));
    }

    #[test]
    fn long_names_stay_legal_and_distinct() {
        let fleet = FleetName::new("a-fleet-of-20-letter").unwrap();
        let [one, two] =
            ["a", "b"].map(|end| format!("g18446744073709551615-a-profile-with-a-long-name-{end}"));
        let key = |text: &str| text.parse::<RunnerKey>().unwrap();
        assert_ne!(manager(&key(&one)), manager(&key(&two)));
        assert!(identity(&fleet, &one).len() <= 120 && config_secret(&key(&one)).len() <= 63);
    }
}
