//! Two fleets on one GitLab, one subscription, one cluster and one existing identity leave each other alone.

use crate::{
    deeds::{APP, HEAD},
    harness::{KINDS, Sandbox},
};
use forerunner::{
    cli::{load, stage},
    config::Settings,
    domain::fleet::Fleet,
    reconcile::{Here, Outbox, Outcome, Rounds},
};
use jiff::SignedDuration;
use serde_json::{Value, json};
use std::{fs, sync::Arc};

/// The name of one is part of the other's.
const OURS: &str = "nonprod";
const THEIRS: &str = "prod";
const LENT: &str = "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-people/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-tf";

/// The same groups, names and identity; only the fleet's own name differs.
fn file(fleet: &str, groups: &str) -> String {
    let head = HEAD.replace("fleet: nonprod", &format!("fleet: {fleet}"));
    format!(
        "{head}rules:
  - {{ match: {{ groups: 'platform/{groups}' }}, profiles: [plan, tf] }}
profiles:
  plan: {{ runner: {{ tags: [plan-{fleet}] }}, identity: {{ settle: 20s, managed: {{ roles: [{{ role: Reader, scope: {APP} }}] }} }} }}
  tf: {{ runner: {{ tags: [tf-{fleet}] }}, identity: {{ settle: 20s, existing: [{LENT}], expect: [{{ role: Reader, scope: {APP} }}] }} }}
guardrails: {{ roles: [Reader], scopes: [{APP}], grace: 2m, deletions: {{ max: 10, percent: 100 }} }}
"
    )
}

/// The other fleet: rounds of its own over the same world, without a host.
struct Neighbour<'a> {
    sandbox: &'a Sandbox,
    groups: &'static str,
    here: Arc<Here>,
}

impl<'a> Neighbour<'a> {
    /// What its administrator does, once.
    fn move_in(sandbox: &'a Sandbox) -> Self {
        // The shipped admission policy would refuse what goes astray; forerunner must not even try.
        let kubernetes = &sandbox.world.kubernetes;
        for policy in kubernetes.list("validatingadmissionpolicybindings", "") {
            let name = policy["metadata"]["name"].as_str().unwrap();
            kubernetes.delete_as_admin("validatingadmissionpolicybindings", "", name);
        }
        let (fleet, _) = Fleet::parse(&file(THEIRS, "*"), None, sandbox.world.clock.now()).unwrap();
        let user = sandbox.world.forerunner_user();
        for object in (stage::stage(&fleet, 2).objects)(user) {
            let kind = object["kind"].as_str().unwrap_or_default();
            if !kind.starts_with("ValidatingAdmission") {
                kubernetes.apply_as_admin(object.clone()).unwrap_or_else(|why| panic!("{why}"));
            }
        }
        Self { sandbox, groups: "*", here: Arc::default() }
    }

    fn rounds(&self) -> Rounds {
        let path = self.sandbox.folder.join("neighbour.yaml");
        fs::write(&path, file(THEIRS, self.groups)).unwrap();
        let mut given = self.sandbox.world.settings(&path);
        given.remove("FORERUNNER_CLOCK");
        given.remove("ServiceBus__fullyQualifiedNamespace");
        let settings = Settings::read(|name| given.get(name).cloned()).unwrap();
        let here = Outbox::Here(self.here.clone());
        load::rounds_here(&settings, self.sandbox.world.clock.clone(), here).unwrap()
    }

    /// One sweep, and the rounds that it and they ask for.
    async fn sweep(&self) {
        let (rounds, world) = (self.rounds(), &self.sandbox.world);
        let outcome = Box::pin(rounds.sweep()).await;
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
        for _ in 0..400 {
            let Some(next) = self.here.next_at() else { return };
            let wait = next.duration_since(world.clock.now());
            Box::pin(self.sandbox.pass(wait.max(SignedDuration::ZERO))).await;
            for message in self.here.due(world.clock.now()) {
                let outcome = Box::pin(rounds.round(&message)).await;
                assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
            }
        }
        panic!("the neighbour does not come to rest");
    }
}

