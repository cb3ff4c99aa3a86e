//! `forerunner report access`: every identity of the fleet's jobs, its rights, who gave them and whose jobs they are.

use crate::{
    cli_desk::run,
    deeds::{APP, fleet, plan_profile},
    harness::Sandbox,
};
use forerunner::{
    cli::{
        answer::{Answer, Colour},
        report::{self, Access},
    },
    sandbox::wire::{Fault, Service, What},
};
use serde_json::{Value, json};
use uuid::{Uuid, uuid};

const CONTRIBUTOR: Uuid = uuid!("b24988ac-6180-42a0-ab88-20f7382dd24c");
const LANDING: &str = "/subscriptions/00000000-0000-4000-8000-000000003333";

fn seed() -> String {
    let identities = format!(
        "{LANDING}/resourceGroups/rg-tf/providers/Microsoft.ManagedIdentity/userAssignedIdentities"
    );
    fleet(&format!(
        "rules:
  - {{ match: {{ groups: 'platform/*' }}, profiles: [plan] }}
  - {{ match: {{ groups: 'platform/payments' }}, profiles: [tf] }}
profiles:
  tf:
    runner: {{ tags: [terraform] }}
    identity:
      existing: [{identities}/id-one, {identities}/id-two]
      expect: [{{ role: Owner, scope: {LANDING}, exception: '=CHG0012345', until: 2027-03-31 }}]
{}",
        plan_profile()
    ))
}

/// Two groups; one identity has a right too many, another lacks one.
async fn audited() -> (Sandbox, [u64; 2]) {
    let sandbox = Sandbox::new(&seed()).await;
    let groups =
        ["payments", "network"].map(|name| sandbox.world.gitlab.create_group(Some(42), name));
    sandbox.settle().await;
    let azure = &sandbox.world.azure;
    let identities = azure.identities();
    let principal = |name: &str| {
        let found = identities.iter().find(|one| one.name == name);
        found.unwrap_or_else(|| panic!("no {name} in {identities:?}")).principal_id
    };
    azure.assign_role(APP, CONTRIBUTOR, principal(&managed(groups[0])), None);
    let second = principal("id-two");
    for right in azure.assignments().iter().filter(|right| right.principal_id == second) {
        assert!(azure.remove_assignment(right.name));
    }
    (sandbox, groups)
}

fn managed(group: u64) -> String {
    format!("id-nonprod--g{group}-plan")
}

