//! A world full of what looks like ours, through a unit's whole life: as it was to the last byte when all of ours is gone.

use crate::{
    deeds::{APP, READER, fleet, plan_profile},
    harness::Sandbox,
    look_alikes::{runner_at, runner_of},
};
use forerunner::sandbox::{azure::Credential, gitlab::RunnerEdit};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const MANAGERS: &str = "forerunner-nonprod";
const GROUP: &str =
    "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-runner-identities";

fn file(groups: &str, tag: &str) -> String {
    let file = format!(
        "rules:\n  - {{ match: {{ groups: 'platform/{groups}' }}, profiles: [plan] }}\nprofiles:\n{}",
        plan_profile().replace("azure-plan", tag)
    );
    fleet(&file).replace("guardrails:\n", "guardrails:\n  grace: 2m\n")
}

/// What bears other marks than ours, or none.
struct Crowd<'a> {
    sandbox: &'a Sandbox,
    runners: Vec<u64>,
    identities: Vec<String>,
    /// Plural, namespace and name.
    objects: Vec<(&'static str, String, String)>,
}

impl<'a> Crowd<'a> {
    /// Around the runner of this group, which need not be there yet.
    async fn around(sandbox: &'a Sandbox, group: u64) -> Self {
        let mut crowd = Self { sandbox, runners: vec![], identities: vec![], objects: vec![] };
        let key = format!("g{group}-plan");
        crowd.in_gitlab(group, &key).await;
        crowd.in_azure(&key);
        crowd.in_kubernetes(&key);
        crowd
    }

    async fn in_gitlab(&mut self, group: u64, key: &str) {
        let (sandbox, gitlab) = (self.sandbox, &self.sandbox.world.gitlab);
        let namespace = sandbox.world.kubernetes.get("namespaces", "", MANAGERS).unwrap();
        let here = namespace["metadata"]["uid"].as_str().unwrap();
        let there = "00000000-0000-4000-8000-0000000000ff";
        let elsewhere = gitlab.create_group(None, "elsewhere");
        let project = gitlab.create_project(group, "app");
        let texts = [
            // Our profile's own words, and no marker.
            (group, "plan".to_owned()),
            // Another fleet's, whose name is part of ours or the other way round.
            (group, format!("plan [forerunner:prod:{here}:{key}:1]")),
            (group, format!("plan [forerunner:nonprod-2:{here}:{key}:1]")),
            // Another installation's, of a runner that is not there.
            (group, format!("plan [forerunner:nonprod:{there}:{key}x:1]")),
            // Ours, on somebody else's.
            (elsewhere, format!("plan [forerunner:nonprod:{here}:{key}:1]")),
            // Nearly one.
            (group, format!("plan [forerunner:nonprod:{here}:{key}]")),
        ];
        for (group, text) in texts {
            self.runners.push(runner_of(sandbox, group, &text).await);
        }
        let of_project = json!({ "runner_type": "project_type", "project_id": project });
        let text = format!("plan [forerunner:nonprod:{here}:{key}:1]");
        self.runners.push(runner_at(sandbox, of_project, &text).await);
    }

    fn in_azure(&mut self, key: &str) {
        let azure = &self.sandbox.world.azure;
        let tags = |fleet: &str, installation: &str, key: &str| {
            let pairs = [
                ("forerunner-fleet", fleet),
                ("forerunner-installation", installation),
                ("forerunner-key", key),
            ];
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
        };
        let there = "00000000-0000-4000-8000-0000000000ff";
        let made: [(&str, BTreeMap<String, String>); 3] = [
            ("id-nonprod--somebody", BTreeMap::from([("owner".into(), "jane".into())])),
            ("id-prod--team", tags("prod", there, key)),
            ("id-nonprod--of-yesterday", tags("nonprod", there, "g999-plan")),
        ];
        for (name, tags) in made {
            let id = format!(
                "{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
            );
            let identity = azure.add_existing_identity(&id, tags);
            azure.assign_role(APP, READER.parse().unwrap(), identity.principal_id, None);
            azure.edit_credential(
                &id,
                Credential {
                    name: format!("forerunner-nonprod--{key}-0a1b2c3d"),
                    issuer: "https://elsewhere.example.com/".into(),
                    subject: format!("system:serviceaccount:ci-nonprod--{key}:job"),
                    audiences: vec!["api://AzureADTokenExchange".into()],
                },
            );
            self.identities.push(id);
        }
    }