/// All that is of a fleet, byte for byte but for what polls and pods change by themselves.
fn all_of(sandbox: &Sandbox, fleet: &str) -> Value {
    let marker = format!("[forerunner:{fleet}:");
    let (world, azure) = (&sandbox.world, &sandbox.world.azure);
    let runners = world.gitlab.runners().into_iter();
    let runners = runners.filter(|one| one.description.contains(&marker)).map(|one| {
        let mut view = json!(one);
        view.as_object_mut().unwrap().remove("contacted_at");
        view
    });
    let identities = azure.identities().into_iter();
    let own: Vec<_> = identities
        .filter(|one| one.tags.get("forerunner-fleet").is_some_and(|name| name == fleet))
        .collect();
    let lent = azure.credentials(LENT).into_iter();
    let lent = lent.filter(|one| one.name.starts_with(&format!("forerunner-{fleet}--")));
    let rights = azure.assignments().into_iter();
    let rights =
        rights.filter(|one| own.iter().any(|identity| identity.principal_id == one.principal_id));
    let doors = own.iter().flat_map(|identity| azure.credentials(&identity.id));
    let doors: Vec<_> = doors.chain(lent).map(|one| format!("{one:?}")).collect();
    let objects = KINDS.into_iter().flat_map(|kind| world.kubernetes.list(kind, ""));
    // What its own sweep tells of the cluster is no deed of its neighbour.
    let objects = objects.filter(|one| one["metadata"]["name"] != "fleet-status");
    let objects = objects.filter(|one| {
        let namespace = one["metadata"]["namespace"].as_str().unwrap_or_default();
        one["metadata"]["labels"]["forerunner.dev/fleet"] == fleet
            || namespace == format!("forerunner-{fleet}")
            || namespace.starts_with(&format!("ci-{fleet}--"))
    });
    json!({
        "runners": runners.collect::<Vec<_>>(),
        "identities": own.iter().map(|one| format!("{one:?}")).collect::<Vec<_>>(),
        "doors": doors,
        "rights": rights.map(|one| format!("{one:?}")).collect::<Vec<_>>(),
        "objects": objects.collect::<Vec<_>>(),
    })
}

/// Lets something happen to one fleet, and sees that nothing of the other was written, by the wire's record and by what
/// there is.
async fn beside(sandbox: &Sandbox, other: &str, what: &str, happens: impl Future<Output = ()>) {
    let before = all_of(sandbox, other);
    sandbox.world.wire.forget_calls();
    Box::pin(happens).await;
    let after = all_of(sandbox, other);
    for (part, value) in before.as_object().unwrap() {
        assert_eq!(after[part], *value, "{what}: {part} of {other}");
    }
    let ids = before["runners"].as_array().unwrap().iter();
    let mut theirs: Vec<String> = ids.map(|runner| format!("/runners/{}", runner["id"])).collect();
    theirs.extend(["ci-", "id-", "forerunner-"].map(|prefix| format!("/{prefix}{other}")));
    let is_theirs = |call: &String| {
        theirs.iter().any(|part| {
            call.split_once(part).is_some_and(|(_, rest)| {
                !rest.starts_with(|next: char| next.is_ascii_alphanumeric())
            })
        })
    };
    let told = |call: &String| call.contains("/configmaps/fleet-status?");
    let astray: Vec<String> =
        sandbox.own_writes().into_iter().filter(|call| is_theirs(call) && !told(call)).collect();
    assert!(astray.is_empty(), "{what}: {astray:#?}");
}

