//! The world that a row damages: one group whose runner is settled, and no hook that tells of what happens then.

use crate::{
    contents::contents,
    deeds::{fleet, plan_profile},
    disturbed::inventory,
    group_token::give_owners_token,
    harness::Sandbox,
};
use serde_json::{Value, json};

/// What a row touches.
pub(crate) struct Settled {
    pub(crate) sandbox: Sandbox,
    pub(crate) key: String,
    pub(crate) unit: String,
}

/// The file in which this profile is for these groups.
pub(super) fn plan_for(pattern: &str, profile: &str) -> String {
    fleet(&format!(
        "rules:\n  - {{ match: {{ groups: '{pattern}' }}, profiles: [plan] }}\nprofiles:\n{profile}"
    ))
}

impl Settled {
    pub(crate) async fn new() -> Self {
        Self::with(&plan_profile()).await
    }

    pub(super) async fn with(profile: &str) -> Self {
        Self::under("platform/*", profile).await
    }

    pub(super) async fn under(pattern: &str, profile: &str) -> Self {
        Self::of(&plan_for(pattern, profile), &[]).await
    }

    /// The same where forerunner's token is that of these groups' owner, or an administrator's where there are none.
    pub(super) async fn of(file: &str, owned: &[u64]) -> Self {
        let sandbox = Sandbox::new(file).await;
        if !owned.is_empty() {
            give_owners_token(&sandbox, owned);
        }
        let group = sandbox.world.gitlab.create_group(Some(42), "payments");
        sandbox.settle().await;
        let (key, unit) = (format!("g{group}-plan"), format!("runner/g{group}-plan"));
        sandbox.assert_ready(&unit);
        sandbox.lose_hooks();
        Self { sandbox, key, unit }
    }

    pub(super) fn jobs(&self) -> String {
        format!("ci-nonprod--{}", self.key)
    }

    /// Everything that a row may damage, without what a server or a second making changes.
    pub(crate) fn whole(&self) -> Value {
        let mut all = inventory(&self.sandbox);
        for (kind, objects) in contents(&self.sandbox) {
            all[kind] = objects.into();
        }
        let runners = self.sandbox.world.gitlab.runners();
        all["details"] = runners
            .iter()
            .map(|one| json!([one.run_untagged, one.maximum_timeout_seconds, one.ref_protected]))
            .collect();
        let azure = &self.sandbox.world.azure;
        let rights = azure.assignments().into_iter();
        let mut narrowed: Vec<String> = rights.filter_map(|one| one.condition).collect();
        narrowed.sort();
        all["conditions"] = json!(narrowed);
        let identities = azure.identities().into_iter();
        let doors = identities.flat_map(|identity| azure.credentials(&identity.id));
        all["doors"] =
            doors.map(|one| json!([one.name, one.issuer, one.subject, one.audiences])).collect();
        all
    }

    pub(super) fn edit(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        change: impl FnOnce(&mut Value),
    ) {
        self.sandbox.world.kubernetes.edit(kind, namespace, name, change);
    }
}
