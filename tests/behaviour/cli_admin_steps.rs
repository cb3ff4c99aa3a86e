//! `forerunner admin-steps`: what only an administrator may do, as commands that do it.

use crate::{
    deeds::{APP, fleet, plan_profile},
    harness::Sandbox,
};
use forerunner::{
    cli::{
        admin_steps::{AdminSteps, answer},
        answer::{Answer, Colour},
    },
    sandbox::wire::{Fault, Service, What},
};
use serde_json::Value;
use std::collections::BTreeMap;

const ID: &str = "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-admin/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id-tf";
const PRINCIPAL: &str = "00000000-0000-4000-8000-0000000000ab";

async fn steps(sandbox: &Sandbox, change: fn(&mut AdminSteps)) -> Answer {
    let mut arguments = AdminSteps {
        principal: Some(PRINCIPAL.parse().unwrap()),
        now: false,
        terraform: false,
        json: false,
        place: Default::default(),
    };
    change(&mut arguments);
    answer(&arguments, &sandbox.desk(), Colour::default()).await
}

/// A runner whose existing identity lacks the right that the file expects, and one of its own identity.
async fn lacking() -> Sandbox {
    let file = fleet(&format!(
        "rules:\n  - {{ match: {{ groups: 'platform/*' }}, profiles: [tf, plan] }}\nprofiles:\n  tf: {{ runner: {{ tags: [tf] }}, identity: {{ existing: ['{ID}'], expect: [{{ role: Reader, scope: {APP} }}] }} }}\n{}",
        plan_profile()
    ));
    let sandbox = Sandbox::new(&file).await;
    sandbox.world.azure.add_existing_identity(ID, BTreeMap::new());
    sandbox.world.gitlab.create_group(Some(42), "payments");
    sandbox.settle().await;
    sandbox
}