    fn in_kubernetes(&mut self, key: &str) {
        let mut make = |plural: &'static str, object: Value| {
            let metadata = &object["metadata"];
            let text = |name: &str| metadata[name].as_str().unwrap_or_default().to_owned();
            self.objects.push((plural, text("namespace"), text("name")));
            self.sandbox.world.kubernetes.apply_as_admin(object).unwrap();
        };
        let other = format!("g999-{}", key.rsplit('-').next().unwrap());
        let theirs = json!({ "forerunner.dev/fleet": "prod", "forerunner.dev/key": key });
        for (name, labels) in [
            ("ci-nonprod--somebody", json!({})),
            ("ci-nonprod--g999-plan", json!({ "team": "theirs" })),
            ("ci-prod--team", theirs.clone()),
        ] {
            make(
                "namespaces",
                json!({ "apiVersion": "v1", "kind": "Namespace",
                "metadata": { "name": name, "labels": labels } }),
            );
            let account = json!({ "name": "job", "namespace": name, "labels": labels });
            make(
                "serviceaccounts",
                json!({ "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": account }),
            );
        }
        for (name, labels) in
            [(format!("runner-{other}"), json!({})), (format!("runner-{key}-2"), theirs)]
        {
            let metadata =
                |name: &str| json!({ "name": name, "namespace": MANAGERS, "labels": labels });
            make(
                "deployments",
                json!({ "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": metadata(&name), "spec": { "replicas": 0,
                    "selector": { "matchLabels": { "app": "theirs" } },
                    "template": { "metadata": { "labels": { "app": "theirs" } },
                        "spec": { "containers": [{ "name": "theirs", "image": "theirs:1" }] } } } }),
            );
            make(
                "secrets",
                json!({ "apiVersion": "v1", "kind": "Secret",
                "metadata": metadata(&format!("{name}-config")), "data": { "theirs": "dGhlaXJz" } }),
            );
            make(
                "configmaps",
                json!({ "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": metadata(&format!("status-{name}")), "data": { "record.json": "{}" } }),
            );
        }
    }

    /// All of it, byte for byte; whoever polls with a runner of theirs does so by himself, and nobody does here.
    fn seen(&self) -> Value {
        let world = &self.sandbox.world;
        let runners = self.runners.iter().map(|id| json!(world.gitlab.runner(*id)));
        let identities = world.azure.identities().into_iter();
        let identities: Vec<_> =
            identities.filter(|one| self.identities.contains(&one.id)).collect();
        let principals: Vec<_> = identities.iter().map(|one| one.principal_id).collect();
        let rights = world.azure.assignments().into_iter();
        let rights = rights.filter(|one| principals.contains(&one.principal_id));
        let doors = self.identities.iter().flat_map(|id| world.azure.credentials(id));
        let objects = self.objects.iter().map(|(plural, namespace, name)| {
            world.kubernetes.get(plural, namespace, name).unwrap_or_default()
        });
        json!({
            "runners": runners.collect::<Vec<_>>(),
            "identities": identities.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>(),
            "rights": rights.map(|one| format!("{one:?}")).collect::<Vec<_>>(),
            "doors": doors.map(|one| format!("{one:?}")).collect::<Vec<_>>(),
            "objects": objects.collect::<Vec<_>>(),
        })
    }

    fn assert_untouched(&self, before: &Value, when: &str) {
        let after = self.seen();
        for (part, value) in before.as_object().unwrap() {
            assert_eq!(after[part], *value, "{when}: {part}");
        }
    }
}

/// What people and their machines add to what is ours: it stays for as long as ours does.
struct Additions<'a> {
    sandbox: &'a Sandbox,
    key: &'a str,
}

