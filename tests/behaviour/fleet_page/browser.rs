//! The page in a real browser, as `tests/browser/run` has it: only where FORERUNNER_BROWSER names one.

use super::{GUID, SCOPE, five_thousand, mixed, now, ready, told};
use crate::fakes::{World, app};
use forerunner::{
    domain::{
        fleet_status::{self, FindingKind, FleetStatus},
        ledger::Leave,
        records::ParkedPlan,
        slice::{Slice, SliceKind},
        status::{RoundRecord, Status},
    },
    functions::router::router,
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::BTreeMap,
    env,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};
use tokio::net::TcpListener;

#[expect(clippy::disallowed_methods, reason = "whoever runs the tests says what they may use")]
fn setting(name: &str) -> Option<String> {
    env::var(name).ok()
}

fn minutes_ago(minutes: i64) -> Timestamp {
    now() - SignedDuration::from_mins(minutes)
}

/// All that the page has a place for: rounds, a plan that the brake holds, and what sweeps found and did not see.
fn three() -> Arc<World> {
    let round = |at, cause: &str, did: &[&str], failure: Option<String>| RoundRecord {
        at,
        cause: cause.to_owned(),
        did: did.iter().map(|step| (*step).to_owned()).collect(),
        failure,
        took: Some(SignedDuration::from_millis(1240)),
    };
    let refused = format!("assign Reader on {SCOPE}: Azure refused '{GUID}'");
    let made = round(
        minutes_ago(65),
        GUID,
        &["create identity id-nonprod--g44-plan", "apply Namespace ci-nonprod--g44-plan"],
        None,
    );
    let failed = round(minutes_ago(4), "sweep-1789000000", &[], Some(refused.clone()));
    let parked = Status {
        path: Some("platform/parked".to_owned()),
        ..ready("runner/g44-plan").park(&refused, "sha256:1", minutes_ago(4))
    };
    let mended = &["mend the settings of runner 7", "apply Deployment forerunner-nonprod/runner"];
    let mended = round(minutes_ago(1), "reprovision by jane: CHG7", mended, None);
    let mut units: Vec<Status> = mixed().into_iter().take(3).collect();
    units[0] = units[0].clone().with_round(mended.clone());
    units[1] = parked.with_round(made).with_round(failed);
    units[2] = units[2].clone().with_round(mended);

    let leaves = |status: &Status| (status.unit.clone(), Leave::Unmatched);
    let plan = ParkedPlan::new(&units.iter().map(leaves).collect(), 2, minutes_ago(30));
    let finding = fleet_status::Finding::new(
        FindingKind::StrayIdentity,
        format!("identity {SCOPE}/id-nonprod--g9-plan is ours and lies elsewhere"),
        format!("az identity delete --ids {SCOPE}/id-nonprod--g9-plan"),
        minutes_ago(90),
    );
    let unseen = vec!["the role assignments: Azure does not answer now".to_owned()];
    let slice = Slice {
        after: Some("g42-plan".into()),
        began: minutes_ago(90),
        all_since: None,
        looked: 50,
        of: 1200,
    };
    let slices = BTreeMap::from([(SliceKind::FederatedCredentials, slice)]);
    let of = |before: Option<&FleetStatus>, at| {
        FleetStatus::of(before, unseen.clone(), vec![finding.clone()], slices.clone(), at)
    };
    let whole = of(Some(&of(None, minutes_ago(90))), minutes_ago(2));
    Arc::new(World {
        told: Mutex::new(units),
        removals: Some(plan),
        whole: Some(whole),
        ..World::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_looks_right_and_is_used_by_keyboard_and_screen_reader() {
    let Some(browser) = setting("FORERUNNER_BROWSER") else { return };
    let folder = setting("FORERUNNER_SCREENSHOTS").unwrap_or_else(|| {
        let folder = env::temp_dir().join("forerunner-page");
        std::fs::create_dir_all(&folder).unwrap();
        folder.display().to_string()
    });
    let mut pages = Vec::new();
    let worlds = [("none", told(vec![])), ("three", three()), ("many", told(five_thousand()))];
    for (name, world) in worlds {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        pages.push(format!("{name}=http://{}/api/fleet", listener.local_addr().unwrap()));
        let router = router(Arc::new(app(&world)));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/look.mjs");
    let mut node = Command::new("node");
    node.arg(script).arg(browser).arg(folder).args(pages);
    let status = tokio::task::spawn_blocking(move || node.status()).await.unwrap().unwrap();
    assert!(status.success(), "the browser saw something amiss: {status}");
}