/// Runs `az role assignment create` as an administrator would.
fn run(sandbox: &Sandbox, command: &str) {
    let words = command.strip_prefix("az role assignment create ").expect("a command");
    let value = |option: &str| {
        let (_, after) = words.split_once(&format!("{option} ")).unwrap();
        after.trim_start_matches('"').split(['"', ' ']).next().unwrap().to_owned()
    };
    assert_eq!(value("--role"), "Reader");
    let principal = value("--assignee-object-id").parse().unwrap();
    let role = crate::deeds::READER.parse().unwrap();
    sandbox.world.azure.assign_role(&value("--scope"), role, principal, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_unit_waits_for_is_a_command_that_ends_the_wait() {
    let sandbox = lacking().await;
    let shown = steps(&sandbox, |arguments| arguments.now = true).await;
    assert_eq!((shown.code, shown.talk.as_str()), (0, ""));
    assert!(shown.out.starts_with("# What units wait for\n# runner/g"), "{}", shown.out);
    let commands: Vec<&str> = shown.out.lines().filter(|line| !line.starts_with('#')).collect();
    let [command] = commands[..] else { panic!("{}", shown.out) };
    run(&sandbox, command);
    sandbox.sweep().await;
    let after = steps(&sandbox, |arguments| arguments.now = true).await;
    assert_eq!(after.out, "# No unit waits for an administrator\n", "{}", sandbox.story());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_right_of_the_first_hour_is_a_command_and_the_cluster_gets_its_objects() {
    let sandbox = lacking().await;
    let shown = steps(&sandbox, |_| {}).await;
    let rights = [
        (
            "Managed Identity Contributor",
            "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-runner-identities",
        ),
        ("Role Based Access Control Administrator", APP),
        ("Managed Identity Contributor", ID),
        ("Reader", APP),
        (
            "Azure Kubernetes Service Cluster User Role",
            "/subscriptions/00000000-0000-4000-8000-00000000f00d/resourceGroups/rg-aks/providers/Microsoft.ContainerService/managedClusters/aks",
        ),
        ("Key Vault Secrets User", "$(az keyvault show --name kv-fleet --query id --output tsv)"),
    ];
    for (role, scope) in rights {
        let command = format!(
            "az role assignment create --assignee-object-id {PRINCIPAL} --assignee-principal-type ServicePrincipal --role \"{role}\" --scope \"{scope}\""
        );
        assert!(shown.out.contains(&command), "no `{command}` in\n{}", shown.out);
    }
    assert!(
        shown.out.contains(&format!("ForAnyOfAllValues:GuidNotEquals {{{PRINCIPAL}}}")),
        "not to itself: {}",
        shown.out
    );
    // A shell hands the condition on as the file's guardrails mean it.
    let conditioned = shown.out.lines().find(|line| line.contains("--condition ")).unwrap();
    let echo = conditioned.replacen("az ", "printf '%s\\n' ", 1);
    let said = std::process::Command::new("sh").args(["-c", &echo]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let json = steps(&sandbox, |arguments| arguments.json = true).await.out;
    let json: Value = serde_json::from_str(&json).unwrap();
    let condition =
        json["rights"].as_array().unwrap().iter().find_map(|right| right["condition"].as_str());
    let condition = condition.unwrap().replace("{principal}", PRINCIPAL);
    assert_eq!(said.lines().last(), Some(condition.as_str()));
    let (_, list) = shown.out.split_once("<<'OBJECTS'\n").unwrap();
    let list: Value = serde_json::from_str(list.strip_suffix("OBJECTS\n").unwrap()).unwrap();
    let kinds: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds[..3], ["Namespace", "ClusterRole", "ClusterRole"]);
    assert!(kinds.contains(&"ValidatingAdmissionPolicy"), "{kinds:?}");
    // An administrator who applies them again changes nothing of the installation.
    for item in list["items"].as_array().unwrap() {
        sandbox
            .world
            .kubernetes
            .apply_as_admin(item.clone())
            .unwrap_or_else(|refusal| panic!("{refusal}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terraform_holds_the_same_rights_and_objects() {
    let sandbox = lacking().await;
    let document: Value =
        serde_json::from_str(&steps(&sandbox, |arguments| arguments.json = true).await.out)
            .unwrap();
    let file = steps(&sandbox, |arguments| arguments.terraform = true).await.out;
    let rights = document["rights"].as_array().unwrap().len();
    let waiting = document["waiting"].as_array().unwrap().len();
    assert!(rights >= 6 && waiting == 1, "{document}");
    assert_eq!(file.matches("resource \"azurerm_role_assignment\"").count(), rights + waiting);
    let names: Vec<&str> = file.lines().filter(|line| line.starts_with("resource ")).collect();
    let distinct: std::collections::BTreeSet<&&str> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "each name once: {names:#?}");
    let objects: Vec<Value> = file
        .split("jsondecode(<<-OBJECT\n")
        .skip(1)
        .map(|rest| serde_json::from_str(rest.split_once("\nOBJECT\n").unwrap().0).unwrap())
        .collect();
    assert_eq!(&objects, document["objects"].as_array().unwrap());
    for part in [
        "  default     = \"00000000-0000-4000-8000-0000000000ab\"\n",
        "GuidNotEquals {${var.forerunner_principal_id}}",
        "  scope                = var.vault_id_kv_fleet\n",
        &format!("  scope                = \"{ID}\"\n"),
    ] {
        assert!(file.contains(part), "no `{part}` in\n{file}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_the_cluster_answers_the_rest_is_still_told() {
    let sandbox = lacking().await;
    sandbox.world.wire.add_fault(Fault {
        service: Service::Kubernetes,
        method: None,
        path: String::new(),
        times: 1000,
        what: What::Answer { status: 403, headers: vec![], body: "{}".into() },
    });
    let shown = steps(&sandbox, |arguments| arguments.principal = None).await;
    assert_eq!(shown.code, 0);
    assert!(
        shown.talk.starts_with("warning: what units wait for is not shown: "),
        "{}",
        shown.talk
    );
    assert!(shown.out.contains("--assignee-object-id PRINCIPAL "), "{}", shown.out);
    let now = steps(&sandbox, |arguments| arguments.now = true).await;
    assert_eq!(now.code, 1, "{}", now.out);
}