impl Additions<'_> {
    fn make(&self) {
        let (world, key) = (&self.sandbox.world, self.key);
        let note =
            RunnerEdit { maintenance_note: Some("ask jane".into()), ..RunnerEdit::default() };
        world.gitlab.edit_runner(self.sandbox.runner(key).id, note);
        let mut identity = self.identity();
        identity.tags.insert("team".into(), "payments".into());
        world.azure.edit_identity_tags(&identity.id, identity.tags);
        for (plural, namespace, name) in self.objects() {
            let patch = json!({ "apiVersion": if plural == "deployments" { "apps/v1" } else { "v1" },
                "kind": if plural == "deployments" { "Deployment" } else { "Namespace" },
                "metadata": { "name": name, "namespace": namespace,
                    "labels": { "team": "payments" }, "annotations": { "example.com/seen": "yes" } } });
            world.kubernetes.edit(plural, namespace, &name, |object| {
                for part in ["labels", "annotations"] {
                    let added = patch["metadata"][part].as_object().unwrap().clone();
                    let all = &mut object["metadata"][part];
                    if all.is_null() {
                        *all = json!({});
                    }
                    all.as_object_mut().unwrap().extend(added);
                }
            });
        }
    }

    fn identity(&self) -> forerunner::sandbox::azure::Identity {
        let name = format!("/id-nonprod--{}", self.key);
        let all = self.sandbox.world.azure.identities();
        all.into_iter().find(|one| one.id.ends_with(&name)).unwrap()
    }

    fn objects(&self) -> [(&'static str, &'static str, String); 2] {
        let key = self.key;
        [
            ("namespaces", "", format!("ci-nonprod--{key}")),
            ("deployments", MANAGERS, format!("runner-{key}")),
        ]
    }

    fn assert_there(&self, when: &str) {
        assert_eq!(self.sandbox.runner(self.key).maintenance_note, "ask jane", "{when}");
        assert_eq!(self.identity().tags["team"], "payments", "{when}");
        for (plural, namespace, name) in self.objects() {
            let object = self.sandbox.world.kubernetes.get(plural, namespace, &name).unwrap();
            assert_eq!(object["metadata"]["labels"]["team"], "payments", "{when}: {plural}");
            let seen = &object["metadata"]["annotations"]["example.com/seen"];
            assert_eq!(*seen, "yes", "{when}: {plural}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_life_among_look_alikes_touches_none_of_them() {
    let sandbox = Sandbox::new(&file("payments", "azure-plan")).await;
    // Only the shipped admission policy would refuse; forerunner must not even try.
    let bindings = "validatingadmissionpolicybindings";
    assert!(sandbox.world.kubernetes.delete_as_admin(bindings, "", MANAGERS));
    sandbox.lose_hooks();
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    let (key, unit) = (format!("g{group}-plan"), format!("runner/g{group}-plan"));
    let crowd = Crowd::around(&sandbox, group).await;
    // The cluster's own controllers come to rest first.
    sandbox.settle().await;
    assert_eq!(sandbox.world.gitlab.runners().len(), crowd.runners.len(), "nobody was woken");
    let before = crowd.seen();
    sandbox.sweep().await;
    sandbox.assert_ready(&unit);
    crowd.assert_untouched(&before, "made");
    let own = {
        let ours = |one: &forerunner::sandbox::gitlab::RunnerView| !crowd.runners.contains(&one.id);
        sandbox.world.gitlab.runners().into_iter().find(ours).unwrap()
    };

    let sweep_and = async |when: &str| {
        sandbox.sweep().await;
        crowd.assert_untouched(&before, when);
    };
    sweep_and("swept").await;
    let named = sandbox.world.gitlab.runner(own.id).unwrap();
    assert_eq!(named.description, own.description);

    // Damaged and mended.
    let namespace = format!("ci-nonprod--{key}");
    assert!(sandbox.world.kubernetes.delete_as_admin("namespaces", "", &namespace));
    let tags = Some(vec!["other".into()]);
    sandbox.world.gitlab.edit_runner(own.id, RunnerEdit { tags, ..RunnerEdit::default() });
    sweep_and("mended").await;
    sandbox.assert_ready(&unit);

    // Held and taken up again, and changed.
    sandbox.world.gitlab.archive_group(group);
    sweep_and("held").await;
    sandbox.world.gitlab.unarchive_group(group);
    sweep_and("taken up again").await;
    sandbox.deploy(&file("payments", "azure-read")).await;
    sweep_and("changed").await;
    sandbox.assert_ready(&unit);

    // No longer given, and given again.
    sandbox.leap_to("2026-11-26T08:00:00Z");
    sandbox.deploy(&file("nobody", "azure-read")).await;
    sweep_and("leaving").await;
    sandbox.deploy(&file("payments", "azure-read")).await;
    sweep_and("back").await;
    sandbox.assert_ready(&unit);

    let order = json!({ "command": "remove", "targets": ["all"], "by": "jane", "why": "a move" });
    sandbox.order("approvals", &order);
    sandbox.settle().await;
    sweep_and("taken away").await;
    let left = sandbox.world.gitlab.runners();
    assert_eq!(left.len(), crowd.runners.len(), "{left:#?}");
    assert_eq!(sandbox.world.azure.identities().len(), crowd.identities.len());
    assert!(sandbox.world.kubernetes.get("namespaces", "", &namespace).is_none());
    assert!(sandbox.replicas(&key).is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_add_to_what_is_ours_stays_through_healing_and_change() {
    let sandbox = Sandbox::new(&file("payments", "azure-plan")).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    let (key, unit) = (format!("g{group}-plan"), format!("runner/g{group}-plan"));
    sandbox.settle().await;
    sandbox.lose_hooks();
    let additions = Additions { sandbox: &sandbox, key: &key };
    additions.make();
    sandbox.sweep().await;
    additions.assert_there("swept");
    let scale = |object: &mut Value| object["spec"]["replicas"] = 3.into();
    sandbox.world.kubernetes.edit("deployments", MANAGERS, &format!("runner-{key}"), scale);
    let mut tags = additions.identity().tags;
    tags.insert("costCenter".into(), "0000".into());
    sandbox.world.azure.edit_identity_tags(&additions.identity().id, tags);
    sandbox.sweep().await;
    additions.assert_there("mended");
    assert_eq!(additions.identity().tags["costCenter"], "4711");
    sandbox.deploy(&file("payments", "azure-read")).await;
    sandbox.sweep().await;
    additions.assert_there("changed");
    sandbox.assert_ready(&unit);
}