async fn access(sandbox: &Sandbox, targets: &[&str], json: bool, csv: bool) -> Answer {
    let targets = targets.iter().map(|target| (*target).to_owned()).collect();
    let arguments = Access { targets, json, csv, place: Default::default() };
    report::answer(&arguments, &sandbox.desk(), Colour::default()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_identity_is_shown_with_its_rights_and_whose_jobs_it_is() {
    let (sandbox, groups) = audited().await;
    sandbox.world.wire.forget_calls();
    let shown = access(&sandbox, &[], true, false).await;
    assert_eq!((shown.code, shown.talk.as_str()), (0, ""), "{}", shown.out);
    assert_eq!(sandbox.written(), Vec::<String>::new(), "it only reads");
    let report: Value = serde_json::from_str(&shown.out).unwrap();
    let identity = |name: &str| {
        let all = report["identities"].as_array().unwrap();
        let of = |one: &&Value| one["id"].as_str().unwrap().ends_with(&format!("/{name}"));
        all.iter().find(of).unwrap_or_else(|| panic!("{name}: {report:#}"))
    };
    let short =
        |right: &Value| json!([right["role"], right["scope"], right["givenBy"], right["standing"]]);
    let rights = |name: &str| -> Value {
        identity(name)["rights"].as_array().unwrap().iter().map(short).collect()
    };
    let reader = json!(["Reader", APP, "forerunner", "as-asked"]);
    let owner = |by, standing| json!(["Owner", LANDING, by, standing]);
    assert_eq!(
        rights(&managed(groups[0])),
        json!([["Contributor", APP, "others", "not-asked"], reader])
    );
    assert_eq!(rights(&managed(groups[1])), json!([reader]));
    assert_eq!(rights("id-one"), json!([owner("others", "as-asked")]));
    assert_eq!(rights("id-two"), json!([owner("nobody", "missing")]));
    let exceptions = json!([{ "name": "=CHG0012345", "until": "2027-03-31", "ended": false }]);
    assert_eq!(identity("id-one")["rights"][0]["exceptions"], exceptions);
    assert_eq!(identity(&managed(groups[0]))["rights"][1]["exceptions"], json!([]));
    let reach = |group: u64, path: &str, profile: &str, protected, several| {
        json!([{ "path": path, "target": format!("g{group}"), "profile": profile, "protected": protected,
            "isolation": "target", "oneOfSeveral": several, "held": null }])
    };
    let reached = |name: &str| identity(name)["reachedBy"].clone();
    assert_eq!(
        reached(&managed(groups[1])),
        reach(groups[1], "platform/network", "plan", false, false)
    );
    assert_eq!(reached("id-two"), reach(groups[0], "platform/payments", "tf", true, true));
    assert_eq!(report["identities"].as_array().unwrap().len(), 4);
    // Who has a principal has the one that Azure knows.
    let one = sandbox.world.azure.identities().into_iter().find(|one| one.name == "id-one");
    assert_eq!(identity("id-one")["principalId"], json!(one.unwrap().principal_id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_read_it_and_a_spreadsheet_takes_no_cell_for_a_formula() {
    let (sandbox, groups) = audited().await;
    let shown = access(&sandbox, &["platform/network"], false, false).await;
    let principal = sandbox
        .world
        .azure
        .identities()
        .into_iter()
        .find(|one| one.name == managed(groups[1]))
        .unwrap()
        .principal_id;
    assert_eq!(
        shown.out,
        format!(
            "fleet nonprod: 1 identity; 1 right(s) as asked, 0 that nobody asked for, 0 missing

{}  managed, principal {principal}
  jobs of platform/network (g{}, profile plan), every branch
  Reader  {APP}  forerunner   as asked\n",
            managed(groups[1]),
            groups[1]
        )
    );
    let all = access(&sandbox, &[], false, false).await.out;
    for part in [
        "4 identities; 3 right(s) as asked, 1 that nobody asked for, 1 missing",
        "jobs of platform/payments (g78, profile tf), protected branches, or another of its list",
        "others       not asked",
        "=CHG0012345 until 2027-03-31",
    ] {
        assert!(all.contains(part), "no `{part}` in\n{all}");
    }
    let csv = access(&sandbox, &[], false, true).await.out;
    let lines: Vec<&str> = csv.split("\r\n").collect();
    assert_eq!(lines.len(), 1 + 5 + 1, "a header, a line a right, and the end: {csv}");
    assert!(csv.lines().all(|line| line.split(',').count() == 20), "{csv}");
    assert!(csv.contains(",'=CHG0012345,2027-03-31,") && !csv.contains(",="), "{csv}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ended_exception_and_an_archived_group_are_said() {
    let (sandbox, groups) = audited().await;
    sandbox.world.gitlab.archive_group(groups[1]);
    sandbox.leap_to("2027-04-02T00:00:00Z");
    let all = access(&sandbox, &[], false, false).await.out;
    for part in [
        "takes none now: the exception =CHG0012345 ended on 2027-03-31",
        "=CHG0012345 ended 2027-03-31",
        "every branch; takes none now: the target or a group above it is archived",
        "others       not asked",
    ] {
        assert!(all.contains(part), "no `{part}` in\n{all}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_read_is_said_and_the_rest_is_shown() {
    let (sandbox, _) = audited().await;
    sandbox.world.wire.add_fault(Fault {
        service: Service::Arm,
        method: Some("GET"),
        path: format!("{APP}/providers/Microsoft.Authorization"),
        times: 1,
        what: What::Answer {
            status: 403,
            headers: vec![("content-type", "application/json".to_owned())],
            body: r#"{"error":{"code":"AuthorizationFailed","message":"no"}}"#.to_owned(),
        },
    });
    let shown = access(&sandbox, &[], false, false).await;
    assert_eq!(shown.code, 1);
    assert!(
        shown.talk.starts_with(&format!("warning: not read: the rights at `{APP}`: ")),
        "{}",
        shown.talk
    );
    assert!(shown.out.contains("id-one") && shown.out.contains("Owner"), "{}", shown.out);
}

#[tokio::test]
async fn its_help_has_examples_and_misuse_ends_with_two() {
    let help = run(&["report", "access", "--help"]).await;
    assert_eq!(help.code, 0);
    assert!(help.out.contains("forerunner report access --csv > access.csv"), "{}", help.out);
    for misused in [&["report"][..], &["report", "access", "--json", "--csv"]] {
        assert_eq!(run(misused).await.code, 2, "{misused:?}");
    }
}
