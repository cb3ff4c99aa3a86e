//! What tests do in a sandbox, and what they look at afterwards.

use crate::harness::{FUNCTION_KEY, Sandbox};
use forerunner::sandbox::{
    gitlab::{JobStatus, Mischief, NewJob},
    service_bus::Properties,
    wire::Service,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The resource group that target groups of the tests may be given rights on.
pub(crate) const APP: &str =
    "/subscriptions/00000000-0000-4000-8000-000000002222/resourceGroups/app";
pub(crate) const READER: &str = "acdd72a7-3385-48ef-bd42-f606fba81ae7";

/// A `fleet.yaml`: what every test's has, and what `rest` says (`rules`, `profiles` and whatever it is about).
pub(crate) fn fleet(rest: &str) -> String {
    let guardrails = format!(
        "guardrails:\n  roles: [Reader, Contributor, AcrPush]\n  scopes: [{APP}]\n  runners: 500\n  creations: {{ perHour: 50 }}\n"
    );
    format!("{HEAD}{rest}\n{guardrails}")
}

/// Everything above the rules.
pub(crate) const HEAD: &str = "
version: 1
fleet: nonprod
gitlab: { url: https://gitlab.example.com, token: { keyVault: kv-fleet, secret: gitlab-token } }
azure: { subscription: 00000000-0000-4000-8000-00000000f00d, resourceGroup: rg-runner-identities, location: westeurope, tags: { costCenter: '4711' } }
cluster:
  resourceId: /subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-aks/providers/Microsoft.ContainerService/managedClusters/aks
  images: { runner: 19.4.0 }
anchors: { platform: 42, infra: 77 }
";

/// A profile whose jobs may read, on every branch.
pub(crate) fn plan_profile() -> String {
    format!(
        "  plan: {{ runner: {{ tags: [azure-plan] }}, identity: {{ managed: {{ roles: [{{ role: Reader, scope: {APP} }}] }} }} }}\n"
    )
}

/// A profile without an identity.
pub(crate) const PLAIN: &str = "  plain: { runner: { tags: [plain] }, identity: none }\n";

/// The plain profile for every group below `platform`.
pub(crate) fn plain_fleet() -> String {
    plain_fleet_for("*")
}

/// The same for the groups of one name or pattern.
pub(crate) fn plain_fleet_for(name: &str) -> String {
    fleet(&format!(
        "rules:\n  - {{ match: {{ groups: 'platform/{name}' }}, profiles: [plain] }}\nprofiles:\n{PLAIN}"
    ))
}

/// The reading profile for every group below `platform`.
pub(crate) fn plan_fleet() -> String {
    fleet(&format!(
        "rules:\n  - {{ match: {{ groups: 'platform/*' }}, profiles: [plan] }}\nprofiles:\n{}",
        plan_profile()
    ))
}

impl Sandbox {
    /// Puts another `fleet.yaml` in place, as a deployment does: the handler starts anew.
    pub(crate) async fn deploy(&self, fleet: &str) {
        std::fs::write(self.folder.join("fleet.yaml"), fleet).unwrap();
        self.world.host().unwrap().restart().await.unwrap();
    }

    pub(crate) async fn pass_minutes(&self, minutes: i64) {
        self.pass(SignedDuration::from_mins(minutes)).await;
    }

    /// Nothing happens until then: nobody polls, nothing is delivered.
    pub(crate) fn leap_to(&self, time: &str) {
        self.world.clock.turn_to(time.parse::<Timestamp>().unwrap());
    }

    /// No hook arrives any more.
    pub(crate) fn lose_hooks(&self) {
        self.world.gitlab.set_mischief(Mischief { loss_percent: 100, ..Mischief::default() });
    }

    /// Lets a job with this tag run in a project; it ends well within two minutes.
    pub(crate) async fn assert_a_job_runs(&self, project: u64, tag: &str) {
        let job =
            NewJob { tags: vec![tag.into()], script: vec!["true".into()], ..NewJob::default() };
        let job = self.world.gitlab.create_job(project, job);
        self.pass_minutes(2).await;
        let status = self.world.gitlab.job(job).unwrap().status;
        assert_eq!(status, JobStatus::Success, "{}", self.story());
    }

    /// What a hook for the unit would put on the queue.
    pub(crate) fn wake(&self, unit: &str) {
        let body =
            json!({ "v": 1, "unit": unit, "reason": "command", "attempt": 1, "cause": "a-test" });
        self.put_on_queue(&body.to_string(), unit);
    }

    pub(crate) fn put_on_queue(&self, body: &str, session: &str) {
        let properties =
            Properties { session_id: Some(session.to_owned()), ..Properties::default() };
        self.world.service_bus.send_as_operator("rounds", body, properties).unwrap();
    }

    pub(crate) fn assert_ready(&self, unit: &str) {
        assert!(self.is_ready(unit), "{unit}: {}\n{}", self.status(unit), self.story());
    }

    /// Reason and message of the unit's `Ready`.
    pub(crate) fn ready(&self, unit: &str) -> (String, String) {
        let ready = self.condition(unit, "Ready");
        let text = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
        (text("reason"), text("message"))
    }

    pub(crate) fn is_parked(&self, unit: &str) -> bool {
        !self.status(unit)["parked"].is_null()
    }

    /// Each entity's key, from its marker.
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        let runners = self.world.gitlab.runners();
        runners.iter().map(|runner| key_of(&runner.description)).collect()
    }

    pub(crate) fn runner(&self, key: &str) -> forerunner::sandbox::gitlab::RunnerView {
        let mut all = self.world.gitlab.runners().into_iter();
        let found = all.find(|runner| key_of(&runner.description) == key);
        found.unwrap_or_else(|| panic!("no runner {key}\n{}", self.story()))
    }

    pub(crate) fn replicas(&self, key: &str) -> Value {
        let name = format!("runner-{key}");
        let found = self.world.kubernetes.get("deployments", "forerunner-nonprod", &name);
        found.map_or(Value::Null, |deployment| deployment["spec"]["replicas"].clone())
    }

    /// forerunner's own calls that can have changed something outside the queue.
    pub(crate) fn own_writes(&self) -> Vec<String> {
        let calls = self.world.wire.calls();
        let own = calls.iter().filter(|call| {
            call.is_ours()
                && call.is_write()
                && !matches!(call.service, Service::ServiceBus | Service::Entra | Service::Host)
                // POSTs that read: where the API server is, many runners, many identities.
                && !call.path.contains("/listClusterUserCredential")
                && !call.path.contains("/api/graphql")
                && !call.path.contains("Microsoft.ResourceGraph")
        });
        own.map(|call| format!("{} {:?} {} {}", call.at, call.service, call.method, call.path))
            .collect()
    }

    /// When forerunner first made a call of this method whose path contains `path`.
    pub(crate) fn first_call(&self, method: &str, path: &str) -> Option<Timestamp> {
        let calls = self.world.wire.calls();
        let mut own = calls.iter().filter(|call| call.is_ours());
        own.find(|call| call.method == method && call.path.contains(path)).map(|call| call.at)
    }

    /// `GET` at the front of the host.
    pub(crate) async fn fetch(&self, path: &str) -> Value {
        let address = self.world.address("host").unwrap();
        let url = format!("http://{address}{path}");
        let response =
            client().get(url).header("x-functions-key", FUNCTION_KEY).send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.json().await.unwrap()
    }
}

fn key_of(description: &str) -> String {
    description.rsplit(':').nth(1).unwrap_or(description).to_owned()
}

/// Reaches loopback and nothing else.
pub(crate) fn client() -> reqwest::Client {
    let _already_there = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap()
}