/// Deletes the entity, a role and a namespace of a fleet, and scales a manager.
fn damage(sandbox: &Sandbox, fleet: &str, key: &str) {
    let (world, marker) = (&sandbox.world, format!("[forerunner:{fleet}:"));
    let runners = world.gitlab.runners().into_iter();
    let mut own = runners.filter(|one| {
        one.description.contains(&marker) && one.description.contains(&format!(":{key}:"))
    });
    world.gitlab.delete_runner(own.next().unwrap().id);
    let identities = world.azure.identities().into_iter();
    let mut tagged =
        identities.filter(|one| one.tags.get("forerunner-fleet").is_some_and(|name| name == fleet));
    let principal = tagged.next().unwrap().principal_id;
    let rights = world.azure.assignments().into_iter();
    for right in rights.filter(|one| one.principal_id == principal) {
        world.azure.remove_assignment(right.name);
    }
    let namespace = format!("ci-{fleet}--{key}");
    assert!(world.kubernetes.delete_as_admin("namespaces", "", &namespace));
    let scale = |object: &mut Value| object["spec"]["replicas"] = 3.into();
    world.kubernetes.edit(
        "deployments",
        &format!("forerunner-{fleet}"),
        &format!("runner-{key}"),
        scale,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_fleets_on_one_of_everything_leave_each_other_alone() {
    let sandbox = Sandbox::new(&file(OURS, "*")).await;
    let group = sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.lose_hooks();
    let (plan, tf) = (format!("g{group}-plan"), format!("g{group}-tf"));
    for key in [&plan, &tf] {
        sandbox.assert_ready(&format!("runner/{key}"));
    }
    let mut neighbour = Neighbour::move_in(&sandbox);
    beside(&sandbox, OURS, "provisioning", neighbour.sweep()).await;
    let theirs = all_of(&sandbox, THEIRS);
    assert_eq!(theirs["runners"].as_array().unwrap().len(), 2, "{theirs:#}");
    assert_eq!(theirs["doors"].as_array().unwrap().len(), 2, "{theirs:#}");
    assert!(theirs["runners"].as_array().unwrap().iter().all(|one| one["paused"] == false));
    for (healed, other) in [(THEIRS, OURS), (OURS, THEIRS)] {
        damage(&sandbox, healed, &plan);
        let damaged = all_of(&sandbox, healed);
        let heal = async {
            match healed {
                THEIRS => Box::pin(neighbour.sweep()).await,
                _ => Box::pin(sandbox.sweep()).await,
            }
        };
        beside(&sandbox, other, "healing", heal).await;
        let runners = all_of(&sandbox, healed)["runners"].clone();
        assert_ne!(damaged["runners"], runners, "{healed} is healed");
        assert_eq!(runners.as_array().unwrap().len(), 2, "{runners:#}");
    }
    // The neighbour leaves whole; its ledger is old enough.
    sandbox.leap_to("2026-11-26T08:00:00Z");
    sandbox.sweep().await;
    neighbour.sweep().await;
    neighbour.groups = "nobody";
    let leaves = async {
        for day in 27..30 {
            neighbour.sweep().await;
            sandbox.leap_to(&format!("2026-11-{day}T08:00:00Z"));
        }
        neighbour.sweep().await;
    };
    beside(&sandbox, OURS, "removal", leaves).await;
    let left = all_of(&sandbox, THEIRS);
    for part in ["runners", "identities", "doors", "rights"] {
        assert_eq!(left[part], json!([]), "{part}");
    }
    let objects = left["objects"].as_array().unwrap().iter();
    let made = objects.map(|one| &one["metadata"]).filter(|metadata| {
        let named =
            |key: &str, start| metadata[key].as_str().is_some_and(|text| text.starts_with(start));
        named("namespace", "ci-") || named("name", "ci-") || named("name", "runner-")
    });
    assert_eq!(made.collect::<Vec<_>>(), Vec::<&Value>::new());
    sandbox.assert_ready(&format!("runner/{plan}"));
    sandbox.assert_ready(&format!("runner/{tf}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_is_taken_away_whole_leaves_its_neighbour_as_it_is() {
    let sandbox = Sandbox::new(&file(OURS, "*")).await;
    sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox.lose_hooks();
    let neighbour = Neighbour::move_in(&sandbox);
    neighbour.sweep().await;
    let theirs = all_of(&sandbox, THEIRS);
    assert_eq!(theirs["runners"].as_array().unwrap().len(), 2, "{theirs:#}");
    let order = json!({"command": "remove", "targets": ["all"], "by": "jane", "why": "a move"});
    let goes = async {
        sandbox.order("approvals", &order);
        sandbox.settle().await;
        sandbox.sweep().await;
    };
    beside(&sandbox, THEIRS, "remove all", goes).await;
    let left = all_of(&sandbox, OURS);
    for part in ["runners", "identities", "doors", "rights"] {
        assert_eq!(left[part], json!([]), "{part}");
    }
    let found = left["objects"].as_array().unwrap().iter();
    let names: Vec<&str> = found.filter_map(|one| one["metadata"]["name"].as_str()).collect();
    assert!(
        !names.iter().any(|name| name.starts_with("runner-") || name.starts_with("ci-")),
        "{names:?}"
    );
    // And it goes on as before: what is damaged there is mended there.
    let key = theirs["runners"][0]["description"].as_str().unwrap().rsplit(':').nth(1).unwrap();
    assert!(sandbox.world.kubernetes.delete_as_admin(
        "namespaces",
        "",
        &format!("ci-{THEIRS}--{key}")
    ));
    neighbour.sweep().await;
    let parts = ["runners", "identities", "doors", "rights"];
    let after = all_of(&sandbox, THEIRS);
    parts.iter().for_each(|part| assert_eq!(after[*part], theirs[*part], "{part}"));
}
