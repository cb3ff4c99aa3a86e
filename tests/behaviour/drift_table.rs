//! The rows of docs/drift.md: damage a settled world, let one sweep look at it and the rounds it asks for mend it, and compare
//! with the undamaged world.

mod azure;
mod cluster;
mod file;
mod gitlab;
mod lent;
mod managers;
mod rights;
mod rivals;
mod settled;
mod strangers;
mod targets;
mod unmarked;
mod watched;

use crate::deeds::{APP, plan_profile};
use forerunner::sandbox::{
    azure::{Credential, Identity},
    gitlab::RunnerEdit,
};
use serde_json::{Value, json};
pub(crate) use settled::Settled;
use settled::plan_for;

const MANAGERS: &str = "forerunner-nonprod";

/// Damages, sweeps once, compares.
async fn mended(row: &str, damage: impl FnOnce(&Settled)) {
    let settled = Settled::new().await;
    let before = settled.whole();
    damage(&settled);
    assert_ne!(settled.whole(), before, "{row}: the damage shows");
    settled.sandbox.sweep().await;
    let after = settled.whole();
    for (part, value) in before.as_object().unwrap() {
        assert_eq!(after[part], *value, "{row}: {part}\n{}", settled.sandbox.status(&settled.unit));
    }
    settled.sandbox.assert_ready(&settled.unit);
    let writes = settled.sandbox.own_writes().len();
    settled.sandbox.sweep().await;
    let further = settled.sandbox.own_writes().split_off(writes);
    assert!(further.is_empty(), "{row}: and then nothing more: {further:#?}");
}

fn runner_id(settled: &Settled) -> u64 {
    settled.sandbox.runner(&settled.key).id
}

fn edit_runner(settled: &Settled, edit: RunnerEdit) {
    settled.sandbox.world.gitlab.edit_runner(runner_id(settled), edit);
}

/// What somebody does behind forerunner's back, and a sweep with the rounds it asks for undoes.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) damage: fn(&Settled),
}

const fn row(name: &'static str, damage: fn(&Settled)) -> Row {
    Row { name, damage }
}

async fn all_mended(rows: &[Row]) {
    for Row { name, damage } in rows {
        mended(name, damage).await;
    }
}

const ENTITY: [Row; 6] = [
    row("tags", |settled| {
        let tags = Some(vec!["other".into()]);
        edit_runner(settled, RunnerEdit { tags, ..RunnerEdit::default() });
    }),
    row("untagged", |settled| {
        edit_runner(settled, RunnerEdit { run_untagged: Some(true), ..RunnerEdit::default() });
    }),
    row("protected", |settled| {
        edit_runner(settled, RunnerEdit { ref_protected: Some(true), ..RunnerEdit::default() });
    }),
    row("timeout", |settled| {
        let maximum_timeout_seconds = Some(Some(700));
        edit_runner(settled, RunnerEdit { maximum_timeout_seconds, ..RunnerEdit::default() });
    }),
    row("marker", |settled| {
        let description = Some("mine now".into());
        edit_runner(settled, RunnerEdit { description, ..RunnerEdit::default() });
    }),
    row("entity gone", |settled| {
        let id = settled.sandbox.runner(&settled.key).id;
        settled.sandbox.world.gitlab.delete_runner(id);
    }),
];

fn identity(settled: &Settled) -> Identity {
    settled.sandbox.world.azure.identities().remove(0)
}

fn edit_credential(settled: &Settled, change: fn(&mut Credential)) {
    let (azure, id) = (&settled.sandbox.world.azure, identity(settled).id);
    let mut credential = azure.credentials(&id).remove(0);
    change(&mut credential);
    azure.edit_credential(&id, credential);
}

const IDENTITY: [Row; 8] = [
    row("condition", rights::narrow),
    row("surplus right", rights::left_by_a_dead_round),
    row("tags of the identity", |settled| {
        let Identity { id, mut tags, .. } = identity(settled);
        tags.insert("costCenter".into(), "0000".into());
        settled.sandbox.world.azure.edit_identity_tags(&id, tags);
    }),
    row("credential gone", |settled| {
        let (azure, id) = (&settled.sandbox.world.azure, identity(settled).id);
        let name = azure.credentials(&id).remove(0).name;
        assert!(azure.remove_credential(&id, &name));
    }),
    row("issuer", |settled| {
        edit_credential(settled, |one| one.issuer = "https://elsewhere.example.com/".into());
    }),
    row("subject", |settled| {
        edit_credential(settled, |one| {
            one.subject = "system:serviceaccount:default:default".into()
        });
    }),
    row("role gone", |settled| {
        let (azure, principal) = (&settled.sandbox.world.azure, identity(settled).principal_id);
        let all = azure.assignments();
        let own = all.iter().find(|one| one.principal_id == principal).unwrap();
        assert!(azure.remove_assignment(own.name));
    }),
    row("identity gone", |settled| {
        let azure = &settled.sandbox.world.azure;
        let Identity { id, principal_id, .. } = identity(settled);
        for one in azure.assignments() {
            if one.principal_id == principal_id {
                azure.remove_assignment(one.name);
            }
        }
        assert!(azure.remove_identity(&id));
    }),
];

