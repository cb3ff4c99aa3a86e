//! What people and services do, behind forerunner's back.

use super::{
    event::{AzureEdit, Disturbance},
    secrets::edit_secret,
};
use crate::{
    deeds::{APP, client},
    harness::Sandbox,
    invariants::snapshot::MANAGERS,
};
use forerunner::{
    domain::plan::runner::NOTE_NOT_OPEN,
    sandbox::{
        azure::Identity,
        gitlab::{Mischief, Owner, RunnerEdit, RunnerView},
        wire::{Fault, Service, What},
    },
};
use jiff::SignedDuration;
use serde_json::{Value, json};

pub(super) fn nth<T>(mut all: Vec<T>, number: usize) -> Option<T> {
    let at = number.checked_rem(all.len())?;
    Some(all.swap_remove(at))
}

fn runner(sandbox: &Sandbox, number: usize) -> Option<RunnerView> {
    let all = sandbox.world.gitlab.runners().into_iter();
    nth(all.filter(|one| one.description.contains("[forerunner:nonprod:")).collect(), number)
}

fn identity(sandbox: &Sandbox, number: usize) -> Option<Identity> {
    let all = sandbox.world.azure.identities().into_iter();
    nth(all.filter(|one| one.tags.contains_key("forerunner-key")).collect(), number)
}

fn object(sandbox: &Sandbox, kind: &str, number: usize) -> Option<(String, String)> {
    let all = sandbox.world.kubernetes.list(kind, "").into_iter();
    let ours = all.filter(|one| one["metadata"]["labels"]["forerunner.dev/fleet"] == "nonprod");
    let named = ours.map(|one| {
        let text = |key: &str| one["metadata"][key].as_str().unwrap_or_default().to_owned();
        (text("namespace"), text("name"))
    });
    nth(named.filter(|(_, name)| name != MANAGERS).collect(), number)
}

pub(super) fn disturb(sandbox: &Sandbox, event: &Disturbance) {
    let (gitlab, kubernetes) = (&sandbox.world.gitlab, &sandbox.world.kubernetes);
    let edit_runner = |number: &usize, edit: RunnerEdit| {
        if let Some(runner) = runner(sandbox, *number) {
            gitlab.edit_runner(runner.id, edit);
        }
    };
    let edit = |kind: &str, number: &usize, change: fn(&mut Value)| {
        if let Some((namespace, name)) = object(sandbox, kind, *number) {
            kubernetes.edit(kind, &namespace, &name, change);
        }
    };
    let fault = |service, times, what| {
        sandbox.world.wire.add_fault(Fault {
            service,
            method: None,
            path: String::new(),
            times,
            what,
        });
    };
    match event {
        Disturbance::Retagged { runner } => edit_runner(
            runner,
            RunnerEdit { tags: Some(vec!["theirs".into()]), ..RunnerEdit::default() },
        ),
        Disturbance::Untagged { runner } => {
            edit_runner(runner, RunnerEdit { run_untagged: Some(true), ..RunnerEdit::default() });
        }
        Disturbance::Unmarked { runner } => edit_runner(
            runner,
            RunnerEdit { description: Some("mine".into()), ..RunnerEdit::default() },
        ),
        Disturbance::PausedByPerson { runner } => {
            edit_runner(runner, RunnerEdit { paused: Some(true), ..RunnerEdit::default() });
        }
        Disturbance::RunnerDeleted { runner: number } => {
            if let Some(runner) = runner(sandbox, *number) {
                gitlab.delete_runner(runner.id);
            }
        }
        Disturbance::TokenReset { runner: number } => {
            if let Some(runner) = runner(sandbox, *number) {
                gitlab.reset_runner_token(runner.id);
            }
        }
        Disturbance::Deleted { kind, object: number } => {
            if let Some((namespace, name)) = object(sandbox, kind, *number) {
                kubernetes.delete_as_admin(kind, &namespace, &name);
            }
        }
        Disturbance::Scaled { object } => {
            edit("deployments", object, |one| one["spec"]["replicas"] = 3.into());
        }
        Disturbance::ImageEdited { object } => edit("deployments", object, |one| {
            one["spec"]["template"]["spec"]["containers"][0]["image"] = "theirs".into();
        }),
        Disturbance::PolicyOpened { object } => {
            edit("networkpolicies", object, |one| one["spec"]["egress"] = json!([{}]));
        }
        Disturbance::NamespaceOpened { object } => edit("namespaces", object, |one| {
            one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] = "privileged".into();
        }),
        Disturbance::Hooks { loss, twice, disorder } => gitlab.set_mischief(Mischief {
            loss_percent: *loss,
            duplicate_percent: *twice,
            disorder: SignedDuration::from_secs(i64::from(*disorder)),
            ..Mischief::default()
        }),
        Disturbance::HooksAsUsual => gitlab.set_mischief(Mischief::default()),
        Disturbance::Refuses { service, status, times } => {
            let headers = match status {
                429 | 503 => vec![("retry-after", "7".to_owned())],
                _ => vec![],
            };
            let body = "{\"message\":\"refused\",\"error\":{\"code\":\"AuthorizationFailed\",\"message\":\"refused\"}}";
            fault(*service, *times, What::Answer { status: *status, headers, body: body.into() });
        }
        Disturbance::Loses { service, after, times } => {
            let what = if *after { What::DropAfterEffect } else { What::DropBeforeEffect };
            fault(*service, *times, what);
        }
        Disturbance::AnswersEmpty { list, times } => answer_empty(sandbox, *list, *times),
        Disturbance::Maintenance { on } => gitlab.set_maintenance(*on),
        Disturbance::QueueThrottles { times } => {
            sandbox.world.service_bus.throttle(*times, axum::http::StatusCode::SERVICE_UNAVAILABLE);
        }
        Disturbance::CompletionsLost { times } => {
            sandbox.world.service_bus.lose_completions(*times)
        }
        Disturbance::ImagesMissing { on } => {
            kubernetes.fail_image_pulls(on.then_some("gitlab-runner"));
        }
        Disturbance::InAzure(number, edit) => edit_azure(sandbox, *number, *edit),
        Disturbance::InSecret(number, edit) => edit_secret(sandbox, *number, *edit),
        Disturbance::Twinned { .. } => unreachable!("another process's, who asks GitLab for it"),
    }
}

