//! Ways out: by the file with a sweep's permit and the grace, by an operator's word from a desk, and the whole fleet. What
//! lies beside stays as it is.

use super::{DEPLOYMENT, MANAGERS, NAME, Settled};
use crate::{cli_apply::at_desk, look_alikes::runner_of, real_kubernetes::path::versions};
use forerunner::domain::names::ANNOTATION_LEAVING_SINCE;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Of others, in the same places and under much the same names.
async fn look_alikes(settled: &Settled) -> Vec<String> {
    let mut all = Vec::new();
    for (name, labels) in [
        (format!("ci-{NAME}--somebody"), json!({"team": "theirs"})),
        (
            format!("ci-{NAME}-2--{}", settled.key),
            json!({"forerunner.dev/fleet": format!("{NAME}-2")}),
        ),
    ] {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": labels}});
        settled.make("/api/v1/namespaces", &namespace).await;
        all.push(format!("/api/v1/namespaces/{name}"));
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "data": {"theirs": "dGhlaXJz"},
            "metadata": {"name": format!("runner-{name}-config"), "labels": labels}});
        settled.make("/api/v1/namespaces/MANAGERS/secrets", &secret).await;
        all.push(format!("/api/v1/namespaces/{MANAGERS}/secrets/runner-{name}-config"));
    }
    all
}

/// What there is of one key.
async fn of(settled: &Settled, key: &str) -> BTreeMap<String, Value> {
    let mut all = settled.whole().await;
    all.retain(|path, _| path.contains(key));
    all
}

/// Withdrawn: held at once and, once a sweep permitted it, marked; gone after the grace.
pub(super) async fn goes_the_ordinary_way(settled: &Settled, group: u64) {
    let sandbox = &settled.sandbox;
    let (key, unit) = (format!("g{group}-plan"), format!("runner/g{group}-plan"));
    // A ledger that is younger permits nothing.
    settled.wait_minutes(25 * 60);
    sandbox.sweep().await;
    settled.assert_ready();
    let (there, beside) = (of(settled, &key).await, of(settled, &settled.key).await);

    let file = std::fs::read_to_string(sandbox.folder.join("fleet.yaml")).unwrap();
    let withdrawn = format!("withdrawn: [{{ group: {group}, reason: SEC-1 }}]\nrules:");
    sandbox.deploy(&file.replace("rules:", &withdrawn)).await;
    assert!(sandbox.world.host().is_some_and(|host| host.run_timer_now("sweep")));
    sandbox.pass_minutes(2).await;
    assert_eq!(sandbox.ready(&unit).0, "Leaving", "{}", sandbox.status(&unit));
    assert!(sandbox.runner(&key).paused);
    let deployment = settled.get(&DEPLOYMENT.replace("KEY", &key)).await;
    assert!(deployment["metadata"]["annotations"][ANNOTATION_LEAVING_SINCE].is_string());
    assert_eq!(deployment["spec"]["replicas"], 0);
    let resting = of(settled, &key).await;
    assert!(resting.keys().eq(there.keys()), "all of it can come back: {:?}", resting.keys());

    settled.wait_minutes(60);
    sandbox.sweep().await;
    assert_eq!(of(settled, &key).await, BTreeMap::new(), "{}", sandbox.status(&unit));
    assert!(!sandbox.keys().contains(&key));
    assert!(!sandbox.world.azure.identities().iter().any(|one| one.id.contains(&key)));
    assert_eq!(of(settled, &settled.key).await, beside, "the other stays as it is");
    settled.assert_ready();
}

/// By a person at a desk: one by the functions, who are followed, and then the whole fleet from there, with what is left.
pub(super) async fn goes_from_a_desk(settled: &Settled, other: &str) {
    let (sandbox, gitlab) = (&settled.sandbox, &settled.sandbox.world.gitlab);
    let theirs = look_alikes(settled).await;
    let seen = async || {
        let mut seen = Vec::new();
        for path in &theirs {
            seen.push(settled.get(path).await);
        }
        seen
    };
    let before = seen().await;
    let beside = of(settled, other).await;
    let base = ["remove", "--yes", "--why", "a test"];
    let one = [&base[..], &["platform/payments"]].concat();
    let (code, out, err) = at_desk(sandbox, true, &one).await;
    assert_eq!(code, Some(0), "{out}\n{err}");
    assert!(out.starts_with("1 unit(s) are gone, 0 stay"), "{out}\n{err}");
    assert!(err.contains(&format!("{}  ", settled.unit())), "it was followed: {err}");
    assert_eq!(of(settled, &settled.key).await, BTreeMap::new(), "{out}\n{err}");
    assert_eq!(of(settled, other).await, beside, "the other stays as it is");

    let elsewhere = gitlab.create_group(None, "elsewhere");
    let copy = runner_of(sandbox, elsewhere, &sandbox.runner(other).description).await;
    let units = sandbox.keys().len();
    let all = [&base[..], &["--all", "--local"]].concat();
    let (code, out, err) = at_desk(sandbox, false, &all).await;
    assert_eq!(code, Some(1), "something is left: {out}\n{err}");
    assert!(out.starts_with(&format!("{units} unit(s) are gone, 0 stay")), "{out}\n{err}");
    let left = format!("error: runner {copy} in GitLab bears the marker of runner/{other} ");
    assert!(err.contains(&left), "no `{left}` in {err}");
    let audit = std::fs::read_to_string(sandbox.folder.join("forerunner-audit.jsonl")).unwrap();
    assert!(audit.contains("\"cause\":\"remove by jane: a test\""), "{audit}");
    gitlab.delete_runner(copy);
    let (code, out, err) = at_desk(sandbox, false, &all).await;
    assert_eq!(code, Some(0), "{out}\n{err}");
    assert!(out.starts_with("0 unit(s) are gone, 0 stay"), "{out}\n{err}");

    let left = versions(settled.cluster, NAME).await;
    let left: Vec<_> = left.keys().filter(|name| name.contains("-plan")).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(gitlab.runners().is_empty());
    assert!(sandbox.world.azure.identities().iter().all(|one| !one.id.contains("--g")));
    assert_eq!(seen().await, before, "others' objects");
    for path in theirs {
        settled.delete(&path).await;
    }
}