fn delete(settled: &Settled, kind: &str, namespace: &str, name: &str) {
    assert!(settled.sandbox.world.kubernetes.delete_as_admin(kind, namespace, name), "{kind}");
}

impl Settled {
    fn manager(&self) -> String {
        format!("runner-{}", self.key)
    }

    fn bounds(&self) -> String {
        format!("jobs-{}", self.key)
    }
}

/// Accounts of ours: the manager's, and the two in the job namespace.
fn edit_account(settled: &Settled, namespace: &str, name: &str, change: fn(&mut Value)) {
    settled.edit("serviceaccounts", namespace, name, change);
}

fn relabel(object: &mut Value) {
    object["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "somebody".into();
}

fn drop_annotations(object: &mut Value) {
    object["metadata"].as_object_mut().unwrap().remove("annotations");
}

fn mount_tokens(object: &mut Value) {
    object["automountServiceAccountToken"] = true.into();
}

const ACCOUNTS: [Row; 11] = [
    row("account", |settled| delete(settled, "serviceaccounts", &settled.jobs(), "job")),
    row("account edited", |settled| {
        edit_account(settled, &settled.jobs(), "job", mount_tokens);
    }),
    row("account's labels", |settled| edit_account(settled, &settled.jobs(), "job", relabel)),
    row("account's annotations", |settled| {
        edit_account(settled, &settled.jobs(), "job", drop_annotations);
    }),
    row("manager's account", |settled| {
        delete(settled, "serviceaccounts", MANAGERS, &settled.manager());
    }),
    row("manager's account edited", |settled| {
        edit_account(settled, MANAGERS, &settled.manager(), mount_tokens);
    }),
    row("manager's account's labels", |settled| {
        edit_account(settled, MANAGERS, &settled.manager(), relabel);
    }),
    row("manager's account's annotations", |settled| {
        edit_account(settled, MANAGERS, &settled.manager(), drop_annotations);
    }),
    row("default account", |settled| {
        delete(settled, "serviceaccounts", &settled.jobs(), "default");
    }),
    row("default account edited", |settled| {
        edit_account(settled, &settled.jobs(), "default", mount_tokens);
    }),
    row("default account's labels", |settled| {
        edit_account(settled, &settled.jobs(), "default", relabel);
    }),
];

const OBJECTS_GONE: [Row; 7] = [
    row("deployment", |settled| delete(settled, "deployments", MANAGERS, &settled.manager())),
    row("policy of the manager", |settled| {
        delete(settled, "networkpolicies", MANAGERS, &settled.manager());
    }),
    row("policy of the jobs", |settled| {
        delete(settled, "networkpolicies", &settled.jobs(), &settled.bounds());
    }),
    row("binding", |settled| {
        delete(settled, "rolebindings", &settled.jobs(), &settled.manager());
    }),
    row("quota", |settled| {
        delete(settled, "resourcequotas", &settled.jobs(), &settled.bounds());
    }),
    row("limits", |settled| delete(settled, "limitranges", &settled.jobs(), &settled.bounds())),
    row("namespace", |settled| delete(settled, "namespaces", "", &settled.jobs())),
];

const OBJECTS_EDITED: [Row; 7] = [
    row("another role", cluster::rebind),
    row("scaled", |settled| {
        settled.edit("deployments", MANAGERS, &settled.manager(), |object| {
            object["spec"]["replicas"] = 3.into();
        });
    }),
    row("image", |settled| {
        settled.edit("deployments", MANAGERS, &settled.manager(), |object| {
            object["spec"]["template"]["spec"]["containers"][0]["image"] = "evil".into();
        });
    }),
    row("Pod Security", |settled| {
        settled.edit("namespaces", "", &settled.jobs(), |object| {
            object["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] =
                "privileged".into();
        });
    }),
    row("policy loosened", |settled| {
        settled.edit("networkpolicies", &settled.jobs(), &settled.bounds(), |object| {
            object["spec"]["egress"] = json!([{}]);
        });
    }),
    row("quota raised", |settled| {
        settled.edit("resourcequotas", &settled.jobs(), &settled.bounds(), |object| {
            object["spec"]["hard"]["pods"] = "500".into();
        });
    }),
    row("binding edited", |settled| {
        settled.edit("rolebindings", &settled.jobs(), &settled.manager(), |object| {
            object["subjects"][0]["name"] = "somebody".into();
        });
    }),
];

/// Every row that a sweep and rounds mend without a person.
pub(crate) fn rows() -> Vec<Row> {
    [&ENTITY[..], &IDENTITY, &ACCOUNTS, &OBJECTS_GONE, &OBJECTS_EDITED].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_the_entity_are_mended_and_one_that_is_gone_is_made_anew() {
    all_mended(&ENTITY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_identity_and_what_it_can_do_come_back() {
    all_mended(&IDENTITY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_in_the_cluster_come_back_as_they_were() {
    all_mended(&OBJECTS_GONE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_come_back_as_they_were() {
    all_mended(&ACCOUNTS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_of_objects_are_undone() {
    all_mended(&OBJECTS_EDITED).await;
}

/// The reading profile, which tells of others' rights or takes them away.
fn plan_about_foreign_rights(remove: bool) -> String {
    let asks = if remove { "  plan: { drift: { foreignRights: remove }, " } else { "  plan: { " };
    plan_profile().replace("  plan: { ", asks)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_or_credential_that_others_gave_is_told_or_taken_away() {
    for remove in [false, true] {
        let settled = Settled::with(&plan_about_foreign_rights(remove)).await;
        let before = settled.whole();
        let azure = &settled.sandbox.world.azure;
        let identity = azure.identities().remove(0);
        let contributor = "b24988ac-6180-42a0-ab88-20f7382dd24c".parse().unwrap();
        azure.assign_role(APP, contributor, identity.principal_id, None);
        let mut door = azure.credentials(&identity.id).remove(0);
        door.name = "by-a-person".into();
        door.subject = "system:serviceaccount:elsewhere:builder".into();
        azure.edit_credential(&identity.id, door);
        settled.sandbox.sweep().await;
        if remove {
            assert_eq!(settled.whole(), before, "{}", settled.sandbox.story());
            settled.sandbox.assert_ready(&settled.unit);
            continue;
        }
        let told = settled.sandbox.condition(&settled.unit, "NeedsAdministrator");
        let message = told["message"].as_str().unwrap_or_default();
        for part in ["az role assignment delete --ids", "federatedIdentityCredentials/by-a-person"]
        {
            assert!(message.contains(part), "{part}: {told}\n{}", settled.sandbox.story());
        }
        assert_eq!(azure.credentials(&identity.id).len(), 2, "nothing of theirs is touched");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persons_pause_is_kept_or_undone_as_the_profile_says() {
    for (words, stays) in [("", true), ("drift: { paused: resume }, ", false)] {
        let profile = plan_profile().replace("  plan: { ", &format!("  plan: {{ {words}"));
        let settled = Settled::with(&profile).await;
        edit_runner(&settled, RunnerEdit { paused: Some(true), ..RunnerEdit::default() });
        settled.sandbox.sweep().await;
        assert_eq!(settled.sandbox.runner(&settled.key).paused, stays, "{words}");
        let reason = settled.sandbox.ready(&settled.unit).0;
        assert_eq!(reason, if stays { "PausedByPerson" } else { "Settled" });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_token_that_somebody_polled_with_waits_for_a_persons_word() {
    let settled = Settled::new().await;
    let name = format!("runner-{}-config", settled.key);
    assert!(settled.sandbox.world.kubernetes.delete_as_admin(
        "secrets",
        "forerunner-nonprod",
        &name
    ));
    settled.sandbox.sweep().await;
    let (reason, message) = settled.sandbox.ready(&settled.unit);
    assert_eq!(reason, "Parked", "{message}");
    assert!(message.contains("somebody has polled with it"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_somebody_reset_is_found_though_our_manager_has_polled_before() {
    let settled = Settled::new().await;
    let id = settled.sandbox.runner(&settled.key).id;
    settled.sandbox.world.gitlab.reset_runner_token(id);
    settled.sandbox.leap_to("2026-11-24T11:00:00Z");
    settled.sandbox.sweep().await;
    let (reason, message) = settled.sandbox.ready(&settled.unit);
    assert_eq!(reason, "Parked", "{message}");
    assert!(message.contains("somebody has polled with it"), "{message}");
}