/// A second entity with the marker of the n-th, as a process leaves it that dies between GitLab's answer and the Secret. Where GitLab does
/// not answer, there may be none.
pub(super) async fn make_a_twin(sandbox: &Sandbox, number: usize) {
    let Some(runner) = runner(sandbox, number) else { return };
    let mut body = json!({ "description": runner.description, "tag_list": runner.tags, "paused": true,
        "maintenance_note": NOTE_NOT_OPEN });
    match runner.owner {
        Owner::Group(id) => {
            body["runner_type"] = "group_type".into();
            body["group_id"] = id.into();
        }
        Owner::Project(id) => {
            body["runner_type"] = "project_type".into();
            body["project_id"] = id.into();
        }
        Owner::Instance | Owner::Nobody => return,
    }
    let url = format!("http://{}/api/v4/user/runners", sandbox.world.address("gitlab").unwrap());
    let request = client().post(url).header("Host", "gitlab.example.com");
    let request = request.header("Private-Token", sandbox.world.gitlab.admin_token());
    let _may_be_lost = request.json(&body).send().await;
}

fn edit_azure(sandbox: &Sandbox, number: usize, edit: AzureEdit) {
    let azure = &sandbox.world.azure;
    let Some(identity) = identity(sandbox, number) else { return };
    match edit {
        AzureEdit::IdentityDeleted => {
            for one in azure.assignments() {
                if one.principal_id == identity.principal_id {
                    azure.remove_assignment(one.name);
                }
            }
            azure.remove_identity(&identity.id);
        }
        AzureEdit::IdentityRetagged => {
            let mut tags = identity.tags;
            tags.insert("costCenter".into(), "0000".into());
            azure.edit_identity_tags(&identity.id, tags);
        }
        AzureEdit::CredentialDeleted => {
            for one in azure.credentials(&identity.id) {
                azure.remove_credential(&identity.id, &one.name);
            }
        }
        AzureEdit::CredentialEdited => {
            if let Some(mut one) = azure.credentials(&identity.id).pop() {
                one.subject = "system:serviceaccount:default:default".into();
                azure.edit_credential(&identity.id, one);
            }
        }
        AzureEdit::CredentialAdded => {
            if let Some(mut one) = azure.credentials(&identity.id).pop() {
                one.name = THEIRS.into();
                one.subject = "system:serviceaccount:elsewhere:builder".into();
                azure.edit_credential(&identity.id, one);
            }
        }
        AzureEdit::RoleTaken => {
            let all = azure.assignments().into_iter();
            let own = all.filter(|one| one.principal_id == identity.principal_id);
            if let Some(one) = nth(own.collect(), number) {
                azure.remove_assignment(one.name);
            }
        }
        AzureEdit::RoleAdded => {
            let role = ACR_PUSH.parse().unwrap();
            azure.assign_role(APP, role, identity.principal_id, None);
        }
    }
}

/// A credential's name and a role that only people give.
pub(super) const THEIRS: &str = "by-a-person";
pub(super) const ACR_PUSH: &str = "8311e382-0749-4cb8-b61a-304f252e45ec";

/// A list that is there and shows nothing.
fn answer_empty(sandbox: &Sandbox, list: usize, times: usize) {
    let of_kubernetes = |kind: &str| {
        json!({ "apiVersion": "v1", "kind": kind, "metadata": { "resourceVersion": "1" }, "items": [] })
            .to_string()
    };
    let azure = || json!({ "value": [] }).to_string();
    let (service, path, body) = match list {
        0 => (Service::Gitlab, "/api/v4/groups?", "[]".to_owned()),
        1 => (Service::Gitlab, "/api/graphql", json!({ "data": null }).to_string()),
        2 => (Service::Gitlab, "/projects?", "[]".to_owned()),
        3 => (Service::Arm, "/userAssignedIdentities?", azure()),
        4 => (Service::Arm, "/roleAssignments?", azure()),
        5 => (Service::Arm, "/federatedIdentityCredentials?", azure()),
        6 => (Service::Kubernetes, "/configmaps?", of_kubernetes("ConfigMapList")),
        7 => (Service::Kubernetes, "/deployments?", of_kubernetes("DeploymentList")),
        _ => (Service::Kubernetes, "/namespaces?", of_kubernetes("NamespaceList")),
    };
    let headers = vec![("content-type", "application/json".to_owned())];
    let what = What::Answer { status: 200, headers, body };
    let method = if path == "/api/graphql" { "POST" } else { "GET" };
    let path = path.to_owned();
    sandbox.world.wire.add_fault(Fault { service, method: Some(method), path, times, what });
}
